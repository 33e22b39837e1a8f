//! Counters: of the whole server here, of each handler's requests in `requests`. One place counts, and the log
//! and the operator's listener read it.
//!
//! A request costs a few additions to words that threads share, and takes no lock.

mod requests;

use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;

pub(crate) use self::requests::{BOUNDS, RouteMetrics, SeriesSnapshot, known_method};

/// What one pool is doing. Each number is exact; read together they are of slightly
/// different moments.
#[derive(Debug, Default)]
pub struct Load {
    running: AtomicU64,
    pending: AtomicU64,
    workers: AtomicU64,
}

/// Counters of the whole server.
#[derive(Debug, Default)]
pub struct Metrics {
    requests: AtomicU64,
    ended: AtomicU64,
    done: AtomicU64,
    refused: Counters<{ Refusal::ALL.len() }>,
    abandoned: AtomicU64,
    turned_away: AtomicU64,
    failed_handshakes: AtomicU64,
    swaps: Counters<2>,
    cache_lookups: Counters<2>,
    spans: Counters<3>,
    /// Of requests that no handler has.
    stray: RouteMetrics,
}

/// Counters of a few kinds of one thing.
#[derive(Debug)]
struct Counters<const KINDS: usize>([AtomicU64; KINDS]);

/// Why a request got a 503.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The queue was full.
    Queue,
    /// The client's share of the queue was full.
    Share,
    /// There was no room in memory for its message.
    Memory,
    /// There was no room in files for its body.
    Spool,
    /// As many files were being sent as may be.
    Files,
    /// The server was shutting down.
    Draining,
}

/// What ends a handler's call that does not end well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layer {
    /// The time was up.
    Deadline,
    /// There was no memory left for the instance.
    Ceiling,
    /// WebAssembly: a trap.
    Wasm,
    /// A host call.
    Monitor,
    /// What the handler gave is no response.
    ResponseCheck,
    /// The worker was lost.
    WorkerReplaced,
}

/// What becomes of spans.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SpanFate {
    /// Spans that the collector has.
    Sent,
    /// Spans that were dropped, since too many waited.
    QueueFull,
    /// Spans that were dropped, since the collector did not take them.
    Refused,
}

/// What has become of all spans so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct SpanFates {
    pub(crate) sent: u64,
    pub(crate) queue_full: u64,
    pub(crate) refused: u64,
}

impl SpanFates {
    /// Spans that nobody has got.
    pub(crate) fn dropped(self) -> u64 {
        self.queue_full.saturating_add(self.refused)
    }
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
    /// Those of them that are being answered.
    pub active: u64,
    /// Those that got a 503.
    pub refused: u64,
    /// Those whose client went away before its answer was there.
    pub abandoned: u64,
    /// Connections over their client's share.
    pub turned_away: u64,
    /// Connections that ended in their TLS handshake, by an error or because it took too long.
    pub failed_handshakes: u64,
}

impl<const KINDS: usize> Default for Counters<KINDS> {
    fn default() -> Self {
        Self([const { AtomicU64::new(0) }; KINDS])
    }
}

impl<const KINDS: usize> Counters<KINDS> {
    fn add(&self, kind: usize) {
        self.add_some(kind, 1);
    }

    fn add_some(&self, kind: usize, count: u64) {
        if let Some(counter) = self.0.get(kind) {
            counter.fetch_add(count, Ordering::Relaxed);
        }
    }

    fn get(&self, kind: usize) -> u64 {
        self.0.get(kind).map_or(0, |counter| counter.load(Ordering::Relaxed))
    }
}

impl Refusal {
    pub(crate) const ALL: [Self; 6] =
        [Self::Queue, Self::Share, Self::Memory, Self::Spool, Self::Files, Self::Draining];

    /// The reason's name among the metrics.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Queue => "queue",
            Self::Share => "share",
            Self::Memory => "memory",
            Self::Spool => "spool",
            Self::Files => "files",
            Self::Draining => "draining",
        }
    }
}

