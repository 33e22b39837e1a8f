//! Traces for an operator's collector: a span for each request, and one for each stage of it. They go out by OTLP
//! (OpenTelemetry), from a thread of its own.
//!
//! A request never waits for that: what the thread cannot take at once is dropped and counted. A request that is not
//! told of has its context (W3C Trace Context) handed on to its handler all the same, and no clock is looked at for it.

mod attributes;
mod context;
mod encoding;
mod exporter;
mod span;

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use crossbeam_channel::{Receiver, Sender, bounded};

pub(crate) use self::attributes::Ended;
use self::context::Parent;
use self::exporter::Exporter;
use self::span::Record;
pub(crate) use self::span::{Stage, Trace};
use crate::config::{Sampler, TraceSettings};
use crate::observe::metrics::{Metrics, SpanFate};

/// Requests whose spans wait for the thread.
const QUEUE: usize = 2048;

/// How long the end waits for what is still to be sent.
const LAST: Duration = Duration::from_secs(2);

/// Which requests are told of, and the way to the thread.
pub(crate) struct Traces {
    sampler: Sampler,
    records: Sender<Record>,
    metrics: Arc<Metrics>,
}

/// The thread while the server serves. When this is dropped, what waits is sent, for at most [`LAST`].
pub(crate) struct Tracer {
    traces: Arc<Traces>,
    /// The collector's host and port.
    collector: String,
    /// Closed at the end.
    end: Option<Sender<()>>,
    finished: Receiver<()>,
}

impl Tracer {
    /// Starts the thread, which connects when there is something to send.
    ///
    /// # Errors
    /// When there can be no thread more.
    pub(crate) fn start(settings: &TraceSettings, metrics: &Arc<Metrics>) -> anyhow::Result<Self> {
        let (records, taken) = bounded(QUEUE);
        let ((end, ended), (sender, finished)) = (bounded(0), bounded(1));
        let mut exporter = Exporter::new(settings, taken, ended, Arc::clone(metrics));
        thread::Builder::new()
            .name("traces".into())
            .spawn(move || {
                exporter.run();
                // Nobody may wait for it any more.
                let _ = sender.send(());
            })
            .context("starting the thread that sends traces")?;
        let (sampler, metrics) = (settings.sampler, Arc::clone(metrics));
        let traces = Arc::new(Traces { sampler, records, metrics });
        Ok(Self { traces, collector: settings.collector(), end: Some(end), finished })
    }

    /// Says where traces go.
    pub(crate) fn introduce(&self) {
        let collector = &self.collector;
        tracing::info!(collector, "traces are sent");
    }

    /// What requests are traced by.
    pub(crate) fn traces(&self) -> Arc<Traces> {
        Arc::clone(&self.traces)
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        drop(self.end.take());
        if self.finished.recv_timeout(LAST).is_err() {
            tracing::warn!("the last traces were not sent: the collector takes its time");
        }
    }
}

impl Traces {
    /// The trace of a request, all of whose head is there; `began` is when its first bytes came.
    pub(crate) fn begin(&self, message: &[u8], began: Instant) -> Trace {
        let parent = Parent::of(message);
        let is_sampled = match &parent {
            Some(parent) if self.sampler.follows_parent => Some(parent.is_sampled),
            _ => None,
        };
        Trace::new(parent, message, |trace_id| {
            let is_sampled = is_sampled.unwrap_or_else(|| is_in(self.sampler.ratio, trace_id));
            is_sampled.then_some(began)
        })
    }

    /// Passes a request that has ended on to the thread, if it is told of and the thread has room.
    pub(crate) fn end(&self, trace: Trace, ended: &Ended<'_>) {
        let Some(record) = trace.end(ended) else { return };
        if let Err(error) = self.records.try_send(record) {
            self.metrics.spans(SpanFate::QueueFull, error.into_inner().spans());
        }
    }
}

/// Whether a trace belongs to this part of all. Services that have the same ratio come to the same: the last seven
/// bytes of an identifier are random (W3C Trace Context, level 2).
fn is_in(ratio: f64, trace_id: u128) -> bool {
    const RANDOM: u32 = 56;
    // Compared as integers, since the largest would be rounded up to what is beyond all.
    let bound = (ratio * (1_u64 << RANDOM) as f64) as u128;
    trace_id & ((1 << RANDOM) - 1) < bound
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_is_that_of_random_bits() {
        let top = 1 << 55;
        for (ratio, trace_id, expected) in [
            (1.0, u128::MAX, true),
            (0.0, 1 << 64, false),
            (0.5, u128::MAX << 56, true),
            (0.5, top, false),
            (0.5, top - 1, true),
        ] {
            assert_eq!(is_in(ratio, trace_id), expected, "{ratio} {trace_id:x}");
        }
    }
}
