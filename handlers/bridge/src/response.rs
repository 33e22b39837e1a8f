//! Responses: a handler's message, taken apart once it is known to be well-formed.

use alloc::vec::Vec;

/// Fields of a response, as many as Swapbox takes.
const MAX_FIELDS: usize = 128;

/// A well-formed response with a final status.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Response<'a> {
    pub(crate) status: u16,
    /// The fields, in the order in which they came.
    pub(crate) fields: Vec<(&'a str, &'a [u8])>,
    pub(crate) body: &'a [u8],
}

impl<'a> Response<'a> {
    /// The response that a message is, to a HEAD request or to another; `None` if it is not exactly one.
    pub(crate) fn parse(message: &'a [u8], is_head: bool) -> Option<Self> {
        let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
        let mut parsed = httparse::Response::new(&mut fields);
        let Ok(httparse::Status::Complete(head)) = parsed.parse(message) else { return None };
        let (head, body) = message.split_at_checked(head)?;
        let mut lines = head.split_inclusive(|byte| *byte == b'\n');
        if parsed.version != Some(1) || !lines.all(|line| line.ends_with(b"\r\n")) {
            return None;
        }
        let status = parsed.code.filter(|status| (200..600).contains(status))?;
        let mut length = None;
        for field in parsed.headers.iter() {
            if field.name.eq_ignore_ascii_case("transfer-encoding") {
                return None;
            }
            if field.name.eq_ignore_ascii_case("content-length")
                && length.replace(number(field.value)?).is_some()
            {
                return None;
            }
        }
        let is_whole = match status {
            204 => length.is_none() && body.is_empty(),
            304 => body.is_empty(),
            _ if is_head => length.is_some() && body.is_empty(),
            _ => length == Some(body.len() as u64),
        };
        let fields = parsed.headers.iter().map(|field| (field.name, field.value)).collect();
        is_whole.then_some(Self { status, fields, body })
    }
}

/// The value of Content-Length, in digits alone: more, perhaps, than a handler's memory can hold.
fn number(value: &[u8]) -> Option<u64> {
    let digits = core::str::from_utf8(value).ok()?;
    digits.bytes().all(|digit| digit.is_ascii_digit()).then(|| digits.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-A:  b \r\nx-a: c\r\n\r\nab";

    #[test]
    fn a_message_is_taken_apart() {
        let response = Response::parse(GOOD.as_bytes(), false).expect("a response");
        let fields: [(&str, &[u8]); 3] = [("Content-Length", b"2"), ("X-A", b"b"), ("x-a", b"c")];
        assert_eq!(response, Response { status: 200, fields: fields.to_vec(), body: b"ab" });
    }

    fn check(message: &str, is_head: bool, expected: bool) {
        assert_eq!(Response::parse(message.as_bytes(), is_head).is_some(), expected, "{message:?}");
    }

    #[test]
    fn what_is_not_exactly_one_response_is_none() {
        for end in 0..GOOD.len() {
            check(&GOOD[..end], false, false);
        }
        let bad = [
            "HTTP/1.1 200 OK\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nab",
            "HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nab",
            "HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nab",
            "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\nab",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX: a\rb\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX: a\r\n b\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX y: a\r\n\r\n",
            "HTTP/1.1 200 OK\nContent-Length: 0\n\n",
            "HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n",
            "HTTP/1.1 103 Early Hints\r\nContent-Length: 0\r\n\r\n",
            "HTTP/1.1 600 Beyond\r\nContent-Length: 0\r\n\r\n",
            "HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n",
            "HTTP/1.1 304 Not Modified\r\n\r\na",
            "GET / HTTP/1.1\r\n\r\n",
            "",
        ];
        for message in bad {
            check(message, false, false);
        }
    }

    #[test]
    fn some_responses_have_no_body() {
        let head = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n";
        check(head, true, true);
        check("HTTP/1.1 200 OK\r\nContent-Length: 5368709120\r\n\r\n", true, true);
        check(GOOD, true, false);
        check("HTTP/1.1 200 OK\r\n\r\n", true, false);
        check("HTTP/1.1 204 No Content\r\n\r\n", false, true);
        check("HTTP/1.1 304 Not Modified\r\nContent-Length: 2\r\n\r\n", false, true);
    }
}
