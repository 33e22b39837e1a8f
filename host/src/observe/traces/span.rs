//! The spans of one request: when each stage of it was, and what there is to say of it.
//!
//! Names and attributes are those of OpenTelemetry's conventions for HTTP servers; what those have no name for begins
//! with `swapbox.`. A query is left out, since it may hold secrets.

use std::borrow::Cow;
use std::net::IpAddr;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use rustix::rand::{GetRandomFlags, getrandom};
use sandbox::{Timing, monotonic};

use super::context::{Parent, SpanContext};
use crate::observe::metrics::{Layer, known_method};

/// Bytes of an authority that are told.
const MAX_AUTHORITY: usize = 256;

/// The most stages of a request.
const MAX_STAGES: u64 = 5;

/// A stage of a request that has a span of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// It waits until it is its client's turn.
    Queue,
    /// It waits for its worker to begin.
    HandOver,
    /// Its instance is made.
    Instantiate,
    /// Its handler runs.
    Call,
    /// Its response is written.
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

/// What there is to say of a request that has ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ended<'a> {
    pub(crate) number: u64,
    pub(crate) method: &'a [u8],
    pub(crate) target: &'a [u8],
    pub(crate) scheme: &'static str,
    pub(crate) client: Option<IpAddr>,
    /// The prefix of its handler.
    pub(crate) route: Option<&'a str>,
    pub(crate) status: u16,
    /// 0, if no worker had it.
    pub(crate) worker: u32,
    pub(crate) error: Option<&'a str>,
    pub(crate) stopped_by: Option<Layer>,
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

/// The value of an attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    Text(String),
    Number(u64),
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

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The name of a request's span: its method and its handler's prefix, of which there are few.
fn name(request: &Ended<'_>) -> String {
    let method = match known_method(request.method) {
        Some(method) => method,
        None => "HTTP",
    };
    request.route.map_or_else(|| method.to_owned(), |route| format!("{method} {route}"))
}

fn attributes(request: &Ended<'_>, authority: &str) -> Vec<(&'static str, Value)> {
    let Ended { number, method, target, scheme, client, route, status, worker, .. } = *request;
    let known = known_method(method);
    let (address, port) = address_and_port(authority);
    let original = || Some(text(method)).filter(|_| known.is_none() && !method.is_empty());
    let texts = [
        ("http.request.method", Some(known.unwrap_or("_OTHER").to_owned())),
        ("http.request.method_original", original()),
        ("url.path", Some(text(path(target))).filter(|path| !path.is_empty())),
        ("url.scheme", Some(scheme.to_owned())),
        ("http.route", route.map(str::to_owned)),
        ("server.address", Some(address.to_owned()).filter(|address| !address.is_empty())),
        ("client.address", client.map(|client| client.to_string())),
        ("error.type", error_type(request).map(Cow::into_owned)),
    ];
    let numbers = [
        ("http.response.status_code", Some(status.into())),
        ("server.port", port),
        ("swapbox.request", Some(number)),
        ("swapbox.worker", Some(worker.into()).filter(|_| worker > 0)),
    ];
    let texts = texts.into_iter().filter_map(|(key, value)| Some((key, Value::Text(value?))));
    let numbers = numbers.into_iter().filter_map(|(key, value)| Some((key, Value::Number(value?))));
    texts.chain(numbers).collect()
}

/// What kind of error it was: the layer that ended the call, else the status.
fn error_type(request: &Ended<'_>) -> Option<Cow<'static, str>> {
    match (request.stopped_by, request.status) {
        (Some(layer), _) => Some(layer.name().replace(' ', "_").into()),
        (None, 499) => Some("client_gone".into()),
        (None, status @ 500..) => Some(status.to_string().into()),
        // The response was not written whole.
        (None, 0..400) if request.error.is_some() => Some("broken_off".into()),
        _ => None,
    }
}

/// The path of a request target, in whichever form.
fn path(target: &[u8]) -> &[u8] {
    let start = match target.first() {
        Some(b'/' | b'*') => 0,
        _ => match target.windows(3).position(|three| three == b"://") {
            Some(at) => {
                let authority = target.iter().skip(at + 3).position(|byte| b"/?".contains(byte));
                authority.map_or(target.len(), |length| at + 3 + length)
            }
            None => 0,
        },
    };
    let path = target.get(start..).unwrap_or_default();
    path.split(|byte| *byte == b'?').next().unwrap_or_default()
}

/// A host without the brackets of IPv6, and a port.
fn address_and_port(authority: &str) -> (&str, Option<u64>) {
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, port.parse::<u16>().ok()),
        _ => (authority, None),
    };
    let inner = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    (inner.unwrap_or(host), port.map(Into::into))
}

