//! Room for a change, reserved before it is made.
//!
//! Who finds no room counts. For as long as that takes, the others are asked to begin no
//! change, and those that are being made are waited for: then the count is exact, and there
//! is no room for what it refuses. Nothing else rests on it, for all who wait do so for a
//! bounded time: a worker may be stopped while it counts, or taken over.

use std::thread;
use std::time::{Duration, Instant};

use shm::ledger::{Ledger, NoRoom, Usage};

use super::count::Count;

use super::Account;
#[cfg(feature = "holes")]
use crate::holes::Layer;

/// A count that does not fit is not repeated for this long, unless it may have become less.
pub(super) const RECOUNT_PAUSE: Duration = Duration::from_millis(100);

/// How often a count is repeated because others made changes meanwhile.
const RECOUNTS: usize = 3;

/// How long a count waits for changes that are being made.
const MAX_CHANGE: Duration = Duration::from_millis(5);

/// Between two looks at what others do.
const MOMENT: Duration = Duration::from_micros(50);

/// Takes room for `more`.
///
/// # Errors
/// What there is no room for.
pub(super) fn room(ledger: &Ledger, more: Usage) -> Result<(), NoRoom> {
    let fits = ledger.reserve(more);
    #[cfg(feature = "holes")]
    let fits = fits.or(if Layer::Quota.is_missing() { Ok(()) } else { fits });
    fits
}

/// A change that is being made. What it may add is announced until this is dropped.
pub(super) struct Change<'a>(&'a Account);

impl Change<'_> {
    /// Says what the change may add.
    pub(super) fn announce(&self, more: Usage) {
        self.0.ledger.hold(self.0.slot, more);
    }
}

impl Drop for Change<'_> {
    fn drop(&mut self) {
        self.announce(Usage::default());
        self.0.ledger.set_changing(self.0.slot, false);
    }
}

/// The others begin no change until this is dropped, or for too long.
struct Pause<'a> {
    account: &'a Account,
    until: u64,
}

impl Drop for Pause<'_> {
    fn drop(&mut self) {
        self.account.ledger.end_pause(self.until);
    }
}

/// What is to be said and reserved before a change is made.
pub(super) struct Needs<G> {
    /// Says, until it is dropped, how the length of a file changes.
    pub(super) guard: G,
    /// What is announced.
    pub(super) announced: Usage,
    /// What is reserved.
    pub(super) reserved: Usage,
}

impl Needs<()> {
    /// A change that adds `more`.
    pub(super) fn of(more: Usage) -> Self {
        Self { guard: (), announced: more, reserved: more }
    }
}

impl Account {
    /// Begins a change that needs no room, once nobody wants to count alone.
    pub(super) fn begin(&self) -> Change<'_> {
        loop {
            let change = self.begin_at_once();
            if !self.ledger.is_paused() {
                return change;
            }
            drop(change);
            if !self.wait() {
                return self.begin_at_once();
            }
        }
    }

    /// Begins a change as soon as there is room for it. What it needs is looked at anew after
    /// each count, and announced anew: who counts need not care for a change that waits.
    ///
    /// # Errors
    /// [`NoRoom`] when the directory has none, or it could not be counted.
    pub(super) fn reserve<G, E: From<NoRoom>>(
        &self,
        needs: impl Fn() -> Result<Needs<G>, E>,
    ) -> Result<(Change<'_>, G), E> {
        if self.ledger.counted() >= self.recount_every {
            // That it is late does not keep a change that fits.
            let _ = self.recount();
        }
        let mut refused = match self.attempt(self.begin(), &needs)? {
            Ok(reserved) => return Ok(reserved),
            Err(refused) => refused,
        };
        let mut pause = None;
        for _ in 0..RECOUNTS {
            if !self.was_just_counted() && pause.is_none() {
                pause = self.pause();
            }
            let just_counted = self.was_just_counted();
            if !just_counted {
                self.wait_for_changes();
                self.recount()?;
            }
            // It may also have been refused before another's count came to its end.
            let change = if pause.is_some() { self.begin_at_once() } else { self.begin() };
            refused = match self.attempt(change, &needs)? {
                Ok(reserved) => return Ok(reserved),
                Err(refused) => refused,
            };
            // Unless others made changes meanwhile, which may have been counted twice.
            if just_counted || !self.ledger.is_stale() {
                break;
            }
        }
        Err(refused.into())
    }

    /// Reserves what a change needs, if there is room.
    fn attempt<'a, G, E>(
        &self,
        change: Change<'a>,
        needs: impl Fn() -> Result<Needs<G>, E>,
    ) -> Result<Result<(Change<'a>, G), NoRoom>, E> {
        let Needs { guard, announced, reserved } = needs()?;
        change.announce(announced);
        // What needs no room is done in a directory that is too full, too.
        let fits = match reserved == Usage::default() {
            true => Ok(()),
            false => room(&self.ledger, reserved),
        };
        Ok(fits.map(|()| (change, guard)))
    }

    fn begin_at_once(&self) -> Change<'_> {
        self.ledger.set_changing(self.slot, true);
        Change(self)
    }

    /// Whether the directory holds what is known of it, as far as can be said.
    fn was_just_counted(&self) -> bool {
        !self.ledger.is_stale() && self.ledger.counted() < RECOUNT_PAUSE
    }

    fn recount(&self) -> Result<(), NoRoom> {
        // What cannot be counted is not known to have room.
        let count = Count::begin(&self.ledger, self.slot);
        count.finish(&*self.dir, self.deadline).map_err(NoRoom::Uncounted)
    }

    /// Asks the others to begin no change, once nobody else does.
    fn pause(&self) -> Option<Pause<'_>> {
        loop {
            if let Some(until) = self.ledger.begin_pause() {
                return Some(Pause { account: self, until });
            }
            if !self.wait() {
                return None;
            }
        }
    }

    fn wait_for_changes(&self) {
        let begun = Instant::now();
        while self.ledger.is_being_changed(self.slot) && begun.elapsed() < MAX_CHANGE && self.wait()
        {
        }
    }

    /// Waits a moment, unless the call has waited for too long in all.
    fn wait(&self) -> bool {
        let (begun, patience) = (Instant::now(), self.patience.get());
        if patience == Duration::ZERO || begun >= self.deadline {
            return false;
        }
        thread::sleep(MOMENT);
        self.patience.set(patience.saturating_sub(begun.elapsed()));
        true
    }
}
