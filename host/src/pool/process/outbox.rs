//! What a worker process was given, and what becomes of it when the worker is killed.
//!
//! Pure but for the words that worker and parent share: the model check runs this with words of
//! its own.

use std::time::Instant;

use shm::ring::Slots;

use super::super::schedule::{Assignments, Begun, Lost, Schedule, Task};

/// The requests of one worker, by their numbers.
pub(super) struct Outbox<S> {
    slots: S,
    /// The number of the next request.
    next: u64,
}

/// Why a worker is dead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Death {
    /// The call overran its deadline, and its worker was condemned for it.
    Overrun,
    /// The worker died, or was killed for what it said.
    Other,
}

impl<S: Slots> Outbox<S> {
    pub(super) fn new(slots: S) -> Self {
        Self { slots, next: 0 }
    }

    pub(super) fn slots(&self) -> &S {
        &self.slots
    }

    /// The number of a request that is about to be put in.
    pub(super) fn take_number(&mut self) -> u64 {
        let number = self.next;
        self.next += 1;
        number
    }

    /// The number of the next request.
    pub(super) fn next_number(&self) -> u64 {
        self.next
    }

    /// Takes requests back that the worker has not begun, the last one first and at most
    /// `most`. Returns how many.
    pub(super) fn take_back(&mut self, most: usize) -> usize {
        let mut count = 0;
        while count < most && self.slots.handover(self.next - 1).take_back() {
            self.next -= 1;
            count += 1;
        }
        count
    }

    /// Whether there is an answer to the first of so many requests.
    pub(super) fn has_answer(&self, owed: usize) -> bool {
        self.slots.handover(self.first(owed)).has_answer()
    }

    /// The number of the first of so many requests.
    pub(super) fn first(&self, owed: usize) -> u64 {
        self.next.wrapping_sub(owed as u64)
    }

    /// A worker is to end with its call. Takes back what waits behind, and condemns the worker,
    /// unless that has answered meanwhile; whether it did condemn it. Nothing is in its hands then
    /// but that call, or it has begun others without an answer to that.
    pub(super) fn condemn<T: Task>(
        &mut self,
        schedule: &mut Schedule<T>,
        slot: usize,
        now: Instant,
    ) -> (bool, Assignments) {
        let first = self.first(schedule.owed(slot));
        let count = self.take_back(schedule.behind(slot));
        let assignments = schedule.taken_back(slot, count, now);
        // Whoever has begun another has answered the first. One that has taken its answer away is not waited for.
        let has_gone_on = self.slots.handover(first).has_answer();
        if !has_gone_on {
            schedule.condemn(slot);
        }
        (!has_gone_on, assignments)
    }

    /// The worker is dead, and all that it had answered was heard: what of its requests has no
    /// answer. All others wait again.
    pub(super) fn died<T: Task>(
        &self,
        schedule: &mut Schedule<T>,
        slot: usize,
        death: Death,
        now: Instant,
    ) -> Vec<Lost<T>> {
        let first = self.slots.handover(self.first(schedule.owed(slot)));
        let begun = match death {
            // By the parent's own clock, whatever the worker says.
            Death::Overrun => Begun::First,
            Death::Other if first.has_begun() => Begun::First,
            Death::Other => Begun::Nothing,
        };
        schedule.died(slot, begun, now)
    }
}

#[cfg(test)]
mod tests;
