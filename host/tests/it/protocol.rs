//! HTTP/1.x over real sockets, byte by byte where it matters.

use std::net::Shutdown;

use crate::components;
use crate::support::{Server, for_each_pool, noise};

for_each_pool!(connections_persist_until_someone_closes);
fn connections_persist_until_someone_closes(pool: &str) {
    let server = Server::start(pool, &[]);
    let mut client = server.connect();
    for _ in 0..3 {
        let response = client.request("GET", "/listdir", b"");
        assert_eq!((response.status, response.field("connection")), (200, None));
    }
    client.send("GET / HTTP/1.1\r\nHost: x\r\nConnection: Close\r\n\r\n");
    assert_eq!(client.response().field("connection"), Some("close"));
    assert!(client.is_closed());
}

for_each_pool!(http_1_0_closes_unless_asked_to_stay);
fn http_1_0_closes_unless_asked_to_stay(pool: &str) {
    let server = Server::start(pool, &[]);
    let mut client = server.connect();
    client.send("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    assert_eq!(client.response().field("connection"), Some("keep-alive"));
    client.send("GET / HTTP/1.0\r\n\r\n");
    assert_eq!(client.response().field("connection"), Some("close"));
    assert!(client.is_closed());
}

for_each_pool!(a_thousand_pipelined_requests_are_answered_in_order);
fn a_thousand_pipelined_requests_are_answered_in_order(pool: &str) {
    let server = Server::start(pool, &[]);
    let mut packet = String::new();
    for n in 0..200 {
        let name = format!("f{n}");
        packet += &format!(
            "PUT /upload/{name} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{name}",
            name.len()
        );
        packet += &format!("GET /download/{name} HTTP/1.1\r\nHost: x\r\n\r\n");
        packet += "HEAD /listdir HTTP/1.1\r\nHost: x\r\n\r\n";
        packet += &format!(
            "POST /upload/{name} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
        );
        packet += &format!("DELETE /delete/{name} HTTP/1.1\r\nHost: x\r\n\r\n");
    }
    let mut client = server.connect();
    client.send(packet);
    for n in 0..200 {
        let uploaded = format!("File f{n} uploaded successfully");
        assert_eq!(client.response().text(), uploaded);
        assert_eq!(client.response().text(), format!("f{n}"));
        assert_eq!(client.response_to("HEAD").status, 200);
        assert_eq!(client.response().text(), uploaded);
        assert_eq!(client.response().text(), format!("File f{n} deleted successfully"));
    }
    assert_eq!(client.request("GET", "/listdir", b"").text(), "[]");
}

for_each_pool!(a_request_may_arrive_in_any_pieces);
fn a_request_may_arrive_in_any_pieces(pool: &str) {
    let server = Server::start(pool, &[]);
    let mut client = server.connect();
    let request = b"PUT /upload/x HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\n\r\n\r\n";
    for byte in request {
        client.send([*byte]);
    }
    assert_eq!(client.response().status, 200);
    assert_eq!(std::fs::read(server.dir.join("x")).unwrap(), b"\r\n\r\n");
}

for_each_pool!(stray_empty_lines_between_requests_are_passed_over);
fn stray_empty_lines_between_requests_are_passed_over(pool: &str) {
    let server = Server::start(pool, &[]);
    let mut client = server.connect();
    client.send("PUT /upload/x HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx\r\n");
    assert_eq!(client.response().status, 200);
    client.send("\r");
    client.send("\n\r\nGET /download/x HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(client.response().text(), "x");
}

for_each_pool!(head_is_answered_without_a_body);
fn head_is_answered_without_a_body(pool: &str) {
    let server = Server::start(pool, &[]);
    let mut client = server.connect();
    let whole = client.request("GET", "/", b"");
    let head = client.request("HEAD", "/", b"");
    assert_eq!(head.field("content-length"), whole.field("content-length"));
    let missing = client.request("HEAD", "/download/none", b"");
    assert_eq!(missing.status, 404);
    assert_eq!(client.request("GET", "/listdir", b"").status, 200);
}

for_each_pool!(chunked_bodies_arrive_decoded);
fn chunked_bodies_arrive_decoded(pool: &str) {
    let server = Server::start(pool, &[]);
    let content = noise(100_000, 3);
    let mut client = server.connect();
    client.send("PUT /upload/x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n");
    for chunk in content.chunks(7919) {
        client.send(format!("{:X};note=x\r\n", chunk.len()));
        client.send(chunk);
        client.send("\r\n");
    }
    client.send("0\r\nX-Trailer: dropped\r\n\r\nGET /download/x HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(client.response().status, 200);
    assert!(client.response().body == content);
}

for_each_pool!(a_client_that_waits_is_told_to_continue);
fn a_client_that_waits_is_told_to_continue(pool: &str) {
    let server = Server::start(pool, &["--max-request", "1KiB"]);
    let mut client = server.connect();
    client.send(
        "PUT /upload/x HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n",
    );
    assert_eq!(client.response().status, 100);
    client.send("abc");
    assert_eq!(client.response().status, 200);
    // One that does not wait is not told.
    client.send(
        "PUT /upload/x HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\nabc",
    );
    assert_eq!(client.response().status, 200);
    // One whose body is not wanted is told that.
    client.send(
        "PUT /upload/x HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 3000\r\n\r\n",
    );
    assert_eq!(client.response().status, 413);
}

for_each_pool!(a_body_over_the_limit_is_refused_and_the_client_gets_to_know);
fn a_body_over_the_limit_is_refused_and_the_client_gets_to_know(pool: &str) {
    let server = Server::start(pool, &["--max-request", "64KiB"]);
    let body = noise(8 << 20, 5);
    // It sends all it has before it looks for an answer.
    let mut client = server.connect();
    client.send(format!(
        "PUT /upload/x HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n",
        body.len()
    ));
    client.send(&body);
    let response = client.response();
    assert_eq!((response.status, response.field("connection")), (413, Some("close")));
    let mut client = server.connect();
    client.send("PUT /upload/x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n");
    for chunk in body.chunks(1 << 16) {
        client.send(format!("{:x}\r\n", chunk.len()));
        client.send(chunk);
        client.send("\r\n");
    }
    client.send("0\r\n\r\n");
    assert_eq!(client.response().status, 413);
    assert_eq!(server.get("/listdir").text(), "[]");
    // Up to the limit it is taken.
    assert_eq!(server.request("PUT", "/upload/x", &body[..64 << 10]).status, 200);
}

for_each_pool!(a_client_that_has_said_all_still_gets_its_answer);
fn a_client_that_has_said_all_still_gets_its_answer(pool: &str) {
    let server = Server::start(pool, &[]);
    let mut client = server.connect();
    client.send("GET /listdir HTTP/1.1\r\nHost: x\r\n\r\n");
    client.stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(client.response().status, 200);
}

for_each_pool!(a_refused_head_has_no_body_and_a_line_in_the_log);
fn a_refused_head_has_no_body_and_a_line_in_the_log(pool: &str) {
    let mut server = Server::start(pool, &[]);
    let mut client = server.connect();
    client.send("HEAD /without-host HTTP/1.1\r\n\r\n");
    assert_eq!(client.response_to("HEAD").status, 400);
    assert!(client.is_closed());
    let line = server.wait_for_line("/without-host");
    assert!(line.contains("method=HEAD") && line.contains("status=400"), "{line}");
}

for_each_pool!(nobody_is_refused_while_a_worker_is_idle);
fn nobody_is_refused_while_a_worker_is_idle(pool: &str) {
    let server = Server::with_handler(
        pool,
        &components::sleeper(300_000_000),
        &["--workers", "8", "--queue", "1"],
    );
    let mut clients: Vec<_> = (0..8).map(|_| server.connect()).collect();
    for client in &mut clients {
        client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    }
    for client in &mut clients {
        assert_eq!(client.response().status, 204, "{pool}");
    }
}

for_each_pool!(a_response_may_have_a_long_head);
fn a_response_may_have_a_long_head(pool: &str) {
    // What is looked at first ends in the field, in the empty line, and before the body.
    let lengths = (1990..2020).step_by(5).chain([3000, 20_000, 60_000]);
    for length in lengths {
        let field = "x".repeat(length);
        let response = format!("HTTP/1.1 200 OK\r\nX: {field}\r\nContent-Length: 2\r\n\r\nhi");
        let server = Server::with_handler(pool, &components::long_answer(&response), &[]);
        let response = server.get("/");
        assert_eq!((response.status, response.text()), (200, "hi"), "{pool}: {length}");
        assert_eq!(response.field("x"), Some(&*field), "{pool}: {length}");
    }
}
