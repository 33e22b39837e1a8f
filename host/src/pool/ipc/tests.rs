//! What goes over the sockets comes out as it went in, and nothing else does.

use std::os::fd::OwnedFd;
use std::time::Duration;

use bytes::Bytes;
use sandbox::{Call, CallError, Captured, Cause, Denials, FileRange, Frame, Timing};
use shm::message::Start;
use shm::ring::{Answer, ProtocolError};
use wasmtime::Trap;

use super::super::payload::{Part, Payload};
use super::super::sent_files::SentFile;
use super::*;

fn decode(bytes: Vec<u8>, max_response: usize) -> Option<Call<Payload>> {
    decode_answer(Answer { bytes, response: None }, Captured::default(), max_response, &[])
}

fn assemble(message: &[u8], max: usize) -> Result<Option<(u64, Vec<u8>)>, ProtocolError> {
    let mut assembler = Assembler::new(max);
    let mut last = Ok(None);
    for datagram in message.chunks(DATAGRAM) {
        last = assembler.push(datagram);
        if last.is_err() {
            break;
        }
    }
    last
}

fn answer(id: u64, call: &Call<Vec<u8>>) -> Vec<u8> {
    let response = call.result.as_deref().unwrap_or_default();
    message(id, &[&answer_head(call, &[]).expect("short"), response]).expect("short enough")
}

fn check(result: Result<Vec<u8>, CallError>) {
    let frame = Frame { function: Some("f".into()), index: 7, offset: None };
    let cause = match &result {
        Ok(_) => None,
        Err(_) => {
            let host_call = Some("wasi:cli/exit exit".into());
            let reason = Some("it ended without setting a response".into());
            Some(Box::new(Cause { host_call, reason, frames: vec![frame] }))
        }
    };
    let denials = Denials { monitor: 2, quota: 1, first: "a call: a reason".into() };
    let timing = Timing { began: Duration::from_nanos(5), instantiated: Duration::from_nanos(2) };
    let timing = result.is_ok().then_some(timing);
    let called = Call::new(result, Duration::from_micros(3));
    let call = Call { cause, denials: Some(Box::new(denials)), timing, ..called };
    let message = answer(9, &call);
    let (id, payload) = assemble(&message, 1 << 20).expect("sense").expect("whole");
    assert_eq!(id, 9);
    let decoded = decode(payload, 1 << 20).expect("decodes");
    assert_eq!(decoded.result.map(|payload| Vec::from(Bytes::from(payload))), call.result);
    assert_eq!((decoded.cause, decoded.denials), (call.cause, call.denials));
    assert_eq!((decoded.elapsed, decoded.timing), (call.elapsed, call.timing));
}

#[test]
fn every_outcome_survives_the_way() {
    check(Ok(b"HTTP/1.1 200 OK\r\n\r\n".to_vec()));
    check(Ok(vec![7; 3 * DATAGRAM]));
    check(Ok(Vec::new()));
    for error in [
        CallError::Deadline,
        CallError::OutOfMemory,
        CallError::Exited(0),
        CallError::Exited(255),
        CallError::Trap(Trap::StackOverflow),
        CallError::Trap(Trap::UnreachableCodeReached),
        CallError::HostCall,
        CallError::TooLong,
        CallError::NoResponse,
        CallError::Unanswered,
        CallError::Reported,
        CallError::FileLost,
        CallError::FilesFull,
        CallError::WorkerLost,
    ] {
        check(Err(error));
    }
}

#[test]
fn a_request_is_told_with_where_it_comes_from() {
    let address = |text: &str| Some(text.parse().expect("an address"));
    let addresses = ["127.0.0.1", "::1", "2001:db8::1"].map(address);
    for client in addresses.into_iter().chain([None]) {
        let origin = Origin { number: u64::MAX, client, timed: client.is_some() };
        let payload = [&origin.encode(7)[..], b"GET"].concat();
        assert_eq!(decode_request(&payload), Some((origin, 7, &b"GET"[..])));
    }
    assert_eq!(decode_request(&[0; REQUEST_HEAD - 1]), None);
}

use proptest::collection::vec;
use proptest::prelude::{any, proptest};

