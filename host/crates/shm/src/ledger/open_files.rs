//! The ledger's list of open files: which each call has open, and how long they are known
//! to have become.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};

use super::{FileId, Ledger, OPEN, OPEN_FILES, PLACE, SLOT_HEAD, VALUE};

/// Of an open file: which one it is.
const ID: usize = 0;
/// Of an open file: the greatest length that it is known to have had.
const LENGTH: usize = 1;
/// Of an open file: the length to which it is growing just now; 0 at rest.
const GROWING: usize = 2;

/// In place of a length to which a file is growing: it may become shorter.
const SHORTENING: u64 = u64::MAX;
/// In place of such a length: nobody has looked yet how long the file is.
const UNKNOWN: u64 = u64::MAX - 1;

/// The identity of no file.
const FREE: u64 = 0;
/// The identity of a file that is about to be opened.
const TAKEN: u64 = u64::MAX;

/// The open files of all calls.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct OpenFiles {
    /// The greatest length that any call knows of each.
    pub lengths: HashMap<FileId, u64>,
    /// The lengths that those which are growing just now will have.
    pub growing: HashMap<FileId, u64>,
    /// Those that were just opened, and may be longer than any call knows.
    pub unknown: HashSet<FileId>,
}

/// The place of one open file in a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenFileSlot {
    slot: u32,
    index: usize,
}

impl Ledger {
    /// The worker with this slot is gone, and its files are closed. Others who have them
    /// open learn how long they have become, if that is to be believed.
    pub(super) fn close_all(&self, slot: u32, believed: bool) {
        for index in 0..OPEN_FILES {
            let place = OpenFileSlot { slot, index };
            if believed {
                self.pass_on(place);
            }
            self.leave(place);
        }
    }

    /// A place for a file that is about to be opened, if there is one left.
    pub fn take_place(&self, slot: u32) -> Option<OpenFileSlot> {
        let mut places = (0..OPEN_FILES).map(|index| OpenFileSlot { slot, index });
        let place = places.find(|place| self.id(*place).load(Ordering::SeqCst) == FREE)?;
        self.length(place).store(0, Ordering::SeqCst);
        self.growing(place).store(0, Ordering::SeqCst);
        // Whoever looks sees it before there is anything to be seen in the place.
        self.open_places(slot).fetch_max(place.index as u64 + 1, Ordering::SeqCst);
        self.id(place).store(TAKEN, Ordering::SeqCst);
        Some(place)
    }

    /// Says which file it is. Until [`Ledger::set_growing`] its length is unknown.
    pub fn identify(&self, place: OpenFileSlot, id: u64) {
        self.set_unknown(place);
        self.id(place).store(id, Ordering::SeqCst);
    }

    /// What was opened is no file after all.
    pub fn anonymous(&self, place: OpenFileSlot) {
        self.id(place).store(TAKEN, Ordering::SeqCst);
        self.growing(place).store(0, Ordering::SeqCst);
    }

    /// The file has become that long, or longer.
    pub fn at_least(&self, place: OpenFileSlot, length: u64) {
        self.length(place).fetch_max(length, Ordering::SeqCst);
    }

    /// The file is growing to that length; 0 when it has grown.
    pub fn set_growing(&self, place: OpenFileSlot, length: u64) {
        self.growing(place).store(length.min(VALUE), Ordering::SeqCst);
    }

    /// Nobody knows how long the file is.
    pub fn set_unknown(&self, place: OpenFileSlot) {
        self.growing(place).store(UNKNOWN, Ordering::SeqCst);
    }

    /// The file may become shorter.
    pub fn set_shortening(&self, place: OpenFileSlot) {
        self.growing(place).store(SHORTENING, Ordering::SeqCst);
    }

    /// The greatest length that any call which has it open knows of this file.
    pub fn known_length(&self, place: OpenFileSlot) -> u64 {
        let id = self.id(place).load(Ordering::SeqCst);
        let same = self.places().filter(|other| self.id(*other).load(Ordering::SeqCst) == id);
        same.map(|other| self.length(other).load(Ordering::SeqCst)).max().unwrap_or_default()
    }

    /// Tells all who have the same file open how long it has become.
    pub fn pass_on(&self, place: OpenFileSlot) {
        let id = self.id(place).load(Ordering::SeqCst);
        if matches!(id, FREE | TAKEN) {
            return;
        }
        let length = self.length(place).load(Ordering::SeqCst);
        for other in self.places().filter(|other| self.id(*other).load(Ordering::SeqCst) == id) {
            self.at_least(other, length);
        }
    }

    /// The file is closed.
    pub fn leave(&self, place: OpenFileSlot) {
        self.id(place).store(FREE, Ordering::SeqCst);
        let free = |index: &usize| {
            let place = OpenFileSlot { slot: place.slot, index: *index };
            self.id(place).load(Ordering::SeqCst) == FREE
        };
        let freed = (0..self.places_of(place.slot)).rev().take_while(free).count();
        let open = self.places_of(place.slot) - freed;
        self.open_places(place.slot).store(open as u64, Ordering::SeqCst);
    }

