//! The audit: a line of JSON for every host call of a handler.
//!
//! The lines go through a pipe, each in one write, so that all workers, threads or
//! processes, can share it. A full pipe makes the guest wait, and ends its call at the
//! deadline: no guest goes on after a host call that could not be told of. Dropping a
//! handle is no call and has no line.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;
use serde::Serialize;

use super::DeadlinePassed;
use crate::denials::DeniedBy;

/// The most bytes of a path that a line repeats. With two of them, each byte escaped by six,
/// a line is shorter than what a pipe takes in one piece (`PIPE_BUF`, 4,096 bytes).
const MAX_PATH: usize = 256;

/// The most bytes of a reason that a line repeats, for the same.
const MAX_REASON: usize = 100;

/// How long the line of a host call that ended its guest may wait for room.
const LAST_LINE: Duration = Duration::from_millis(20);

/// Where the lines go.
#[derive(Debug)]
pub struct Audit(OwnedFd);

impl Audit {
    /// Lines go into this pipe, which no longer blocks then.
    ///
    /// # Errors
    /// When the kernel refuses that.
    pub fn new(pipe: OwnedFd) -> Result<Self, Errno> {
        fcntl_setfl(&pipe, fcntl_getfl(&pipe)? | OFlags::NONBLOCK)?;
        Ok(Self(pipe))
    }

    /// The pipe, to be handed to a worker process.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    /// Writes a line when there is room for it, by that time or not at all.
    fn write(&self, record: &Record<'_>, until: Instant) -> Result<(), DeadlinePassed> {
        let line = serde_json::to_string(record).map_err(|_| DeadlinePassed)?;
        let mut line = printable::json(&line).into_owned();
        line.push('\n');
        loop {
            match rustix::io::write(&self.0, line.as_bytes()) {
                Ok(written) if written == line.len() => return Ok(()),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => self.wait_for_room(until)?,
                // The server ends.
                Ok(_) | Err(_) => return Err(DeadlinePassed),
            }
        }
    }

    fn wait_for_room(&self, until: Instant) -> Result<(), DeadlinePassed> {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(DeadlinePassed);
        }
        let left = Timespec::try_from(left).map_err(|_| DeadlinePassed)?;
        // Room for less than this line ends the wait, too, and is looked at again.
        let _ = poll(&mut [PollFd::new(&self.0, PollFlags::OUT)], Some(&left));
        Ok(())
    }
}

/// A line of the audit.
#[derive(Serialize)]
struct Record<'a> {
    request: u64,
    interface: &'static str,
    function: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    other_path: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<u64>,
    outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    microseconds: u64,
}

/// What a host call is about.
#[derive(Clone, Copy, Debug)]
pub(super) enum Argument<'a> {
    None,
    Path(&'a str),
    Paths(&'a str, &'a str),
    /// Bytes that are read, written or asked for.
    Bytes(u64),
}

/// The audit of one handler call.
pub(super) struct Trail {
    audit: Arc<Audit>,
    request: u64,
    deadline: Instant,
    current: Option<HostCall>,
}

/// A host call that has begun.
pub(super) struct HostCall {
    interface: &'static str,
    function: &'static str,
    paths: [Option<String>; 2],
    bytes: Option<u64>,
    begun: Instant,
    refused: Option<(Outcome, String)>,
}

/// How a host call ended, where not well.
#[derive(Clone, Copy, Debug)]
pub(super) enum Outcome {
    /// The monitor did not allow it, or the quota had no room.
    Denied(DeniedBy),
    /// The host call was allowed, and failed.
    Failed,
    /// The host call ended the guest.
    Trapped,
}

impl Outcome {
    fn name(self) -> &'static str {
        match self {
            Self::Denied(_) => "denied",
            Self::Failed => "failed",
            Self::Trapped => "trapped",
        }
    }
}

impl Trail {
    pub(super) fn new(audit: Arc<Audit>, request: u64, deadline: Instant) -> Self {
        Self { audit, request, deadline, current: None }
    }

    pub(super) fn begin(
        &mut self,
        interface: &'static str,
        function: &'static str,
        argument: Argument<'_>,
    ) {
        let (paths, bytes) = match argument {
            Argument::None => ([None, None], None),
            Argument::Path(path) => ([Some(shown(path, MAX_PATH)), None], None),
            Argument::Paths(path, other) => {
                ([path, other].map(|path| Some(shown(path, MAX_PATH))), None)
            }
            Argument::Bytes(bytes) => ([None, None], Some(bytes)),
        };
        let begun = Instant::now();
        self.current = Some(HostCall { interface, function, paths, bytes, begun, refused: None });
    }

