//! What workers have in hand, for who looks on.

use std::time::{Duration, Instant};

use super::Schedule;

/// What the worker of one slot has in hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::pool) enum InHand<'a, T> {
    /// There is no worker that is ready.
    NoWorker,
    /// Nothing: the worker waits for a request.
    Nothing,
    /// A request that has run for so long; as many more wait behind it.
    Request { task: &'a T, elapsed: Duration, behind: usize },
}

impl<T> Schedule<T> {
    /// What the worker of each slot has in hand.
    pub(in crate::pool) fn in_hand(&self, now: Instant) -> Vec<InHand<'_, T>> {
        let mut all: Vec<_> = self
            .slots
            .iter()
            .map(|slot| match slot.sent.front() {
                None => InHand::NoWorker,
                Some(first) => InHand::Request {
                    task: &first.request.task,
                    elapsed: now.saturating_duration_since(first.since),
                    behind: slot.sent.len() - 1,
                },
            })
            .collect();
        for slot in &self.idle {
            if let Some(idle) = all.get_mut(*slot) {
                *idle = InHand::Nothing;
            }
        }
        all
    }
}
