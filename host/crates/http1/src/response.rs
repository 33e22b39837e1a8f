//! Responses: a handler's is checked before it is forwarded, the host's own
//! are made here.

use std::io::Write as _;
use std::mem::MaybeUninit;
use std::time::{Duration, SystemTime};

use super::{content_length, has_clean_line_ends, is_hop_by_hop};

/// Bytes of a response's head.
pub const MAX_RESPONSE_HEAD: usize = 64 << 10;

/// Header fields of a response.
const MAX_FIELDS: usize = 128;

/// Why a handler's response is not forwarded. The client sees a 502, the log
/// the reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// There is no whole head.
    #[error("the response has no complete head of at most 64 KiB")]
    Head,
    /// The status line, which must be of HTTP/1.1, or a field is not well-formed.
    #[error("the response's head is not well-formed")]
    Syntax,
    /// Not a final status.
    #[error("the response has no final status")]
    Status,
    /// A transfer coding.
    #[error("the response has a transfer coding")]
    TransferCoding,
    /// No length, several, or one that does not belong.
    #[error("the response has not the one length it should have")]
    Length,
    /// Bytes missing or too many.
    #[error("the response's body is not as long as it says")]
    Body,
}

/// A response ready to be sent.
#[derive(Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// The status.
    pub status: u16,
    /// The head with the host's own fields, the empty line included.
    pub head: Vec<u8>,
    /// Where in the handler's response the body begins.
    pub body_start: usize,
}

/// What a response must look like, whoever made it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Whether it answers a HEAD request, and so has no body.
    pub is_head: bool,
    /// What becomes of the connection.
    pub persistence: Persistence,
    /// The time for `Date`.
    pub now: SystemTime,
}

/// What becomes of the connection after a response (RFC 9112, 9.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Persistence {
    /// The connection closes, and the client is told.
    Close,
    /// The connection stays open, as HTTP/1.1 has it.
    KeepAlive,
    /// The connection stays open, which a client of HTTP/1.0 must be told.
    KeepAliveExplicit,
}

/// Checks a handler's response and makes its head ready for the client.
///
/// # Errors
/// [`Malformed`] for what is not exactly one well-formed response.
pub fn prepare(response: &[u8], reply: &Reply) -> Result<Outgoing, Malformed> {
    prepare_start(response, response.len(), reply)
}

/// As [`prepare`], for a response of that length, of which no more than the start need be there: the
/// first [`MAX_RESPONSE_HEAD`] bytes, or all.
///
/// # Errors
/// Those of [`prepare`].
pub fn prepare_start(start: &[u8], length: usize, reply: &Reply) -> Result<Outgoing, Malformed> {
    let start = start.get(..MAX_RESPONSE_HEAD).unwrap_or(start);
    let mut fields = [MaybeUninit::uninit(); MAX_FIELDS];
    let mut parsed = httparse::Response::new(&mut []);
    let parser = httparse::ParserConfig::default();
    let body_start =
        match parser.parse_response_with_uninit_headers(&mut parsed, start, &mut fields) {
            Ok(httparse::Status::Complete(length)) => length,
            Ok(httparse::Status::Partial) => return Err(Malformed::Head),
            Err(_) => return Err(Malformed::Syntax),
        };
    let head = start.get(..body_start).ok_or(Malformed::Head)?;
    // httparse lets the space go that must stand before even an empty reason.
    let has_clean_start = head.starts_with(b"HTTP/1.1 ") && head.get(12) == Some(&b' ');
    if !has_clean_line_ends(head) || !has_clean_start {
        return Err(Malformed::Syntax);
    }
    let status = parsed.code.filter(|code| (200..600).contains(code)).ok_or(Malformed::Status)?;

    let mut stated = None;
    let (mut rewrite, mut has_date) = (false, false);
    for field in parsed.headers.iter() {
        if field.name.eq_ignore_ascii_case("content-length") {
            let value = content_length(field.value).ok_or(Malformed::Length)?;
            if stated.replace(value).is_some() {
                return Err(Malformed::Length);
            }
        } else if field.name.eq_ignore_ascii_case("transfer-encoding") {
            return Err(Malformed::TransferCoding);
        } else if field.name.eq_ignore_ascii_case("date") {
            has_date = true;
        }
        rewrite |= is_hop_by_hop(field.name);
    }
    let body = length.saturating_sub(body_start) as u64;
    let bodiless = matches!(status, 204 | 304);
    match stated {
        Some(_) if status == 204 => return Err(Malformed::Length),
        None if !bodiless => return Err(Malformed::Length),
        _ if (bodiless || reply.is_head) && body > 0 => return Err(Malformed::Body),
        Some(stated) if !bodiless && !reply.is_head && body != stated => {
            return Err(Malformed::Body);
        }
        _ => {}
    }

    let mut out = Vec::with_capacity(head.len() + 96);
    if rewrite {
        for (number, line) in head.split_inclusive(|byte| *byte == b'\n').enumerate() {
            let dropped = number > 0 && {
                let name = line.split(|byte| *byte == b':').next().unwrap_or_default();
                std::str::from_utf8(name).is_ok_and(is_hop_by_hop)
            };
            if line != b"\r\n" && !dropped {
                out.extend_from_slice(line);
            }
        }
    } else {
        // Without the empty line.
        out.extend_from_slice(head.strip_suffix(b"\r\n").unwrap_or(head));
    }
    if !has_date {
        write_date(&mut out, reply.now);
    }
    end_head(&mut out, reply.persistence);
    Ok(Outgoing { status, head: out, body_start })
}

