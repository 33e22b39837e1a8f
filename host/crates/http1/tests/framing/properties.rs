//! What must hold for any bytes at all. The fuzzer and the tests both come here.

use bytes::BytesMut;
use std::time::SystemTime;

use http1::{
    Awaited, BodyLength, Framing, HeadScanner, Malformed, Persistence, Reject, Reply, prepare,
};

/// The limit on bodies, in bytes.
pub const MAX_REQUEST: usize = 1000;

/// What a stream comes to: the messages for the handler and how many bytes of the
/// stream the requests took, then the error or what is left over.
#[derive(Debug, PartialEq, Eq)]
pub struct Framed {
    messages: Vec<Vec<u8>>,
    ends: Vec<usize>,
    end: Result<Awaited, Reject>,
}

/// Frames a stream that arrives in pieces of these lengths, over and over.
pub fn frame(stream: &[u8], pieces: &[u8]) -> Framed {
    let mut framing = Framing::new(MAX_REQUEST, usize::MAX);
    let mut buffer = BytesMut::new();
    let mut framed = Framed { messages: Vec::new(), ends: Vec::new(), end: Ok(Awaited::Start) };
    let mut rest = stream;
    let mut lengths = pieces.iter().cycle();
    loop {
        match framing.step(&mut buffer) {
            Ok(Some(request)) => {
                framed.messages.push(request.message.to_vec());
                framed.ends.push(stream.len() - rest.len() - buffer.len());
                continue;
            }
            Ok(None) => {}
            Err(reject) => {
                let left = buffer.len();
                assert!(framing.step(&mut buffer).is_err(), "nothing is read after an error");
                assert_eq!(buffer.len(), left);
                framed.end = Err(reject);
                return framed;
            }
        }
        let held = framing.digested() + buffer.len();
        let piece = 256;
        assert!(pieces.is_empty() || held <= (64 << 10) + MAX_REQUEST + piece, "{held} are held");
        if rest.is_empty() {
            framed.end = Ok(framing.awaited(&buffer));
            return framed;
        }
        let length = lengths.next().map_or(rest.len(), |length| usize::from(*length) + 1);
        let (piece, after) = rest.split_at(length.min(rest.len()));
        buffer.extend_from_slice(piece);
        rest = after;
    }
}

/// An input of the fuzzer: the first byte says how many of the next are lengths of
/// pieces; the stream follows.
pub fn check_request_input(input: &[u8]) {
    if let Some((count, rest)) = input.split_first()
        && let Some((pieces, stream)) = rest.split_at_checked(usize::from(*count % 16))
    {
        check_request_stream(stream, pieces);
    }
}

/// An input of the fuzzer: the first byte says to which kind of request the rest is
/// a response.
pub fn check_response_input(input: &[u8]) {
    if let Some((flags, response)) = input.split_first() {
        let flag = |bit: u8| flags & (1 << bit) != 0;
        check_response(response, flag(0), flag(1), flag(2));
    }
}

/// However a stream is cut, it comes to the same; what is taken as a request is one
/// to a second reader of the RFC; and so is what the handler gets.
pub fn check_request_stream(stream: &[u8], pieces: &[u8]) {
    // As large a piece as the server ever reads is all of it here.
    let whole = frame(stream, &[]);
    let cut = frame(stream, pieces);
    // Where the end is an error, which of several is found first may depend on what is there.
    assert_eq!(whole.messages, cut.messages);
    assert_eq!(whole.ends, cut.ends);
    match (whole.end, cut.end) {
        (Ok(whole), Ok(cut)) => assert_eq!(whole, cut),
        (Err(_), Err(_)) => {}
        (whole, cut) => panic!("whole it is {whole:?}, in pieces {cut:?}"),
    }
    let mut start = 0;
    for (end, message) in whole.ends.iter().zip(&whole.messages) {
        let request = skip_empty_lines(&stream[start..*end]);
        let (length, body) = second_reading(request).expect("one request to a second reader");
        assert_eq!(length, request.len(), "it ends where a second reader ends it");
        let (length, decoded) = second_reading(message).expect("one message to the handler");
        assert_eq!(length, message.len(), "the message is whole");
        assert_eq!(decoded, body, "and has the body that was sent");
        let head = HeadScanner::default().scan(message, MAX_REQUEST);
        let head = head.expect("the message passes itself").expect("whole");
        assert!(matches!(head.body, BodyLength::Bytes(_)), "the handler sees no coding");
        assert!(!head.expects_continue);
        start = *end;
    }
}

