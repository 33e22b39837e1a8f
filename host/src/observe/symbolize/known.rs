//! Lines that were found before.
//!
//! There is a bound on them: the oldest make room for new ones.

use std::collections::{HashMap, VecDeque};

/// Instructions whose lines are kept, for each component.
const MAX_KNOWN: usize = 1024;

/// The lines of instructions, by where these lie in the component.
#[derive(Default)]
pub(super) struct KnownLines {
    lines: HashMap<usize, Option<String>>,
    /// The instructions, in the order in which they became known.
    order: VecDeque<usize>,
}

impl KnownLines {
    /// The lines of these instructions; `None` if one of them is not known.
    pub(super) fn get(&self, offsets: &[usize]) -> Option<Vec<Option<String>>> {
        offsets.iter().map(|offset| self.lines.get(offset).cloned()).collect()
    }

    /// Keeps the line of each of these instructions.
    pub(super) fn insert(&mut self, offsets: &[usize], lines: &[Option<String>]) {
        for (offset, line) in offsets.iter().zip(lines) {
            if self.lines.insert(*offset, line.clone()).is_none() {
                self.order.push_back(*offset);
            }
            if self.order.len() > MAX_KNOWN
                && let Some(oldest) = self.order.pop_front()
            {
                self.lines.remove(&oldest);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_lines_make_room_for_new_ones() {
        let mut known = KnownLines::default();
        let line = |offset: usize| Some(format!("file:{offset}"));
        for offset in 0..MAX_KNOWN {
            // Recursion has the same instruction twice.
            known.insert(&[offset, offset], &[line(offset), line(offset)]);
        }
        assert_eq!(known.get(&[0, 1]), Some(vec![line(0), line(1)]));
        known.insert(&[5000], &[None]);
        assert_eq!(known.get(&[0]), None, "the oldest");
        assert_eq!(known.get(&[1, 5000]), Some(vec![line(1), None]));
        assert_eq!(known.get(&[1, 6000]), None, "all, or none");
        assert_eq!((known.lines.len(), known.order.len()), (MAX_KNOWN, MAX_KNOWN));
    }
}
