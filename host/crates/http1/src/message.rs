//! The message that a handler gets: the client's, without what concerns only the
//! connection it came over.

use std::ops::Range;

use bytes::{Buf as _, Bytes, BytesMut};

use super::HOP_BY_HOP;
use super::fields::{field, list};
use super::framing::READ;
use super::head::{BodyLength, Head, Version};

/// Fields that the host deals with, besides those between neighbours.
const DROPPED: &[&str] = &["expect"];

/// Fields that a Connection field cannot remove.
const KEPT: &[&str] = &["host", "content-length"];

impl Head {
    /// The message for the handler: the head as it was sent, without what
    /// concerns only this connection, and the decoded body.
    #[must_use]
    pub fn request(&self, head: &[u8], body: &[u8]) -> Vec<u8> {
        if !self.rewrite {
            return [head, body].concat();
        }
        let mut request = Vec::with_capacity(head.len() + body.len() + 32);
        self.rewrite(head, body.len(), &mut request);
        request.extend_from_slice(body);
        request
    }

    /// Takes a request with a body of known length, all of which is there, out of
    /// the buffer; a large one as it stands, without a copy.
    pub(super) fn take_request(&self, buffer: &mut BytesMut) -> Bytes {
        if self.end() > READ && !self.rewrite {
            return buffer.split_to(self.end()).freeze();
        }
        let (head, rest) = buffer.split_at(self.length);
        let body = rest.get(..self.end() - self.length).unwrap_or_default();
        let request = self.request(head, body);
        buffer.advance(self.end());
        request.into()
    }

    /// The head of the message for the handler, whose body of that many bytes lies elsewhere.
    pub(super) fn request_head(&self, head: &[u8], body: usize) -> Vec<u8> {
        if !self.rewrite {
            return head.to_vec();
        }
        let mut request = Vec::with_capacity(head.len() + 32);
        self.rewrite(head, body, &mut request);
        request
    }

    fn rewrite(&self, head: &[u8], body: usize, request: &mut Vec<u8>) {
        let lines = || head.split_inclusive(|byte| *byte == b'\n');
        let named = lines()
            .skip(1)
            .filter_map(field)
            .filter(|(name, _)| name.eq_ignore_ascii_case(b"connection"));
        let named: Vec<&[u8]> = named.flat_map(|(_, value)| list(value)).collect();
        for (number, line) in lines().enumerate() {
            let dropped = number > 0
                && field(line).is_some_and(|(name, _)| {
                    let is = |other: &str| name.eq_ignore_ascii_case(other.as_bytes());
                    let is_named = || named.iter().any(|other| name.eq_ignore_ascii_case(other));
                    DROPPED.iter().chain(HOP_BY_HOP).any(|other| is(other))
                        || (is_named() && !KEPT.iter().any(|other| is(other)))
                });
            if line == b"\r\n" && self.body == BodyLength::Chunked {
                request.extend_from_slice(format!("Content-Length: {body}\r\n").as_bytes());
            }
            if !dropped {
                request.extend_from_slice(line);
            }
            // A later HTTP/1.x is served as HTTP/1.1, and the handler need not know that there are any.
            if number == 0
                && self.version == Version::Http11
                && let Some(minor) = request.iter_mut().nth_back(b"\r\n".len())
            {
                *minor = b'1';
            }
        }
    }
}

/// Takes bytes out of a message's request line. What stands before them moves up, so that a long
/// body is not copied.
pub fn without(message: Bytes, taken: Range<usize>) -> Bytes {
    let mut message = message.try_into_mut().unwrap_or_else(|shared| BytesMut::from(&*shared));
    if taken.end <= message.len() {
        message.copy_within(..taken.start, taken.len());
        message.advance(taken.len());
    }
    message.freeze()
}

#[cfg(test)]
mod tests {
    use bytes::{Bytes, BytesMut};

    use super::without;
    use crate::{HeadScanner, READ};

    fn request(text: &str, body: &str) -> String {
        let head = HeadScanner::default().scan(text.as_bytes(), 1000);
        let head = head.expect("accepted").expect("complete");
        String::from_utf8(head.request(text.as_bytes(), body.as_bytes())).expect("text")
    }

    #[test]
    fn a_plain_head_reaches_the_handler_as_it_was_sent() {
        let text = "POST /x HTTP/1.1\r\nhOst:  a \r\nContent-Length: 2\r\nX:\ty\r\n\r\n";
        assert_eq!(request(text, "ab"), format!("{text}ab"));
    }

    #[test]
    fn a_later_version_reaches_the_handler_as_the_one_that_is_served() {
        let text = "GET /HTTP/1.2 HTTP/1.2\r\nHost: a\r\n\r\n";
        assert_eq!(request(text, ""), "GET /HTTP/1.2 HTTP/1.1\r\nHost: a\r\n\r\n");
        let text = "GET / HTTP/1.0\r\nHost: a\r\nTE: x\r\n\r\n";
        assert_eq!(request(text, ""), "GET / HTTP/1.0\r\nHost: a\r\n\r\n");
    }

    #[test]
    fn what_concerns_the_connection_does_not_reach_the_handler() {
        let text = "POST /x HTTP/1.1\r\nHost: a\r\nConnection: close, X-Hop, host\r\nX-Hop: 1\r\n\
                    Transfer-Encoding: chunked\r\nExpect: 100-continue\r\nTE: trailers\r\nY: 2\r\n\r\n";
        assert_eq!(
            request(text, "ab"),
            "POST /x HTTP/1.1\r\nHost: a\r\nY: 2\r\nContent-Length: 2\r\n\r\nab"
        );
    }

    #[test]
    fn nor_does_it_before_a_long_body() {
        let length = 2 * READ;
        let mut buffer = BytesMut::from(&*format!(
            "POST /x HTTP/1.1\r\nHost: a\r\nConnection: X-Hop\r\nX-Hop: 1\r\n\
             Content-Length: {length}\r\n\r\n"
        ));
        let head = HeadScanner::default().scan(&buffer, length).expect("accepted");
        buffer.resize(buffer.len() + length, b'x');
        let request = head.expect("complete").take_request(&mut buffer);
        let expected = format!("POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n");
        assert_eq!(request[..expected.len()], *expected.as_bytes());
        assert_eq!((request.len(), buffer.len()), (expected.len() + length, 0));
    }

    #[test]
    fn a_part_of_the_request_line_is_taken_out_in_place() {
        let message = Bytes::from(b"GET /files/x HTTP/1.1\r\n\r\n".to_vec());
        let (end, shared) = (message.as_ptr_range().end, message.clone());
        assert_eq!(without(shared, 4..10), "GET /x HTTP/1.1\r\n\r\n", "of one that others have");
        let message = without(message, 4..10);
        assert_eq!(message, "GET /x HTTP/1.1\r\n\r\n");
        assert_eq!(message.as_ptr_range().end, end, "it was not copied");
    }

    #[test]
    fn the_request_line_is_no_field() {
        let text = "GET http://a/ HTTP/1.1\r\nHost: a\r\nConnection: GET http\r\n\r\n";
        assert_eq!(request(text, ""), "GET http://a/ HTTP/1.1\r\nHost: a\r\n\r\n");
    }
}
