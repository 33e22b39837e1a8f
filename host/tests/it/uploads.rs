//! What an upload's fields say of its body, who may send one, and what becomes of the file.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use crate::support::{Response, Server, for_each_pool};

/// Sends a request with these lines after `Host` and this body.
fn ask(
    server: &Server,
    method: &str,
    target: &str,
    host: &str,
    lines: &[&str],
    body: &str,
) -> Response {
    let mut client = server.connect();
    let lines: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
    client.send(format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\n{lines}\r\n{body}"));
    client.response()
}

for_each_pool!(a_field_that_changes_what_the_body_means_is_not_ignored);
fn a_field_that_changes_what_the_body_means_is_not_ignored(pool: &str) {
    let server = Server::start(pool, &[]);
    fs::write(server.dir.join("x"), "foobar").unwrap();
    for method in ["PUT", "POST"] {
        for (lines, status, says) in [
            (&["Content-Range: bytes 3-5/6"][..], 400, "whole file"),
            (&["content-encoding: gzip"], 415, "own bytes"),
            (&["Content-Encoding: identity", "Content-Encoding: BR"], 415, "own bytes"),
            (&["Content-Encoding: identity, zstd"], 415, "own bytes"),
            (&["Content-Type: Multipart/Form-Data; boundary=x"], 415, "curl -T"),
            (&["Content-Type: text/plain", "Content-Type: multipart/form-data"], 415, "curl -T"),
        ] {
            let lines = [lines, &["Content-Length: 3"]].concat();
            let response = ask(&server, method, "/upload/x", "x", &lines, "bar");
            assert_eq!(response.status, status, "{pool}: {method} {lines:?}");
            assert!(response.text().contains(says), "{pool}: {lines:?}: {}", response.text());
        }
        assert_eq!(ask(&server, method, "/upload/x", "x", &[], "").status, 411, "{pool}: {method}");
        assert_eq!(fs::read_to_string(server.dir.join("x")).unwrap(), "foobar", "{pool}: {method}");
    }
    let chunked = ["Transfer-Encoding: chunked", "Content-Encoding: identity"];
    let response = ask(&server, "PUT", "/upload/x", "x", &chunked, "3\r\nbar\r\n0\r\n\r\n");
    assert_eq!(response.status, 200, "{pool}: {}", response.text());
    assert_eq!(fs::read_to_string(server.dir.join("x")).unwrap(), "bar", "{pool}");
    assert_eq!(ask(&server, "PUT", "/upload/x", "x", &["Content-Length: 0"], "").status, 200);
    assert_eq!(fs::read(server.dir.join("x")).unwrap(), b"", "{pool}: empty is a content, too");
    // What curl says with `-d`.
    let form = ["Content-Length: 1", "Content-Type: application/x-www-form-urlencoded"];
    assert_eq!(ask(&server, "POST", "/upload/x", "x", &form, "y").status, 200, "{pool}");
}

for_each_pool!(a_change_is_for_pages_of_the_same_origin);
fn a_change_is_for_pages_of_the_same_origin(pool: &str) {
    let server = Server::start(pool, &[]);
    let same = "Sec-Fetch-Site: same-origin";
    for (host, lines) in [
        ("127.0.0.1:1", &["Origin: https://files.example", same][..]),
        ("127.0.0.1", &["Origin: http://127.0.0.1:8080", same]),
        ("127.0.0.1", &["Sec-Fetch-Site: none"]),
        ("127.0.0.1", &["Origin: http://127.0.0.1:8080"]),
        ("files.example:80", &["Origin: http://files.example"]),
        ("files.example:443", &["Origin: https://files.example"]),
        ("Files.Example", &["Origin: https://files.example"]),
        ("files.example", &["Origin: http://files.example:80"]),
    ] {
        for (method, route) in [("POST", "upload"), ("DELETE", "delete")] {
            fs::write(server.dir.join("x"), "old").unwrap();
            let lines = [lines, &["Content-Length: 0"]].concat();
            let response = ask(&server, method, &format!("/{route}/x"), host, &lines, "");
            assert_eq!(response.status, 200, "{pool}: {method} {host} {lines:?}");
        }
    }
    fs::write(server.dir.join("x"), "old").unwrap();
    for (host, lines) in [
        ("a", &["Origin: http://evil.example"][..]),
        ("a", &["Origin: null"]),
        ("a:8885", &["Origin: http://a:8886"]),
        ("a:80", &["Origin: https://a"]),
        ("a", &["Origin: http://a", "Sec-Fetch-Site: same-site"]),
        ("a", &["Origin: http://a", "Sec-Fetch-Site: cross-site"]),
        ("a", &["Origin: http://a", "Sec-Fetch-Site: of-tomorrow"]),
    ] {
        for (method, route) in [("PUT", "upload"), ("DELETE", "delete")] {
            let lines = [lines, &["Content-Length: 0"]].concat();
            let response = ask(&server, method, &format!("/{route}/x"), host, &lines, "");
            assert_eq!(response.status, 403, "{pool}: {method} {host} {lines:?}");
        }
    }
    assert_eq!(fs::read_to_string(server.dir.join("x")).unwrap(), "old", "{pool}");
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

for_each_pool!(an_upload_keeps_the_permissions_of_the_file_that_it_replaces);
fn an_upload_keeps_the_permissions_of_the_file_that_it_replaces(pool: &str) {
    let server = Server::start(pool, &[]);
    let path = server.dir.join("x");
    for (before, after) in [
        (0o600, 0o600),
        (0o755, 0o755),
        (0o664, 0o664),
        (0o440, 0o440),
        // Whoever uploads it does not decide as whom it runs.
        (0o6755, 0o755),
    ] {
        fs::write(&path, "old").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(before)).unwrap();
        assert_eq!(server.request("PUT", "/upload/x", b"new").status, 200, "{pool}");
        assert_eq!(mode(&path), after, "{pool}: {before:o}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "new", "{pool}");
        fs::remove_file(&path).unwrap();
    }
    fs::write(server.dir.join("mine"), "").unwrap();
    assert_eq!(server.request("PUT", "/upload/x", b"new").status, 200, "{pool}");
    assert_eq!(mode(&path), mode(&server.dir.join("mine")), "{pool}: a new file");
    // What a link leads to is not replaced.
    let secret = server.scratch().join("secret");
    fs::write(&secret, "").unwrap();
    fs::set_permissions(&secret, Permissions::from_mode(0o600)).unwrap();
    std::os::unix::fs::symlink(&secret, server.dir.join("link")).unwrap();
    assert_eq!(server.request("PUT", "/upload/link", b"new").status, 200, "{pool}");
    assert_eq!(mode(&server.dir.join("link")), mode(&path), "{pool}");
    assert_eq!(mode(&secret), 0o600, "{pool}");
}
