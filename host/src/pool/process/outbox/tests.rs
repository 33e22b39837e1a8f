//! A model check of the hand-over: requests come, a worker takes and answers them, its parent
//! takes the answers, takes requests back and kills the worker, all at the same time and in every
//! order that the checker comes to.

use std::time::Duration;

use shm::ring::{Handover, PIPELINE_DEPTH, Word};
use shuttle::rand::{Rng as _, thread_rng};
use shuttle::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use shuttle::sync::{Arc, Mutex};
use shuttle::thread;

use super::super::super::schedule::Shape;
use super::*;

/// A word that the checker watches.
#[derive(Debug, Default)]
struct Watched(AtomicU64);

impl Word for Watched {
    fn load(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }

    fn store(&self, value: u64) {
        self.0.store(value, Ordering::SeqCst);
    }

    fn exchange(&self, from: u64, to: u64) -> bool {
        self.0.compare_exchange(from, to, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }

    fn swap(&self, value: u64) -> u64 {
        self.0.swap(value, Ordering::SeqCst)
    }
}

/// Two words for each of so many slots.
struct Words(Vec<[Watched; 2]>);

impl Slots for Words {
    type Word = Watched;

    fn handover(&self, number: u64) -> Handover<'_, Watched> {
        let [request, answered] = &self.0[usize::try_from(number).expect("few") % self.0.len()];
        Handover { number, request, answered }
    }
}

/// A request, by its number in the order of arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Request(usize);

impl Task for Request {
    fn is_cancelled(&self) -> bool {
        false
    }

    fn fits_ahead(&self) -> bool {
        true
    }

    fn outlives(&mut self) -> bool {
        true
    }
}

const REQUESTS: usize = 5;

/// How long a call may take. Requests come at the same time, and nothing but the first call
/// takes any.
const TIMEOUT: Duration = Duration::from_secs(1);

/// What the parent knows.
struct Parent {
    schedule: Schedule<Request>,
    outbox: Outbox<Arc<Words>>,
    /// Which request has each number, as the worker would read it.
    sent: Arc<Mutex<Vec<Option<usize>>>>,
    answered: Vec<Request>,
    start: Instant,
}

impl Parent {
    fn send(
        &mut self,
        assignments: impl IntoIterator<Item = super::super::super::schedule::Assignment>,
    ) {
        for assignment in assignments {
            let Request(request) = *self.schedule.task(assignment).expect("it was just ordered");
            let number = self.outbox.take_number();
            let mut sent = self.sent.lock().expect("not poisoned");
            sent.truncate(usize::try_from(number).expect("few"));
            sent.push(Some(request));
            drop(sent);
            self.outbox.slots().handover(number).put();
        }
    }

    /// Takes an answer, if there is one.
    fn recv(&mut self, now: Instant) {
        let owed = self.schedule.owed(0);
        if owed > 0 && self.outbox.has_answer(owed) {
            let id = self.schedule.first(0).expect("it owes one");
            let (task, assignments) = self.schedule.answered(0, id, now).expect("it was asked");
            self.answered.push(task);
            self.send(assignments);
        }
    }
}

/// The worker takes requests and answers them, until it is killed: between any two of its steps.
fn work(
    words: &Words,
    sent: &Mutex<Vec<Option<usize>>>,
    killed: &AtomicBool,
    begun: &Mutex<Vec<usize>>,
) {
    let is_killed = || killed.load(Ordering::SeqCst);
    for number in 0.. {
        let handover = words.handover(number);
        while !handover.take() {
            if is_killed() {
                return;
            }
            thread::yield_now();
        }
        let request = sent.lock().expect("not poisoned")[usize::try_from(number).expect("few")];
        begun.lock().expect("not poisoned").push(request.expect("it was put in"));
        // However long that takes.
        for _ in 0..thread_rng().gen_range(0..4) {
            if is_killed() {
                return;
            }
            thread::yield_now();
        }
        if is_killed() {
            return;
        }
        handover.reply();
    }
}

/// A parent that has one worker, which is ready, and the words that they share.
fn parent() -> (Arc<Words>, Parent) {
    let words = Arc::new(Words((0..=PIPELINE_DEPTH).map(|_| Default::default()).collect()));
    let start = Instant::now();
    let mut schedule =
        Schedule::new(Shape { slots: 1, max_hot: 1, shards: 1, ahead: PIPELINE_DEPTH });
    assert!(schedule.ready(0, start).is_empty());
    let outbox = Outbox::new(Arc::clone(&words));
    (words, Parent { schedule, outbox, sent: Arc::default(), answered: Vec::new(), start })
}

