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

mod open_files;
mod pause;

use std::collections::BTreeSet;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

pub use self::open_files::{OpenFileSlot, OpenFiles};
use crate::memory::{Handle, SharedMemory};

/// The identity of a regular file or directory: its inode, on the one file system.
pub type FileId = u64;

/// Bytes of files and directories, and entries: files, directories and links, at any depth.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// What all files and directories take.
    pub bytes: u64,
    /// Names.
    pub entries: u64,
}

impl Usage {
    /// So many bytes, and no entries.
    #[must_use]
    pub fn bytes(bytes: u64) -> Self {
        Self { bytes, entries: 0 }
    }

    /// Whether neither number is above that of `most`.
    #[must_use]
    pub fn fits(self, most: Self) -> bool {
        self.bytes <= most.bytes && self.entries <= most.entries
    }

    /// The sum, as far as numbers go.
    #[must_use]
    pub fn plus(self, more: Self) -> Self {
        Self {
            bytes: self.bytes.saturating_add(more.bytes),
            entries: self.entries.saturating_add(more.entries),
        }
    }
}

/// Why there is no room for a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoRoom {
    /// The directory would hold more bytes than it may.
    Bytes,
    /// The directory would hold more entries than it may.
    Entries,
    /// Nobody knows: the directory could not be counted.
    Uncounted(Errno),
}

/// Files, directories and directory streams that one call may have open at a time.
pub const OPEN_FILES: usize = 64;

/// Words before those of the slots: [`BYTES`] to [`PAUSED`].
const HEAD: usize = 8;
/// Words of one slot: [`HELD_BYTES`] to [`CHANGING`], then those of each file that may be open.
const SLOT: usize = SLOT_HEAD + PLACE * OPEN_FILES;
const SLOT_HEAD: usize = 5;
/// Of a slot: what the change that is being made may add.
const HELD_BYTES: usize = 0;
const HELD_ENTRIES: usize = 1;
/// Of a slot: whether its worker counts the directory.
const COUNTING: usize = 2;
/// Of a slot: how many of its places may have a file, from the first on.
const OPEN: usize = 3;
/// Of a slot: whether its worker makes a change.
const CHANGING: usize = 4;

/// Words of one open file.
const PLACE: usize = 3;

/// The directory's bytes and entries, each with the number of the count.
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
/// Until when, in milliseconds of the monotonic clock, no change is to be begun.
const PAUSED: usize = 7;

/// The low bits of a number that counts the directory; those above say by which count.
pub const VALUE: u64 = (1 << 48) - 1;

/// Milliseconds by which the clocks of two processes may differ.
const CLOCKS_DIFFER: u64 = 10;

/// What the numbers are before the first count: more than any quota.
const UNKNOWN: u64 = 1 << 47;

