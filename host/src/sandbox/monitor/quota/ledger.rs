//! The ledger: shared memory in which all workers, threads or processes, write down
//! what the served directory holds.
//!
//! Between two counts its numbers only rise. Each worker has a slot, with the change
//! that it is making, whether it counts, and the files that its call has open; it alone
//! takes files in there and out again.
//!
//! A worker that was taken over can write nonsense here. It then defeats the quota,
//! as it could by writing to the directory itself, and nothing else: all numbers are
//! read with saturating arithmetic, and the memory can be neither grown nor shrunk.

use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use memmap2::{MmapOptions, MmapRaw};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use rustix::time::{ClockId, clock_gettime};

use super::Usage;
use super::measure::FileId;

/// Files, directories and directory streams that one call may have open at a time.
pub(super) const OPEN_FILES: usize = 64;

/// Words before those of the slots: [`BYTES`] to [`USED`].
const HEAD: usize = 7;
/// Words of one slot: [`HELD_BYTES`] to [`COUNTING`], then those of each file that may be open.
const SLOT: usize = SLOT_HEAD + PLACE * OPEN_FILES;
const SLOT_HEAD: usize = 3;
/// Of a slot: what the change that is being made may add.
const HELD_BYTES: usize = 0;
const HELD_ENTRIES: usize = 1;
/// Of a slot: whether its worker counts the directory.
const COUNTING: usize = 2;

/// Words of one open file.
const PLACE: usize = 3;
/// Of an open file: which one it is.
const ID: usize = 0;
/// Of an open file: the greatest length that it is known to have had.
const LENGTH: usize = 1;
/// Of an open file: the length to which it is growing just now; 0 at rest.
const GROWING: usize = 2;

const BYTES: usize = 0;
const ENTRIES: usize = 1;
/// When the directory was last counted, in milliseconds of the monotonic clock.
const COUNTED: usize = 2;
/// Whether the numbers may have become too high since.
const STALE: usize = 3;
/// What the directory may hold.
const QUOTA_BYTES: usize = 4;
const QUOTA_ENTRIES: usize = 5;
/// How many slots have ever been used, from the first on.
const USED: usize = 6;

/// The low bits of a number that counts the directory; those above say by which count.
pub(super) const VALUE: u64 = (1 << 48) - 1;

/// What the numbers are before the first count: more than any quota.
const UNKNOWN: u64 = 1 << 47;

/// In place of a length to which a file is growing: it may become shorter.
const SHORTENING: u64 = u64::MAX;

/// The identity of no file.
const FREE: u64 = 0;
/// The identity of a file that is about to be opened.
const TAKEN: u64 = u64::MAX;

/// What the served directory holds, as far as is known, and what running calls do there.
#[derive(Debug)]
pub struct Ledger {
    memory: MmapRaw,
    fd: OwnedFd,
    slots: u32,
}

/// What became of a reservation.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Reservation {
    /// It is made.
    Fits,
    /// It is not made; whether the directory may hold less than was counted last.
    Over { stale: bool },
}

/// The open files of all calls.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct OpenFiles {
    /// The greatest length that any call knows of each.
    pub(super) lengths: HashMap<FileId, u64>,
    /// The lengths that those which are growing just now will have.
    pub(super) growing: HashMap<FileId, u64>,
}

/// The place of one open file in a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    slot: u32,
    index: usize,
}

impl Ledger {
    /// The largest number of bytes that a quota can have.
    pub const MAX_BYTES: u64 = VALUE >> 1;

