//! Both sides of a ring, well-behaved and not.

use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use super::*;

fn here(bytes: &[u8]) -> Mail {
    Mail::Here(bytes.to_vec())
}

/// The answer, copied, so that a region is free again.
fn answer(parent: &Arc<Ring>, number: u64) -> Result<Option<Mail>, ProtocolError> {
    Ok(parent.answer(number)?.map(|answer| match answer {
        Mail::Here(Answer { mut bytes, response }) => {
            response.inspect(|region| region.append_to(&mut bytes, usize::MAX));
            Mail::Here(bytes)
        }
        Mail::BySocket => Mail::BySocket,
    }))
}

/// Answers as a worker whose response lies there.
pub(super) fn reply_in_region(
    worker: &Ring,
    number: u64,
    head: &[u8],
    place: RegionOffset,
    response: &[u8],
) -> bool {
    let at = REGIONS_AT + place.region * REGION_BYTES + place.at;
    worker.memory.write(at, response);
    worker.reply(number, &[head], Some((place, response.len())))
}

pub(super) fn pair() -> (Arc<Ring>, Ring) {
    let (parent, memory) = Ring::new().expect("memory");
    (Arc::new(parent), Ring::open(&memory).expect("the ring"))
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
            assert_eq!(worker.next(number, || {}), Ok(here(&request)));
            assert!(parent.handover(number).has_begun());
            assert_eq!(answer(&parent, number), Ok(None));
            assert!(worker.reply(number, &[&request], None));
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
    assert_eq!(worker.next(0, || {}), Ok(here(b"x")));
    assert!(
        parent.handover(2).take_back()
            && parent.handover(1).take_back()
            && !parent.handover(0).take_back()
    );
    assert!(!parent.handover(1).take_back(), "only once");
    parent.put(1, Some(&[b"y"]));
    assert_eq!(worker.next(1, || {}), Ok(here(b"y")));
}

#[test]
fn what_does_not_fit_comes_by_the_socket() {
    let (parent, worker) = pair();
    parent.put(0, None);
    assert_eq!(worker.next(0, || {}), Ok(Mail::BySocket));
    assert!(!worker.reply(0, &[&[0; SMALL_ANSWER], &[0]], None));
    assert_eq!(answer(&parent, 0), Ok(Some(Mail::BySocket)));
    parent.put(1, Some(&[&[1; MAX_REQUEST], &[]]));
    assert_eq!(worker.next(1, || {}), Ok(here(&[1; MAX_REQUEST])));
    assert!(worker.reply(1, &[&[2; SMALL_ANSWER]], None));
    assert_eq!(answer(&parent, 1), Ok(Some(here(&[2; SMALL_ANSWER]))));
    // A head that does not fit takes its response with it.
    let place = RegionOffset { region: 0, at: 0 };
    assert!(!worker.reply(2, &[&[0; SMALL_ANSWER + 1]], Some((place, 1))));
    assert!(!worker.is_full(0));
    assert_eq!(answer(&parent, 2), Ok(Some(Mail::BySocket)));
}

#[test]
fn a_tray_is_free_again_once_its_response_is_taken() {
    let (parent, worker) = pair();
    let places: Vec<_> =
        (0..REGIONS).map(|region| RegionOffset { region, at: REGION_BYTES - 9 }).collect();
    for (number, place) in (0..).zip(&places[1..]) {
        assert!(reply_in_region(&worker, number, b"head ", *place, b"response!"));
    }
    for (number, place) in (0..).zip(&places[1..]) {
        assert!(worker.is_full(place.region));
        assert_eq!(answer(&parent, number), Ok(Some(here(b"head response!"))));
        assert!(!worker.is_full(place.region));
    }
    assert!(worker.reply(8, &[b"short"], None));
    assert_eq!(answer(&parent, 8), Ok(Some(here(b"short"))));
}

#[test]
fn who_sleeps_is_woken() {
    let (parent, worker) = pair();
    let (sender, woken) = channel();
    thread::spawn(move || sender.send((worker.next(0, || {}), worker)));
    let deadline = Instant::now() + Duration::from_secs(60);
    while parent.word(WORKER_SLEEPS).load(Ordering::SeqCst) == 0 {
        assert!(Instant::now() < deadline, "it does not go to sleep");
        thread::yield_now();
    }
    parent.put(0, Some(&[b"x"]));
    let (mail, worker) = woken.recv_timeout(Duration::from_secs(60)).expect("it wakes");
    assert_eq!(mail, Ok(here(b"x")));
    assert!(parent.parent_sleeps());
    assert!(!parent.parent_sleeps(), "it has not been woken");
    assert!(worker.parent_is_to_wake());
    assert!(!worker.parent_is_to_wake(), "it has been woken");
}

