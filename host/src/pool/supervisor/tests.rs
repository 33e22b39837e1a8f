//! Which slots have a worker, who is told of what, and when somebody must look again.

use std::cell::RefCell;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use tokio::sync::oneshot;

use super::*;
use crate::pool::{ClientKey, Done, Permit};

/// What a worker was told.
#[derive(Debug, Default)]
struct Told {
    sent: Vec<u64>,
    is_ended: bool,
}

struct Fake(Rc<RefCell<Told>>);

impl WorkerHandle for Fake {
    fn send(&mut self, id: u64, _job: &mut Job) {
        self.0.borrow_mut().sent.push(id);
    }

    fn end(&self) {
        self.0.borrow_mut().is_ended = true;
    }
}

fn poll<T>(future: impl Future<Output = T>) -> Poll<T> {
    pin!(future).poll(&mut Context::from_waker(Waker::noop()))
}

struct Fixture {
    supervisor: Supervisor<Fake>,
    load: Arc<Load>,
    admission: Arc<Admission>,
    busier: Arc<Notify>,
    /// Those who wait for answers.
    clients: Vec<oneshot::Receiver<Done>>,
}

impl Fixture {
    fn new(usual: usize, slots: usize) -> Self {
        let (load, admission) = (Arc::default(), Arc::new(Admission::new(usual, slots, 100, 100)));
        let shape = Shape { slots, max_hot: slots, shards: slots, ahead: 0 };
        let supervisor = Supervisor::new(shape, usual, &load, &admission);
        let busier = supervisor.busier();
        Self { supervisor, load, admission, busier, clients: Vec::new() }
    }

    fn enter(&self, host: u8) -> Option<Permit> {
        match poll(self.admission.enter(ClientKey::Ip([10, 0, 0, host].into()))) {
            Poll::Ready(entered) => Some(entered.expect("room in the queue")),
            Poll::Pending => None,
        }
    }

    /// How many requests the admission lets in.
    fn admitted(&self) -> usize {
        let permits: Vec<_> = (0..100).map_while(|host| self.enter(host)).collect();
        permits.len()
    }

    fn submit(&mut self) {
        let permit = self.enter(200).expect("room");
        let (reply, answer) = oneshot::channel();
        self.clients.push(answer);
        self.supervisor.submit(Job {
            origin: Origin { number: 0, client: Some([10, 0, 0, 200].into()), timed: false },
            request: Bytes::new(),
            body: None,
            reply,
            survived: 0,
            permit,
        });
    }

    fn put(&mut self, slot: usize) -> Rc<RefCell<Told>> {
        let told = Rc::default();
        self.supervisor.put(slot, Fake(Rc::clone(&told)));
        told
    }

    fn put_ready(&mut self, slot: usize) -> Rc<RefCell<Told>> {
        let told = self.put(slot);
        self.supervisor.ready(slot);
        told
    }

    /// Whether whoever looks at the pool was woken.
    fn is_woken(&self) -> bool {
        poll(self.busier.notified()).is_ready()
    }
}

#[test]
fn a_request_goes_to_a_worker_that_is_ready() {
    let mut f = Fixture::new(1, 1);
    let told = f.put(0);
    f.submit();
    f.submit();
    assert_eq!((told.borrow().sent.len(), f.load.get()), (0, (0, 2)));
    f.supervisor.ready(0);
    assert_eq!((told.borrow().sent.clone(), f.load.get()), (vec![1], (1, 1)));
    assert!(f.supervisor.answered(0, 2).is_none(), "it was not asked");
    assert!(f.supervisor.answered(0, 1).is_some());
    assert_eq!((told.borrow().sent.clone(), f.load.get()), (vec![1, 2], (1, 0)));
    assert!(f.supervisor.answered(0, 2).is_some());
    assert_eq!(f.load.get(), (0, 0));
}

