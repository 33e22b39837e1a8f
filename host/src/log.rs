//! Standard error: the access log and the events of the server.
//!
//! Lines go through a bounded queue to a thread of their own. A standard error
//! that is blocked or full costs lines, which are counted, and never a request.

use std::io::{BufWriter, IsTerminal as _, Write as _};
use std::net::SocketAddr;
use std::time::Duration;

use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};

use crate::config::LogFormat;
use crate::metrics::Snapshot;
use crate::sandbox::Captured;

/// Lines that may wait for standard error.
const QUEUED_LINES: usize = 8192;

/// Characters of a request's target in the log.
const MAX_TARGET: usize = 512;

/// How often dropped lines are looked for.
const REPORT: Duration = Duration::from_secs(10);

/// The log while it is in use; dropping it writes out what is queued.
pub struct Log {
    dropped: Option<ErrorCounter>,
    _guard: Option<WorkerGuard>,
}

/// Starts logging. Call once in a process.
#[must_use]
pub fn start(format: LogFormat) -> Log {
    if format == LogFormat::Off {
        return Log { dropped: None, _guard: None };
    }
    let (writer, guard) = NonBlockingBuilder::default()
        .buffered_lines_limit(QUEUED_LINES)
        .lossy(true)
        .thread_name("log")
        .finish(BufWriter::new(std::io::stderr()));
    let dropped = writer.error_counter();
    let colours = std::io::stderr().is_terminal()
        && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
    let lines = tracing_subscriber::fmt().with_writer(writer).with_ansi(colours);
    match format {
        LogFormat::Json => lines.json().flatten_event(true).init(),
        LogFormat::Text | LogFormat::Off => lines.init(),
    }
    Log { dropped: Some(dropped), _guard: Some(guard) }
}

impl Log {
    /// Reports dropped lines from time to time, for as long as it is polled.
    pub async fn report_dropped(&self) {
        let Some(counter) = &self.dropped else { return std::future::pending().await };
        let mut reported = 0;
        loop {
            tokio::time::sleep(REPORT).await;
            let dropped = counter.dropped_lines();
            if dropped > reported {
                tracing::warn!(lines = dropped - reported, "log lines were dropped");
                reported = dropped;
            }
        }
    }
}

/// Prints a line of the banner.
pub fn banner(line: &str) {
    // A closed standard error is no reason not to serve.
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// One request, as the access log tells it.
pub(crate) struct Access<'a> {
    pub(crate) number: u64,
    pub(crate) client: SocketAddr,
    /// Empty where the request never got that far.
    pub(crate) method: &'a [u8],
    pub(crate) target: &'a [u8],
    pub(crate) status: u16,
    /// Bytes of the response, head and body.
    pub(crate) bytes: usize,
    /// Time in the handler.
    pub(crate) handler: Duration,
    /// The worker's number; 0 where none was asked.
    pub(crate) worker: u32,
    pub(crate) pool: Snapshot,
    /// Why it is not the handler's answer.
    pub(crate) error: Option<&'a (dyn std::fmt::Display + Sync)>,
}

impl Access<'_> {
    pub(crate) fn write(&self) {
        if !tracing::enabled!(tracing::Level::INFO) {
            return;
        }
        let error = self.error.map(tracing::field::display);
        tracing::info!(
            target: "access",
            request = self.number,
            client = %self.client,
            method = %shown(self.method),
            target = %shown(self.target),
            status = self.status,
            bytes = self.bytes,
            seconds = self.handler.as_secs_f64(),
            worker = self.worker,
            running = self.pool.running,
            pending = self.pool.pending,
            done = self.pool.done,
            error,
        );
    }
}

/// Logs what a handler wrote to its standard output and error.
pub(crate) fn captured(number: u64, captured: &Captured) {
    if captured.bytes.is_empty() {
        return;
    }
    let text = String::from_utf8_lossy(&captured.bytes);
    tracing::info!(target: "handler", request = number, dropped = captured.dropped, output = ?text);
}

fn shown(bytes: &[u8]) -> std::borrow::Cow<'_, str> {
    if bytes.is_empty() {
        return "-".into();
    }
    let kept = String::from_utf8_lossy(bytes.get(..MAX_TARGET).unwrap_or(bytes));
    // Nothing that a client sends may end a line or steer a terminal.
    match kept.bytes().all(|byte| byte.is_ascii_graphic()) {
        true => kept,
        false => kept.escape_debug().to_string().into(),
    }
}
