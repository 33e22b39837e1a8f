//! Events on their way to who looks on, as server-sent events (HTML, 9.2).
//!
//! They are looked for now and then, so that nothing that happens wakes this thread. Who takes them too slowly
//! leaves them in the ring, loses the oldest, and is told how many in an event `lost`.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::body::{Body, Bytes, Frame};
use tokio::time::{Instant, Sleep, sleep};

use crate::observe::events::{Next, Subscription};

/// How often events are looked for.
const GATHER: Duration = Duration::from_millis(50);

/// How often something is written, so that who has gone is noticed.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// Bytes after which no more events are gathered.
const PIECE: usize = 64 << 10;

/// A body that goes on for as long as its client takes it.
pub(super) struct EventStream {
    events: Subscription,
    next_look: Pin<Box<Sleep>>,
    written: Instant,
    has_begun: bool,
}

impl EventStream {
    pub(super) fn new(events: Subscription) -> Self {
        let next_look = Box::pin(sleep(Duration::ZERO));
        Self { events, next_look, written: Instant::now(), has_begun: false }
    }

    /// What there is to be written.
    fn gather(&mut self) -> String {
        let mut text = String::new();
        if !std::mem::replace(&mut self.has_begun, true) {
            text.push_str(": events follow\n\n");
        }
        while text.len() < PIECE {
            match self.events.next() {
                Next::Event(event) => push(&mut text, event.name, &event.data),
                Next::Lost(lost) => push(&mut text, "lost", &format!("{{\"events\":{lost}}}")),
                Next::Nothing => break,
            }
        }
        if text.is_empty() && self.written.elapsed() >= HEARTBEAT {
            text.push_str(": heartbeat\n\n");
        }
        text
    }
}

fn push(text: &mut String, name: &str, data: &str) {
    for part in ["event: ", name, "\ndata: ", data, "\n\n"] {
        text.push_str(part);
    }
}

impl Body for EventStream {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        while self.next_look.as_mut().poll(context).is_ready() {
            let text = self.gather();
            let now = Instant::now();
            let pause = if text.len() < PIECE { GATHER } else { Duration::ZERO };
            self.next_look.as_mut().reset(now + pause);
            if !text.is_empty() {
                self.written = now;
                return Poll::Ready(Some(Ok(Frame::data(text.into()))));
            }
        }
        Poll::Pending
    }
}
