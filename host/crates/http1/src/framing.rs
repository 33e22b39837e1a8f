//! Request framing: which bytes of a client's stream are one request.
//!
//! Pure: no sockets, no clocks. Too few bytes are "not yet", ambiguity is an error
//! and never a guess, and after an error nothing more is taken from the stream:
//! where the next request would begin is then no longer known (RFC 9112, 11.2).

use bytes::{Buf as _, Bytes, BytesMut};

use super::chunked::ChunkedDecoder;
use super::head::{BodyLength, Head, HeadScanner, Reject};

/// Bytes that one read from a client should make room for.
pub const READ: usize = 8 << 10;

/// Bytes by which the buffer of a long body grows.
pub(super) const READ_BODY: usize = 256 << 10;

/// Bytes that are read at once of a chunked body, which takes longer to look at.
const READ_CHUNKED: usize = 64 << 10;

/// Empty lines that are passed over before a request.
const MAX_EMPTY_LINES: usize = 8;

/// Takes whole requests, one after the other, out of a buffer that grows.
///
/// A long body is given out in pieces while it arrives ([`Framing::take_piece`]), and its request without it.
#[derive(Debug)]
pub struct Framing {
    max_request: usize,
    /// Bytes of the longest body that is a part of its message.
    max_whole: usize,
    state: State,
    /// What there is of a long body.
    piece: BytesMut,
    empty_lines: usize,
    failed: bool,
}

#[derive(Debug)]
enum State {
    Head(HeadScanner),
    /// The head still stands in the buffer, with the body behind it.
    Sized {
        head: Head,
    },
    Chunked {
        head: Head,
        start: Bytes,
        decoder: ChunkedDecoder,
        body: Vec<u8>,
    },
    /// The body is given out in pieces.
    Long {
        head: Head,
        start: Bytes,
        rest: Rest,
        /// Bytes that were given out.
        length: usize,
    },
}

/// What is still to come of a long body.
#[derive(Debug)]
enum Rest {
    /// So many bytes.
    Sized(usize),
    Chunked(ChunkedDecoder),
}

/// A whole request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// What its head means.
    pub head: Head,
    /// The message for the handler: [`Head::request`]; without its body, if that was given out in pieces.
    pub message: Bytes,
    /// Bytes of the body that was given out in pieces, if it was.
    pub long: Option<usize>,
}

/// What the next bytes belong to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Awaited {
    /// A request of which nothing is there yet.
    Start,
    /// The rest of a head.
    Head,
    /// The rest of a body.
    Body,
}

impl Framing {
    /// Frames requests with bodies of at most `max_request` bytes, decoded. Those of more than `max_whole` are given
    /// out in pieces.
    #[must_use]
    pub fn new(max_request: usize, max_whole: usize) -> Self {
        let state = State::Head(HeadScanner::default());
        let piece = BytesMut::new();
        Self { max_request, max_whole, state, piece, empty_lines: 0, failed: false }
    }

    /// What has come of a long body since the last time; empty for any other. To be taken after each step.
    pub fn take_piece(&mut self) -> Bytes {
        std::mem::take(&mut self.piece).freeze()
    }

    /// Takes the next request out of the buffer, or as much of it as can be
    /// digested; `None` asks for more bytes behind what is left.
    ///
    /// # Errors
    /// A [`Reject`] as soon as what is there can no longer become a request.
    pub fn step(&mut self, buffer: &mut BytesMut) -> Result<Option<Request>, Reject> {
        if self.failed {
            return Err(Reject::Bad("it follows a bad request"));
        }
        self.try_step(buffer).inspect_err(|_| self.failed = true)
    }

