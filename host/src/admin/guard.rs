//! Who may call the operator's listener, as far as a request tells: no web page of others by a browser of this
//! machine.
//!
//! A page whose name was made to lead here (DNS rebinding) calls the listener by its name, which is none of ours.
//! A page of another origin can send a POST, but a browser says whose it is. Pure: no sockets.

use std::net::IpAddr;

use hyper::header::{HOST, HeaderMap, HeaderName, HeaderValue, ORIGIN};

use crate::config::HostName;

/// Says whether a request comes from the same origin, in browsers (Fetch Metadata).
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// The names by which the listener may be called, besides those of loopback and its own address.
#[derive(Debug)]
pub(crate) struct Names {
    /// Those of `--host`.
    pub(crate) hosts: Vec<HostName>,
    /// Whether any IP address is one. A page of others has a name.
    pub(crate) any_ip: bool,
}

impl Names {
    /// Whether an authority is one of the listener, whose address of this connection is `local`.
    pub(crate) fn has(&self, authority: &str, local: Option<IpAddr>) -> bool {
        let Some((host, _)) = split(authority) else { return false };
        let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
        let inner = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        if let Ok(ip) = inner.unwrap_or(&host).parse::<IpAddr>() {
            let ip = ip.to_canonical();
            if ip.is_loopback() || Some(ip) == local || self.any_ip {
                return true;
            }
        }
        host == "localhost"
            || host.ends_with(".localhost")
            || self.hosts.iter().any(|name| name.is_of(authority.as_bytes()))
    }

    /// Whether a request calls the listener by its names alone, or by none: a browser always uses one.
    pub(crate) fn are_called(
        &self,
        headers: &HeaderMap,
        of_target: Option<&str>,
        local: Option<IpAddr>,
    ) -> bool {
        let hosts: Option<Vec<_>> =
            headers.get_all(HOST).iter().map(|host| host.to_str().ok()).collect();
        let Some(hosts) = hosts else { return false };
        hosts.into_iter().chain(of_target).all(|name| self.has(name, local))
    }
}

/// Whether a request that changes something comes from nobody's page, or from one of the listener's own.
pub(crate) fn may_change(headers: &HeaderMap) -> bool {
    let sites = headers.get_all(SEC_FETCH_SITE).iter();
    let is_near = |site: &HeaderValue| matches!(site.as_bytes(), b"same-origin" | b"none");
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    let mut origins = headers.get_all(ORIGIN).iter();
    let is_ours = |origin: &HeaderValue| {
        origin.to_str().ok().zip(host).is_some_and(|(origin, host)| is_same(origin, host))
    };
    sites.into_iter().all(is_near) && origins.all(is_ours)
}

/// Whether an origin is that of a page with this authority.
fn is_same(origin: &str, host: &str) -> bool {
    let Some((scheme, authority)) = origin.split_once("://") else { return false };
    let default = match scheme.to_ascii_lowercase().as_str() {
        "http" => "80",
        "https" => "443",
        _ => return false,
    };
    let parts = |authority| {
        let (host, port): (&str, _) = split(authority)?;
        Some((host.to_ascii_lowercase(), port.unwrap_or(default)))
    };
    parts(authority).is_some() && parts(authority) == parts(host)
}

/// The host and the port of an authority.
fn split(authority: &str) -> Option<(&str, Option<&str>)> {
    let end = authority.find(']').map_or(0, |end| end + 1);
    let (host, port) = match authority.get(end..)?.find(':') {
        Some(colon) => (authority.get(..end + colon)?, authority.get(end + colon + 1..)),
        None => (authority, None),
    };
    let is_number = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit());
    let port = port.filter(|port| !port.is_empty());
    (!host.is_empty() && port.is_none_or(is_number)).then_some((host, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let fields = fields
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        fields.collect()
    }

    #[test]
    fn only_names_of_the_listener_are_its_names() {
        let names = |any_ip| Names { hosts: vec!["ops.example".parse().expect("a name")], any_ip };
        for (host, expected) in [
            ("localhost", true),
            ("LOCALHOST.:9090", true),
            ("box.localhost:9090", true),
            ("127.0.0.1:9090", true),
            ("127.1.2.3", true),
            ("[::1]:9090", true),
            ("[::ffff:127.0.0.1]:1", true),
            ("10.0.0.7:9090", true),
            ("ops.example:9090", true),
            ("10.0.0.8:9090", false),
            ("evil.example", false),
            ("localhost.evil.example", false),
            ("evil.example:127.0.0.1", false),
            ("127.0.0.1.evil.example", false),
            ("notlocalhost", false),
            ("", false),
            (":9090", false),
        ] {
            let local = "10.0.0.7".parse().ok();
            assert_eq!(names(false).has(host, local), expected, "{host}");
        }
        assert!(names(true).has("192.0.2.1:1", None));
        assert!(!names(true).has("evil.example", None));
    }

    #[test]
    fn all_names_of_a_request_count() {
        let names = Names { hosts: Vec::new(), any_ip: false };
        let local = "127.0.0.1".parse().ok();
        let called =
            |fields: &[_], target, local| names.are_called(&headers(fields), target, local);
        assert!(called(&[("host", "localhost")], None, local));
        assert!(!called(&[("host", "localhost"), ("host", "evil.example")], None, local));
        assert!(!called(&[("host", "localhost")], Some("evil.example"), local));
        assert!(called(&[], None, local));
        assert!(called(&[], None, None));
        assert!(!called(&[], Some("evil.example"), local));
        assert!(!called(&[("host", "evil.example")], None, None));
    }

    #[test]
    fn pages_of_others_change_nothing() {
        for (fields, expected) in [
            (&[("host", "localhost:1")][..], true),
            (&[("host", "localhost:1"), ("sec-fetch-site", "none")], true),
            (&[("host", "localhost:1"), ("sec-fetch-site", "same-origin")], true),
            (&[("host", "localhost:1"), ("sec-fetch-site", "same-site")], false),
            (&[("host", "localhost:1"), ("sec-fetch-site", "cross-site")], false),
            (&[("host", "localhost:1"), ("origin", "http://localhost:1")], true),
            (&[("host", "LOCALHOST:80"), ("origin", "http://localhost")], true),
            (&[("host", "ops.example"), ("origin", "https://ops.example:443")], true),
            (&[("host", "localhost:1"), ("origin", "http://localhost:2")], false),
            (&[("host", "localhost:1"), ("origin", "http://evil.example")], false),
            (&[("host", "localhost:1"), ("origin", "null")], false),
            (&[("origin", "http://localhost")], false),
            (&[("host", "[::1]:1"), ("origin", "http://[::1]:1")], true),
            (
                &[
                    ("host", "localhost:1"),
                    ("sec-fetch-site", "same-origin"),
                    ("origin", "http://evil.example"),
                ],
                false,
            ),
        ] {
            assert_eq!(may_change(&headers(fields)), expected, "{fields:?}");
        }
    }
}
