//! `host health`: what it says of servers that are well, of others, and of nobody.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener};
use std::process::Output;

use rustix::process::Signal;

use crate::components;
use crate::support::{Operator, Server, eventually, for_each_pool, host, kill, output};

fn health(args: &[&str], variables: &[(&str, &str)]) -> Output {
    output(host().arg("health").args(args).envs(variables.iter().copied()))
}

/// The exit status and the one line of an answer.
fn told(output: &Output) -> (i32, String) {
    let said = [&output.stdout[..], &output.stderr].concat();
    let said = String::from_utf8(said).unwrap();
    assert_eq!(said.matches('\n').count(), 1, "{said}");
    (output.status.code().unwrap(), said.trim_end().to_owned())
}

fn check(args: &[&str], variables: &[(&str, &str)], status: i32, line: &str) {
    let (found, said) = told(&health(args, variables));
    assert!(found == status && said.contains(line), "{args:?} {variables:?}: {found} {said}");
}

/// A server of something else, which answers one connection with these bytes and then holds it open.
fn stranger(answer: &'static str) -> String {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        assert!(stream.read(&mut [0; 1024]).unwrap() > 0);
        stream.write_all(answer.as_bytes()).unwrap();
        std::io::copy(&mut stream, &mut std::io::sink())
    });
    address
}

for_each_pool!(a_server_is_ready_or_says_why_not);
fn a_server_is_ready_or_says_why_not(pool: &str) {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("admin");
    let address = format!("unix:{}", path.display());
    let options = ["--admin", &address, "--cache-dir", "none", "--grace", "60s"];
    let nap = components::slow_to_compile(&components::sleeper(4_000_000_000));
    let mut server = Server::with_handler_and(pool, &nap, &options, |server| {
        let compiler = server.stop_compiler(Signal::STOP);
        check(&["--admin", &address], &[], 1, "error: not ready: the server is starting");
        check(&["--live"], &[("SWAPBOX_ADMIN", &address)], 0, "live");
        kill(compiler, Signal::CONT);
    });
    let ready = || health(&[], &[("SWAPBOX_ADMIN", &address)]).status.success();
    eventually("it is ready", ready);
    check(&["--admin", &address], &[], 0, "ready");
    let mut last = server.connect();
    last.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    let operator = Operator::unix(&path);
    operator.wait_for_sample("swapbox_workers{http_route=\"/\",state=\"busy\"}", 1.0);
    server.signal(Signal::TERM);
    server.wait_for_line("finishing the requests in flight");
    check(&["--admin", &address], &[], 1, "error: not ready: the server is shutting down");
    check(&["--admin", &address, "--live"], &[], 0, "live");
    assert_eq!(last.response().status, 204, "{pool}");
    assert!(server.wait().success());
    check(&["--admin", &address], &[], 1, "No such file");
}

#[test]
fn the_listener_is_found_by_option_variable_or_file() {
    let mut server = Server::start("thread", &["--admin", "127.0.0.1:0"]);
    let Operator::Tcp(port) = server.operator() else { panic!("it listens on a port") };
    let address = format!("127.0.0.1:{port}");
    let file = server.scratch().join("swapbox.toml");
    std::fs::write(&file, format!("admin = '{address}'\nworkers = 2\n")).unwrap();
    let file = file.to_str().unwrap();
    let nobody = ("SWAPBOX_ADMIN", "unix:/nonexistent/admin");
    check(&["--admin", &address], &[nobody], 0, "ready");
    check(&[], &[("SWAPBOX_ADMIN", &address)], 0, "ready");
    check(&["--config", file], &[], 0, "ready");
    check(&[], &[("SWAPBOX_CONFIG", file)], 0, "ready");
    check(&["--config", file], &[nobody], 1, "--admin unix:/nonexistent/admin: No such file");
    check(&["--admin", &format!("0.0.0.0:{port}")], &[], 0, "ready");
}

#[test]
fn a_question_that_is_none_is_a_bad_command_line() {
    check(&[], &[], 2, "neither this option nor SWAPBOX_ADMIN");
    check(&["--admin", "127.0.0.1:0"], &[], 2, "port 0");
    check(&["--admin", "localhost"], &[], 2, "--admin");
    check(&["--admin", "unix:/x", "--deadline", "soon"], &[], 2, "--deadline");
    check(&["--config", "/nonexistent.toml"], &[], 2, "/nonexistent.toml");
}

#[test]
fn who_answers_otherwise_late_or_never_is_not_ready() {
    let page = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK";
    check(&["--admin", &stranger(page)], &[], 1, "not as a Swapbox does");
    let gone = "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n";
    check(&["--admin", &stranger(gone)], &[], 1, "/readyz answers 404");
    let endless = "HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n{";
    for silent in ["", "HTTP/1.1 200", endless] {
        let args = ["--admin", &stranger(silent), "--deadline", "100ms"];
        check(&args, &[], 1, "no answer within 100ms");
    }
    let closed = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
    check(&["--admin", &closed.to_string()], &[], 1, "refused");
}

for_each_pool!(a_server_that_is_drained_serves_on_and_keeps_no_connection);
fn a_server_that_is_drained_serves_on_and_keeps_no_connection(pool: &str) {
    let scratch = tempfile::tempdir().unwrap();
    let address = format!("unix:{}", scratch.path().join("admin").display());
    let mut server = Server::start(pool, &["--admin", &address]);
    let mut client = server.connect();
    assert_eq!(client.request("GET", "/listdir", b"").status, 200);
    let drain = |variables| output(host().args(["drain", "--for", "1ms"]).envs(variables));
    assert_eq!(told(&drain([("SWAPBOX_ADMIN", &address)])), (0, "draining".into()));
    server.wait_for_line("POST /drain");
    check(&["--admin", &address], &[], 1, "not ready: the server is about to shut down");
    check(&["--admin", &address, "--live"], &[], 0, "live");
    for client in [&mut client, &mut server.connect()] {
        let response = client.request("GET", "/listdir", b"");
        assert_eq!((response.status, response.field("connection")), (200, Some("close")));
        assert!(client.is_closed(), "{pool}");
    }
    server.signal(Signal::TERM);
    assert!(server.wait().success());
    assert_eq!(drain([("SWAPBOX_ADMIN", &address)]).status.code(), Some(1));
}