/// A response of the host's own: a status and a sentence.
#[must_use]
pub fn error_response(status: u16, text: &str, reply: &Reply) -> Vec<u8> {
    let retry = if status == 503 { "Retry-After: 1\r\n" } else { "" };
    own_response(status, retry, text, reply)
}

/// Sends a client elsewhere, for good and with the same method (RFC 9110, 15.4.9).
#[must_use]
pub fn redirect(location: &str, reply: &Reply) -> Vec<u8> {
    own_response(308, &format!("Location: {location}\r\n"), "Moved: a slash is missing", reply)
}

fn own_response(status: u16, fields: &str, text: &str, reply: &Reply) -> Vec<u8> {
    let mut out = Vec::with_capacity(256 + text.len());
    let length = text.len() + 1;
    // Writing to memory does not fail.
    let _ = write!(
        out,
        "HTTP/1.1 {status} {}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {length}\r\n{fields}",
        reason(status)
    );
    write_date(&mut out, reply.now);
    end_head(&mut out, reply.persistence);
    if !reply.is_head {
        let _ = writeln!(out, "{text}");
    }
    out
}

fn end_head(out: &mut Vec<u8>, persistence: Persistence) {
    out.extend_from_slice(match persistence {
        Persistence::Close => b"Connection: close\r\n\r\n",
        Persistence::KeepAlive => b"\r\n",
        Persistence::KeepAliveExplicit => b"Connection: keep-alive\r\n\r\n",
    });
}

/// Writes the `Date` field that an origin server must send (RFC 9110, 6.6.1).
fn write_date(out: &mut Vec<u8>, now: SystemTime) {
    // The format ends with the year 9999.
    const LAST: Duration = Duration::from_secs(253_402_300_799);
    if now.duration_since(SystemTime::UNIX_EPOCH).is_ok_and(|since| since <= LAST) {
        let _ = write!(out, "Date: {}\r\n", httpdate::HttpDate::from(now));
    }
}

fn reason(status: u16) -> &'static str {
    match status {
        308 => "Permanent Redirect",
        400 => "Bad Request",
        404 => "Not Found",
        408 => "Request Timeout",
        413 => "Content Too Large",
        414 => "URI Too Long",
        417 => "Expectation Failed",
        421 => "Misdirected Request",
        431 => "Request Header Fields Too Large",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        507 => "Insufficient Storage",
        _ => "Internal Server Error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab";

    const REPLY: Reply =
        Reply { is_head: false, persistence: Persistence::KeepAlive, now: SystemTime::UNIX_EPOCH };

    fn check(response: &str, is_head: bool) -> Result<Outgoing, Malformed> {
        prepare(response.as_bytes(), &Reply { is_head, ..REPLY })
    }

    fn head(response: &str) -> String {
        String::from_utf8(check(response, false).expect(response).head).expect("text")
    }

    #[test]
    fn a_response_gets_the_hosts_fields() {
        assert_eq!(
            head(OK),
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\n\r\n"
        );
        let with = |persistence| {
            let reply = Reply { persistence, ..REPLY };
            prepare(OK.as_bytes(), &reply).expect("valid").head
        };
        assert!(with(Persistence::Close).ends_with(b"\r\nConnection: close\r\n\r\n"));
        let told = with(Persistence::KeepAliveExplicit);
        assert!(told.ends_with(b"\r\nConnection: keep-alive\r\n\r\n"));
    }

    #[test]
    fn connection_management_is_not_the_handlers() {
        let response = "HTTP/1.1 200 OK\r\nConnection: close\r\nDate: x\r\nKeep-Alive: 5\r\nContent-Length: 0\r\n\r\n";
        assert_eq!(head(response), "HTTP/1.1 200 OK\r\nDate: x\r\nContent-Length: 0\r\n\r\n");
    }

    #[test]
    fn the_table_is_kept() {
        for (response, expected) in crate::conformance::responses() {
            assert_eq!(check(response, false).err(), expected, "{response:?}");
        }
    }

    #[test]
    fn a_head_request_is_answered_by_a_length_without_a_body() {
        assert_eq!(check(OK, true), Err(Malformed::Body));
        assert!(check("HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n", true).is_ok());
    }

    #[test]
    fn the_hosts_errors_are_well_formed() {
        for (status, reason) in [
            (400, "Bad Request"),
            (404, "Not Found"),
            (408, "Request Timeout"),
            (413, "Content Too Large"),
            (414, "URI Too Long"),
            (417, "Expectation Failed"),
            (421, "Misdirected Request"),
            (431, "Request Header Fields Too Large"),
            (500, "Internal Server Error"),
            (501, "Not Implemented"),
            (502, "Bad Gateway"),
            (503, "Service Unavailable"),
            (504, "Gateway Timeout"),
            (505, "HTTP Version Not Supported"),
        ] {
            let response = error_response(status, "why", &REPLY);
            let text = std::str::from_utf8(&response).expect("text");
            assert_eq!(check(text, false).expect("well-formed").status, status);
            assert!(text.starts_with(&format!("HTTP/1.1 {status} {reason}\r\n")), "{text}");
            assert_eq!(text.contains("\r\nRetry-After: 1\r\n"), status == 503, "{text}");
        }
    }
}
