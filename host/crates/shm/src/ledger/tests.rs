//! What stands in a ledger, whoever writes there.

use std::collections::HashMap;

use super::*;

fn usage(bytes: u64, entries: u64) -> Usage {
    Usage { bytes, entries }
}

fn fits(ledger: &Ledger, more: Usage) -> bool {
    ledger.reserve(more).is_ok()
}

pub(super) fn counted(bytes: u64, entries: u64) -> Ledger {
    let ledger = Ledger::new(usage(100, 10), 3).expect("memory");
    ledger.enlist(2);
    assert!(!fits(&ledger, usage(1, 0)), "nothing is known yet");
    let (begun, _) = ledger.begin_count(0);
    ledger.end_count(begun, usage(bytes, entries));
    ledger.set_counting(0, false);
    ledger
}

#[test]
fn what_there_is_no_room_for_is_said() {
    let ledger = counted(90, 9);
    assert_eq!(ledger.reserve(usage(11, 1)), Err(NoRoom::Bytes));
    assert_eq!(ledger.reserve(usage(1, 2)), Err(NoRoom::Entries));
    assert_eq!(ledger.reserve(usage(1, 1)), Ok(()));
}

#[test]
fn both_numbers_must_fit() {
    let ledger = counted(90, 9);
    assert!(!fits(&ledger, usage(11, 1)));
    assert!(fits(&ledger, usage(5, 1)));
    assert!(!fits(&ledger, usage(0, 1)));
    assert!(!fits(&ledger, usage(6, 0)));
    assert!(!fits(&ledger, usage(u64::MAX, 0)));
    assert!(fits(&ledger, usage(5, 0)));
}

#[test]
fn before_the_first_count_no_quota_has_room() {
    let ledger = Ledger::new(usage(Ledger::MAX_BYTES, 10), 1).expect("memory");
    assert!(!fits(&ledger, usage(1, 0)));
}

#[test]
fn a_count_that_nothing_came_between_is_not_stale() {
    let ledger = counted(10, 1);
    assert!(!ledger.is_stale());
    ledger.stale();
    assert!(ledger.is_stale());
}

#[test]
fn a_count_from_before_others_is_not_taken_after_a_worker_was_bad() {
    let ledger = Ledger::new(usage(100, 10), 2).expect("memory");
    ledger.enlist(1);
    let ((early, _), (late, _)) = (ledger.begin_count(0), ledger.begin_count(1));
    ledger.end_count(late, usage(50, 1));
    ledger.reset_untrusted(usage(100, 10), &[0].into());
    ledger.end_count(early, usage(0, 0));
    assert!(!fits(&ledger, usage(1, 0)));
}

#[test]
fn the_clock_is_that_of_all_processes() {
    let shared = || {
        let now = clock_gettime(ClockId::Monotonic);
        Duration::new(now.tv_sec.unsigned_abs(), now.tv_nsec as u32).as_millis() as u64
    };
    let (before, own, after) = (shared(), now(), shared());
    assert!(
        before <= own + CLOCKS_DIFFER && own <= after + CLOCKS_DIFFER,
        "{before} {own} {after}"
    );
    let deadline = Instant::now() + Duration::from_secs(60);
    while now() == own {
        assert!(Instant::now() < deadline, "it goes on");
        std::thread::yield_now();
    }
}

#[test]
fn what_moves_is_added_to_a_count_that_is_being_made() {
    let ledger = counted(90, 0);
    ledger.add_to_counts(usage(10, 0));
    assert!(fits(&ledger, usage(10, 0)), "nobody counts");
    let (begun, _) = ledger.begin_count(0);
    ledger.add_to_counts(usage(20, 0));
    ledger.end_count(begun, usage(60, 0));
    ledger.set_counting(0, false);
    assert!(ledger.is_stale());
    assert!(!fits(&ledger, usage(21, 0)));
    assert!(fits(&ledger, usage(20, 0)));
    let (begun, _) = ledger.begin_count(0);
    ledger.add_to_counts(usage(u64::MAX, 0));
    ledger.end_count(begun, usage(0, 0));
    assert!(!fits(&ledger, usage(1, 0)), "too large to be added up");
}

#[test]
fn what_is_reserved_during_a_count_stays_reserved() {
    let ledger = counted(0, 0);
    assert!(fits(&ledger, usage(50, 0)));
    let (begun, _) = ledger.begin_count(0);
    assert!(fits(&ledger, usage(30, 0)));
    ledger.end_count(begun, usage(10, 0));
    assert!(ledger.is_stale(), "it may have been counted, too");
    assert!(!fits(&ledger, usage(61, 0)));
    assert!(fits(&ledger, usage(60, 0)));
}

#[test]
fn what_others_are_adding_when_a_count_begins_is_known() {
    let ledger = counted(0, 0);
    ledger.hold(0, usage(50, 0));
    ledger.hold(1, usage(30, 1));
    assert_eq!(ledger.begin_count(0).1, usage(30, 1));
    assert_eq!(ledger.begin_count(2).1, usage(80, 1));
    ledger.forget(1);
    assert_eq!(ledger.begin_count(0).1, usage(0, 0));
}

#[test]
fn of_two_counts_at_the_same_time_one_is_taken() {
    let ledger = counted(100, 0);
    let ((one, _), (other, _)) = (ledger.begin_count(0), ledger.begin_count(1));
    ledger.end_count(one, usage(40, 0));
    assert!(fits(&ledger, usage(60, 0)));
    ledger.end_count(other, usage(40, 0));
    assert!(!fits(&ledger, usage(1, 0)), "the second knows nothing of the 60");
}

#[test]
fn what_a_bad_worker_wrote_is_not_believed() {
    let ledger = counted(10, 1);
    let place = ledger.take_place(1).expect("a place");
    ledger.identify(place, 7);
    ledger.at_least(place, 50);
    let garbage = [u64::MAX, 0, 1, VALUE, 1 << 47, 3];
    for word in 0..size(3) / 8 {
        if ledger.slot(1) <= word && word < ledger.slot(2) {
            continue;
        }
        ledger.word(word).store(garbage[word % garbage.len()], Ordering::SeqCst);
    }
    ledger.reset_untrusted(usage(100, 10), &[1].into());
    assert_eq!(ledger.quota(), usage(100, 10));
    assert_eq!(ledger.open_files(0).lengths, HashMap::from([(7, 50)]), "that of a live one");
    assert!(!fits(&ledger, usage(1, 0)) && ledger.is_stale(), "it is to be counted");
    let (begun, held) = ledger.begin_count(1);
    ledger.end_count(begun, usage(60, 1));
    assert_eq!(held, usage(0, 0));
    assert!(fits(&ledger, usage(40, 9)));
    ledger.word(COUNTED).store(u64::MAX, Ordering::SeqCst);
    assert_eq!(ledger.counted(), Duration::MAX);
}

#[test]
fn another_process_sees_the_same_ledger() {
    let ledger = counted(0, 0);
    #[cfg(miri)]
    let handle = ledger.handle().clone();
    #[cfg(not(miri))]
    let handle = ledger.handle().try_clone().expect("a descriptor");
    let same = Ledger::open(handle, ledger.slots()).expect("the ledger");
    same.hold(1, usage(7, 1));
    assert_eq!(same.quota(), usage(100, 10));
    assert_eq!(ledger.begin_count(0).1, usage(7, 1));
    assert_eq!(ledger.begin_count(1).1, usage(0, 0));
    ledger.forget(1);
    assert_eq!(same.begin_count(0).1, usage(0, 0));
}
