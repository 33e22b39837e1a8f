//! Who sleeps, and is to be woken: the protocol by which no wake-up is lost.
//!
//! A worker reads the doorbell, looks for a request, says that it sleeps, and looks once more.
//! Then it sleeps for as long as the doorbell is what it was. Its parent puts the request in, takes
//! the worker's word back that it sleeps, and only if there was one counts the doorbell up and
//! wakes it. So either the worker sees the request when it looks once more, or it has said before
//! that it sleeps. It may not do so yet when it is woken: then the doorbell is another one.
//!
//! A parent that is about to sleep says so before it looks for an answer once more. The worker
//! puts the answer in before it looks whether the parent sleeps.

use super::handover::{Handover, Word};

/// A number that a thread can sleep on.
pub trait Futex {
    /// Reads it.
    fn load(&self) -> u32;
    /// Adds one, and wraps around.
    fn count_up(&self);
    /// Sleeps until it is woken, unless the number is another one. It may wake for nothing.
    fn wait(&self, expected: u32);
    /// Wakes one that sleeps.
    fn wake(&self);
}

/// The words by which a worker and its parent sleep and are woken.
pub struct Wakeup<'a, F, W> {
    /// Counts how often the worker was woken; it sleeps on it.
    pub doorbell: &'a F,
    /// Whether the worker sleeps, or is about to.
    pub worker_sleeps: &'a W,
    /// Whether the parent sleeps, or is about to.
    pub parent_sleeps: &'a W,
}

impl<F: Futex, W: Word> Wakeup<'_, F, W> {
    /// The parent has put something in for the worker.
    pub fn wake_worker(&self) {
        if self.worker_sleeps.swap(0) != 0 {
            // After its word was taken back: otherwise it could go to sleep with nobody knowing.
            self.doorbell.count_up();
            self.doorbell.wake();
        }
    }

    /// The worker takes a request, for which it sleeps. Calls `woken` whenever it has woken.
    pub fn wait_for(&self, request: &Handover<'_, W>, woken: impl Fn()) {
        loop {
            let doorbell = self.doorbell.load();
            if request.take() {
                return;
            }
            self.worker_sleeps.store(1);
            if !request.waits() {
                // It looks again, whyever it wakes.
                self.doorbell.wait(doorbell);
            }
            self.worker_sleeps.store(0);
            woken();
        }
    }

    /// The parent is about to sleep, after it has looked once more. Whether it had been awake
    /// before, as far as the worker knew.
    pub fn parent_sleeps(&self) -> bool {
        self.parent_sleeps.swap(1) == 0
    }

    /// Whether the parent sleeps, which the worker is to wake now for the answers that are there.
    pub fn parent_is_to_wake(&self) -> bool {
        self.parent_sleeps.swap(0) != 0
    }
}

// The checker switches stacks, which Miri cannot follow.
#[cfg(not(miri))]
#[cfg(test)]
mod tests;
