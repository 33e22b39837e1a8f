//! The names in a directory, in order.

use alloc::string::String;
use alloc::vec::Vec;
use core::iter::zip;
use core::str;

/// Bytes of the longest name that a file can have; longer ones take a copy more.
const LONGEST: usize = 255;

/// Many names in little memory, of which an instance starts with little.
#[derive(Default)]
pub struct Names {
    /// One behind the other.
    text: Vec<u8>,
    ends: Vec<End>,
}

/// Where a name ends in the text; it starts where the one before it ends.
#[derive(Clone, Copy)]
struct End {
    /// Twice the place, and one more for the name of a link.
    place: u32,
}

/// A name, and whether it is that of a symbolic link.
#[derive(Debug, PartialEq, Eq)]
pub struct Name<'a> {
    pub text: &'a str,
    pub is_link: bool,
}

impl Names {
    /// The name that `read` comes back with, until the next one is found.
    pub fn find<E>(&mut self, read: impl FnOnce() -> Result<String, E>) -> Result<&[u8], E> {
        let start = self.start(self.ends.len());
        self.text.truncate(start);
        runtime::append(&mut self.text, LONGEST, || read().map(String::into_bytes))?;
        Ok(&self.text[start..])
    }

    /// Keeps the name that was found last.
    pub fn keep(&mut self, is_link: bool) {
        self.ends.push(End::new(self.text.len(), is_link));
    }

    /// The names in the order of their bytes, which many begin with alike.
    ///
    /// What is sorted is small: the sort keeps some fifty of it on the stack at each of its depths.
    pub fn sorted(&self) -> impl Iterator<Item = Name<'_>> {
        let first = self.name(0);
        let alike = (1..self.len()).fold(first.len(), |alike, other| {
            let pairs = zip(&first[..alike], self.name(other));
            pairs.take_while(|(a, b)| a == b).count()
        });
        // They tell most names apart, so that few are compared as a whole.
        let keys: Vec<_> = (0..self.len()).map(|name| word(&self.name(name)[alike..])).collect();
        let mut order: Vec<_> = (0..self.len() as u32).collect();
        order.sort_unstable_by(|a, b| {
            let (a, b) = (*a as usize, *b as usize);
            keys[a].cmp(&keys[b]).then_with(|| self.name(a).cmp(self.name(b)))
        });
        order.into_iter().map(|name| Name {
            text: str::from_utf8(self.name(name as usize)).unwrap_or_default(),
            is_link: self.ends[name as usize].is_link(),
        })
    }

    fn name(&self, number: usize) -> &[u8] {
        let end = self.ends.get(number).map_or(0, |end| end.place());
        &self.text[self.start(number)..end]
    }

    fn start(&self, number: usize) -> usize {
        number.checked_sub(1).map_or(0, |before| self.ends[before].place())
    }

    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Bytes of all names.
    pub fn size(&self) -> usize {
        self.text.len()
    }
}

impl End {
    fn new(place: usize, is_link: bool) -> Self {
        Self { place: (place as u32) << 1 | u32::from(is_link) }
    }

    fn place(self) -> usize {
        (self.place >> 1) as usize
    }

    fn is_link(self) -> bool {
        self.place & 1 == 1
    }
}

/// The first eight bytes as a number that is in the same order as they.
fn word(bytes: &[u8]) -> u64 {
    let mut word = [0; 8];
    zip(&mut word, bytes).for_each(|(to, from)| *to = *from);
    u64::from_be_bytes(word)
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn found(names: &mut Names, name: &str) {
        let read = || Ok::<_, ()>(name.into());
        assert_eq!(names.find(read), Ok(name.as_bytes()));
    }

    #[test]
    fn what_is_not_kept_is_forgotten() {
        let mut names = Names::default();
        found(&mut names, "b");
        names.keep(true);
        found(&mut names, "passed over");
        assert_eq!(names.find(|| Err("an error")), Err("an error"));
        found(&mut names, "a");
        names.keep(false);
        found(&mut names, "");
        let all: Vec<_> = names.sorted().collect();
        let name = |text, is_link| Name { text, is_link };
        assert_eq!(all, [name("a", false), name("b", true)]);
        assert_eq!((names.len(), names.size()), (2, 2));
    }

    proptest! {
        #[test]
        fn their_order_is_that_of_their_bytes(
            alike in "[ab]{0,9}", ends in vec("[\0ab\u{e9}]{0,12}", 0..20)
        ) {
            let mut expected: Vec<_> = ends.iter().map(|end| format!("{alike}{end}")).collect();
            let mut names = Names::default();
            for name in &expected {
                found(&mut names, name);
                names.keep(false);
            }
            expected.sort();
            prop_assert!(names.sorted().map(|name| name.text).eq(&expected));
        }
    }
}
