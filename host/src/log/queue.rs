//! The lines on their way to standard error, and the thread that writes them.
//!
//! They are put one after the other into one buffer, which the thread takes as a whole. There
//! is a line for each request, which is neither allocated nor sent for itself.

use std::io::{self, Write};
use std::mem;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use tracing_subscriber::fmt::MakeWriter;

/// Lines that may wait.
const MAX_LINES: usize = 8192;

/// Bytes of all lines that may wait.
const MAX_BYTES: usize = 16 << 20;

/// Bytes that are written at a time, so that room is made as a slow reader goes on; and what
/// is kept of a buffer that had to hold more.
const PIECE: usize = 64 << 10;

/// How long lines gather after some were written, so that the thread is not woken for each. What
/// gathers in a longer time keeps it, and whoever needs its processor, busy for longer.
const GATHER: Duration = Duration::from_millis(1);

/// How long the end waits for what is still to be written.
const LAST: Duration = Duration::from_secs(1);

/// Lines from whoever has some to the thread.
#[derive(Clone, Default)]
pub(super) struct Queue(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    /// There are lines again, or it is over.
    wake: Condvar,
    /// The thread has ended.
    ended: Condvar,
}

#[derive(Default)]
struct State {
    /// What the thread has not taken yet.
    lines: Vec<u8>,
    /// Lines that are not written yet, those that the thread has taken too.
    count: usize,
    /// The bytes of these.
    bytes: usize,
    /// Lines that found no room, or could not be written.
    dropped: usize,
    /// The thread waits for lines.
    is_asleep: bool,
    is_over: bool,
    has_ended: bool,
}

impl Queue {
    /// Adds a line, which ends with a line feed, or drops it when too much waits. (Some have
    /// further ones in them, and count as several.)
    pub(super) fn push(&self, line: &[u8]) {
        let count = count(line);
        let mut state = self.0.lock();
        if state.count >= MAX_LINES || state.bytes + line.len() > MAX_BYTES {
            state.dropped += count;
            return;
        }
        state.count += count;
        state.bytes += line.len();
        state.lines.extend_from_slice(line);
        if mem::take(&mut state.is_asleep) {
            drop(state);
            self.0.wake.notify_one();
        }
    }

    /// Lines that were dropped so far.
    pub(super) fn dropped(&self) -> usize {
        self.0.lock().dropped
    }

    /// Starts the thread.
    ///
    /// # Errors
    /// When there can be no thread more.
    pub(super) fn write_to(&self, out: impl Write + Send + 'static) -> io::Result<()> {
        let sink = Sink { queue: self.clone(), out, cut_off: false };
        thread::Builder::new().name("log".into()).spawn(|| sink.run()).map(drop)
    }

    /// Waits until everything is written, but no longer than [`LAST`].
    pub(super) fn end(&self) {
        let mut state = self.0.lock();
        state.is_over = true;
        self.0.wake.notify_one();
        let wait = self.0.ended.wait_timeout_while(state, LAST, |state| !state.has_ended);
        drop(wait);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for lines and takes them all; `false` when it is over.
    fn take(&self, lines: &mut Vec<u8>) -> bool {
        let mut state = self.lock();
        while state.lines.is_empty() && !state.is_over {
            state.is_asleep = true;
            state = self.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        mem::swap(&mut state.lines, lines);
        !lines.is_empty()
    }

    /// Waits for [`GATHER`], unless it is over.
    fn gather(&self) {
        let state = self.lock();
        drop(self.wake.wait_timeout_while(state, GATHER, |state| !state.is_over));
    }
}

impl<'a> MakeWriter<'a> for Queue {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line(self)
    }
}

/// One line, which is written at once.
pub(super) struct Line<'a>(&'a Queue);

impl Write for Line<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Where the thread writes. What cannot be written is dropped and counted; as soon as lines
/// get through again, one of them says how many did not.
struct Sink<W> {
    queue: Queue,
    out: W,
    /// Whether the last line that was begun is not whole.
    cut_off: bool,
}

