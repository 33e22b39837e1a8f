//! The quota: how many bytes and entries the served directory may hold.
//!
//! All calls of all workers draw on one [`Ledger`]. What makes the directory grow is
//! reserved there before it is done. Nothing is given back for what is deleted, since
//! two workers that shorten the same file at the same time would give it back twice.
//! Instead, when a reservation does not fit, the directory is counted anew, and that
//! count is what the ledger says from then on.
//!
//! Calls may go on while one of them counts, and this is how none gets past it:
//!
//! - What a change may add is announced, reserved, added, and then taken back from the
//!   announcements. A count includes what others had announced when it began, and what
//!   was reserved since.
//! - A file that is written to may have become shorter since its length was looked at. So a
//!   count takes a file that is growing to be as long as it is about to be, and one that
//!   may become shorter to be as long as it was. To say to what length a file is growing, from
//!   before its length is looked at until it has grown, is an announcement, too: a count that
//!   began later takes it to be that long, or finds it so.
//! - A call's own count does not include what it is about to change. So the call looks at the
//!   file anew after it, and announces anew.
//! - What moves may do so where the count looks later or has already looked; a file may
//!   have no name any more, and takes its space for as long as a call has it open. So the
//!   ledger knows which files are open, and how long they have become; what moves is open
//!   meanwhile. A count includes those that it did not find. It waits a moment for the length
//!   of one that has only just been opened, and else takes it to fill the directory.
//! - A directory, too, may be open and have no name any more. Whoever removes it says how long
//!   it is in the end, which nobody knows meanwhile: what has no name does not grow.
//! - What is over between two looks of a count at the ledger is reserved once more if it may
//!   have escaped the count.
//!
//! So the directory is never known to hold less than it does; the quota can only be
//! reached too early, until the next count. To make that rare, calls begin no change while
//! another counts for want of room (`reserve`).
//!
//! A file counts with its length, whether or not it has holes, or with its blocks if they are
//! more than that takes, and each of its names as an entry. A directory counts with what it
//! takes itself, the served one included. It grows with the names in it, and on most file
//! systems does not shrink: so each change that adds a name reserves as many blocks as that
//! may cost. What the disk holds is therefore within the quota, but for the part of a block
//! that each file leaves unused, and one block for each symbolic link.

mod count;
mod file;
mod measure;
mod reserve;

use std::cell::Cell;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::fs::{FileType, fstat, ftruncate};
use rustix::io::Errno;
use shm::ledger::{Ledger, NoRoom, Usage};

pub use self::file::OpenFile;
pub(super) use self::file::Register;
pub use self::measure::measure;
use self::measure::occupied;
pub(super) use self::measure::size;
use self::reserve::Needs;
use super::Grants;

/// A count is repeated after this long even while all fits: the operator, too, adds files.
const RECOUNT_EVERY: Duration = Duration::from_secs(10);

/// For this long at most a call waits, all in all, for others that count or make changes.
const MAX_WAIT_FOR_OTHERS: Duration = Duration::from_secs(1);

/// Blocks by which a directory may grow for one more name. In ext4 that is a leaf of its tree,
/// and with it an inner node or another level, or one more block of extents.
const BLOCKS_OF_A_NAME: u64 = 3;

