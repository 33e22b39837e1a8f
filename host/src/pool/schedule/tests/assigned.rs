//! Which worker gets a request, when calls are short or slow.

use super::*;

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
    let slots = |assignments: &[Assignment]| {
        assignments.iter().map(|assignment| assignment.slot).collect::<Vec<_>>()
    };
    fill(&mut f, 3);
    assert_eq!(f.submit(50), None);
    assert!(f.schedule.promote(f.now).is_empty());
    assert!(f.schedule.overtaken(f.now).is_empty());
    assert!(f.schedule.is_holding_back());
    f.now += SLOW_CALL;
    assert_eq!(slots(&f.schedule.promote(f.now)), [2], "one is to be hot");
    assert_eq!(f.schedule.overtaken(f.now), [3]);
    assert!(f.schedule.taken_back(3, f.schedule.behind(3), f.now).is_empty(), "one is");
    assert!(f.schedule.overtaken(f.now).is_empty());
    assert_eq!((f.schedule.running(), f.schedule.pending()), (2, PIPELINE_DEPTH));
    f.now += SLOW_CALL;
    let assignments = f.schedule.promote(f.now);
    assert_eq!(slots(&assignments), [1], "that one is slow, too");
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
fn of_each_shard_one_worker_is_hot() {
    // Even slots share one shard, odd ones the other.
    let mut f = Fixture::of(Shape { slots: 6, max_hot: 2, shards: 2, ahead: 0 });
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
    let sent: Vec<_> = f.schedule.slots[0].sent.iter().map(|sent| sent.request.task.0).collect();
    assert_eq!(sent, [2]);
    assert_eq!(f.answer(0), (2, 1));
    assert_eq!(f.answer(0), (101, 0));
}
