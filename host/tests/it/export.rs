//! `host export`: the same handler as a component of `wasi:http`, here and in another server.

use std::ffi::OsStr;
use std::io::Write as _;
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::UNIX_EPOCH;

use tempfile::TempDir;

use crate::components;
use crate::support::{
    Client, ReservedPort, Server, clean, eventually, eventually_ok, for_each_pool, host, noise,
    output,
};

const HANDLERS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../handlers");

/// The variable that names the executable of wasmtime, for the test that needs it.
const WASMTIME: &str = "WASMTIME";

fn built(name: &str) -> PathBuf {
    Path::new(HANDLERS).join(name)
}

/// What `host export` says of a file, and with which status.
fn export(handler: &Path, out: impl AsRef<OsStr>) -> (Option<i32>, String) {
    let output = output(host().arg("export").arg(handler).arg("--output").arg(out.as_ref()));
    assert_eq!(output.stdout, b"");
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

/// A handler once exported, in a directory of its own.
fn exported(handler: &Path) -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("exported.wasm");
    assert_eq!(export(handler, &path), (Some(0), String::new()), "{}", handler.display());
    (dir, path)
}

/// A server of what comes of exporting a handler.
fn serve(pool: &str, handler: &Path, args: &[&str]) -> Server {
    let (_dir, path) = exported(handler);
    Server::start(pool, &[&["--handler", path.to_str().unwrap()], args].concat())
}

/// What a server answers, as far as it is the handler's: the names of fields are the same in any case.
fn answered(port: u16, method: &str, target: &str, fields: &str, body: &[u8]) -> Answer {
    let mut client = Client::connect(port);
    let length = body.len();
    client.send(format!("{method} {target} HTTP/1.1\r\nHost: x\r\n{fields}"));
    client.send([format!("Content-Length: {length}\r\n\r\n").as_bytes(), body].concat());
    let response = client.response_to(method);
    let line = |line: &str| {
        let (name, value) = line.split_once(": ")?;
        let name = name.to_ascii_lowercase();
        (!matches!(&*name, "date" | "connection")).then(|| format!("{name}: {value}"))
    };
    let mut fields: Vec<_> = response.head.split("\r\n").skip(1).filter_map(line).collect();
    fields.sort();
    (response.status, fields, response.body)
}

type Answer = (u16, Vec<String>, Vec<u8>);

/// Has two servers of the file handler do the same in one directory.
fn compare(original: u16, exported: u16, dir: &Path) {
    let large = noise(3 << 20, 5);
    std::fs::write(dir.join("some.bin"), &large).unwrap();
    // What was changed just now has no version yet.
    eventually("it has a version", || {
        let (_, fields, _) = answered(original, "HEAD", "/download/some.bin", "", b"");
        fields.iter().any(|field| field.starts_with("etag: \""))
    });
    // Always of the same time: the page and the listing say of when it is.
    let remade = |name: &str| {
        let mut file = std::fs::File::create(dir.join(name)).unwrap();
        file.write_all(b"to be deleted").unwrap();
        file.set_modified(UNIX_EPOCH).unwrap();
    };
    for (method, target, fields, body, status) in [
        ("GET", "/", "", &b""[..], 200),
        ("GET", "/", "Accept: text/html\r\n", b"", 200),
        ("GET", "/listdir?a=%20b", "", b"", 200),
        ("GET", "/download/some.bin", "", b"", 200),
        ("HEAD", "/download/some.bin", "", b"", 200),
        ("GET", "/download/some.bin", "Range: bytes=10-2000009\r\n", b"", 206),
        ("GET", "/download/some.bin", "Range: bytes=9999999-\r\n", b"", 416),
        ("GET", "/download/some.bin", "If-None-Match: *\r\n", b"", 304),
        ("GET", "/download/none.bin", "", b"", 404),
        ("HEAD", "/download/none.bin", "", b"", 404),
        ("GET", "/nowhere", "X-One: 1\r\nX-One: 2\r\n", b"", 404),
        ("PATCH", "/listdir", "", b"x", 405),
        ("OPTIONS", "*", "", b"", 204),
        ("POST", "/upload/a%20b.bin", "", &large, 200),
        ("PUT", "/upload/a%20b.bin", "", b"", 200),
        ("DELETE", "/delete/a%20b.bin", "", b"", 200),
        ("DELETE", "/delete/..%2Fx", "", b"", 400),
    ] {
        let answers = [original, exported].map(|port| {
            remade("a b.bin");
            let answer = answered(port, method, target, fields, body);
            let now = std::fs::read(dir.join("a b.bin")).ok();
            match method {
                "POST" | "PUT" => assert!(now.as_deref() == Some(body), "{method} {target}"),
                "DELETE" => assert_eq!(now.is_none(), status == 200, "{method} {target}"),
                _ => {}
            }
            answer
        });
        let [(first, first_fields, first_body), (second, second_fields, second_body)] = answers;
        assert_eq!((first, second), (status, status), "{method} {target} {fields}");
        assert_eq!(first_fields, second_fields, "{method} {target} {fields}");
        assert!(first_body == second_body, "{method} {target} {fields}");
    }
}