#[cfg(test)]
mod tests {
    use super::*;

    const USUAL: Ended<'static> = Ended {
        number: 7,
        method: b"GET",
        target: b"/files/a?token=x",
        scheme: "http",
        client: Some(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST)),
        route: Some("/files"),
        status: 200,
        worker: 3,
        error: None,
        stopped_by: None,
    };

    fn value(request: &Ended<'_>, key: &str) -> Option<String> {
        let all = attributes(request, "[::1]:8885");
        let found = all.into_iter().find(|(other, _)| *other == key)?;
        Some(match found.1 {
            Value::Text(text) => text,
            Value::Number(number) => number.to_string(),
        })
    }

    #[test]
    fn spans_are_named_by_what_there_is_little_of() {
        for (method, route, expected) in [
            (&b"GET"[..], Some("/files"), "GET /files"),
            (b"BREW", Some("/"), "HTTP /"),
            (b"POST", None, "POST"),
            (b"", None, "HTTP"),
        ] {
            assert_eq!(name(&Ended { method, route, ..USUAL }), expected);
        }
    }

    #[test]
    fn attributes_are_those_of_the_conventions() {
        for (key, expected) in [
            ("http.request.method", "GET"),
            ("url.path", "/files/a"),
            ("url.scheme", "http"),
            ("http.route", "/files"),
            ("http.response.status_code", "200"),
            ("server.address", "::1"),
            ("server.port", "8885"),
            ("client.address", "127.0.0.1"),
            ("swapbox.request", "7"),
            ("swapbox.worker", "3"),
        ] {
            assert_eq!(value(&USUAL, key).as_deref(), Some(expected), "{key}");
        }
        for key in ["error.type", "http.request.method_original"] {
            assert_eq!(value(&USUAL, key), None, "{key}");
        }
        let other = Ended { method: b"BREW", ..USUAL };
        assert_eq!(value(&other, "http.request.method").as_deref(), Some("_OTHER"));
        assert_eq!(value(&other, "http.request.method_original").as_deref(), Some("BREW"));
    }

    #[test]
    fn errors_have_a_type() {
        let error = Some("why");
        for (status, stopped_by, error, expected) in [
            (504, Some(Layer::Deadline), error, Some("deadline")),
            (502, Some(Layer::ResponseCheck), error, Some("response_check")),
            (503, None, error, Some("503")),
            (500, None, None, Some("500")),
            (499, None, error, Some("client_gone")),
            (404, None, error, None),
            (200, None, error, Some("broken_off")),
        ] {
            let request = Ended { status, stopped_by, error, ..USUAL };
            assert_eq!(error_type(&request).as_deref(), expected, "{status}");
        }
    }

    #[test]
    fn a_path_is_that_of_any_target() {
        for (target, expected) in [
            ("/a/b?c/d", "/a/b"),
            ("*", "*"),
            ("http://a:1/b?c", "/b"),
            ("http://a?c", ""),
            ("https://a", ""),
            ("a:1", "a:1"),
            ("", ""),
        ] {
            assert_eq!(path(target.as_bytes()), expected.as_bytes(), "{target}");
        }
    }

    #[test]
    fn a_port_is_none_of_an_address() {
        for (authority, expected) in [
            ("a", ("a", None)),
            ("a:80", ("a", Some(80))),
            ("a:x", ("a", None)),
            ("[::1]", ("::1", None)),
            ("[::1]:80", ("::1", Some(80))),
            ("", ("", None)),
        ] {
            assert_eq!(address_and_port(authority), expected);
        }
    }

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
