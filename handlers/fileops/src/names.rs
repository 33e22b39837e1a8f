//! The names in a directory, in order.

use alloc::string::String;
use alloc::vec::Vec;
use core::iter::zip;
use core::ops::Range;
use core::str;

/// Bytes of the longest name that a file can have; longer ones take a copy more.
const LONGEST: usize = 255;

/// Many names in little memory, of which an instance starts with little.
#[derive(Default)]
pub struct Names {
    /// One behind the other.
    text: Vec<u8>,
    kept: Vec<Kept>,
}

/// Where a name is in the text.
struct Kept {
    /// What tells most names apart, so that few are compared as a whole.
    key: u64,
    start: u32,
    end: u32,
    is_link: bool,
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
        let start = self.kept.last().map_or(0, |last| last.end as usize);
        self.text.truncate(start);
        runtime::append(&mut self.text, LONGEST, || read().map(String::into_bytes))?;
        Ok(&self.text[start..])
    }

    /// Keeps the name that was found last.
    pub fn keep(&mut self, is_link: bool) {
        let start = self.kept.last().map_or(0, |last| last.end);
        self.kept.push(Kept { key: 0, start, end: self.text.len() as u32, is_link });
    }

    /// The names in the order of their bytes, which many begin with alike.
    ///
    /// What is sorted is small: the sort keeps some fifty of it on the stack at each of its depths.
    pub fn sorted(&mut self) -> impl Iterator<Item = Name<'_>> {
        let Self { text, kept } = self;
        if let Some((first, rest)) = kept.split_first() {
            let first = &text[first.range()];
            let alike = rest.iter().fold(first.len(), |alike, other| {
                let pairs = zip(&first[..alike], &text[other.range()]);
                pairs.take_while(|(a, b)| a == b).count()
            });
            for name in &mut *kept {
                name.key = word(&text[name.range()][alike..]);
            }
        }
        let (text, kept) = (&*text, &*kept);
        let name = |number: u32| &kept[number as usize];
        let mut order: Vec<_> = (0..kept.len() as u32).collect();
        order.sort_unstable_by(|a, b| {
            let (a, b) = (name(*a), name(*b));
            a.key.cmp(&b.key).then_with(|| text[a.range()].cmp(&text[b.range()]))
        });
        order.into_iter().map(move |number| {
            let kept = name(number);
            let text = str::from_utf8(&text[kept.range()]).unwrap_or_default();
            Name { text, is_link: kept.is_link }
        })
    }

    pub fn len(&self) -> usize {
        self.kept.len()
    }

    /// Bytes of all names.
    pub fn size(&self) -> usize {
        self.text.len()
    }
}

impl Kept {
    fn range(&self) -> Range<usize> {
        self.start as usize..self.end as usize
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
