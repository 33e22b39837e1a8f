//! Which worker processes have computed for so long that others go first. Pure: no workers, no
//! clock of its own. (In the thread pool, such calls take turns: `sandbox::turns`.)
//!
//! A call that computes for long would take turns on the processors with those that do not, of
//! this handler and of others; eighty of them leave little to a request that takes tenths of a
//! millisecond. So its worker's priority is lowered. Nobody but the superuser can raise it again,
//! so that worker is replaced after its call, which costs little beside that.

use std::time::Duration;

/// How long a call must have run for its processor time to be looked at.
pub(super) const LOOK_AFTER: Duration = Duration::from_millis(10);

/// Processor time of a call, from when it was first looked at, after which others go first. Of
/// many calls that compute, each gets little at a time.
const COMPUTED: Duration = Duration::from_millis(3);

/// The niceness of a worker that has computed for long (`setpriority(2)`). It still gets a tenth
/// of a processor for which one other competes, so that a busy machine does not end its call.
pub(super) const NICENESS: i32 = 10;

/// What is known of each place's worker.
#[derive(Debug, Default)]
pub(super) struct Priorities(Vec<Option<Seen>>);

#[derive(Clone, Copy, Debug)]
struct Seen {
    call: u64,
    /// The worker's processor time when this call was first looked at.
    since: Duration,
}

impl Priorities {
    pub(super) fn new(places: usize) -> Self {
        Self(vec![None; places])
    }

    /// Looks at a worker whose call has run for [`LOOK_AFTER`]: whether its priority is to be
    /// lowered. `time` is the processor time that it has taken in all.
    pub(super) fn look(&mut self, place: usize, call: u64, time: Duration) -> bool {
        let Some(seen) = self.0.get_mut(place) else { return false };
        match seen {
            Some(seen) if seen.call == call => time.saturating_sub(seen.since) >= COMPUTED,
            _ => {
                *seen = Some(Seen { call, since: time });
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_that_computes_gives_way_and_one_that_waits_does_not() {
        let ms = Duration::from_millis;
        let mut priorities = Priorities::new(2);
        assert!(!priorities.look(0, 7, ms(500)), "it has only been seen");
        assert!(!priorities.look(0, 7, ms(502)));
        assert!(!priorities.look(1, 8, ms(600)), "another worker");
        assert!(priorities.look(0, 7, ms(503)));
        assert!(!priorities.look(0, 9, ms(540)), "another call");
        assert!(!priorities.look(0, 9, ms(541)), "it waits");
        assert!(!priorities.look(2, 7, ms(1)), "there is no such place");
    }
}
