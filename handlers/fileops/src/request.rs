//! The request as the host hands it over: one whole, well-framed message.

use alloc::vec::Vec;
use core::mem::MaybeUninit;

/// Header fields a request may carry here; the host lets no more through.
const MAX_FIELDS: usize = 160;

/// A parsed request that borrows from the bytes of the message.
pub struct Request<'a> {
    pub method: &'a str,
    /// The target's path, still percent-encoded, without the query.
    pub path: &'a str,
    fields: Vec<(&'a str, &'a [u8])>,
    pub body: &'a [u8],
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
        })
    }

    /// The first field of that name, if it is text.
    pub fn field(&self, name: &str) -> Option<&'a str> {
        let (_, value) = self.fields.iter().find(|(n, _)| n.eq_ignore_ascii_case(name))?;
        core::str::from_utf8(value).ok()
    }

    /// Whether a browser asks on behalf of a page from somewhere else. Browsers
    /// name the page's origin with every change that a page makes.
    pub fn is_cross_site(&self) -> bool {
        let foreign = |origin: &str| {
            let authority = origin.split_once("://").map(|(_, authority)| authority);
            authority.is_none_or(|authority| Some(authority) != self.field("host"))
        };
        matches!(self.field("sec-fetch-site"), Some("cross-site" | "same-site"))
            || self.field("origin").is_some_and(foreign)
    }

    /// Whether it is to be done only if something holds.
    pub fn is_conditional(&self) -> bool {
        let conditions = ["if-match", "if-none-match", "if-unmodified-since"];
        conditions.iter().any(|name| self.field(name).is_some())
    }

    /// The values of all fields of that name, if they are text.
    pub fn values(&self, name: &str) -> impl Iterator<Item = &'a str> {
        let named = self.fields.iter().filter(move |(n, _)| n.eq_ignore_ascii_case(name));
        named.filter_map(|(_, value)| core::str::from_utf8(value).ok())
    }

    /// Whether the client says that it takes HTML: a browser, not a script.
    pub fn accepts_html(&self) -> bool {
        self.field("accept").is_some_and(|accept| {
            accept.split(',').any(|range| {
                let media = range.split(';').next().unwrap_or_default();
                media.trim().eq_ignore_ascii_case("text/html")
            })
        })
    }
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
    fn a_page_from_elsewhere_is_recognised() {
        let check = |fields: &str, expected: bool| {
            let request = format!("PUT /x HTTP/1.1\r\nHost: a:1\r\n{fields}\r\n");
            let request = Request::parse(request.as_bytes()).expect("a request");
            assert_eq!(request.is_cross_site(), expected, "{fields}");
        };
        check("", false);
        check("Origin: http://a:1\r\n", false);
        check("Sec-Fetch-Site: same-origin\r\nOrigin: http://a:1\r\n", false);
        check("Sec-Fetch-Site: cross-site\r\n", true);
        check("Origin: http://evil.example\r\n", true);
        check("Origin: http://a:2\r\n", true);
        check("Origin: null\r\n", true);
    }

    #[test]
    fn the_body_follows_the_head() {
        let request =
            Request::parse(b"PUT /x HTTP/1.1\r\nA: 1\r\na: 2\r\n\r\n\r\n\0").expect("valid");
        assert_eq!(request.body, b"\r\n\0");
        assert_eq!(request.field("A"), Some("1"));
        assert!(Request::parse(b"PUT /x HTTP/1.1\r\n").is_none());
    }
}