impl<W: Write> Sink<W> {
    fn run(mut self) {
        let shared = Arc::clone(&self.queue.0);
        let mut lines = Vec::new();
        let mut reported = 0;
        while shared.take(&mut lines) {
            let all = self.write_out(&lines);
            let dropped = self.queue.dropped();
            if all && dropped > reported {
                // It comes back here by way of the queue. If that has filled up meanwhile, the
                // next time tries again.
                tracing::warn!(lines = dropped - reported, "log lines were dropped");
                if self.queue.dropped() == dropped {
                    reported = dropped;
                }
            }
            lines.clear();
            lines.shrink_to(PIECE);
            shared.gather();
        }
        shared.lock().has_ended = true;
        shared.ended.notify_one();
    }

    /// Writes lines; whether all of them got through.
    fn write_out(&mut self, lines: &[u8]) -> bool {
        if self.cut_off && self.write(b"\n").is_err() {
            self.done(lines, lines);
            return false;
        }
        let mut rest = lines;
        while !rest.is_empty() {
            let piece = rest.get(..PIECE).unwrap_or(rest);
            match self.write(piece) {
                Ok(written) => {
                    let (written, more) = rest.split_at(written.min(rest.len()));
                    self.done(written, b"");
                    rest = more;
                }
                Err(_) => break,
            }
        }
        self.done(rest, rest);
        rest.is_empty()
    }

    /// How many bytes were written, at least one.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match self.out.write(bytes) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    self.cut_off = bytes.get(written - 1).is_some_and(|last| *last != b'\n');
                    return Ok(written);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// So much waits no longer; of it, so much was not written.
    fn done(&self, lines: &[u8], unwritten: &[u8]) {
        let (bytes, lines, unwritten) = (lines.len(), count(lines), count(unwritten));
        let mut state = self.queue.0.lock();
        state.count -= lines;
        state.bytes -= bytes;
        state.dropped += unwritten;
    }
}

fn count(lines: &[u8]) -> usize {
    memchr::memchr_iter(b'\n', lines).count()
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, channel};
    use std::time::Instant;

    use super::*;

    /// Takes nothing until it is told to, and then everything, line by line.
    struct Blocked(Receiver<()>, Arc<Mutex<Vec<u8>>>);

    impl Write for Blocked {
        fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
            let _ = self.0.recv_timeout(Duration::from_secs(60));
            let line = lines.split_inclusive(|byte| *byte == b'\n').next().unwrap_or_default();
            self.1.lock().expect("not poisoned").extend_from_slice(line);
            Ok(line.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn what_waits_has_bounds_and_comes_out_whole() {
        let long = [vec![b'x'; (1 << 20) - 1], vec![b'\n']].concat();
        for (line, fit) in [(long, 16), (b"a line\n".to_vec(), MAX_LINES)] {
            let (unblock, blocked) = channel();
            let (queue, out) = (Queue::default(), Arc::default());
            queue.write_to(Blocked(blocked, Arc::clone(&out))).expect("a thread");
            let many = fit + 100;
            for _ in 0..many {
                queue.make_writer().write_all(&line).expect("never refused");
                assert!(queue.0.lock().bytes <= MAX_BYTES);
                assert!(queue.0.lock().count <= MAX_LINES);
            }
            assert_eq!(queue.dropped(), 100);
            drop(unblock);
            queue.end();
            assert_eq!(*out.lock().expect("not poisoned"), line.repeat(fit));
            let state = queue.0.lock();
            assert_eq!((state.count, state.bytes, state.dropped), (0, 0, 100));
        }
    }

    #[test]
    fn an_end_does_not_wait_for_ever() {
        let (unblock, blocked) = channel();
        let queue = Queue::default();
        queue.write_to(Blocked(blocked, Arc::default())).expect("a thread");
        queue.push(b"a line\n");
        let start = Instant::now();
        queue.end();
        assert!(start.elapsed() >= LAST);
        assert!(!queue.0.lock().has_ended);
        drop(unblock);
    }
}
