//! The quota: how many bytes and entries the served directory may hold.
//!
//! All calls of all workers draw on one [`Ledger`]. What makes the directory grow is
//! reserved there before it is done. Nothing is given back for what is deleted, since
//! two workers that shorten the same file at the same time would give it back twice.
//! Instead, when a reservation does not fit, the directory is counted anew, and that
//! count is what the ledger says from then on.
//!
//! Calls go on while one of them counts, and this is how none gets past it:
//!
//! - What a change may add is announced, reserved, added, and then taken back from the
//!   announcements. A count includes what others had announced when it began, and what
//!   was reserved since.
//! - A file that is written to may have become shorter since its length was looked at. So a
//!   count takes a file that is growing to be as long as it is about to be, and one that
//!   may become shorter to be as long as it was.
//! - What moves may do so where the count looks later or has already looked; a file may
//!   have no name any more, and takes its space for as long as a call has it open. So the
//!   ledger knows which files are open, and how long they have become; what moves is open
//!   meanwhile. A count includes those that it did not find. It waits a moment for the length
//!   of one that has only just been opened, and else takes it to fill the directory.
//! - What is over between two looks of a count at the ledger is reserved once more if it may
//!   have escaped the count.
//!
//! So the directory is never known to hold less than it does; the quota can only be
//! reached too early, until the next count.
//!
//! A file counts with its length, whether or not it has holes, and each of its names as an
//! entry.

mod count;
mod file;
mod ledger;
mod measure;

use std::cell::Cell;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::fs::{FileType, fstat, ftruncate};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use self::count::Count;
pub use self::file::OpenFile;
pub(super) use self::file::Register;
pub use self::ledger::Ledger;
pub use self::measure::measure;
use super::Grants;
use super::descriptor::size;
#[cfg(feature = "holes")]
use crate::holes::Hole;

/// A count that does not fit is not repeated for this long, unless it may have become less.
const RECOUNT_PAUSE: Duration = Duration::from_millis(100);

/// How often a count is repeated because others made changes meanwhile.
const RECOUNTS: usize = 3;

/// A count is repeated after this long even while all fits: the operator, too, adds files.
const RECOUNT_EVERY: Duration = Duration::from_secs(10);

/// Bytes of files, and entries: files, directories and links, at any depth.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Lengths of all files.
    pub bytes: u64,
    /// Names.
    pub entries: u64,
}

impl Usage {
    pub(super) fn bytes(bytes: u64) -> Self {
        Self { bytes, entries: 0 }
    }

    pub(super) fn entry() -> Self {
        Self { bytes: 0, entries: 1 }
    }

    /// Whether neither number is above that of `most`.
    #[must_use]
    pub fn fits(self, most: Self) -> bool {
        self.bytes <= most.bytes && self.entries <= most.entries
    }

    pub(super) fn plus(self, more: Self) -> Self {
        Self {
            bytes: self.bytes.saturating_add(more.bytes),
            entries: self.entries.saturating_add(more.entries),
        }
    }
}

/// The directory would hold more than it may.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct OverQuota;

/// The changes that one handler call makes to the directory.
pub(super) struct Account {
    ledger: Arc<Ledger>,
    /// The whole served directory.
    dir: Arc<OpenFile>,
    /// Which of the ledger's slots is this call's.
    slot: u32,
    deadline: Instant,
    /// A count is repeated after this long even while all fits.
    recount_every: Duration,
    /// What has been announced.
    announced: Cell<Usage>,
}

impl Account {
    pub(super) fn new(grants: &Grants, slot: u32, deadline: Instant) -> Self {
        let (ledger, dir) = (Arc::clone(&grants.ledger), Arc::clone(&grants.preopen.dir));
        Self {
            ledger,
            dir,
            slot,
            deadline,
            recount_every: RECOUNT_EVERY,
            announced: Cell::default(),
        }
    }

    /// A place for a file that is about to be opened; none when too many are open.
    pub(super) fn register(&self) -> Option<Register> {
        Register::new(&self.ledger, self.slot)
    }

