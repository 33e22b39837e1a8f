//! Who gets which request, when calls are short, slow, taken back, or lost with their worker.

use proptest::collection::vec;
use proptest::prelude::*;

use shm::ring::PIPELINE_DEPTH;

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
    fn new(places: usize, max_hot: usize) -> Self {
        Self::of(Shape { places, max_hot, shards: places, ahead: PIPELINE_DEPTH })
    }

    fn of(shape: Shape) -> Self {
        let mut schedule = Schedule::new(shape);
        let now = Instant::now();
        for place in 0..shape.places {
            assert!(schedule.ready(place, now).is_empty());
        }
        Self { schedule, now }
    }

    fn submit(&mut self, task: u32) -> Option<usize> {
        self.schedule.submit(Small(task), self.now).map(|assignment| assignment.place)
    }

    fn died(&mut self, place: usize, begun: Begun) -> Vec<u32> {
        let lost = self.schedule.died(place, begun, self.now);
        lost.into_iter().map(|lost| lost.task.0).collect()
    }

    fn answer(&mut self, place: usize) -> (u32, usize) {
        let id = self.schedule.places[place].sent[0].request.id;
        let (task, assignments) = self.schedule.answered(place, id, self.now).expect("asked");
        (task.0, assignments.len())
    }
}

/// Submits as much as one worker takes: 1 runs, the rest is ahead.
fn fill(f: &mut Fixture, place: usize) {
    for task in 1..=PIPELINE_DEPTH + 1 {
        assert_eq!(f.submit(task as u32), Some(place), "{task}");
    }
}

#[test]
fn short_calls_stay_on_a_few_workers() {
    let mut f = Fixture::new(4, 1);
    fill(&mut f, 3);
    assert_eq!(f.submit(50), None);
    assert_eq!((f.schedule.running(), f.schedule.pending()), (1, PIPELINE_DEPTH + 1));
    assert_eq!(f.answer(3), (1, 1), "what waited is sent");
    for task in 2..=PIPELINE_DEPTH + 1 {
        assert_eq!(f.answer(3), (task as u32, 0));
    }
    assert_eq!(f.answer(3), (50, 0));
    assert_eq!(f.submit(51), Some(3), "the last to be idle");
}

#[test]
fn slow_calls_spread_over_all_workers() {
    let mut f = Fixture::new(4, 1);
    let places = |assignments: &[Assignment]| {
        assignments.iter().map(|assignment| assignment.place).collect::<Vec<_>>()
    };
    fill(&mut f, 3);
    assert_eq!(f.submit(50), None);
    assert!(f.schedule.promote(f.now).is_empty());
    assert!(f.schedule.overtaken(f.now).is_empty());
    assert!(f.schedule.is_holding_back());
    f.now += SLOW_CALL;
    assert_eq!(places(&f.schedule.promote(f.now)), [2], "one is to be hot");
    assert_eq!(f.schedule.overtaken(f.now), [3]);
    assert!(f.schedule.taken_back(3, f.schedule.behind(3), f.now).is_empty(), "one is");
    assert!(f.schedule.overtaken(f.now).is_empty());
    assert_eq!((f.schedule.running(), f.schedule.pending()), (2, PIPELINE_DEPTH));
    f.now += SLOW_CALL;
    let assignments = f.schedule.promote(f.now);
    assert_eq!(places(&assignments), [1], "that one is slow, too");
    assert_eq!(f.schedule.task(assignments[0]), Some(&mut Small(2)), "in their order");
    assert_eq!(f.answer(2), (50, 0), "enough others are hot");
    f.now += SLOW_CALL;
    assert_eq!(f.answer(1), (2, PIPELINE_DEPTH - 1), "no other is hot");
    assert_eq!(f.submit(51), Some(1), "it is hot again");
}

