//! The ledger: a page of shared memory in which all workers, threads or processes,
//! write down what the served directory holds.
//!
//! A worker that was taken over can write nonsense here. It then defeats the quota,
//! as it could by writing to the directory itself, and nothing else: all numbers are
//! read with saturating arithmetic, and the memory can be neither grown nor shrunk.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use memmap2::{MmapOptions, MmapRaw};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use rustix::time::{ClockId, clock_gettime};

use super::Usage;

/// Words before those of the slots.
const HEAD: usize = 4;
/// Words of one slot: bytes and entries.
const SLOT: usize = 2;

const BYTES: usize = 0;
const ENTRIES: usize = 1;
/// When the directory was last counted, in milliseconds of the monotonic clock.
const COUNTED: usize = 2;
/// Whether something was deleted since.
const DELETED: usize = 3;

/// The low bits of a number that counts the directory; those above say by which count.
const VALUE: u64 = (1 << 48) - 1;

/// What the served directory holds, as far as is known, and what running calls add.
#[derive(Debug)]
pub struct Ledger {
    memory: MmapRaw,
    fd: OwnedFd,
    quota: Usage,
    slots: u32,
}

/// What became of a reservation.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Reservation {
    /// It is made. The directory was counted that long ago.
    Fits { counted: Duration },
    /// It is not made.
    Over { counted: Duration, deleted: bool },
}