    /// Makes a change to a directory that adds an entry.
    pub(super) fn adding_entry<T, E: From<OverQuota>>(
        &self,
        change: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, E> {
        self.adding(Usage::entry(), change)
    }

    /// Makes a change that adds `more`.
    fn adding<T, E: From<OverQuota>>(
        &self,
        more: Usage,
        change: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, E> {
        let _announced = self.announce(more);
        self.draw(more)?;
        let result = change();
        if result.is_err() {
            self.ledger.stale();
        }
        result
    }

    /// Makes a change after which `file` is at most `end` bytes long, or as long as before.
    pub(super) fn growing<T, E: From<OverQuota> + From<Errno>>(
        &self,
        file: &OpenFile,
        end: u64,
        change: impl FnOnce() -> Result<T, Errno>,
    ) -> Result<T, E> {
        let _growing = file.growing_to(end);
        let more = Usage::bytes(end.saturating_sub(size(&fstat(file)?)));
        self.adding(more, || {
            file.has_grown_to(end);
            Ok(change()?)
        })
    }

    /// Makes `file` that long.
    pub(super) fn resize<E: From<OverQuota> + From<Errno>>(
        &self,
        file: &OpenFile,
        length: u64,
    ) -> Result<(), E> {
        let _shortening = file.shortening();
        let more = Usage::bytes(length.saturating_sub(size(&fstat(file)?)));
        self.adding(more, || {
            self.ledger.add_to_counts(Usage::bytes(file.known_length().saturating_sub(length)));
            file.has_grown_to(length);
            let resized = ftruncate(file, length);
            self.ledger.stale();
            Ok(resized?)
        })
    }

    /// Makes a change that adds `length` bytes at the end of `file`.
    pub(super) fn appending<T, E: From<OverQuota> + From<Errno>>(
        &self,
        file: &OpenFile,
        length: u64,
        change: impl FnOnce() -> Result<T, Errno>,
    ) -> Result<T, E> {
        self.adding(Usage::bytes(length), || {
            // Should this be all that the call still does.
            file.has_grown_to(size(&fstat(file)?).saturating_add(length));
            let result = change();
            file.has_grown_to(size(&fstat(file)?));
            Ok(result?)
        })
    }

    /// Makes a change that gives `file`, which is of that type, another name in place of its
    /// own. It may have been that of something else.
    pub(super) fn moving<T, E: From<Errno>>(
        &self,
        file: &OpenFile,
        file_type: FileType,
        change: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, E> {
        let hidden = match file_type {
            // However much is in it.
            FileType::Directory => self.ledger.quota(),
            _ => Usage::entry(),
        };
        let _announced = self.announce(hidden);
        if self.ledger.is_being_counted() {
            let length = Usage::bytes(file.known_length());
            self.ledger.add_to_counts(hidden.plus(length));
        }
        let result = change();
        self.ledger.stale();
        result
    }

    /// Makes a change that gives `file` another name besides its own.
    pub(super) fn linking<T, E: From<OverQuota>>(
        &self,
        file: &OpenFile,
        change: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, E> {
        self.adding_entry(|| {
            // The name under which a count would find it may go.
            self.ledger.add_to_counts(Usage::bytes(file.known_length()));
            change()
        })
    }

    /// Makes a change to a directory that removes an entry.
    pub(super) fn deleting(&self, change: impl FnOnce() -> Result<(), Errno>) -> Result<(), Errno> {
        change()?;
        self.ledger.stale();
        Ok(())
    }

    fn announce(&self, change: Usage) -> Announcement<'_> {
        let before = self.announced.get();
        self.set_announced(before.plus(change));
        Announcement { account: self, before }
    }

    fn set_announced(&self, change: Usage) {
        self.announced.set(change);
        self.ledger.hold(self.slot, change);
    }

    /// Reserves room.
    ///
    /// # Errors
    /// [`OverQuota`] when the directory has none, or it could not be counted in time.
    fn draw(&self, more: Usage) -> Result<(), OverQuota> {
        if more == Usage::default() {
            return Ok(());
        }
        #[cfg(feature = "holes")]
        if Hole::NoQuota.is_open() {
            return Ok(());
        }
        if self.ledger.counted() >= self.recount_every {
            // That it is late does not keep a change that fits.
            let _ = self.recount();
        }
        if self.ledger.reserve(more) {
            return Ok(());
        }
        if !self.ledger.is_stale() && self.ledger.counted() < RECOUNT_PAUSE {
            // It may have been refused before that count came to its end.
            return if self.ledger.reserve(more) { Ok(()) } else { Err(OverQuota) };
        }
        for _ in 0..RECOUNTS {
            self.recount()?;
            if self.ledger.reserve(more) {
                return Ok(());
            }
            // Unless others made changes meanwhile, which may have been counted twice.
            if !self.ledger.is_stale() {
                break;
            }
        }
        Err(OverQuota)
    }

    fn recount(&self) -> Result<(), OverQuota> {
        // What cannot be counted is not known to have room.
        let count = Count::begin(&self.ledger, self.slot);
        count.finish(&*self.dir, self.deadline).map_err(|_| OverQuota)
    }
}

/// A change that is being made.
struct Announcement<'a> {
    account: &'a Account,
    before: Usage,
}

impl Drop for Announcement<'_> {
    fn drop(&mut self) {
        self.account.set_announced(self.before);
    }
}

#[cfg(test)]
mod tests;