/// What the served directory holds, as far as is known, and what running calls do there.
#[derive(Debug)]
pub struct Ledger {
    memory: SharedMemory,
    handle: Handle,
    slots: u32,
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
        let (memory, handle) = SharedMemory::new("ledger", size(slots))?;
        let ledger = Self { memory, handle, slots };
        ledger.word(BYTES).store(UNKNOWN, Ordering::SeqCst);
        ledger.set_quota(quota);
        Ok(ledger)
    }

    /// The ledger that another process made.
    ///
    /// # Errors
    /// When it is not the memory of one, or cannot be mapped.
    pub fn open(handle: Handle, slots: u32) -> anyhow::Result<Self> {
        let memory = SharedMemory::open("ledger", &handle, size(slots))?;
        Ok(Self { memory, handle, slots })
    }

    /// The ledger's memory, to be opened by a worker process.
    #[must_use]
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// The most that the directory may hold.
    #[must_use]
    pub fn quota(&self) -> Usage {
        let [bytes, entries] =
            [QUOTA_BYTES, QUOTA_ENTRIES].map(|word| self.word(word).load(Ordering::SeqCst));
        Usage { bytes, entries }
    }

    /// What the directory holds, or held when it was last counted and has not grown beyond since; `None` while it
    /// was never counted.
    #[must_use]
    pub fn usage(&self) -> Option<Usage> {
        let [bytes, entries] =
            [BYTES, ENTRIES].map(|word| self.word(word).load(Ordering::SeqCst) & VALUE);
        (bytes < UNKNOWN).then_some(Usage { bytes, entries })
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
        self.close_all(slot, true);
        self.say_nothing(slot);
        self.stale();
    }

    /// Believes nothing that stands here, but what the workers with `live` slots say of
    /// themselves: one that has ended badly may have written it.
    pub fn reset_untrusted(&self, quota: Usage, live: &BTreeSet<u32>) {
        for slot in self.used().filter(|slot| !live.contains(slot)) {
            self.close_all(slot, false);
            self.say_nothing(slot);
        }
        let used = live.last().map_or(0, |last| u64::from(*last) + 1);
        self.word(USED).store(used, Ordering::SeqCst);
        for (word, value) in [(BYTES, UNKNOWN), (ENTRIES, 0)] {
            let _ = self
                .word(word)
                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |now| Some(now & !VALUE | value));
        }
        self.word(COUNTED).store(0, Ordering::SeqCst);
        self.word(PAUSED).store(0, Ordering::SeqCst);
        self.set_quota(quota);
    }

    /// The worker with this slot neither makes a change nor counts.
    fn say_nothing(&self, slot: u32) {
        self.hold(slot, Usage::default());
        self.set_counting(slot, false);
        self.set_changing(slot, false);
    }

    /// Says what the change that begins may add to the directory; nothing when it is over.
    pub fn hold(&self, slot: u32, change: Usage) {
        let slot = self.slot(slot);
        self.word(slot + HELD_BYTES).store(change.bytes, Ordering::SeqCst);
        self.word(slot + HELD_ENTRIES).store(change.entries, Ordering::SeqCst);
    }

    /// How long ago the directory was counted.
    pub fn counted(&self) -> Duration {
        let counted = self.word(COUNTED).load(Ordering::SeqCst);
        let now = now();
        // A time to come is nonsense, but for what clocks are rounded by.
        match counted > now.saturating_add(CLOCKS_DIFFER) {
            true => Duration::MAX,
            false => Duration::from_millis(now.saturating_sub(counted)),
        }
    }

    /// Adds `more` if there is room for it.
    ///
    /// # Errors
    /// What there is no room for.
    pub fn reserve(&self, more: Usage) -> Result<(), NoRoom> {
        let quota = self.quota();
        if !self.raise(BYTES, more.bytes, quota.bytes) {
            return Err(NoRoom::Bytes);
        }
        if !self.raise(ENTRIES, more.entries, quota.entries) {
            // The bytes stay until the next count.
            self.stale();
            return Err(NoRoom::Entries);
        }
        Ok(())
    }

    /// Adds `more` once again, whether or not there is room, if a count is being made: it
    /// may not see what moves. Whoever calls this holds `more`, so that a count that begins
    /// later knows of it too.
    pub fn add_to_counts(&self, more: Usage) {
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
    pub fn is_being_counted(&self) -> bool {
        let counting = |slot| self.word(self.slot(slot) + COUNTING).load(Ordering::SeqCst) != 0;
        self.used().any(counting)
    }

    /// The directory may hold less than is written here: it is worth counting again.
    pub fn stale(&self) {
        self.word(STALE).store(1, Ordering::SeqCst);
    }

    /// Whether the numbers may have become too high since the last count.
    pub fn is_stale(&self) -> bool {
        self.word(STALE).load(Ordering::SeqCst) != 0
    }

    /// Says whether the worker with this slot counts the directory.
    pub fn set_counting(&self, slot: u32, counting: bool) {
        self.word(self.slot(slot) + COUNTING).store(counting.into(), Ordering::SeqCst);
    }

    /// A count begins: the numbers as they are, and what the others hold.
    pub fn begin_count(&self, slot: u32) -> ([u64; 2], Usage) {
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
    pub fn end_count(&self, begun: [u64; 2], counted: Usage) {
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

    fn word(&self, at: usize) -> &AtomicU64 {
        #[cfg(feature = "model")]
        crate::model::access();
        self.memory.word(at)
    }
}

fn size(slots: u32) -> usize {
    (HEAD + slots as usize * SLOT) * size_of::<u64>()
}

/// Milliseconds of a clock that all processes share. The kernel is asked for it once, and
/// from then on `Instant`, which needs no system call.
fn now() -> u64 {
    static START: OnceLock<(Instant, u64)> = OnceLock::new();
    let (start, milliseconds) = START.get_or_init(|| {
        let now = clock_gettime(ClockId::Monotonic);
        let seconds = u64::try_from(now.tv_sec).unwrap_or_default();
        let milliseconds = u64::try_from(now.tv_nsec).unwrap_or_default() / 1_000_000;
        (Instant::now(), seconds.saturating_mul(1000).saturating_add(milliseconds))
    });
    let elapsed = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
    milliseconds.saturating_add(elapsed)
}

#[cfg(test)]
mod tests;
