//! Counters, as the access log shows them.

use std::sync::atomic::{AtomicU64, Ordering};

/// What one pool is doing. Each number is exact; read together they are of slightly
/// different moments.
#[derive(Debug, Default)]
pub struct Load {
    running: AtomicU64,
    pending: AtomicU64,
}

/// Counters of the whole server.
#[derive(Debug, Default)]
pub struct Metrics {
    done: AtomicU64,
    requests: AtomicU64,
    refused: AtomicU64,
    abandoned: AtomicU64,
    turned_away: AtomicU64,
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

/// What has become of all requests so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Totals {
    /// Requests, the bad ones too.
    pub requests: u64,
    /// Those that got a 503.
    pub refused: u64,
    /// Those whose client went away before its answer was there.
    pub abandoned: u64,
    /// Connections over their client's share.
    pub turned_away: u64,
}

impl Load {
    /// Sets both counters.
    pub(crate) fn set(&self, running: usize, pending: usize) {
        self.running.store(running as u64, Ordering::Relaxed);
        self.pending.store(pending as u64, Ordering::Relaxed);
    }

    /// Requests in a worker, and requests that wait for one.
    pub(crate) fn get(&self) -> (u64, u64) {
        (self.running.load(Ordering::Relaxed), self.pending.load(Ordering::Relaxed))
    }
}

impl Metrics {
    /// The next request's number, from 1.
    pub(crate) fn next_request(&self) -> u64 {
        self.requests.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub(crate) fn finished(&self) {
        self.done.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn refused(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn abandoned(&self) {
        self.abandoned.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn turned_away(&self) {
        self.turned_away.fetch_add(1, Ordering::Relaxed);
    }

    /// The totals now.
    #[must_use]
    pub fn totals(&self) -> Totals {
        Totals {
            requests: self.requests.load(Ordering::Relaxed),
            refused: self.refused.load(Ordering::Relaxed),
            abandoned: self.abandoned.load(Ordering::Relaxed),
            turned_away: self.turned_away.load(Ordering::Relaxed),
        }
    }

    /// Requests that workers have answered, well or not.
    pub(crate) fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }
}
