//! A request's head: where it ends, what it means, how its body is delimited.
//!
//! Strict where leniency would let two readers disagree: two lengths, a bare LF
//! or a folded line are errors, never a guess. RFC 9112 throughout; the table in
//! `conformance` has every case.

use std::mem::MaybeUninit;

use super::fields::list;
use super::{content_length, has_clean_line_ends, is_hop_by_hop};

/// Bytes of a request's head, request line and all.
pub const MAX_HEAD: usize = 64 << 10;

/// Header fields of a request.
pub const MAX_FIELDS: usize = 128;

/// Bytes of a request's target.
pub const MAX_TARGET: usize = 8 << 10;

/// Options of the Connection field. Each is looked for among the fields.
const MAX_CONNECTION_OPTIONS: usize = 64;

/// Bytes of a method; the longest registered one has 17.
const MAX_METHOD: usize = 32;

/// Why a request is not served. The connection closes after the answer: where
/// the next request would begin is no longer known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Reject {
    /// 400
    #[error("Bad request: {0}")]
    Bad(&'static str),
    /// 413
    #[error("The request's body is too large")]
    BodyTooLarge,
    /// 414
    #[error("The request's target is too long")]
    TargetTooLong,
    /// 417
    #[error("Only 100-continue can be expected")]
    Expectation,
    /// 431
    #[error("The request's head is too large")]
    HeadTooLarge,
    /// 501
    #[error("Only the transfer coding chunked is understood")]
    TransferCoding,
    /// 505
    #[error("Only HTTP/1.0 and HTTP/1.1 are spoken here")]
    Version,
}

impl Reject {
    /// The status of the answer.
    #[must_use]
    pub fn status(self) -> u16 {
        match self {
            Self::Bad(_) => 400,
            Self::BodyTooLarge => 413,
            Self::TargetTooLong => 414,
            Self::Expectation => 417,
            Self::HeadTooLarge => 431,
            Self::TransferCoding => 501,
            Self::Version => 505,
        }
    }
}

/// A request's version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.0
    Http10,
    /// HTTP/1.1
    Http11,
}

/// How a request's body is delimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyLength {
    /// By a number of bytes; zero where there is no body.
    Bytes(usize),
    /// By the chunked coding.
    Chunked,
}

/// A request's head, understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// Bytes of the head, the empty line included.
    pub length: usize,
    /// The request's version.
    pub version: Version,
    /// How the body is delimited.
    pub body: BodyLength,
    /// Whether the client wants the connection to stay open.
    pub keep_alive: bool,
    /// Whether the client waits for a 100 before it sends the body.
    pub expects_continue: bool,
    /// Whether the method is HEAD.
    pub is_head: bool,
    /// Whether the head must be changed before a handler sees it.
    pub(super) rewrite: bool,
}

impl Head {
    /// Bytes of the head and of a body of known length.
    pub(super) fn end(&self) -> usize {
        match self.body {
            BodyLength::Bytes(length) => self.length.saturating_add(length),
            BodyLength::Chunked => self.length,
        }
    }
}

/// Finds the end of a head in a buffer that grows, looking at each byte once.
#[derive(Debug, Default)]
pub struct HeadScanner {
    scanned: usize,
}

