//! The spans of one request: when each stage of it was.

use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use rustix::rand::{GetRandomFlags, getrandom};
use sandbox::{Timing, monotonic};

use super::attributes::{Ended, Value, attributes, name, text};
use super::context::{Parent, SpanContext};

/// Bytes of an authority that are told.
const MAX_AUTHORITY: usize = 256;

/// The most stages of a request.
const MAX_STAGES: u64 = 5;

/// A stage of a request that has a span of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// The request waits until it is its client's turn.
    Queue,
    /// The request waits for its worker to begin.
    HandOver,
    /// The instance is made.
    Instantiate,
    /// The handler runs.
    Call,
    /// The response is written.
    Write,
}

/// The trace of a request that is being served.
pub(crate) struct Trace {
    context: SpanContext,
    parent: Option<u64>,
    state: String,
    /// Of one that is told of.
    timeline: Option<Timeline>,
}

/// When the stages of a request were, by [`monotonic`].
struct Timeline {
    began: Duration,
    /// What the client calls the server.
    authority: String,
    ended: Vec<StageSpan>,
    open: Option<(Stage, Duration)>,
}

/// When one stage was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct StageSpan {
    pub(super) stage: Stage,
    pub(super) began: Duration,
    pub(super) ended: Duration,
}

/// A request that has ended, for the thread that sends it.
pub(super) struct Record {
    pub(super) context: SpanContext,
    pub(super) parent: Option<u64>,
    pub(super) state: String,
    pub(super) name: String,
    pub(super) began: Duration,
    pub(super) ended: Duration,
    /// What to add to a time to have it since 1970.
    pub(super) epoch: Duration,
    pub(super) stages: Vec<StageSpan>,
    pub(super) attributes: Vec<(&'static str, Value)>,
    /// Why the server did not do what it was asked for.
    pub(super) failure: Option<String>,
}

impl Stage {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Queue => "queue",
            Self::HandOver => "hand-over",
            Self::Instantiate => "instantiate",
            Self::Call => "call",
            Self::Write => "write",
        }
    }
}

impl Trace {
    /// A span in the parent's trace, or in one of its own. `sampled` says of a trace when the request began, if it is
    /// told of.
    pub(super) fn new(
        parent: Option<Parent>,
        message: &[u8],
        sampled: impl FnOnce(u128) -> Option<Instant>,
    ) -> Self {
        let (new_trace_id, span_id) = random_ids();
        let (trace_id, parent, state) = match parent {
            Some(parent) => (parent.trace_id, Some(parent.span_id), parent.state),
            None => (new_trace_id, None, String::new()),
        };
        let timeline = sampled(trace_id).map(|began| Timeline {
            began: monotonic().saturating_sub(began.elapsed()),
            authority: authority(message),
            ended: Vec::with_capacity(MAX_STAGES as usize),
            open: None,
        });
        let context = SpanContext { trace_id, span_id, is_sampled: timeline.is_some() };
        Self { context, parent, state, timeline }
    }

    /// The request as its handler gets it: this span is its parent.
    pub(crate) fn hand_on(&self, message: &Bytes) -> Bytes {
        let taken = match self.state.is_empty() {
            true => &["traceparent", "tracestate"][..],
            false => &["traceparent"],
        };
        http1::with_field(message, taken, "traceparent", &self.context.to_string())
    }

    /// Whether the request is told of.
    pub(crate) fn is_sampled(&self) -> bool {
        self.timeline.is_some()
    }

    /// A stage begins, and with it ends the one before.
    pub(crate) fn enter(&mut self, stage: Stage) {
        if let Some(timeline) = &mut self.timeline {
            let now = monotonic();
            timeline.close(now);
            timeline.open = Some((stage, now));
        }
    }

    /// The handler's call is over, which took so long. When its parts were is the word of a worker.
    pub(crate) fn called(&mut self, elapsed: Duration, timing: Option<Timing>) {
        if let Some(timeline) = &mut self.timeline {
            timeline.called(elapsed, timing, monotonic());
        }
    }

