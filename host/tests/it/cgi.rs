//! Handlers that are commands: programs with `main`, as CGI 1.1 has them.

use std::fs;

use crate::support::{Server, for_each_pool, noise};

const CGI: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../handlers/cgi.wasm");

fn start(pool: &str, args: &[&str]) -> Server {
    Server::start(pool, &[&["--handler", CGI], args].concat())
}

for_each_pool!(a_command_has_the_request_as_cgi_has_it_and_no_other_environment);
fn a_command_has_the_request_as_cgi_has_it_and_no_other_environment(pool: &str) {
    let server = start(pool, &["--env", "GREETING=hello"]);
    let mut client = server.connect();
    client.send(
        "POST /environment?a=b HTTP/1.1\r\nHost: example.com\r\nProxy: http://evil/\r\n\
         X-One: 1\r\nContent-Type: text/x\r\nContent-Length: 2\r\n\r\nab",
    );
    let response = client.response();
    let mut lines: Vec<_> = response.text().lines().collect();
    lines.sort_unstable();
    let version = concat!("SERVER_SOFTWARE=swapbox/", env!("CARGO_PKG_VERSION"));
    assert_eq!(
        lines,
        [
            "CONTENT_LENGTH=2",
            "CONTENT_TYPE=text/x",
            "GATEWAY_INTERFACE=CGI/1.1",
            "GREETING=hello",
            "HTTP_HOST=example.com",
            "HTTP_X_ONE=1",
            "PATH_INFO=/environment",
            "QUERY_STRING=a=b",
            "REMOTE_ADDR=127.0.0.1",
            "REQUEST_METHOD=POST",
            "REQUEST_URI=/environment?a=b",
            "SCRIPT_NAME=",
            "SERVER_NAME=example.com",
            "SERVER_PORT=80",
            "SERVER_PROTOCOL=HTTP/1.1",
            version,
        ],
        "{pool}"
    );
}

for_each_pool!(a_client_has_its_whole_address);
fn a_client_has_its_whole_address(pool: &str) {
    let server = start(pool, &["--proxy-protocol"]);
    for (header, expected) in [
        ("PROXY TCP6 2001:db8::7:5 ::1 7 80", "REMOTE_ADDR=2001:db8::7:5"),
        ("PROXY TCP4 10.0.0.5 10.0.0.1 7 80", "REMOTE_ADDR=10.0.0.5"),
    ] {
        let mut client = server.connect();
        client.send(format!("{header}\r\nGET /environment HTTP/1.0\r\n\r\n"));
        let response = client.response();
        assert!(response.text().lines().any(|line| line == expected), "{pool}: {expected}");
    }
}

for_each_pool!(a_body_is_the_standard_input_and_the_output_the_response);
fn a_body_is_the_standard_input_and_the_output_the_response(pool: &str) {
    let server = start(pool, &[]);
    for length in [0, 1, 70_000, 3 << 20] {
        let body = noise(length, 3);
        let response = server.request("POST", "/echo", &body);
        assert!(response.status == 200 && response.body == body, "{pool}: {length}");
    }
    let body = noise(2 << 20, 9);
    let response = server.request("PUT", "/store?stored", &body);
    assert_eq!((response.status, response.text()), (201, "stored 2097152\n"), "{pool}");
    assert_eq!(fs::read(server.dir.join("stored")).unwrap(), body);
}