    fn try_step(&mut self, buffer: &mut BytesMut) -> Result<Option<Request>, Reject> {
        if let State::Head(scanner) = &mut self.state {
            // RFC 9112, 2.2: empty lines before a request are passed over.
            while buffer.starts_with(b"\r\n") {
                self.empty_lines += 1;
                if self.empty_lines > MAX_EMPTY_LINES {
                    return Err(Reject::Bad("there are too many empty lines"));
                }
                buffer.advance(2);
            }
            if is_start(buffer) {
                return Ok(None);
            }
            let Some(head) = scanner.scan(buffer, self.max_request)? else { return Ok(None) };
            self.state = match head.body {
                BodyLength::Bytes(length) if length > self.max_whole => State::Long {
                    start: buffer.split_to(head.length).freeze(),
                    head,
                    rest: Rest::Sized(length),
                    length: 0,
                },
                BodyLength::Bytes(_) => State::Sized { head },
                BodyLength::Chunked => State::Chunked {
                    start: buffer.split_to(head.length).freeze(),
                    head,
                    decoder: ChunkedDecoder::new(self.max_request),
                    body: Vec::new(),
                },
            };
        }
        self.lengthen(buffer)?;
        let message = match &mut self.state {
            State::Long { head, start, rest, length } => {
                let before = self.piece.len();
                let is_done = match rest {
                    Rest::Sized(left) => {
                        let now = buffer.split_to((*left).min(buffer.len()));
                        *left -= now.len();
                        self.piece.unsplit(now);
                        *left == 0
                    }
                    Rest::Chunked(decoder) => {
                        let mut body = Vec::new();
                        let used = decoder.decode(buffer, &mut body)?;
                        buffer.advance(used);
                        self.piece.extend_from_slice(&body);
                        decoder.is_done()
                    }
                };
                *length += self.piece.len() - before;
                if !is_done {
                    return Ok(None);
                }
                *buffer = BytesMut::from(&buffer[..]);
                head.request_head(start, *length).into()
            }
            State::Sized { head } => {
                let end = head.end();
                if buffer.len() < end {
                    return Ok(None);
                }
                let message = head.take_request(buffer);
                if end > READ {
                    // What follows must not keep the memory of what was taken.
                    *buffer = BytesMut::from(&buffer[..]);
                }
                message
            }
            State::Chunked { head, start, decoder, body } => {
                if !decoder.is_done() {
                    return Ok(None);
                }
                if body.len() > READ {
                    *buffer = BytesMut::from(&buffer[..]);
                }
                head.request(start, body).into()
            }
            State::Head(_) => return Ok(None),
        };
        self.empty_lines = 0;
        let done = std::mem::replace(&mut self.state, State::Head(HeadScanner::default()));
        Ok(match done {
            State::Sized { head } | State::Chunked { head, .. } => {
                Some(Request { head, message, long: None })
            }
            State::Long { head, length, .. } => Some(Request { head, message, long: Some(length) }),
            State::Head(_) => None,
        })
    }

    /// Looks whether a chunked body has become a long one.
    fn lengthen(&mut self, buffer: &mut BytesMut) -> Result<(), Reject> {
        let State::Chunked { decoder, body, .. } = &mut self.state else { return Ok(()) };
        let used = decoder.decode(buffer, body)?;
        buffer.advance(used);
        if body.len() <= self.max_whole {
            return Ok(());
        }
        let whole = std::mem::replace(&mut self.state, State::Head(HeadScanner::default()));
        if let State::Chunked { head, start, decoder, body } = whole {
            let length = body.len();
            self.piece = Bytes::from(body).into();
            self.state = State::Long { head, start, rest: Rest::Chunked(decoder), length };
        }
        Ok(())
    }

    /// What is awaited, when a step has asked for more bytes.
    #[must_use]
    pub fn awaited(&self, buffer: &[u8]) -> Awaited {
        match &self.state {
            State::Head(_) if is_start(buffer) => Awaited::Start,
            State::Head(_) => Awaited::Head,
            State::Sized { .. } | State::Chunked { .. } | State::Long { .. } => Awaited::Body,
        }
    }

    /// How many bytes the next read should have room for.
    #[must_use]
    pub fn room(&self, buffer: &[u8]) -> usize {
        match &self.state {
            State::Sized { head } => head.end().saturating_sub(buffer.len()).clamp(READ, READ_BODY),
            State::Chunked { body, .. } => body.len().clamp(READ, READ_CHUNKED),
            State::Long { rest: Rest::Sized(left), .. } => (*left).clamp(READ, READ_BODY),
            State::Long { rest: Rest::Chunked(_), .. } => READ_CHUNKED,
            State::Head(_) => READ,
        }
    }

    /// Bytes of the request that are no longer in the buffer.
    #[must_use]
    pub fn digested(&self) -> usize {
        match &self.state {
            State::Chunked { start, body, .. } => start.len() + body.len(),
            State::Long { start, .. } => start.len() + self.piece.len(),
            _ => 0,
        }
    }

