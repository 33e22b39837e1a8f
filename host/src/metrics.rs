//! The pool's counters, as the access log shows them.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counters of one pool. Each is exact; read together they are a snapshot of
/// slightly different moments.
#[derive(Debug, Default)]
pub struct Metrics {
    running: AtomicU64,
    pending: AtomicU64,
    done: AtomicU64,
    requests: AtomicU64,
}

/// The counters at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Requests in a worker.
    pub running: u64,
    /// Requests that wait for one.
    pub pending: u64,
    /// Requests that workers have answered, well or not.
    pub done: u64,
}

/// A request in a worker; it is counted until this is dropped.
pub(crate) struct Running<'a>(&'a Metrics);

impl Metrics {
    /// The next request's number, from 1.
    pub(crate) fn next_request(&self) -> u64 {
        self.requests.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub(crate) fn queued(&self) {
        self.pending.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn unqueued(&self) {
        self.pending.fetch_sub(1, Ordering::Relaxed);
    }

    pub(crate) fn running(&self) -> Running<'_> {
        self.running.fetch_add(1, Ordering::Relaxed);
        Running(self)
    }

    /// Sets both counters of a pool that counts for itself.
    pub(crate) fn set(&self, running: usize, pending: usize) {
        self.running.store(running as u64, Ordering::Relaxed);
        self.pending.store(pending as u64, Ordering::Relaxed);
    }

    pub(crate) fn finished(&self) {
        self.done.fetch_add(1, Ordering::Relaxed);
    }

    /// The counters now.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            running: self.running.load(Ordering::Relaxed),
            pending: self.pending.load(Ordering::Relaxed),
            done: self.done.load(Ordering::Relaxed),
        }
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::Relaxed);
    }
}
