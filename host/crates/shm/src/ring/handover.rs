//! The words by which a request and its answer change hands between a worker and its parent.
//!
//! A request lies in the slot of its number until the worker takes it, or the parent takes it
//! back: one exchange of a word decides. A worker takes requests in the order of their numbers,
//! and answers each before it takes the next.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// There is no request, or it was taken back.
pub(super) const EMPTY: u64 = 0;
/// There is one that the worker has not taken.
pub(super) const WAITS: u64 = 1;
/// The worker has begun it.
pub(super) const TAKEN: u64 = 2;

/// A word that either side can change at any time.
pub trait Word {
    /// Reads it, with all that was written before it was.
    fn load(&self) -> u64;
    /// Writes it, after all that was written before.
    fn store(&self, value: u64);
    /// Writes `to`, if it is `from`; whether it was.
    fn exchange(&self, from: u64, to: u64) -> bool;
    /// Writes it, and returns what it was.
    fn swap(&self, value: u64) -> u64;
}

impl Word for AtomicU64 {
    fn load(&self) -> u64 {
        self.load(Ordering::SeqCst)
    }

    fn store(&self, value: u64) {
        self.store(value, Ordering::SeqCst);
    }

    fn exchange(&self, from: u64, to: u64) -> bool {
        self.compare_exchange(from, to, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }

    fn swap(&self, value: u64) -> u64 {
        self.swap(value, Ordering::SeqCst)
    }
}

/// Slots, of which the number of a request says which is its own.
pub trait Slots {
    /// A word of a slot.
    type Word: Word;

    /// The words of a request.
    fn handover(&self, number: u64) -> Handover<'_, Self::Word>;
}

impl<S: Slots> Slots for Arc<S> {
    type Word = S::Word;

    fn handover(&self, number: u64) -> Handover<'_, S::Word> {
        (**self).handover(number)
    }
}

/// The words of one request.
pub struct Handover<'a, W> {
    /// The number of the request.
    pub number: u64,
    /// `EMPTY`, `WAITS` or `TAKEN`.
    pub request: &'a W,
    /// The number of the request that was answered, and one more.
    pub answered: &'a W,
}

impl<W: Word> Handover<'_, W> {
    /// The parent has put the request in.
    pub fn put(&self) {
        self.request.store(WAITS);
    }

    /// The parent takes the request back; `false` if the worker was faster.
    pub fn take_back(&self) -> bool {
        self.request.exchange(WAITS, EMPTY)
    }

    /// The worker takes the request; `false` if there is none.
    pub fn take(&self) -> bool {
        self.request.exchange(WAITS, TAKEN)
    }

    /// Whether the request is there for the worker.
    pub fn waits(&self) -> bool {
        self.request.load() == WAITS
    }

    /// Whether the worker has taken the request, by its own word.
    pub fn has_begun(&self) -> bool {
        self.request.load() == TAKEN
    }

    /// The worker has put the answer in.
    pub fn reply(&self) {
        self.answered.store(self.number.wrapping_add(1));
    }

    /// Whether the answer is there.
    pub fn has_answer(&self) -> bool {
        self.answered.load() == self.number.wrapping_add(1)
    }
}
