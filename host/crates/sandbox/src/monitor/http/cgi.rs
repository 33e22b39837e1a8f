//! Commands: a request as the Common Gateway Interface has it, version 1.1 (RFC 3875).
//!
//! The meta-variables are in the environment, the body is the standard input, and the standard output is
//! the response. A script's name is empty, since there is one for all paths of a route: all of a path is
//! `PATH_INFO`. A Location without a status redirects the client, also where it is only a path: a script that would
//! have the server answer another request in its place (6.2.2) has the client ask.

use std::net::IpAddr;

use ::http::StatusCode;

use super::head::Head;
use super::incoming::IncomingRequest;
use crate::monitor::Message;
use crate::monitor::NotAnswered;
use crate::monitor::State;

/// Fields of a response; one with more does not pass the server either.
const MAX_FIELDS: usize = 128;

/// What `REMOTE_ADDR` is of a client without an address, as with nginx.
const UNIX: &str = "unix:";

/// What `SERVER_SOFTWARE` says.
const SOFTWARE: &str = concat!("swapbox/", env!("CARGO_PKG_VERSION"));

impl State {
    /// The request is the command's environment and standard input, its standard output the response.
    pub(crate) fn begin_command(&mut self, request: &[u8], client: Option<IpAddr>) {
        let request = IncomingRequest::new(request, self.exchange.spooled.clone());
        self.exchange.is_head = request.is_head();
        self.exchange.stdin = request.body();
        let client = client.map_or_else(|| UNIX.into(), |ip| ip.to_string());
        self.exchange.variables = variables(&request, &client, self.grants.encrypted);
        self.exchange.stdout = Some(Vec::new());
    }

    /// The response, once the command has ended.
    pub(crate) fn end_command(&mut self) -> Result<Message, NotAnswered> {
        let output = self.exchange.stdout.take().unwrap_or_default();
        message(output, self.exchange.is_head).map_err(NotAnswered::Cgi)
    }

    /// Whether the standard output is the response.
    pub(in crate::monitor) fn is_command(&self) -> bool {
        self.exchange.stdout.is_some()
    }

    /// What a command's environment has besides what the operator gives it.
    pub(in crate::monitor) fn meta_variables(&self) -> &[(String, String)] {
        &self.exchange.variables
    }
}

/// The meta-variables of a request (4.1). That clients use TLS is said as other servers say it.
fn variables(request: &IncomingRequest, client: &str, encrypted: bool) -> Vec<(String, String)> {
    let (method, _) = request.words();
    let target = request.path();
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let authority = request.authority().unwrap_or_default();
    let (name, port) = name_and_port(&authority);
    let port = port.unwrap_or(if encrypted { "443" } else { "80" });
    let mut variables: Vec<(String, String)> = [
        ("GATEWAY_INTERFACE", "CGI/1.1"),
        ("SERVER_SOFTWARE", SOFTWARE),
        ("SERVER_PROTOCOL", request.version()),
        ("SERVER_NAME", name),
        ("SERVER_PORT", port),
        ("REQUEST_METHOD", method),
        ("REQUEST_URI", &target),
        ("SCRIPT_NAME", ""),
        ("PATH_INFO", &decoded(path)),
        ("QUERY_STRING", query),
        ("REMOTE_ADDR", client),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into();
    if encrypted {
        variables.push(("HTTPS".to_owned(), "on".to_owned()));
    }
    request.for_each_field(|name, value| add_field(&mut variables, name, value));
    variables
}

/// A field of the request as a meta-variable (4.1.18).
fn add_field(variables: &mut Vec<(String, String)>, name: &str, value: &[u8]) {
    // `HTTP_PROXY` is what many libraries ask others through. A name with an underscore would
    // be taken for one with a hyphen, which somebody in front may have removed.
    let is_meant = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    if name.eq_ignore_ascii_case("proxy") || !is_meant {
        return;
    }
    let value = String::from_utf8_lossy(value);
    let name = name.to_ascii_uppercase().replace('-', "_");
    let name = match name.as_str() {
        "CONTENT_LENGTH" | "CONTENT_TYPE" => name,
        _ => format!("HTTP_{name}"),
    };
    match variables.iter_mut().find(|(other, _)| *other == name) {
        Some((_, all)) => {
            all.push_str(if name == "HTTP_COOKIE" { "; " } else { ", " });
            all.push_str(&value);
        }
        None => variables.push((name, value.into_owned())),
    }
}

/// The name and the port of an authority.
fn name_and_port(authority: &str) -> (&str, Option<&str>) {
    let has_port = |port: &str| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    match authority.rsplit_once(':').filter(|(_, port)| has_port(port)) {
        Some((name, port)) => (name, Some(port)),
        None => (authority.trim_end_matches(':'), None),
    }
}

/// A path with its escapes undone; as it was sent if they come to no text, or to a NUL, which an environment
/// cannot hold.
fn decoded(path: &str) -> String {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let escaped = match (first, after) {
            (b'%', [high, low, ..]) => hex(*high).zip(hex(*low)).map(|(high, low)| high << 4 | low),
            _ => None,
        };
        bytes.push(escaped.unwrap_or(first));
        rest = if escaped.is_some() { after.get(2..).unwrap_or_default() } else { after };
    }
    match String::from_utf8(bytes) {
        Ok(text) if !text.contains('\0') => text,
        _ => path.to_owned(),
    }
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

/// The message of HTTP/1.1 for what a command wrote; or what is wrong with that.
fn message(output: Vec<u8>, is_head: bool) -> Result<Message, &'static str> {
    let (header, body) = split(&output).ok_or("it does not end its header with an empty line")?;
    let start = output.len().saturating_sub(body.len());
    let head = head(header, is_head)?;
    Ok(head.before(output.into(), start))
}

