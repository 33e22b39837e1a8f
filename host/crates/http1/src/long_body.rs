//! A body that is too long for a message: it is given out in pieces while it arrives.

use bytes::{Buf as _, Bytes, BytesMut};

use super::chunked::ChunkedDecoder;
use super::head::{Head, Reject};

/// A long body that arrives, and the head of its request.
#[derive(Debug)]
pub(super) struct LongBody {
    pub(super) head: Head,
    /// The head as it was sent.
    pub(super) start: Bytes,
    rest: Rest,
    /// Bytes that have arrived.
    length: usize,
}

/// What is still to come.
#[derive(Debug)]
enum Rest {
    /// So many bytes.
    Sized(usize),
    Chunked(ChunkedDecoder),
}

impl LongBody {
    /// One of that many bytes, of which nothing was taken.
    pub(super) fn sized(head: Head, start: Bytes, length: usize) -> Self {
        Self { head, start, rest: Rest::Sized(length), length: 0 }
    }

    /// One in chunks, of which that many bytes were decoded.
    pub(super) fn chunked(
        head: Head,
        start: Bytes,
        decoder: ChunkedDecoder,
        length: usize,
    ) -> Self {
        Self { head, start, rest: Rest::Chunked(decoder), length }
    }

    /// Moves what there is of it from the buffer to the end of `piece`.
    ///
    /// # Errors
    /// Those of the chunked coding.
    pub(super) fn take(
        &mut self,
        buffer: &mut BytesMut,
        piece: &mut BytesMut,
    ) -> Result<(), Reject> {
        match &mut self.rest {
            Rest::Sized(left) => {
                let now = buffer.split_to((*left).min(buffer.len()));
                *left -= now.len();
                self.length += now.len();
                piece.unsplit(now);
            }
            Rest::Chunked(decoder) => {
                let mut now = Vec::new();
                let used = decoder.decode(buffer, &mut now)?;
                buffer.advance(used);
                self.length += now.len();
                piece.extend_from_slice(&now);
            }
        }
        Ok(())
    }

    /// Counts bytes that somebody else has taken; of chunks nobody can.
    pub(super) fn pass(&mut self, bytes: usize) {
        if let Rest::Sized(left) = &mut self.rest {
            let now = bytes.min(*left);
            *left -= now;
            self.length += now;
        }
    }

    /// Whether all of it was taken.
    pub(super) fn is_done(&self) -> bool {
        match &self.rest {
            Rest::Sized(left) => *left == 0,
            Rest::Chunked(decoder) => decoder.is_done(),
        }
    }

    /// Bytes that are still to come; `None` where that is not known.
    pub(super) fn left(&self) -> Option<usize> {
        match &self.rest {
            Rest::Sized(left) => Some(*left),
            Rest::Chunked(_) => None,
        }
    }

    /// Bytes that have arrived, and those that are known to come.
    pub(super) fn known_length(&self) -> usize {
        self.length.saturating_add(self.left().unwrap_or_default())
    }

    /// The head of the message for the handler, once all of the body was taken.
    pub(super) fn message(&self) -> Vec<u8> {
        self.head.request_head(&self.start, self.length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Framing;

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
                        assert!([0, 5000].contains(&framing.long_body()) || sent.len() > 5000);
                        let Some(request) = request else { break };
                        requests.push(request);
                    }
                }
                assert!(pieces == body.as_bytes(), "{pace}");
                let [long, short] = &requests[..] else { panic!("{requests:?}") };
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
    fn the_rest_of_an_announced_body_may_pass_by() {
        let head = "PUT / HTTP/1.1\r\nHost: a\r\n";
        let mut framing = Framing::new(5000, 1000);
        let mut buffer = BytesMut::from(&*format!("{head}Content-Length: 4000\r\n\r\n123"));
        assert_eq!(framing.announced_rest(), None, "nothing is there");
        assert_eq!(framing.step(&mut buffer), Ok(None));
        assert_eq!(framing.announced_rest(), None, "a piece is here");
        assert_eq!(&framing.take_piece()[..], b"123");
        assert_eq!(framing.announced_rest(), Some(3997));
        framing.pass(3996);
        assert_eq!(framing.step(&mut buffer), Ok(None));
        framing.pass(1);
        let request = framing.step(&mut buffer).expect("accepted").expect("whole");
        assert!(request.message.ends_with(b"Content-Length: 4000\r\n\r\n"));

        let mut buffer = BytesMut::from(&*format!("{head}Transfer-Encoding: chunked\r\n\r\n"));
        buffer.extend_from_slice(format!("578\r\n{}\r\n", "x".repeat(1400)).as_bytes());
        assert_eq!(framing.step(&mut buffer), Ok(None));
        assert_eq!(framing.take_piece().len(), 1400);
        assert_eq!(framing.announced_rest(), None, "chunks have to be looked at");
    }

    #[test]
    fn the_length_of_a_long_body_is_known_from_its_head_or_grows() {
        let mut framing = Framing::new(5000, 1000);
        let head = "PUT / HTTP/1.1\r\nHost: a\r\n";
        let mut buffer = BytesMut::from(&*format!("{head}Content-Length: 4000\r\n\r\n"));
        assert_eq!(framing.step(&mut buffer), Ok(None));
        assert_eq!(framing.long_body(), 4000);
        let mut framing = Framing::new(5000, 1000);
        let mut buffer = BytesMut::from(&*format!("{head}Transfer-Encoding: chunked\r\n\r\n"));
        for length in [0, 1400, 2800] {
            assert_eq!(framing.step(&mut buffer), Ok(None));
            assert_eq!(framing.long_body(), length);
            buffer.extend_from_slice(format!("578\r\n{}\r\n", "x".repeat(1400)).as_bytes());
        }
    }
}
