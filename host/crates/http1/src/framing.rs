//! Request framing: which bytes of a client's stream are one request.
//!
//! Pure: no sockets, no clocks. Too few bytes are "not yet", ambiguity is an error
//! and never a guess, and after an error nothing more is taken from the stream:
//! where the next request would begin is then no longer known (RFC 9112, 11.2).

use bytes::{Buf as _, Bytes, BytesMut};

use super::chunked::ChunkedDecoder;
use super::head::{BodyLength, Head, HeadScanner, Reject};
use super::long_body::LongBody;

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
    Long(LongBody),
}

/// A whole request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// What its head means.
    pub head: Head,
    /// The message for the handler: [`Head::request`]; without its body, if that was given out in pieces.
    pub message: Bytes,
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

    /// Bytes that are still to come of a long body whose length was announced, for whoever takes them from the stream
    /// by itself and says so ([`Framing::pass`]); `None` of any other body, or while a piece of it is here.
    #[must_use]
    pub fn announced_rest(&self) -> Option<usize> {
        match &self.state {
            State::Long(body) if self.piece.is_empty() => body.left(),
            _ => None,
        }
    }

    /// Tells that so many bytes of a long body were taken from the stream, and never come into a buffer.
    pub fn pass(&mut self, bytes: usize) {
        if let State::Long(body) = &mut self.state {
            body.pass(bytes);
        }
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
                BodyLength::Bytes(length) if length > self.max_whole => {
                    let start = buffer.split_to(head.length).freeze();
                    State::Long(LongBody::sized(head, start, length))
                }
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
            State::Long(body) => {
                body.take(buffer, &mut self.piece)?;
                if !body.is_done() {
                    return Ok(None);
                }
                *buffer = BytesMut::from(&buffer[..]);
                body.message().into()
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
            State::Sized { head }
            | State::Chunked { head, .. }
            | State::Long(LongBody { head, .. }) => Some(Request { head, message }),
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
            self.state = State::Long(LongBody::chunked(head, start, decoder, body.len()));
            self.piece = Bytes::from(body).into();
        }
        Ok(())
    }

    /// What is awaited, when a step has asked for more bytes.
    #[must_use]
    pub fn awaited(&self, buffer: &[u8]) -> Awaited {
        match &self.state {
            State::Head(_) if is_start(buffer) => Awaited::Start,
            State::Head(_) => Awaited::Head,
            State::Sized { .. } | State::Chunked { .. } | State::Long(_) => Awaited::Body,
        }
    }

    /// How many bytes the next read should have room for.
    #[must_use]
    pub fn room(&self, buffer: &[u8]) -> usize {
        match &self.state {
            State::Sized { head } => head.end().saturating_sub(buffer.len()).clamp(READ, READ_BODY),
            State::Chunked { body, .. } => body.len().clamp(READ, READ_CHUNKED),
            State::Long(body) => {
                body.left().map_or(READ_CHUNKED, |left| left.clamp(READ, READ_BODY))
            }
            State::Head(_) => READ,
        }
    }

    /// Bytes of the request that are no longer in the buffer.
    #[must_use]
    pub fn digested(&self) -> usize {
        match &self.state {
            State::Chunked { start, body, .. } => start.len() + body.len(),
            State::Long(body) => body.start.len() + self.piece.len(),
            _ => 0,
        }
    }

    /// Bytes of a long body: as many as were announced or, in chunks, as have come so far. None of any other.
    #[must_use]
    pub fn long_body(&self) -> usize {
        match &self.state {
            State::Long(body) => body.known_length(),
            State::Head(_) | State::Sized { .. } | State::Chunked { .. } => 0,
        }
    }

    /// Bytes of a body that were announced and are not there yet, of a request that may have been
    /// refused for them; `None` where that is not known.
    #[must_use]
    pub fn outstanding(&self, buffer: &[u8]) -> Option<usize> {
        let end = match &self.state {
            State::Sized { head } => head.end(),
            State::Long(body) => return body.left(),
            State::Chunked { .. } => return None,
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
            State::Chunked { start, .. } | State::Long(LongBody { start, .. }) => start,
            State::Head(_) | State::Sized { .. } => buffer,
        }
    }

    /// Whether the client holds its body back until it is told to continue.
    #[must_use]
    pub fn expects_continue(&self) -> bool {
        match &self.state {
            State::Sized { head }
            | State::Chunked { head, .. }
            | State::Long(LongBody { head, .. }) => head.expects_continue,
            State::Head(_) => false,
        }
    }
}

/// Whether nothing of a request is there: what may still become an empty line is not.
fn is_start(buffer: &[u8]) -> bool {
    matches!(buffer, [] | [b'\r'])
}

#[cfg(test)]
mod tests;
