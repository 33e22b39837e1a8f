//! Many clients at a time, and clients that want everything for themselves.

use std::io::{ErrorKind, Write as _};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustix::net::sockopt;
use rustix::process::{Pid, Resource, Rlimit, Signal, prlimit};

use crate::components;
use crate::support::{Client, DESCRIPTORS, PATIENCE, Server, eventually, for_each_pool};

const GET: &str = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";

/// Milliseconds of the quickest of some requests on new connections.
fn milliseconds(server: &Server) -> f64 {
    let time = |_| {
        let start = Instant::now();
        assert_eq!(server.get("/").status, 200);
        start.elapsed().as_secs_f64() * 1e3
    };
    (0..20).map(time).fold(f64::INFINITY, f64::min)
}

for_each_pool!(ten_thousand_idle_connections_cost_next_to_nothing);
fn ten_thousand_idle_connections_cost_next_to_nothing(pool: &str) {
    // The same test on the other pool runs beside it, and the other tests need some, too.
    let count = (*DESCRIPTORS / 2).saturating_sub(1000).clamp(100, 10_000);
    let most = (count + 100).to_string();
    let args = ["--max-connections", &most, "--client-share", "100", "--idle-timeout", "1h"];
    let server = Server::start(pool, &args);
    let open = server.descriptors();
    let alone = milliseconds(&server);
    eventually("those are closed", || server.descriptors() <= open);
    let before = server.memory("VmRSS");
    let idle: Vec<_> = (0..count)
        .map(|n| {
            let mut client = server.connect();
            // Some have been served before.
            if n % 10 == 0 {
                assert_eq!(client.request("GET", "/", b"").status, 200);
            }
            client
        })
        .collect();
    eventually("all are open", || server.descriptors() >= open + idle.len());
    let each = server.memory("VmRSS").saturating_sub(before) as f64 / idle.len() as f64;
    let crowded = milliseconds(&server);
    println!(
        "{pool}: {} idle connections, {each:.1} KiB each; \
         a request takes {alone:.2} ms without them, {crowded:.2} ms with them",
        idle.len()
    );
    assert!(each < 16.0, "{pool}: {each} KiB for an idle connection");
    drop(idle);
    eventually("all is given back", || server.descriptors() <= open);
    assert_eq!(server.get("/").status, 200, "{pool}");
}

for_each_pool!(out_of_descriptors_accepting_pauses_and_goes_on);
fn out_of_descriptors_accepting_pauses_and_goes_on(pool: &str) {
    let mut server = Server::start(pool, &["--client-share", "100"]);
    let mut first = server.connect();
    assert_eq!(first.request("GET", "/listdir", b"").status, 200);
    // All that are left, whatever the server allowed itself when it started.
    let few = server.descriptors() as u64 + 20;
    let pid = Pid::from_raw(server.pid().try_into().unwrap());
    let limit = Rlimit { current: Some(few), maximum: Some(few) };
    prlimit(pid, Resource::Nofile, limit).unwrap();
    // In the middle of a request, it does not give way.
    first.send("GET / HTTP/1.1\r\n");
    let waiting: Vec<_> = (0..100).map(|_| server.connect()).collect();
    server.wait_for_line("accepting pauses");
    first.send("Host: x\r\n\r\n");
    assert_eq!(first.response().status, 200, "{pool}");
    // Who is in is served, and accepting does not spin: over a second of little work,
    // which the pauses stretch, it takes little time.
    let (before, since) = (server.cpu_ticks(), Instant::now());
    for _ in 0..20 {
        assert_eq!(first.request("GET", "/", b"").status, 200, "{pool}");
        std::thread::sleep(Duration::from_millis(50));
    }
    let spent = Duration::from_millis((server.cpu_ticks() - before) * 10);
    assert!(spent * 4 < since.elapsed(), "{pool}: {spent:?} of {:?}", since.elapsed());
    drop(waiting);
    for _ in 0..20 {
        assert_eq!(server.get("/listdir").status, 200, "{pool}");
    }
    server.signal(Signal::TERM);
    server.wait_for_line("ended");
    assert_eq!(server.count_said("accepting pauses"), 1, "{pool}: one line, not thousands");
}

