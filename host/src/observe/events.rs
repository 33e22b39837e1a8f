//! What happens, for whoever looks on: each request as it ends, each swap, each call that a layer ends, and each in
//! which the monitor denied something.
//!
//! Nobody waits for who looks on. A request costs a look at a counter while nobody does. Events wait in bounded
//! rings, and who is slower than a ring goes round loses the oldest, and is told how many. Requests have a ring of
//! their own: however many they are, a stop or a swap is not lost behind them.
//!
//! All but requests have numbers, and the last of each kind are kept for who comes later.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use tokio::sync::broadcast::error::TryRecvError;
use tokio::sync::broadcast::{Receiver, Sender, channel};

/// Events of a ring that wait for who is slowest.
const RING: usize = 1024;

/// Who may look on at a time.
const MAX_SUBSCRIBERS: usize = 16;

/// Events of each kind that are kept for who comes later.
const KEPT: usize = 50;

/// Where events come from.
#[derive(Debug)]
pub(crate) struct Events {
    requests: Sender<Event>,
    others: Sender<Event>,
    kept: Mutex<Kept>,
    /// Milliseconds from 1970 to when the server was started: what its numbers are of.
    since: u128,
    subscribers: Arc<AtomicUsize>,
}

/// The last events of each kind, but of requests.
#[derive(Debug, Default)]
struct Kept {
    /// The number of the last one.
    last: u64,
    kinds: BTreeMap<&'static str, VecDeque<Event>>,
}

/// Something that has happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Event {
    /// Which one it is, from 1; 0 for a request, and for what is not published yet.
    pub(crate) number: u64,
    /// The event's kind.
    pub(crate) name: &'static str,
    /// A JSON object, on one line.
    pub(crate) data: Arc<str>,
}

/// Somebody who looks on, until this is dropped.
#[derive(Debug)]
pub(crate) struct Subscription {
    /// What had happened before.
    earlier: std::vec::IntoIter<Event>,
    requests: Receiver<Event>,
    others: Receiver<Event>,
    since: u128,
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
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self {
            requests,
            others,
            kept: Mutex::default(),
            since: since.as_millis(),
            subscribers: Arc::default(),
        }
    }
}

impl Events {
    /// Tells of a request that has ended, by an event that is made only if anybody looks on.
    pub(crate) fn publish_request(&self, event: impl FnOnce() -> Event) {
        if self.subscribers.load(Ordering::Relaxed) > 0 {
            // It fails when they have just left.
            let _ = self.requests.send(event());
        }
    }

    /// Tells of anything else, now and to who comes later.
    pub(crate) fn publish(&self, mut event: Event) {
        let mut kept = self.kept();
        kept.last += 1;
        event.number = kept.last;
        let kind = kept.kinds.entry(event.name).or_default();
        if kind.len() == KEPT {
            kind.pop_front();
        }
        kind.push_back(event.clone());
        // It fails when nobody looks on.
        let _ = self.others.send(event);
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Somebody looks on from here on, who has had all up to the event of that `id`, if any of this server, and is told
    /// first of what is kept of the rest; `None` when there are as many as may.
    pub(crate) fn subscribe(&self, after: Option<&str>) -> Option<Subscription> {
        let order = Ordering::Relaxed;
        let more = |count: usize| (count < MAX_SUBSCRIBERS).then_some(count + 1);
        self.subscribers.try_update(order, order, more).ok()?;
        let number = after.and_then(|id| {
            let (since, number) = id.split_once('-')?;
            let is_ours = since.parse() == Ok(self.since);
            number.parse::<u64>().ok().filter(|_| is_ours)
        });
        let is_new = |event: &&Event| event.number > number.unwrap_or(0);
        let kept = self.kept();
        let mut earlier: Vec<_> = kept.kinds.values().flatten().filter(is_new).cloned().collect();
        let others = self.others.subscribe();
        drop(kept);
        earlier.sort_by_key(|event| event.number);
        let (earlier, requests) = (earlier.into_iter(), self.requests.subscribe());
        let (since, subscribers) = (self.since, Arc::clone(&self.subscribers));
        Some(Subscription { earlier, requests, others, since, subscribers })
    }
}

impl Event {
    /// One that happens now: an object says what.
    pub(crate) fn new(name: &'static str, mut data: serde_json::Value) -> Self {
        if let Some(data) = data.as_object_mut() {
            let now = humantime::format_rfc3339_micros(SystemTime::now());
            data.insert("timestamp".into(), now.to_string().into());
        }
        // What is shown on a terminal must not steer it.
        Self::unnumbered(name, &printable::json(&data.to_string()))
    }

