//! What there is to say of a request, beside when it was.
//!
//! Names and attributes are those of OpenTelemetry's conventions for HTTP servers; what those have no name for begins
//! with `swapbox.`. A query is left out, since it may hold secrets.

use std::borrow::Cow;
use std::net::IpAddr;

use crate::observe::metrics::{Layer, known_method};

/// What there is to say of a request that has ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ended<'a> {
    pub(crate) number: u64,
    pub(crate) method: &'a [u8],
    pub(crate) target: &'a [u8],
    pub(crate) scheme: &'static str,
    pub(crate) client: Option<IpAddr>,
    /// The prefix of its handler.
    pub(crate) route: Option<&'a str>,
    pub(crate) status: u16,
    /// 0, if no worker had it.
    pub(crate) worker: u32,
    pub(crate) error: Option<&'a str>,
    pub(crate) stopped_by: Option<Layer>,
}

/// The value of an attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    Text(String),
    Number(u64),
}

/// The name of a request's span: its method and its handler's prefix, of which there are few.
pub(super) fn name(request: &Ended<'_>) -> String {
    let method = known_method(request.method).unwrap_or("HTTP");
    request.route.map_or_else(|| method.to_owned(), |route| format!("{method} {route}"))
}

pub(super) fn attributes(request: &Ended<'_>, authority: &str) -> Vec<(&'static str, Value)> {
    let Ended { number, method, target, scheme, client, route, status, worker, .. } = *request;
    let known = known_method(method);
    let (address, port) = address_and_port(authority);
    let original = || Some(text(method)).filter(|_| known.is_none() && !method.is_empty());
    let texts = [
        ("http.request.method", Some(known.unwrap_or("_OTHER").to_owned())),
        ("http.request.method_original", original()),
        ("url.path", Some(text(path(target))).filter(|path| !path.is_empty())),
        ("url.scheme", Some(scheme.to_owned())),
        ("http.route", route.map(str::to_owned)),
        ("server.address", Some(address.to_owned()).filter(|address| !address.is_empty())),
        ("client.address", client.map(|client| client.to_string())),
        ("error.type", error_type(request).map(Cow::into_owned)),
    ];
    let numbers = [
        ("http.response.status_code", Some(status.into())),
        ("server.port", port),
        ("swapbox.request", Some(number)),
        ("swapbox.worker", Some(worker.into()).filter(|_| worker > 0)),
    ];
    let texts = texts.into_iter().filter_map(|(key, value)| Some((key, Value::Text(value?))));
    let numbers = numbers.into_iter().filter_map(|(key, value)| Some((key, Value::Number(value?))));
    texts.chain(numbers).collect()
}

/// Bytes as text, as far as they are.
pub(super) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What kind of error it was: the layer that ended the call, else the status.
fn error_type(request: &Ended<'_>) -> Option<Cow<'static, str>> {
    match (request.stopped_by, request.status) {
        (Some(layer), _) => Some(layer.name().replace(' ', "_").into()),
        (None, 499) => Some("client_gone".into()),
        (None, status @ 500..) => Some(status.to_string().into()),
        // The response was not written whole.
        (None, 0..400) if request.error.is_some() => Some("broken_off".into()),
        _ => None,
    }
}

/// The path of a request target, in whichever form.
fn path(target: &[u8]) -> &[u8] {
    let start = match target.first() {
        Some(b'/' | b'*') => 0,
        _ => match target.windows(3).position(|three| three == b"://") {
            Some(at) => {
                let authority = target.iter().skip(at + 3).position(|byte| b"/?".contains(byte));
                authority.map_or(target.len(), |length| at + 3 + length)
            }
            None => 0,
        },
    };
    let path = target.get(start..).unwrap_or_default();
    path.split(|byte| *byte == b'?').next().unwrap_or_default()
}

/// A host without the brackets of IPv6, and a port.
fn address_and_port(authority: &str) -> (&str, Option<u64>) {
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, port.parse::<u16>().ok()),
        _ => (authority, None),
    };
    let inner = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    (inner.unwrap_or(host), port.map(Into::into))
}

#[cfg(test)]
mod tests {
    use super::*;

    const USUAL: Ended<'static> = Ended {
        number: 7,
        method: b"GET",
        target: b"/files/a?token=x",
        scheme: "http",
        client: Some(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST)),
        route: Some("/files"),
        status: 200,
        worker: 3,
        error: None,
        stopped_by: None,
    };

    fn value(request: &Ended<'_>, key: &str) -> Option<String> {
        let all = attributes(request, "[::1]:8885");
        let found = all.into_iter().find(|(other, _)| *other == key)?;
        Some(match found.1 {
            Value::Text(text) => text,
            Value::Number(number) => number.to_string(),
        })
    }

    #[test]
    fn spans_are_named_by_what_there_is_little_of() {
        for (method, route, expected) in [
            (&b"GET"[..], Some("/files"), "GET /files"),
            (b"BREW", Some("/"), "HTTP /"),
            (b"POST", None, "POST"),
            (b"", None, "HTTP"),
        ] {
            assert_eq!(name(&Ended { method, route, ..USUAL }), expected);
        }
    }

    #[test]
    fn attributes_are_those_of_the_conventions() {
        for (key, expected) in [
            ("http.request.method", "GET"),
            ("url.path", "/files/a"),
            ("url.scheme", "http"),
            ("http.route", "/files"),
            ("http.response.status_code", "200"),
            ("server.address", "::1"),
            ("server.port", "8885"),
            ("client.address", "127.0.0.1"),
            ("swapbox.request", "7"),
            ("swapbox.worker", "3"),
        ] {
            assert_eq!(value(&USUAL, key).as_deref(), Some(expected), "{key}");
        }
        for key in ["error.type", "http.request.method_original"] {
            assert_eq!(value(&USUAL, key), None, "{key}");
        }
        let other = Ended { method: b"BREW", ..USUAL };
        assert_eq!(value(&other, "http.request.method").as_deref(), Some("_OTHER"));
        assert_eq!(value(&other, "http.request.method_original").as_deref(), Some("BREW"));
    }

    #[test]
    fn errors_have_a_type() {
        let error = Some("why");
        for (status, stopped_by, error, expected) in [
            (504, Some(Layer::Deadline), error, Some("deadline")),
            (502, Some(Layer::ResponseCheck), error, Some("response_check")),
            (503, None, error, Some("503")),
            (500, None, None, Some("500")),
            (499, None, error, Some("client_gone")),
            (404, None, error, None),
            (200, None, error, Some("broken_off")),
        ] {
            let request = Ended { status, stopped_by, error, ..USUAL };
            assert_eq!(error_type(&request).as_deref(), expected, "{status}");
        }
    }

    #[test]
    fn a_path_is_that_of_any_target() {
        for (target, expected) in [
            ("/a/b?c/d", "/a/b"),
            ("*", "*"),
            ("http://a:1/b?c", "/b"),
            ("http://a?c", ""),
            ("https://a", ""),
            ("a:1", "a:1"),
            ("", ""),
        ] {
            assert_eq!(path(target.as_bytes()), expected.as_bytes(), "{target}");
        }
    }

    #[test]
    fn a_port_is_none_of_an_address() {
        for (authority, expected) in [
            ("a", ("a", None)),
            ("a:80", ("a", Some(80))),
            ("a:x", ("a", None)),
            ("[::1]", ("::1", None)),
            ("[::1]:80", ("::1", Some(80))),
            ("", ("", None)),
        ] {
            assert_eq!(address_and_port(authority), expected);
        }
    }
}
