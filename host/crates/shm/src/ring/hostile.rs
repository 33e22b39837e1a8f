//! What a worker that was taken over writes into its ring: for the attack catalogue, tests and the fuzzer alone.

use std::sync::atomic::Ordering;

use super::handover::EMPTY;
use super::{ANSWER_LENGTH, ANSWERED, REQUEST, Ring, SLOTS, WORDS};

impl Ring {
    /// Denies that the worker has begun anything.
    pub fn deny(&self) {
        for slot in 0..SLOTS as u64 {
            self.of(slot, REQUEST).store(EMPTY, Ordering::SeqCst);
        }
    }

    /// Answers whatever it is asked next with more than there is room for.
    pub fn garble(&self) {
        for slot in 0..SLOTS as u64 {
            let answered = self.of(slot, ANSWERED);
            let next = match answered.load(Ordering::SeqCst) {
                0 => slot + 1,
                before => before.wrapping_add(SLOTS as u64),
            };
            self.of(slot, ANSWER_LENGTH).store(1 << 40, Ordering::SeqCst);
            answered.store(next, Ordering::SeqCst);
        }
    }

    /// Writes anything into the words of a request's slot.
    pub fn spoil(&self, number: u64, words: &[u64]) {
        for (word, value) in (0..WORDS).zip(words) {
            self.of(number, word).store(*value, Ordering::SeqCst);
        }
    }
}