impl HeadScanner {
    /// Looks for a whole head at the start of `buffer`.
    ///
    /// `None` asks for more bytes. Call again with the same buffer, longer.
    ///
    /// # Errors
    /// A [`Reject`] as soon as what is there can no longer become a request.
    pub fn scan(&mut self, buffer: &[u8], max_request: usize) -> Result<Option<Head>, Reject> {
        if buffer.first().is_some_and(|first| !is_token_byte(*first)) {
            return Err(Reject::Bad("this is not HTTP"));
        }
        // Both line ends count here; a bare LF is then refused by name.
        let start = self.scanned.saturating_sub(2);
        let mut ends = memchr::memchr_iter(b'\n', buffer.get(start..).unwrap_or_default());
        let end = ends.find_map(|at| match buffer.get(start + at + 1..) {
            Some([b'\n', ..]) => Some(start + at + 2),
            Some([b'\r', b'\n', ..]) => Some(start + at + 3),
            _ => None,
        });
        let Some(end) = end else {
            self.scanned = buffer.len();
            return if buffer.len() <= MAX_HEAD { Ok(None) } else { Err(too_large(buffer)) };
        };
        self.scanned = 0;
        match buffer.get(..end) {
            Some(head) if end <= MAX_HEAD => parse(head, max_request).map(Some),
            _ => Err(too_large(buffer)),
        }
    }
}

/// Which part of a head is too large.
fn too_large(buffer: &[u8]) -> Reject {
    match buffer.get(..MAX_TARGET) {
        Some(start) if !start.contains(&b'\n') => Reject::TargetTooLong,
        _ => Reject::HeadTooLarge,
    }
}

/// Understands one whole head.
fn parse(head: &[u8], max_request: usize) -> Result<Head, Reject> {
    if !has_clean_line_ends(head) {
        return Err(Reject::Bad("a line does not end in CR LF"));
    }
    let mut fields = [MaybeUninit::uninit(); MAX_FIELDS];
    let mut request = httparse::Request::new(&mut []);
    match request.parse_with_uninit_headers(head, &mut fields) {
        Ok(httparse::Status::Complete(length)) if length == head.len() => {}
        Ok(_) => return Err(Reject::Bad("the head is not well-formed")),
        Err(httparse::Error::Version) => {
            let head = parse(&as_http11(head)?, max_request)?;
            return Ok(Head { rewrite: true, ..head });
        }
        Err(error) => return Err(reject(error)),
    }
    let (Some(method), Some(target)) = (request.method, request.path) else {
        return Err(Reject::Bad("the request line is not well-formed"));
    };
    let version = match request.version {
        Some(0) => Version::Http10,
        _ => Version::Http11,
    };
    if method.len() > MAX_METHOD {
        return Err(Reject::Bad("the method is too long"));
    }
    check_target(method, target)?;

    let mut meaning = Meaning { keep_alive: version == Version::Http11, ..Meaning::default() };
    for field in request.headers.iter() {
        meaning.take(field.name, field.value)?;
    }
    if meaning.hosts != 1 && (version == Version::Http11 || meaning.hosts > 1) {
        return Err(Reject::Bad("there must be one Host field"));
    }
    let body = match (meaning.chunked, meaning.length) {
        (true, Some(_)) => return Err(Reject::Bad("a length and a transfer coding")),
        (true, None) if version == Version::Http10 => {
            return Err(Reject::Bad("HTTP/1.0 has no transfer coding"));
        }
        (true, None) => BodyLength::Chunked,
        (false, length) => match usize::try_from(length.unwrap_or(0)) {
            Ok(length) if length <= max_request => BodyLength::Bytes(length),
            _ => return Err(Reject::BodyTooLarge),
        },
    };
    Ok(Head {
        length: head.len(),
        is_head: method == "HEAD",
        version,
        body,
        // RFC 9112, 9.3: close wins over everything else.
        keep_alive: meaning.keep_alive && !meaning.close,
        // RFC 9110, 10.1.1: a server ignores it in an HTTP/1.0 request.
        expects_continue: meaning.expects_continue && version == Version::Http11,
        rewrite: meaning.rewrite,
    })
}

fn reject(error: httparse::Error) -> Reject {
    match error {
        httparse::Error::TooManyHeaders => Reject::HeadTooLarge,
        httparse::Error::HeaderName => Reject::Bad("a field's name is not well-formed"),
        httparse::Error::HeaderValue => Reject::Bad("a field's value is not well-formed"),
        _ => Reject::Bad("the request line is not well-formed"),
    }
}