#[test]
fn an_answer_has_no_longer_response_than_it_may() {
    let payload = |response: usize| {
        let call = Call::new(Ok(vec![0; response]), Duration::ZERO);
        answer(1, &call)[Start::BYTES..].to_vec()
    };
    assert!(decode(payload(100), 100).is_some());
    assert!(decode(payload(101), 100).is_none());
}

#[test]
fn denials_are_no_longer_than_a_call_has_them() {
    let told = |denials: Denials| {
        let call =
            Call { denials: Some(Box::new(denials)), ..Call::new(Ok(Vec::new()), Duration::ZERO) };
        decode(answer(1, &call)[Start::BYTES..].to_vec(), 100)
    };
    let denials =
        |count: u32, length: usize| Denials { monitor: count, quota: 0, first: "x".repeat(length) };
    assert!(told(denials(1, 200)).is_some());
    assert!(told(denials(1, 201)).is_none() && told(denials(0, 1)).is_none());
}

#[test]
fn parts_of_files_survive_the_way_and_make_sense() {
    let dir = tempfile::tempdir().expect("a directory");
    let sent = |name| SentFile::in_directory(dir.path(), name).expect("kept");
    let known = [sent("one"), sent("two")].map(Ok);
    let file = |name: &str| {
        let file = std::fs::File::open(dir.path().join("folder").join(name)).expect("a file");
        Arc::new(OpenFile::from(OwnedFd::from(file)))
    };
    let (one, two) = (file("one"), file("two"));
    let range = |at, file: &Arc<OpenFile>, start, length| {
        let file = Arc::clone(file);
        FileRange { at, file, start, length }
    };
    let told = |ranges: &[FileRange], files: &[Result<Arc<SentFile>, CallError>], bytes: &[u8]| {
        let call = Call::new(Ok(()), Duration::ZERO);
        let head = answer_head(&call, ranges).expect("short");
        let answer = Answer { bytes: [&head, bytes].concat(), response: None };
        decode_answer(answer, Captured::default(), 100, files)
    };
    let ranges = [range(1, &one, 2, 3), range(1, &two, 4, 5), range(2, &one, 0, 1)];
    let payload = told(&ranges, &known, b"ab").expect("decodes").result.expect("a response");
    assert_eq!((payload.held(), payload.len()), (2, 11));
    let Payload::WithFiles(mut body) = payload else { panic!("{payload:?}") };
    let mut parts = Vec::new();
    while let Some(part) = body.next() {
        parts.push(match part {
            Part::Bytes(bytes) => format!("{bytes:?}"),
            Part::File(file, start, length) => {
                let index = known.iter().flatten().position(|other| Arc::ptr_eq(other, &file));
                format!("{} {start} {length}", index.expect("one of them"))
            }
        });
    }
    assert_eq!(parts, ["b\"a\"", "0 2 3", "1 4 5", "b\"b\"", "0 0 1"]);

    for why in [CallError::FileLost, CallError::FilesFull] {
        let lost = [known[0].clone(), Err(why)];
        let told_of_one = told(&ranges, &lost, b"ab").expect("decodes").result;
        assert_eq!(told_of_one.err(), Some(why), "of a file that could not be kept");
    }
    assert!(told(&ranges, &known[..1], b"ab").is_none(), "of a file that did not come");
    assert!(told(&ranges, &known, b"a").is_none(), "behind the last byte");
    let unordered = [range(2, &one, 0, 1), range(1, &one, 0, 1)];
    assert!(told(&unordered, &known, b"ab").is_none());
    for (start, length) in [(0, 0), (u64::MAX, 1), (1 << 63, 1), (1, i64::MAX as u64)] {
        assert!(told(&[range(0, &one, start, length)], &known, b"").is_none());
    }
}

proptest! {
    #[test]
    fn no_datagrams_panic_the_decoders(
        datagrams in vec((any::<bool>(), any::<u64>(), 0u32..1100, vec(0u8..10, 0..600)), 0..9)
    ) {
        let mut assembler = Assembler::new(1000);
        for (starts, id, length, payload) in datagrams {
            let datagram = match starts {
                true => [&id.to_le_bytes()[..], &length.to_le_bytes(), &payload].concat(),
                false => payload,
            };
            if let Ok(Some((_, payload))) = assembler.push(&datagram) {
                assert!(payload.len() <= 1000);
                let _ = decode_request(&payload);
                let _ = decode(payload, 1000);
            }
        }
    }
}
