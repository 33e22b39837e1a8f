//! Standard error: the access log and the events of the server.
//!
//! Lines go through a bounded queue to a thread of their own. A standard error
//! that is blocked or full costs lines, which are counted, and never a request.
//! Each is one line of text, or one JSON object, of nothing but what shows: what others wrote
//! is made [`printable`].

mod access;
mod backlog;
mod budget;
mod format;
mod queue;
mod throttle;

use std::io::{IsTerminal as _, Write as _};
use std::sync::{Arc, OnceLock};
use std::time::{Instant, SystemTime};

use ablation::Trick;
use anyhow::Context as _;
use sandbox::{Captured, Frame};
use tracing_subscriber::field::MakeExt as _;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::format::debug_fn;

pub(crate) use self::access::AccessLogEntry;
pub(crate) use self::budget::Budget;
use self::format::{Lines, OUTPUT, write_field};
use self::queue::Queue;
pub(crate) use self::throttle::Throttle;
use crate::config::{LogFormat, Verbosity};
use crate::observe::symbolize::Symbols;

/// Lines of a handler's output in the log, for each request.
const MAX_OUTPUT_LINES: usize = 256;

/// Where lines of the access log go that are put together by hand.
static LINES: OnceLock<(Queue, LineFormat)> = OnceLock::new();

/// How such a line is put together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LineFormat {
    /// As text without colours.
    Plain,
    Json,
}

/// What is known of lines that did not get through.
#[derive(Clone)]
pub struct Losses(Option<Queue>);

/// The log while it is in use; dropping it writes out what is queued.
pub struct Log(Option<Queue>);

impl Log {
    /// What counts the lines that do not get through.
    #[must_use]
    pub fn losses(&self) -> Losses {
        Losses(self.0.clone())
    }
}

impl Losses {
    /// Lines that did not get through so far.
    #[must_use]
    pub fn dropped_lines(&self) -> usize {
        self.0.as_ref().map_or(0, |queue| queue.dropped().lines)
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        if let Some(queue) = &self.0 {
            queue.end();
        }
    }
}

/// Starts logging. Call once in a process.
///
/// # Errors
/// When its thread cannot be started.
pub fn start(format: LogFormat, verbosity: Verbosity) -> anyhow::Result<Log> {
    if format == LogFormat::Off {
        return Ok(Log(None));
    }
    let queue = Queue::default();
    queue.write_to(std::io::stderr()).context("starting the log's thread")?;
    let level = match verbosity {
        Verbosity::Full => LevelFilter::INFO,
        Verbosity::Requests | Verbosity::Warnings => LevelFilter::WARN,
    };
    // Where events are not wanted, lines of the access log cannot be such.
    let colours = std::io::stderr().is_terminal()
        && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty())
        && verbosity == Verbosity::Full;
    let by_hand = match format {
        LogFormat::Json => Some(LineFormat::Json),
        _ if Trick::PlainLines.is_left_out() => None,
        LogFormat::Text | LogFormat::Off => (!colours).then_some(LineFormat::Plain),
    };
    if let Some(by_hand) = by_hand.filter(|_| verbosity != Verbosity::Warnings) {
        // A process logs once.
        let _ = LINES.set((queue.clone(), by_hand));
    }
    let lines = Lines { queue: queue.clone(), json: format == LogFormat::Json };
    let log = tracing_subscriber::fmt().with_writer(lines).with_ansi(colours).with_max_level(level);
    match format {
        LogFormat::Json => {
            // The name of what is logged would stand in the way of a request's target.
            log.json().flatten_event(true).with_target(false).init();
            // What a panic would print is no JSON.
            std::panic::set_hook(Box::new(|panic| tracing::error!("{panic}")));
        }
        LogFormat::Text | LogFormat::Off => {
            log.fmt_fields(debug_fn(write_field).delimited(" ")).init();
        }
    }
    Ok(Log(Some(queue)))
}

