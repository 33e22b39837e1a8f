//! Which worker process gets which request. Pure: no processes, no clock of its own.
//!
//! Waking a sleeping process costs more than a short call, and twenty processes
//! that take turns on two cores keep none of their caches. So short calls stay on as
//! many workers as there are cores, and each of these is sent its next request
//! while it still runs the one before: it runs one at a time, but does not go to
//! sleep between them. A request that finds its worker slow is not left behind it:
//! after [`PATIENCE`] it is taken back, unread, and waits where its client can still leave.
//!
//! A worker that is slow no longer counts, and an idle one takes its place. So there are as
//! many that are quick as there are cores, besides all that are slow, and of the idle ones
//! as many as it takes when requests have waited for [`LONG`].

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// How long a call may run before its worker counts as slow.
pub(super) const PATIENCE: Duration = Duration::from_millis(2);

/// How long a request waits for one of the hot workers while others are idle.
const LONG: Duration = Duration::from_millis(5);

/// Requests that a hot worker is sent ahead of the one it runs.
pub(super) const AHEAD: usize = 7;

/// What is scheduled.
pub(super) trait Task {
    /// Nobody waits for it any more.
    fn is_cancelled(&self) -> bool;
    /// Whether it is small enough to be sent ahead, and so to be taken back.
    fn fits_ahead(&self) -> bool;
    /// It was with a worker that died before it had begun it, by its own word. Whether it
    /// goes to another.
    fn outlives(&mut self) -> bool;
}

/// What is known of the request that a dead worker had begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Begun {
    /// Nothing, by the worker's own word, which it may have forged.
    Nothing,
    /// It is the first of those that it was sent, and had not answered.
    First,
}

/// Requests, workers, and who has what.
#[derive(Debug)]
pub(super) struct Schedule<T> {
    /// Requests that no worker has, oldest first.
    waiting: VecDeque<Waiting<T>>,
    places: Vec<Place<T>>,
    /// Ready workers without a request. The last to become idle is the first to
    /// work again.
    idle: Vec<usize>,
    /// Workers with a request; few, however many places there are.
    working: Vec<usize>,
    /// How many workers are kept hot before another is woken.
    max_hot: usize,
    last_id: u64,
}

/// A worker's place in the pool.
#[derive(Debug)]
struct Place<T> {
    /// What it was sent and has not answered: the one that runs, and those ahead.
    sent: VecDeque<Sent<T>>,
}

#[derive(Debug)]
struct Waiting<T> {
    /// Counts up in the order in which they came.
    id: u64,
    task: T,
    /// When it came.
    arrived: Instant,
}

#[derive(Debug)]
struct Sent<T> {
    id: u64,
    task: T,
    arrived: Instant,
    /// When it was sent, then when the one before it was answered.
    since: Instant,
}

/// A request that is to be sent to a worker now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Order {
    pub(super) place: usize,
    pub(super) id: u64,
}

impl<T: Task> Schedule<T> {
    /// A schedule with a place for each of that many workers, none of them ready yet.
    pub(super) fn new(places: usize, max_hot: usize) -> Self {
        Self {
            waiting: VecDeque::new(),
            places: (0..places).map(|_| Place { sent: VecDeque::new() }).collect(),
            idle: Vec::with_capacity(places),
            working: Vec::with_capacity(places),
            max_hot,
            last_id: 0,
        }
    }

    /// Takes a request.
    pub(super) fn submit(&mut self, task: T, now: Instant) -> Option<Order> {
        self.last_id += 1;
        let new = Waiting { id: self.last_id, task, arrived: now };
        if self.waiting.is_empty() {
            if self.hot(now) < self.max_hot
                && let Some(place) = self.idle.pop()
            {
                return Some(self.assign(place, new, now));
            }
            if new.task.fits_ahead() {
                let is_open = |place: &Place<T>| place.is_hot(now) && place.has_room();
                let open = self.working().filter(|(_, place)| is_open(place));
                if let Some((place, _)) = open.min_by_key(|(_, place)| place.sent.len()) {
                    return Some(self.assign(place, new, now));
                }
            }
        }
        self.waiting.push_back(new);
        None
    }