impl Layer {
    pub(crate) const ALL: [Self; 6] = [
        Self::Deadline,
        Self::Ceiling,
        Self::Wasm,
        Self::Monitor,
        Self::ResponseCheck,
        Self::WorkerReplaced,
    ];

    /// The layer's name in the log and among the metrics.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Deadline => "deadline",
            Self::Ceiling => "ceiling",
            Self::Wasm => "wasm",
            Self::Monitor => "monitor",
            Self::ResponseCheck => "response check",
            Self::WorkerReplaced => "worker replaced",
        }
    }
}

impl Load {
    /// Sets the counters.
    pub(crate) fn set(&self, running: usize, pending: usize, workers: usize) {
        self.running.store(running as u64, Ordering::Relaxed);
        self.pending.store(pending as u64, Ordering::Relaxed);
        self.workers.store(workers as u64, Ordering::Relaxed);
    }

    /// Requests in a worker, and requests that wait for one.
    pub(crate) fn get(&self) -> (u64, u64) {
        (self.running.load(Ordering::Relaxed), self.pending.load(Ordering::Relaxed))
    }

    /// Workers, those that are being started too.
    pub(crate) fn workers(&self) -> u64 {
        self.workers.load(Ordering::Relaxed)
    }
}

impl Metrics {
    /// The next request's number, from 1.
    pub(crate) fn next_request(&self) -> u64 {
        self.requests.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// A request that had a number has ended.
    pub(crate) fn request_ended(&self) {
        self.ended.fetch_add(1, Ordering::Release);
    }

    pub(crate) fn finished(&self) {
        self.done.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn refused(&self, why: Refusal) {
        self.refused.add(why as usize);
    }

    pub(crate) fn abandoned(&self) {
        self.abandoned.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn turned_away(&self) {
        self.turned_away.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn handshake_failed(&self) {
        self.failed_handshakes.fetch_add(1, Ordering::Relaxed);
    }

    /// A handler was taken up, or refused.
    pub(crate) fn swapped(&self, is_taken: bool) {
        self.swaps.add(is_taken.into());
    }

    /// Compiled code was looked for in the cache.
    pub(crate) fn looked_up(&self, is_hit: bool) {
        self.cache_lookups.add(is_hit.into());
    }

    /// So many spans have come to this.
    pub(crate) fn spans(&self, fate: SpanFate, count: u64) {
        self.spans.add_some(fate as usize, count);
    }

    /// What has become of spans.
    pub(crate) fn span_fates(&self) -> SpanFates {
        let count = |fate: SpanFate| self.spans.get(fate as usize);
        let [sent, queue_full, refused] =
            [SpanFate::Sent, SpanFate::QueueFull, SpanFate::Refused].map(count);
        SpanFates { sent, queue_full, refused }
    }

    /// The totals now.
    #[must_use]
    pub fn totals(&self) -> Totals {
        // What has ended had begun.
        let ended = self.ended.load(Ordering::Acquire);
        let requests = self.requests.load(Ordering::Relaxed);
        Totals {
            requests,
            active: requests.saturating_sub(ended),
            refused: Refusal::ALL.into_iter().map(|why| self.refusals(why)).sum(),
            abandoned: self.abandoned.load(Ordering::Relaxed),
            turned_away: self.turned_away.load(Ordering::Relaxed),
            failed_handshakes: self.failed_handshakes.load(Ordering::Relaxed),
        }
    }

    /// Requests that workers have answered, well or not.
    pub(crate) fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    /// Requests that got a 503 for this reason.
    pub(crate) fn refusals(&self, why: Refusal) -> u64 {
        self.refused.get(why as usize)
    }

    /// Handlers that were taken up, or refused.
    pub(crate) fn swaps(&self, is_taken: bool) -> u64 {
        self.swaps.get(is_taken.into())
    }

    /// Looks into the cache of compiled code that found it there, or not.
    pub(crate) fn cache_lookups(&self, is_hit: bool) -> u64 {
        self.cache_lookups.get(is_hit.into())
    }

    /// The counters of requests that no handler has.
    pub(crate) fn stray(&self) -> &RouteMetrics {
        &self.stray
    }
}