/// Prints a line of the banner, where the log is not JSON.
pub(crate) fn banner(line: &str) {
    // A closed standard error is no reason not to serve.
    let _ = writeln!(std::io::stderr(), "{}", printable::line(line));
}

/// Prints why the process ends, in the format of its log, which has ended.
pub fn failure(format: LogFormat, error: &anyhow::Error) {
    let line = match format {
        LogFormat::Json => {
            let line = serde_json::json!({
                "timestamp": humantime::format_rfc3339_micros(SystemTime::now()).to_string(),
                "level": "ERROR",
                "message": format!("{error:#}"),
            });
            printable::json(&line.to_string()).into_owned()
        }
        LogFormat::Text | LogFormat::Off => {
            printable::line(&format!("error: {error:#}")).into_owned()
        }
    };
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Logs where in a handler a call ended, the innermost function first: in the background, if
/// there are lines to be found; as far as the budget of its route goes.
pub(crate) fn backtrace(
    number: u64,
    frames: Vec<Frame>,
    symbols: Option<Arc<Symbols>>,
    budget: &Arc<Budget>,
) {
    if frames.is_empty() || !tracing::enabled!(tracing::Level::WARN) {
        return;
    }
    let bytes = frames.iter().map(|frame| frame.function.as_ref().map_or(0, String::len)).sum();
    if !budget.take(bytes, Instant::now()) {
        return budget.refuse(1, bytes as u64);
    }
    let Some(symbols) = symbols else { return write_backtrace(number, &frames, &[]) };
    tokio::spawn(async move {
        let offsets: Vec<_> = frames.iter().filter_map(|frame| frame.offset).collect();
        let lines = symbols.lines(&offsets).await;
        let lines: Vec<_> = offsets.into_iter().zip(lines).collect();
        write_backtrace(number, &frames, &lines);
    });
}

fn write_backtrace(number: u64, frames: &[Frame], lines: &[(usize, Option<String>)]) {
    let told = |frame: &Frame| {
        let function = frame.function.clone();
        let function = function.unwrap_or_else(|| format!("function {}", frame.index));
        let line = lines.iter().find(|(offset, _)| Some(*offset) == frame.offset);
        match line.and_then(|(_, line)| line.as_ref()) {
            Some(line) => format!("{function} ({line})"),
            None => function,
        }
    };
    let backtrace = frames.iter().map(told).collect::<Vec<_>>().join(" < ");
    tracing::warn!(target: OUTPUT, request = number, backtrace);
}

/// Logs what a handler wrote to its standard output and error, line by line, as far as the
/// budget of its route goes.
pub(crate) fn captured(number: u64, captured: &Captured, budget: &Arc<Budget>) {
    let nothing = captured.bytes.is_empty() && captured.dropped == 0;
    if nothing || !tracing::enabled!(tracing::Level::INFO) {
        return;
    }
    let now = Instant::now();
    let mut rest = captured.bytes.as_slice();
    let mut fits = true;
    for _ in 0..MAX_OUTPUT_LINES {
        if rest.is_empty() {
            break;
        }
        let end = memchr::memchr(b'\n', rest).unwrap_or(rest.len());
        fits = budget.take(end, now);
        if !fits {
            break;
        }
        let (line, more) = rest.split_at(end);
        rest = more.get(1..).unwrap_or_default();
        let output = &*String::from_utf8_lossy(line);
        tracing::info!(target: OUTPUT, request = number, output);
    }
    let dropped = captured.dropped.saturating_add(rest.len() as u64);
    if dropped == 0 {
        return;
    }
    // To tell of it takes a line, too.
    if fits && budget.take(0, now) {
        tracing::warn!(target: OUTPUT, request = number, dropped, "bytes of output dropped");
    } else {
        let ends = memchr::memchr_iter(b'\n', rest).count();
        let lines = ends + usize::from(rest.last().is_some_and(|last| *last != b'\n'));
        budget.refuse(lines as u64, dropped);
    }
}
