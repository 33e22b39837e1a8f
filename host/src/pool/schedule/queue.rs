//! What one worker was sent and has not answered.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::{SLOW_CALL, Task};

/// A worker's slot in the pool.
#[derive(Debug)]
pub(super) struct WorkerQueue<T> {
    /// What it was sent and has not answered: the one that runs, and those ahead.
    pub(super) sent: VecDeque<Sent<T>>,
    /// The worker is about to end, and gets nothing more.
    pub(super) is_condemned: bool,
}

#[derive(Debug)]
pub(super) struct Request<T> {
    /// Counts up in the order in which they came.
    pub(super) id: u64,
    pub(super) task: T,
    /// When it came.
    pub(super) arrived: Instant,
}

#[derive(Debug)]
pub(super) struct Sent<T> {
    pub(super) request: Request<T>,
    /// When it was sent, then when the one before it was answered.
    pub(super) since: Instant,
}

impl<T> Default for WorkerQueue<T> {
    fn default() -> Self {
        Self { sent: VecDeque::new(), is_condemned: false }
    }
}

impl<T: Task> WorkerQueue<T> {
    /// Whether its running request began that long ago.
    pub(super) fn has_run(&self, time: Duration, now: Instant) -> bool {
        let long = |sent: &Sent<T>| now.saturating_duration_since(sent.since) >= time;
        self.sent.front().is_some_and(long)
    }

    /// Whether it works, and quickly so far.
    pub(super) fn is_hot(&self, now: Instant) -> bool {
        let quick = |sent: &Sent<T>| now.saturating_duration_since(sent.since) < SLOW_CALL;
        self.sent.front().is_some_and(quick)
    }

    /// Whether one more can be sent, when so many are ahead at most.
    pub(super) fn has_room(&self, ahead: usize) -> bool {
        self.sent.len() <= ahead && self.sent.iter().all(|sent| sent.request.task.fits_ahead())
    }
}