    /// A worker is new and ready.
    pub(super) fn ready(&mut self, place: usize, now: Instant) -> Vec<Order> {
        self.refill(place, now)
    }

    /// A worker is to go: it gets nothing more, if it is idle.
    pub(super) fn retire(&mut self, place: usize) -> bool {
        let at = self.idle.iter().position(|idle| *idle == place);
        at.map(|at| self.idle.remove(at)).is_some()
    }

    /// A worker answered. `None` when that is not what it was asked.
    pub(super) fn answered(
        &mut self,
        place: usize,
        id: u64,
        now: Instant,
    ) -> Option<(T, Vec<Order>)> {
        let sent = &mut self.places.get_mut(place)?.sent;
        let task = sent.pop_front_if(|sent| sent.id == id)?.task;
        match sent.front_mut() {
            Some(next) => next.since = now,
            None => self.working.retain(|working| *working != place),
        }
        Some((task, self.refill(place, now)))
    }

    /// A worker died. What it had begun and not answered is returned; what it had not begun
    /// waits again, and as if it had just come: of workers that die at a time, it should not
    /// go to one after the other.
    pub(super) fn died(&mut self, place: usize, begun: Begun, now: Instant) -> Vec<T> {
        self.idle.retain(|idle| *idle != place);
        self.working.retain(|working| *working != place);
        let sent = self.places.get_mut(place).map(|place| std::mem::take(&mut place.sent));
        let sent = sent.unwrap_or_default();
        // They are begun in the order in which they were sent.
        let first = sent.front().map(|first| first.id).filter(|_| match begun {
            Begun::Nothing => false,
            Begun::First => true,
        });
        let mut lost = Vec::new();
        for Sent { id, mut task, .. } in sent {
            if Some(id) == first || !task.outlives() {
                lost.push(task);
            } else {
                self.waiting.push_back(Waiting { id, task, arrived: now });
            }
        }
        self.line_up();
        lost
    }

    /// Gives requests that have waited for [`PATIENCE`] to idle workers, which become hot, if
    /// too few are. Those that have waited for [`LONG`] go to any that are idle.
    pub(super) fn promote(&mut self, now: Instant) -> Vec<Order> {
        let mut orders = Vec::new();
        while self.has_waited(PATIENCE, now)
            && (self.hot(now) < self.max_hot || self.has_waited(LONG, now))
            && let Some(place) = self.idle.pop()
        {
            match self.next_waiting() {
                Some(next) => orders.push(self.assign(place, next, now)),
                None => self.idle.push(place),
            }
        }
        orders
    }

    /// Workers that keep requests waiting behind a slow one, which should be taken
    /// back.
    pub(super) fn overtaken(&self, now: Instant) -> Vec<usize> {
        // What was sent in pieces cannot be taken back.
        let slow = |place: &Place<T>| {
            let mut sent = place.sent.iter();
            sent.len() > 1 && !place.is_hot(now) && sent.all(|sent| sent.task.fits_ahead())
        };
        self.working().filter(|(_, place)| slow(place)).map(|(at, _)| at).collect()
    }

    /// How many requests wait behind the first of a worker. The first is never taken back: a
    /// worker that was taken over could have it, which it has begun, come back for ever.
    pub(super) fn behind(&self, place: usize) -> usize {
        self.places.get(place).map_or(0, |place| place.sent.len().saturating_sub(1))
    }

    /// The last `count` of these were taken back, unread, and wait in the order in which all
    /// came.
    pub(super) fn taken_back(&mut self, place: usize, count: usize, now: Instant) -> Vec<Order> {
        let count = count.min(self.behind(place));
        let Some(Place { sent }) = self.places.get_mut(place) else { return Vec::new() };
        for Sent { id, task, arrived, .. } in sent.drain(sent.len() - count..) {
            self.waiting.push_back(Waiting { id, task, arrived });
        }
        self.line_up();
        self.promote(now)
    }

