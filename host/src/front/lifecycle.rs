//! How far the server is, from its start to its end.

use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

/// How long the server waits, once it drains, for those that may be about to say something: a client that has not had an
/// answer yet, for its request; one that had its last answer, for its end of the connection.
pub(crate) const SETTLING: Duration = Duration::from_millis(100);

/// How far a server is; there is no way back.
#[derive(Debug, Default)]
pub(crate) struct Lifecycle(AtomicU8);

const SERVING: u8 = 1;
const LEAVING: u8 = 2;
const DRAINING: u8 = 3;

impl Lifecycle {
    /// Requests are served from here on.
    pub(crate) fn serve(&self) {
        self.advance(SERVING);
    }

    /// Requests are served from here on, each as the last of its connection: whoever sends clients to the server is to send
    /// them to others, since it ends soon.
    pub(crate) fn leave(&self) {
        self.advance(LEAVING);
    }

    /// No new requests are served from here on.
    pub(crate) fn drain(&self) {
        self.advance(DRAINING);
    }

    /// Whether connections go on after an answer.
    pub(crate) fn keeps_connections(&self) -> bool {
        self.0.load(Ordering::Relaxed) < LEAVING
    }

    /// Why no new requests are to be sent to the server.
    pub(crate) fn reason(&self) -> Option<&'static str> {
        match self.0.load(Ordering::Relaxed) {
            SERVING => None,
            LEAVING => Some("the server is about to shut down"),
            DRAINING => Some("the server is shutting down"),
            _ => Some("the server is starting"),
        }
    }

    fn advance(&self, phase: u8) {
        self.0.fetch_max(phase, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_no_way_back() {
        let lifecycle = Lifecycle::default();
        assert!(lifecycle.keeps_connections() && lifecycle.reason().is_some());
        lifecycle.serve();
        assert!(lifecycle.keeps_connections() && lifecycle.reason().is_none());
        lifecycle.leave();
        lifecycle.serve();
        assert!(!lifecycle.keeps_connections() && lifecycle.reason().is_some());
        lifecycle.drain();
        let reason = lifecycle.reason();
        lifecycle.leave();
        assert_eq!(lifecycle.reason(), reason);
    }
}