    /// One of which this line of JSON says all, its time too.
    pub(crate) fn unnumbered(name: &'static str, data: &str) -> Self {
        Self { number: 0, name, data: data.into() }
    }
}

impl Subscription {
    /// An event's number in words, which no other server has for another event; nothing of a request.
    pub(crate) fn id(&self, event: &Event) -> Option<String> {
        (event.number > 0).then(|| format!("{}-{}", self.since, event.number))
    }

    /// What is next, without waiting for it: of requests only when there is nothing else.
    pub(crate) fn next(&mut self) -> Next {
        if let Some(event) = self.earlier.next() {
            return Next::Event(event);
        }
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
    use serde_json::{Value, json};

    use super::*;

    fn request(number: usize) -> Event {
        Event::unnumbered("request", &json!({ "request": number }).to_string())
    }

    fn names_and_numbers(subscription: &mut Subscription) -> Vec<(&'static str, u64)> {
        let next = std::iter::from_fn(|| match subscription.next() {
            Next::Event(event) => Some((event.name, event.number)),
            _ => None,
        });
        next.collect()
    }

    #[test]
    fn no_request_is_told_to_nobody() {
        let events = Events::default();
        events.publish_request(|| panic!("nobody looks on"));
        let mut one = events.subscribe(None).expect("room");
        events.publish_request(|| request(1));
        assert_eq!((one.next(), one.next()), (Next::Event(request(1)), Next::Nothing));
        drop(one);
        events.publish_request(|| panic!("nobody looks on"));
    }

    #[test]
    fn who_is_slow_is_told_what_is_lost_and_delays_nobody() {
        let events = Events::default();
        let (mut slow, mut quick) =
            (events.subscribe(None).expect("room"), events.subscribe(None).expect("room"));
        for number in 0..RING + 10 {
            events.publish_request(|| request(number));
            assert_eq!(quick.next(), Next::Event(request(number)));
        }
        assert_eq!(slow.next(), Next::Lost(10));
        assert_eq!(slow.next(), Next::Event(request(10)));
    }

    #[test]
    fn no_flood_of_requests_hides_a_stop() {
        let events = Events::default();
        let mut one = events.subscribe(None).expect("room");
        events.publish(Event::new("stop", json!({})));
        (0..2 * RING).for_each(|number| events.publish_request(|| request(number)));
        let Next::Event(Event { number: 1, name: "stop", data }) = one.next() else {
            panic!("no stop")
        };
        let data: Value = serde_json::from_str(&data).expect("JSON");
        assert!(data["timestamp"].as_str().is_some_and(|time| time.ends_with('Z')), "{data}");
        assert_eq!(one.next(), Next::Lost(RING as u64));
    }

    #[test]
    fn who_comes_later_is_told_of_the_last_of_each_kind() {
        let events = Events::default();
        events.publish(Event::new("swap", json!({})));
        (0..2 * KEPT).for_each(|_| events.publish(Event::new("stop", json!({}))));
        let last = 2 * KEPT as u64 + 1;
        let stops = last - KEPT as u64 + 1..=last;
        let expected: Vec<_> =
            [("swap", 1)].into_iter().chain(stops.map(|number| ("stop", number))).collect();
        let id = |number| {
            let any = events.subscribe(None).expect("room");
            any.id(&Event { number, ..request(0) })
        };
        for (after, told) in [(0, &expected[..]), (last - 2, &expected[KEPT - 1..]), (last, &[])] {
            let mut one = events.subscribe(id(after).as_deref()).expect("room");
            assert_eq!(names_and_numbers(&mut one), told, "after {after}");
        }
        for of_another in [format!("1-{last}"), last.to_string(), "x-y".into()] {
            let mut one = events.subscribe(Some(&of_another)).expect("room");
            assert_eq!(names_and_numbers(&mut one), expected, "{of_another}");
        }
        let mut one = events.subscribe(id(last).as_deref()).expect("room");
        events.publish(Event::new("swap", json!({})));
        assert_eq!(names_and_numbers(&mut one), [("swap", last + 1)]);
    }

    #[test]
    fn as_many_look_on_as_may() {
        let events = Events::default();
        let mut all: Vec<_> = (0..MAX_SUBSCRIBERS).map(|_| events.subscribe(None)).collect();
        assert!(all.iter().all(Option::is_some) && events.subscribe(None).is_none());
        all.pop();
        assert!(events.subscribe(None).is_some());
    }
}
