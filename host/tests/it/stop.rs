//! The end of the server by a signal.

use std::os::unix::net::UnixStream;

use rustix::process::Signal;

use crate::components;
use crate::support::{Client, Server, eventually, for_each_pool};

const GET: &str = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";

const PUT: &str =
    "PUT /upload/x HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n";

/// Tells a server to end, which finds what clients do here when it hears of that: it has not even accepted who connects.
fn end_after<T>(server: &Server, clients: impl FnOnce() -> T) -> T {
    server.signal(Signal::STOP);
    let did = clients();
    server.signal(Signal::TERM);
    server.signal(Signal::CONT);
    did
}

for_each_pool!(who_was_there_before_the_signal_is_served);
fn who_was_there_before_the_signal_is_served(pool: &str) {
    let mut server = Server::start(pool, &[]);
    let mut kept = server.connect();
    assert_eq!(kept.request("GET", "/", b"").status, 200, "{pool}");
    let clients = end_after(&server, || {
        let mut clients: Vec<_> = (0..50).map(|_| server.connect()).collect();
        clients.push(kept);
        clients.iter_mut().for_each(|client| client.send(GET));
        clients
    });
    for mut client in clients {
        assert_eq!(client.response().status, 200, "{pool}");
        assert!(client.is_closed(), "{pool}");
    }
    assert!(server.wait().success(), "{pool}");
}

for_each_pool!(who_waits_at_a_unix_socket_is_served_at_the_end);
fn who_waits_at_a_unix_socket_is_served_at_the_end(pool: &str) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("socket");
    let mut server = Server::start(pool, &["--addr", &format!("unix:{}", path.display())]);
    let mut client = end_after(&server, || {
        let mut client = Client::over(UnixStream::connect(&path).unwrap());
        client.send(GET);
        client
    });
    assert_eq!(client.response().status, 200, "{pool}");
    assert!(server.wait().success(), "{pool}");
}

for_each_pool!(who_waits_for_a_place_is_served_at_the_end);
fn who_waits_for_a_place_is_served_at_the_end(pool: &str) {
    let args = ["--max-connections", "1", "--client-share", "100"];
    let mut server = Server::start(pool, &args);
    let mut idle = server.connect();
    assert_eq!(idle.request("GET", "/", b"").status, 200, "{pool}");
    let mut waiting = end_after(&server, || {
        let mut waiting = server.connect();
        waiting.send(GET);
        waiting
    });
    assert!(idle.is_closed(), "{pool}: it gives way");
    assert_eq!(waiting.response().status, 200, "{pool}");
    assert!(server.wait().success(), "{pool}");
}

for_each_pool!(who_waits_for_a_place_has_as_long_as_those_who_have_one);
fn who_waits_for_a_place_has_as_long_as_those_who_have_one(pool: &str) {
    let args = ["--max-connections", "3", "--client-share", "100"];
    let mut server = Server::start(pool, &args);
    let mut busy = vec![server.connect(), server.connect()];
    for client in &mut busy {
        client.send(PUT);
        assert_eq!(client.response().status, 100, "{pool}");
    }
    let mut silent = server.connect();
    let mut next = server.connect();
    next.send(PUT);
    let mut waiting: Vec<_> = (0..5).map(|_| server.connect()).collect();
    waiting.iter_mut().for_each(|client| client.send(GET));
    server.signal(Signal::TERM);
    // So the server has waited for those who may be about to say something, and all places are taken again.
    assert!(silent.is_closed(), "{pool}");
    assert_eq!(next.response().status, 100, "{pool}");
    busy.push(next);
    for client in &mut busy {
        client.send("xx");
        assert_eq!(client.response().status, 200, "{pool}");
    }
    for client in &mut waiting {
        assert_eq!(client.response().status, 200, "{pool}");
    }
    assert!(server.wait().success(), "{pool}");
}

