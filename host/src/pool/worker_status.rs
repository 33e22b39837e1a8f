//! What each worker of a pool does, for who looks on.
//!
//! Nobody who serves requests sets anything for it: it is read from what the schedule knows, under the pool's lock,
//! and only when somebody asks.

use std::net::IpAddr;
use std::time::Duration;

/// One worker at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WorkerStatus {
    /// The worker's number, as the log has it.
    pub(crate) number: u32,
    pub(crate) activity: WorkerActivity,
    /// The worker's process, in a process pool.
    pub(crate) process_id: Option<i32>,
}

/// What a worker does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum WorkerActivity {
    /// The worker is not ready yet, or is being replaced.
    Starting,
    /// The worker waits for a request.
    Idle,
    Running(RunningCall),
    /// The worker is no longer needed, and is being ended.
    Ending,
}

/// A call that a worker has in hand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RunningCall {
    /// The request's number, as the log has it; 0 for one of the server's own.
    pub(crate) number: u64,
    /// The client's address, if it has one.
    pub(crate) client: Option<IpAddr>,
    /// What is asked for, as the handler sees it; empty for one of the server's own.
    pub(crate) asked: RequestStart,
    /// Time since the worker has it.
    pub(crate) elapsed: Duration,
    /// Requests that the worker was sent ahead, and that wait behind this one.
    pub(crate) behind: usize,
}

/// How a request begins, in text that is fit to print.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct RequestStart {
    pub(crate) method: String,
    /// Shortened to [`SHOWN`] bytes.
    pub(crate) target: String,
}

/// Bytes of a target that are shown.
const SHOWN: usize = 200;

impl RequestStart {
    /// The start of a whole request.
    pub(super) fn of(message: &[u8]) -> Self {
        let mut words = message.splitn(3, |byte| *byte == b' ');
        let mut word = |most: usize| {
            let word = words.next().unwrap_or_default();
            let shown = word.get(..most).unwrap_or(word);
            let cut = if shown.len() < word.len() { "…" } else { "" };
            printable::line(&String::from_utf8_lossy(shown)).into_owned() + cut
        };
        Self { method: word(SHOWN), target: word(SHOWN) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_shown_by_its_beginning() {
        let of = |message: &str| {
            let RequestStart { method, target } = RequestStart::of(message.as_bytes());
            (method, target)
        };
        assert_eq!(of("GET /a?b=c HTTP/1.1\r\n\r\n"), ("GET".into(), "/a?b=c".into()));
        assert_eq!(of(""), Default::default());
        let long = format!("PUT /{} HTTP/1.1\r\n", "x".repeat(5000));
        assert_eq!(of(&long).1, format!("/{}…", "x".repeat(SHOWN - 1)));
        assert_eq!(of("GET /\u{202e}\u{1b} HTTP/1.1\r\n").1, "/\\u{202e}\\u{1b}");
    }
}