/// A head of a later HTTP/1.x, read as if it were of HTTP/1.1 (RFC 9110, 2.5).
fn as_http11(head: &[u8]) -> Result<Vec<u8>, Reject> {
    let line = head.iter().position(|byte| *byte == b'\r').unwrap_or_default();
    let (line, rest) = head.split_at(line);
    let mut words = line.split(|byte| *byte == b' ');
    let (Some(method), Some(target), Some(version), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(Reject::Bad("the request line is not well-formed"));
    };
    match version {
        b"HTTP/1.0" | b"HTTP/1.1" => Err(Reject::Bad("the request line is not well-formed")),
        [b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'0'..=b'9'] => {
            Ok([method, b" ", target, b" HTTP/1.1", rest].concat())
        }
        [b'H', b'T', b'T', b'P', b'/', b'0'..=b'9', b'.', b'0'..=b'9'] => Err(Reject::Version),
        _ => Err(Reject::Bad("the version is not well-formed")),
    }
}

/// Request targets: RFC 9112, 3.2.
fn check_target(method: &str, target: &str) -> Result<(), Reject> {
    if target.len() > MAX_TARGET {
        return Err(Reject::TargetTooLong);
    }
    if target.contains('#') {
        return Err(Reject::Bad("a target has no fragment"));
    }
    let known = match method {
        "CONNECT" => false,
        "OPTIONS" if target == "*" => true,
        _ => target.starts_with('/') || is_absolute(target),
    };
    if known { Ok(()) } else { Err(Reject::Bad("the target has no form that is served here")) }
}

/// The absolute form, which a server must take though only proxies are sent it. An
/// empty host is an error (RFC 9110, 4.2.1), as is a user's name (4.2.4).
fn is_absolute(target: &str) -> bool {
    ["http://", "https://"].iter().any(|scheme| {
        target.split_at_checked(scheme.len()).is_some_and(|(start, rest)| {
            let host = rest.split(['/', '?']).next().unwrap_or_default();
            start.eq_ignore_ascii_case(scheme)
                && !host.is_empty()
                && !host.starts_with(':')
                && host.bytes().all(is_host_byte)
        })
    })
}

/// What the fields say about the message and the connection.
#[derive(Default)]
struct Meaning {
    hosts: usize,
    length: Option<u64>,
    chunked: bool,
    keep_alive: bool,
    close: bool,
    connection_options: usize,
    expects_continue: bool,
    rewrite: bool,
}

impl Meaning {
    fn take(&mut self, name: &str, value: &[u8]) -> Result<(), Reject> {
        let is = |other: &str| name.eq_ignore_ascii_case(other);
        self.rewrite |= is_hop_by_hop(name) || is("expect");
        if is("host") {
            self.hosts += 1;
            if !value.iter().all(|byte| is_host_byte(*byte)) {
                return Err(Reject::Bad("the Host field is not well-formed"));
            }
        } else if is("content-length") {
            let length = content_length(value).ok_or(Reject::Bad("the length is not a number"))?;
            if self.length.replace(length).is_some() {
                return Err(Reject::Bad("there is more than one length"));
            }
        } else if is("transfer-encoding") {
            let is_chunked = |coding: &[u8]| coding.eq_ignore_ascii_case(b"chunked");
            if !is_chunked(value) {
                let mut codings = value.rsplit(|byte| *byte == b',').map(<[u8]>::trim_ascii);
                let last = codings.next().is_some_and(is_chunked);
                return Err(match (last, codings.any(is_chunked)) {
                    (true, false) => Reject::TransferCoding,
                    (true, true) => Reject::Bad("the transfer coding is given twice"),
                    (false, _) => Reject::Bad("the last transfer coding is not chunked"),
                });
            }
            if self.chunked {
                return Err(Reject::Bad("the transfer coding is given twice"));
            }
            self.chunked = true;
        } else if is("connection") {
            for option in list(value) {
                self.connection_options += 1;
                if self.connection_options > MAX_CONNECTION_OPTIONS {
                    return Err(Reject::HeadTooLarge);
                }
                if option.eq_ignore_ascii_case(b"close") {
                    self.close = true;
                } else if option.eq_ignore_ascii_case(b"keep-alive") {
                    self.keep_alive = true;
                }
            }
        } else if is("expect") {
            if !value.eq_ignore_ascii_case(b"100-continue") {
                return Err(Reject::Expectation);
            }
            self.expects_continue = true;
        }
        Ok(())
    }
}