for_each_pool!(connections_over_the_limit_wait_while_none_is_idle);
fn connections_over_the_limit_wait_while_none_is_idle(pool: &str) {
    let args = ["--max-connections", "8", "--client-share", "100", "--header-timeout", "1h"];
    let server = Server::start(pool, &args);
    let mut clients: Vec<_> = (0..24).map(|_| server.connect()).collect();
    for client in &mut clients {
        client.send("GET / HTTP/1.1\r\n");
    }
    for client in &mut clients[8..] {
        client.send("Host: x\r\nConnection: close\r\n\r\n");
    }
    // One that is in is served again and again, and is never idle.
    for _ in 0..200 {
        clients[0].send("Host: x\r\n\r\nGET / HTTP/1.1\r\n");
        assert_eq!(clients[0].response().status, 200, "{pool}");
    }
    assert!(!clients[8..].iter_mut().any(has_answer), "{pool}: they have no place yet");
    for client in &mut clients[..8] {
        client.send("Host: x\r\nConnection: close\r\n\r\n");
    }
    for mut client in clients {
        assert_eq!(client.response().status, 200, "{pool}: each in its turn");
    }
    assert_eq!(server.get("/").status, 200, "{pool}");
}

for_each_pool!(idle_connections_give_way_to_new_ones);
fn idle_connections_give_way_to_new_ones(pool: &str) {
    // Of all connections,
    let args = ["--max-connections", "8", "--client-share", "100", "--idle-timeout", "1h"];
    let server = Server::start(pool, &args);
    let mut clients: Vec<_> = (0..24).map(|_| server.connect()).collect();
    for client in &mut clients {
        client.send(GET);
    }
    for client in &mut clients {
        assert_eq!(client.response().status, 200, "{pool}");
    }
    assert!(clients[0].is_closed(), "{pool}: for a later one");
    // and of those of one address.
    let args = ["--max-connections", "100", "--idle-timeout", "1h"];
    let server = Server::start(pool, &args);
    let flood: Vec<_> = (0..300).map(|_| server.connect()).collect();
    eventually("the address is served again", || is_served(&server));
    assert_eq!(server.connect_from("127.0.0.2").request("GET", "/", b"").status, 200);
    drop(flood);
}

/// Whether a new connection is served, and not refused or closed without a word.
fn is_served(server: &Server) -> bool {
    let mut client = server.connect();
    let sent = client.stream.write_all(GET.as_bytes()).is_ok();
    sent && client.has_more() && client.response().status == 200
}

fn has_answer(client: &mut Client) -> bool {
    client.stream.set_nonblocking(true).unwrap();
    let peeked = client.stream.peek(&mut [0]);
    client.stream.set_nonblocking(false).unwrap();
    match peeked {
        Ok(read) => read > 0,
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::WouldBlock);
            false
        }
    }
}

for_each_pool!(an_address_with_its_share_of_connections_is_told_so_and_others_are_served);
fn an_address_with_its_share_of_connections_is_told_so_and_others_are_served(pool: &str) {
    let args = ["--max-connections", "512", "--client-share", "4", "--header-timeout", "1h"];
    let mut server = Server::start(pool, &args);
    let mut mine: Vec<_> = (0..21).map(|_| server.connect()).collect();
    for client in &mut mine {
        assert_eq!(client.request("GET", "/", b"").status, 200, "{pool}");
        // Busy with another, it does not give way.
        client.send("GET / HTTP/1.1\r\n");
    }
    for _ in 0..20 {
        let mut surplus = server.connect();
        surplus.send(GET);
        let refused = surplus.response();
        assert_eq!((refused.status, refused.field("retry-after")), (503, Some("1")), "{pool}");
        assert_eq!(refused.field("connection"), Some("close"), "{pool}");
        assert!(surplus.is_closed());
    }
    // More at a time than can be told are closed, and take no place from anybody.
    let flood: Vec<_> = (0..500).map(|_| server.connect()).collect();
    let mut others: Vec<_> = (0..21).map(|_| server.connect_from("127.0.0.2")).collect();
    for client in &mut others {
        assert_eq!(client.request("GET", "/", b"").status, 200, "{pool}");
    }
    for client in &mut mine {
        client.send("Host: x\r\n\r\n");
        assert_eq!(client.response().status, 200, "{pool}");
    }
    drop((flood, mine));
    eventually("room again", || is_served(&server));
    server.signal(Signal::TERM);
    server.wait_for_line("ended");
    assert_eq!(server.count_said("its share of 21 connections"), 1, "{pool}");
}