for_each_pool!(a_long_head_that_was_there_before_the_signal_is_served);
fn a_long_head_that_was_there_before_the_signal_is_served(pool: &str) {
    let mut server = Server::start(pool, &[]);
    let mut clients: Vec<_> = (0..200).map(|_| server.connect()).collect();
    for client in &mut clients {
        assert_eq!(client.request("GET", "/", b"").status, 200, "{pool}");
    }
    let request = format!("GET / HTTP/1.1\r\nHost: x\r\nCookie: {}\r\n\r\n", "x".repeat(9000));
    end_after(&server, || clients.iter_mut().for_each(|client| client.send(&request)));
    for client in &mut clients {
        assert_eq!(client.response().status, 200, "{pool}");
    }
    assert!(server.wait().success(), "{pool}");
}

for_each_pool!(a_client_may_take_its_answer_after_its_connection_was_idle_for_too_long);
fn a_client_may_take_its_answer_after_its_connection_was_idle_for_too_long(pool: &str) {
    let server = Server::start(pool, &["--idle-timeout", "1s"]);
    std::fs::write(server.dir.join("large"), vec![b'x'; 1 << 20]).unwrap();
    let mut client = server.connect();
    let request = "GET /download/large HTTP/1.1\r\nHost: x\r\n\r\n";
    client.send(request);
    eventually("the server has closed it", || is_closing(&server, &client));
    client.send(request);
    assert_eq!(client.response().body.len(), 1 << 20, "{pool}");
    assert!(client.is_closed(), "{pool}: without a second answer");
}

/// Whether the server's end of a connection has been closed, and its client does not know yet (FIN_WAIT1).
fn is_closing(server: &Server, client: &Client) -> bool {
    let own = client.stream.local_addr().unwrap().port();
    let ends = format!("0100007F:{:04X} 0100007F:{own:04X} 04", server.port);
    std::fs::read_to_string("/proc/net/tcp").unwrap().contains(&ends)
}

for_each_pool!(who_connects_and_says_nothing_does_not_delay_the_end);
fn who_connects_and_says_nothing_does_not_delay_the_end(pool: &str) {
    let mut server = Server::start(pool, &["--grace", "1h"]);
    let mut clients = [server.connect(), server.connect()];
    clients[1].send("GET / HTTP/1.1\r\n");
    server.signal(Signal::TERM);
    assert!(server.wait().success(), "{pool}: within the grace");
    assert!(clients[0].is_closed(), "{pool}");
    assert_eq!(clients[1].response().status, 503, "{pool}");
}

for_each_pool!(requests_in_flight_are_finished_and_new_ones_refused);
fn requests_in_flight_are_finished_and_new_ones_refused(pool: &str) {
    for signal in [Signal::TERM, Signal::INT] {
        let mut server = Server::with_handler(pool, &components::sleeper(400_000_000), &[]);
        let mut idle = server.connect();
        assert_eq!(idle.request("GET", "/", b"").status, 204);
        let mut late = server.connect();
        late.send("GET / HTTP/1.1\r\nHost: x\r\n");
        let mut busy = server.connect();
        busy.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
        eventually("the request in a worker", || server.sleeping_workers() == 1);
        server.signal(signal);
        server.wait_for_line("finishing the requests in flight");
        assert!(idle.is_closed(), "{pool}: an idle connection is closed at once");
        let refused = late.response();
        assert_eq!((refused.status, refused.field("retry-after")), (503, Some("1")), "{pool}");
        let answer = busy.response();
        assert_eq!((answer.status, answer.field("connection")), (204, Some("close")), "{pool}");
        assert!(server.wait().success(), "{pool}");
    }
}

