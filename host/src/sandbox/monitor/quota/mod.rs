//! The quota: how many bytes and entries the served directory may hold.
//!
//! All calls of all workers draw on one [`Ledger`]. What makes the directory grow is
//! reserved there before it is done; nothing is ever given back for what is
//! deleted, since two workers that shorten the same file at the same time would
//! give it back twice. Instead, when a reservation does not fit, the directory is
//! counted anew, and that count, with what running calls may still add or hold
//! open without a name, is what the ledger says from then on. So the quota can
//! never be passed by racing, only be reached too early for a moment.
//!
//! A file counts with its length, whether or not it has holes, once for each of its
//! names. Not counted is a file that was there before a call, that the call has open,
//! and that another deletes: it takes its space until the call ends.

mod ledger;
mod measure;

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use rustix::fd::OwnedFd;
use rustix::fs::fstat;
use serde::{Deserialize, Serialize};

pub use self::ledger::Ledger;
use self::ledger::Reservation;
pub use self::measure::measure;
use super::Grants;

/// A count that does not fit is not repeated for this long, unless something was deleted.
const RECOUNT_PAUSE: Duration = Duration::from_millis(100);

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

    fn plus(self, more: Self) -> Self {
        Self {
            bytes: self.bytes.saturating_add(more.bytes),
            entries: self.entries.saturating_add(more.entries),
        }
    }

    fn minus(self, less: Self) -> Self {
        Self {
            bytes: self.bytes.saturating_sub(less.bytes),
            entries: self.entries.saturating_sub(less.entries),
        }
    }
}

/// The directory would hold more than it may.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct OverQuota;

/// What one handler call has drawn on the ledger, and the files that it has open.
pub(super) struct Account {
    ledger: Arc<Ledger>,
    /// The whole served directory.
    dir: Arc<OwnedFd>,
    /// Which of the ledger's slots is this call's.
    slot: u32,
    deadline: Instant,
    drawn: Usage,
    files: Vec<Weak<OwnedFd>>,
    /// Every open directory stream has a copy.
    streams: Arc<()>,
}

impl Account {
    pub(super) fn new(grants: &Grants, slot: u32, deadline: Instant) -> Self {
        Self {
            ledger: Arc::clone(&grants.ledger),
            dir: Arc::clone(&grants.preopen.dir),
            slot,
            deadline,
            drawn: Usage::default(),
            files: Vec::new(),
            streams: Arc::new(()),
        }
    }

    /// Keeps an eye on a file or directory that the call has open.
    pub(super) fn opened(&mut self, fd: &Arc<OwnedFd>) {
        self.files.push(Arc::downgrade(fd));
    }

    /// To be kept by a directory stream for as long as it is open.
    pub(super) fn stream(&self) -> Arc<()> {
        Arc::clone(&self.streams)
    }

    /// Files, directories and directory streams that the call has open.
    pub(super) fn open_files(&mut self) -> usize {
        self.files.retain(|fd| fd.strong_count() > 0);
        self.files.len() + Arc::strong_count(&self.streams) - 1
    }

    /// Draws what something is about to add to the directory.
    ///
    /// # Errors
    /// [`OverQuota`] when the directory has no room for it, or it could not be
    /// counted in time.
    pub(super) fn draw(&mut self, more: Usage) -> Result<(), OverQuota> {
        if more == Usage::default() {
            return Ok(());
        }
        // First what this call may hold, then what all hold: whoever counts in between
        // sees it at least once.
        self.ledger.hold(self.slot, more);
        self.drawn = self.drawn.plus(more);
        let drawn = match self.ledger.reserve(more) {
            Reservation::Fits { counted } if counted < RECOUNT_EVERY => Ok(()),
            Reservation::Fits { .. } => {
                // Late for a count, which does not keep a call that fits.
                let _ = self.recount();
                Ok(())
            }
            Reservation::Over { counted, deleted } if counted < RECOUNT_PAUSE && !deleted => {
                Err(OverQuota)
            }
            Reservation::Over { .. } => {
                self.recount().and_then(|()| match self.ledger.reserve(more) {
                    Reservation::Fits { .. } => Ok(()),
                    Reservation::Over { .. } => Err(OverQuota),
                })
            }
        };
        if drawn.is_err() {
            self.drawn = self.drawn.minus(more);
            self.ledger.let_go(self.slot, more);
        }
        drawn
    }

    /// Gives back what was drawn for something that then failed.
    pub(super) fn settle<T, E>(&mut self, drawn: Usage, result: &Result<T, E>) {
        if result.is_err() {
            self.ledger.give_back(drawn);
            self.drawn = self.drawn.minus(drawn);
            self.ledger.let_go(self.slot, drawn);
        }
    }

    /// Something was deleted or shortened: it is worth counting again.
    pub(super) fn deleted(&self) {
        self.ledger.deleted();
    }

    fn recount(&mut self) -> Result<(), OverQuota> {
        let count = self.ledger.begin_count();
        // What cannot be counted is not known to have room.
        let counted =
            measure(&self.dir, self.ledger.quota(), Some(self.deadline)).map_err(|_| OverQuota)?;
        let others = self.ledger.held_by_others(self.slot);
        self.ledger.end_count(count, counted.plus(others).plus(self.without_a_name()));
        Ok(())
    }

    /// Bytes of files that this call has open and that have no name any more.
    fn without_a_name(&self) -> Usage {
        let files = self.files.iter().filter_map(Weak::upgrade);
        let sizes = files.filter_map(|fd| fstat(&fd).ok()).filter(|stat| stat.st_nlink == 0);
        Usage::bytes(sizes.map(|stat| u64::try_from(stat.st_size).unwrap_or_default()).sum())
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        self.ledger.let_go(self.slot, self.drawn);
    }
}