for_each_pool!(an_address_that_floods_the_queue_delays_itself);
fn an_address_that_floods_the_queue_delays_itself(pool: &str) {
    // Long enough for all to have come before one is done.
    let handler = components::sleeper(2_000_000_000);
    let args = ["--workers", "1", "--queue", "10"];
    let server = Server::with_handler(pool, &handler, &args);
    let mut flood: Vec<_> = (0..30).map(|_| server.connect()).collect();
    for client in &mut flood {
        client.send(GET);
    }
    // One runs and five wait; the rest are refused at once.
    let count = |answer| flood.iter().filter(|client| begins(client, answer)).count();
    eventually("its share of the queue is full", || count("HTTP/1.1 503") >= 24);
    let other = server.connect_from("127.0.0.2").request("GET", "/", b"");
    assert_eq!(other.status, 204, "{pool}: the second address is served");
    let served = count("HTTP/1.1 204");
    assert!(served < 6, "{pool}: it was its turn before all {served} were served");
    let statuses: Vec<_> = flood.iter_mut().map(|client| client.response().status).collect();
    let refused = statuses.iter().filter(|status| **status == 503).count();
    let served = statuses.iter().filter(|status| **status == 204).count();
    assert_eq!((refused, served), (24, 6), "{pool}: all had an answer");
}

/// Whether the server's answer is there, and begins so.
fn begins(client: &Client, expected: &str) -> bool {
    let mut bytes = vec![0; expected.len()];
    client.stream.set_nonblocking(true).unwrap();
    let peeked = client.stream.peek(&mut bytes);
    client.stream.set_nonblocking(false).unwrap();
    peeked.is_ok() && bytes == expected.as_bytes()
}

for_each_pool!(a_flood_gets_503_at_once_and_what_was_accepted_is_served);
fn a_flood_gets_503_at_once_and_what_was_accepted_is_served(pool: &str) {
    let args = ["--workers", "2", "--queue", "4", "--client-share", "100"];
    let server = Server::with_handler(pool, &components::sleeper(2_000_000_000), &args);
    let mut clients: Vec<_> = (0..100).map(|_| server.connect()).collect();
    for client in &mut clients {
        client.send(GET);
    }
    let refused = || clients.iter().filter(|client| begins(client, "HTTP/1.1 503")).count();
    eventually("all but those in the pool are refused", || refused() >= 100 - 6);
    let mut served = 0;
    for client in &mut clients {
        let response = client.response();
        match response.status {
            204 => served += 1,
            503 => assert_eq!(response.field("retry-after"), Some("1"), "{pool}"),
            status => panic!("{pool}: {status}"),
        }
    }
    assert_eq!(served, 6, "{pool}");
    // A refused client keeps its connection, and is served when there is room.
    assert_eq!(clients[99].request("GET", "/", b"").status, 204, "{pool}");
}

for_each_pool!(requests_of_clients_that_leave_the_queue_are_not_run);
fn requests_of_clients_that_leave_the_queue_are_not_run(pool: &str) {
    let mut server =
        Server::with_handler(pool, &components::sleeper(1_000_000_000), &["--workers", "1"]);
    let mut busy: Vec<_> = (0..2).map(|_| server.connect()).collect();
    for client in &mut busy {
        client.send("GET /busy HTTP/1.1\r\nHost: x\r\n\r\n");
    }
    eventually("the request in the worker", || server.sleeping_workers() == 1);
    // One that has said all it has to say, among those that go away.
    let mut patient = server.connect();
    patient.send("GET /patient HTTP/1.1\r\nHost: x\r\n\r\n");
    patient.stream.shutdown(Shutdown::Write).unwrap();
    for n in 0..20 {
        let mut gone = server.connect();
        gone.send("GET /gone HTTP/1.1\r\nHost: x\r\n\r\n");
        if n % 2 == 0 {
            // With this, closing is a reset; else it looks like the patient one's end.
            sockopt::set_socket_linger(&gone.stream, Some(Duration::ZERO)).unwrap();
        }
    }
    for _ in 0..20 {
        let line = server.wait_for_line("target=/gone");
        assert!(line.contains("status=499") && line.contains("worker=0"), "{pool}: {line}");
    }
    for client in &mut busy {
        assert_eq!(client.response().status, 204, "{pool}");
    }
    let mut answer = patient.response();
    if answer.status == 100 {
        answer = patient.response();
    }
    assert_eq!(answer.status, 204, "{pool}");
    assert_eq!(server.get("/").status, 204, "{pool}");
    server.signal(Signal::TERM);
    let line = server.wait_for_line("ended");
    assert!(line.contains("requests=24") && line.contains("abandoned=20"), "{pool}: {line}");
}

