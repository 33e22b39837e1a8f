//! What a worker and its parent share of a call that runs: its output, which the parent finds
//! however the call ends, and whether it is to let others go first.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use rustix::event::Timespec;
use rustix::thread::futex;

use super::Ring;
use crate::sandbox::{Captured, Supervisor};

/// The parent, for the call that a worker runs.
pub(crate) struct SharedCall {
    ring: Arc<Ring>,
    /// The number of its request.
    number: AtomicU64,
}

impl SharedCall {
    pub(crate) fn new(ring: &Arc<Ring>) -> Arc<Self> {
        Arc::new(Self { ring: Arc::clone(ring), number: AtomicU64::new(0) })
    }

    /// From now on what is written is that of the call for this request.
    pub(crate) fn begin(&self, number: u64) {
        self.number.store(number, Ordering::Relaxed);
    }
}

impl Supervisor for SharedCall {
    fn write(&self, bytes: &[u8]) {
        self.ring.write_output(self.number.load(Ordering::Relaxed), bytes);
    }

    fn wait_for_turn(&self, deadline: Instant) {
        while self.ring.word(super::PAUSED).load(Ordering::SeqCst) != 0 {
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok(left) = Timespec::try_from(left) else { return };
            if left == Timespec::default() {
                return;
            }
            // It looks again, whyever it wakes.
            let paused = self.ring.half(super::PAUSED);
            let _ = futex::wait(paused, futex::Flags::empty(), 1, Some(&left));
        }
    }
}

impl Ring {
    /// Has the worker's call let others go first, or go on. It looks when it is interrupted.
    pub(crate) fn pause(&self, is_paused: bool) {
        self.word(super::PAUSED).store(is_paused.into(), Ordering::SeqCst);
        if !is_paused {
            // Nobody sleeps there if it fails.
            let _ = futex::wake(self.half(super::PAUSED), futex::Flags::empty(), 1);
        }
    }

    /// Appends to the output of a request's call, as far as there is room for it.
    fn write_output(&self, number: u64, bytes: &[u8]) {
        let (length, dropped) =
            (self.of(number, super::OUTPUT_LENGTH), self.of(number, super::OUTPUT_DROPPED));
        let written = usize::try_from(length.load(Ordering::Relaxed)).unwrap_or(Captured::MAX);
        let room = Captured::MAX.saturating_sub(written);
        let kept = bytes.get(..room).unwrap_or(bytes);
        if self
            .write(self.output_bytes(number) + written.min(Captured::MAX), room, &[kept])
            .is_some()
        {
            length.store((written + kept.len()) as u64, Ordering::Release);
        }
        let lost = (bytes.len() - kept.len()) as u64;
        if lost > 0 {
            dropped.fetch_add(lost, Ordering::Relaxed);
        }
    }

    /// What the call for a request has written so far.
    pub(crate) fn output(&self, number: u64) -> Captured {
        let length = self.of(number, super::OUTPUT_LENGTH).load(Ordering::Acquire);
        let length = usize::try_from(length).unwrap_or(usize::MAX).min(Captured::MAX);
        let dropped = self.of(number, super::OUTPUT_DROPPED).load(Ordering::Relaxed);
        let mut bytes = Vec::new();
        if length > 0 {
            self.append_to(&mut bytes, self.output_bytes(number), length);
        }
        Captured { bytes, dropped }
    }

    /// There is no output yet of a request that is about to be put in.
    pub(super) fn clear_output(&self, number: u64) {
        for word in [super::OUTPUT_LENGTH, super::OUTPUT_DROPPED] {
            self.of(number, word).store(0, Ordering::Relaxed);
        }
    }
}