    /// Whether a host call has begun, and is not over.
    pub(super) fn is_in_call(&self) -> bool {
        self.current.is_some()
    }

    /// The current host call, which is interrupted.
    pub(super) fn take(&mut self) -> Option<HostCall> {
        self.current.take()
    }

    /// Goes on with a host call that was interrupted.
    pub(super) fn put_back(&mut self, call: HostCall) {
        self.current = Some(call);
    }

    /// The current host call did not end well.
    pub(super) fn refused(&mut self, outcome: Outcome, reason: &str) {
        if let Some(call) = &mut self.current {
            call.refused = Some((outcome, shown(reason, MAX_REASON)));
        }
    }

    /// The current host call is over.
    ///
    /// # Errors
    /// When it could not be told of by the deadline.
    pub(super) fn end(&mut self) -> Result<(), DeadlinePassed> {
        self.end_by(self.deadline)
    }

    fn end_by(&mut self, until: Instant) -> Result<(), DeadlinePassed> {
        let Some(call) = self.current.take() else { return Ok(()) };
        let refused = call.refused.as_ref();
        let record = Record {
            request: self.request,
            interface: call.interface,
            function: call.function,
            path: call.paths[0].as_deref(),
            other_path: call.paths[1].as_deref(),
            bytes: call.bytes,
            outcome: refused.map_or("allowed", |(outcome, _)| outcome.name()),
            reason: refused.map(|(_, reason)| reason.as_str()),
            microseconds: u64::try_from(call.begun.elapsed().as_micros()).unwrap_or(u64::MAX),
        };
        self.audit.write(&record, until)
    }
}

/// The handler call is over: a host call that has not ended was its end.
impl Drop for Trail {
    fn drop(&mut self) {
        if self.current.as_ref().is_some_and(|call| call.refused.is_none()) {
            self.refused(Outcome::Trapped, "it ended the handler");
        }
        // The call has ended: there is nothing more to keep it from.
        let _ = self.end_by(Instant::now() + LAST_LINE);
    }
}

/// As much of a text as a line has room for.
fn shown(text: &str, most: usize) -> String {
    if text.len() <= most {
        return text.to_owned();
    }
    format!("{}…", text.get(..text.floor_char_boundary(most)).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_longest_line_fits_into_a_pipe_in_one_piece() {
        for c in ["\u{1}", "\n", "\"", "\u{7f}", "\u{9b}", "\u{202e}", "\u{e0001}", "\u{10ffff}"] {
            let (read, write) = std::io::pipe().expect("a pipe");
            let audit = Arc::new(Audit::new(write.into()).expect("a pipe"));
            let mut trail = Trail::new(audit, u64::MAX, Instant::now());
            let path = c.repeat(5000);
            trail.begin(
                "wasi:filesystem/types",
                "descriptor.symlink-at",
                Argument::Paths(&path, &path),
            );
            trail.refused(Outcome::Denied(DeniedBy::Quota), &c.repeat(5000));
            drop(trail);
            rustix::io::ioctl_fionbio(&read, true).expect("a pipe");
            let line = std::io::read_to_string(read).expect("text, and nobody who could add to it");
            assert!(line.len() <= 4096, "{c:?}: {}", line.len());
            assert!(line.ends_with("}\n") && line.matches('\n').count() == 1);
            let shown = line.chars().all(|c| matches!(c, ' '..='~' | '…' | '\n'));
            assert!(shown, "{line:?}");
            let record: serde_json::Value = serde_json::from_str(&line).expect("JSON");
            let path = path.chars().take(MAX_PATH / c.len()).collect::<String>() + "…";
            assert_eq!((&record["path"], &record["other_path"]), (&json!(path), &json!(path)));
        }
    }

    #[test]
    fn a_pipe_that_nobody_reads_holds_a_call_up_to_its_deadline() {
        let (_read, write) = std::io::pipe().expect("a pipe");
        let audit = Arc::new(Audit::new(write.into()).expect("a pipe"));
        let deadline = Instant::now() + Duration::from_millis(50);
        let mut trail = Trail::new(audit, 1, deadline);
        let (sender, lines) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let written = std::iter::repeat_with(|| {
                trail.begin("wasi:clocks/monotonic-clock", "now", Argument::None);
                trail.end()
            });
            sender.send(written.take_while(Result::is_ok).count())
        });
        let lines = lines.recv_timeout(Duration::from_secs(60)).expect("it ends");
        assert!(lines > 100, "{lines}");
        assert!(Instant::now() >= deadline);
    }
}
