//! The thread that sends spans to the collector (OTLP/HTTP).
//!
//! Spans are gathered for a while and sent as one message; one that the collector could not take is tried again
//! later. Meanwhile what waits is bounded, and what a collector does or says costs no more than a line a minute.

use std::io::Read as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, TryRecvError, select};
use ureq::Agent;
use ureq::Body;
use ureq::http::header::{CONTENT_TYPE, RETRY_AFTER};
use ureq::http::{Response, StatusCode};

use super::LAST;
use super::encoding::{self, Resource};
use super::span::Record;
use crate::config::TraceSettings;
use crate::observe::metrics::{Metrics, SpanFate};
use crate::outbound;

/// Requests whose spans are one message, mostly of a few hundred KiB.
const BATCH: usize = 256;

/// How often a message is sent, and how long to wait before the second time; twice as long before each further one.
const ATTEMPTS: u32 = 4;
const PAUSE: Duration = Duration::from_secs(1);

/// The longest that a collector may have it wait.
const MAX_PAUSE: Duration = Duration::from_secs(30);

/// Bytes of an answer that are read.
const MAX_ANSWER: u64 = 64 << 10;

/// Characters of why a collector does not take something.
const MAX_REASON: usize = 200;

/// How often it is reported at most that spans cannot be sent.
const REPORT: Duration = Duration::from_secs(60);

pub(super) struct Exporter {
    settings: TraceSettings,
    agent: Agent,
    resource: Resource,
    records: Receiver<Record>,
    /// Closed when the server ends.
    end: Receiver<()>,
    /// Until when everything has to be sent, once the server ends.
    last: Option<Instant>,
    metrics: Arc<Metrics>,
    /// When it was last reported that spans cannot be sent, if they still cannot.
    reported: Option<Instant>,
}

/// Why a message did not get through.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("{0}")]
    Transport(#[from] ureq::Error),
    #[error("its answer has the status {}", .0.as_u16())]
    Status(StatusCode, Option<Duration>),
    #[error("it rejects {0} spans: {1}")]
    Rejected(u64, String),
}

impl Exporter {
    pub(super) fn new(
        settings: &TraceSettings,
        records: Receiver<Record>,
        end: Receiver<()>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let is_secure = settings.endpoint.scheme_str() == Some("https");
        let (agent, _) = outbound::agent(is_secure);
        let resource = Resource::new(&settings.resource);
        let (last, reported, settings) = (None, None, settings.clone());
        Self { settings, agent, resource, records, end, last, metrics, reported }
    }

    /// Sends what comes until the server ends, and then what is left.
    pub(super) fn run(&mut self) {
        while let Some(batch) = self.gather() {
            self.send(&batch);
        }
    }

