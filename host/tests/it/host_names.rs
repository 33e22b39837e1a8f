//! `--host`: by which names clients may call the server.

use crate::support::{Server, for_each_pool};

/// The status of a request with this target and these fields.
fn status(server: &Server, target: &str, version: &str, fields: &str) -> u16 {
    let mut client = server.connect();
    client.send(format!("GET {target} HTTP/{version}\r\n{fields}\r\n"));
    client.response().status
}

for_each_pool!(only_requests_for_one_of_the_names_are_served);
fn only_requests_for_one_of_the_names_are_served(pool: &str) {
    let server = Server::start(pool, &["--host", "files.example", "--host", "[::1]"]);
    for (target, version, fields, expected) in [
        ("/listdir", "1.1", "Host: files.example\r\n", 200),
        ("/listdir", "1.1", "hOST:FILES.example.:99\r\n", 200),
        ("/listdir", "1.1", "Host: [::1]:8885\r\n", 200),
        ("/listdir", "1.1", "Host: evil.example\r\n", 421),
        ("/listdir", "1.1", "Host: files.example.evil.example\r\n", 421),
        ("/listdir", "1.1", "Host: 127.0.0.1\r\n", 421),
        ("/listdir", "1.1", "Host:\r\n", 421),
        ("/listdir", "1.0", "", 421),
        ("/listdir", "1.1", "X-A: b\r\nHost: evil.example\r\nX-Host: files.example\r\n", 421),
        ("http://files.example/listdir", "1.1", "Host: files.example\r\n", 200),
        ("HTTP://evil.example/listdir", "1.1", "Host: files.example\r\n", 421),
        ("http://files.example?x", "1.1", "Host: evil.example\r\n", 421),
    ] {
        assert_eq!(status(&server, target, version, fields), expected, "{target} {fields:?}");
    }
}

#[test]
fn a_refused_request_is_told_of_and_the_connection_goes_on() {
    let mut server = Server::start("thread", &["--host", "files.example"]);
    let mut client = server.connect();
    client.send("GET /listdir HTTP/1.1\r\nHost: evil.example\r\n\r\n");
    let response = client.response();
    assert_eq!(response.status, 421);
    assert!(response.text().contains("does not go by this name"), "{}", response.text());
    server.wait_for_line("no --host has");
    client.send("GET /listdir HTTP/1.1\r\nHost: files.example\r\n\r\n");
    assert_eq!(client.response().status, 200);
}