/// One worker, which may be killed at any time, for its first call's deadline or for nothing.
fn scenario() {
    let (words, parent) = parent();
    let sent = Arc::clone(&parent.sent);
    let parent = Arc::new(Mutex::new(parent));
    let (killed, begun) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
    let worker = thread::spawn({
        let (words, killed, begun) = (Arc::clone(&words), Arc::clone(&killed), Arc::clone(&begun));
        move || work(&words, &sent, &killed, &begun)
    });
    let clients = thread::spawn({
        let parent = Arc::clone(&parent);
        move || {
            for request in 0..REQUESTS {
                let mut parent = parent.lock().expect("not poisoned");
                // All but the first come when that is late.
                let now = parent.start + if request == 0 { Duration::ZERO } else { TIMEOUT };
                let assignment = parent.schedule.submit(Request(request), now);
                parent.send(assignment);
            }
        }
    });
    let ears = thread::spawn({
        let parent = Arc::clone(&parent);
        move || {
            for _ in 0..REQUESTS {
                let mut parent = parent.lock().expect("not poisoned");
                let now = parent.start + TIMEOUT;
                parent.recv(now);
            }
        }
    });
    // The watch, and whoever kills.
    let is_overrun = thread_rng().gen_bool(0.7);
    let death = loop {
        let mut guard = parent.lock().expect("not poisoned");
        let Parent { schedule, outbox, start, .. } = &mut *guard;
        let now = *start + TIMEOUT;
        if !is_overrun {
            schedule.condemn(0);
            break Death::Other;
        }
        if schedule.overrun(TIMEOUT, now).is_empty() {
            let is_done = guard.answered.contains(&Request(0));
            drop(guard);
            if is_done {
                parent.lock().expect("not poisoned").schedule.condemn(0);
                break Death::Other;
            }
            thread::yield_now();
            continue;
        }
        let (condemned, assignments) = outbox.condemn(schedule, 0, now);
        guard.send(assignments);
        if condemned {
            break Death::Overrun;
        }
        guard.recv(now);
    };
    killed.store(true, Ordering::SeqCst);
    worker.join().expect("no panic");
    clients.join().expect("no panic");
    ears.join().expect("no panic");

    let mut parent = parent.lock().expect("not poisoned");
    let now = parent.start + TIMEOUT;
    for _ in 0..REQUESTS {
        parent.recv(now);
    }
    let Parent { schedule, outbox, answered, .. } = &mut *parent;
    let lost = outbox.died(schedule, 0, death, now);
    let begun = begun.lock().expect("not poisoned");
    for lost in &lost {
        let is_late = death == Death::Overrun && lost.task == Request(0);
        assert!(is_late || begun.contains(&lost.task.0), "{lost:?} never ran: {begun:?}");
    }
    let waiting: Vec<_> = schedule.abandon();
    for request in (0..REQUESTS).map(Request) {
        let places = [
            answered.contains(&request),
            lost.iter().any(|lost| lost.task == request),
            waiting.contains(&request),
        ];
        assert_eq!(places.iter().filter(|place| **place).count(), 1, "{request:?}: {places:?}");
        if waiting.contains(&request) {
            assert!(!begun.contains(&request.0), "{request:?} would run twice");
        }
    }
}

#[test]
fn who_never_ran_is_charged_with_nothing_and_nobody_is_lost() {
    shuttle::check_random(scenario, 3000);
    shuttle::check_pct(scenario, 3000, 4);
}

#[test]
fn a_worker_that_takes_its_answer_away_is_not_waited_for() {
    let scenario = || {
        let (words, mut parent) = parent();
        for request in 0..2 {
            let assignment = parent.schedule.submit(Request(request), parent.start);
            parent.send(assignment);
        }
        assert_eq!(parent.schedule.owed(0), 2, "the second is sent ahead");
        let [first, second] = [0, 1].map(|number| words.handover(number));
        assert!(first.take());
        first.reply();
        assert!(second.take());
        let Parent { schedule, outbox, start, .. } = &mut parent;
        assert!(!outbox.condemn(schedule, 0, *start).0, "its answer is there, and not heard yet");
        first.answered.store(0);
        assert!(outbox.condemn(schedule, 0, *start).0);
    };
    shuttle::check_random(scenario, 1);
}