    /// The open files of all calls, as the worker with this slot takes them to be when it
    /// counts: what it is itself about to change has not been changed yet.
    pub fn open_files(&self, slot: u32) -> OpenFiles {
        let mut open = OpenFiles::default();
        let mut shortening = Vec::new();
        for place in self.places() {
            let id = self.id(place).load(Ordering::SeqCst);
            if matches!(id, FREE | TAKEN) {
                continue;
            }
            let growing = match place.slot == slot {
                true => 0,
                false => self.growing(place).load(Ordering::SeqCst),
            };
            let note = |files: &mut HashMap<FileId, u64>, length: u64| {
                files.entry(id).and_modify(|known| *known = length.max(*known)).or_insert(length);
            };
            let length = self.length(place).load(Ordering::SeqCst);
            match growing {
                0 => note(&mut open.lengths, length),
                SHORTENING => {
                    note(&mut open.lengths, length);
                    shortening.push(id);
                }
                UNKNOWN => {
                    note(&mut open.lengths, length);
                    open.unknown.insert(id);
                }
                growing => {
                    note(&mut open.lengths, length.max(growing));
                    note(&mut open.growing, growing);
                }
            }
        }
        for id in shortening {
            // It may have been shortened already, and grow again.
            let known = open.lengths.get(&id).copied().unwrap_or_default();
            let growing = open.growing.entry(id).or_default();
            *growing = known.max(*growing);
        }
        open
    }

    fn places(&self) -> impl Iterator<Item = OpenFileSlot> {
        let places =
            |slot| (0..self.places_of(slot)).map(move |index| OpenFileSlot { slot, index });
        self.used().flat_map(places)
    }

    /// How many places of a slot may have a file.
    fn places_of(&self, slot: u32) -> usize {
        let open = self.open_places(slot).load(Ordering::SeqCst);
        usize::try_from(open).unwrap_or(OPEN_FILES).min(OPEN_FILES)
    }

    fn open_places(&self, slot: u32) -> &AtomicU64 {
        self.word(self.slot(slot) + OPEN)
    }

    fn id(&self, place: OpenFileSlot) -> &AtomicU64 {
        self.word(self.place(place) + ID)
    }

    fn length(&self, place: OpenFileSlot) -> &AtomicU64 {
        self.word(self.place(place) + LENGTH)
    }

    fn growing(&self, place: OpenFileSlot) -> &AtomicU64 {
        self.word(self.place(place) + GROWING)
    }

    /// The first word of an open file.
    fn place(&self, place: OpenFileSlot) -> usize {
        self.slot(place.slot) + SLOT_HEAD + PLACE * place.index
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::counted;
    use super::*;

    #[test]
    fn all_who_have_a_file_open_learn_how_long_it_has_become() {
        let ledger = counted(0, 0);
        let [reader, writer, other] = [0, 1, 2].map(|slot| {
            let place = ledger.take_place(slot).expect("a place");
            ledger.identify(place, if slot == 2 { 8 } else { 7 });
            place
        });
        ledger.at_least(writer, 50);
        assert_eq!(ledger.open_files(0).lengths, HashMap::from([(7, 50), (8, 0)]));
        ledger.forget(1);
        ledger.at_least(reader, 20);
        assert_eq!(ledger.open_files(0).lengths, HashMap::from([(7, 50), (8, 0)]));
        ledger.leave(reader);
        ledger.leave(other);
        assert_eq!(ledger.open_files(0), OpenFiles::default());
    }

    #[test]
    fn a_file_that_grows_is_known_to_others() {
        let ledger = counted(0, 0);
        let place = ledger.take_place(0).expect("a place");
        ledger.identify(place, 7);
        ledger.at_least(place, 10);
        ledger.set_growing(place, 50);
        let [own, others] = [0, 1].map(|slot| ledger.open_files(slot));
        assert_eq!(own.lengths, HashMap::from([(7, 10)]));
        assert_eq!(own.growing, HashMap::new());
        assert_eq!(others.lengths, HashMap::from([(7, 50)]));
        assert_eq!(others.growing, HashMap::from([(7, 50)]));
        ledger.set_growing(place, 0);
        assert_eq!(ledger.open_files(1).lengths, HashMap::from([(7, 10)]));
        assert_eq!(ledger.open_files(1).growing, HashMap::new());
        ledger.set_shortening(place);
        assert_eq!(ledger.open_files(1).growing, HashMap::from([(7, 10)]));
        assert_eq!(ledger.known_length(place), 10);
    }

    #[test]
    fn a_file_that_is_closed_takes_no_other_with_it() {
        let ledger = counted(0, 0);
        let [first, second] = [7, 8].map(|id| {
            let place = ledger.take_place(0).expect("a place");
            ledger.identify(place, id);
            place
        });
        ledger.leave(first);
        assert_eq!(ledger.open_files(1).lengths, HashMap::from([(8, 0)]));
        ledger.leave(second);
        assert_eq!(ledger.places_of(0), 0, "none is looked at any more");
    }

    #[test]
    fn a_slot_has_so_many_places_and_no_more() {
        let ledger = counted(0, 0);
        let places: Vec<_> = std::iter::from_fn(|| ledger.take_place(0)).collect();
        assert_eq!(places.len(), OPEN_FILES);
        assert!(ledger.take_place(1).is_some());
        ledger.leave(places[3]);
        assert_eq!(ledger.take_place(0), Some(places[3]));
    }
}