for_each_pool!(a_ctrl_c_in_the_terminal_lets_workers_finish);
fn a_ctrl_c_in_the_terminal_lets_workers_finish(pool: &str) {
    let mut server = Server::with_handler(pool, &components::sleeper(300_000_000), &[]);
    let mut client = server.connect();
    client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    eventually("the request in a worker", || server.sleeping_workers() == 1);
    // A terminal sends the signal to the whole process group.
    let group = rustix::process::Pid::from_raw(server.pid().try_into().unwrap()).unwrap();
    rustix::process::kill_process_group(group, Signal::INT).unwrap();
    assert_eq!(client.response().status, 204, "{pool}");
    assert!(server.wait().success(), "{pool}");
}

#[test]
fn a_service_manager_that_tells_everyone_to_end_is_no_crash() {
    let mut server = Server::with_handler("process", &components::sleeper(300_000_000), &[]);
    let mut client = server.connect();
    client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    eventually("the request in a worker", || server.sleeping_workers() == 1);
    for worker in server.workers() {
        crate::support::kill(worker, Signal::TERM);
    }
    server.signal(Signal::TERM);
    assert_eq!(client.response().status, 204);
    assert!(server.wait().success());
}

for_each_pool!(a_connection_that_idles_after_an_upload_does_not_delay_the_end);
fn a_connection_that_idles_after_an_upload_does_not_delay_the_end(pool: &str) {
    let mut server = Server::start(pool, &["--grace", "30s"]);
    let mut client = server.connect();
    // The last read of this body fills the buffer to the byte.
    client.send("PUT /upload/x HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n");
    client.send(vec![7; 100_000]);
    assert_eq!(client.response().status, 200);
    server.signal(Signal::TERM);
    assert!(server.wait().success(), "{pool}: within the grace");
}

for_each_pool!(uploads_in_flight_are_finished);
fn uploads_in_flight_are_finished(pool: &str) {
    let mut server = Server::start(pool, &["--grace", "60s"]);
    // The second waits in a file.
    let lengths = [100_000, 3 << 20];
    let mut clients = lengths.map(|length| {
        let mut client = server.connect();
        client.send(format!(
            "PUT /upload/{length} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\
             Expect: 100-continue\r\n\r\n"
        ));
        assert_eq!(client.response().status, 100, "{pool}: {length}");
        client.send(vec![b'x'; length / 2]);
        client
    });
    server.signal(Signal::TERM);
    server.wait_for_line("finishing the requests in flight");
    for (client, length) in clients.iter_mut().zip(lengths) {
        client.send(vec![b'x'; length / 2]);
        let answer = client.response();
        assert_eq!((answer.status, answer.field("connection")), (200, Some("close")), "{pool}");
        let stored = std::fs::metadata(server.dir.join(length.to_string())).unwrap();
        assert_eq!(stored.len(), length as u64, "{pool}");
    }
    assert!(server.wait().success(), "{pool}");
}

for_each_pool!(a_second_signal_ends_at_once_and_says_so);
fn a_second_signal_ends_at_once_and_says_so(pool: &str) {
    let args = ["--grace", "1h", "--timeout", "1h"];
    let mut server = Server::with_handler(pool, &components::sleeper(u64::MAX / 2), &args);
    let mut client = server.connect();
    client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    eventually("the request in a worker", || server.sleeping_workers() == 1);
    server.signal(Signal::TERM);
    server.wait_for_line("a second signal ends at once");
    server.signal(Signal::INT);
    let line = server.wait_for_line("cut off");
    assert!(line.contains("by a second signal, ") && line.contains("after the first"), "{line}");
    assert_eq!(server.wait().code(), Some(1), "{pool}");
}

for_each_pool!(the_grace_ends);
fn the_grace_ends(pool: &str) {
    let args = ["--grace", "200ms", "--timeout", "1h"];
    let mut server = Server::with_handler(pool, &components::sleeper(u64::MAX / 2), &args);
    let mut client = server.connect();
    client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    eventually("the request in a worker", || server.sleeping_workers() == 1);
    server.signal(Signal::TERM);
    let line = server.wait_for_line("cut off");
    assert!(line.contains("after 200ms"), "{line}");
    assert_eq!(server.wait().code(), Some(1), "{pool}");
}
