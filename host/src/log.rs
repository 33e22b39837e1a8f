//! Standard error: the access log and the events of the server.
//!
//! Lines go through a bounded queue to a thread of their own. A standard error
//! that is blocked or full costs lines, which are counted, and never a request.

mod access;

use std::io::{self, IsTerminal as _, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use tracing_appender::non_blocking::{NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::fmt::MakeWriter;

pub(crate) use self::access::Access;
use crate::config::LogFormat;
use crate::sandbox::Captured;

/// Lines that may wait for standard error.
const QUEUED_LINES: usize = 8192;

/// Bytes of all lines that may wait for it.
const QUEUED_BYTES: usize = 16 << 20;

/// Bytes of lines that are written at a time.
const BUFFER: usize = 64 << 10;

/// How long the log's thread lets lines gather after it has written some: it need not be
/// woken for each, and writes many at a time.
const GATHER: Duration = Duration::from_millis(5);

/// Lines of a handler's output in the log, for each request.
const MAX_OUTPUT_LINES: usize = 256;

/// Where lines of the access log go as they are: it is text, and not for a terminal.
static PLAIN: OnceLock<Queue> = OnceLock::new();

/// The log while it is in use; dropping it writes out what is queued.
pub struct Log {
    dropped: Dropped,
    _guard: Option<WorkerGuard>,
}

impl Log {
    /// Lines that did not get through so far.
    #[must_use]
    pub fn dropped_lines(&self) -> usize {
        self.dropped.lines()
    }
}

/// Lines that did not get through.
#[derive(Clone, Default)]
struct Dropped {
    /// Those that could not be written.
    unwritten: Arc<AtomicUsize>,
    /// Those that found no room in the queue.
    unqueued: Arc<AtomicUsize>,
}

impl Dropped {
    fn lines(&self) -> usize {
        self.unwritten.load(Ordering::Relaxed) + self.unqueued.load(Ordering::Relaxed)
    }
}

/// Starts logging. Call once in a process.
#[must_use]
pub fn start(format: LogFormat) -> Log {
    if format == LogFormat::Off {
        return Log { dropped: Dropped::default(), _guard: None };
    }
    let dropped = Dropped::default();
    let out = std::io::stderr();
    let lines = Vec::new();
    let waiting = Arc::new(Waiting::default());
    let sink = Sink {
        out,
        lines,
        cut_off: false,
        waiting: Arc::clone(&waiting),
        dropped: dropped.clone(),
        reported: 0,
    };
    // Its own limit, in lines alone, is never reached.
    let (writer, guard) = NonBlockingBuilder::default()
        .buffered_lines_limit(2 * QUEUED_LINES)
        .lossy(true)
        .thread_name("log")
        .finish(sink);
    let writer = Queue { writer, waiting, dropped: dropped.clone() };
    let colours = std::io::stderr().is_terminal()
        && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
    if format == LogFormat::Text && !colours {
        // A process logs once.
        let _ = PLAIN.set(writer.clone());
    }
    let lines = tracing_subscriber::fmt().with_writer(writer).with_ansi(colours);
    match format {
        // The name of what is logged would stand in the way of a request's target.
        LogFormat::Json => lines.json().flatten_event(true).with_target(false).init(),
        LogFormat::Text | LogFormat::Off => lines.init(),
    }
    Log { dropped, _guard: Some(guard) }
}

/// The way to the log's thread, on which there is room for so many lines and bytes.
#[derive(Clone)]
struct Queue {
    writer: NonBlocking,
    waiting: Arc<Waiting>,
    dropped: Dropped,
}

/// What is on its way.
#[derive(Default)]
struct Waiting {
    lines: AtomicUsize,
    bytes: AtomicUsize,
}

impl Waiting {
    fn add(&self, bytes: usize) {
        self.lines.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    fn take(&self, bytes: usize) {
        self.lines.fetch_sub(1, Ordering::Relaxed);
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    fn is_too_much(&self) -> bool {
        self.lines.load(Ordering::Relaxed) > QUEUED_LINES
            || self.bytes.load(Ordering::Relaxed) > QUEUED_BYTES
    }
}

impl<'a> MakeWriter<'a> for Queue {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line(self)
    }
}

/// One line, which is written at once.
struct Line<'a>(&'a Queue);

impl Write for Line<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let Queue { writer, waiting, dropped } = self.0;
        waiting.add(line.len());
        if waiting.is_too_much() {
            waiting.take(line.len());
            dropped.unqueued.fetch_add(1, Ordering::Relaxed);
            return Ok(line.len());
        }
        writer.clone().write(line)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Where the log's thread writes. What cannot be written is dropped and counted;
/// as soon as lines get through again, one of them says how many did not.
struct Sink<W> {
    out: W,
    lines: Vec<u8>,
    /// Whether the last line that was begun is not whole.
    cut_off: bool,
    waiting: Arc<Waiting>,
    dropped: Dropped,
    /// As many of the dropped lines have been told of.
    reported: usize,
}

impl<W: Write> Sink<W> {
    /// Writes what there is; whether all of it got through.
    fn write_out(&mut self) -> bool {
        if self.lines.is_empty() {
            return false;
        }
        if self.cut_off {
            self.lines.insert(0, b'\n');
        }
        let mut rest = &self.lines[..];
        while !rest.is_empty() {
            match self.out.write(rest) {
                Ok(written @ 1..) => rest = rest.get(written..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(0) | Err(_) => break,
            }
        }
        let written = self.lines.len() - rest.len();
        let mut unwritten = memchr::memchr_iter(b'\n', rest).count();
        match self.lines.get(..written).and_then(<[u8]>::last) {
            Some(last) => self.cut_off = *last != b'\n',
            None => unwritten -= usize::from(self.cut_off),
        }
        self.dropped.unwritten.fetch_add(unwritten, Ordering::Relaxed);
        let all = rest.is_empty();
        self.lines.clear();
        all
    }
}

impl<W: Write> Write for Sink<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.waiting.take(line.len());
        if self.lines.len() + line.len() > BUFFER {
            self.write_out();
        }
        self.lines.extend_from_slice(line);
        Ok(line.len())
    }

    /// The log's thread calls this when the queue is empty.
    fn flush(&mut self) -> io::Result<()> {
        let dropped = self.dropped.lines();
        if self.write_out() && dropped > self.reported {
            // It comes back here by way of the queue. If that has filled up meanwhile, the
            // next flush tries again.
            tracing::warn!(lines = dropped - self.reported, "log lines were dropped");
            if self.dropped.lines() == dropped {
                self.reported = dropped;
            }
        }
        thread::sleep(GATHER);
        Ok(())
    }
}

/// Prints a line of the banner.
pub fn banner(line: &str) {
    // A closed standard error is no reason not to serve.
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Logs what a handler wrote to its standard output and error, line by line.
pub(crate) fn captured(number: u64, captured: &Captured) {
    if !tracing::enabled!(tracing::Level::INFO) {
        return;
    }
    let mut rest = captured.bytes.as_slice();
    for _ in 0..MAX_OUTPUT_LINES {
        if rest.is_empty() {
            break;
        }
        let end = memchr::memchr(b'\n', rest).unwrap_or(rest.len());
        let (line, more) = rest.split_at(end);
        rest = more.get(1..).unwrap_or_default();
        // Escaped, so that it neither ends a line nor steers a terminal.
        let output = String::from_utf8_lossy(line);
        tracing::info!(target: "handler", request = number, ?output);
    }
    let dropped = captured.dropped.saturating_add(rest.len() as u64);
    if dropped > 0 {
        tracing::warn!(target: "handler", request = number, dropped, "bytes of output dropped");
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, channel};

    use super::*;

    /// Takes nothing until it is told to.
    struct Blocked(Receiver<()>);

    impl Write for Blocked {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            let _ = self.0.recv();
            Ok(line.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_that_wait_have_a_bound_on_their_bytes() {
        let (unblock, blocked) = channel();
        let (waiting, dropped) = (Arc::new(Waiting::default()), Dropped::default());
        let sink = Sink {
            out: Blocked(blocked),
            lines: Vec::new(),
            cut_off: false,
            waiting: Arc::clone(&waiting),
            dropped: dropped.clone(),
            reported: 0,
        };
        let (writer, guard) = NonBlockingBuilder::default().lossy(true).finish(sink);
        let queue = Queue { writer, waiting, dropped: dropped.clone() };
        let line = vec![b'x'; 1 << 20];
        for _ in 0..100 {
            queue.make_writer().write_all(&line).expect("never refused");
            assert!(queue.waiting.bytes.load(Ordering::Relaxed) <= QUEUED_BYTES);
        }
        // One or two are on their way out.
        assert!((82..=84).contains(&dropped.lines()), "{}", dropped.lines());
        drop(unblock);
        drop(guard);
        assert_eq!(queue.waiting.lines.load(Ordering::Relaxed), 0, "all are through");
    }
}
