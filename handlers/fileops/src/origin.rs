//! Whether a page from elsewhere asks for a change.
//!
//! Where a browser says itself how page and server are related (`Sec-Fetch-Site`), that decides.
//! Elsewhere the page's origin is compared with the field `Host`. Who sends neither is no browser,
//! or one so old that it names no origin.

use crate::request::Request;

/// Whether a browser asks on behalf of a page from somewhere else.
pub fn is_cross_site(request: &Request<'_>) -> bool {
    if request.has("sec-fetch-site") {
        let is_own = |site: &str| matches!(site, "same-origin" | "none");
        return !request.values("sec-fetch-site").all(is_own);
    }
    let host = request.only("host").and_then(|host| Authority::parse(host.trim()));
    let is_own = |origin: &str| host.as_ref().is_some_and(|host| host.is_of(origin.trim()));
    !request.values("origin").all(is_own)
}

/// A host, in brackets where it is an IPv6 address, and a port, if there is one.
struct Authority<'a> {
    host: &'a str,
    port: Option<u16>,
}

impl<'a> Authority<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, port),
            _ => (text, ""),
        };
        let is_number = port.bytes().all(|digit| digit.is_ascii_digit());
        let port = match port {
            "" => None,
            port if is_number => Some(port.parse().ok()?),
            _ => return None,
        };
        let is_host = !host.is_empty() && !host.contains(['/', '@', '?', '#', ' ', ',']);
        is_host.then_some(Self { host, port })
    }

    /// Whether pages of this origin are those of this server. The server may be told less than
    /// the browser knows: not the scheme, and not the port by a proxy that passes on nothing but
    /// the host.
    fn is_of(&self, origin: &str) -> bool {
        let Some((scheme, authority)) = origin.split_once("://") else { return false };
        let default = match scheme {
            _ if scheme.eq_ignore_ascii_case("http") => 80,
            _ if scheme.eq_ignore_ascii_case("https") => 443,
            _ => return false,
        };
        let Some(page) = Authority::parse(authority) else { return false };
        let is_port = |port| port == page.port.unwrap_or(default);
        page.host.eq_ignore_ascii_case(self.host) && self.port.is_none_or(is_port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(host: &str, fields: &str, expected: bool) {
        let request = format!("PUT /x HTTP/1.1\r\n{host}\r\n{fields}\r\n");
        let request = Request::parse(request.as_bytes()).expect("a request");
        assert_eq!(is_cross_site(&request), expected, "{host} {fields}");
    }

    #[test]
    fn what_the_browser_says_decides() {
        for site in ["same-origin", "none"] {
            let field = format!("Sec-Fetch-Site: {site}\r\n");
            check("Host: a:1", &field, false);
            // Behind a proxy that has its own name for the server.
            check("Host: a:1", &format!("{field}Origin: https://files.example\r\n"), false);
        }
        for site in ["cross-site", "same-site", "", "Same-Origin, none", "\u{fc}"] {
            let field = format!("Sec-Fetch-Site: {site}\r\n");
            check("Host: a:1", &format!("{field}Origin: http://a:1\r\n"), true);
        }
        check("Host: a:1", "Sec-Fetch-Site: none\r\nSec-Fetch-Site: cross-site\r\n", true);
    }

    #[test]
    fn without_it_origins_are_compared() {
        check("Host: a:1", "", false);
        for (host, origin) in [
            ("a:1", "http://a:1"),
            ("a:1", "https://a:1"),
            ("a:80", "http://a"),
            ("a:443", "https://a"),
            ("a", "http://a"),
            ("a", "http://a:80"),
            ("a", "https://a:443"),
            // A proxy has left the port out.
            ("a", "http://a:8080"),
            ("a:", "http://a"),
            ("Files.Example", "https://files.example"),
            ("[::1]:8885", "http://[::1]:8885"),
            ("[::1]", "http://[::1]"),
        ] {
            check(&format!("Host: {host}"), &format!("Origin: {origin}\r\n"), false);
        }
        for (host, origin) in [
            ("a:1", "http://evil.example"),
            ("a:1", "http://a:2"),
            ("a:1", "http://a"),
            ("a:80", "https://a"),
            ("a:443", "http://a"),
            ("a:1", "null"),
            ("a", "null"),
            ("a", ""),
            ("a", "a"),
            ("a", "http://b"),
            ("a", "http://a.example"),
            ("a", "file://a"),
            ("a", "http://a@b"),
            ("a", "http://b/@a"),
            ("a", "http://a:x"),
            ("a", "http://a:99999"),
            ("a", "http://a http://b"),
            ("[::1]", "http://[::2]"),
            ("a, b", "http://a, b"),
            ("", "http://"),
        ] {
            check(&format!("Host: {host}"), &format!("Origin: {origin}\r\n"), true);
        }
        check("X: y", "Origin: http://a\r\n", true);
        check("Host: a", "Origin: http://a\r\nOrigin: http://b\r\n", true);
    }
}