for_each_pool!(an_exported_handler_answers_as_it_does);
fn an_exported_handler_answers_as_it_does(pool: &str) {
    let original = Server::start(pool, &[]);
    let dir = original.dir.to_str().unwrap();
    let exported = serve(pool, &built("fileops.wasm"), &["--dir", &format!("{dir}::folder")]);
    compare(original.port, exported.port, &original.dir);

    let exported = serve(pool, &built("hello.wasm"), &[]);
    for method in ["GET", "HEAD", "POST", "BREW"] {
        let body = if method == "HEAD" { "" } else { "Hello!\n" };
        let (status, fields, told) = answered(exported.port, method, "/any", "", b"");
        assert_eq!((status, &*told), (200, body.as_bytes()), "{pool}: {method}");
        assert_eq!(fields, ["content-length: 7", "content-type: text/plain"], "{pool}: {method}");
    }
    // One whose imports have other versions than the adapter's.
    let exported = serve(pool, &built("tutorial.wasm"), &[]);
    assert_eq!(exported.request("PUT", "/upload/a", b"b").status, 200, "{pool}");
    assert_eq!(exported.get("/download/a").body, b"b", "{pool}");
}

for_each_pool!(a_request_is_written_out_as_it_came);
fn a_request_is_written_out_as_it_came(pool: &str) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("mirror.wasm");
    std::fs::write(&path, wat::parse_str(components::mirror()).unwrap()).unwrap();
    let server = serve(pool, &path, &[]);
    for (request, expected) in [
        (
            "GET /a?b=%20 HTTP/1.1\r\nHost: example.com:81\r\nX-A: 1\r\nx-a: 2\r\n\r\n",
            "GET /a?b=%20 HTTP/1.1\r\nHost: example.com:81\r\nx-a: 1\r\nx-a: 2\r\n\r\n",
        ),
        ("GET / HTTP/1.0\r\n\r\n", "GET / HTTP/1.1\r\nHost: \r\n\r\n"),
        (
            "PUT http://other/ HTTP/1.1\r\nHost: other\r\nConnection: x\r\nX: 1\r\n\
             Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n",
            "PUT / HTTP/1.1\r\nHost: other\r\nContent-Length: 2\r\n\r\nab",
        ),
        (
            "BREW / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n",
            "BREW / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n",
        ),
        (
            "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n",
        ),
    ] {
        let mut client = server.connect();
        client.send(request);
        assert_eq!(client.response().text(), expected, "{pool}");
    }
    let large = noise(10 << 20, 3);
    let answer = server.request("POST", "/", &large);
    assert!(answer.body.ends_with(&large), "{pool}: {} bytes", answer.body.len());
}

for_each_pool!(what_is_no_response_is_none_when_exported);
fn what_is_no_response_is_none_when_exported(pool: &str) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("bad.wasm");
    for response in [
        "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort",
        "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX: a\rb\r\n\r\n",
        "HTTP/1.1 103 Early Hints\r\n\r\n",
        "garbage",
    ] {
        let component = wat::parse_str(components::answer(response)).unwrap();
        std::fs::write(&path, component).unwrap();
        let mut server = serve(pool, &path, &[]);
        assert_eq!(server.get("/").status, 500, "{pool}: {response:?}");
        server.wait_for_line("HttpProtocolError");
    }
    let fields = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\nX: 1\r\n\r\n";
    std::fs::write(&path, wat::parse_str(components::answer(fields)).unwrap()).unwrap();
    let server = serve(pool, &path, &[]);
    let answer = answered(server.port, "GET", "/", "", b"");
    assert_eq!(answer.1, ["content-length: 0", "x: 1"], "{pool}");
}