/// Blocks that a new directory takes.
const BLOCKS_OF_A_DIRECTORY: u64 = 1;

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
    /// How long the call may still wait for others.
    patience: Cell<Duration>,
    /// Bytes of a block of the directory's file system.
    block: u64,
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
            patience: Cell::new(MAX_WAIT_FOR_OTHERS),
            block: grants.preopen.block_size,
        }
    }

    /// A place for a file that is about to be opened; none when too many are open.
    pub(super) fn register(&self) -> Option<Register> {
        Register::new(&self.ledger, self.slot)
    }

    /// Makes a change to a directory that adds an entry.
    pub(super) fn adding_entry<T, E: From<NoRoom>>(
        &self,
        change: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, E> {
        self.adding_name(Usage { entries: 1, ..self.name() }, change)
    }

    /// Makes a change to a directory that adds another one.
    pub(super) fn adding_directory<T, E: From<NoRoom>>(
        &self,
        change: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, E> {
        let bytes = (BLOCKS_OF_A_NAME + BLOCKS_OF_A_DIRECTORY) * self.block;
        self.adding_name(Usage { bytes, entries: 1 }, change)
    }

    /// What one more name may add to the directory that it is in.
    fn name(&self) -> Usage {
        Usage::bytes(BLOCKS_OF_A_NAME * self.block)
    }

    fn adding_name<T, E: From<NoRoom>>(
        &self,
        more: Usage,
        change: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, E> {
        let _change = self.reserve(|| Ok::<_, E>(Needs::of(more)))?;
        let result = change();
        // The directory has hardly grown by as much.
        self.ledger.stale();
        result
    }

    /// Makes a change after which `file` is at most `end` bytes long, or as long as before.
    pub(super) fn growing<T, E: From<NoRoom> + From<Errno>>(
        &self,
        file: &OpenFile,
        end: u64,
        change: impl FnOnce() -> Result<T, Errno>,
    ) -> Result<T, E> {
        let _change = self.reserve(|| {
            let guard = file.growing_to(end);
            let reserved = Usage::bytes(end.saturating_sub(size(&fstat(file)?)));
            Ok::<_, E>(Needs { guard, announced: Usage::default(), reserved })
        })?;
        file.has_grown_to(end);
        Ok(self.done(change())?)
    }

    /// Makes `file` that long.
    pub(super) fn resize<E: From<NoRoom> + From<Errno>>(
        &self,
        file: &OpenFile,
        length: u64,
    ) -> Result<(), E> {
        let _change = self.reserve(|| {
            let guard = file.shortening();
            let more = Usage::bytes(length.saturating_sub(size(&fstat(file)?)));
            Ok::<_, E>(Needs { guard, announced: more, reserved: more })
        })?;
        self.ledger.add_to_counts(Usage::bytes(file.known_length().saturating_sub(length)));
        file.has_grown_to(length);
        let resized = ftruncate(file, length);
        self.ledger.stale();
        Ok(resized?)
    }

    /// Makes a change that adds `length` bytes at the end of `file`.
    pub(super) fn appending<T, E: From<NoRoom> + From<Errno>>(
        &self,
        file: &OpenFile,
        length: u64,
        change: impl FnOnce() -> Result<T, Errno>,
    ) -> Result<T, E> {
        let _change = self.reserve(|| Ok::<_, E>(Needs::of(Usage::bytes(length))))?;
        // Should this be all that the call still does.
        file.has_grown_to(size(&fstat(file)?).saturating_add(length));
        let result = change();
        file.has_grown_to(size(&fstat(file)?));
        Ok(self.done(result)?)
    }

    /// Makes a change by which another file, of that many bytes, takes the name of `file`, after it had one of its own
    /// for a moment.
    pub(super) fn adopting<E: From<NoRoom>>(
        &self,
        file: &OpenFile,
        length: u64,
        change: impl FnOnce() -> Result<(), E>,
    ) -> Result<(), E> {
        let name = Usage { entries: 1, ..self.name() };
        let _change = self.reserve(|| {
            let guard = file.growing_to(length);
            let reserved = name.plus(Usage::bytes(length));
            Ok::<_, E>(Needs { guard, announced: name, reserved })
        })?;
        file.has_grown_to(length);
        let result = change();
        // There is no more than one name again.
        self.ledger.stale();
        result
    }

    /// What came of a change for which room was reserved.
    fn done<T>(&self, result: Result<T, Errno>) -> Result<T, Errno> {
        if result.is_err() {
            self.ledger.stale();
        }
        result
    }

    /// Makes a change that gives `file`, which is of that type, another name in place of its
    /// own. It may have been that of something else; if that was a directory, of `replaced`.
    pub(super) fn moving<T, E: From<NoRoom>>(
        &self,
        file: &OpenFile,
        file_type: FileType,
        replaced: Option<&OpenFile>,
        make: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, E> {
        let hidden = match file_type {
            // However much is in it.
            FileType::Directory => self.ledger.quota(),
            _ => Usage { bytes: 0, entries: 1 },
        };
        let (change, ()) = self.reserve(|| Ok::<_, E>(Needs::of(self.name())))?;
        change.announce(self.name().plus(hidden));
        if self.ledger.is_being_counted() {
            let length = Usage::bytes(file.known_length());
            self.ledger.add_to_counts(hidden.plus(length));
        }
        let result = self.removing(replaced, make);
        self.ledger.stale();
        result
    }

    /// Makes a change that gives `file` another name besides its own.
    pub(super) fn linking<T, E: From<NoRoom>>(
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

    /// Makes a change to a directory that removes an entry; if it is that of a directory, of
    /// `dir`.
    pub(super) fn deleting<E>(
        &self,
        dir: Option<&OpenFile>,
        change: impl FnOnce() -> Result<(), E>,
    ) -> Result<(), E> {
        let _change = self.begin();
        self.removing(dir, change)?;
        self.ledger.stale();
        Ok(())
    }

    /// Makes a change by which `dir` may lose its name.
    fn removing<T, E>(
        &self,
        dir: Option<&OpenFile>,
        change: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, E> {
        let Some(dir) = dir else { return change() };
        let _unknown = dir.of_unknown_length();
        let result = change();
        if let Ok(stat) = fstat(dir) {
            // All who have it open are told when it is closed here.
            dir.has_grown_to(occupied(&stat));
        }
        result
    }
}

#[cfg(test)]
mod tests;