#[test]
fn a_pool_grows_while_all_are_held_up_and_shrinks_again() {
    let mut f = Fixture::new(1, 3);
    let admitted = f.admitted();
    f.put_ready(0);
    f.submit();
    f.submit();
    let now = Instant::now();
    assert_eq!(f.supervisor.autoscale(0, now), Change::None, "nobody is held up yet");
    let now = now + HELD_UP;
    assert_eq!(f.supervisor.autoscale(0, now), Change::Start(vec![1]));
    assert_eq!(f.supervisor.autoscale(0, now), Change::None, "one is being started");
    assert!(!f.supervisor.is_over(1));
    assert!(f.supervisor.missing().is_empty(), "it is no loss");

    f.supervisor.vacate(1);
    assert!(f.supervisor.is_over(1), "it could not be started");
    assert_eq!(f.supervisor.autoscale(0, now), Change::Start(vec![1]));
    let told = f.put_ready(1);
    assert_eq!(told.borrow().sent, [2]);
    assert!(f.supervisor.answered(0, 1).is_some() && f.supervisor.answered(1, 2).is_some());
    assert_eq!(f.admitted(), admitted + 1);
    assert!(f.supervisor.pause(0).is_some(), "it is larger than usual");

    assert_eq!(f.supervisor.autoscale(0, now), Change::None);
    let now = now + Duration::from_secs(60);
    assert_eq!(f.supervisor.autoscale(0, now), Change::Ending(vec![1]));
    assert!(told.borrow().is_ended && f.supervisor.is_over(1));
    assert_eq!(f.admitted(), admitted + 1, "it has not ended yet");
    f.supervisor.vacate(1);
    assert_eq!(f.admitted(), admitted);
    assert_eq!(f.supervisor.pause(0), None);
}

#[test]
fn a_missing_worker_may_count_as_held_up() {
    let mut f = Fixture::new(1, 2);
    f.submit();
    let now = Instant::now();
    assert_eq!(f.supervisor.autoscale(0, now), Change::None);
    assert!(f.supervisor.pause(0).is_none() && f.supervisor.pause(1).is_some());
    assert_eq!(f.supervisor.autoscale(1, now), Change::Start(vec![1]));
}

#[test]
fn a_lost_worker_is_missing_until_there_is_another() {
    let mut f = Fixture::new(2, 2);
    assert_eq!(f.supervisor.missing(), [0, 1], "they are not started yet");
    f.put_ready(0);
    f.put_ready(1);
    assert!(f.supervisor.missing().is_empty());
    assert!(f.supervisor.take(0).is_some() && f.supervisor.take(0).is_none());
    f.supervisor.vacate(1);
    assert_eq!((f.supervisor.missing(), f.supervisor.workers().count()), (vec![0, 1], 0));
    assert!(!f.supervisor.is_over(0) && !f.supervisor.is_over(1));
    f.put_ready(1);
    assert_eq!(f.supervisor.missing(), [0]);
}

#[test]
fn nobody_is_missing_once_there_was_a_worker() {
    let mut f = Fixture::new(1, 1);
    f.submit();
    let (patience, now) = (Duration::from_secs(1), Instant::now());
    f.supervisor.serve_nobody(patience, now);
    f.put_ready(0);
    // It is lost before anybody looks again.
    f.supervisor.take(0);
    f.submit();
    f.supervisor.serve_nobody(patience, now + patience);
    assert!(f.clients[1].try_recv().is_err(), "it waits");
    f.supervisor.serve_nobody(patience, now + 2 * patience);
    assert!(f.clients[1].try_recv().is_ok(), "nobody came");
}

#[test]
fn whoever_looks_is_woken_only_if_that_must_be_sooner() {
    let mut f = Fixture::new(1, 1);
    f.put_ready(0);
    assert_eq!(f.supervisor.pause(0), None);
    assert!(!f.is_woken(), "there is nothing to do");
    f.submit();
    assert!(f.is_woken(), "it may overrun its deadline");
    assert!(f.supervisor.pause(0).is_some());
    f.submit();
    assert!(!f.is_woken(), "that is looked at as soon");
    assert!(!f.supervisor.is_watched_closely(), "no worker is idle");
}

#[test]
fn a_closed_pool_has_all_workers_end() {
    let mut f = Fixture::new(1, 2);
    let told = f.put_ready(0);
    f.supervisor.close();
    assert!(f.supervisor.is_closed() && f.supervisor.is_over(0) && f.is_woken());
    assert!(told.borrow().is_ended);
}

#[test]
fn who_looks_on_sees_what_each_worker_does() {
    let mut f = Fixture::new(3, 4);
    f.put_ready(0);
    f.put_ready(1);
    f.put(2);
    f.submit();
    let began = Instant::now();
    let seen = f.supervisor.statuses(|_| Some(7), began + Duration::from_secs(5));
    let activities: Vec<_> = seen.iter().map(|status| (status.number, &status.activity)).collect();
    let [
        (1, WorkerActivity::Idle),
        (2, WorkerActivity::Running(call)),
        (3, WorkerActivity::Starting),
    ] = activities[..]
    else {
        panic!("{seen:?}")
    };
    assert_eq!((call.number, call.behind, call.client), (0, 0, Some([10, 0, 0, 200].into())));
    assert!(call.elapsed >= Duration::from_secs(5));
    assert!(seen.iter().all(|status| status.process_id == Some(7)));
    f.supervisor.take(0);
    let seen = f.supervisor.statuses(|_| Some(7), began);
    assert_eq!(seen[0].process_id, None, "there is no worker");
}