#[test]
fn what_has_waited_long_goes_to_any_worker() {
    let mut f = Fixture::new(4, 1);
    fill(&mut f, 3);
    assert_eq!((f.submit(50), f.submit(51), f.submit(52)), (None, None, None));
    f.now += MAX_QUEUE_DELAY - SLOW_CALL / 2;
    assert_eq!(f.answer(3), (1, 1), "no other is hot");
    assert!(f.schedule.promote(f.now).is_empty(), "it is hot again");
    f.now += SLOW_CALL / 2;
    assert_eq!(f.schedule.promote(f.now).len(), 2, "as many as have waited");
    assert_eq!((f.submit(53), f.submit(54)), (Some(2), Some(1)));
    assert_eq!(f.answer(2), (51, 0), "enough others are hot");
    assert_eq!(f.answer(2), (53, 0));
    assert_eq!(f.schedule.running(), 2, "it is idle");
}

#[test]
fn of_each_lane_one_worker_is_hot() {
    // Even places share one shard, odd ones the other.
    let mut f = Fixture::of(Shape { places: 6, max_hot: 2, shards: 2, ahead: 0 });
    assert_eq!((f.submit(1), f.submit(2), f.submit(3)), (Some(5), Some(4), None));
    assert_eq!(f.answer(5), (1, 1), "nothing was sent ahead, and it takes what waits");
    assert_eq!((f.answer(5), f.answer(4)), ((3, 0), (2, 0)));
    assert_eq!((f.submit(4), f.submit(5)), (Some(4), Some(5)), "the last to be idle, of either");
    f.now += SLOW_CALL / 2;
    assert_eq!((f.answer(5), f.submit(6)), ((5, 0), Some(5)), "the other shard's is hot");
    f.now += SLOW_CALL / 2;
    assert_eq!(f.submit(7), Some(2), "4 is slow, 5 is not: the next one of the shard of 4");
    assert_eq!((f.submit(8), f.submit(9)), (None, None));
    assert_eq!(f.answer(4), (4, 0), "another one of its shard is hot");
    f.now += MAX_QUEUE_DELAY;
    let assignments = f.schedule.promote(f.now);
    assert_eq!(assignments.len(), 2, "what has waited for long goes to any");
    assert_eq!((f.submit(10), f.schedule.running()), (None, 4));
}

#[test]
fn what_nobody_is_left_for_is_returned() {
    let mut f = Fixture::new(1, 1);
    assert_eq!(f.submit(100), Some(0));
    assert_eq!((f.submit(101), f.submit(102)), (None, None));
    assert_eq!(f.died(0, Begun::First), [100]);
    assert_eq!(f.schedule.abandon(), [Small(101), Small(102)]);
    assert_eq!((f.schedule.running(), f.schedule.pending()), (0, 0));
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
    let sent: Vec<_> = f.schedule.places[0].sent.iter().map(|sent| sent.request.task.0).collect();
    assert_eq!(sent, [2]);
    assert_eq!(f.answer(0), (2, 1));
    assert_eq!(f.answer(0), (101, 0));
}

#[test]
fn a_death_costs_only_what_was_begun() {
    let mut f = Fixture::new(1, 1);
    f.submit(1);
    f.submit(2);
    assert_eq!(f.died(0, Begun::First), [1]);
    let assignments = f.schedule.ready(0, f.now);
    assert_eq!(assignments.len(), 1);
    assert_eq!(f.schedule.task(assignments[0]), Some(&mut Small(2)));
}

#[test]
fn what_a_dead_worker_had_not_begun_does_not_go_to_the_next_at_once() {
    let mut f = Fixture::new(2, 2);
    f.submit(1);
    f.now += MAX_QUEUE_DELAY;
    assert!(f.died(1, Begun::Nothing).is_empty());
    assert!(f.schedule.promote(f.now).is_empty(), "it may be dead, too");
    f.now += SLOW_CALL;
    assert_eq!(f.schedule.promote(f.now).len(), 1);
}

#[test]
fn a_worker_that_died_idle_gets_nothing() {
    let mut f = Fixture::new(2, 2);
    assert!(f.died(1, Begun::Nothing).is_empty());
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
    assert_eq!(f.schedule.places[0].sent[PIPELINE_DEPTH].request.task, Small(50));
}