    /// What is told of the request, if it is.
    pub(super) fn end(self, request: &Ended<'_>) -> Option<Record> {
        let mut timeline = self.timeline?;
        let ended = monotonic();
        timeline.close(ended);
        let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let failure = (request.status >= 500).then(|| request.error.unwrap_or_default().to_owned());
        Some(Record {
            context: self.context,
            parent: self.parent,
            state: self.state,
            name: name(request),
            began: timeline.began,
            ended,
            epoch: since_1970.unwrap_or_default().saturating_sub(ended),
            stages: timeline.ended,
            attributes: attributes(request, &timeline.authority),
            failure,
        })
    }
}

impl Timeline {
    fn close(&mut self, now: Duration) {
        if let Some((stage, began)) = self.open.take() {
            self.ended.push(StageSpan { stage, began, ended: now });
        }
    }

    fn called(&mut self, elapsed: Duration, timing: Option<Timing>, now: Duration) {
        let handed_over = self.open.map_or(self.began, |(_, began)| began);
        let began = timing.map_or(now.saturating_sub(elapsed), |timing| timing.began);
        let began = began.max(handed_over).min(now);
        self.close(began);
        let ended = began.saturating_add(elapsed).min(now);
        let instantiated =
            timing.map(|timing| began.saturating_add(timing.instantiated).min(ended));
        let stages = [
            instantiated.map(|at| (Stage::Instantiate, began, at)),
            (elapsed > Duration::ZERO).then(|| (Stage::Call, instantiated.unwrap_or(began), ended)),
        ];
        let stages = stages.into_iter().flatten();
        self.ended.extend(stages.map(|(stage, began, ended)| StageSpan { stage, began, ended }));
    }
}

impl Record {
    /// How many spans it is.
    pub(super) fn spans(&self) -> u64 {
        1 + self.stages.len() as u64
    }
}

/// Identifiers of a trace and of a span; those of no two requests are alike.
fn random_ids() -> (u128, u64) {
    let mut bytes = [0; 24];
    // It never fails for so few.
    let _ = getrandom(&mut bytes, GetRandomFlags::empty());
    let (trace, span) = bytes.split_at(16);
    let trace = trace.try_into().map_or(0, u128::from_ne_bytes);
    // Zero is no identifier.
    (trace.max(1), random_span(span))
}

/// A span's identifier, behind which there are some for the stages.
fn random_span(bytes: &[u8]) -> u64 {
    bytes.try_into().map_or(0, u64::from_ne_bytes).clamp(1, u64::MAX - MAX_STAGES)
}

fn authority(message: &[u8]) -> String {
    let authority = http1::authorities(message).next().unwrap_or_default();
    text(authority.get(..MAX_AUTHORITY).unwrap_or(authority))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_lie_within_what_the_server_saw_itself() {
        let at = Duration::from_millis;
        let most = Duration::MAX;
        for (elapsed, timing, expected) in [
            (at(5), Some((at(12), at(2))), &[(10, 12), (12, 14), (14, 17)][..]),
            // By the word of a worker that lies.
            (most, Some((most, most)), &[(10, 20), (20, 20), (20, 20)]),
            (at(4), Some((at(1), most)), &[(10, 10), (10, 14), (14, 14)]),
            // Of a worker that was lost.
            (at(4), None, &[(10, 16), (16, 20)]),
            (at(0), None, &[(10, 20)]),
        ] {
            let mut timeline = Timeline {
                began: at(9),
                authority: String::new(),
                ended: Vec::new(),
                open: Some((Stage::HandOver, at(10))),
            };
            let timing = timing.map(|(began, instantiated)| Timing { began, instantiated });
            timeline.called(elapsed, timing, at(20));
            let milliseconds = |span: &StageSpan| (span.began.as_millis(), span.ended.as_millis());
            let stages: Vec<_> = timeline.ended.iter().map(milliseconds).collect();
            assert_eq!(stages, expected, "{elapsed:?} {timing:?}");
        }
    }
}