/// `tchar` of RFC 9110, 5.6.2.
fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// What a host and port may consist of (RFC 3986, 3.2.2).
fn is_host_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=:[]".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: usize = 1000;

    fn scan(bytes: &[u8]) -> Result<Option<Head>, Reject> {
        HeadScanner::default().scan(bytes, LIMIT)
    }

    fn head(text: &str) -> Head {
        scan(text.as_bytes()).expect("accepted").expect("complete")
    }

    #[test]
    fn a_prefix_is_not_yet_a_request() {
        let whole = b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc";
        let end = whole.len() - 3;
        let mut scanner = HeadScanner::default();
        for length in 0..end {
            assert_eq!(scanner.scan(&whole[..length], LIMIT), Ok(None), "{length}");
        }
        let head = scanner.scan(whole, LIMIT).expect("accepted").expect("complete");
        assert_eq!(head.length, end);
        assert_eq!(head.body, BodyLength::Bytes(3));
    }

    #[test]
    fn what_cannot_become_a_request_is_rejected_as_soon_as_it_is_there() {
        for (bytes, why) in [
            ("\x16\x03\x01", "this is not HTTP"),
            ("GET / HTTP/1.1\nHost: a\n\n", "a line does not end in CR LF"),
            ("GET / HTTP/1.1\r\nHost: a\r\n\n", "a line does not end in CR LF"),
            ("GET / HTTP/1.1\r\nHo st: a\r\n\r\n", "a field's name is not well-formed"),
            ("GET / HTTP/1.1\r\nA: \0\r\n\r\n", "a field's value is not well-formed"),
        ] {
            assert_eq!(scan(bytes.as_bytes()), Err(Reject::Bad(why)), "{bytes:?}");
        }
    }

    #[test]
    fn a_version_that_is_known_is_not_read_as_a_later_one() {
        for version in ["HTTP/1.0", "HTTP/1.1"] {
            let head = format!("GET / {version}\r\nHost: a\r\n\r\n");
            assert!(as_http11(head.as_bytes()).is_err(), "it would be read for ever");
        }
    }

    #[test]
    fn method_and_version_decide_what_the_answer_is() {
        let head = |line: &str| head(&format!("{line}\r\nHost: a\r\nExpect: 100-continue\r\n\r\n"));
        assert!(head("HEAD / HTTP/1.1").is_head);
        assert!(!head("GET / HTTP/1.1").is_head);
        assert!(head("GET / HTTP/1.1").expects_continue);
        assert!(!head("GET / HTTP/1.0").expects_continue);
    }

    #[test]
    fn connections_persist_as_the_version_says() {
        for (text, expected) in [
            ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", true),
            ("GET / HTTP/1.1\r\nHost: a\r\nConnection: Close\r\n\r\n", false),
            ("GET / HTTP/1.1\r\nHost: a\r\nConnection: x, cLoSe\r\n\r\n", false),
            ("GET / HTTP/1.1\r\nHost: a\r\nConnection: close, keep-alive\r\n\r\n", false),
            ("GET / HTTP/1.0\r\nConnection: close\r\nConnection: keep-alive\r\n\r\n", false),
            ("GET / HTTP/1.0\r\n\r\n", false),
            ("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", true),
        ] {
            assert_eq!(head(text).keep_alive, expected, "{text}");
        }
    }
}