for_each_pool!(a_header_of_cgi_becomes_one_of_http);
fn a_header_of_cgi_becomes_one_of_http(pool: &str) {
    let server = start(pool, &[]);
    let response = server.get("/");
    assert_eq!(
        (response.text(), response.field("content-length")),
        ("Hello from CGI\n", Some("15"))
    );
    assert_eq!(server.get("/status?418%20Teapot").status, 502, "{pool}: it is not decoded");
    assert_eq!(server.get("/status?418").status, 418, "{pool}");
    let response = server.get("/redirect?/elsewhere");
    assert_eq!((response.status, response.field("location")), (302, Some("/elsewhere")), "{pool}");
    let response = server.get("/crlf");
    assert_eq!((response.text(), response.field("x-line")), ("body", Some("cr lf")), "{pool}");
    assert_eq!(server.get("/length?10").text(), "0123456789", "{pool}");
    let mut client = server.connect();
    client.send("HEAD / HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(client.response_to("HEAD").field("content-length"), Some("15"), "{pool}");
}

for_each_pool!(what_is_no_response_of_cgi_is_none);
fn what_is_no_response_of_cgi_is_none(pool: &str) {
    let mut server = start(pool, &["--max-response", "1MiB"]);
    let (none, failed) = ("The handler gave no response", "The handler failed");
    let malformed = "The handler's response is not well-formed";
    for (path, status, text, told) in [
        ("/nothing", 502, none, "no response of CGI: it does not end its header"),
        ("/garbage", 502, none, "no response of CGI: it does not end its header"),
        ("/unended", 502, none, "no response of CGI: it does not end its header"),
        ("/status?banana", 502, none, "no response of CGI: its Status is no status"),
        ("/length?11", 502, malformed, "not as long as it says"),
        ("/length?1e1", 502, malformed, "length"),
        ("/coding", 502, malformed, "transfer coding"),
        ("/endless", 502, "The handler's response is too long", "too long"),
        ("/endless-header", 502, "The handler's response is too long", "too long"),
        // All that WASI 0.2 has is that it failed.
        ("/exit?3", 500, failed, "exited with code 1"),
        ("/panic", 500, failed, "the handler "),
    ] {
        let response = server.get(path);
        assert_eq!(response.status, status, "{pool}: {path}: {}", response.text());
        assert!(response.text().starts_with(text), "{pool}: {path}: {}", response.text());
        let line = server.wait_for_line(&format!("target={path} "));
        assert!(line.contains(told), "{pool}: {path}: {line}");
    }
    assert_eq!(server.get("/exit?0").text(), "half\n", "{pool}: that is to end well");
    assert_eq!(server.get("/error").status, 200, "{pool}");
    server.wait_for_line("a line on standard error");
}

/// A program of WASI preview 1, as C makes them: says its response, and nothing else.
const MODULE: &str = r#"(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "\10\00\00\00\27\00\00\00")
  (data (i32.const 16) "Content-Type: text/plain\n\nfrom a module")
  (func (export "_start")
    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
    (call $exit (i32.const 0))))"#;

for_each_pool!(a_core_module_of_preview_1_is_a_command);
fn a_core_module_of_preview_1_is_a_command(pool: &str) {
    let server = Server::with_handler(pool, MODULE, &[]);
    let response = server.get("/");
    assert_eq!((response.status, response.text()), (200, "from a module"), "{pool}");
}