fn head(header: &[u8], is_head: bool) -> Result<Head, &'static str> {
    let mut status = None;
    let mut fields = Vec::new();
    let mut has_location = false;
    for line in header.split(|byte| *byte == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let colon = line.iter().position(|byte| *byte == b':');
        let (name, value) = line.split_at(colon.ok_or("a line of its header is no field")?);
        let value = value.get(1..).unwrap_or_default().trim_ascii();
        let is = |other: &str| name.eq_ignore_ascii_case(other.as_bytes());
        if is("status") {
            if status.replace(parse_status(value)?).is_some() {
                return Err("it has several fields Status");
            }
            continue;
        }
        has_location |= is("location");
        fields.push((name, value));
        if fields.len() > MAX_FIELDS {
            return Err("its header has more than 128 fields");
        }
    }
    let status = status.unwrap_or(match has_location {
        true => StatusCode::FOUND,
        false => StatusCode::OK,
    });
    let mut head = Head::new(status, is_head);
    fields.into_iter().for_each(|(name, value)| head.field(name, value));
    Ok(head)
}

/// The header, without the empty line that ends it, and the body. Lines end in LF, or in CR LF.
fn split(output: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut start = 0_usize;
    for end in memchr::memchr_iter(b'\n', output) {
        let line = output.get(start..end)?;
        if line.is_empty() || line == b"\r" {
            let head = output.get(..start)?;
            let head = head.strip_suffix(b"\n").unwrap_or(head);
            return Some((head, output.get(end.saturating_add(1)..)?));
        }
        start = end.saturating_add(1);
    }
    None
}