    /// A new ledger with a slot for each of that many workers. It knows nothing of the
    /// directory, and so has it counted at the first reservation.
    ///
    /// # Errors
    /// When the memory cannot be had.
    pub fn new(quota: Usage, slots: u32) -> anyhow::Result<Self> {
        let fd = memfd_create("ledger", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        rustix::fs::ftruncate(&fd, size(slots) as u64)?;
        fcntl_add_seals(&fd, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
        let ledger = Self::open(fd, slots)?;
        ledger.word(BYTES).store(UNKNOWN, Ordering::SeqCst);
        ledger.set_quota(quota);
        Ok(ledger)
    }

    /// The ledger that another process made.
    ///
    /// # Errors
    /// When it is not the memory of one, or cannot be mapped.
    pub fn open(fd: OwnedFd, slots: u32) -> anyhow::Result<Self> {
        let file = File::from(fd);
        let expected = size(slots);
        anyhow::ensure!(file.metadata()?.len() == expected as u64, "the ledger has another size");
        let memory = MmapOptions::new().len(expected).map_raw(&file).context("the ledger")?;
        Ok(Self { memory, fd: file.into(), slots })
    }

    /// Its memory, to be opened by a worker process.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// The most that the directory may hold.
    #[must_use]
    pub fn quota(&self) -> Usage {
        let [bytes, entries] =
            [QUOTA_BYTES, QUOTA_ENTRIES].map(|word| self.word(word).load(Ordering::SeqCst));
        Usage { bytes, entries }
    }

    /// Changes the most that the directory may hold, from the next change on.
    pub fn set_quota(&self, quota: Usage) {
        self.word(QUOTA_BYTES).store(quota.bytes, Ordering::SeqCst);
        self.word(QUOTA_ENTRIES).store(quota.entries, Ordering::SeqCst);
        self.stale();
    }

    /// A worker is about to use this slot.
    pub fn enlist(&self, slot: u32) {
        self.word(USED).fetch_max(u64::from(slot) + 1, Ordering::SeqCst);
    }

    /// The slots that workers have, or have had.
    fn used(&self) -> std::ops::Range<u32> {
        let used = u32::try_from(self.word(USED).load(Ordering::SeqCst)).unwrap_or(u32::MAX);
        0..used.min(self.slots)
    }

    /// How many workers have a slot.
    #[must_use]
    pub fn slots(&self) -> u32 {
        self.slots
    }

    /// The worker with this slot is gone, and its open files and unfinished change with it.
    pub fn forget(&self, slot: u32) {
        for index in 0..OPEN_FILES {
            let place = Place { slot, index };
            self.pass_on(place);
            self.leave(place);
        }
        self.hold(slot, Usage::default());
        self.set_counting(slot, false);
        self.stale();
    }

    /// Believes nothing that stands here, but what the workers with `live` slots say of
    /// themselves: one that has ended badly may have written it.
    pub fn distrust(&self, quota: Usage, live: &BTreeSet<u32>) {
        for slot in self.used().filter(|slot| !live.contains(slot)) {
            for index in 0..OPEN_FILES {
                self.leave(Place { slot, index });
            }
            self.hold(slot, Usage::default());
            self.set_counting(slot, false);
        }
        let used = live.last().map_or(0, |last| u64::from(*last) + 1);
        self.word(USED).store(used, Ordering::SeqCst);
        for (word, value) in [(BYTES, UNKNOWN), (ENTRIES, 0)] {
            let _ = self
                .word(word)
                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |now| Some(now & !VALUE | value));
        }
        self.word(COUNTED).store(0, Ordering::SeqCst);
        self.set_quota(quota);
    }

    /// Says what the change that begins may add to the directory; nothing when it is over.
    pub(super) fn hold(&self, slot: u32, change: Usage) {
        let slot = self.slot(slot);
        self.word(slot + HELD_BYTES).store(change.bytes, Ordering::SeqCst);
        self.word(slot + HELD_ENTRIES).store(change.entries, Ordering::SeqCst);
    }

    /// How long ago the directory was counted.
    pub(super) fn counted(&self) -> Duration {
        let counted = self.word(COUNTED).load(Ordering::SeqCst);
        // A time to come is nonsense.
        now().checked_sub(counted).map_or(Duration::MAX, Duration::from_millis)
    }

    /// Adds `more` if there is room for it.
    pub(super) fn reserve(&self, more: Usage) -> Reservation {
        let quota = self.quota();
        if self.raise(BYTES, more.bytes, quota.bytes) {
            if self.raise(ENTRIES, more.entries, quota.entries) {
                return Reservation::Fits;
            }
            // The bytes stay until the next count.
            self.stale();
        }
        Reservation::Over { stale: self.is_stale() }
    }

    /// Adds `more` once again, whether or not there is room, if a count is being made: it
    /// may not see what moves. Whoever calls this holds `more`, so that a count that begins
    /// later knows of it too.
    pub(super) fn add_to_counts(&self, more: Usage) {
        if !self.is_being_counted() {
            return;
        }
        for (word, more) in [(BYTES, more.bytes), (ENTRIES, more.entries)] {
            if !self.raise(word, more, VALUE) {
                self.word(word).fetch_or(VALUE, Ordering::SeqCst);
            }
        }
        self.stale();
    }

    /// Whether anybody counts the directory. Who has said before what it changes is known to
    /// whoever begins to count later.
    pub(super) fn is_being_counted(&self) -> bool {
        let counting = |slot| self.word(self.slot(slot) + COUNTING).load(Ordering::SeqCst) != 0;
        self.used().any(counting)
    }

    /// The directory may hold less than is written here: it is worth counting again.
    pub(super) fn stale(&self) {
        self.word(STALE).store(1, Ordering::SeqCst);
    }

    /// Whether the numbers may have become too high since the last count.
    pub(super) fn is_stale(&self) -> bool {
        self.word(STALE).load(Ordering::SeqCst) != 0
    }

    pub(super) fn set_counting(&self, slot: u32, counting: bool) {
        self.word(self.slot(slot) + COUNTING).store(counting.into(), Ordering::SeqCst);
    }

    /// A count begins: the numbers as they are, and what the others hold.
    pub(super) fn begin_count(&self, slot: u32) -> ([u64; 2], Usage) {
        self.set_counting(slot, true);
        self.word(STALE).store(0, Ordering::SeqCst);
        let numbers = [BYTES, ENTRIES].map(|word| self.word(word).load(Ordering::SeqCst));
        // Whoever reserved before the numbers were read had said so before.
        let others = self.used().filter(|other| *other != slot).map(|other| {
            let [bytes, entries] = [HELD_BYTES, HELD_ENTRIES]
                .map(|word| self.word(self.slot(other) + word).load(Ordering::SeqCst));
            Usage { bytes, entries }
        });
        (numbers, others.fold(Usage::default(), Usage::plus))
    }

    /// Takes over what was counted, with all that was added since the numbers were `begun`,
    /// unless another count came in between.
    pub(super) fn end_count(&self, begun: [u64; 2], counted: Usage) {
        for ((word, begun), counted) in
            [BYTES, ENTRIES].into_iter().zip(begun).zip([counted.bytes, counted.entries])
        {
            let before = self.word(word).fetch_update(Ordering::SeqCst, Ordering::SeqCst, |now| {
                if now & !VALUE != begun & !VALUE {
                    return None;
                }
                let since = (now & VALUE).saturating_sub(begun & VALUE);
                let value = counted.saturating_add(since).min(VALUE);
                Some((begun & !VALUE).wrapping_add(VALUE + 1) | value)
            });
            if before != Ok(begun) {
                // What was added since may have been counted, too.
                self.stale();
            }
        }
        self.word(COUNTED).store(now(), Ordering::SeqCst);
    }

    /// A place for a file that is about to be opened, if there is one left.
    pub(super) fn take_place(&self, slot: u32) -> Option<Place> {
        let mut places = (0..OPEN_FILES).map(|index| Place { slot, index });
        let place = places.find(|place| self.id(*place).load(Ordering::SeqCst) == FREE)?;
        self.length(place).store(0, Ordering::SeqCst);
        self.growing(place).store(0, Ordering::SeqCst);
        self.id(place).store(TAKEN, Ordering::SeqCst);
        Some(place)
    }

    /// Says which file it is.
    pub(super) fn identify(&self, place: Place, id: u64) {
        self.id(place).store(id, Ordering::SeqCst);
    }

    /// It is not a file after all.
    pub(super) fn anonymous(&self, place: Place) {
        self.id(place).store(TAKEN, Ordering::SeqCst);
        self.growing(place).store(0, Ordering::SeqCst);
    }

    /// The file has become that long, or longer.
    pub(super) fn at_least(&self, place: Place, length: u64) {
        self.length(place).fetch_max(length, Ordering::SeqCst);
    }

    /// The file is growing to that length; 0 when it has grown.
    pub(super) fn set_growing(&self, place: Place, length: u64) {
        self.growing(place).store(length.min(VALUE), Ordering::SeqCst);
    }

    /// The file may become shorter.
    pub(super) fn set_shortening(&self, place: Place) {
        self.growing(place).store(SHORTENING, Ordering::SeqCst);
    }

    /// The greatest length that any call which has it open knows of this file.
    pub(super) fn known_length(&self, place: Place) -> u64 {
        let id = self.id(place).load(Ordering::SeqCst);
        let same = self.places().filter(|other| self.id(*other).load(Ordering::SeqCst) == id);
        same.map(|other| self.length(other).load(Ordering::SeqCst)).max().unwrap_or_default()
    }

    /// Tells all who have the same file open how long it has become.
    pub(super) fn pass_on(&self, place: Place) {
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
    pub(super) fn leave(&self, place: Place) {
        self.id(place).store(FREE, Ordering::SeqCst);
    }

    /// The open files of all calls, as the worker with this slot takes them to be when it
    /// counts: what it is itself about to change has not been changed yet.
    pub(super) fn open_files(&self, slot: u32) -> OpenFiles {
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

    fn places(&self) -> impl Iterator<Item = Place> {
        self.used().flat_map(|slot| (0..OPEN_FILES).map(move |index| Place { slot, index }))
    }

    fn id(&self, place: Place) -> &AtomicU64 {
        self.word(self.place(place) + ID)
    }

    fn length(&self, place: Place) -> &AtomicU64 {
        self.word(self.place(place) + LENGTH)
    }

    fn growing(&self, place: Place) -> &AtomicU64 {
        self.word(self.place(place) + GROWING)
    }

    /// The first word of an open file.
    fn place(&self, place: Place) -> usize {
        self.slot(place.slot) + SLOT_HEAD + PLACE * place.index
    }

    /// Raises one of the directory's numbers, unless it would pass `most`.
    fn raise(&self, word: usize, more: u64, most: u64) -> bool {
        self.word(word)
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |now| {
                let value = (now & VALUE).checked_add(more).filter(|value| *value <= most)?;
                Some((now & !VALUE) | value)
            })
            .is_ok()
    }

    /// The first word of a slot.
    fn slot(&self, slot: u32) -> usize {
        HEAD + slot.min(self.slots.saturating_sub(1)) as usize * SLOT
    }

    #[expect(unsafe_code, reason = "memory that is shared between processes")]
    fn word(&self, at: usize) -> &AtomicU64 {
        assert!(at < HEAD + self.slots as usize * SLOT, "beyond the ledger");
        // SAFETY: the mapping lives as long as `self`; it begins on a page and `at` is
        // within it, as was just checked; its size is sealed, so it cannot vanish; and
        // every access by any process is atomic, for this is the only way to it.
        unsafe { AtomicU64::from_ptr(self.memory.as_mut_ptr().cast::<u64>().add(at)) }
    }
}

fn size(slots: u32) -> usize {
    (HEAD + slots as usize * SLOT) * size_of::<u64>()
}

/// Milliseconds of a clock that all processes share.
fn now() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    u64::try_from(now.tv_sec * 1000 + now.tv_nsec / 1_000_000).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(bytes: u64, entries: u64) -> Usage {
        Usage { bytes, entries }
    }

    fn fits(ledger: &Ledger, more: Usage) -> bool {
        ledger.reserve(more) == Reservation::Fits
    }

    fn counted(bytes: u64, entries: u64) -> Ledger {
        let ledger = Ledger::new(usage(100, 10), 3).expect("memory");
        ledger.enlist(2);
        assert!(!fits(&ledger, usage(1, 0)), "nothing is known yet");
        let (begun, _) = ledger.begin_count(0);
        ledger.end_count(begun, usage(bytes, entries));
        ledger.set_counting(0, false);
        ledger
    }

    #[test]
    fn both_numbers_must_fit() {
        let ledger = counted(90, 9);
        assert!(!fits(&ledger, usage(11, 1)));
        assert!(fits(&ledger, usage(5, 1)));
        assert!(!fits(&ledger, usage(0, 1)));
        assert!(!fits(&ledger, usage(6, 0)));
        assert!(!fits(&ledger, usage(u64::MAX, 0)));
        assert!(fits(&ledger, usage(5, 0)));
    }

    #[test]
    fn what_moves_is_added_to_a_count_that_is_being_made() {
        let ledger = counted(90, 0);
        ledger.add_to_counts(usage(10, 0));
        assert!(fits(&ledger, usage(10, 0)), "nobody counts");
        let (begun, _) = ledger.begin_count(0);
        ledger.add_to_counts(usage(20, 0));
        ledger.end_count(begun, usage(60, 0));
        ledger.set_counting(0, false);
        assert!(ledger.is_stale());
        assert!(!fits(&ledger, usage(21, 0)));
        assert!(fits(&ledger, usage(20, 0)));
        let (begun, _) = ledger.begin_count(0);
        ledger.add_to_counts(usage(u64::MAX, 0));
        ledger.end_count(begun, usage(0, 0));
        assert!(!fits(&ledger, usage(1, 0)), "too large to be added up");
    }

    #[test]
    fn what_is_reserved_during_a_count_stays_reserved() {
        let ledger = counted(0, 0);
        assert!(fits(&ledger, usage(50, 0)));
        let (begun, _) = ledger.begin_count(0);
        assert!(fits(&ledger, usage(30, 0)));
        ledger.end_count(begun, usage(10, 0));
        assert!(ledger.is_stale(), "it may have been counted, too");
        assert!(!fits(&ledger, usage(61, 0)));
        assert!(fits(&ledger, usage(60, 0)));
    }

    #[test]
    fn what_others_are_adding_when_a_count_begins_is_known() {
        let ledger = counted(0, 0);
        ledger.hold(0, usage(50, 0));
        ledger.hold(1, usage(30, 1));
        assert_eq!(ledger.begin_count(0).1, usage(30, 1));
        assert_eq!(ledger.begin_count(2).1, usage(80, 1));
        ledger.forget(1);
        assert_eq!(ledger.begin_count(0).1, usage(0, 0));
    }

    #[test]
    fn of_two_counts_at_the_same_time_one_is_taken() {
        let ledger = counted(100, 0);
        let ((one, _), (other, _)) = (ledger.begin_count(0), ledger.begin_count(1));
        ledger.end_count(one, usage(40, 0));
        assert!(fits(&ledger, usage(60, 0)));
        ledger.end_count(other, usage(40, 0));
        assert!(!fits(&ledger, usage(1, 0)), "the second knows nothing of the 60");
    }

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
    fn what_a_bad_worker_wrote_is_not_believed() {
        let ledger = counted(10, 1);
        let place = ledger.take_place(1).expect("a place");
        ledger.identify(place, 7);
        ledger.at_least(place, 50);
        let garbage = [u64::MAX, 0, 1, VALUE, 1 << 47, 3];
        for word in 0..size(3) / 8 {
            if ledger.slot(1) <= word && word < ledger.slot(2) {
                continue;
            }
            ledger.word(word).store(garbage[word % garbage.len()], Ordering::SeqCst);
        }
        ledger.distrust(usage(100, 10), &[1].into());
        assert_eq!(ledger.quota(), usage(100, 10));
        assert_eq!(ledger.open_files(0).lengths, HashMap::from([(7, 50)]), "that of a live one");
        assert!(!fits(&ledger, usage(1, 0)) && ledger.is_stale(), "it is to be counted");
        let (begun, held) = ledger.begin_count(1);
        ledger.end_count(begun, usage(60, 1));
        assert_eq!(held, usage(0, 0));
        assert!(fits(&ledger, usage(40, 9)));
        ledger.word(COUNTED).store(u64::MAX, Ordering::SeqCst);
        assert_eq!(ledger.counted(), Duration::MAX);
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

    #[test]
    fn another_process_sees_the_same_ledger() {
        let ledger = counted(0, 0);
        let fd = ledger.fd().try_clone_to_owned().expect("a descriptor");
        assert!(rustix::fs::ftruncate(&fd, 0).is_err(), "its size is sealed");
        let same = Ledger::open(fd, ledger.slots()).expect("the ledger");
        same.hold(1, usage(7, 1));
        assert_eq!(same.quota(), usage(100, 10));
        assert_eq!(ledger.begin_count(0).1, usage(7, 1));
        assert_eq!(ledger.begin_count(1).1, usage(0, 0));
        ledger.forget(1);
        assert_eq!(same.begin_count(0).1, usage(0, 0));
    }
}
