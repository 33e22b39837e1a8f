//! The attacks as a handler of bytes.

use crate::{Reply, attack};

wit_bindgen::generate!({ world: "handler", path: "../../wit" });

struct Hostile;

impl Guest for Hostile {
    fn handle(request: Vec<u8>) -> Vec<u8> {
        let (name, query) = target(&request);
        match attack(&name, &query) {
            Reply::Line(line) => answer("200 OK", &line),
            Reply::Response(response) => response,
            Reply::Unknown => answer("404 Not Found", "no such attack\n"),
        }
    }
}

/// The path, without its first slash, and the query of the request: of the second word of its first line.
fn target(request: &[u8]) -> (String, String) {
    let target = request.split(|byte| *byte == b' ').nth(1).unwrap_or_default();
    let target = String::from_utf8_lossy(target);
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    (path.strip_prefix('/').unwrap_or(path).to_owned(), query.to_owned())
}

/// A well-formed response.
fn answer(status: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    let head =
        format!("HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\n");
    format!("{head}\r\n{body}").into_bytes()
}

export!(Hostile);
