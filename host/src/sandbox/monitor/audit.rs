//! The audit: a line of JSON for every host call of a handler.
//!
//! The lines go through a pipe, each in one write, so that all workers, threads or
//! processes, can share it. A full pipe makes the guest wait: an audit that loses
//! lines is none. Dropping a handle is no call and has no line.

use std::time::Instant;

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use serde::Serialize;
use std::sync::Arc;

/// The most bytes of a path that a line repeats. With two of them, each byte escaped,
/// a line is shorter than what a pipe takes in one piece (`PIPE_BUF`, 4,096 bytes).
const MAX_PATH: usize = 256;

/// Where the lines go.
#[derive(Debug)]
pub struct Audit(OwnedFd);

impl Audit {
    /// Lines go into this pipe.
    #[must_use]
    pub fn new(pipe: OwnedFd) -> Self {
        Self(pipe)
    }

    /// The pipe, to be handed to a worker process.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    fn write(&self, record: &Record<'_>) {
        let Ok(mut line) = serde_json::to_vec(record) else { return };
        line.push(b'\n');
        // Nobody reads any more when the server ends.
        while rustix::io::write(&self.0, &line) == Err(Errno::INTR) {}
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
    current: Option<HostCall>,
}

/// A host call that has begun.
struct HostCall {
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
    /// The monitor did not allow it.
    Denied,
    /// It was allowed, and failed.
    Failed,
    /// It ended the guest.
    Trapped,
}

impl Outcome {
    fn name(self) -> &'static str {
        match self {
            Self::Denied => "denied",
            Self::Failed => "failed",
            Self::Trapped => "trapped",
        }
    }
}

impl Trail {
    pub(super) fn new(audit: Arc<Audit>, request: u64) -> Self {
        Self { audit, request, current: None }
    }

    pub(super) fn begin(
        &mut self,
        interface: &'static str,
        function: &'static str,
        argument: Argument<'_>,
    ) {
        let (paths, bytes) = match argument {
            Argument::None => ([None, None], None),
            Argument::Path(path) => ([Some(shown(path)), None], None),
            Argument::Paths(path, other) => ([Some(shown(path)), Some(shown(other))], None),
            Argument::Bytes(bytes) => ([None, None], Some(bytes)),
        };
        let begun = Instant::now();
        self.current = Some(HostCall { interface, function, paths, bytes, begun, refused: None });
    }

    /// The current host call did not end well.
    pub(super) fn refused(&mut self, outcome: Outcome, reason: String) {
        if let Some(call) = &mut self.current {
            call.refused = Some((outcome, reason));
        }
    }

    /// The current host call is over.
    pub(super) fn end(&mut self) {
        let Some(call) = self.current.take() else { return };
        let refused = call.refused.as_ref();
        self.audit.write(&Record {
            request: self.request,
            interface: call.interface,
            function: call.function,
            path: call.paths[0].as_deref(),
            other_path: call.paths[1].as_deref(),
            bytes: call.bytes,
            outcome: refused.map_or("allowed", |(outcome, _)| outcome.name()),
            reason: refused.map(|(_, reason)| reason.as_str()),
            microseconds: u64::try_from(call.begun.elapsed().as_micros()).unwrap_or(u64::MAX),
        });
    }
}

/// The handler call is over: a host call that has not ended was its end.
impl Drop for Trail {
    fn drop(&mut self) {
        if self.current.as_ref().is_some_and(|call| call.refused.is_none()) {
            self.refused(Outcome::Trapped, "it ended the handler".into());
        }
        self.end();
    }
}

/// As much of a path as a line has room for.
fn shown(path: &str) -> String {
    if path.len() <= MAX_PATH {
        return path.to_owned();
    }
    let end = (0..=MAX_PATH).rev().find(|at| path.is_char_boundary(*at)).unwrap_or_default();
    format!("{}…", path.get(..end).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_line_fits_into_a_pipe_in_one_piece() {
        let (read, write) = std::io::pipe().expect("a pipe");
        let mut trail = Trail::new(Arc::new(Audit::new(write.into())), u64::MAX);
        let path = "\u{1}".repeat(5000);
        trail.begin(
            "wasi:filesystem/types",
            "descriptor.symlink-at",
            Argument::Paths(&path, &path),
        );
        trail.refused(Outcome::Denied, "a reason of the longest kind there is".into());
        drop(trail);
        let line = std::io::read_to_string(read).expect("text");
        assert!(line.len() <= 4096, "{}", line.len());
        assert!(line.ends_with("}\n"));
    }
}
