//! Which bytes are taken for a request, and what is held of them meanwhile.

use super::*;
use crate::conformance::{MAX_REQUEST, TAKEN, requests, shown};

/// The status of a stream's first request, and how much of the stream is left.
fn first(stream: &str) -> (u16, usize) {
    let mut buffer = BytesMut::from(stream);
    let status = match Framing::new(MAX_REQUEST, usize::MAX).step(&mut buffer) {
        Ok(Some(_)) => TAKEN,
        Ok(None) => 408,
        Err(reject) => reject.status(),
    };
    (status, buffer.len())
}

#[test]
fn the_table_is_kept() {
    const NEXT: &str = "GET /next HTTP/1.1\r\nHost: a\r\n\r\n";
    for (request, expected) in requests() {
        let shown = shown(&request);
        let (status, left) = first(&(request + NEXT));
        assert_eq!(status, expected, "{shown:?}");
        if expected == TAKEN {
            assert_eq!(left, NEXT.len(), "{shown:?}");
        }
    }
}

#[test]
fn nothing_is_taken_after_an_error() {
    let mut framing = Framing::new(MAX_REQUEST, usize::MAX);
    let mut buffer = BytesMut::from("GET / HTTP/1.1\r\n\r\n");
    assert!(framing.step(&mut buffer).is_err());
    buffer = BytesMut::from("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(framing.step(&mut buffer).is_err());
}

#[test]
fn what_is_awaited_says_which_time_runs() {
    let mut framing = Framing::new(MAX_REQUEST, usize::MAX);
    let mut buffer = BytesMut::new();
    for (piece, expected) in [
        ("", Awaited::Start),
        ("\r", Awaited::Start),
        ("\n\r\n", Awaited::Start),
        ("P", Awaited::Head),
        ("OST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n", Awaited::Head),
        ("\r\n", Awaited::Body),
        ("3\r\nabc\r\n0\r\n", Awaited::Body),
    ] {
        buffer.extend_from_slice(piece.as_bytes());
        assert_eq!(framing.step(&mut buffer), Ok(None), "{piece:?}");
        assert_eq!(framing.awaited(&buffer), expected, "{piece:?}");
    }
    assert!(framing.start(&buffer).starts_with(b"POST / "));
    buffer.extend_from_slice(b"\r\n");
    let request = framing.step(&mut buffer).expect("accepted").expect("whole");
    assert!(request.message.ends_with(b"Content-Length: 3\r\n\r\nabc"));
    assert_eq!(framing.awaited(&buffer), Awaited::Start);
}

/// Feeds a stream as a connection does: the message, and the most that was held of it.
fn held(max_request: usize, stream: &[u8]) -> (usize, usize) {
    let (mut framing, mut buffer) = (Framing::new(max_request, usize::MAX), BytesMut::new());
    let (mut rest, mut most) = (stream, 0);
    loop {
        if let Some(request) = framing.step(&mut buffer).expect("accepted") {
            return (request.message.len(), most);
        }
        let room = framing.room(&buffer);
        most = most.max(framing.digested() + buffer.len() + room);
        let (read, after) = rest.split_at(room.min(rest.len()));
        assert!(!read.is_empty(), "there is room, and more to come");
        buffer.extend_from_slice(read);
        rest = after;
    }
}

#[test]
fn what_is_held_of_a_request_has_a_bound() {
    const BODY: usize = 1 << 20;
    let body = "x".repeat(BODY);
    let field = |framing: &str| format!("POST / HTTP/1.1\r\nHost: a\r\n{framing}\r\nA: ");
    let head = |framing: &str| {
        let field = field(framing);
        field.clone() + &"a".repeat(crate::head::MAX_HEAD - field.len() - 4) + "\r\n\r\n"
    };
    let sized = head(&format!("Content-Length: {BODY}")) + &body;
    let chunked = head("Transfer-Encoding: chunked") + &format!("{BODY:x}\r\n{body}\r\n0\r\n\r\n");
    for stream in [sized, chunked] {
        let (message, most) = held(BODY, (stream + "GET /").as_bytes());
        assert!(message <= BODY + crate::MAX_REQUEST_OVERHEAD, "{message}");
        assert!(most > BODY, "all of it is held: {most}");
        assert!(most <= BODY + crate::MAX_BUFFER_OVERHEAD, "{most}");
    }
}

#[test]
fn reads_have_room_for_what_is_to_come() {
    let room = |stream: &str| {
        let (mut framing, mut buffer) =
            (Framing::new(10 << 20, usize::MAX), BytesMut::from(stream));
        assert_eq!(framing.step(&mut buffer), Ok(None));
        (framing.room(&buffer), framing.digested())
    };
    let head = |framing: &str| format!("POST / HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n");
    assert_eq!(room(""), (8192, 0));
    assert_eq!(room(&head("Content-Length: 9000")), (9000, 0));
    assert_eq!(room(&head("Content-Length: 9000000")), (262_144, 0));
    assert_eq!(room(&(head("Content-Length: 9000") + &"x".repeat(8990))), (8192, 0));
    let chunked = head("Transfer-Encoding: chunked");
    assert_eq!(room(&chunked), (8192, chunked.len()));
    for (length, expected) in [(10_000, 10_000), (100_000, 65_536)] {
        let stream = format!("{chunked}{length:x}\r\n{}", "x".repeat(length));
        assert_eq!(room(&stream), (expected, chunked.len() + length));
    }
}

#[test]
fn what_is_outstanding_is_known_of_a_refused_body_too() {
    for (framing, start, expected) in [
        ("Content-Length: 3", "a", Some(2)),
        ("Content-Length: 5000000000", "abc", Some(4_999_999_997)),
        ("Content-Length: 5", "whole and more", Some(0)),
        ("Transfer-Encoding: chunked", "1\r\n", None),
        ("Transfer-Encoding: chunked", "fffffffff\r\n", None),
        ("Content-Length: x", "", None),
    ] {
        let text = format!("PUT / HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n{start}");
        let (mut framing, mut buffer) =
            (Framing::new(MAX_REQUEST, usize::MAX), BytesMut::from(&*text));
        let step = framing.step(&mut buffer);
        if !matches!(step, Ok(Some(_))) {
            assert_eq!(framing.outstanding(&buffer), expected, "{text:?}");
        }
    }
    assert_eq!(Framing::new(MAX_REQUEST, usize::MAX).outstanding(b""), Some(0));
}

#[test]
fn a_client_that_waits_to_continue_is_known_before_its_body() {
    for (fields, expected) in [("Expect: 100-continue\r\n", true), ("", false)] {
        for length in ["Content-Length: 3", "Transfer-Encoding: chunked"] {
            let mut framing = Framing::new(MAX_REQUEST, usize::MAX);
            let head = format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}{length}\r\n");
            let mut buffer = BytesMut::from(&*head);
            assert_eq!(framing.step(&mut buffer), Ok(None));
            assert!(!framing.expects_continue(), "its head is not whole");
            buffer.extend_from_slice(b"\r\n");
            assert_eq!(framing.step(&mut buffer), Ok(None));
            assert_eq!(framing.expects_continue(), expected, "{head}");
        }
    }
}