    /// Workers whose running request began that long ago.
    pub(super) fn overrun(&self, limit: Duration, now: Instant) -> Vec<usize> {
        let late = |sent: &Sent<T>| now.saturating_duration_since(sent.since) >= limit;
        let first_is_late = |place: &Place<T>| place.sent.front().is_some_and(late);
        self.working().filter(|(_, place)| first_is_late(place)).map(|(at, _)| at).collect()
    }

    /// A request that was sent and not answered.
    pub(super) fn task(&self, order: Order) -> Option<&T> {
        let sent = &self.places.get(order.place)?.sent;
        sent.iter().find(|sent| sent.id == order.id).map(|sent| &sent.task)
    }

    /// The request whose answer a worker owes next.
    pub(super) fn first(&self, place: usize) -> Option<u64> {
        self.places.get(place)?.sent.front().map(|sent| sent.id)
    }

    /// Workers that have been in their call for that long.
    pub(super) fn held_up(&self, limit: Duration, now: Instant) -> usize {
        self.overrun(limit, now).len()
    }

    /// Requests that run.
    pub(super) fn running(&self) -> usize {
        self.working.len()
    }

    /// Requests that wait, here or behind another.
    pub(super) fn pending(&self) -> usize {
        let ahead = self.working().map(|(_, place)| place.sent.len().saturating_sub(1));
        self.waiting.len() + ahead.sum::<usize>()
    }

    /// Whether requests wait although workers are idle, or behind another.
    pub(super) fn is_holding_back(&self) -> bool {
        let ahead = self.working().any(|(_, place)| place.sent.len() > 1);
        ahead || (!self.idle.is_empty() && !self.waiting.is_empty())
    }

    /// Workers with a request, by their places.
    fn working(&self) -> impl Iterator<Item = (usize, &Place<T>)> {
        self.working.iter().filter_map(|at| Some((*at, self.places.get(*at)?)))
    }

    /// Workers that work, and quickly so far.
    fn hot(&self, now: Instant) -> usize {
        self.working().filter(|(_, place)| place.is_hot(now)).count()
    }

    /// Whether the first in line has waited for that long.
    fn has_waited(&self, time: Duration, now: Instant) -> bool {
        let first = self.waiting.front();
        first.is_some_and(|first| now.saturating_duration_since(first.arrived) >= time)
    }

    /// Puts what waits into the order in which it came.
    fn line_up(&mut self) {
        self.waiting.make_contiguous().sort_unstable_by_key(|waiting| waiting.id);
    }

    /// Gives a worker more, unless enough others are hot: then it becomes idle when it is done.
    fn refill(&mut self, at: usize, now: Instant) -> Vec<Order> {
        let mut orders = Vec::new();
        let is_hot = self.places.get(at).is_some_and(|place| place.is_hot(now));
        let others = self.hot(now).saturating_sub(usize::from(is_hot));
        while others < self.max_hot || self.has_waited(LONG, now) {
            while self.waiting.pop_front_if(|next| next.task.is_cancelled()).is_some() {}
            let Some(place) = self.places.get(at) else { break };
            // Whether it fits is asked of the very task that is sent.
            let goes = |task: &T| place.sent.is_empty() || (place.has_room() && task.fits_ahead());
            let Some(next) = self.waiting.pop_front_if(|next| goes(&next.task)) else { break };
            orders.push(self.assign(at, next, now));
        }
        if self.places.get(at).is_some_and(|place| place.sent.is_empty()) {
            self.idle.push(at);
        }
        orders
    }

    fn next_waiting(&mut self) -> Option<Waiting<T>> {
        while let Some(next) = self.waiting.pop_front() {
            if !next.task.is_cancelled() {
                return Some(next);
            }
        }
        None
    }

    fn assign(&mut self, at: usize, next: Waiting<T>, now: Instant) -> Order {
        let Waiting { id, task, arrived } = next;
        if let Some(place) = self.places.get_mut(at) {
            if place.sent.is_empty() {
                self.working.push(at);
            }
            debug_assert!(place.sent.is_empty() || task.fits_ahead(), "it can be taken back");
            place.sent.push_back(Sent { id, task, arrived, since: now });
        }
        Order { place: at, id }
    }
}

