//! Which calls that compute for long may run, in worker processes: as many at a time as there are
//! processors. Pure but for a counter that the pools share. (In the thread pool, calls take turns
//! by themselves: `sandbox::interruption::turns`.)
//!
//! Eighty calls that compute for long would each have a share of the processors as large as that
//! of a request that takes tenths of a millisecond. A lower priority for their workers was tried:
//! it helps less, and nobody but the superuser can raise it again.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// How long a call must have run for its processor time to be looked at.
pub(super) const LOOK_AFTER: Duration = Duration::from_millis(10);

/// Processor time of a call, from when it was first looked at, after which it has computed for
/// long. Of many calls that compute, each gets little at a time.
const COMPUTED: Duration = Duration::from_millis(3);

/// How long after many calls have computed for long a call that has run for [`LOOK_AFTER`] is
/// taken for another like them: eighty of them, that begin at a time, would otherwise hold up all
/// others until each has had its [`COMPUTED`].
const CALM: Duration = Duration::from_secs(1);

/// Pools that have more calls that compute for long than processors for them, of this process.
pub(super) static CROWDED: AtomicUsize = AtomicUsize::new(0);

/// The calls of one pool that compute for long.
#[derive(Debug)]
pub(super) struct Turns {
    seen: Vec<Option<Seen>>,
    processors: usize,
    /// The slots of calls that compute, those first that have waited longest.
    line: VecDeque<usize>,
    /// So many of the first have their turn.
    running: usize,
    /// When there were last more of them than processors.
    crowded: Option<Instant>,
    pools: &'static AtomicUsize,
    is_counted: bool,
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    call: u64,
    /// The worker's processor time when this call was first looked at; `None` once it has
    /// computed for long.
    since: Option<Duration>,
}

impl Turns {
    /// For so many slots, on so many processors that all these `pools` share, if they are
    /// crowded.
    pub(super) fn new(slots: usize, processors: usize, pools: &'static AtomicUsize) -> Self {
        Self {
            seen: vec![None; slots],
            processors,
            line: VecDeque::new(),
            running: 0,
            crowded: None,
            pools,
            is_counted: false,
        }
    }

    /// Whether a call has computed for long that has run for [`LOOK_AFTER`]. `time` tells the
    /// processor time that its worker has taken in all, and is not asked if that is known.
    pub(super) fn has_computed(
        &mut self,
        slot: usize,
        call: u64,
        time: impl FnOnce() -> Option<Duration>,
        now: Instant,
    ) -> bool {
        let crowded = self.crowded.is_some_and(|at| now.saturating_duration_since(at) < CALM);
        let Some(seen) = self.seen.get_mut(slot) else { return false };
        match seen.filter(|seen| seen.call == call) {
            Some(Seen { since: None, .. }) => true,
            _ if crowded => {
                *seen = Some(Seen { call, since: None });
                true
            }
            Some(Seen { since: Some(since), .. }) => {
                let computed = time().is_some_and(|time| time.saturating_sub(since) >= COMPUTED);
                if computed {
                    *seen = Some(Seen { call, since: None });
                }
                computed
            }
            None => {
                *seen = time().map(|time| Seen { call, since: Some(time) });
                false
            }
        }
    }

    /// Whose turn it is now, of the slots whose calls have computed for long.
    pub(super) fn next(&mut self, computing: &[usize], now: Instant) -> &[usize] {
        self.line.rotate_left(self.running);
        self.line.retain(|slot| computing.contains(slot));
        for slot in computing {
            if !self.line.contains(slot) {
                self.line.push_back(*slot);
            }
        }
        let is_crowded = self.line.len() > self.share();
        if is_crowded {
            self.crowded = Some(now);
        }
        self.count(is_crowded);
        self.running = self.share().min(self.line.len());
        self.line.make_contiguous().get(..self.running).unwrap_or_default()
    }

    /// How many of them may run at a time.
    fn share(&self) -> usize {
        (self.processors / self.pools.load(Ordering::Relaxed).max(1)).max(1)
    }

    fn count(&mut self, is_crowded: bool) {
        match (self.is_counted, is_crowded) {
            (false, true) => self.pools.fetch_add(1, Ordering::Relaxed),
            (true, false) => self.pools.fetch_sub(1, Ordering::Relaxed),
            _ => return,
        };
        self.is_counted = is_crowded;
    }
}

impl Drop for Turns {
    fn drop(&mut self) {
        self.count(false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(time: u64) -> Duration {
        Duration::from_millis(time)
    }

    #[test]
    fn a_call_that_computes_is_told_from_one_that_waits() {
        static POOLS: AtomicUsize = AtomicUsize::new(0);
        let (mut turns, now) = (Turns::new(2, 1, &POOLS), Instant::now());
        let mut look = |slot, call, time| turns.has_computed(slot, call, || Some(ms(time)), now);
        assert!(!look(0, 7, 500), "it has only been seen");
        assert!(!look(0, 7, 502));
        assert!(!look(1, 8, 600), "another worker");
        assert!(look(0, 7, 503));
        assert!(look(0, 7, 503), "it has");
        assert!(!look(0, 9, 540), "another call");
        assert!(!look(0, 9, 541), "it waits");
        assert!(!look(2, 7, 1), "there is no such slot");
    }

    #[test]
    fn calls_take_turns() {
        static POOLS: AtomicUsize = AtomicUsize::new(0);
        let (mut turns, now) = (Turns::new(9, 2, &POOLS), Instant::now());
        assert_eq!(turns.next(&[4], now), [4]);
        assert_eq!(turns.next(&[4, 5], now), [4, 5], "there is a processor for each");
        assert_eq!(turns.next(&[4, 5, 6, 7, 8], now), [4, 5]);
        assert_eq!(turns.next(&[4, 5, 6, 7, 8], now), [6, 7]);
        assert_eq!(turns.next(&[4, 5, 6, 8], now), [8, 4], "one has ended");
        assert_eq!(turns.next(&[], now), [0; 0]);
    }

    #[test]
    fn after_many_that_compute_the_next_is_taken_for_another() {
        static POOLS: AtomicUsize = AtomicUsize::new(0);
        let (mut turns, start) = (Turns::new(9, 2, &POOLS), Instant::now());
        let never = || panic!("nobody asks for its time");
        turns.next(&[1, 2, 3], start);
        assert!(turns.has_computed(5, 1, never, start + CALM / 2));
        assert!(turns.has_computed(5, 1, never, start + 2 * CALM), "it stays one");
        assert!(!turns.has_computed(6, 2, || Some(ms(1)), start + CALM));
    }
    #[test]
    fn crowded_pools_share_the_processors() {
        static POOLS: AtomicUsize = AtomicUsize::new(0);
        let now = Instant::now();
        let [mut one, mut other] = [(); 2].map(|()| Turns::new(9, 4, &POOLS));
        assert_eq!(one.next(&[1, 2, 3, 4, 5], now), [1, 2, 3, 4]);
        assert_eq!(other.next(&[1, 2, 3, 4, 5], now).len(), 2);
        assert_eq!(one.next(&[1, 2, 3, 4, 5], now).len(), 2);
        drop(one);
        assert_eq!(other.next(&[1, 2, 3, 4, 5], now).len(), 4);
        drop(other);
        assert_eq!(POOLS.load(Ordering::Relaxed), 0);
    }
}
