//! The ledger's word for those who would like to count alone, and for those who make changes.

use std::sync::atomic::Ordering;

use super::{CHANGING, CLOCKS_DIFFER, Ledger, PAUSED, now};

/// Milliseconds after which a pause is over, whether or not its count is.
const MAX_PAUSE: u64 = 100;

impl Ledger {
    /// Asks the others to begin no change, unless another does. Returns what
    /// [`Ledger::end_pause`] takes.
    pub fn begin_pause(&self) -> Option<u64> {
        let until = now().saturating_add(MAX_PAUSE);
        let begin = |other: u64| (!is_in_force(other)).then_some(until);
        let begun = self.word(PAUSED).fetch_update(Ordering::SeqCst, Ordering::SeqCst, begin);
        begun.is_ok().then_some(until)
    }

    /// Ends a pause, if it is still in force.
    pub fn end_pause(&self, until: u64) {
        let _ = self.word(PAUSED).compare_exchange(until, 0, Ordering::SeqCst, Ordering::SeqCst);
    }

    /// Whether somebody asks that no change be begun.
    pub fn is_paused(&self) -> bool {
        is_in_force(self.word(PAUSED).load(Ordering::SeqCst))
    }

    /// Says whether the call of the worker with this slot makes a change.
    pub fn set_changing(&self, slot: u32, changing: bool) {
        self.word(self.slot(slot) + CHANGING).store(changing.into(), Ordering::SeqCst);
    }

    /// Whether any worker but the one with this slot makes a change.
    pub fn is_being_changed(&self, slot: u32) -> bool {
        let changing = |slot| self.word(self.slot(slot) + CHANGING).load(Ordering::SeqCst) != 0;
        self.used().any(|other| other != slot && changing(other))
    }
}

/// Whether a pause that ends then has begun and not ended.
fn is_in_force(until: u64) -> bool {
    until != 0 && (1..=MAX_PAUSE + CLOCKS_DIFFER).contains(&until.saturating_sub(now()))
}

#[cfg(test)]
mod tests {
    use super::super::tests::counted;
    use super::*;

    #[test]
    fn one_at_a_time_pauses_the_others() {
        let ledger = counted(0, 0);
        assert!(!ledger.is_paused());
        let until = ledger.begin_pause().expect("nobody else does");
        assert!(ledger.is_paused() && ledger.begin_pause().is_none());
        ledger.end_pause(until);
        assert!(!ledger.is_paused());
        ledger.end_pause(until);
        assert!(ledger.begin_pause().is_some());
    }

    #[test]
    fn no_pause_is_long() {
        let ledger = counted(0, 0);
        for nonsense in [1, now(), now() + 2 * MAX_PAUSE, u64::MAX] {
            ledger.word(PAUSED).store(nonsense, Ordering::SeqCst);
            assert!(!ledger.is_paused(), "{nonsense}");
        }
        assert!(ledger.begin_pause().is_some());
    }

    #[test]
    fn who_makes_a_change_says_so() {
        let ledger = counted(0, 0);
        ledger.set_changing(1, true);
        assert!(ledger.is_being_changed(0) && !ledger.is_being_changed(1));
        ledger.forget(1);
        assert!(!ledger.is_being_changed(0));
    }
}