/// A request by the rules of RFC 9112, 6.3 and 7.1, on httparse alone: its length and
/// its decoded body. No limits, no increments, nothing of the framing's own code.
fn second_reading(bytes: &[u8]) -> Option<(usize, Vec<u8>)> {
    let mut fields = [httparse::EMPTY_HEADER; 200];
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    // The version may be a later 1.x, which httparse does not know.
    let line_end = bytes.windows(2).position(|two| two == b"\r\n")?;
    assert!(bytes[line_end - 3..].starts_with(b"1."), "a version that is served");
    let fields = match httparse::parse_headers(&bytes[line_end + 2..end], &mut fields).ok()? {
        httparse::Status::Complete((length, fields)) if line_end + 2 + length == end => fields,
        _ => return None,
    };
    let named = |name: &str| -> Vec<&[u8]> {
        fields.iter().filter(|f| f.name.eq_ignore_ascii_case(name)).map(|f| f.value).collect()
    };
    let rest = &bytes[end..];
    match (&named("transfer-encoding")[..], &named("content-length")[..]) {
        ([], []) => Some((end, Vec::new())),
        ([], [length]) => {
            let length: usize = std::str::from_utf8(length).ok()?.parse().ok()?;
            Some((end + length, rest.get(..length)?.to_vec()))
        }
        ([coding], []) if coding.eq_ignore_ascii_case(b"chunked") => {
            let (length, body) = chunked_body(rest)?;
            Some((end + length, body))
        }
        _ => None,
    }
}

fn chunked_body(bytes: &[u8]) -> Option<(usize, Vec<u8>)> {
    let mut body = Vec::new();
    let mut at = 0;
    loop {
        let (used, size) = match httparse::parse_chunk_size(&bytes[at..]).ok()? {
            httparse::Status::Complete(found) => found,
            httparse::Status::Partial => return None,
        };
        at += used;
        if size == 0 {
            break;
        }
        let data = bytes.get(at..)?.get(..usize::try_from(size).ok()?)?;
        body.extend_from_slice(data);
        at += data.len();
        at += bytes.get(at..)?.starts_with(b"\r\n").then_some(2)?;
    }
    // Trailers, up to an empty line.
    loop {
        let line = bytes[at..].windows(2).position(|two| two == b"\r\n")?;
        at += line + 2;
        if line == 0 {
            return Some((at, body));
        }
    }
}

fn skip_empty_lines(mut bytes: &[u8]) -> &[u8] {
    while let Some(rest) = bytes.strip_prefix(b"\r\n") {
        bytes = rest;
    }
    bytes
}

/// What is forwarded is one response to a strict reader: it has one length, the
/// right one, and no field that the handler slipped in between lines.
pub fn check_response(response: &[u8], is_head: bool, keep_alive: bool, http10: bool) {
    let persistence = match (keep_alive, http10) {
        (false, _) => Persistence::Close,
        (true, false) => Persistence::KeepAlive,
        (true, true) => Persistence::KeepAliveExplicit,
    };
    let reply = Reply { is_head, persistence, now: SystemTime::UNIX_EPOCH };
    let outgoing = match prepare(response, &reply) {
        Ok(outgoing) => outgoing,
        Err(
            Malformed::Head
            | Malformed::Syntax
            | Malformed::Status
            | Malformed::TransferCoding
            | Malformed::Length
            | Malformed::Body,
        ) => return,
    };
    let body = &response[outgoing.body_start..];
    let head = &outgoing.head;
    let mut fields = [httparse::EMPTY_HEADER; 200];
    let mut parsed = httparse::Response::new(&mut fields);
    let end = parsed.parse(head).expect("well-formed").unwrap();
    assert_eq!(end, head.len(), "it is all head");
    assert_eq!(parsed.code, Some(outgoing.status));
    assert!((200..600).contains(&outgoing.status));
    let status = format!("HTTP/1.1 {} ", outgoing.status);
    assert!(head.starts_with(status.as_bytes()));
    let lines = head.split(|byte| *byte == b'\n').count() - 1;
    assert_eq!(lines, parsed.headers.len() + 2, "each line is one field");
    assert!(head.split_inclusive(|byte| *byte == b'\n').all(|line| line.ends_with(b"\r\n")));
    let named = |name: &str| -> Vec<&[u8]> {
        let fields = parsed.headers.iter();
        fields.filter(|f| f.name.eq_ignore_ascii_case(name)).map(|f| f.value).collect()
    };
    let bodiless = is_head || matches!(outgoing.status, 204 | 304);
    let lengths = named("content-length");
    assert!(lengths.len() <= 1);
    if bodiless {
        assert!(body.is_empty());
    } else {
        let length = std::str::from_utf8(lengths.first().expect("a length")).unwrap();
        assert_eq!(length.parse::<usize>().unwrap(), body.len());
    }
    assert_eq!(named("transfer-encoding").len(), 0);
    assert_eq!(named("connection").len(), usize::from(!keep_alive || http10));
    assert!(!named("date").is_empty());
}
