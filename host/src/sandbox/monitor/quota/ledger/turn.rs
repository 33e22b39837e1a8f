//! Whose turn it is to change what is in a directory.
//!
//! The kernel lets one change a directory at a time, and whoever waits for that there spins
//! or is woken in vain: twenty workers spend more on waiting than on the change. So they wait
//! here. That is a courtesy and no lock: nothing rests on it, and who has waited for
//! [`PATIENCE`] takes the turn from a worker that was killed with it or hangs.

use std::hint::spin_loop;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::fs::Timespec;
use rustix::thread::futex;

use super::{Ledger, TURN};

/// How long others may have the turn, one after the other, before it is taken from them.
const PATIENCE: Duration = Duration::from_millis(100);

/// Looks before whoever waits goes to sleep: a change in memory takes no longer than they do.
const LOOKS: u32 = 100;

/// It is nobody's turn.
const FREE: u32 = 0;
/// It is somebody's.
const TAKEN: u32 = 1;
/// It is somebody's, and others may be asleep.
const AWAITED: u32 = 2;

/// A turn; it is over when this is dropped.
#[derive(Debug)]
pub(in super::super) struct Turn<'a>(&'a AtomicU32);

impl Ledger {
    /// Waits for a turn, but not beyond `deadline`.
    pub(in super::super) fn turn(&self, deadline: Instant) -> Turn<'_> {
        self.turn_within(PATIENCE, deadline)
    }

    fn turn_within(&self, patience: Duration, deadline: Instant) -> Turn<'_> {
        let turn = self.half(TURN);
        for _ in 0..LOOKS {
            if take(turn) {
                return Turn(turn);
            }
            spin_loop();
        }
        let until = deadline.min(Instant::now() + patience);
        // Who has slept does not know whether others do, too.
        while turn.swap(AWAITED, Ordering::Acquire) != FREE {
            let left = until.saturating_duration_since(Instant::now());
            let Ok(left) = Timespec::try_from(left) else { break };
            if left == Timespec::default() {
                break;
            }
            // It looks again, whyever it wakes.
            let _ = futex::wait(turn, futex::Flags::empty(), AWAITED, Some(&left));
        }
        Turn(turn)
    }
}

fn take(turn: &AtomicU32) -> bool {
    let is_free = turn.load(Ordering::Relaxed) == FREE;
    is_free && turn.compare_exchange(FREE, TAKEN, Ordering::Acquire, Ordering::Relaxed).is_ok()
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if self.0.swap(FREE, Ordering::Release) == AWAITED {
            // Nobody sleeps there if it fails.
            let _ = futex::wake(self.0, futex::Flags::empty(), 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::thread;

    use super::super::tests::counted;
    use super::*;

    const A_MINUTE: Duration = Duration::from_mins(1);

    fn soon() -> Instant {
        Instant::now() + A_MINUTE
    }

    #[test]
    fn one_has_the_turn_at_a_time() {
        let (ledger, sum) = (counted(0, 0), AtomicU32::new(0));
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..1000 {
                        let _turn = ledger.turn_within(A_MINUTE, soon());
                        // Two steps: additions of others in between would be lost.
                        let before = sum.load(Ordering::Relaxed);
                        thread::yield_now();
                        sum.store(before + 1, Ordering::Relaxed);
                    }
                });
            }
        });
        assert_eq!(sum.into_inner(), 4000);
    }

    #[test]
    fn a_turn_that_does_not_end_is_taken_over() {
        let ledger = Arc::new(counted(0, 0));
        std::mem::forget(ledger.turn(soon()));
        let others: Vec<_> = (0..3)
            .map(|_| {
                let ledger = Arc::clone(&ledger);
                thread::spawn(move || drop(ledger.turn(soon())))
            })
            .collect();
        for other in others {
            other.join().expect("it went on");
        }
        assert_eq!(ledger.half(TURN).load(Ordering::SeqCst), FREE);
    }

    #[test]
    fn nobody_waits_beyond_a_deadline() {
        let ledger = counted(0, 0);
        let first = ledger.turn(soon());
        drop(ledger.turn(Instant::now()));
        drop(first);
        // Nonsense of a worker that was taken over.
        ledger.half(TURN).store(u32::MAX, Ordering::SeqCst);
        drop(ledger.turn(soon()));
        assert_eq!(ledger.half(TURN).load(Ordering::SeqCst), FREE);
    }
}
