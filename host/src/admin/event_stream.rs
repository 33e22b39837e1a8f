//! Events on their way to who looks on, as server-sent events (HTML, 9.2).
//!
//! They are looked for now and then, so that nothing that happens wakes this thread. Who takes them too slowly
//! leaves them in the ring, loses the oldest, and is told how many in an event `lost`. A person who looks on asks for
//! a sample, which a browser can draw whatever the server does.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::HeaderMap;
use hyper::body::{Body, Bytes, Frame};
use tokio::time::{Instant, Sleep, sleep};

use crate::observe::events::{Next, Subscription};

/// How often events are looked for.
const GATHER: Duration = Duration::from_millis(50);

/// How often something is written, so that who has gone is noticed.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// Bytes after which no more events are gathered.
const PIECE: usize = 64 << 10;

/// Requests that a sample may have, as many stops, and as many denials: of each 12 in a look, thus 240 a second. What
/// a look leaves is there for the next, as far as 60.
const SAMPLED: usize = 12;
const MAX_SAMPLED: usize = 60;

/// Which events are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Which {
    All,
    /// At most 240 requests a second, as many stops and denials, and all else.
    Sample,
}

/// How many more events of three kinds a sample may have.
#[derive(Debug)]
struct Sample {
    requests: usize,
    stops: usize,
    denials: usize,
}

/// A body that goes on for as long as its client takes it.
pub(super) struct EventStream {
    events: Subscription,
    next_look: Pin<Box<Sleep>>,
    written: Instant,
    has_begun: bool,
    /// `None` where all are asked for.
    sample: Option<Sample>,
}

impl Which {
    /// What a query asks for.
    pub(super) fn asked_for(query: Option<&str>) -> Self {
        match query {
            Some("sample") => Self::Sample,
            _ => Self::All,
        }
    }
}

/// The `id` of the last event that a client has had, as it says (HTML, 9.2.4).
pub(super) fn last_event(headers: &HeaderMap) -> Option<&str> {
    headers.get("last-event-id")?.to_str().ok()
}

impl Sample {
    /// A look has begun.
    fn look(&mut self) {
        for left in [&mut self.requests, &mut self.stops, &mut self.denials] {
            *left = (*left + SAMPLED).min(MAX_SAMPLED);
        }
    }

    /// Whether an event of this kind is in the sample.
    fn takes(&mut self, name: &str) -> bool {
        let left = match name {
            "request" => &mut self.requests,
            "stop" => &mut self.stops,
            "denial" => &mut self.denials,
            _ => return true,
        };
        let takes = *left > 0;
        *left = left.saturating_sub(1);
        takes
    }
}

impl EventStream {
    pub(super) fn new(events: Subscription, which: Which) -> Self {
        let next_look = Box::pin(sleep(Duration::ZERO));
        let sample = match which {
            Which::All => None,
            Which::Sample => {
                Some(Sample { requests: MAX_SAMPLED, stops: MAX_SAMPLED, denials: MAX_SAMPLED })
            }
        };
        Self { events, next_look, written: Instant::now(), has_begun: false, sample }
    }

    /// What there is to be written.
    fn gather(&mut self) -> String {
        let mut text = String::new();
        if !std::mem::replace(&mut self.has_begun, true) {
            text.push_str(": events follow\n\n");
        }
        if let Some(sample) = &mut self.sample {
            sample.look();
        }
        while text.len() < PIECE {
            match self.events.next() {
                Next::Event(event) => {
                    if self.sample.as_mut().is_none_or(|sample| sample.takes(event.name)) {
                        if let Some(id) = self.events.id(&event) {
                            // What a browser says it has had, when it comes again.
                            text.push_str(&format!("id: {id}\n"));
                        }
                        push(&mut text, event.name, &event.data);
                    }
                }
                // A sample is not all there is.
                Next::Lost(_) if self.sample.is_some() => {}
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::events::{Event, Events};

    #[tokio::test]
    async fn a_sample_has_some_requests_and_every_swap() {
        let events = Events::default();
        let stream = |which| EventStream::new(events.subscribe(None).expect("room"), which);
        let (mut all, mut sample) = (stream(Which::All), stream(Which::Sample));
        let event = |name| Event::new(name, serde_json::json!({}));
        let count = |text: &str, name: &str| text.matches(&format!("event: {name}\n")).count();
        for expected in [MAX_SAMPLED, SAMPLED, SAMPLED] {
            for _ in 0..100 {
                events.publish_request(|| event("request"));
                for name in ["stop", "denial", "swap"] {
                    events.publish(event(name));
                }
            }
            for (stream, limit) in [(&mut all, 100), (&mut sample, expected)] {
                let text = stream.gather();
                let kinds = ["request", "stop", "denial", "swap"];
                let counts = kinds.map(|name| count(&text, name));
                assert_eq!(counts, [limit, limit, limit, 100]);
            }
        }
        sample.gather();
        (0..15).for_each(|_| events.publish_request(|| event("request")));
        assert_eq!(count(&sample.gather(), "request"), 15, "what a look leaves is kept");
    }

    #[test]
    fn only_one_query_asks_for_a_sample() {
        for (query, expected) in [
            (Some("sample"), Which::Sample),
            (Some(""), Which::All),
            (Some("x=y"), Which::All),
            (None, Which::All),
        ] {
            assert_eq!(Which::asked_for(query), expected, "{query:?}");
        }
    }
}
