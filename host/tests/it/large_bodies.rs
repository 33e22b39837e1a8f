//! Requests with long bodies: they wait in files without a name until all of them is there.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use rustix::process::Signal;

use crate::support::{Client, Mounted, Server, eventually, for_each_pool, kill, noise};

fn built(name: &str) -> String {
    format!("{}/../handlers/{name}.wasm", env!("CARGO_MANIFEST_DIR"))
}

/// Begins to send a body of that length.
fn begin(server: &Server, target: &str, length: usize) -> Client {
    let mut client = server.connect();
    client.send(format!("PUT {target} HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n"));
    client
}

fn is_empty(dir: &Path) -> bool {
    fs::read_dir(dir).unwrap().next().is_none()
}

for_each_pool!(a_body_of_any_length_becomes_a_file);
fn a_body_of_any_length_becomes_a_file(pool: &str) {
    let server = Server::start(pool, &[]);
    let before = server.all_memory();
    let content = noise(40 << 20, 21);
    let mut client = server.connect();
    for length in [(1 << 20) + 1, 15 << 20, content.len()] {
        let sent = &content[..length];
        assert_eq!(client.request("PUT", "/upload/sized", sent).status, 200);
        assert!(fs::read(server.dir.join("sized")).unwrap() == sent, "{length}");
        client
            .send("POST /upload/chunked HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
        for chunk in sent.chunks(100_000) {
            client.send([format!("{:x}\r\n", chunk.len()).as_bytes(), chunk, b"\r\n"].concat());
        }
        client.send("0\r\n\r\n");
        assert_eq!(client.response().status, 200);
        assert!(fs::read(server.dir.join("chunked")).unwrap() == sent, "{length}, chunked");
    }
    let more = server.all_memory().saturating_sub(before);
    assert!(more < 24 << 20, "{more} bytes more");
    assert_eq!(server.get("/listdir").status, 200);
}

for_each_pool!(an_upload_that_is_broken_off_is_in_the_log);
fn an_upload_that_is_broken_off_is_in_the_log(pool: &str) {
    let mut server = Server::start(pool, &[]);
    for (target, length) in [("/upload/short", 1000), ("/upload/long", 50 << 20)] {
        let mut client = begin(&server, target, length);
        client.send("the first of it");
        drop(client);
        let line = server.wait_for_line(&format!("target={target} status=499"));
        assert!(line.contains("error=\"the client broke the connection off\""), "{pool}: {line}");
    }
    // A connection on which nothing was asked for is none.
    drop(server.connect());
    server.signal(Signal::TERM);
    let line = server.wait_for_line("abandoned=");
    assert!(line.contains("requests=2 ") && line.contains("abandoned=2"), "{pool}: {line}");
}

for_each_pool!(bodies_that_wait_in_files_leave_descriptors_for_the_rest);
fn bodies_that_wait_in_files_leave_descriptors_for_the_rest(pool: &str) {
    const LENGTH: usize = 2 << 20;
    let args = ["--workers", "2", "--max-workers", "2", "--client-share", "100"];
    let mut server = Server::with_descriptors(pool, 400, &args);
    let line = server.wait_for_line("the limit on file descriptors allows for");
    let mut words = line.split("allows for ").nth(1).unwrap().split(' ');
    let connections: usize = words.next().unwrap().parse().unwrap();
    // Two thirds of the descriptors are for connections, and a third is for files.
    let mut clients: Vec<_> = (0..connections / 2)
        .map(|number| {
            let mut client = begin(&server, &format!("/upload/{number}"), LENGTH);
            client.send("x");
            client
        })
        .collect();
    eventually("a file for each", || server.descriptors() > connections);
    let mut more: Vec<_> = (0..3).map(|_| begin(&server, "/upload/more", LENGTH)).collect();
    for client in &mut more {
        client.send("x");
    }
    assert_eq!(more[2].response().status, 503, "{pool}: no file more");
    for worker in server.workers() {
        kill(worker, Signal::KILL);
    }
    for client in &mut clients[..3] {
        client.send(vec![b'x'; LENGTH - 1]);
        assert_eq!(client.response().status, 200, "{pool}");
        assert_eq!(server.get("/listdir").status, 200, "{pool}");
    }
    server.signal(Signal::TERM);
    drop((clients, more));
    server.wait_for_line("ended");
    assert!(!server.has_said("Too many open files"), "{pool}");
}

for_each_pool!(handlers_of_each_kind_get_a_long_body);
fn handlers_of_each_kind_get_a_long_body(pool: &str) {
    let content = noise(5 << 20, 22);
    for kind in ["exchange", "cgi"] {
        let server = Server::start(pool, &["--handler", &built(kind)]);
        let answer = server.request("POST", "/echo", &content);
        assert_eq!(answer.status, 200, "{kind}");
        assert!(answer.body == content, "{kind}");
    }
    let server = Server::start(pool, &["--handler", &built("tutorial")]);
    assert_eq!(server.request("PUT", "/upload/x", &content).status, 200);
    assert!(fs::read(server.dir.join("x")).unwrap() == content);
}

for_each_pool!(a_handler_of_bytes_has_a_bound_of_its_own);
fn a_handler_of_bytes_has_a_bound_of_its_own(pool: &str) {
    let server = Server::start(pool, &["--handler", &built("tutorial"), "--max-message", "3MiB"]);
    assert_eq!(server.request("PUT", "/upload/x", &noise(3 << 20, 23)).status, 200);
    let mut client = begin(&server, "/upload/x", (3 << 20) + 1);
    client.send(vec![0; 10_000]);
    assert_eq!(client.response().status, 413, "it need not send all of it");
    let mut client = server.connect();
    client.send("PUT /upload/x HTTP/1.1\r\nHost: a\r\nContent-Length: 4000000\r\n");
    client.send("Expect: 100-continue\r\n\r\n");
    assert_eq!(client.response().status, 413, "nor is it told to");
    let mut client = server.connect();
    client.send("PUT /upload/x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    client.send_until_closed(&[b"300001\r\n", &*noise((3 << 20) + 1, 23), b"\r\n"].concat());
    assert_eq!(client.response().status, 413);
    let little = ["--handler", &built("tutorial"), "--max-message", "1KiB"];
    let server = Server::start(pool, &little);
    assert_eq!(server.request("PUT", "/upload/x", &noise(1 << 10, 23)).status, 200);
    assert_eq!(server.request("PUT", "/upload/x", &noise((1 << 10) + 1, 23)).status, 413);
    let server = Server::start(pool, &["--max-message", "1KiB"]);
    assert_eq!(server.request("PUT", "/upload/x", &noise(100_000, 23)).status, 200);
}

for_each_pool!(what_waits_for_a_handler_of_bytes_counts_as_buffered);
fn what_waits_for_a_handler_of_bytes_counts_as_buffered(pool: &str) {
    let limits = ["--max-message", "4MiB", "--max-response", "1MiB", "--max-buffered", "10MiB"];
    let workers = ["--workers", "1", "--max-workers", "1", "--timeout", "3s"];
    let handler = ["--handler", &built("hostile")];
    let server = Server::start(pool, &[&handler[..], &limits[..], &workers[..]].concat());
    let content = noise(4 << 20, 31);
    let mut first = begin(&server, "/sleep-year", content.len());
    first.send(&content);
    eventually("it has a worker", || server.sleeping_workers() == 1 && server.unread() == 0);
    let mut second = begin(&server, "/sleep-year", content.len());
    second.send(&content);
    assert_eq!(second.response().status, 503, "its address has its share");
    assert_eq!(first.response().status, 504);
    let mut third = begin(&server, "/sleep-year", content.len());
    third.send(&content);
    assert_eq!(third.response().status, 504, "room again");
}

for_each_pool!(what_is_too_long_for_the_quota_leaves_the_old_file);
fn what_is_too_long_for_the_quota_leaves_the_old_file(pool: &str) {
    let server = Server::start(pool, &["--quota", "8MiB"]);
    assert_eq!(server.request("PUT", "/upload/x", b"old").status, 200);
    assert_eq!(server.request("PUT", "/upload/x", &noise(12 << 20, 24)).status, 507);
    assert_eq!(fs::read(server.dir.join("x")).unwrap(), b"old");
    assert_eq!(fs::read_dir(&server.dir).unwrap().count(), 1, "nothing is left over");
}

for_each_pool!(a_body_that_waits_in_the_directory_is_not_copied);
fn a_body_that_waits_in_the_directory_is_not_copied(pool: &str) {
    let Some(small) = Mounted::new("tmpfs", "size=12m") else { return };
    let server = Server::start(pool, &["--dir", small.path().to_str().unwrap()]);
    let content = noise(8 << 20, 32);
    assert_eq!(server.request("PUT", "/upload/x", &content).status, 200, "two have no room");
    assert!(fs::read(small.path().join("x")).unwrap() == content);
    assert_eq!(server.request("PUT", "/upload/short", b"short").status, 200);
    let mode = |name| fs::metadata(small.path().join(name)).unwrap().permissions().mode();
    assert_eq!(mode("x"), mode("short"));
    assert_eq!(server.request("PUT", "/upload/x", &content).status, 507);
    assert!(fs::read(small.path().join("x")).unwrap() == content, "the old one stays");
    assert_eq!(server.get("/download/x").body.len(), content.len());
    assert_eq!(fs::read_dir(small.path()).unwrap().count(), 2, "nothing is left over");
}

for_each_pool!(slow_senders_hold_no_worker_and_little_memory);
fn slow_senders_hold_no_worker_and_little_memory(pool: &str) {
    const SENDERS: usize = 100;
    let spool = tempfile::tempdir().unwrap();
    let path = spool.path().to_str().unwrap();
    let workers = ["--workers", "2", "--max-workers", "2", "--client-share", "100"];
    let server = Server::start(pool, &[&["--spool-dir", path], &workers[..]].concat());
    server.get("/listdir");
    let (memory, descriptors) = (server.all_memory(), server.descriptors());
    let content = noise(2 << 20, 25);
    // Not what the server reads at a time, nor a multiple of it.
    let (first, rest) = content.split_at((1 << 20) + 100_000);
    let mut senders: Vec<_> = (0..SENDERS)
        .map(|number| {
            let mut client = begin(&server, &format!("/upload/{number}"), content.len());
            client.send(first);
            client
        })
        .collect();
    eventually("each has a file", || server.descriptors() + 2 >= descriptors + 2 * SENDERS);
    eventually("all of it is read", || server.unread() == 0);
    assert!(is_empty(spool.path()), "without a name");
    assert_eq!(server.get("/listdir").status, 200, "a worker is free");
    let each = server.all_memory().saturating_sub(memory) / SENDERS;
    assert!(each < 16 << 10, "{each} bytes each");
    for sender in &mut senders {
        sender.send(rest);
    }
    for (number, sender) in senders.iter_mut().enumerate() {
        assert_eq!(sender.response().status, 200);
        assert!(fs::read(server.dir.join(number.to_string())).unwrap() == content);
    }
    drop(senders);
    eventually("all is closed", || server.descriptors() <= descriptors + 2);
}

for_each_pool!(bodies_that_wait_have_a_bound_and_a_share_for_each_address);
fn bodies_that_wait_have_a_bound_and_a_share_for_each_address(pool: &str) {
    let server = Server::start(pool, &["--max-spooled", "8MiB"]);
    let half = noise(4 << 20, 26);
    let mut first = begin(&server, "/upload/first", half.len());
    first.send(&half[..half.len() - 1]);
    eventually("all of it is read", || server.unread() == 0);
    let mut second = begin(&server, "/upload/second", half.len());
    second.send_until_closed(&half);
    let refused = second.response();
    assert_eq!((refused.status, refused.field("retry-after")), (503, Some("1")));
    let mut other = server.connect_from("127.0.0.2");
    assert_eq!(other.request("PUT", "/upload/other", &half).status, 200, "another's share");
    first.send(&half[half.len() - 1..]);
    assert_eq!(first.response().status, 200);
    eventually("room again", || {
        server.request("PUT", "/upload/second", &half[..3 << 20]).status == 200
    });
}

for_each_pool!(a_full_disk_is_told_to_the_client_that_needs_it);
fn a_full_disk_is_told_to_the_client_that_needs_it(pool: &str) {
    let Some(small) = Mounted::new("tmpfs", "size=3m") else { return };
    let server = Server::start(pool, &["--spool-dir", small.path().to_str().unwrap()]);
    let mut client = begin(&server, "/upload/x", 8 << 20);
    client.send_until_closed(&noise(8 << 20, 27));
    assert_eq!(client.response().status, 507);
    assert_eq!(server.get("/listdir").status, 200);
    let content = noise(2 << 20, 28);
    eventually("room again", || server.request("PUT", "/upload/x", &content).status == 200);
}

for_each_pool!(nothing_is_left_of_a_body_whoever_is_killed);
fn nothing_is_left_of_a_body_whoever_is_killed(pool: &str) {
    let spool = tempfile::tempdir().unwrap();
    let mut server = Server::start(pool, &["--spool-dir", spool.path().to_str().unwrap()]);
    let mut client = begin(&server, "/upload/x", 8 << 20);
    client.stream.write_all(&noise(4 << 20, 29)).unwrap();
    kill(server.pid(), Signal::KILL);
    server.wait();
    assert!(is_empty(spool.path()) && is_empty(&server.dir));
}
