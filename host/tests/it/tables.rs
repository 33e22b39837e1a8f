//! The tables of requests and responses, on the real executable.

use http1::conformance::{MAX_REQUEST, TAKEN, requests, responses, shown};

use crate::components;
use crate::support::{Server, for_each_pool};

/// What follows each row on its connection.
const NEXT: &str = "GET /next HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";

for_each_pool!(each_request_is_decided_as_the_table_says_and_nothing_bad_reaches_a_handler);
fn each_request_is_decided_as_the_table_says_and_nothing_bad_reaches_a_handler(pool: &str) {
    let limit = MAX_REQUEST.to_string();
    let handler = components::answer("HTTP/1.1 299 X\r\nContent-Length: 0\r\n\r\n");
    let mut server = Server::with_handler(pool, &handler, &["--max-request", &limit]);
    let mut served = 0;
    for (request, expected) in requests() {
        let shown = shown(&request);
        let mut client = server.connect();
        client.send(request + NEXT);
        let mut response = client.response();
        if response.status == 100 {
            response = client.response();
        }
        assert_eq!(response.status, expected, "{pool}: {shown:?}");
        if expected == TAKEN {
            assert_eq!(client.response().status, TAKEN, "{pool}: what follows {shown:?}");
            served += 2;
        } else {
            assert_eq!(response.field("connection"), Some("close"), "{pool}: {shown:?}");
        }
        assert!(client.is_closed(), "{pool}: {shown:?}");
        assert_eq!(server.get("/good").status, TAKEN, "{pool}: after {shown:?}");
        served += 1;
    }
    server.get("/last");
    let line = server.wait_for_line("/last");
    assert!(line.ends_with(&format!("done={}", served + 1)), "{pool}: {served} and {line}");
}

for_each_pool!(each_response_is_forwarded_or_refused_as_the_table_says);
fn each_response_is_forwarded_or_refused_as_the_table_says(pool: &str) {
    let mut server = Server::with_handler(pool, &components::parrot(), &[]);
    // The connection survives, whatever the handler says.
    let mut client = server.connect();
    for (response, expected) in responses() {
        let got = client.request("GET", "/", response.as_bytes());
        match expected {
            None => {
                assert!(response.contains(&format!(" {} ", got.status)), "{response:?}");
            }
            Some(why) => {
                assert_eq!(got.status, 502, "{pool}: {response:?}");
                assert_eq!(got.text(), "The handler's response is not well-formed\n");
                let line = server.wait_for_line("status=502");
                assert!(line.contains(&why.to_string()), "{pool}: {why} in {line}");
            }
        }
    }
    // To HEAD, the same with a body is one byte too many.
    let whole = "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n";
    let mut head = |body: &str| {
        client.send(format!(
            "HEAD / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ));
        client.response_to("HEAD").status
    };
    assert_eq!((head(whole), head(&format!("{whole}x"))), (200, 502), "{pool}");
}
