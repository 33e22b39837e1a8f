//! What a worker and its parent share of a call that runs: its output, which the parent finds
//! however the call ends, and whether it is to let others go first.

use std::sync::atomic::Ordering;
use std::time::Instant;

use rustix::event::Timespec;
use rustix::thread::futex;

use super::wakeup::Futex as _;
use super::{MAX_OUTPUT, Ring};

impl Ring {
    /// Has the worker's call let others go first, or go on. It looks when it is interrupted.
    pub fn pause(&self, is_paused: bool) {
        let paused = self.memory.half(super::PAUSED);
        paused.store(is_paused.into(), Ordering::SeqCst);
        if !is_paused {
            paused.wake();
        }
    }

    /// Waits in the worker while its call is to let others go first, at most until its deadline.
    pub fn wait_for_turn(&self, deadline: Instant) {
        let paused = self.memory.half(super::PAUSED);
        while paused.load(Ordering::SeqCst) != 0 {
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok(left) = Timespec::try_from(left) else { return };
            if left == Timespec::default() {
                return;
            }
            // It looks again, whyever it wakes.
            let _ = futex::wait(paused, futex::Flags::empty(), 1, Some(&left));
        }
    }

    /// Appends to the output of a request's call, as far as there is room for it.
    pub fn write_output(&self, number: u64, bytes: &[u8]) {
        let (length, dropped) =
            (self.of(number, super::OUTPUT_LENGTH), self.of(number, super::OUTPUT_DROPPED));
        let written = usize::try_from(length.load(Ordering::Relaxed)).unwrap_or(MAX_OUTPUT);
        let room = MAX_OUTPUT.saturating_sub(written);
        let kept = bytes.get(..room).unwrap_or(bytes);
        if self.write(self.output_bytes(number) + written.min(MAX_OUTPUT), room, &[kept]).is_some()
        {
            length.store((written + kept.len()) as u64, Ordering::Release);
        }
        let lost = (bytes.len() - kept.len()) as u64;
        if lost > 0 {
            dropped.fetch_add(lost, Ordering::Relaxed);
        }
    }

    /// What the call for a request has written so far, and how many bytes more than there was
    /// room for.
    #[must_use]
    pub fn output(&self, number: u64) -> (Vec<u8>, u64) {
        let length = self.of(number, super::OUTPUT_LENGTH).load(Ordering::Acquire);
        let length = usize::try_from(length).unwrap_or(usize::MAX).min(MAX_OUTPUT);
        let dropped = self.of(number, super::OUTPUT_DROPPED).load(Ordering::Relaxed);
        let mut bytes = Vec::new();
        if length > 0 {
            self.memory.append_to(&mut bytes, self.output_bytes(number), length);
        }
        (bytes, dropped)
    }

    /// There is no output yet of a request that is about to be put in.
    pub(super) fn clear_output(&self, number: u64) {
        for word in [super::OUTPUT_LENGTH, super::OUTPUT_DROPPED] {
            self.of(number, word).store(0, Ordering::Relaxed);
        }
    }
}
