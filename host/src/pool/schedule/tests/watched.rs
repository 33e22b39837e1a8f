//! What is known of requests that run, and when somebody must look again.

use super::*;

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
fn what_a_worker_owes_is_known() {
    let mut f = Fixture::new(3, 2);
    let owing = |f: &Fixture| f.schedule.owing().collect::<Vec<_>>();
    assert_eq!(owing(&f), []);
    assert_eq!((f.submit(1), f.submit(2), f.submit(3)), (Some(2), Some(1), Some(2)));
    assert_eq!(owing(&f), [(2, 2), (1, 1)]);
    assert_eq!([0, 1, 2, 3].map(|slot| f.schedule.first(slot)), [None, Some(2), Some(1), None]);
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

#[test]
fn an_answer_to_something_else_is_none() {
    let mut f = Fixture::new(1, 1);
    f.submit(1);
    assert!(f.schedule.answered(0, 77, f.now).is_none());
}
