//! Handlers that are components of `wasi:http`, as others' tools make them.

use crate::components;
use crate::support::{Server, for_each_pool, noise};

const EXCHANGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../handlers/exchange.wasm");
const PEER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../handlers/peer.wasm");

fn start(pool: &str, args: &[&str]) -> Server {
    Server::start(pool, &[&["--handler", EXCHANGE], args].concat())
}

for_each_pool!(a_request_is_what_the_client_sent);
fn a_request_is_what_the_client_sent(pool: &str) {
    let server = start(pool, &[]);
    let mut client = server.connect();
    client.send(
        "PATCH /request?a=%20b HTTP/1.1\r\nHost: example.com:81\r\nX-One: 1\r\nx-one: 2\r\n\
         Connection: x-hop\r\nX-Hop: no\r\nContent-Length: 2\r\n\r\nab",
    );
    let response = client.response();
    assert_eq!(
        response.text(),
        "method Method::Patch\npath Some(\"/request?a=%20b\")\nscheme Some(Scheme::Http)\n\
         authority Some(\"example.com:81\")\nx-one: 1\nx-one: 2\ncontent-length: 2\n",
        "{pool}"
    );
    assert_eq!(response.field("content-type"), Some("text/plain"));
    client.send("PURGE http://other/request HTTP/1.1\r\nHost: other\r\n\r\n");
    let text = client.response().text().to_owned();
    assert!(text.starts_with("method other PURGE\npath Some(\"/request\")\n"), "{text}");
    assert!(text.contains("authority Some(\"other\")"), "{text}");
}

for_each_pool!(a_body_comes_back_as_it_was_sent);
fn a_body_comes_back_as_it_was_sent(pool: &str) {
    let server = start(pool, &[]);
    for length in [0, 1, 4097, 70_000, 3 << 20] {
        let body = noise(length, 7);
        let response = server.request("POST", "/echo", &body);
        assert_eq!(response.status, 200, "{pool}: {length}");
        assert!(response.body == body, "{pool}: {length}");
    }
    let mut client = server.connect();
    client.send("POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n");
    client.send("5\r\nhello\r\n0\r\nX-Trailer: dropped\r\n\r\n");
    assert_eq!(client.response().text(), "hello", "{pool}");
}

for_each_pool!(fields_keep_to_the_rules);
fn fields_keep_to_the_rules(pool: &str) {
    let server = start(pool, &[]);
    assert_eq!(
        server.get("/fields").text(),
        "good Ok(())\nagain Ok(())\nboth 2\n\
         host Err(HeaderError::Forbidden)\nconnection Err(HeaderError::Forbidden)\n\
         coding Err(HeaderError::Forbidden)\nname Err(HeaderError::InvalidSyntax)\n\
         empty Err(HeaderError::InvalidSyntax)\ninjection Err(HeaderError::InvalidSyntax)\n\
         length Err(HeaderError::InvalidSyntax)\nrequest Err(HeaderError::Immutable)\n\
         copy Ok(())\nresponse Err(HeaderError::Immutable)\n",
        "{pool}"
    );
    assert_eq!(server.get("/once").status, 200, "{pool}: what can be taken once");
}

for_each_pool!(there_is_nobody_to_ask);
fn there_is_nobody_to_ask(pool: &str) {
    let server = start(pool, &[]);
    let response = server.get("/outgoing");
    assert_eq!(response.text(), "ErrorCode::HttpRequestDenied\n", "{pool}");
}

for_each_pool!(a_response_may_be_set_before_and_after_its_body);
fn a_response_may_be_set_before_and_after_its_body(pool: &str) {
    let server = start(pool, &[]);
    let response = server.get("/late");
    assert_eq!((response.text(), response.field("x-late")), ("before and after", Some("yes")));
    let response = server.get("/no-body");
    assert_eq!((response.status, response.body.len()), (200, 0), "{pool}");
    // As elsewhere: who never lets go of a body has written all of it.
    assert_eq!(server.get("/leaked").text(), "all of it", "{pool}");
}

