//! What becomes of requests whose worker dies, is condemned or retires.

use super::*;

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
    assert_eq!(f.schedule.ready(1, f.now).len(), 1, "the next worker in its slot is served");
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
