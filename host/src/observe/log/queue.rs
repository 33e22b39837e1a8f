//! The lines on their way to standard error, and the thread that writes them.
//!
//! They are put one after the other into chunks, which the thread takes one at a time. There is a
//! line for each request, which is neither allocated nor sent for itself. The output of handlers
//! waits among the lines of the server, and gives way to them.

use std::io::{self, Write};
use std::mem;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use super::backlog::{Backlog, CHUNK, Chunk, DroppedLines, Kind};

/// How long lines gather after some were written, so that the thread is not woken for each. What
/// gathers in a longer time keeps it, and whoever needs its processor, busy for longer.
const GATHER: Duration = Duration::from_millis(1);

/// How long the end waits for what is still to be written.
const LAST: Duration = Duration::from_secs(1);

/// The target of events that tell of lines that were dropped: those of this module.
pub(super) const LOSS: &str = module_path!();

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
    backlog: Backlog,
    /// The thread waits for lines.
    is_asleep: bool,
    is_over: bool,
    has_ended: bool,
}

impl Queue {
    /// Adds a line, which ends with its only line feed, or drops it when too much waits.
    pub(super) fn push(&self, line: &[u8], kind: Kind) {
        let mut state = self.0.lock();
        if state.backlog.push(line, kind) && mem::take(&mut state.is_asleep) {
            drop(state);
            self.0.wake.notify_one();
        }
    }