for_each_pool!(what_has_no_body_is_sent_none);
fn what_has_no_body_is_sent_none(pool: &str) {
    let server = start(pool, &[]);
    let mut client = server.connect();
    client.send("HEAD / HTTP/1.1\r\nHost: x\r\n\r\n");
    let response = client.response_to("HEAD");
    assert_eq!(response.field("content-length"), Some("21"), "{pool}");
    for (status, length) in [(204, None), (304, None), (404, Some("6")), (299, Some("6"))] {
        client.send(format!("GET /status?{status} HTTP/1.1\r\nHost: x\r\n\r\n"));
        let response = client.response();
        assert_eq!((response.status, response.field("content-length")), (status, length));
    }
    assert_eq!(server.get("/status?99").text(), "no status", "{pool}");
    // An interim status is no answer, and neither is one that HTTP has not.
    for status in [100, 101, 600, 999] {
        assert_eq!(server.get(&format!("/status?{status}")).status, 502, "{pool}: {status}");
    }
}

for_each_pool!(a_head_counts_as_a_part_of_the_response);
fn a_head_counts_as_a_part_of_the_response(pool: &str) {
    for kind in ["exchange", "cgi", "service"] {
        let handler = format!("{}/../handlers/{kind}.wasm", env!("CARGO_MANIFEST_DIR"));
        let args = ["--handler", &handler, "--max-response", "64KiB"];
        let server =
            Server::start(pool, &[&args[..], &["--workers", "1", "--max-workers", "1"]].concat());
        let workers = server.workers();
        for (less, status) in [(1000, 200), (40, 502), (1, 502), (0, 502)] {
            let response = server.request("POST", "/echo", &vec![b'x'; (64 << 10) - less]);
            assert_eq!(response.status, status, "{pool}: {kind}: {less} bytes less");
        }
        assert_eq!(server.workers(), workers, "{pool}: {kind}");
    }
}

for_each_pool!(a_deleted_file_that_has_no_room_costs_one_response);
fn a_deleted_file_that_has_no_room_costs_one_response(pool: &str) {
    // For the file once, and not for what is deleted and still being sent, too.
    let mut server = start(pool, &["--quota", "150KiB", "--workers", "1", "--max-workers", "1"]);
    let workers = server.workers();
    for _ in 0..3 {
        assert_eq!(server.get("/sent-unlinked").status, 500, "{pool}");
    }
    server.wait_for_line("a file of the handler's response is gone");
    assert_eq!(server.workers(), workers, "{pool}: it is not the worker's fault");
}

for_each_pool!(no_half_response_is_sent);
fn no_half_response_is_sent(pool: &str) {
    let mut server = start(pool, &["--max-response", "1MiB"]);
    let none = "The handler gave no response";
    for (path, status, text, told) in [
        ("/unset", 502, none, "gave no response: it ended without setting a response"),
        ("/unfinished", 502, none, "it did not finish the response's body"),
        ("/short", 502, none, "it did not finish the response's body"),
        ("/long", 502, none, "it did not finish the response's body"),
        ("/error", 500, "The handler failed", r#"InternalError(Some(\"by intent\"))"#),
        ("/trap", 500, "The handler failed", "unreachable"),
        ("/parent-first", 500, "The handler failed", "wasi:http/types outgoing-body.finish: "),
        ("/many-fields", 500, "The handler failed", "more than 64 KiB of header fields"),
        ("/many-handles", 500, "The handler failed", "wasi:http/types fields.new: "),
        ("/endless", 502, "The handler's response is too long", "response is too long"),
    ] {
        let response = server.get(path);
        assert_eq!(response.status, status, "{pool}: {path}: {}", response.text());
        assert!(response.text().starts_with(text), "{pool}: {path}: {}", response.text());
        let line = server.wait_for_line(&format!("target={path} "));
        assert!(line.contains(told), "{pool}: {path}: {line}");
    }
    assert!(server.has_said("written: Some(ErrorCode::HttpResponseBodySize(Some(8)))"));
    assert_eq!(server.get("/").text(), "Hello from wasi:http\n", "{pool}: it serves on");
}

for_each_pool!(a_component_for_another_server_is_served);
fn a_component_for_another_server_is_served(pool: &str) {
    let server = Server::start(pool, &["--handler", PEER]);
    assert_eq!(server.get("/").text(), "Hello!\n", "{pool}");
}

for_each_pool!(an_import_of_types_alone_asks_for_nothing);
fn an_import_of_types_alone_asks_for_nothing(pool: &str) {
    let types = r#"(import "some:other/types@3.1.4" (instance
        (type $level (enum "low" "high")) (export "level" (type (eq $level)))))"#;
    let server = Server::with_handler(pool, &components::no_content(types, ""), &[]);
    assert_eq!(server.get("/").status, 204, "{pool}");
}
