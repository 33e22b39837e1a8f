//! What is taken as a request and what is not, with the status that the client
//! gets; and what is forwarded of a handler's responses. These tables are the
//! specification and the test at once: of this module, of the whole server on both
//! pools, and the seed of the fuzzer.

use crate::Malformed;

/// The limit on bodies that the table is written for, in bytes.
pub const MAX_REQUEST: usize = 1000;

/// A request that is taken: it reaches the handler, and what follows it on the
/// connection is the next request.
pub const TAKEN: u16 = 299;

/// Each row: the bytes of a client, and what becomes of them.
pub fn requests() -> Vec<(String, u16)> {
    let mut rows = heads();
    rows.extend(lengths());
    rows.extend(codings());
    rows.extend(chunks());
    rows.extend(sizes());
    rows
}

/// The start of a row, enough to find it by.
pub fn shown(row: &str) -> String {
    row.chars().take(120).collect()
}

/// Lines, fields, targets, methods and versions.
fn heads() -> Vec<(String, u16)> {
    let rows = [
        // Line ends: RFC 9112, 2.2 lets a server take a bare LF; two readers of it may differ.
        ("GET / HTTP/1.1\nHost: a\n\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\n\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nA: b\rc\r\n\r\n", 400),
        ("GET / HTTP/1.1\rHost: a\r\n\r\n", 400),
        ("\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", TAKEN),
        ("\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", TAKEN),
        ("\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        // Fields: RFC 9112, 5.
        ("GET / HTTP/1.1\r\nHost: a\r\nA: b\r\n c\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nA: b\r\n\tc\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\n Host: a\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost : a\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost\t: a\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHo st: a\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\n: a\r\nHost: a\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nnonsense\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nA\u{e9}: b\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nA: \0\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nA: \x01\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nA: \x1b[0m\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nA: \x7f\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nA: \u{e9}\tb\r\n\r\n", TAKEN),
        ("GET / HTTP/1.1\r\nHost: a\r\nA:\r\n\r\n", TAKEN),
        ("GET / HTTP/1.1\r\nhOST:a\r\n\r\n", TAKEN),
        // Host: RFC 9112, 3.2.
        ("GET / HTTP/1.1\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a@b\r\n\r\n", 400),
        ("GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost:\r\n\r\n", TAKEN),
        ("GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", TAKEN),
        // Targets: RFC 9112, 3.2. The absolute form must be taken.
        ("GET http://a/b HTTP/1.1\r\nHost: a\r\n\r\n", TAKEN),
        ("GET HTTPS://a:80?b HTTP/1.1\r\nHost: a\r\n\r\n", TAKEN),
        ("GET http:///b HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET http://:80/b HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET http://user@a/b HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET ftp://a/b HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET a:80 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", TAKEN),
        ("GET * HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("CONNECT / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET x HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("OPTIONS x HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET /#x HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET /\t HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET /\x7f HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        // Common clients send these as they are typed.
        ("GET /\u{e9}|^ HTTP/1.1\r\nHost: a\r\n\r\n", TAKEN),
        // Methods: any token; what it means is for the handler to say.
        ("get / HTTP/1.1\r\nHost: a\r\n\r\n", TAKEN),
        ("BREW / HTTP/1.1\r\nHost: a\r\n\r\n", TAKEN),
        ("G(T / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("G\u{e9}T / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (" GET / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("A-METHOD-OF-EXACTLY-32-CHARACTER / HTTP/1.1\r\nHost: a\r\n\r\n", TAKEN),
        ("A-METHOD-OF-MORE-THAN-32-CHARACTERS / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("\x16\x03\x01\x02\0\x01\0\x01\u{fc}\x03\x03\r\n\r\n", 400),
        // The request line: one space between its parts, and nothing else.
        ("GET  / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET /  HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET / HTTP/1.1 \r\nHost: a\r\n\r\n", 400),
        ("GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET /\r\nHost: a\r\n\r\n", 400),
        ("GET\r\n\r\n", 400),
        // Versions: RFC 9110, 2.5 has a later HTTP/1.x read as HTTP/1.1.
        ("GET / HTTP/1.2\r\nHost: a\r\n\r\n", TAKEN),
        ("GET / HTTP/1.2\r\n\r\n", 400),
        ("GET / HTTP/0.9\r\nHost: a\r\n\r\n", 505),
        ("GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
        ("GET / HTTP/9.9\r\nHost: a\r\n\r\n", 505),
        ("GET / HTTP/2\r\nHost: a\r\n\r\n", 400),
        ("GET / HTTP/x\r\nHost: a\r\n\r\n", 400),
        ("GET / HTTP/1.10\r\nHost: a\r\n\r\n", 400),
        ("GET / http/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET / HTTP/ 1.1\r\nHost: a\r\n\r\n", 400),
        ("GET / RTSP/1.0\r\nHost: a\r\n\r\n", 400),
        // Expectations: RFC 9110, 10.1.1.
        ("GET / HTTP/1.1\r\nHost: a\r\nExpect: tea\r\n\r\n", 417),
        ("GET / HTTP/1.1\r\nHost: a\r\nExpect: 100-Continue\r\n\r\n", TAKEN),
    ];
    rows.map(|(request, status)| (request.to_owned(), status)).into()
}

/// Content-Length: digits and nothing else, once (RFC 9112, 6.3).
fn lengths() -> Vec<(String, u16)> {
    let rows = [
        ("Content-Length: 3\r\n", TAKEN),
        ("Content-Length: 0003\r\n", TAKEN),
        ("content-LENGTH:\t3 \r\n", TAKEN),
        ("Content-Length: 3\r\nContent-Length: 3\r\n", 400),
        ("Content-Length: 3\r\nContent-Length: 4\r\n", 400),
        ("Content-Length: 3, 3\r\n", 400),
        ("Content-Length: +3\r\n", 400),
        ("Content-Length: -3\r\n", 400),
        ("Content-Length: 0x3\r\n", 400),
        ("Content-Length: 1_0\r\n", 400),
        ("Content-Length: 3.0\r\n", 400),
        ("Content-Length: 3 3\r\n", 400),
        ("Content-Length: \u{663}\r\n", 400),
        ("Content-Length:\r\n", 400),
        ("Content-Length: 9223372036854775808\r\n", 400),
        ("Content-Length: 18446744073709551619\r\n", 400),
        ("Content-Length: 9223372036854775807\r\n", 413),
        ("Content-Length: 1001\r\n", 413),
    ];
    rows.map(|(fields, status)| (post(fields, "abc"), status)).into()
}

/// Transfer-Encoding: chunked and nothing else, once, alone (RFC 9112, 6.1).
fn codings() -> Vec<(String, u16)> {
    let body = "3\r\nabc\r\n0\r\n\r\n";
    let rows = [
        ("Transfer-Encoding: chunked\r\n", TAKEN),
        ("Transfer-Encoding: CHUNKED\r\n", TAKEN),
        ("Transfer-Encoding: chunked\r\nContent-Length: 13\r\n", 400),
        ("Content-Length: 13\r\nTransfer-Encoding: chunked\r\n", 400),
        ("Content-Length: 13\r\nTransfer-Encoding: identity\r\n", 400),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", 400),
        ("Transfer-Encoding: chunked, chunked\r\n", 400),
        ("Transfer-Encoding: chunked, identity\r\n", 400),
        ("Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n", 400),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", 400),
        ("Transfer-Encoding: identity\r\n", 400),
        ("Transfer-Encoding: xchunked\r\n", 400),
        ("Transfer-Encoding: chunked;q=1\r\n", 400),
        ("Transfer-Encoding: \"chunked\"\r\n", 400),
        ("Transfer-Encoding: chunked,\r\n", 400),
        ("Transfer-Encoding:\r\n", 400),
        ("Transfer-Encoding : chunked\r\n", 400),
        ("Transfer-Encoding: \x0bchunked\r\n", 400),
        ("X: a\r\n Transfer-Encoding: chunked\r\n", 400),
        // RFC 9112, 6.1: what is not understood is not implemented.
        ("Transfer-Encoding: gzip, chunked\r\n", 501),
    ];
    let mut rows: Vec<_> =
        rows.iter().map(|(fields, status)| (post(fields, body), *status)).collect();
    rows.push((format!("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n{body}"), 400));
    rows
}

/// The chunked coding: RFC 9112, 7.1.
fn chunks() -> Vec<(String, u16)> {
    let digits = format!("{:017}\r\n", 3);
    let long = format!("3;{}\r\nabc\r\n0\r\n\r\n", "x".repeat(1022));
    let extension = format!("3;{}\r\nabc\r\n0\r\n\r\n", "x".repeat(1023));
    let extensions = format!("1;{}\r\na\r\n", "x".repeat(1000)).repeat(17) + "0\r\n\r\n";
    let signed = format!("A;{}\r\n0123456789\r\n", "x".repeat(85)).repeat(90) + "0\r\n\r\n";
    let trailer = format!("0\r\nX: {}\r\n\r\n", "x".repeat(9000));
    let trailers = |n| format!("0\r\n{}\r\n", format!("X: {}\r\n", "x".repeat(997)).repeat(n));
    let (many, too_many) = (trailers(8), trailers(9));
    let rows = [
        ("0\r\n\r\n", TAKEN),
        ("3\r\nabc\r\n0\r\n\r\n", TAKEN),
        ("0003\r\nabc\r\n00\r\n\r\n", TAKEN),
        ("a\r\n0123456789\r\nA\r\n0123456789\r\n0\r\n\r\n", TAKEN),
        ("3;name=value\r\nabc\r\n0;last\r\n\r\n", TAKEN),
        ("3\r\nabc\r\n0\r\nX-Trailer: dropped\r\n\r\n", TAKEN),
        ("+3\r\nabc\r\n0\r\n\r\n", 400),
        ("-3\r\nabc\r\n0\r\n\r\n", 400),
        ("0x3\r\nabc\r\n0\r\n\r\n", 400),
        ("3 \r\nabc\r\n0\r\n\r\n", 400),
        (" 3\r\nabc\r\n0\r\n\r\n", 400),
        ("\r\nabc\r\n0\r\n\r\n", 400),
        (";x\r\nabc\r\n0\r\n\r\n", 400),
        ("g\r\nabc\r\n0\r\n\r\n", 400),
        ("3\nabc\n0\n\n", 400),
        ("3\rabc\r\n0\r\n\r\n", 400),
        ("3\r\nabc0\r\n\r\n", 400),
        ("3\r\nabcd\r\n0\r\n\r\n", 400),
        ("3\r\nabc\n0\r\n\r\n", 400),
        ("3;\0\r\nabc\r\n0\r\n\r\n", 400),
        ("3;a\rb\r\nabc\r\n0\r\n\r\n", 400),
        ("3\r\nabc\r\n0\r\nContent-Length: 3\r\n\r\n", 400),
        ("3\r\nabc\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        ("3\r\nabc\r\n0\r\nx y: 1\r\n\r\n", 400),
        ("3\r\nabc\r\n0\r\nnonsense\r\n\r\n", 400),
        ("3\r\nabc\r\n0\r\nA: b\n\r\n", 400),
        ("3\r\nabc\r\n0\r\nA: b\r\n c\r\n\r\n", 400),
        ("ffffffffffffffff\r\n", 413),
        ("3e9\r\n", 413),
        (&digits, 400),
        (&signed, TAKEN),
        (&long, TAKEN),
        (&extension, 400),
        (&extensions, 400),
        (&trailer, 400),
        (&many, TAKEN),
        (&too_many, 400),
    ];
    rows.map(|(body, status)| (post("Transfer-Encoding: chunked\r\n", body), status)).into()
}

/// Heads that are too large: RFC 9110, 15.5.15, and RFC 6585, 5.
fn sizes() -> Vec<(String, u16)> {
    let get =
        |target: &str, fields: &str| format!("GET {target} HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
    let kib = |n: usize| "a".repeat(n << 10);
    vec![
        (get("/", &"A: b\r\n".repeat(127)), TAKEN),
        (get("/", &"A: b\r\n".repeat(128)), 431),
        (get("/", &format!("Connection: {}\r\n", "a,".repeat(64))), TAKEN),
        (get("/", &format!("Connection: {}\r\n", "a,".repeat(65))), 431),
        (get("/", &format!("A: {}\r\n", kib(63))), TAKEN),
        (get("/", &format!("A: {}\r\n", kib(64))), 431),
        (format!("GET / HTTP/1.1\r\nHost: a\r\nA: {}", kib(65)), 431),
        (get(&format!("/{}", &kib(8)[1..]), ""), TAKEN),
        (get(&format!("/{}", kib(8)), ""), 414),
        (format!("GET /{}", kib(65)), 414),
    ]
}

fn post(fields: &str, body: &str) -> String {
    format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n{body}")
}

/// Each row: the bytes of a handler that answers a GET, and why they are not forwarded.
pub fn responses() -> Vec<(&'static str, Option<Malformed>)> {
    use Malformed::{Body, Head, Length, Status, Syntax, TransferCoding};
    vec![
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab", None),
        ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", None),
        ("HTTP/1.1 200 \r\nContent-Length: 0\r\n\r\n", None),
        ("HTTP/1.1 599 \u{e9}\r\nX:\r\nContent-Length: 0\r\n\r\n", None),
        ("HTTP/1.1 204 No Content\r\n\r\n", None),
        ("HTTP/1.1 304 Not Modified\r\n\r\n", None),
        ("HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n", None),
        ("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", None),
        // Not a whole head.
        ("", Some(Head)),
        ("HTTP/1.1 200 OK\r\n", Some(Head)),
        ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n", Some(Head)),
        // Not a head.
        ("hello", Some(Syntax)),
        ("\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", Some(Syntax)),
        ("GET / HTTP/1.1\r\nContent-Length: 0\r\n\r\n", Some(Syntax)),
        ("HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", Some(Syntax)),
        ("HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n", Some(Syntax)),
        ("HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n", Some(Syntax)),
        ("HTTP/1.1 2000 OK\r\nContent-Length: 0\r\n\r\n", Some(Syntax)),
        ("HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", Some(Syntax)),
        ("HTTP/1.1  200 OK\r\nContent-Length: 0\r\n\r\n", Some(Syntax)),
        ("HTTP/1.1 200 OK\0\r\nContent-Length: 0\r\n\r\n", Some(Syntax)),
        // Fields that are more than one, or none.
        ("HTTP/1.1 200 OK\nContent-Length: 0\n\n", Some(Syntax)),
        ("HTTP/1.1 200 OK\r\nA: b\nc: d\r\nContent-Length: 0\r\n\r\n", Some(Syntax)),
        ("HTTP/1.1 200 OK\r\nA: b\rc: d\r\nContent-Length: 0\r\n\r\n", Some(Syntax)),
        ("HTTP/1.1 200 OK\r\nA: b\0\r\nContent-Length: 0\r\n\r\n", Some(Syntax)),
        ("HTTP/1.1 200 OK\r\nA : b\r\nContent-Length: 0\r\n\r\n", Some(Syntax)),
        ("HTTP/1.1 200 OK\r\nA: b\r\n c\r\nContent-Length: 0\r\n\r\n", Some(Syntax)),
        ("HTTP/1.1 200 OK\r\n: b\r\nContent-Length: 0\r\n\r\n", Some(Syntax)),
        ("HTTP/1.1 200 OK\r\nnonsense\r\nContent-Length: 0\r\n\r\n", Some(Syntax)),
        // Not a final response.
        ("HTTP/1.1 100 Continue\r\n\r\n", Some(Status)),
        ("HTTP/1.1 101 Switching Protocols\r\n\r\n", Some(Status)),
        ("HTTP/1.1 600 X\r\nContent-Length: 0\r\n\r\n", Some(Status)),
        ("HTTP/1.1 000 X\r\nContent-Length: 0\r\n\r\n", Some(Status)),
        // Not one length.
        ("HTTP/1.1 200 OK\r\n\r\n", Some(Length)),
        ("HTTP/1.1 404 Not Found\r\n\r\nuntil the end", Some(Length)),
        ("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na", Some(Length)),
        ("HTTP/1.1 200 OK\r\nContent-Length: 1, 1\r\n\r\na", Some(Length)),
        ("HTTP/1.1 200 OK\r\nContent-Length: +1\r\n\r\na", Some(Length)),
        ("HTTP/1.1 200 OK\r\nContent-Length: 0x1\r\n\r\na", Some(Length)),
        ("HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\n", Some(Length)),
        ("HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", Some(Length)),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", Some(TransferCoding)),
        // Not that long.
        ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab", Some(Body)),
        ("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nab", Some(Body)),
        ("HTTP/1.1 204 No Content\r\n\r\nab", Some(Body)),
        ("HTTP/1.1 304 Not Modified\r\nContent-Length: 2\r\n\r\nab", Some(Body)),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
            Some(Body),
        ),
    ]
}
