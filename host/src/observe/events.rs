//! What happens, for whoever looks on: each request as it ends, each swap, each call that a layer ends.
//!
//! Nobody waits for who looks on. An event costs a look at a counter while nobody does. Events wait in bounded
//! rings, and who is slower than a ring goes round loses the oldest, and is told how many. Requests have a ring of
//! their own: however many they are, a stop or a swap is not lost behind them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::broadcast::error::TryRecvError;
use tokio::sync::broadcast::{Receiver, Sender, channel};

/// Events of a ring that wait for who is slowest.
const RING: usize = 1024;

/// Who may look on at a time.
const MAX_SUBSCRIBERS: usize = 16;

/// Where events come from.
#[derive(Debug)]
pub(crate) struct Events {
    requests: Sender<Event>,
    others: Sender<Event>,
    subscribers: Arc<AtomicUsize>,
}

/// Something that has happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Event {
    /// Its kind.
    pub(crate) name: &'static str,
    /// A JSON object, on one line.
    pub(crate) data: Arc<str>,
}

/// Somebody who looks on, until this is dropped.
#[derive(Debug)]
pub(crate) struct Subscription {
    requests: Receiver<Event>,
    others: Receiver<Event>,
    subscribers: Arc<AtomicUsize>,
}

/// What there is for who looks on.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next {
    Event(Event),
    /// So many events are lost, of those that were next.
    Lost(u64),
    /// There is nothing yet.
    Nothing,
}

impl Default for Events {
    fn default() -> Self {
        let [requests, others] = [(); 2].map(|()| channel(RING).0);
        Self { requests, others, subscribers: Arc::default() }
    }
}

impl Events {
    /// Tells of a request that has ended, by an event that is made only if anybody looks on.
    pub(crate) fn publish_request(&self, event: impl FnOnce() -> Event) {
        self.send(&self.requests, event);
    }

    /// Tells of anything else, by an event that is made only if anybody looks on.
    pub(crate) fn publish(&self, event: impl FnOnce() -> Event) {
        self.send(&self.others, event);
    }

    fn send(&self, ring: &Sender<Event>, event: impl FnOnce() -> Event) {
        if self.subscribers.load(Ordering::Relaxed) > 0 {
            // It fails when they have just left.
            let _ = ring.send(event());
        }
    }

    /// Somebody looks on from here on; `None` when there are as many as may.
    pub(crate) fn subscribe(&self) -> Option<Subscription> {
        let order = Ordering::Relaxed;
        let more = |count: usize| (count < MAX_SUBSCRIBERS).then_some(count + 1);
        self.subscribers.try_update(order, order, more).ok()?;
        let (requests, others) = (self.requests.subscribe(), self.others.subscribe());
        Some(Subscription { requests, others, subscribers: Arc::clone(&self.subscribers) })
    }
}

impl Event {
    pub(crate) fn new(name: &'static str, data: &serde_json::Value) -> Self {
        // What is shown on a terminal must not steer it.
        Self { name, data: printable::json(&data.to_string()).into() }
    }
}

impl Subscription {
    /// What is next, without waiting for it: of requests only when there is nothing else.
    pub(crate) fn next(&mut self) -> Next {
        match next(&mut self.others) {
            Next::Nothing => next(&mut self.requests),
            other => other,
        }
    }
}

fn next(ring: &mut Receiver<Event>) -> Next {
    match ring.try_recv() {
        Ok(event) => Next::Event(event),
        Err(TryRecvError::Lagged(lost)) => Next::Lost(lost),
        Err(TryRecvError::Empty | TryRecvError::Closed) => Next::Nothing,
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.subscribers.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(number: usize) -> Event {
        Event::new("request", &serde_json::json!({ "request": number }))
    }

    #[test]
    fn nothing_is_made_for_nobody() {
        let events = Events::default();
        events.publish(|| panic!("nobody looks on"));
        let mut one = events.subscribe().expect("room");
        events.publish(|| event(1));
        assert_eq!((one.next(), one.next()), (Next::Event(event(1)), Next::Nothing));
        drop(one);
        events.publish(|| panic!("nobody looks on"));
    }

    #[test]
    fn who_is_slow_is_told_what_is_lost_and_delays_nobody() {
        let events = Events::default();
        let (mut slow, mut quick) =
            (events.subscribe().expect("room"), events.subscribe().expect("room"));
        for number in 0..RING + 10 {
            events.publish(|| event(number));
            assert_eq!(quick.next(), Next::Event(event(number)));
        }
        assert_eq!(slow.next(), Next::Lost(10));
        assert_eq!(slow.next(), Next::Event(event(10)));
    }

    #[test]
    fn no_flood_of_requests_hides_a_stop() {
        let events = Events::default();
        let mut one = events.subscribe().expect("room");
        let stop = Event::new("stop", &serde_json::json!({}));
        events.publish(|| stop.clone());
        (0..2 * RING).for_each(|number| events.publish_request(|| event(number)));
        assert_eq!(one.next(), Next::Event(stop));
        assert_eq!(one.next(), Next::Lost(RING as u64));
    }

    #[test]
    fn as_many_look_on_as_may() {
        let events = Events::default();
        let mut all: Vec<_> = (0..MAX_SUBSCRIBERS).map(|_| events.subscribe()).collect();
        assert!(all.iter().all(Option::is_some) && events.subscribe().is_none());
        all.pop();
        assert!(events.subscribe().is_some());
    }
}