    /// Lines that were dropped so far.
    pub(super) fn dropped(&self) -> DroppedLines {
        self.0.lock().backlog.dropped()
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

    /// Waits for lines and takes the oldest; `None` when it is over.
    fn take(&self) -> Option<Chunk> {
        let mut state = self.lock();
        while state.backlog.is_empty() && !state.is_over {
            state.is_asleep = true;
            state = self.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.backlog.take()
    }

    /// Waits for [`GATHER`], unless there are many lines or it is over.
    fn gather(&self) {
        let state = self.lock();
        if !state.backlog.is_long() {
            drop(self.wake.wait_timeout_while(state, GATHER, |state| !state.is_over));
        }
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
        let mut reported = DroppedLines::default();
        while let Some(chunk) = shared.take() {
            let written = self.write_out(&chunk.bytes);
            let is_whole = written == chunk.bytes.len();
            shared.lock().backlog.done(chunk, written);
            let dropped = self.queue.dropped();
            if is_whole && dropped != reported {
                let lines = dropped.lines - reported.lines;
                let output = dropped.output - reported.output;
                // The line comes back here by way of the queue.
                tracing::warn!(output, lines, "log lines were dropped");
                reported = dropped;
            }
            shared.gather();
        }
        shared.lock().has_ended = true;
        shared.ended.notify_one();
    }

    /// Writes lines; how many bytes got through.
    fn write_out(&mut self, lines: &[u8]) -> usize {
        if self.cut_off && self.write(b"\n").is_err() {
            return 0;
        }
        let mut rest = lines;
        while !rest.is_empty() {
            let piece = rest.get(..CHUNK).unwrap_or(rest);
            match self.write(piece) {
                Ok(written) => rest = rest.get(written..).unwrap_or_default(),
                Err(_) => break,
            }
        }
        lines.len() - rest.len()
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
}

#[cfg(test)]
mod tests {
    use crossbeam_channel::{Receiver, Sender, unbounded};
    use std::time::Instant;

    use super::*;
    use crate::observe::log::backlog::{MAX_LINES, MAX_OUTPUT_LINES};

    type Written = Arc<Mutex<Vec<u8>>>;

    /// Takes nothing until it is told to, and then everything, line by line.
    struct Blocked(Receiver<()>, Sender<()>, Written);

    impl Write for Blocked {
        fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
            let _ = self.1.send(());
            let _ = self.0.recv_timeout(Duration::from_secs(60));
            let line = lines.split_inclusive(|byte| *byte == b'\n').next().unwrap_or_default();
            self.2.lock().expect("not poisoned").extend_from_slice(line);
            Ok(line.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// A queue whose writer is blocked with its first line; what unblocks it, and what it has
    /// written.
    fn blocked() -> (Queue, Sender<()>, Written) {
        let ((unblock, blocked), (begun, begins)) = (unbounded(), unbounded());
        let (queue, out) = (Queue::default(), Arc::default());
        queue.write_to(Blocked(blocked, begun, Arc::clone(&out))).expect("a thread");
        queue.push(b"first\n", Kind::Event);
        begins.recv().expect("a write");
        (queue, unblock, out)
    }

    fn written(queue: &Queue, out: &Written) -> String {
        queue.end();
        let state = queue.0.lock();
        assert!(state.backlog.holds_nothing() && state.has_ended);
        String::from_utf8(out.lock().expect("not poisoned").clone()).expect("text")
    }

    #[test]
    fn what_waits_has_bounds_and_comes_out_whole() {
        let long = [vec![b'x'; (1 << 20) - 1], vec![b'\n']].concat();
        let short = b"a line\n".to_vec();
        for (kind, line, fit) in [
            (Kind::Event, &long, 15),
            (Kind::Event, &short, MAX_LINES - 1),
            (Kind::Output, &long, 4),
            (Kind::Output, &short, MAX_OUTPUT_LINES),
        ] {
            let (queue, unblock, out) = blocked();
            for _ in 0..fit + 100 {
                queue.push(line, kind);
            }
            let output = if kind == Kind::Output { 100 } else { 0 };
            assert_eq!(queue.dropped(), DroppedLines { lines: 100, output });
            drop(unblock);
            let line = String::from_utf8(line.clone()).expect("text");
            assert!(written(&queue, &out) == "first\n".to_owned() + &line.repeat(fit));
        }
    }

    #[test]
    fn output_gives_way_to_events_and_else_keeps_its_place() {
        let (queue, unblock, out) = blocked();
        let mut expected = String::from("first\n");
        for n in 0..MAX_OUTPUT_LINES {
            queue.push(b"output\n", Kind::Output);
            let line = format!("event {n}\n");
            queue.push(line.as_bytes(), Kind::Event);
            expected += &line;
        }
        assert_eq!(queue.dropped(), DroppedLines::default());
        let halfway = expected.replace("event", "output\nevent");
        for n in MAX_OUTPUT_LINES..MAX_LINES - 1 {
            let line = format!("event {n}\n");
            queue.push(line.as_bytes(), Kind::Event);
            expected += &line;
            let all = 1 + n + 1 + MAX_OUTPUT_LINES;
            let output = if all > MAX_LINES { MAX_OUTPUT_LINES } else { 0 };
            assert_eq!(queue.dropped(), DroppedLines { lines: output, output }, "no event");
        }
        queue.push(b"output\n", Kind::Output);
        queue.push(b"event\n", Kind::Event);
        let dropped = DroppedLines { lines: MAX_OUTPUT_LINES + 2, output: MAX_OUTPUT_LINES + 1 };
        assert_eq!(queue.dropped(), dropped, "there is no room for either");
        queue.push(b"loss\n", Kind::Loss);
        drop(unblock);
        assert!(written(&queue, &out) == expected + "loss\n");

        let (queue, unblock, out) = blocked();
        for line in halfway.lines().skip(1) {
            let kind = if line == "output" { Kind::Output } else { Kind::Event };
            queue.push(format!("{line}\n").as_bytes(), kind);
        }
        drop(unblock);
        assert!(written(&queue, &out) == halfway);
    }

    #[test]
    fn an_end_does_not_wait_for_ever() {
        let (queue, unblock, _) = blocked();
        let start = Instant::now();
        queue.end();
        assert!(start.elapsed() >= LAST);
        assert!(!queue.0.lock().has_ended);
        drop(unblock);
    }
}
