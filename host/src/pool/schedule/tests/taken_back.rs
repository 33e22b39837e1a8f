//! What is taken back, handed on, or no longer wanted.

use super::*;

#[test]
fn cancelled_requests_are_passed_over() {
    let mut f = Fixture::new(1, 1);
    fill(&mut f, 0);
    f.submit(0);
    f.submit(50);
    assert_eq!(f.answer(0), (1, 1));
    assert_eq!(f.schedule.slots[0].sent[PIPELINE_DEPTH].request.task, Small(50));
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
    for slot in [1, 0] {
        f.schedule.taken_back(slot, f.schedule.behind(slot), f.now);
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
fn what_a_worker_has_not_begun_goes_to_one_that_is_done() {
    let mut f = Fixture::of(Shape { slots: 3, max_hot: 2, shards: 2, ahead: 0 });
    assert_eq!((f.submit(1), f.submit(2)), (Some(2), Some(1)));
    assert_eq!(f.answer(2), (1, 0));
    assert_eq!(f.schedule.with_one_request().collect::<Vec<_>>(), [1]);
    f.schedule.reassign(1, 2, f.now);
    assert_eq!(f.schedule.first(1), None);
    assert_eq!(f.submit(3), Some(1), "it is the last to be idle");
    assert_eq!(f.answer(2), (2, 0));
    assert_eq!(f.answer(1), (3, 0));
}
