//! What the executables print of what others wrote: within bounds, and nothing that steers
//! whoever reads it.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Output, Stdio};

use rustix::process::{Pid, Signal};
use serde_json::Value;

use crate::components;
use crate::support::{Client, clean, eventually, host, kill};

const HOSTILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../handlers/hostile.wasm");

/// Controls of both kinds, what turns text around, ends of lines, what does not show, and a
/// character that does.
const STEERING: &str = "\u{1b}[2J\u{7f}\u{9b}2J\u{202e}\u{2066}\u{200f}\u{61c}\u{2028}\u{feff}é";

/// Each of the tests on each pool.
macro_rules! on_each_pool {
    ($($test:ident),* $(,)?) => {
        mod thread {
            $(#[test] fn $test() { super::$test("thread"); })*
        }
        mod process {
            $(#[test] fn $test() { super::$test("process"); })*
        }
    };
}

on_each_pool! {
    a_flood_of_output_is_bounded_and_counted,
    every_line_is_json_from_the_first_on,
    text_has_nothing_that_steers_a_terminal,
    the_audit_has_nothing_that_steers_a_terminal,
    a_server_that_does_not_start_says_so_in_its_format,
}

/// A server whose standard error is a file.
struct Logging {
    child: Child,
    path: PathBuf,
    dir: tempfile::TempDir,
}

impl Logging {
    fn start(pool: &str, arguments: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut command = host();
        command.args(["--pool", pool, "--port", "0", "--workers", "2"]).args(arguments);
        if !arguments.contains(&"--dir") {
            command.arg("--dir").arg(dir.path().join("folder"));
        }
        let child = command.stderr(File::create(&path).unwrap()).spawn().unwrap();
        let server = Self { child, path, dir };
        eventually("the banner", || server.log().contains("| sandbox "));
        server
    }

    fn log(&self) -> String {
        String::from_utf8(std::fs::read(&self.path).unwrap()).unwrap()
    }

    /// The lines so far, each of which is an object.
    fn objects(&self) -> Vec<Value> {
        let log = self.log();
        let whole = log.rsplit_once('\n').map_or("", |(whole, _)| whole);
        let objects: Vec<Value> = whole
            .lines()
            .map(|line| {
                serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))
            })
            .collect();
        assert!(objects.iter().all(Value::is_object));
        objects
    }

    fn connect(&self) -> Client {
        let log = self.log();
        let at = log.split_once("running on port ").unwrap().1;
        let end = at.find(|c: char| !c.is_ascii_digit()).unwrap();
        Client::new(TcpStream::connect(("127.0.0.1", at[..end].parse().unwrap())).unwrap())
    }

    fn stop(&mut self) {
        kill(self.child.id(), Signal::TERM);
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Logging {
    fn drop(&mut self) {
        let _ = rustix::process::kill_process(Pid::from_child(&self.child), Signal::KILL);
        let _ = self.child.wait();
    }
}

/// Nothing but what shows, besides ends of lines and, where it may be, tabs.
#[track_caller]
fn assert_harmless(text: &str) {
    let shows = |c: char| {
        matches!(c, '\n' | '\t' | ' '..='~') || c.is_alphanumeric() || "✓…\u{fffd}".contains(c)
    };
    let steering: Vec<_> = text.chars().filter(|c| !shows(*c)).collect();
    assert!(steering.is_empty(), "{steering:?} in {text:?}");
}

fn a_flood_of_output_is_bounded_and_counted(pool: &str) {
    let dir = tempfile::tempdir().unwrap();
    let (config, flooding) = (dir.path().join("c.toml"), dir.path().join("flooding.wasm"));
    let mut component = std::fs::read(HOSTILE).unwrap();
    std::fs::write(&flooding, &component).unwrap();
    let tables = format!(
        "[[handler]]\npath = {HOSTILE:?}\n[[handler]]\nprefix = {FLOOD:?}\npath = {flooding:?}\n"
    );
    std::fs::write(&config, tables).unwrap();
    let config = config.to_str().unwrap();
    let mut server =
        Logging::start(pool, &["--log", "json", "--dir", "folder", "--config", config]);
    let (mut client, mut calls) = (server.connect(), 0);
    // Each call writes 32 MiB, of which it may bring 64 KiB into the log.
    let mut flood = || {
        assert_eq!(client.request("GET", FLOOD, b"").status, 200, "{pool}");
        calls += 1;
    };
    eventually("more than the route may log", || {
        flood();
        beyond_budget(&server.objects()).1 > 0
    });
    // Another handler has what this one leaves.
    component.extend_from_slice(b"\0\x02\x01x");
    std::fs::write(&flooding, component).unwrap();
    kill(server.child.id(), Signal::HUP);
    eventually("the swap", || {
        flood();
        server.log().contains("handler swapped")
    });
    (0..20).for_each(|_| flood());
    let accounted = |lines: &[Value]| {
        let dropped = lines.iter().filter_map(|line| line["dropped"].as_u64()).sum::<u64>();
        logged(lines).count() as u64 * LINE + dropped + beyond_budget(lines).1
    };
    let all = calls << 25;
    eventually("all of it is there or counted", || accounted(&server.objects()) == all);
    // The end does not wait, and tells of what has not been told of.
    let mut client = server.connect();
    for _ in 0..20 {
        assert_eq!(client.request("GET", FLOOD, b"").status, 200, "{pool}");
    }
    // Another route is as it was.
    assert_eq!(client.request("GET", "/output-invalid", b"").status, 200);
    server.stop();
    let lines = server.objects();
    assert_eq!(accounted(&lines), all + (20 << 25), "{pool}");
    let said =
        |text: &str| lines.iter().any(|line| line["output"].as_str().unwrap_or("").contains(text));
    assert!(said("half a letter"), "{pool}");
    let served = lines.iter().filter(|line| line.get("client").is_some()).count() as u64;
    assert_eq!(served, calls + 21, "{pool}: access lines");

    let (first, last) = (logged(&lines).next().unwrap(), logged(&lines).next_back().unwrap());
    let seconds = time(last).duration_since(time(first)).unwrap().as_secs_f64();
    let kept = logged(&lines).count() as f64 * LINE as f64 / f64::from(1 << 20);
    assert!(kept <= 1.0 + seconds + 0.5, "{pool}: {kept} MiB in {seconds} s");
    let whole = time(&lines[lines.len() - 1]).duration_since(time(&lines[0])).unwrap();
    let (reports, _) = beyond_budget(&lines);
    assert!(reports <= whole.as_secs() + 1, "{pool}: {reports} reports in {whole:?}");
}

/// The target that floods the log, and the prefix of the route that does.
const FLOOD: &str = "/output-flood";

/// Bytes of each line of the flood.
const LINE: u64 = 4096;

/// Lines of the flood.
fn logged(lines: &[Value]) -> impl DoubleEndedIterator<Item = &Value> {
    let is_long =
        |line: &&Value| line["output"].as_str().is_some_and(|o| o.len() as u64 + 1 == LINE);
    lines.iter().filter(is_long)
}

/// Reports of what was beyond the flooding route's budget, and their bytes together.
fn beyond_budget(lines: &[Value]) -> (u64, u64) {
    let reports =
        lines.iter().filter(|line| line["prefix"] == FLOOD && line.get("lines").is_some());
    reports
        .fold((0, 0), |(count, bytes), line| (count + 1, bytes + line["bytes"].as_u64().unwrap()))
}

fn time(line: &Value) -> std::time::SystemTime {
    humantime::parse_rfc3339(line["timestamp"].as_str().unwrap()).unwrap()
}

fn every_line_is_json_from_the_first_on(pool: &str) {
    let mut server = Logging::start(pool, &["--log", "json", "--handler", HOSTILE]);
    let mut client = server.connect();
    for target in ["/output-escapes", "/output-forged", "/output-invalid"] {
        assert_eq!(client.request("GET", target, b"").status, 200);
    }
    let mut other = server.connect();
    other.send("GET /\u{9b}\u{202e}\"\u{2028}é HTTP/1.1\r\nHost: x\r\n\r\n");
    other.response();
    server.stop();
    assert_harmless(&server.log());
    let lines = server.objects();
    let banner = lines[0]["message"].as_str().unwrap();
    let port = lines[0]["port"].as_u64().unwrap();
    let kind = if pool == "thread" { "Thread" } else { "Process" };
    assert_eq!(banner, format!("{kind} Pool HTTP Server running on port {port}"));
    let second = lines[1]["message"].as_str().unwrap();
    assert!(second.starts_with("handler ") && second.contains("| sandbox "), "{second}");
    let output: Vec<_> = lines.iter().filter_map(|line| line["output"].as_str()).collect();
    let escapes = "\u{1b}[2J\u{1b}[H\u{1b}[31mred\u{1b}[0m \u{1b}]0;owned\u{7} \u{fffd}2J \u{9b}2J \u{8}\u{8}\u{7f}";
    assert_eq!(output[..2], [escapes, escapes], "what the guest wrote, and no escape of it");
    let target = lines.iter().filter_map(|line| line["target"].as_str()).next_back();
    assert_eq!(target, Some("/\u{9b}\u{202e}\"\u{2028}é"));
}

fn text_has_nothing_that_steers_a_terminal(pool: &str) {
    let dir = tempfile::tempdir().unwrap();
    let name = dir.path().join(format!("handler{STEERING}\n.wasm"));
    std::fs::copy(HOSTILE, &name).unwrap();
    let name = name.to_str().unwrap();
    let mut server = Logging::start(pool, &["--handler", name]);
    let mut client = server.connect();
    for target in ["/output-escapes", "/output-forged", "/output-invalid"] {
        assert_eq!(client.request("GET", target, b"").status, 200);
    }
    let mut other = server.connect();
    other.send("GE\u{202e}T /\u{9b}\u{202e}\u{2028}é HTTP/1.1\r\nHost: x\r\n\r\n");
    other.response();
    std::fs::write(name, STEERING).unwrap();
    kill(server.child.id(), Signal::HUP);
    eventually("the reload", || server.log().contains("handler refused"));
    server.stop();
    let log = server.log();
    assert_harmless(&log);
    assert!(log.contains(r"\u{9b}2J") && log.contains(r"target=/\u{9b}\u{202e}\u{2028}é"), "{log}");
    assert!(log.lines().skip(2).all(|line| line.starts_with("20")), "one line each: {log}");
}

fn the_audit_has_nothing_that_steers_a_terminal(pool: &str) {
    let scratch = tempfile::tempdir().unwrap();
    let audit = scratch.path().join("audit");
    let args = ["--audit", audit.to_str().unwrap(), "--handler", HOSTILE];
    let mut server = Logging::start(pool, &args);
    let name = format!("a{STEERING}\u{e0001}");
    std::fs::write(server.dir.path().join("folder").join(&name), "").unwrap();
    assert_eq!(server.connect().request("GET", "/clean", b"").status, 200);
    server.stop();
    let text = String::from_utf8(std::fs::read(audit).unwrap()).unwrap();
    assert_harmless(&text);
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let paths: Vec<_> = lines.filter_map(|line| Some(line["path"].as_str()?.to_owned())).collect();
    assert!(paths.contains(&name), "{paths:?}");
}

fn a_server_that_does_not_start_says_so_in_its_format(pool: &str) {
    let dir = tempfile::tempdir().unwrap();
    let name = dir.path().join(format!("{STEERING}\n"));
    std::fs::write(&name, format!("no component{STEERING}")).unwrap();
    let run = |format| {
        let mut command = host();
        command.args(["--pool", pool, "--port", "0", "--log", format, "--handler"]).arg(&name);
        let output = command.current_dir(dir.path()).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        let text = String::from_utf8(output.stderr).unwrap();
        assert_harmless(&text);
        assert_eq!(text.lines().count(), 1, "{text}");
        text
    };
    assert!(run("text").starts_with("error: --handler "));
    let object: Value = serde_json::from_str(&run("json")).unwrap();
    assert_eq!(object["level"], "ERROR");
    let message = object["message"].as_str().unwrap();
    assert!(message.starts_with("--handler ") && message.contains("not a valid"), "{message}");
    assert!(message.contains(STEERING), "{message}");
    let file = dir.path().join("config.toml");
    std::fs::write(&file, "quota = 'much'").unwrap();
    let output = host().args(["--log", "json", "--config"]).arg(&file).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let object: Value = serde_json::from_slice(&output.stderr).unwrap();
    assert!(object["message"].as_str().unwrap().contains("line 1, quota: "), "{object}");
}

fn text(output: &Output) -> [String; 2] {
    [&output.stdout, &output.stderr].map(|bytes| String::from_utf8(bytes.clone()).unwrap())
}

#[test]
fn inspect_prints_nothing_that_steers_a_terminal() {
    let dir = tempfile::tempdir().unwrap();
    let invalid = std::ffi::OsStr::from_bytes(b"\xff\x1b[2J\n.wasm");
    for name in [Path::new(&format!("{STEERING}\n.wasm")), Path::new(invalid)] {
        let path = dir.path().join(name);
        std::fs::write(&path, wat::parse_str(components::wrong_import()).unwrap()).unwrap();
        let output = host().arg("inspect").arg(&path).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        let [said, error] = text(&output);
        assert_harmless(&said);
        assert_harmless(&error);
        assert_eq!(error.lines().count(), 1, "{error}");
        assert!(said.contains(r"\u{1b}[2J"), "{said}");
    }
}

#[test]
fn a_usage_error_prints_nothing_that_steers_a_terminal() {
    for arguments in [["--pool", STEERING], ["--config", STEERING], ["--env", STEERING]] {
        let output = host().args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        let [_, error] = text(&output);
        assert_harmless(&error);
        assert!(error.contains(r"\u{9b}2J"), "{error}");
    }
}

/// Answers each request with the same response, until the test is over.
fn answering(status: &str, body: &str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let response = format!(
        "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut request = Vec::new();
            while !request.windows(4).any(|window| window == b"\r\n\r\n") {
                let mut buffer = [0; 1024];
                match stream.read(&mut buffer) {
                    Ok(read @ 1..) => request.extend_from_slice(&buffer[..read]),
                    _ => break,
                }
            }
            let _ = stream.write_all(response.as_bytes());
            let _ = stream.shutdown(std::net::Shutdown::Write);
            // What it does not read would cause a reset.
            let _ = std::io::copy(&mut stream, &mut std::io::sink());
        }
    });
    address
}

