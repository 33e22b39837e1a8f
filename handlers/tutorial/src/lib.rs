//! The file handler in plain Rust: lists, uploads, downloads and deletes files of one directory.
//!
//! Read it from top to bottom: the request, the routes, what is done with files, the response.
//! `fileops` does the same and more, faster. Left out here: the page for browsers, ranges,
//! conditional requests, media types, OPTIONS, what RFC 9110 has an upload refuse, and the check
//! that keeps other sites' pages from changing files. So it is for reading, not for strangers.

#![cfg(target_family = "wasm")]

use std::collections::hash_map::RandomState;
use std::fs;
use std::hash::BuildHasher as _;
use std::io::{self, ErrorKind};
use std::time::UNIX_EPOCH;

wit_bindgen::generate!({ world: "handler", path: "../../wit" });
export!(Tutorial);

const TEXT: &str = "Content-Type: text/plain; charset=utf-8";
const GREETING: &str = "Welcome to the file server. It understands:\n
GET    /                  this text
GET    /listdir           the files as JSON
POST   /upload/{name}     store the body as a file (PUT does the same)
GET    /download/{name}   a file's bytes
DELETE /delete/{name}     delete a file\n";

struct Tutorial;

impl Guest for Tutorial {
    /// One whole request in, one whole response out. Nothing but files outlasts the call.
    fn handle(request: Vec<u8>) -> Vec<u8> {
        // "POST /upload/x HTTP/1.1", header fields, an empty line, the body: the host sees to it.
        let end = request.windows(4).position(|four| four == b"\r\n\r\n").unwrap_or(request.len());
        let head = String::from_utf8_lossy(&request[..end]);
        let body = request.get(end + 4..).unwrap_or_default();
        let mut words = head.split(' ');
        let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let path = target.split('?').next().unwrap_or_default();
        let answer = route(method, path, body).unwrap_or_else(|error| refusal(&error));
        response(answer, method == "HEAD")
    }
}

/// Finds what the path names, and does what the method asks for.
fn route(method: &str, path: &str, body: &[u8]) -> io::Result<Answer> {
    // "/upload/x" is the action "upload" with the segment "x".
    let parts = path.strip_prefix('/').and_then(|rest| rest.split_once('/'));
    let (action, segment) = parts.unwrap_or((path, ""));
    Ok(match (action, method) {
        ("/", "GET" | "HEAD") => ("200 OK", TEXT, GREETING.into()),
        ("/listdir", "GET" | "HEAD") => list()?,
        ("download", "GET" | "HEAD") => download(&name(segment)?)?,
        ("upload", "POST" | "PUT") => upload(&name(segment)?, body)?,
        ("delete", "DELETE") => delete(&name(segment)?)?,
        ("/" | "/listdir" | "download", _) => not_allowed("Allow: GET, HEAD"),
        ("upload", _) => not_allowed("Allow: POST, PUT"),
        ("delete", _) => not_allowed("Allow: DELETE"),
        _ => ("404 Not Found", TEXT, "Not found".into()),
    })
}

fn not_allowed(methods: &'static str) -> Answer {
    ("405 Method Not Allowed", methods, "Method not allowed".into())
}

/// The file name that a path segment stands for. One that leads out would get nowhere anyway.
fn name(segment: &str) -> io::Result<String> {
    let decoded = percent_encoding::percent_decode_str(segment).decode_utf8().ok();
    let name = decoded.filter(|name| !segment.contains('/') && is_name(name));
    Ok(name.ok_or(ErrorKind::InvalidInput)?.into_owned())
}

fn is_name(name: &str) -> bool {
    let is_forbidden = |c: char| matches!(c, '/' | '\\') || c.is_control();
    (1..=255).contains(&name.len()) && name != "." && name != ".." && !name.contains(is_forbidden)
}

/// Where a file is to a handler, to which the directory of `--dir` is `folder`.
fn path_of(name: &str) -> String {
    format!("folder/{name}")
}

#[derive(serde::Serialize)]
struct File {
    name: String,
    size: u64,
    modified: f64,
}

fn list() -> io::Result<Answer> {
    let mut files = Vec::new();
    for entry in fs::read_dir("folder")? {
        // Left out: what no client can ask for, was deleted since, or is a link that leads out.
        let Ok(name) = entry?.file_name().into_string() else { continue };
        let Ok(metadata) = fs::metadata(path_of(&name)) else { continue };
        if is_name(&name) && metadata.is_file() {
            let modified = metadata.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
            files.push(File { name, size: metadata.len(), modified: modified.as_secs_f64() });
        }
    }
    files.sort_by(|one, other| one.name.cmp(&other.name));
    let body = serde_json::to_vec_pretty(&files)?;
    Ok(("200 OK", "Content-Type: application/json", body))
}

/// Stores the body under another name first: to rename a file is the one step in which it takes the
/// place of another whole. No client can ask for that other name, which has a backslash.
fn upload(name: &str, body: &[u8]) -> io::Result<Answer> {
    let temporary = path_of(&format!(".upload\\{:016x}", RandomState::new().hash_one(name)));
    let stored = fs::write(&temporary, body).and_then(|()| fs::rename(&temporary, path_of(name)));
    stored.inspect_err(|_| drop(fs::remove_file(&temporary)))?;
    Ok(("200 OK", TEXT, format!("File {name} uploaded successfully").into()))
}

fn download(name: &str) -> io::Result<Answer> {
    if fs::metadata(path_of(name))?.is_dir() {
        return Err(ErrorKind::IsADirectory.into());
    }
    Ok(("200 OK", "Content-Type: application/octet-stream", fs::read(path_of(name))?))
}

fn delete(name: &str) -> io::Result<Answer> {
    fs::remove_file(path_of(name))?;
    Ok(("200 OK", TEXT, format!("File {name} deleted successfully").into()))
}

/// What a client is told of an operation that failed.
fn refusal(error: &io::Error) -> Answer {
    let (status, text) = match error.kind() {
        ErrorKind::InvalidInput => ("400 Bad Request", "This is not the name of a file"),
        ErrorKind::NotFound => ("404 Not Found", "File not found"),
        ErrorKind::IsADirectory => ("409 Conflict", "This name is that of a directory"),
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
            ("403 Forbidden", "Not permitted")
        }
        ErrorKind::QuotaExceeded | ErrorKind::TooManyLinks => ("507 Insufficient Storage", "Full"),
        _ => ("500 Internal Server Error", "The directory could not be read or written"),
    };
    (status, TEXT, text.into())
}

/// What becomes a response: a status, a header field, a body.
type Answer = (&'static str, &'static str, Vec<u8>);

fn response((status, field, body): Answer, is_head: bool) -> Vec<u8> {
    let length = body.len();
    let head = format!("HTTP/1.1 {status}\r\n{field}\r\nContent-Length: {length}\r\n\r\n");
    // A HEAD request is answered as if by GET, but without the body.
    if is_head { head.into() } else { [head.into(), body].concat() }
}