/// Two threads as fast as they can, each of which sleeps whenever it has nothing to do. Miri sees
/// what they read before it was written.
#[test]
fn nothing_is_lost_between_two_that_sleep_and_wake_each_other() {
    let requests: u64 = if cfg!(miri) { 20 } else { 20_000 };
    let (parent, worker) = pair();
    let (bell, rung) = channel();
    let working = thread::spawn(move || {
        for number in 0..requests {
            let request = worker.next(number, || {});
            worker.write_output(number, b"said");
            match request {
                Ok(Mail::Here(bytes)) => assert!(worker.reply(number, &[&bytes, b"!"], None)),
                other => panic!("{other:?}"),
            }
            if worker.parent_is_to_wake() {
                bell.send(()).expect("it is heard");
            }
        }
    });
    let (mut put, mut taken) = (0, 0);
    while taken < requests {
        while put < requests && put < taken + 1 + put % SLOTS as u64 {
            parent.put(put, Some(&[b"ask ", &put.to_le_bytes()]));
            put += 1;
        }
        let Some(mail) = answer(&parent, taken).expect("sense") else {
            parent.parent_sleeps();
            if !parent.handover(taken).has_answer() {
                rung.recv_timeout(Duration::from_secs(60)).expect("it is woken");
            }
            continue;
        };
        assert_eq!(mail, here(&[b"ask ", &taken.to_le_bytes()[..], b"!"].concat()));
        assert_eq!(parent.output(taken).0, b"said");
        taken += 1;
    }
    working.join().expect("no panic");
}

#[test]
fn no_length_and_no_place_is_believed() {
    let (parent, worker) = pair();
    let place = RegionOffset { region: 1, at: 5 };
    let too_long = [
        (ANSWER_LENGTH, SMALL_ANSWER),
        (ANSWER_REGION, REGIONS),
        (RESPONSE_AT, REGION_BYTES),
        (RESPONSE_LENGTH, REGION_BYTES - 5),
    ];
    for (word, most) in too_long {
        for number in [most as u64 + 1, 1 << 40, u64::MAX - 1] {
            assert!(reply_in_region(&worker, 0, b"x", place, b"y"));
            worker.of(0, word).store(number, Ordering::SeqCst);
            assert_eq!(answer(&parent, 0), Err(ProtocolError), "{word}: {number}");
        }
    }
    assert!(worker.reply(0, &[b"x"], None));
    worker.of(0, RESPONSE_LENGTH).store(u64::MAX, Ordering::SeqCst);
    assert_eq!(answer(&parent, 0), Ok(Some(here(b"x"))), "there is none");
}

#[test]
fn output_is_there_before_the_answer_and_has_a_bound() {
    let (parent, worker) = pair();
    for number in [3, 3 + SLOTS as u64] {
        parent.put(number, Some(&[b"request"]));
        assert_eq!(parent.output(number), (vec![], 0), "nothing of the one before");
        worker.write_output(number, b"one ");
        worker.write_output(number, b"two");
        assert_eq!(parent.output(number).0, b"one two");
        worker.write_output(number, &vec![b'x'; MAX_OUTPUT]);
        worker.write_output(number, b"y");
        let (bytes, dropped) = parent.output(number);
        assert_eq!((bytes.len(), dropped), (MAX_OUTPUT, 8));
    }
    // Whatever a worker says of it.
    worker.of(3, OUTPUT_LENGTH).store(u64::MAX, Ordering::SeqCst);
    assert_eq!(parent.output(3).0.len(), MAX_OUTPUT);
    worker.write_output(3, b"z");
}

#[test]
fn a_call_that_is_paused_goes_on_when_it_may_or_at_its_deadline() {
    let (parent, worker) = pair();
    let far = Instant::now() + Duration::from_secs(60);
    worker.wait_for_turn(far);
    parent.pause(true);
    worker.wait_for_turn(Instant::now() + Duration::from_millis(5));
    let (went_on, goes_on) = channel();
    let waiting = thread::spawn(move || {
        worker.wait_for_turn(far);
        went_on.send(()).expect("it is heard");
    });
    assert!(goes_on.recv_timeout(Duration::from_millis(20)).is_err(), "it waits");
    parent.pause(false);
    assert!(goes_on.recv_timeout(Duration::from_secs(30)).is_ok());
    waiting.join().expect("no panic");
}
