//! Clients that take their time. No byte they send or take renews it but for what it takes at
//! `--min-rate`.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::Shutdown;
use std::time::Duration;

use rustix::net::sockopt;

use crate::support::{Client, PATIENCE, Server, eventually, for_each_pool, noise};

const TUTORIAL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../handlers/tutorial.wasm");

/// Pauses of a client that sends or takes a byte now and then.
const PAUSE: Duration = Duration::from_millis(20);

/// Sends bytes one at a time until an answer comes. If each gave it more time, it
/// would go on for longer than a test may take.
fn trickle(client: &mut Client, mut meanwhile: impl FnMut()) -> u16 {
    client.stream.set_read_timeout(Some(PAUSE)).unwrap();
    for _ in 0..3000 {
        let _ = client.stream.write(b"a");
        meanwhile();
        match client.stream.peek(&mut [0]) {
            Ok(_) => {
                client.stream.set_read_timeout(Some(PATIENCE)).unwrap();
                let status = client.response().status;
                assert!(client.is_closed());
                return status;
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => panic!("{error}"),
        }
    }
    panic!("there is no end to it")
}

for_each_pool!(a_head_that_trickles_in_is_late_all_the_same);
fn a_head_that_trickles_in_is_late_all_the_same(pool: &str) {
    let server = Server::start(pool, &["--header-timeout", "1s"]);
    let mut client = server.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\nX-");
    assert_eq!(trickle(&mut client, || {}), 408, "{pool}");
    // From the first byte on: a target is part of the head.
    let mut client = server.connect();
    client.send("GET /");
    assert_eq!(trickle(&mut client, || {}), 408, "{pool}");
    assert_eq!(server.get("/").status, 200, "{pool}");
}

for_each_pool!(a_body_that_trickles_in_is_late_and_holds_no_worker);
fn a_body_that_trickles_in_is_late_and_holds_no_worker(pool: &str) {
    let server = Server::start(pool, &["--body-timeout", "1s", "--workers", "1"]);
    for framing in ["Content-Length: 100000", "Transfer-Encoding: chunked"] {
        let mut client = server.connect();
        let head = format!("PUT /upload/x HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n");
        client.send(head);
        if framing.contains("chunked") {
            client.send("10000\r\n");
        }
        let serve = || assert_eq!(server.get("/").status, 200, "{pool}: the one worker");
        assert_eq!(trickle(&mut client, serve), 408, "{pool}");
    }
    assert_eq!(server.get("/listdir").text(), "[]", "{pool}: nothing was uploaded");
}

for_each_pool!(a_body_that_never_pauses_is_late_all_the_same_and_starves_nobody);
fn a_body_that_never_pauses_is_late_all_the_same_and_starves_nobody(pool: &str) {
    let server = Server::start(
        pool,
        &["--body-timeout", "1s", "--max-request", "1GiB", "--min-rate", "1GiB"],
    );
    std::thread::scope(|scope| {
        let floods: Vec<_> = (0..4)
            .map(|_| {
                let mut client = server.connect();
                client.send(
                    "PUT /upload/x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
                );
                let chunks = "1\r\nx\r\n".repeat(10_000);
                // Until it is told, and then until nobody listens any more.
                scope.spawn(move || client.send_until_closed(chunks.as_bytes()))
            })
            .collect();
        let mut served = 0;
        while floods.iter().any(|flood| !flood.is_finished()) {
            assert_eq!(server.connect_from("127.0.0.2").request("GET", "/", b"").status, 200);
            served += 1;
        }
        println!("{pool}: {served} good requests beside four floods");
    });
    assert_eq!(server.get("/listdir").text(), "[]", "{pool}: nothing was uploaded");
}

for_each_pool!(empty_lines_without_end_are_refused);
fn empty_lines_without_end_are_refused(pool: &str) {
    let server = Server::start(pool, &["--idle-timeout", "1h", "--header-timeout", "1h"]);
    let mut client = server.connect();
    client.send_until_closed(&b"\r\n".repeat(50_000));
    assert_eq!(server.get("/").status, 200, "{pool}");
}

for_each_pool!(who_stops_half_way_is_told_that_it_is_late);
fn who_stops_half_way_is_told_that_it_is_late(pool: &str) {
    let args = ["--header-timeout", "1s", "--body-timeout", "1s", "--idle-timeout", "2s"];
    let server = Server::start(pool, &args);
    let starts = [
        "G",
        "GET / HTTP/1.1\r\nHo",
        "GET / HTTP/1.1\r\nHost: a\r\n",
        "PUT /upload/x HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\n",
        "PUT /upload/x HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nab",
        "PUT /upload/x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
    ];
    let mut clients = starts.map(|start| {
        let mut client = server.connect();
        client.send(start);
        client
    });
    for (client, start) in clients.iter_mut().zip(starts) {
        assert_eq!(client.response().status, 408, "{pool}: {start:?}");
        assert!(client.is_closed());
    }
    // A client that says nothing, or nothing but empty lines, is not told anything.
    assert!(server.connect().is_closed());
    let mut client = server.connect();
    client.send("\r\n\r\n\r");
    assert!(client.is_closed());
    assert_eq!(server.get("/").status, 200);
}

/// Asks for a large file and takes little or nothing of it.
fn ask(server: &Server) -> Client {
    let client = server.connect();
    sockopt::set_socket_recv_buffer_size(&client.stream, 4096).unwrap();
    let mut client = client;
    client.send("GET /download/large HTTP/1.1\r\nHost: a\r\n\r\n");
    client
}

for_each_pool!(an_answer_that_is_not_taken_ends_at_the_write_timeout);
fn an_answer_that_is_not_taken_ends_at_the_write_timeout(pool: &str) {
    let args = ["--write-timeout", "1s", "--max-request", "16MiB", "--min-rate", "64KiB"];
    let mut server = Server::start(pool, &args);
    let large = noise(15 << 20, 1);
    assert_eq!(server.request("PUT", "/upload/large", &large).status, 200);
    let idle = server.descriptors();

    let still = ask(&server);
    let line = server.wait_for_line("/download/large status=200");
    assert!(line.contains("the client took too long"), "{pool}: {line}");
    eventually("nothing is held for it", || server.descriptors() <= idle);
    drop(still);

    // One that takes a little now and then is no better off.
    let mut slow = ask(&server);
    let mut taken = 0;
    let ended = (0..3000).any(|_| {
        std::thread::sleep(PAUSE);
        match slow.stream.read(&mut [0; 100]) {
            Ok(0) | Err(_) => true,
            Ok(read) => {
                taken += read;
                false
            }
        }
    });
    assert!(ended && taken < large.len(), "{pool}: {taken} bytes");
    assert!(server.get("/download/large").body == large, "{pool}: a good client");
}

for_each_pool!(each_of_many_answers_has_its_own_time);
fn each_of_many_answers_has_its_own_time(pool: &str) {
    let server = Server::start(pool, &["--write-timeout", "2s"]);
    let large = noise(4 << 20, 1);
    assert_eq!(server.request("PUT", "/upload/large", &large).status, 200);
    let mut client = server.connect();
    client.send("GET /download/large HTTP/1.1\r\nHost: a\r\n\r\n".repeat(10));
    // A third of a second for each, and so more than two for all.
    for _ in 0..10 {
        let mut response = client.response_slowly(Duration::from_millis(10));
        assert_eq!(response.status, 200, "{pool}");
        assert!(std::mem::take(&mut response.body) == large, "{pool}");
    }
}

for_each_pool!(what_follows_a_long_request_does_not_keep_its_memory);
fn what_follows_a_long_request_does_not_keep_its_memory(pool: &str) {
    let server = Server::start(pool, &["--max-buffered", "256MiB"]);
    let body = noise(15 << 20, 1);
    let mut clients: Vec<_> = (0..20).map(|_| server.connect()).collect();
    for client in &mut clients {
        let head =
            format!("PUT /upload/x HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", body.len());
        // With the start of another request, which comes along with the end of this.
        client.send([head.as_bytes(), &body, b"G"].concat());
        assert_eq!(client.response().status, 200, "{pool}");
    }
    let resident = server.memory("VmRSS") >> 10;
    println!("{pool}: {resident} MiB resident after 20 long requests");
    assert!(resident < 200, "{pool}: {resident} MiB");
}

for_each_pool!(responses_that_nobody_takes_have_a_bound_on_their_memory);
fn responses_that_nobody_takes_have_a_bound_on_their_memory(pool: &str) {
    let args = ["--max-buffered", "64MiB", "--max-response", "16MiB", "--client-share", "100"];
    // Files that another handler sends are in no memory.
    let mut server = Server::start(pool, &[&["--handler", TUTORIAL], &args[..]].concat());
    let large = noise(15 << 20, 1);
    assert_eq!(server.request("PUT", "/upload/large", &large).status, 200);
    let clients: Vec<_> = (0..40).map(|_| ask(&server)).collect();
    let mut refused = 0;
    // The others are being written, and so have no line yet.
    for _ in 0..clients.len() - 4 {
        let line = server.wait_for_line("/download/large status=");
        assert!(line.contains("status=503") && line.contains("--max-buffered"), "{line}");
        refused += 1;
    }
    assert_eq!(refused, 36);
    // What is still held, what 3 workers had in hand, and what an allocator keeps.
    let resident = server.memory("VmRSS") >> 10;
    println!("{pool}: {resident} MiB resident with 40 downloads that nobody takes");
    assert!(resident < 400, "{pool}: {resident} MiB");
    assert_eq!(server.get("/").status, 200, "{pool}: a short answer is always possible");
    drop(clients);
    eventually("room again", || server.get("/download/large").status == 200);
}

for_each_pool!(requests_that_never_end_have_a_bound_on_their_memory);
fn requests_that_never_end_have_a_bound_on_their_memory(pool: &str) {
    let limits = ["--max-message", "1MiB", "--max-response", "1MiB", "--max-buffered", "8704KiB"];
    let server = Server::start(pool, &limits);
    // Longer ones wait in files.
    let (all, rest) = (1 << 20, 16 << 10);
    let body = noise(all - rest, 1);
    let send = |mut client: Client| {
        client.send(format!("PUT /upload/x HTTP/1.1\r\nHost: a\r\nContent-Length: {all}\r\n\r\n"));
        client.send(&body);
        client
    };
    let mut clients: Vec<_> = (0..4).map(|_| send(server.connect())).collect();
    eventually("all of it is read", || server.unread() == 0);
    // This address has its half.
    let mut refused = send(server.connect()).response();
    assert_eq!((refused.status, refused.field("retry-after")), (503, Some("1")), "{pool}");
    // Another has its own, and a short request is always possible.
    clients.extend((0..4).map(|_| send(server.connect_from("127.0.0.2"))));
    eventually("all of it is read", || server.unread() == 0);
    refused = send(server.connect_from("127.0.0.3")).response();
    assert_eq!(refused.status, 503, "{pool}: there is no more");
    assert_eq!(server.get("/").status, 200, "{pool}");
    for client in &mut clients {
        client.send(&body[..rest]);
        assert_eq!(client.response().status, 200, "{pool}: what was begun ends well");
    }
    assert_eq!(server.request("PUT", "/upload/x", &body).status, 200, "{pool}: room again");
}

for_each_pool!(a_client_that_never_stops_sending_is_not_listened_to_for_ever);
fn a_client_that_never_stops_sending_is_not_listened_to_for_ever(pool: &str) {
    let server = Server::start(pool, &["--max-request", "1KiB"]);
    let idle = server.descriptors();
    let mut client = server.connect();
    client.send("PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nfffffffff\r\n");
    assert_eq!(client.response().status, 413, "{pool}");
    client.send_until_closed(&[0; 1 << 16]);
    let _ = client.stream.shutdown(Shutdown::Both);
    eventually("it is let go", || server.descriptors() <= idle);
}