#[test]
fn what_follows_a_long_body_does_not_keep_its_memory() {
    let mut buffer = BytesMut::from("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 900000\r\n\r\n");
    buffer.resize(buffer.len() + 900_000, b'x');
    buffer.extend_from_slice(b"G");
    let request =
        Framing::new(900_000, usize::MAX).step(&mut buffer).expect("accepted").expect("whole");
    drop(request);
    buffer.reserve(READ);
    assert_eq!(buffer[..], b"G"[..]);
    assert!(buffer.capacity() < 100_000, "{}", buffer.capacity());
}

#[test]
fn nor_does_what_follows_a_chunked_one() {
    let mut framing = Framing::new(900_000, usize::MAX);
    let mut buffer =
        BytesMut::from("PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n186A0\r\n");
    assert_eq!(framing.step(&mut buffer), Ok(None));
    buffer.resize(buffer.len() + 100_000, b'x');
    buffer.extend_from_slice(b"\r\n0\r\n\r\nG");
    let request = framing.step(&mut buffer).expect("accepted").expect("whole");
    assert!(request.message.len() > 100_000);
    buffer.reserve(READ);
    assert_eq!(buffer[..], b"G"[..]);
    assert!(buffer.capacity() < 50_000, "{}", buffer.capacity());
}

#[test]
fn a_long_body_is_not_copied() {
    let mut buffer = BytesMut::from("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 9000\r\n\r\n");
    buffer.resize(buffer.len() + 9000, b'x');
    let at = buffer.as_ptr();
    let request =
        Framing::new(9000, usize::MAX).step(&mut buffer).expect("accepted").expect("whole");
    assert_eq!(request.message.as_ptr(), at);
}