/// A count that has begun.
pub(super) struct Count([u64; 2]);

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
        let ledger = Self::open(fd, quota, slots)?;
        ledger.word(BYTES).store(VALUE, Ordering::SeqCst);
        ledger.word(DELETED).store(1, Ordering::SeqCst);
        Ok(ledger)
    }

    /// The ledger that another process made.
    ///
    /// # Errors
    /// When it is not the memory of one, or cannot be mapped.
    pub fn open(fd: OwnedFd, quota: Usage, slots: u32) -> anyhow::Result<Self> {
        let file = File::from(fd);
        let expected = size(slots);
        anyhow::ensure!(file.metadata()?.len() == expected as u64, "the ledger has another size");
        let memory = MmapOptions::new().len(expected).map_raw(&file).context("the ledger")?;
        Ok(Self { memory, fd: file.into(), quota, slots })
    }

    /// Its memory, to be opened by a worker process.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// The most that the directory may hold.
    #[must_use]
    pub fn quota(&self) -> Usage {
        self.quota
    }

    /// How many workers have a slot.
    #[must_use]
    pub fn slots(&self) -> u32 {
        self.slots
    }

    /// The worker with this slot is gone, and what its call held with it.
    pub fn forget(&self, slot: u32) {
        let [bytes, entries] = self.slot(slot);
        bytes.store(0, Ordering::SeqCst);
        entries.store(0, Ordering::SeqCst);
    }

    pub(super) fn hold(&self, slot: u32, more: Usage) {
        for (word, more) in self.slot(slot).into_iter().zip([more.bytes, more.entries]) {
            change(word, |held| held.saturating_add(more));
        }
    }

    pub(super) fn let_go(&self, slot: u32, less: Usage) {
        for (word, less) in self.slot(slot).into_iter().zip([less.bytes, less.entries]) {
            change(word, |held| held.saturating_sub(less));
        }
    }

    /// What the calls of all other slots hold.
    pub(super) fn held_by_others(&self, slot: u32) -> Usage {
        let others = (0..self.slots).filter(|other| *other != slot).map(|other| {
            let [bytes, entries] = self.slot(other).map(|word| word.load(Ordering::SeqCst));
            Usage { bytes, entries }
        });
        others.fold(Usage::default(), Usage::plus)
    }

    pub(super) fn reserve(&self, more: Usage) -> Reservation {
        let counted =
            Duration::from_millis(now().saturating_sub(self.word(COUNTED).load(Ordering::SeqCst)));
        let room = |word, more: u64, most: u64| {
            self.word(word)
                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |now| {
                    let value = (now & VALUE).checked_add(more).filter(|value| *value <= most)?;
                    Some((now & !VALUE) | value)
                })
                .is_ok()
        };
        if room(BYTES, more.bytes, self.quota.bytes) {
            if room(ENTRIES, more.entries, self.quota.entries) {
                return Reservation::Fits { counted };
            }
            self.give_back(Usage::bytes(more.bytes));
        }
        Reservation::Over { counted, deleted: self.word(DELETED).load(Ordering::SeqCst) != 0 }
    }

    pub(super) fn give_back(&self, less: Usage) {
        for (word, less) in [(BYTES, less.bytes), (ENTRIES, less.entries)] {
            change(self.word(word), |now| (now & !VALUE) | (now & VALUE).saturating_sub(less));
        }
    }

    pub(super) fn deleted(&self) {
        self.word(DELETED).store(1, Ordering::SeqCst);
    }

    pub(super) fn begin_count(&self) -> Count {
        self.word(DELETED).store(0, Ordering::SeqCst);
        Count([BYTES, ENTRIES].map(|word| self.word(word).load(Ordering::SeqCst)))
    }

    /// Takes over what was counted, with all that was reserved since the count began,
    /// unless another count came in between.
    pub(super) fn end_count(&self, Count(begun): Count, counted: Usage) {
        for ((word, begun), counted) in
            [BYTES, ENTRIES].into_iter().zip(begun).zip([counted.bytes, counted.entries])
        {
            let _ = self.word(word).fetch_update(Ordering::SeqCst, Ordering::SeqCst, |now| {
                if now & !VALUE != begun & !VALUE {
                    return None;
                }
                let since = (now & VALUE).saturating_sub(begun & VALUE);
                let value = counted.saturating_add(since).min(VALUE);
                Some((begun & !VALUE).wrapping_add(VALUE + 1) | value)
            });
        }
        self.word(COUNTED).store(now(), Ordering::SeqCst);
    }

    fn slot(&self, slot: u32) -> [&AtomicU64; 2] {
        let slot = usize::try_from(slot.min(self.slots.saturating_sub(1))).unwrap_or_default();
        let at = HEAD + slot * SLOT;
        [self.word(at), self.word(at + 1)]
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

fn change(word: &AtomicU64, to: impl Fn(u64) -> u64) {
    let _ = word.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |now| Some(to(now)));
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
        matches!(ledger.reserve(more), Reservation::Fits { .. })
    }

    fn counted(bytes: u64, entries: u64) -> Ledger {
        let ledger = Ledger::new(usage(100, 10), 2).expect("memory");
        assert!(!fits(&ledger, usage(1, 0)), "nothing is known yet");
        let count = ledger.begin_count();
        ledger.end_count(count, usage(bytes, entries));
        ledger
    }

    #[test]
    fn both_numbers_must_fit_and_a_refusal_reserves_nothing() {
        let ledger = counted(90, 9);
        assert!(!fits(&ledger, usage(5, 2)));
        assert!(!fits(&ledger, usage(11, 1)));
        assert!(fits(&ledger, usage(10, 1)));
        assert!(!fits(&ledger, usage(1, 0)));
        assert!(!fits(&ledger, usage(u64::MAX, 0)));
    }

    #[test]
    fn what_is_reserved_during_a_count_stays_reserved() {
        let ledger = counted(0, 0);
        assert!(fits(&ledger, usage(50, 0)));
        let count = ledger.begin_count();
        assert!(fits(&ledger, usage(30, 0)));
        ledger.end_count(count, usage(10, 0));
        assert!(!fits(&ledger, usage(61, 0)));
        assert!(fits(&ledger, usage(60, 0)));
    }

    #[test]
    fn of_two_counts_at_the_same_time_one_is_taken() {
        let ledger = counted(100, 0);
        let (one, other) = (ledger.begin_count(), ledger.begin_count());
        ledger.end_count(one, usage(40, 0));
        assert!(fits(&ledger, usage(60, 0)));
        ledger.end_count(other, usage(40, 0));
        assert!(!fits(&ledger, usage(1, 0)), "the second knows nothing of the 60");
    }

    #[test]
    fn another_process_sees_the_same_ledger() {
        let ledger = counted(0, 0);
        let fd = ledger.fd().try_clone_to_owned().expect("a descriptor");
        assert!(rustix::fs::ftruncate(&fd, 0).is_err(), "its size is sealed");
        let same = Ledger::open(fd, ledger.quota(), ledger.slots()).expect("the ledger");
        same.hold(1, usage(7, 1));
        assert_eq!(ledger.held_by_others(0), usage(7, 1));
        assert_eq!(ledger.held_by_others(1), usage(0, 0));
        ledger.forget(1);
        assert_eq!(same.held_by_others(0), usage(0, 0));
    }
}
