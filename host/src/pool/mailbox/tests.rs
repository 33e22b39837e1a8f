//! Both sides of a mailbox, well-behaved and not.

use std::thread;

use bytes::Bytes;

use super::*;

fn here(bytes: &[u8]) -> Mail {
    Mail::Here(bytes.to_vec())
}

/// The answer, copied, so that a tray is free again.
fn answer(parent: &Arc<Mailbox>, number: u64) -> Result<Option<Mail>, Garbage> {
    Ok(parent.answer(number)?.map(|answer| match answer {
        Mail::Here(payload) => Mail::Here(Bytes::from(payload).into()),
        Mail::BySocket => Mail::BySocket,
    }))
}

pub(super) fn pair() -> (Arc<Mailbox>, Mailbox) {
    let (parent, memory) = Mailbox::new().expect("memory");
    assert!(rustix::fs::ftruncate(&memory, 0).is_err(), "its size is sealed");
    (Arc::new(parent), Mailbox::open(&memory).expect("the mailbox"))
}

#[test]
fn requests_and_answers_pass_in_their_order() {
    let (parent, worker) = pair();
    for round in 0..3 {
        let numbers = 8 * round..8 * round + 8;
        for number in numbers.clone() {
            parent.put(number, Some(&[b"ask ", &number.to_le_bytes()]));
        }
        for number in numbers {
            let request = [&b"ask "[..], &number.to_le_bytes()].concat();
            assert_eq!(worker.next(number), Ok(here(&request)));
            assert!(parent.has_begun(number));
            assert_eq!(answer(&parent, number), Ok(None));
            assert!(worker.reply(number, &[&request]));
            assert_eq!(answer(&parent, number), Ok(Some(here(&request))));
        }
    }
}

#[test]
fn what_the_worker_has_not_taken_can_be_taken_back() {
    let (parent, worker) = pair();
    for number in 0..3 {
        parent.put(number, Some(&[b"x"]));
    }
    assert_eq!(worker.next(0), Ok(here(b"x")));
    assert!(parent.take_back(2) && parent.take_back(1) && !parent.take_back(0));
    assert!(!parent.take_back(1), "only once");
    parent.put(1, Some(&[b"y"]));
    assert_eq!(worker.next(1), Ok(here(b"y")));
}

#[test]
fn what_does_not_fit_comes_by_the_socket() {
    let (parent, worker) = pair();
    parent.put(0, None);
    assert_eq!(worker.next(0), Ok(Mail::BySocket));
    assert!(!worker.reply(0, &[&vec![0; MAX_ANSWER + 1]]));
    assert_eq!(answer(&parent, 0), Ok(Some(Mail::BySocket)));
    parent.put(1, Some(&[&[1; MAX_REQUEST], &[]]));
    assert_eq!(worker.next(1), Ok(here(&[1; MAX_REQUEST])));
    assert!(worker.reply(1, &[&vec![2; MAX_ANSWER]]));
    assert_eq!(answer(&parent, 1), Ok(Some(here(&vec![2; MAX_ANSWER]))));
}

#[test]
fn a_tray_is_free_again_once_its_answer_is_taken() {
    let (parent, worker) = pair();
    let long = |number: u64| vec![number as u8; SMALL_ANSWER + 1];
    let all = COMPARTMENTS as u64;
    for number in 0..all {
        assert!(worker.reply(number, &[&long(number)]), "there is one for each");
    }
    assert_eq!(answer(&parent, 1), Ok(Some(here(&long(1)))));
    assert!(worker.reply(all + 1, &[&long(all + 1)]));
    // In place of an answer that nobody has taken, whose tray is not free either.
    assert!(!worker.reply(all, &[&long(all)]));
    for number in (2..all).chain([all + 1]) {
        assert_eq!(answer(&parent, number), Ok(Some(here(&long(number)))));
    }
    assert_eq!(answer(&parent, all), Ok(Some(Mail::BySocket)));
    assert!(worker.reply(all + 2, &[b"short"]));
    assert_eq!(answer(&parent, all + 2), Ok(Some(here(b"short"))));
}

#[test]
fn who_sleeps_is_woken() {
    let (parent, worker) = pair();
    thread::scope(|scope| {
        let asleep = scope.spawn(|| worker.next(0));
        while parent.word(WORKER_SLEEPS).load(Ordering::SeqCst) == 0 {
            thread::yield_now();
        }
        parent.put(0, Some(&[b"x"]));
        assert_eq!(asleep.join().expect("no panic"), Ok(here(b"x")));
    });
    assert!(parent.parent_sleeps());
    assert!(!parent.parent_sleeps(), "it has not been woken");
    assert!(worker.parent_is_to_wake());
    assert!(!worker.parent_is_to_wake(), "it has been woken");
}

#[test]
fn no_length_and_no_place_is_believed() {
    let (parent, worker) = pair();
    for tray in [TRAYS as u64 + 1, 1 << 40, u64::MAX] {
        assert!(worker.reply(0, &[b"x"]));
        worker.of(0, ANSWER_TRAY).store(tray, Ordering::SeqCst);
        assert_eq!(answer(&parent, 0), Err(Garbage));
    }
    for length in [MAX_ANSWER as u64 + 1, 1 << 40, BY_SOCKET - 1] {
        assert!(worker.reply(0, &[b"x"]));
        worker.of(0, ANSWER_LENGTH).store(length, Ordering::SeqCst);
        assert_eq!(answer(&parent, 0), Err(Garbage));
        worker.of(0, ANSWER_TRAY).store(1, Ordering::SeqCst);
        assert_eq!(answer(&parent, 0), Err(Garbage));
    }
}