/// The value of a field Status: three digits, and a reason that nobody needs.
fn parse_status(value: &[u8]) -> Result<StatusCode, &'static str> {
    let code = value.split(|byte| *byte == b' ').next().unwrap_or_default();
    let status = StatusCode::from_bytes(code).ok().filter(|_| code.len() == 3);
    status.ok_or("its Status is no status")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Vec<(String, String)> {
        variables(&IncomingRequest::new(text.as_bytes(), None), "127.0.0.1", false)
    }

    fn value<'a>(variables: &'a [(String, String)], name: &str) -> Option<&'a str> {
        let mut named = variables.iter().filter(|(other, _)| other == name);
        let first = named.next().map(|(_, value)| value.as_str());
        assert!(named.next().is_none(), "{name} is there once");
        first
    }

    #[test]
    fn a_request_has_the_variables_of_rfc_3875() {
        let all = of(
            "POST /a%20b/c?x=%20y HTTP/1.0\r\nHost: example:81\r\nContent-Type: text/plain\r\n\
                      Content-Length: 2\r\nX-One: 1\r\nX-one: 2\r\nCookie: a=b\r\nCookie: c=d\r\n\r\nab",
        );
        for (name, expected) in [
            ("GATEWAY_INTERFACE", "CGI/1.1"),
            ("REQUEST_METHOD", "POST"),
            ("PATH_INFO", "/a b/c"),
            ("SCRIPT_NAME", ""),
            ("QUERY_STRING", "x=%20y"),
            ("REQUEST_URI", "/a%20b/c?x=%20y"),
            ("SERVER_PROTOCOL", "HTTP/1.0"),
            ("SERVER_NAME", "example"),
            ("SERVER_PORT", "81"),
            ("REMOTE_ADDR", "127.0.0.1"),
            ("CONTENT_TYPE", "text/plain"),
            ("CONTENT_LENGTH", "2"),
            ("HTTP_HOST", "example:81"),
            ("HTTP_X_ONE", "1, 2"),
            ("HTTP_COOKIE", "a=b; c=d"),
        ] {
            assert_eq!(value(&all, name), Some(expected), "{name}");
        }
    }

    #[test]
    fn no_field_of_a_client_becomes_a_variable_that_means_something_else() {
        let all =
            of("GET / HTTP/1.1\r\nHost: [::1]\r\nProxy: http://evil\r\nX_Forwarded-For: 1\r\n\
                      Content_Length: 9\r\nX.Y: 1\r\n\r\n");
        for name in ["HTTP_PROXY", "HTTP_X_FORWARDED_FOR", "CONTENT_LENGTH", "HTTP_X.Y"] {
            assert_eq!(value(&all, name), None, "{name}");
        }
        assert_eq!(
            (value(&all, "SERVER_NAME"), value(&all, "SERVER_PORT")),
            (Some("[::1]"), Some("80"))
        );
    }

    #[test]
    fn tls_is_told_of() {
        let request =
            IncomingRequest::new(b"GET / HTTP/1.1\r\nHost: a\r\nHttps: off\r\n\r\n", None);
        let all = variables(&request, "127.0.0.1", true);
        assert_eq!((value(&all, "HTTPS"), value(&all, "SERVER_PORT")), (Some("on"), Some("443")));
        assert_eq!(value(&of("GET / HTTP/1.1\r\nHttps: on\r\n\r\n"), "HTTPS"), None);
    }

    #[test]
    fn escapes_of_a_path_are_undone_if_they_come_to_text() {
        for (path, expected) in
            [("/%41", "/A"), ("/%4", "/%4"), ("/%zz", "/%zz"), ("/%ff", "/%ff"), ("/%00", "/%00")]
        {
            assert_eq!(decoded(path), expected, "{path}");
        }
    }

    #[test]
    fn output_becomes_a_message() {
        for (output, expected) in [
            (
                "Content-Type: a\n\nbody",
                "HTTP/1.1 200 OK\r\nContent-Type: a\r\ncontent-length: 4\r\n\r\nbody",
            ),
            ("A: b\r\n\r\n", "HTTP/1.1 200 OK\r\nA: b\r\ncontent-length: 0\r\n\r\n"),
            (
                "Status: 404 Gone fishing\n\n\n",
                "HTTP/1.1 404 Not Found\r\ncontent-length: 1\r\n\r\n\n",
            ),
            ("status:204\nContent-Length: 3\n\nabc", "HTTP/1.1 204 No Content\r\n\r\n"),
            ("Location: /x\n\n", "HTTP/1.1 302 Found\r\nLocation: /x\r\ncontent-length: 0\r\n\r\n"),
            ("Content-Length: 9\n\nabc", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc"),
        ] {
            let message = message(output.into(), false).expect(output);
            assert_eq!(String::from_utf8(message.bytes).expect("text"), expected, "{output:?}");
        }
        let head = message(b"A: b\n\nbody".to_vec(), true).expect("it is a message");
        assert!(head.bytes.ends_with(b"content-length: 4\r\n\r\n"));
    }

    #[test]
    fn what_is_no_header_is_no_message() {
        for output in [
            "",
            "\n",
            "\r\n\r\n",
            "hello",
            "hello\n\n",
            "A: b\n",
            "A: b\n: c",
            "Status: 20\n\n",
            "Status: 99999999999\n\n",
            "Status: 2000\n\n",
            "Status: 200\nStatus: 201\n\n",
        ] {
            assert!(message(output.into(), false).is_err(), "{output:?}");
        }
        let many = "A: b\n".repeat(MAX_FIELDS + 1) + "\n";
        assert!(message(many.into(), false).is_err());
    }
}
