//! What a service manager does for a server and is told by it: sockets that it passes (`LISTEN_FDS`), and sd_notify(3).

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::process::Command;

use rustix::io::{FdFlags, fcntl_dupfd_cloexec, fcntl_setfd};
use rustix::process::Signal;

use crate::support::{Client, PATIENCE, Server, clean_for_host, eventually, for_each_pool, output};

/// A descriptor that processes inherit, with a number from `least` on.
fn inherited(socket: impl AsFd, least: i32) -> OwnedFd {
    let descriptor = fcntl_dupfd_cloexec(socket, least).unwrap();
    fcntl_setfd(&descriptor, FdFlags::empty()).unwrap();
    descriptor
}

/// `host`, as the process that the variables are for.
fn passed(first: &OwnedFd, count: &str) -> Command {
    let mut command = clean_for_host("sh");
    let run = "LISTEN_PID=$$ WATCHDOG_PID=$$ exec \"$0\" \"$@\"";
    command.args(["-c", run, env!("CARGO_BIN_EXE_host")]);
    // (They begin at 3 where nobody says so.)
    command.env("LISTEN_FDS", count);
    command.env("LISTEN_FDS_FIRST_FD", first.as_raw_fd().to_string());
    command
}

for_each_pool!(several_sockets_that_were_passed_are_served);
fn several_sockets_that_were_passed_are_served(pool: &str) {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("socket");
    let (tcp, unix) =
        (TcpListener::bind("127.0.0.1:0").unwrap(), UnixListener::bind(&path).unwrap());
    let port = tcp.local_addr().unwrap().port();
    let least = if pool == "thread" { 900 } else { 910 };
    let first = inherited(&tcp, least);
    let _second = inherited(&unix, first.as_raw_fd() + 1);
    let mut server = Server::with_command(passed(&first, "2"), pool, &[]);
    assert_eq!(server.port, port, "{pool}");
    assert!(server.has_said(&format!("http://127.0.0.1:{port}/ unix:{}", path.display())));
    server.wait_for_line("the sockets that were passed (LISTEN_FDS) are used in place of --addr");
    assert_eq!(Client::connect(port).request("GET", "/", b"").status, 200, "{pool}");
    let mut client = UnixStream::connect(&path).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{pool}: {answer}");
    for worker in server.all_workers() {
        let environment = fs::read(worker.join("environ")).unwrap_or_default();
        let environment = String::from_utf8_lossy(&environment);
        // (A thread has its process's, which cannot be changed from what it was at the start.)
        assert!(pool == "thread" || !environment.contains("LISTEN_FDS"), "{pool}: {environment}");
    }
    server.signal(Signal::TERM);
    assert!(server.wait().success(), "{pool}");
    assert!(path.exists(), "{pool}: the file is the service manager's");
}

#[test]
fn what_was_passed_and_is_no_listening_socket_is_told() {
    let scratch = tempfile::tempdir().unwrap();
    let (no_listener, _other) = UnixStream::pair().unwrap();
    let file = fs::File::open("/dev/null").unwrap();
    for descriptor in [inherited(&no_listener, 920), inherited(&file, 920)] {
        let told = output(passed(&descriptor, "1").current_dir(scratch.path()));
        let error = String::from_utf8_lossy(&told.stderr);
        assert_eq!(told.status.code(), Some(1), "{error}");
        assert!(
            error.contains("LISTEN_FDS: descriptor 3 is no listening stream socket"),
            "{error}"
        );
        assert_eq!(error.lines().count(), 1, "{error}");
    }
}

#[test]
fn sockets_for_another_process_are_not_taken() {
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let first = inherited(&tcp, 930);
    let mut command = clean_for_host(env!("CARGO_BIN_EXE_host"));
    command.env("LISTEN_FDS", "1").env("LISTEN_PID", "1");
    command.env("LISTEN_FDS_FIRST_FD", first.as_raw_fd().to_string());
    let server = Server::with_command(command, "thread", &[]);
    assert_ne!(server.port, tcp.local_addr().unwrap().port());
    assert_eq!(server.get("/").status, 200);
}

for_each_pool!(a_service_manager_is_told_of_each_phase);
fn a_service_manager_is_told_of_each_phase(pool: &str) {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let wait_for = |expected: &str| {
        let mut seen = Vec::new();
        loop {
            let mut message = [0; 4096];
            let length =
                socket.recv(&mut message).unwrap_or_else(|_| panic!("{expected}: {seen:?}"));
            let message = String::from_utf8_lossy(&message[..length]).into_owned();
            if message.lines().any(|line| line.starts_with(expected)) {
                return message;
            }
            seen.push(message);
        }
    };
    let mut command = clean_for_host("sh");
    let run = "WATCHDOG_PID=$$ exec \"$0\" \"$@\"";
    command.args(["-c", run, env!("CARGO_BIN_EXE_host")]);
    command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "200000");
    let mut server = Server::with_command(command, pool, &[]);
    wait_for("READY=1");
    wait_for("STATUS=0 requests done");
    wait_for("WATCHDOG=1");
    assert_eq!(server.get("/").status, 200, "{pool}");
    wait_for("STATUS=1 requests done, 0 running, 0 waiting, 3 workers");
    server.signal(Signal::HUP);
    let reloading = wait_for("RELOADING=1");
    assert!(reloading.contains("\nMONOTONIC_USEC="), "{pool}: {reloading}");
    wait_for("READY=1");
    wait_for("WATCHDOG=1");
    server.signal(Signal::TERM);
    wait_for("STOPPING=1");
    assert!(server.wait().success(), "{pool}");
}

#[test]
fn a_service_manager_that_is_not_there_holds_up_nothing() {
    let mut command = clean_for_host(env!("CARGO_BIN_EXE_host"));
    command.env("NOTIFY_SOCKET", "/nowhere/notify");
    let server = Server::with_command(command, "thread", &[]);
    assert_eq!(server.get("/").status, 200);
}

#[test]
fn a_service_manager_that_reads_nothing_holds_up_one_thread() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("notify");
    let _manager = UnixDatagram::bind(&path).unwrap();
    let other = UnixDatagram::unbound().unwrap();
    other.set_nonblocking(true).unwrap();
    while other.send_to(b"STATUS=not read", &path).is_ok() {}
    let mut command = clean_for_host("sh");
    let run = "WATCHDOG_PID=$$ exec \"$0\" \"$@\"";
    command.args(["-c", run, env!("CARGO_BIN_EXE_host")]);
    command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "200000");
    let mut server = Server::with_command(command, "thread", &[]);
    let threads =
        |server: &Server| fs::read_dir(format!("/proc/{}/task", server.pid())).unwrap().count();
    // That it is ready, and what it does.
    for _ in 0..2 {
        server.wait_for_line("the service manager is not told in time");
    }
    let before = threads(&server);
    server.wait_for_line("the service manager is not told in time");
    eventually("no thread more", || threads(&server) <= before);
    assert_eq!(server.get("/").status, 200);
}