#[test]
fn the_first_request_stays_with_its_worker() {
    let mut f = Fixture::new(2, 1);
    f.schedule.idle.remove(0);
    for task in 1..=3 {
        assert_eq!(f.submit(task), Some(1));
    }
    f.now += SLOW_CALL;
    assert!(f.schedule.taken_back(1, 1, f.now).is_empty(), "nobody is idle");
    assert_eq!((f.schedule.behind(1), f.schedule.waiting.len()), (1, 1));
    assert!(f.schedule.taken_back(1, 9, f.now).is_empty());
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
    f.now += SLOW_CALL;
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
    f.now += SLOW_CALL;
    assert_eq!(f.schedule.overtaken(f.now), [0]);
    assert!(f.schedule.taken_back(0, f.schedule.behind(0), f.now).is_empty());
    assert_eq!(f.answer(0), (1, 1));
    assert_eq!(f.answer(0), (2, 0));
}

#[test]
fn a_condemned_worker_gets_nothing_more() {
    let mut f = Fixture::new(2, 2);
    assert_eq!((f.submit(1), f.submit(2)), (Some(1), Some(0)));
    f.schedule.condemn(1);
    assert_eq!(f.submit(3), Some(0), "ahead of the other");
    assert_eq!(f.answer(1), (1, 0), "it may still answer");
    for task in 4..=PIPELINE_DEPTH as u32 + 2 {
        assert_eq!(f.submit(task), Some(0));
    }
    assert_eq!(f.submit(50), None);
    f.now += MAX_QUEUE_DELAY;
    assert!(f.schedule.promote(f.now).is_empty(), "nobody is idle");
    assert!(f.died(1, Begun::First).is_empty(), "it had answered");
    assert_eq!(f.schedule.ready(1, f.now).len(), 1, "the next worker in its place is served");
}