impl<T: Task> Place<T> {
    /// Whether it works, and quickly so far.
    fn is_hot(&self, now: Instant) -> bool {
        let quick = |sent: &Sent<T>| now.saturating_duration_since(sent.since) < PATIENCE;
        self.sent.front().is_some_and(quick)
    }

    /// Whether one more can be sent ahead.
    fn has_room(&self) -> bool {
        self.sent.len() <= AHEAD && self.sent.iter().all(|sent| sent.task.fits_ahead())
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone, PartialEq, Eq)]
    struct Small(u32);

    impl Task for Small {
        fn is_cancelled(&self) -> bool {
            self.0 == 0
        }
        fn fits_ahead(&self) -> bool {
            self.0 < 100
        }
        fn outlives(&mut self) -> bool {
            self.0 < 50
        }
    }

    struct Fixture {
        schedule: Schedule<Small>,
        now: Instant,
    }

    impl Fixture {
        fn new(places: usize, hot: usize) -> Self {
            let mut schedule = Schedule::new(places, hot);
            let now = Instant::now();
            for place in 0..places {
                assert_eq!(schedule.ready(place, now), []);
            }
            Self { schedule, now }
        }

        fn submit(&mut self, task: u32) -> Option<usize> {
            self.schedule.submit(Small(task), self.now).map(|order| order.place)
        }

        fn answer(&mut self, place: usize) -> (u32, usize) {
            let id = self.schedule.places[place].sent[0].id;
            let (task, orders) = self.schedule.answered(place, id, self.now).expect("asked");
            (task.0, orders.len())
        }
    }

    /// Submits as much as one worker takes: 1 runs, the rest is ahead.
    fn fill(f: &mut Fixture, place: usize) {
        for task in 1..=AHEAD + 1 {
            assert_eq!(f.submit(task as u32), Some(place), "{task}");
        }
    }

    #[test]
    fn short_calls_stay_on_a_few_workers() {
        let mut f = Fixture::new(4, 1);
        fill(&mut f, 3);
        assert_eq!(f.submit(50), None);
        assert_eq!((f.schedule.running(), f.schedule.pending()), (1, AHEAD + 1));
        assert_eq!(f.answer(3), (1, 1), "what waited is sent");
        for task in 2..=AHEAD + 1 {
            assert_eq!(f.answer(3), (task as u32, 0));
        }
        assert_eq!(f.answer(3), (50, 0));
        assert_eq!(f.submit(51), Some(3), "the last to be idle");
    }

    #[test]
    fn slow_calls_spread_over_all_workers() {
        let mut f = Fixture::new(4, 1);
        let places = |orders: &[Order]| orders.iter().map(|order| order.place).collect::<Vec<_>>();
        fill(&mut f, 3);
        assert_eq!(f.submit(50), None);
        assert_eq!(f.schedule.promote(f.now), []);
        assert!(f.schedule.overtaken(f.now).is_empty());
        assert!(f.schedule.is_holding_back());
        f.now += PATIENCE;
        assert_eq!(places(&f.schedule.promote(f.now)), [2], "one is to be hot");
        assert_eq!(f.schedule.overtaken(f.now), [3]);
        assert_eq!(f.schedule.taken_back(3, f.schedule.behind(3), f.now), [], "one is");
        assert!(f.schedule.overtaken(f.now).is_empty());
        assert_eq!((f.schedule.running(), f.schedule.pending()), (2, AHEAD));
        f.now += PATIENCE;
        let orders = f.schedule.promote(f.now);
        assert_eq!(places(&orders), [1], "that one is slow, too");
        assert_eq!(f.schedule.task(orders[0]), Some(&Small(2)), "in their order");
        assert_eq!(f.answer(2), (50, 0), "enough others are hot");
        f.now += PATIENCE;
        assert_eq!(f.answer(1), (2, AHEAD - 1), "no other is hot");
        assert_eq!(f.submit(51), Some(1), "it is hot again");
    }

    #[test]
    fn what_has_waited_long_goes_to_any_worker() {
        let mut f = Fixture::new(4, 1);
        fill(&mut f, 3);
        assert_eq!((f.submit(50), f.submit(51), f.submit(52)), (None, None, None));
        f.now += LONG - PATIENCE / 2;
        assert_eq!(f.answer(3), (1, 1), "no other is hot");
        assert_eq!(f.schedule.promote(f.now), [], "it is hot again");
        f.now += PATIENCE / 2;
        assert_eq!(f.schedule.promote(f.now).len(), 2, "as many as have waited");
        assert_eq!((f.submit(53), f.submit(54)), (Some(2), Some(1)));
        assert_eq!(f.answer(2), (51, 0), "enough others are hot");
        assert_eq!(f.answer(2), (53, 0));
        assert_eq!(f.schedule.running(), 2, "it is idle");
    }

    #[test]
    fn a_large_request_is_not_sent_ahead() {
        let mut f = Fixture::new(1, 1);
        f.submit(1);
        assert_eq!(f.submit(100), None);
        assert_eq!(f.answer(0), (1, 1));
        assert_eq!(f.submit(2), None, "nor is anything sent behind it");
        assert_eq!(f.answer(0), (100, 1));
    }

    #[test]
    fn a_large_request_is_not_sent_ahead_in_place_of_a_cancelled_one() {
        let mut f = Fixture::new(1, 1);
        for task in [100, 2, 0, 101] {
            f.submit(task);
        }
        assert_eq!(f.answer(0), (100, 1));
        let sent: Vec<_> = f.schedule.places[0].sent.iter().map(|sent| sent.task.0).collect();
        assert_eq!(sent, [2]);
        assert_eq!(f.answer(0), (2, 1));
        assert_eq!(f.answer(0), (101, 0));
    }

    #[test]
    fn a_death_costs_only_what_was_begun() {
        let mut f = Fixture::new(1, 1);
        f.submit(1);
        f.submit(2);
        assert_eq!(f.schedule.died(0, Begun::First, f.now), [Small(1)]);
        let orders = f.schedule.ready(0, f.now);
        assert_eq!(orders.len(), 1);
        assert_eq!(f.schedule.task(orders[0]), Some(&Small(2)));
    }

    #[test]
    fn what_a_dead_worker_had_not_begun_does_not_go_to_the_next_at_once() {
        let mut f = Fixture::new(2, 2);
        f.submit(1);
        f.now += LONG;
        assert_eq!(f.schedule.died(1, Begun::Nothing, f.now), []);
        assert_eq!(f.schedule.promote(f.now), [], "it may be dead, too");
        f.now += PATIENCE;
        assert_eq!(f.schedule.promote(f.now).len(), 1);
    }

    #[test]
    fn a_worker_that_died_idle_gets_nothing() {
        let mut f = Fixture::new(2, 2);
        assert_eq!(f.schedule.died(1, Begun::Nothing, f.now), []);
        fill(&mut f, 0);
        assert_eq!(f.submit(50), None);
    }

    #[test]
    fn cancelled_requests_are_passed_over() {
        let mut f = Fixture::new(1, 1);
        fill(&mut f, 0);
        f.submit(0);
        f.submit(50);
        assert_eq!(f.answer(0), (1, 1));
        assert_eq!(f.schedule.places[0].sent[AHEAD].task, Small(50));
    }

    #[test]
    fn the_first_request_stays_with_its_worker() {
        let mut f = Fixture::new(2, 1);
        f.schedule.idle.remove(0);
        for task in 1..=3 {
            assert_eq!(f.submit(task), Some(1));
        }
        f.now += PATIENCE;
        assert_eq!(f.schedule.taken_back(1, 1, f.now), [], "nobody is idle");
        assert_eq!((f.schedule.behind(1), f.schedule.waiting.len()), (1, 1));
        assert_eq!(f.schedule.taken_back(1, 9, f.now), []);
        assert_eq!((f.schedule.behind(1), f.schedule.waiting.len()), (0, 2));
        assert_eq!(f.answer(1), (1, 2));
        assert_eq!(f.answer(1), (2, 0), "in their order");
        assert_eq!(f.answer(1), (3, 0));
    }

    #[test]
    fn what_several_workers_give_back_waits_in_the_order_in_which_it_came() {
        let mut f = Fixture::new(2, 2);
        for task in 1..=6 {
            assert!(f.submit(task).is_some());
        }
        f.now += PATIENCE;
        for place in [1, 0] {
            f.schedule.taken_back(place, f.schedule.behind(place), f.now);
        }
        let waiting: Vec<_> = f.schedule.waiting.iter().map(|waiting| waiting.task.0).collect();
        assert_eq!(waiting, [3, 4, 5, 6]);
    }

    #[test]
    fn what_is_cancelled_behind_a_slow_call_is_not_run() {
        let mut f = Fixture::new(1, 1);
        for task in [1, 0, 2, 0] {
            assert_eq!(f.submit(task), Some(0));
        }
        f.now += PATIENCE;
        assert_eq!(f.schedule.overtaken(f.now), [0]);
        assert_eq!(f.schedule.taken_back(0, f.schedule.behind(0), f.now), []);
        assert_eq!(f.answer(0), (1, 1));
        assert_eq!(f.answer(0), (2, 0));
    }

    #[test]
    fn overruns_count_from_the_start_of_the_call() {
        let mut f = Fixture::new(1, 1);
        f.submit(1);
        f.submit(2);
        let limit = Duration::from_secs(1);
        f.now += limit;
        assert_eq!(f.schedule.overrun(limit, f.now), [0]);
        f.answer(0);
        assert!(f.schedule.overrun(limit, f.now).is_empty());
    }

    #[derive(Debug, Clone, Copy)]
    enum Step {
        Submit(u32),
        Answer(usize),
        Die(usize, Begun),
        Look(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (1u32..110).prop_map(Step::Submit),
            4 => (0usize..4).prop_map(Step::Answer),
            1 => (0usize..4, prop_oneof![Just(Begun::Nothing), Just(Begun::First)])
                .prop_map(|(place, begun)| Step::Die(place, begun)),
            2 => (0u64..4).prop_map(Step::Look),
        ]
    }

    proptest! {
        #[test]
        fn nothing_is_lost_and_every_worker_is_idle_or_works(steps in vec(step(), 0..200)) {
            let mut f = Fixture::new(4, 2);
            let mut there = 0;
            for step in steps {
                match step {
                    Step::Submit(task) => {
                        f.submit(task);
                        there += 1;
                    }
                    Step::Answer(place) => if let Some(id) = f.schedule.first(place) {
                        f.schedule.answered(place, id, f.now).expect("its first");
                        there -= 1;
                    }
                    Step::Die(place, begun) => {
                        there -= f.schedule.died(place, begun, f.now).len();
                        f.schedule.ready(place, f.now);
                    }
                    Step::Look(millis) => {
                        f.now += Duration::from_millis(millis);
                        f.schedule.promote(f.now);
                        for place in f.schedule.overtaken(f.now) {
                            f.schedule.taken_back(place, f.schedule.behind(place), f.now);
                        }
                    }
                }
                let schedule = &f.schedule;
                prop_assert_eq!(schedule.running() + schedule.pending(), there);
                let mut all = [&schedule.idle[..], &schedule.working].concat();
                all.sort_unstable();
                prop_assert_eq!(all, [0, 1, 2, 3]);
                let works = |at: &usize| !schedule.places[*at].sent.is_empty();
                prop_assert!(schedule.working.iter().all(works));
                prop_assert!(schedule.waiting.is_empty() || schedule.running() > 0);
            }
        }
    }

    #[test]
    fn an_answer_to_something_else_is_none() {
        let mut f = Fixture::new(1, 1);
        f.submit(1);
        assert!(f.schedule.answered(0, 77, f.now).is_none());
    }
}