for_each_pool!(a_server_that_ends_under_load_cuts_nobody_off);
fn a_server_that_ends_under_load_cuts_nobody_off(pool: &str) {
    let mut server = Server::start(pool, &[]);
    let port = server.port;
    let (ending, answers) = (AtomicBool::new(false), AtomicUsize::new(0));
    let (served, last) = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..8)
            .map(|_| {
                let (ending, answers) = (&ending, &answers);
                scope.spawn(move || {
                    let mut client = Client::connect(port);
                    let (mut served, began) = (0, Instant::now());
                    loop {
                        assert!(began.elapsed() < 2 * PATIENCE, "it does not end");
                        // A connection that just idled is closed, and so not written to.
                        if std::io::Write::write_all(&mut client.stream, GET.as_bytes()).is_err()
                            || !client.has_more()
                        {
                            assert!(ending.load(Ordering::SeqCst), "closed before its time");
                            return (served, false);
                        }
                        // Once it has begun, an answer is whole.
                        let response = client.response();
                        let closing = response.field("connection") == Some("close");
                        assert!([200, 503].contains(&response.status), "{}", response.status);
                        served += 1;
                        answers.fetch_add(1, Ordering::SeqCst);
                        if closing {
                            assert!(ending.load(Ordering::SeqCst));
                            return (served, true);
                        }
                    }
                })
            })
            .collect();
        eventually("the load", || answers.load(Ordering::SeqCst) > 1000);
        ending.store(true, Ordering::SeqCst);
        server.signal(Signal::TERM);
        let ends: Vec<_> = clients.into_iter().map(|client| client.join().unwrap()).collect();
        let last = ends.iter().filter(|(_, closing)| *closing).count();
        (ends.iter().map(|(served, _)| served).sum::<usize>(), last)
    });
    assert!(server.wait().success(), "{pool}: exit status 0");
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err(), "{pool}: nobody listens");
    println!("{pool}: {served} answers; {last} of 8 connections ended with one that said so");
}

for_each_pool!(a_second_signal_ends_at_once);
fn a_second_signal_ends_at_once(pool: &str) {
    let args = ["--grace", "1h", "--timeout", "1h"];
    let mut server = Server::with_handler(pool, &components::sleeper(u64::MAX / 2), &args);
    let mut client = server.connect();
    client.send(GET);
    eventually("the request in a worker", || server.sleeping_workers() == 1);
    server.signal(Signal::TERM);
    server.wait_for_line("a second signal ends at once");
    let connect = || TcpStream::connect(("127.0.0.1", server.port));
    eventually("new connections are refused", || connect().is_err());
    server.signal(Signal::TERM);
    assert_eq!(server.wait().code(), Some(1), "{pool}");
}

for_each_pool!(sixty_four_descriptors_are_enough_to_serve);
fn sixty_four_descriptors_are_enough_to_serve(pool: &str) {
    let args = ["--workers", "2", "--client-share", "100"];
    let mut server = Server::with_descriptors(pool, 64, &args);
    server.wait_for_line("the limit on file descriptors allows for");
    let mut first = server.connect();
    // In the middle of a request, it does not give way.
    first.send("GET / HTTP/1.1\r\n");
    let idle: Vec<_> = (0..500).map(|_| server.connect()).collect();
    first.send("Host: x\r\n\r\n");
    assert_eq!(first.response().status, 200, "{pool}");
    for _ in 0..20 {
        assert_eq!(first.request("PUT", "/upload/x", b"x").status, 200, "{pool}");
        assert_eq!(first.request("GET", "/listdir", b"").status, 200, "{pool}");
    }
    drop(idle);
    assert_eq!(server.get("/listdir").status, 200, "{pool}");
    server.signal(Signal::TERM);
    server.wait_for_line("ended");
    assert!(server.count_said("accepting pauses") <= 1, "{pool}");
}
