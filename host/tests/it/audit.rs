//! The audit: a line for every host call.

use std::collections::HashSet;
use std::path::Path;

use rustix::process::{Pid, Resource, Rlimit, Signal, prlimit};
use serde_json::Value;

use crate::support::{Server, eventually, for_each_pool, host, in_time, output};

const PROBE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../handlers/probe.wasm");
const HOSTILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../handlers/hostile.wasm");

fn lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).expect(line)).collect()
}

for_each_pool!(every_host_call_has_a_line_that_says_what_came_of_it);
fn every_host_call_has_a_line_that_says_what_came_of_it(pool: &str) {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("audit");
    let mut server = Server::start(pool, &["--handler", PROBE, "--audit", path.to_str().unwrap()]);
    assert_eq!(server.get("/").status, 200);
    assert_eq!(server.get("/").status, 200);
    server.signal(Signal::TERM);
    server.wait();

    let lines = lines(&path);
    let requests: HashSet<_> = lines.iter().map(|line| line["request"].as_u64()).collect();
    assert_eq!(requests, [Some(1), Some(2)].into(), "{pool}");
    let functions: HashSet<_> =
        lines.iter().map(|line| line["function"].as_str().unwrap()).collect();
    for function in [
        "get-directories",
        "get-environment",
        "get-arguments",
        "get-stdout",
        "get-stderr",
        "get-stdin",
        "now",
        "descriptor.open-at",
        "descriptor.stat-at",
        "descriptor.rename-at",
        "descriptor.link-at",
        "descriptor.create-directory-at",
        "descriptor.remove-directory-at",
        "descriptor.unlink-file-at",
        "descriptor.set-size",
        "descriptor.set-times",
        "descriptor.sync",
        "directory-entry-stream.read-directory-entry",
    ] {
        assert!(functions.contains(function), "{pool}: {function} in {functions:?}");
    }
    let find = |function: &str, path: &str, outcome: &str| {
        lines.iter().find(|line| {
            line["function"] == function && line["path"] == path && line["outcome"] == outcome
        })
    };
    let allowed = find("descriptor.open-at", "a", "allowed").unwrap();
    assert_eq!(allowed["interface"], "wasi:filesystem/types");
    assert!(allowed["microseconds"].is_u64());
    let denied = find("descriptor.open-at", "../secret", "denied").unwrap();
    assert_eq!(denied["reason"], "the path leads out of the directory");
    assert!(find("descriptor.open-at", "none", "failed").is_some());
    let renamed = lines.iter().find(|line| line["function"] == "descriptor.rename-at").unwrap();
    assert_eq!((&renamed["path"], &renamed["other_path"]), (&"d/x".into(), &"d/y".into()));
}

for_each_pool!(a_handler_that_is_ended_leaves_its_trail);
fn a_handler_that_is_ended_leaves_its_trail(pool: &str) {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("audit");
    let audit = path.to_str().unwrap();
    let mut server =
        Server::start(pool, &["--handler", HOSTILE, "--audit", audit, "--timeout", "500ms"]);
    assert_eq!(server.get("/sleep-year").status, 504);
    assert_eq!(server.get("/random-gigabytes").status, 500);
    server.signal(Signal::TERM);
    server.wait();
    let lines = lines(&path);
    let last = |request: u64| lines.iter().rfind(|line| line["request"] == request).unwrap();
    assert_eq!(last(1)["interface"], "wasi:io/poll", "{pool}: where it slept");
    assert_eq!(last(1)["outcome"], "trapped", "{pool}");
    assert_eq!(last(2)["outcome"], "denied", "{pool}");
    assert_eq!(last(2)["bytes"], 1u64 << 32, "{pool}");
}

#[test]
fn a_file_that_cannot_be_written_is_said_so_at_the_start() {
    let output = output(host().args(["--port", "0", "--audit", "/nonexistent/audit"]));
    assert_eq!(output.status.code(), Some(1));
    let line = String::from_utf8(output.stderr).unwrap();
    assert!(line.starts_with("error: --audit /nonexistent/audit: "), "{line}");
}

for_each_pool!(an_audit_that_nobody_reads_ends_calls_and_not_the_server);
fn an_audit_that_nobody_reads_ends_calls_and_not_the_server(pool: &str) {
    let (reader, writer) = std::io::pipe().unwrap();
    let mut command = host();
    command.stdout(writer);
    let arguments = ["--handler", HOSTILE, "--audit", "-", "--timeout", "300ms"];
    let mut server = Server::with_command(command, pool, &arguments);
    // It makes more host calls than any pipe has room for.
    for _ in 0..12 {
        assert_eq!(server.get("/output-flood").status, 504, "{pool}");
    }
    let reading = std::thread::spawn(|| std::io::read_to_string(reader));
    eventually("good answers again", || server.get("/ok").status == 200);
    server.signal(Signal::TERM);
    assert!(server.wait().success(), "{pool}");
    drop(server);
    let text = in_time("the end of the audit", || reading.join().unwrap().unwrap());
    for line in text.lines() {
        serde_json::from_str::<Value>(line).expect(line);
    }
}

for_each_pool!(an_audit_that_cannot_be_written_stops_the_handlers_and_says_so);
fn an_audit_that_cannot_be_written_stops_the_handlers_and_says_so(pool: &str) {
    let arguments = ["--handler", HOSTILE, "--audit", "/dev/full", "--timeout", "300ms"];
    let mut server = Server::start(pool, &arguments);
    eventually("no host call that is not told of", || server.get("/names").status == 504);
    server.wait_for_line("the audit cannot be written, handlers wait: No space left");
    server.signal(Signal::TERM);
    server.wait();
}

for_each_pool!(an_audit_whose_disk_was_full_goes_on_where_it_was);
fn an_audit_whose_disk_was_full_goes_on_where_it_was(pool: &str) {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("audit");
    let mut server = Server::start(pool, &["--audit", path.to_str().unwrap()]);
    let pid = Pid::from_raw(server.pid().try_into().unwrap());
    let limit = |current| prlimit(pid, Resource::Fsize, Rlimit { current, maximum: None }).unwrap();
    // The file takes no more than this, which ends within a line: to a writer, a full disk.
    limit(Some(1000));
    for _ in 0..10 {
        assert_eq!(server.get("/listdir").status, 200, "{pool}: the pipe takes as much");
    }
    server.wait_for_line("the audit cannot be written, handlers wait: File too large");
    assert_eq!(path.metadata().unwrap().len(), 1000, "{pool}");
    limit(None);
    server.wait_for_line("the audit is written again");
    server.signal(Signal::TERM);
    server.wait();
    let told: HashSet<_> = lines(&path).iter().map(|line| line["request"].as_u64()).collect();
    assert_eq!(told, (1..=10).map(Some).collect(), "{pool}: none is lost");
}