#[test]
fn what_is_lost_has_run_for_as_long_as_it_has() {
    let mut f = Fixture::new(1, 1);
    f.submit(1);
    f.submit(2);
    f.now += Duration::from_secs(1);
    f.answer(0);
    f.now += Duration::from_millis(300);
    let lost = f.schedule.died(0, Begun::First, f.now);
    assert_eq!(lost, [Lost { task: Small(2), elapsed: Duration::from_millis(300), position: 0 }]);
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

#[test]
fn few_answers_of_calls_that_are_neither_short_nor_long_wait_for_the_next() {
    let [short, long] = [COALESCE_RANGE.start, COALESCE_RANGE.end];
    let least = Duration::from_nanos(1);
    for (answers, elapsed, expected) in [
        (1, short, true),
        (COALESCE_MAX - 1, long - least, true),
        (COALESCE_MAX, short, false),
        (COALESCE_MAX + 1, short, false),
        (1, short - least, false),
        (1, long, false),
    ] {
        assert_eq!(may_wait(answers, elapsed), expected, "{answers} after {elapsed:?}");
    }
}

#[test]
fn an_idle_worker_that_retires_gets_nothing_more() {
    let mut f = Fixture::new(2, 2);
    assert_eq!(f.submit(1), Some(1));
    assert!(!f.schedule.retire(1), "it works");
    assert!(f.schedule.retire(0));
    assert!(!f.schedule.retire(0), "it is gone");
    assert_eq!(f.submit(2), Some(1), "there is no other");
    f.answer(1);
    f.answer(1);
    assert!(f.schedule.retire(1));
    assert_eq!(f.submit(3), None);
}

#[test]
fn what_a_worker_owes_is_known() {
    let mut f = Fixture::new(3, 2);
    let owing = |f: &Fixture| f.schedule.owing().collect::<Vec<_>>();
    assert_eq!(owing(&f), []);
    assert_eq!((f.submit(1), f.submit(2), f.submit(3)), (Some(2), Some(1), Some(2)));
    assert_eq!(owing(&f), [(2, 2), (1, 1)]);
    assert_eq!([0, 1, 2, 3].map(|place| f.schedule.first(place)), [None, Some(2), Some(1), None]);
    let limit = Duration::from_secs(1);
    assert_eq!(f.schedule.held_up(limit, f.now), 0);
    f.now += limit;
    assert_eq!(f.schedule.held_up(limit, f.now), 2);
    f.answer(2);
    assert_eq!((owing(&f), f.schedule.first(2)), (vec![(2, 1), (1, 1)], Some(3)));
    assert_eq!(f.schedule.held_up(limit, f.now), 1, "the next one has only begun");
}

#[test]
fn the_pool_is_looked_at_as_soon_as_something_may_be_due() {
    let mut f = Fixture::new(2, 1);
    let pauses = |f: &Fixture| [false, true].map(|is_unusual| f.schedule.needed_pause(is_unusual));
    assert_eq!(pauses(&f), [None, Some(IDLE_PATROL)], "nothing is to be done");
    assert_eq!(f.submit(1), Some(1));
    assert_eq!(pauses(&f), [Some(PATROL); 2], "it may overrun its deadline");
    assert_eq!(f.submit(100), None);
    assert_eq!(pauses(&f), [Some(SLOW_CALL); 2], "it waits, and a worker is idle");
    assert!(f.schedule.retire(0));
    assert_eq!(pauses(&f), [Some(PATROL); 2], "it waits, and none is idle");
    assert_eq!((f.answer(1), f.answer(1)), ((1, 1), (100, 0)));
    assert_eq!((f.submit(2), f.submit(3)), (Some(1), Some(1)));
    assert_eq!(pauses(&f), [Some(SLOW_CALL); 2], "it may have to be taken back");
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Submit(u32),
    Answer(usize),
    Die(usize, Begun),
    Look(u64),
    HandOver,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1u32..110).prop_map(Step::Submit),
        4 => (0usize..4).prop_map(Step::Answer),
        1 => (0usize..4, prop_oneof![Just(Begun::Nothing), Just(Begun::First)])
            .prop_map(|(place, begun)| Step::Die(place, begun)),
        2 => (0u64..4).prop_map(Step::Look),
        1 => Just(Step::HandOver),
    ]
}

proptest! {
    #[test]
    fn nothing_is_lost_and_every_worker_is_idle_or_works(
        steps in vec(step(), 0..200),
        shards in 1usize..=4,
        ahead in prop_oneof![Just(0), Just(PIPELINE_DEPTH)],
    ) {
        let mut f = Fixture::of(Shape { places: 4, max_hot: 2, shards, ahead });
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
                Step::HandOver => {
                    let from = f.schedule.with_one_request().next();
                    if let (Some(from), Some(to)) = (from, f.schedule.idle.first().copied()) {
                        f.schedule.reassign(from, to, f.now);
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
            prop_assert!(schedule.places.iter().all(|place| place.sent.len() <= ahead + 1));
        }
    }
}

#[test]
fn what_a_worker_has_not_begun_goes_to_one_that_is_done() {
    let mut f = Fixture::of(Shape { places: 3, max_hot: 2, shards: 2, ahead: 0 });
    assert_eq!((f.submit(1), f.submit(2)), (Some(2), Some(1)));
    assert_eq!(f.answer(2), (1, 0));
    assert_eq!(f.schedule.with_one_request().collect::<Vec<_>>(), [1]);
    f.schedule.reassign(1, 2, f.now);
    assert_eq!(f.schedule.first(1), None);
    assert_eq!(f.submit(3), Some(1), "it is the last to be idle");
    assert_eq!(f.answer(2), (2, 0));
    assert_eq!(f.answer(1), (3, 0));
}

#[test]
fn an_answer_to_something_else_is_none() {
    let mut f = Fixture::new(1, 1);
    f.submit(1);
    assert!(f.schedule.answered(0, 77, f.now).is_none());
}
