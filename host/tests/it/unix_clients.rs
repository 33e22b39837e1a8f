//! Clients that come by a Unix socket: the same promises hold, and all of them together are one client without a share.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;
use tempfile::TempDir;

use crate::components;
use crate::support::{Client, PATIENCE, Server, eventually, for_each_pool, host, noise, output};

/// A directory for a socket, whose path must be short.
struct Place {
    dir: TempDir,
}

impl Place {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("socket")
    }

    fn address(&self) -> String {
        format!("unix:{}", self.path().display())
    }

    fn serve(&self, pool: &str, args: &[&str]) -> Server {
        Server::start(pool, &[&["--addr", &self.address()], args].concat())
    }

    fn connect(&self) -> UnixStream {
        let stream = UnixStream::connect(self.path()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// The whole answer to a request on a connection of its own.
    fn ask(&self, method: &str, target: &str, body: &[u8]) -> String {
        let mut stream = self.connect();
        let length = body.len();
        let head = format!(
            "{method} {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n"
        );
        stream.write_all(&[head.as_bytes(), body].concat()).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

for_each_pool!(clients_of_a_unix_socket_are_served);
fn clients_of_a_unix_socket_are_served(pool: &str) {
    let place = Place::new();
    let mut server = place.serve(pool, &[]);
    assert!(server.has_said(&format!("Pool HTTP Server running on {}", place.address())));
    assert_eq!(mode(&place.path()), 0o660, "{pool}");
    assert!(place.ask("GET", "/", b"").starts_with("HTTP/1.1 200 "), "{pool}");
    let line = server.wait_for_line("method=GET target=/ ");
    assert!(line.contains(" client=unix: "), "{pool}: {line}");
    let large = noise(3 << 20, 1);
    assert!(place.ask("PUT", "/upload/large", &large).starts_with("HTTP/1.1 200 "), "{pool}");
    let mut stream = place.connect();
    let request = "GET /download/large HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).unwrap();
    // One that has said all it has to say is not gone.
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    assert!(answer.ends_with(&large), "{pool}: {} bytes", answer.len());
    server.signal(Signal::TERM);
    assert!(server.wait().success(), "{pool}");
    assert!(!place.path().exists(), "{pool}: the socket goes with its server");
}

#[test]
fn a_socket_of_a_killed_server_gives_way_and_a_served_one_does_not() {
    let place = Place::new();
    let mut killed = place.serve("thread", &["--socket-mode", "600"]);
    killed.signal(Signal::KILL);
    killed.wait();
    assert_eq!(mode(&place.path()), 0o600, "it is still there");
    let _server = place.serve("thread", &[]);
    for (arguments, status, expected) in [
        (&["--addr", &place.address()][..], 1, "another server listens there"),
        (&["--addr", "unix:/"], 1, "there is a file of that name, which is no socket"),
        (&["--addr", "unix:/nowhere/socket"], 1, "--addr unix:/nowhere/socket: "),
        (&["--addr", "unix:x", "--port", "1"], 2, "--port: the Unix socket x has no port"),
        (&["--socket-mode", "rw"], 2, "a mode is written as"),
    ] {
        let scratch = tempfile::tempdir().unwrap();
        let told = output(host().current_dir(scratch.path()).args(arguments));
        let error = String::from_utf8_lossy(&told.stderr);
        assert_eq!(told.status.code(), Some(status), "{arguments:?}: {error}");
        assert!(error.contains(expected), "{arguments:?}: {error}");
    }
    assert!(place.ask("GET", "/", b"").starts_with("HTTP/1.1 200 "));
}

#[test]
fn all_connections_may_be_of_a_unix_socket() {
    let place = Place::new();
    let _server = place.serve("thread", &["--max-connections", "20", "--client-share", "10"]);
    let all: Vec<_> = (0..20).map(|_| place.connect()).collect();
    for mut stream in &all {
        stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"HTTP/1.1 200");
    }
}

for_each_pool!(who_closes_a_unix_socket_while_he_waits_is_not_served);
fn who_closes_a_unix_socket_while_he_waits_is_not_served(pool: &str) {
    let place = Place::new();
    let wat = components::sleeper(1_000_000_000);
    let address = place.address();
    let mut server = Server::with_handler(pool, &wat, &["--addr", &address, "--workers", "1"]);
    let ask = |target: &str| {
        let mut stream = place.connect();
        stream.write_all(format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).unwrap();
        stream
    };
    let mut busy: Vec<_> = (0..2).map(|_| ask("/busy")).collect();
    eventually("the request in the worker", || server.sleeping_workers() == 1);
    let mut patient = ask("/patient");
    patient.shutdown(Shutdown::Write).unwrap();
    for _ in 0..5 {
        drop(ask("/gone"));
    }
    for _ in 0..5 {
        let line = server.wait_for_line("target=/gone");
        assert!(line.contains("status=499") && line.contains("worker=0"), "{pool}: {line}");
    }
    for stream in busy.iter_mut().chain([&mut patient]) {
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"HTTP/1.1 204", "{pool}");
    }
}

for_each_pool!(who_reads_slowly_from_a_unix_socket_is_served_and_who_stalls_is_not);
fn who_reads_slowly_from_a_unix_socket_is_served_and_who_stalls_is_not(pool: &str) {
    let place = Place::new();
    let mut server = place.serve(pool, &["--write-timeout", "1s"]);
    let large = noise(15 << 20, 1);
    assert!(place.ask("PUT", "/upload/large", &large).starts_with("HTTP/1.1 200 "), "{pool}");
    let ask = || {
        let mut stream = place.connect();
        let request = "GET /download/large HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        stream.write_all(request.as_bytes()).unwrap();
        stream
    };
    // Four seconds and more in all.
    let answer = Client::over(ask()).response_slowly(Duration::from_millis(16));
    assert!(answer.body == large, "{pool}: {} bytes", answer.body.len());
    let mut stalled = ask();
    let line = server.wait_for_line("the client took too long");
    assert!(line.contains("/download/large"), "{pool}: {line}");
    let mut answer = Vec::new();
    stalled.read_to_end(&mut answer).unwrap();
    assert!(answer.len() < large.len(), "{pool}");
}
