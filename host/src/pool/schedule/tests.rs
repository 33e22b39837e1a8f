//! Who gets which request, when calls are short, slow, taken back, or lost with their worker.

mod assigned;
mod lost;
mod taken_back;
mod watched;

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
    fn new(slots: usize, max_hot: usize) -> Self {
        Self::of(Shape { slots, max_hot, shards: slots, ahead: PIPELINE_DEPTH })
    }

    fn of(shape: Shape) -> Self {
        let mut schedule = Schedule::new(shape);
        let now = Instant::now();
        for slot in 0..shape.slots {
            assert!(schedule.ready(slot, now).is_empty());
        }
        Self { schedule, now }
    }

    fn submit(&mut self, task: u32) -> Option<usize> {
        self.schedule.submit(Small(task), self.now).map(|assignment| assignment.slot)
    }

    fn died(&mut self, slot: usize, begun: Begun) -> Vec<u32> {
        let lost = self.schedule.died(slot, begun, self.now);
        lost.into_iter().map(|lost| lost.task.0).collect()
    }

    fn answer(&mut self, slot: usize) -> (u32, usize) {
        let id = self.schedule.slots[slot].sent[0].request.id;
        let (task, assignments) = self.schedule.answered(slot, id, self.now).expect("asked");
        (task.0, assignments.len())
    }
}

/// Submits as much as one worker takes: 1 runs, the rest is ahead.
fn fill(f: &mut Fixture, slot: usize) {
    for task in 1..=PIPELINE_DEPTH + 1 {
        assert_eq!(f.submit(task as u32), Some(slot), "{task}");
    }
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
            .prop_map(|(slot, begun)| Step::Die(slot, begun)),
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
        let mut f = Fixture::of(Shape { slots: 4, max_hot: 2, shards, ahead });
        let mut there = 0;
        for step in steps {
            match step {
                Step::Submit(task) => {
                    f.submit(task);
                    there += 1;
                }
                Step::Answer(slot) => if let Some(id) = f.schedule.first(slot) {
                    f.schedule.answered(slot, id, f.now).expect("its first");
                    there -= 1;
                }
                Step::Die(slot, begun) => {
                    there -= f.schedule.died(slot, begun, f.now).len();
                    f.schedule.ready(slot, f.now);
                }
                Step::Look(millis) => {
                    f.now += Duration::from_millis(millis);
                    f.schedule.promote(f.now);
                    for slot in f.schedule.overtaken(f.now) {
                        f.schedule.taken_back(slot, f.schedule.behind(slot), f.now);
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
            let works = |at: &usize| !schedule.slots[*at].sent.is_empty();
            prop_assert!(schedule.working.iter().all(works));
            prop_assert!(schedule.waiting.is_empty() || schedule.running() > 0);
            prop_assert!(schedule.slots.iter().all(|slot| slot.sent.len() <= ahead + 1));
        }
    }
}
