//! The request as the host hands it over: one whole, well-framed message.

use alloc::vec::Vec;
use core::mem::MaybeUninit;

use wasip2::io::streams::InputStream;

/// Header fields a request may carry here; the host lets no more through.
const MAX_FIELDS: usize = 160;

/// What stands for a value that is not text.
const NOT_TEXT: &str = "\u{fffd}";

/// A parsed request that borrows from the bytes of the message.
pub struct Request<'a> {
    pub method: &'a str,
    /// The target's path, still percent-encoded, without the query.
    pub path: &'a str,
    fields: Vec<(&'a str, &'a [u8])>,
    pub body: &'a [u8],
    /// The body, where it is no part of the message.
    pub stream: Option<&'a InputStream>,
}

impl<'a> Request<'a> {
    /// `None` for what is not a request; the host sends no such thing.
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        let mut fields = [const { MaybeUninit::uninit() }; MAX_FIELDS];
        let mut head = httparse::Request::new(&mut []);
        let parsed = head.parse_with_uninit_headers(bytes, &mut fields).ok()?;
        let httparse::Status::Complete(length) = parsed else { return None };
        Some(Self {
            method: head.method?,
            path: path(head.path?),
            fields: head.headers.iter().map(|field| (field.name, field.value)).collect(),
            body: bytes.get(length..)?,
            stream: None,
        })
    }

    /// Bytes of the body, as the request says it; 0 where it does not.
    pub fn length(&self) -> u64 {
        self.only("content-length").and_then(|length| length.parse().ok()).unwrap_or_default()
    }

    /// Whether there is a field of that name.
    pub fn has(&self, name: &str) -> bool {
        self.values(name).next().is_some()
    }

    /// The value of the field of that name, if there is exactly one.
    pub fn only(&self, name: &str) -> Option<&'a str> {
        let mut values = self.values(name);
        values.next().filter(|_| values.next().is_none())
    }

    /// The values of all fields of that name; for one that is not text, what nothing is equal to.
    pub fn values(&self, name: &str) -> impl Iterator<Item = &'a str> {
        self.bytes(name).map(|value| core::str::from_utf8(value).unwrap_or(NOT_TEXT))
    }

    /// The values of all fields of that name, text or not.
    pub fn bytes(&self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        let named = self.fields.iter().filter(move |(n, _)| n.eq_ignore_ascii_case(name));
        named.map(|(_, value)| *value)
    }

    /// The elements of all fields of that name, whose values are lists (RFC 9110, 5.6.1).
    pub fn elements(&self, name: &str) -> impl Iterator<Item = &'a str> {
        let elements = self.values(name).flat_map(|list| list.split(',')).map(str::trim);
        elements.filter(|element| !element.is_empty())
    }

    /// Whether it is to be done only if something holds.
    pub fn is_conditional(&self) -> bool {
        let conditions = ["if-match", "if-none-match", "if-unmodified-since"];
        conditions.iter().any(|name| self.has(name))
    }

    /// Whether the client says that it takes HTML: a browser, not a script.
    pub fn accepts_html(&self) -> bool {
        self.elements("accept").any(|range| {
            let media = range.split(';').next().unwrap_or_default();
            media.trim().eq_ignore_ascii_case("text/html")
        })
    }
}

/// The method of a message; empty if it is none.
pub fn method(message: &[u8]) -> &str {
    let word = message.split(|byte| *byte == b' ').next().unwrap_or_default();
    core::str::from_utf8(word).unwrap_or_default()
}

/// The path of an origin-form or absolute-form target (RFC 9112, 3.2).
fn path(target: &str) -> &str {
    let absolute = if target.starts_with('/') { None } else { target.split_once("://") };
    let origin_form = match absolute {
        Some((_, rest)) => rest.find('/').map_or("/", |start| &rest[start..]),
        None => target,
    };
    origin_form.split(['?', '#']).next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_lose_query_and_authority() {
        for (target, expected) in [
            ("/listdir?x=/y", "/listdir"),
            ("/", "/"),
            ("*", "*"),
            ("http://example.org/a%20b?c", "/a%20b"),
            ("http://example.org", "/"),
            ("/download/a://b", "/download/a://b"),
        ] {
            assert_eq!(path(target), expected, "{target}");
        }
    }

    #[test]
    fn html_is_for_those_who_ask_for_it() {
        let accepts = |accept: &str| {
            let request = format!("GET / HTTP/1.1\r\nAccept: {accept}\r\n\r\n");
            Request::parse(request.as_bytes()).expect("a request").accepts_html()
        };
        assert!(accepts("application/xml, Text/HTML;q=0.9"));
        assert!(!accepts("*/*"));
        assert!(!accepts("text/htmlx"));
    }

    #[test]
    fn a_field_may_come_several_times() {
        let request = Request::parse(b"PUT /x HTTP/1.1\r\nA: 1,, 2\r\na: \xff\r\nB: 3\r\n\r\n");
        let request = request.expect("valid");
        assert_eq!(
            (request.only("a"), request.only("b"), request.only("c")),
            (None, Some("3"), None)
        );
        assert_eq!(request.elements("A").collect::<Vec<_>>(), ["1", "2", NOT_TEXT]);
        assert!(request.has("a") && !request.has("c"));
    }

    #[test]
    fn the_body_follows_the_head() {
        let request =
            Request::parse(b"PUT /x HTTP/1.1\r\nA: 1\r\na: 2\r\n\r\n\r\n\0").expect("valid");
        assert_eq!(request.body, b"\r\n\0");
        assert_eq!(request.values("A").collect::<Vec<_>>(), ["1", "2"]);
        assert!(Request::parse(b"PUT /x HTTP/1.1\r\n").is_none());
    }
}