#[test]
fn what_cannot_be_exported_is_refused_and_nothing_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out.wasm");
    std::fs::write(&out, "as it was").unwrap();
    let file = |name: &str, bytes: &[u8]| {
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    };
    let hello = std::fs::read(built("hello.wasm")).unwrap();
    let other = wat::parse_str("(component)").unwrap();
    let import = wat::parse_str(components::wrong_import()).unwrap();
    for (handler, expected) in [
        (built("exchange.wasm"), "it is a component of wasi:http already"),
        (built("cgi.wasm"), "it is a command, which servers for CGI and WAGI take as it is"),
        (built("nothing.wasm"), "No such file"),
        (
            file("text.wasm", b"hello"),
            "it would be refused: not a valid WebAssembly component: it looks",
        ),
        (
            file("cut.wasm", &hello[..2000]),
            "it would be refused: not a valid WebAssembly component",
        ),
        (file("noise.wasm", &noise(5000, 1)), "it would be refused: not a valid"),
        (file("other.wasm", &other), "it would be refused: it does not export"),
        (file("import.wasm", &import), "it would be refused: it imports wasi:keyvalue"),
    ] {
        let (status, said) = export(&handler, &out);
        assert_eq!((status, said.lines().count()), (Some(1), 1), "{said}");
        assert!(said.starts_with(&format!("error: {}: ", handler.display())), "{said}");
        assert!(said.contains(expected), "{expected:?} in {said}");
        assert_eq!(std::fs::read(&out).unwrap(), b"as it was");
    }

    let handler = file("hello.wasm", &hello);
    let same = dir.path().join("../").join(dir.path().file_name().unwrap()).join("hello.wasm");
    for (out, expected) in [
        (same.as_path(), "it is the handler itself"),
        (dir.path(), "Is a directory"),
        (Path::new("/nonexistent/x.wasm"), "No such file"),
    ] {
        let (status, said) = export(&handler, out);
        assert_eq!((status, said.lines().count()), (Some(1), 1), "{said}");
        assert!(said.starts_with(&format!("error: {}: ", out.display())), "{said}");
        assert!(said.contains(expected), "{expected:?} in {said}");
    }
    assert_eq!(std::fs::read(&handler).unwrap(), hello);
    assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 7, "and no temporary files");

    let usage = output(host().arg("export").arg(&handler));
    assert_eq!(usage.status.code(), Some(2));
    assert!(String::from_utf8(usage.stderr).unwrap().contains("--output <FILE>"));
}

#[test]
fn a_component_goes_to_a_file_as_any_or_to_standard_output() {
    let (dir, path) = exported(&built("hello.wasm"));
    let new = dir.path().join("new");
    std::fs::write(&new, "").unwrap();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode();
    assert_eq!(mode(&path), mode(&new));
    let told = output(host().arg("export").arg(built("hello.wasm")).args(["-o", "-"]));
    assert!(told.stdout == std::fs::read(&path).unwrap());
    // It is one already.
    let (status, said) = export(&path, &new);
    assert_eq!(status, Some(1));
    assert!(said.ends_with("it is a component of wasi:http already\n"), "{said}");
}

/// `wasmtime serve`, until this is dropped.
struct Wasmtime {
    child: Child,
    port: ReservedPort,
}

impl Wasmtime {
    fn serve(wasmtime: &OsStr, handler: &Path, dir: &Path) -> Self {
        let port = ReservedPort::new();
        let (_dir, path) = exported(handler);
        let mut command = clean(wasmtime);
        command.args(["serve", "-Scli", "--addr", &format!("127.0.0.1:{}", port.number), "--dir"]);
        command.arg(format!("{}::folder", dir.display())).arg(path);
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let server = Self { child, port };
        eventually_ok(|| TcpStream::connect((Ipv4Addr::LOCALHOST, server.port.number)).map(drop));
        server
    }
}

impl Drop for Wasmtime {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn wasmtime_serves_what_is_exported() {
    let Some(wasmtime) = std::env::var_os(WASMTIME) else {
        let _ = writeln!(std::io::stderr(), "SKIPPED: {WASMTIME} names no executable of wasmtime");
        return;
    };
    let original = Server::start("thread", &[]);
    let served = Wasmtime::serve(&wasmtime, &built("fileops.wasm"), &original.dir);
    compare(original.port, served.port.number, &original.dir);

    let served = Wasmtime::serve(&wasmtime, &built("hello.wasm"), &original.dir);
    let (status, _, body) = answered(served.port.number, "GET", "/", "", b"");
    assert_eq!((status, &*body), (200, &b"Hello!\n"[..]));
    for name in ["tutorial.wasm", "work.wasm", "hostile.wasm"] {
        let served = Wasmtime::serve(&wasmtime, &built(name), &original.dir);
        let (status, ..) = answered(served.port.number, "GET", "/nothing-of-the-kind", "", b"");
        assert!((200..500).contains(&status), "{name}: {status}");
    }
    let bad = original.scratch().join("bad.wasm");
    std::fs::write(&bad, wat::parse_str(components::answer("garbage")).unwrap()).unwrap();
    let served = Wasmtime::serve(&wasmtime, &bad, &original.dir);
    assert_eq!(answered(served.port.number, "GET", "/", "", b"").0, 500);
}