/// A program in the manner of Go: takes all of its memory, which it overwrites before each call. Answers with what the
/// file `name` has, read in two pieces, and with its environment.
const GREEDY: &str = r#"(module
  (import "wasi_snapshot_preview1" "environ_sizes_get" (func $sizes (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "environ_get" (func $environ (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_open"
    (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 2)
  (table 1 funcref)
  (elem (i32.const 0) $write)
  (type $call (func (param i32 i32 i32 i32) (result i32)))
  (data (i32.const 0) "name")
  (data (i32.const 16) "Content-Type: text/plain\n\n")
  ;; Where the file's first two bytes go, and where the others.
  (data (i32.const 64) "\00\01\00\00\02\00\00\00" "\10\01\00\00\f0\00\00\00")
  ;; The header, the file, the environment.
  (data (i32.const 96) "\10\00\00\00\1a\00\00\00" "\00\01\00\00\02\00\00\00" "\10\01\00\00\00\00\00\00"
    "\00\08\00\00\00\00\00\00")
  (func $take
    (drop (memory.grow (i32.const 1)))
    (memory.fill (i32.const 0x10000) (i32.const 0xaa)
      (i32.sub (i32.mul (memory.size) (i32.const 0x10000)) (i32.const 0x10000))))
  (func $check (param i32)
    (if (local.get 0) (then unreachable)))
  (func (export "_start")
    (call $take)
    (call $check (call $sizes (i32.const 48) (i32.const 124)))
    (call $take)
    (call $check (call $environ (i32.const 0x400) (i32.const 0x800)))
    (call $take)
    (call $check (call $open (i32.const 3) (i32.const 0) (i32.const 0) (i32.const 4) (i32.const 0)
      (i64.const 2) (i64.const 0) (i32.const 0) (i32.const 52)))
    (call $take)
    (call $check (call $read (i32.load (i32.const 52)) (i32.const 64) (i32.const 2) (i32.const 56)))
    (i32.store (i32.const 116) (i32.sub (i32.load (i32.const 56)) (i32.const 2)))
    (call $take)
    ;; The first string is where its address says.
    (call $check (i32.ne (i32.load (i32.const 0x400)) (i32.const 0x800)))
    (call $check (call_indirect (type $call)
      (i32.const 1) (i32.const 96) (i32.const 4) (i32.const 56) (i32.const 0)))
    (call $take))
  (@custom "producers" "Go cmd/compile"))"#;

for_each_pool!(a_program_that_takes_all_memory_for_its_own_is_a_command);
fn a_program_that_takes_all_memory_for_its_own_is_a_command(pool: &str) {
    let server = Server::with_handler(pool, GREEDY, &["--env", "GREETING=hello"]);
    fs::write(server.dir.join("name"), "a file's text\n").unwrap();
    for _ in 0..3 {
        let response = server.get("/greedy");
        let text = response.text();
        assert!(response.status == 200 && text.starts_with("a file's text\n"), "{pool}: {text}");
        let environment: Vec<_> = text["a file's text\n".len()..].split('\0').collect();
        for pair in ["GREETING=hello", "PATH_INFO=/greedy", "REQUEST_METHOD=GET"] {
            assert!(environment.contains(&pair), "{pool}: {environment:?}");
        }
    }
}

/// A component that reads its environment while it is instantiated; succeeds if something was there.
const EARLY: &str = r#"(component
  (import "wasi:cli/environment@0.2.0" (instance $environment
    (export "get-environment" (func (result (list (tuple string string)))))))
  (core module $memory
    (memory (export "memory") 1)
    (global $end (mut i32) (i32.const 1024))
    (func (export "realloc") (param i32 i32 i32 i32) (result i32)
      (global.get $end)
      (global.set $end (i32.and (i32.add (i32.add (global.get $end) (local.get 3)) (i32.const 7)) (i32.const -8)))))
  (core instance $memory (instantiate $memory))
  (core func $get (canon lower (func $environment "get-environment")
    (memory (core memory $memory "memory")) (realloc (core func $memory "realloc"))))
  (core module $program
    (import "host" "get" (func $get (param i32)))
    (import "memory" "memory" (memory 1))
    (func $start (call $get (i32.const 0)))
    (start $start)
    (func (export "run") (result i32) (i32.eqz (i32.load (i32.const 4)))))
  (core instance $program (instantiate $program
    (with "memory" (instance $memory))
    (with "host" (instance (export "get" (func $get))))))
  (func $run (result (result)) (canon lift (core func $program "run")))
  (instance $cli (export "run" (func $run)))
  (export "wasi:cli/run@0.2.0" (instance $cli)))"#;

for_each_pool!(a_command_has_its_environment_from_the_start);
fn a_command_has_its_environment_from_the_start(pool: &str) {
    let mut server = Server::with_handler(pool, EARLY, &[]);
    let response = server.get("/");
    let line = server.wait_for_line("target=/ ");
    // Had it found nothing, it would have failed: 500.
    assert_eq!(response.status, 502, "{pool}: {line}");
    assert!(line.contains("no response of CGI"), "{pool}: {line}");
}