fn client(server: &str, arguments: &[&str], input: &str) -> [String; 2] {
    let mut command = clean(env!("CARGO_BIN_EXE_client"));
    command.args(["--server", server]).args(arguments).stdin(Stdio::piped());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // A client that asks for nothing may have ended already.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    text(&child.wait_with_output().unwrap())
}

#[test]
fn the_client_prints_nothing_of_a_server_that_steers_a_terminal() {
    let body = format!("a\tline\n\"{STEERING}\" \r\u{e0001}\n");
    let shown = "a\tline\n\"\\u{1b}[2J\\u{7f}\\u{9b}2J\\u{202e}";
    for status in ["200 OK", "404 Not Found"] {
        let server = answering(status, &body);
        for (arguments, input) in [
            (&["delete", "x"][..], ""),
            (&["download", "x"], ""),
            (&["upload", HOSTILE, "--as", "x"], ""),
            (&[], "1\n3\nx\n6\n"),
        ] {
            if (status, arguments.first()) == ("200 OK", Some(&"download")) {
                continue;
            }
            let said = client(&server, arguments, input).concat();
            assert_harmless(&said);
            // A menu asks whether there is a server before anything.
            if status == "200 OK" || !arguments.is_empty() {
                assert!(said.contains(shown), "{arguments:?}: {said}");
            }
        }
        assert_harmless(&client(&server, &["list", "--json"], "").concat());
    }
    let name = format!("{STEERING}\n\u{e0001}");
    let listing = serde_json::json!([{ "name": name, "size": 1, "modified": 1.5 }]);
    let server = answering("200 OK", &listing.to_string());
    let [said, _] = client(&server, &["list"], "");
    assert_harmless(&said);
    assert_eq!(said.lines().count(), 1, "{said}");
    let [said, _] = client(&server, &["list", "--json"], "");
    assert_harmless(&said);
    assert_eq!(serde_json::from_str::<Value>(&said).unwrap(), listing);
}