    /// What comes within the delay, as much as is sent at once; `None` at the end.
    fn gather(&mut self) -> Option<Vec<Record>> {
        let mut batch = Vec::new();
        let mut until = None;
        while batch.len() < BATCH {
            match self.next(until) {
                Ok(record) => {
                    batch.push(record);
                    until.get_or_insert_with(|| Instant::now() + self.settings.delay);
                }
                Err(RecvTimeoutError::Timeout) => break,
                Err(RecvTimeoutError::Disconnected) if batch.is_empty() => return None,
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        Some(batch)
    }

    /// The next that comes before a time. It is disconnected at the end, when nothing is left.
    fn next(&mut self, until: Option<Instant>) -> Result<Record, RecvTimeoutError> {
        if self.last.is_none() {
            let pause = match until {
                Some(until) => crossbeam_channel::at(until),
                None => crossbeam_channel::never(),
            };
            select! {
                recv(self.records) -> record => return record.map_err(|_| RecvTimeoutError::Disconnected),
                recv(self.end) -> _ => self.last = Some(Instant::now() + LAST),
                recv(pause) -> _ => return Err(RecvTimeoutError::Timeout),
            }
        }
        self.records.try_recv().map_err(|_: TryRecvError| RecvTimeoutError::Disconnected)
    }

    /// Sends spans, several times if need be, and counts what came of it.
    fn send(&mut self, batch: &[Record]) {
        let message = encoding::request(&self.resource, batch);
        let spans = batch.iter().map(Record::spans).sum();
        for attempt in 1..=ATTEMPTS {
            let failure = match self.post(&message) {
                Ok(()) => return self.sent(spans),
                Err(Failure::Rejected(rejected, why)) => {
                    let rejected = rejected.min(spans);
                    self.metrics.spans(SpanFate::Sent, spans - rejected);
                    self.metrics.spans(SpanFate::Refused, rejected);
                    return self.report(&Failure::Rejected(rejected, why));
                }
                Err(failure) => failure,
            };
            self.report(&failure);
            let pause = failure.pause(PAUSE * (1 << (attempt - 1)));
            match pause.filter(|_| attempt < ATTEMPTS) {
                Some(pause) if self.wait(pause) => {}
                _ => break,
            }
        }
        self.metrics.spans(SpanFate::Refused, spans);
    }

    /// Waits before something is tried again; whether that is to be done.
    fn wait(&mut self, pause: Duration) -> bool {
        if self.last.is_some() {
            return false;
        }
        if self.end.recv_timeout(pause) == Err(RecvTimeoutError::Disconnected) {
            self.last = Some(Instant::now() + LAST);
        }
        true
    }

    fn post(&self, message: &[u8]) -> Result<(), Failure> {
        let left = self.last.map(|last| last.saturating_duration_since(Instant::now()));
        let timeout = self.settings.timeout.min(left.unwrap_or(Duration::MAX));
        // None at all would be no bound.
        let timeout = timeout.max(Duration::from_millis(1));
        let request = self.agent.post(&self.settings.endpoint);
        let mut request = request.config().timeout_global(Some(timeout)).build();
        if let Some(headers) = request.headers_mut() {
            headers.extend(self.settings.headers.iter().cloned());
        }
        let request = request.header(CONTENT_TYPE, "application/x-protobuf");
        judge(request.send(message)?)
    }

    fn sent(&mut self, spans: u64) {
        self.metrics.spans(SpanFate::Sent, spans);
        if self.reported.take().is_some() {
            tracing::info!("traces get through again");
        }
    }

    /// Says why spans cannot be sent, now and then.
    fn report(&mut self, why: &Failure) {
        if self.reported.is_some_and(|last| last.elapsed() < REPORT) {
            return;
        }
        self.reported = Some(Instant::now());
        let collector = self.settings.collector();
        let why: String = why.to_string().chars().take(MAX_REASON).collect();
        let dropped = self.metrics.span_fates().dropped();
        tracing::warn!(collector, dropped, "the collector does not take traces: {why}");
    }
}

impl Failure {
    /// How long to wait until it is tried again, if that may help; the collector may have said how long.
    fn pause(&self, usual: Duration) -> Option<Duration> {
        match self {
            Self::Transport(_) => Some(usual),
            Self::Status(status, said) => matches!(status.as_u16(), 429 | 502..=504)
                .then(|| said.unwrap_or(usual).min(MAX_PAUSE)),
            Self::Rejected(..) => None,
        }
    }
}

/// What an answer means.
fn judge(mut response: Response<Body>) -> Result<(), Failure> {
    let status = response.status();
    if !status.is_success() {
        let seconds = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
        let pause = seconds.and_then(|seconds| seconds.parse().ok()).map(Duration::from_secs);
        return Err(Failure::Status(status, pause));
    }
    let mut answer = Vec::new();
    // It has taken the message, whatever comes of the rest.
    let _ = response.body_mut().as_reader().take(MAX_ANSWER).read_to_end(&mut answer);
    match encoding::rejected(&answer) {
        Some((rejected, why)) => Err(Failure::Rejected(rejected, why)),
        None => Ok(()),
    }
}