    /// Bytes of a body that were announced and are not there yet, of a request that may have been
    /// refused for them; `None` where that is not known.
    #[must_use]
    pub fn outstanding(&self, buffer: &[u8]) -> Option<usize> {
        let end = match &self.state {
            State::Sized { head } => head.end(),
            State::Long { rest: Rest::Sized(left), .. } => *left + buffer.len(),
            State::Chunked { .. } | State::Long { .. } => return None,
            State::Head(_) if is_start(buffer) => 0,
            State::Head(_) => {
                let head = HeadScanner::default().scan(buffer, usize::MAX).ok()??;
                matches!(head.body, BodyLength::Bytes(_)).then_some(head.end())?
            }
        };
        Some(end.saturating_sub(buffer.len()))
    }

    /// The start of the request that is being taken, request line first.
    #[must_use]
    pub fn start<'a>(&'a self, buffer: &'a [u8]) -> &'a [u8] {
        match &self.state {
            State::Chunked { start, .. } | State::Long { start, .. } => start,
            State::Head(_) | State::Sized { .. } => buffer,
        }
    }

    /// Whether the client holds its body back until it is told to continue.
    #[must_use]
    pub fn expects_continue(&self) -> bool {
        match &self.state {
            State::Sized { head } | State::Chunked { head, .. } | State::Long { head, .. } => {
                head.expects_continue
            }
            State::Head(_) => false,
        }
    }
}

/// Whether nothing of a request is there: what may still become an empty line is not.
fn is_start(buffer: &[u8]) -> bool {
    matches!(buffer, [] | [b'\r'])
}

#[cfg(test)]
mod tests {
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
        let chunked =
            head("Transfer-Encoding: chunked") + &format!("{BODY:x}\r\n{body}\r\n0\r\n\r\n");
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
    fn a_long_body_is_given_out_in_pieces() {
        let body: String = (0..5000).map(|n| char::from(b'a' + (n % 23) as u8)).collect();
        let next = "GET /next HTTP/1.1\r\nHost: a\r\n\r\n";
        let chunks: String = body
            .as_bytes()
            .chunks(700)
            .map(|chunk| format!("{:x}\r\n{}\r\n", chunk.len(), String::from_utf8_lossy(chunk)))
            .collect();
        for (framing, sent) in [
            ("Content-Length: 5000", body.clone()),
            ("Transfer-Encoding: chunked", chunks + "0\r\n\r\n"),
        ] {
            let stream = format!("PUT /x HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n{sent}{next}");
            for pace in [1, 100, 701, 4999, 100_000] {
                let (mut framing, mut buffer) = (Framing::new(5000, 1000), BytesMut::new());
                let (mut pieces, mut requests) = (Vec::new(), Vec::new());
                for bytes in stream.as_bytes().chunks(pace) {
                    buffer.extend_from_slice(bytes);
                    loop {
                        let request = framing.step(&mut buffer).expect("accepted");
                        pieces.extend_from_slice(&framing.take_piece());
                        assert!(framing.digested() < 1200, "{}", framing.digested());
                        let Some(request) = request else { break };
                        requests.push(request);
                    }
                }
                assert!(pieces == body.as_bytes(), "{pace}");
                let [long, short] = &requests[..] else { panic!("{requests:?}") };
                assert_eq!((long.long, short.long), (Some(5000), None));
                let head = "PUT /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5000\r\n\r\n";
                assert_eq!(
                    (&long.message[..], &short.message[..]),
                    (head.as_bytes(), next.as_bytes())
                );
            }
        }
        let (mut framing, mut buffer) =
            (Framing::new(5000, 1000), BytesMut::from("PUT / HTTP/1.1\r\n"));
        buffer.extend_from_slice(b"Host: a\r\nTransfer-Encoding: chunked\r\n\r\n1389\r\n");
        assert_eq!(framing.step(&mut buffer), Err(Reject::BodyTooLarge));
    }

    #[test]
    fn what_follows_a_long_body_does_not_keep_its_memory() {
        let mut buffer =
            BytesMut::from("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 900000\r\n\r\n");
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
        let mut buffer = BytesMut::from(
            "PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n186A0\r\n",
        );
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
        let mut buffer =
            BytesMut::from("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 9000\r\n\r\n");
        buffer.resize(buffer.len() + 9000, b'x');
        let at = buffer.as_ptr();
        let request =
            Framing::new(9000, usize::MAX).step(&mut buffer).expect("accepted").expect("whole");
        assert_eq!(request.message.as_ptr(), at);
    }
}
