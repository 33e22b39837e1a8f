//! How many workers the pool should have. Pure: no workers, no clock of its own.
//!
//! A pool whose workers are all held up by slow calls gets more of them, up to
//! `--max-workers`, so that handlers that loop do not keep others from being served;
//! and it goes back to `--workers` when they are no longer needed. Short calls, however
//! many wait, never make it grow: more workers than that would only share the cores.

use std::time::{Duration, Instant};

/// How long every worker must have been in its call for the pool to grow.
pub(super) const HELD_UP: Duration = Duration::from_millis(100);

/// How long the pool must have been larger than it needs to be to shrink.
const SHRINK_AFTER: Duration = Duration::from_secs(5);

/// What the pool looks like at one moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Load {
    /// Workers, those that are being started too.
    pub(super) workers: usize,
    /// Those of them that have been in their call for [`HELD_UP`].
    pub(super) held_up: usize,
    /// Those of them that are in a call at all.
    pub(super) busy: usize,
    /// Requests that wait for one.
    pub(super) waiting: usize,
}

/// What is to be done about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// Nothing.
    None,
    /// Start that many workers.
    Grow(usize),
    /// Let idle workers beyond the usual number go.
    Shrink,
}

/// The rule by which a pool grows and shrinks.
#[derive(Debug)]
pub(super) struct Autoscaler {
    /// `--workers`
    usual: usize,
    /// `--max-workers`
    most: usize,
    /// Since when no more than the usual number would have been enough.
    enough_since: Option<Instant>,
}

impl Autoscaler {
    pub(super) fn new(usual: usize, most: usize) -> Self {
        Self { usual, most, enough_since: None }
    }

    /// Looks at the pool, a few times a second.
    pub(super) fn look(&mut self, load: Load, now: Instant) -> Change {
        if load.waiting > 0 && load.held_up >= load.workers {
            self.enough_since = None;
            // At most twice as many at a time, so that a burst does not start them all.
            let more = load.waiting.min(load.workers.max(1));
            return match more.min(self.most.saturating_sub(load.workers)) {
                0 => Change::None,
                more => Change::Grow(more),
            };
        }
        if load.workers <= self.usual || load.busy > self.usual || load.waiting > 0 {
            self.enough_since = None;
            return Change::None;
        }
        let since = *self.enough_since.get_or_insert(now);
        if now.saturating_duration_since(since) < SHRINK_AFTER {
            return Change::None;
        }
        Change::Shrink
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(workers: usize, held_up: usize, busy: usize, waiting: usize) -> Load {
        Load { workers, held_up, busy, waiting }
    }

    #[test]
    fn the_pool_grows_only_when_every_worker_is_held_up_and_somebody_waits() {
        let mut autoscaler = Autoscaler::new(4, 16);
        let now = Instant::now();
        assert_eq!(autoscaler.look(load(4, 4, 4, 0), now), Change::None);
        assert_eq!(autoscaler.look(load(4, 3, 4, 100), now), Change::None);
        assert_eq!(autoscaler.look(load(4, 4, 4, 1), now), Change::Grow(1));
        assert_eq!(autoscaler.look(load(4, 4, 4, 100), now), Change::Grow(4));
        assert_eq!(autoscaler.look(load(12, 12, 12, 100), now), Change::Grow(4));
        assert_eq!(autoscaler.look(load(16, 16, 16, 100), now), Change::None);
    }

    #[test]
    fn it_shrinks_when_fewer_have_been_enough_for_a_while() {
        let mut autoscaler = Autoscaler::new(4, 16);
        let start = Instant::now();
        assert_eq!(autoscaler.look(load(10, 0, 3, 0), start), Change::None);
        assert_eq!(autoscaler.look(load(10, 0, 5, 0), start + SHRINK_AFTER), Change::None);
        assert_eq!(autoscaler.look(load(10, 0, 3, 0), start + SHRINK_AFTER), Change::None);
        assert_eq!(autoscaler.look(load(10, 0, 3, 0), start + SHRINK_AFTER * 2), Change::Shrink);
        assert_eq!(autoscaler.look(load(4, 0, 0, 0), start + SHRINK_AFTER * 2), Change::None);
    }
}
