//! Handlers of WASI 0.3: components that export `wasi:http/handler`, and may have tasks.

#[path = "../../crates/attacks/src/demo/fibers.rs"]
mod fibers;

use std::path::Path;

use rustix::process::Signal;
use serde_json::Value;

use crate::support::{Server, for_each_pool, host, noise, output};

const SERVICE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../handlers/service.wasm");
const HOSTILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../handlers/hostile-service.wasm");

/// A call's time, where it is used up.
const SHORT: [&str; 2] = ["--timeout", "300ms"];

fn start(pool: &str, args: &[&str]) -> Server {
    Server::start(pool, &[&["--handler", SERVICE], args].concat())
}

/// With one worker, so that a call that kept it would keep the next one from an answer.
fn hostile(pool: &str, args: &[&str]) -> Server {
    let one = ["--handler", HOSTILE, "--workers", "1", "--max-workers", "1"];
    Server::start(pool, &[&one, args].concat())
}

for_each_pool!(a_request_is_what_the_client_sent);
fn a_request_is_what_the_client_sent(pool: &str) {
    let server = start(pool, &["--env", "A=b"]);
    let mut client = server.connect();
    client.send(
        "PATCH /request?a=%20b HTTP/1.1\r\nHost: example.com:81\r\nX-One: 1\r\nx-one: 2\r\n\
         Connection: x-hop\r\nX-Hop: no\r\nContent-Length: 2\r\n\r\nab",
    );
    assert_eq!(
        client.response().text(),
        "method Method::Patch\npath Some(\"/request?a=%20b\")\nscheme Scheme::Http\n\
         authority Some(\"example.com:81\")\nx-one: 1\nx-one: 2\ncontent-length: 2\n",
        "{pool}"
    );
    client.send("PURGE http://other/request HTTP/1.1\r\nHost: other\r\n\r\n");
    let text = client.response().text().to_owned();
    assert!(text.starts_with("method other PURGE\npath Some(\"/request\")\n"), "{text}");
    assert_eq!(server.get("/environment").text(), "[(\"A\", \"b\")]\n", "{pool}");
    assert_eq!(server.get("/status?418").status, 418, "{pool}");
    let fields = server.get("/fields").text().to_owned();
    assert!(fields.starts_with("good Ok(())\nagain Ok(())\nboth 2\n"), "{pool}: {fields}");
    assert!(fields.contains("injection Err(HeaderError::InvalidSyntax)"), "{pool}: {fields}");
    assert!(fields.contains("request Err(HeaderError::Immutable)"), "{pool}: {fields}");
}

for_each_pool!(a_body_comes_back_as_it_was_sent);
fn a_body_comes_back_as_it_was_sent(pool: &str) {
    let server = start(pool, &[]);
    for length in [0, 1, 4097, 70_000, 3 << 20] {
        let body = noise(length, 7);
        // Through the guest's memory, and from stream to stream.
        for target in ["/echo", "/forward"] {
            let response = server.request("POST", target, &body);
            assert_eq!(response.status, 200, "{pool} {target}: {length}");
            assert!(response.body == body, "{pool} {target}: {length}");
        }
        let said = format!("{length} bytes, trailers: false\n");
        assert_eq!(server.request("PUT", "/length", &body).text(), said, "{pool}");
    }
    let response = server.get("/trailers");
    assert_eq!(response.text(), "before trailers\n", "{pool}");
    assert_eq!(response.field("trailer"), None, "{pool}: they are dropped");
    let response = server.get("/no-body");
    assert_eq!((response.status, response.body.len()), (200, 0), "{pool}");
    assert_eq!(server.request("HEAD", "/", b"").field("content-length"), Some("7"), "{pool}");
}

for_each_pool!(files_are_kept_and_sent);
fn files_are_kept_and_sent(pool: &str) {
    let server = start(pool, &[]);
    for length in [3, 70_000, 3 << 20] {
        let body = noise(length, 11);
        let stored = server.request("PUT", "/store/a", &body);
        assert_eq!(stored.text(), format!("{length} bytes\n"), "{pool}");
        let sent = server.get("/file/a");
        assert_eq!(sent.field("content-length"), Some(&*length.to_string()), "{pool}");
        assert!(sent.body == body, "{pool}: {length}");
        let appended = server.request("POST", "/append/a", b"more");
        assert_eq!(appended.text(), format!("{} bytes\n", length + 4), "{pool}");
        assert!(server.get("/file/a").body.ends_with(b"more"), "{pool}: {length}");
    }
    let listing: Value = {
        let text = server.get("/listdir").text().replace(", ]", "]");
        serde_json::from_str(&text).expect(&text)
    };
    let names: Vec<_> =
        listing.as_array().into_iter().flatten().map(|file| &file["name"]).collect();
    assert_eq!(names, ["a"], "{pool}");
    assert_eq!(server.request("DELETE", "/delete/a", b"").text(), "deleted\n", "{pool}");
    assert_eq!(server.get("/file/a").status, 404, "{pool}");
}

for_each_pool!(a_file_is_sent_by_the_front_beyond_the_limit_on_responses);
fn a_file_is_sent_by_the_front_beyond_the_limit_on_responses(pool: &str) {
    let server = start(pool, &["--max-response", "64KiB"]);
    let body = noise(1 << 20, 13);
    std::fs::write(server.dir.join("large"), &body).unwrap();
    assert!(server.get("/file/large").body == body, "{pool}: no byte of it is the response's own");
    std::fs::write(server.dir.join("small"), &body[..1000]).unwrap();
    assert!(server.get("/file/small").body == body[..1000], "{pool}");
}

for_each_pool!(the_directory_has_an_end_and_may_be_read_only);
fn the_directory_has_an_end_and_may_be_read_only(pool: &str) {
    let server = start(pool, &["--quota", "1MiB"]);
    let stored = server.request("PUT", "/store/a", &noise(2 << 20, 3));
    assert_eq!((stored.status, stored.text()), (409, "ErrorCode::Quota\n"), "{pool}");
    let stored = server.request("PUT", "/store/b", &noise(1000, 3));
    assert_eq!(stored.text(), "1000 bytes\n", "{pool}");
    let server = start(pool, &["--read-only"]);
    let stored = server.request("PUT", "/store/a", b"a");
    assert_eq!(stored.text(), "ErrorCode::ReadOnly\n", "{pool}");
}

for_each_pool!(tasks_wait_for_clocks);
fn tasks_wait_for_clocks(pool: &str) {
    let server = start(pool, &[]);
    assert_eq!(server.get("/timers").text(), "10\n20\n30\n", "{pool}: the first first");
    assert_eq!(server.get("/sleep?ms=50").text(), "slept\n", "{pool}");
    assert_eq!(server.get("/ticks?3").text(), "tick 0\ntick 1\ntick 2\n", "{pool}");
}

for_each_pool!(work_after_a_response_is_done_before_it_leaves);
fn work_after_a_response_is_done_before_it_leaves(pool: &str) {
    let server = start(pool, &[]);
    assert_eq!(server.get("/afterwards?ms=50").text(), "at once\n", "{pool}");
    assert!(server.dir.join("afterwards").exists(), "{pool}");
    // What still waits at the deadline is ended, and the response was there.
    let server = hostile(pool, &SHORT);
    for _ in 0..2 {
        assert_eq!(server.get("/after-sleep").text(), "lost\n", "{pool}");
    }
    assert_eq!(server.get("/after-panic").status, 500, "{pool}: it has left nothing yet");
    assert_eq!(server.get("/").status, 200, "{pool}");
}

for_each_pool!(what_never_ends_is_ended_and_holds_no_worker);
fn what_never_ends_is_ended_and_holds_no_worker(pool: &str) {
    let server = hostile(pool, &SHORT);
    for attack in [
        "/never",
        "/never-timed",
        "/unread",
        "/unwritten",
        "/blocked",
        "/yield",
        "/yield-blocking",
        "/timer-year",
        "/unfinished",
        "/trailers-never",
        // One begins before its response is there, the other one when it is.
        "/after-loop",
        "/after-rest-loop",
    ] {
        assert_eq!(server.get(attack).status, 504, "{pool}: {attack}");
        assert_eq!(server.get("/").status, 200, "{pool}: after {attack}");
    }
}

for_each_pool!(who_waits_in_vain_is_told_at_once);
fn who_waits_in_vain_is_told_at_once(pool: &str) {
    // The test would take as long as that.
    let mut server = hostile(pool, &["--timeout", "1h"]);
    for attack in ["/never", "/unread", "/blocked"] {
        assert_eq!(server.get(attack).status, 504, "{pool}: {attack}");
        server.wait_for_line("it waits for what cannot happen any more");
    }
}

for_each_pool!(crowds_are_kept_small);
fn crowds_are_kept_small(pool: &str) {
    let mut server = hostile(pool, &[]);
    for attack in [
        "/many-timers",
        "/many-futures",
        "/many-streams",
        "/many-sets",
        "/many-fields",
        "/many-responses",
        "/many-writes",
    ] {
        assert_eq!(server.get(attack).status, 500, "{pool}: {attack}");
        server.wait_for_line("more than 256 handles, or 4096 streams, futures and tasks");
        assert_eq!(server.get("/").status, 200, "{pool}: after {attack}");
    }
    assert_eq!(server.get("/backpressure").status, 500, "{pool}");
}

for_each_pool!(stacks_are_few_and_used_again);
fn stacks_are_few_and_used_again(pool: &str) {
    let scratch = tempfile::tempdir().unwrap();
    let component = scratch.path().join("fibers.wasm");
    std::fs::write(&component, wat::parse_str(fibers::fibers()).unwrap()).unwrap();
    let one = ["--workers", "1", "--max-workers", "1", "--handler", component.to_str().unwrap()];
    let mut server = Server::start(pool, &[&one[..], &SHORT].concat());
    assert_eq!(server.get("/ok").status, 200, "{pool}: it says its trailers, and keeps the future");
    let before = server.all_memory();
    // With that of the caller they are as many as a call may have.
    assert_eq!(server.get("/31").status, 504, "{pool}");
    for _ in 0..50 {
        for attack in ["/32", "/40"] {
            assert_eq!(server.get(attack).status, 500, "{pool}: {attack}");
        }
        assert_eq!(server.get("/ok").status, 200, "{pool}");
    }
    server.wait_for_line("more than 32 tasks wait at the same time");
    let grown = server.all_memory().saturating_sub(before);
    println!("{pool}: {before} KiB before, {grown} KiB more after 101 crowds of tasks");
    // What is kept of 32 stacks, and of the log.
    assert!(grown < 8 << 10, "{pool}: {grown} KiB more than {before}");
}

for_each_pool!(a_response_that_breaks_the_rules_is_not_sent);
fn a_response_that_breaks_the_rules_is_not_sent(pool: &str) {
    let server = hostile(pool, &["--max-response", "1MiB"]);
    for (attack, status) in [
        ("/endless", 502),
        ("/short", 502),
        ("/long", 502),
        ("/interim", 502),
        ("/trailers-error", 500),
        ("/returns-twice", 500),
        ("/cancels", 500),
        ("/stale-handle", 500),
        ("/inject", 200),
    ] {
        assert_eq!(server.get(attack).status, status, "{pool}: {attack}");
        assert_eq!(server.get("/").status, 200, "{pool}: after {attack}");
    }
    assert_eq!(server.get("/random-gigabytes").text().split(':').next(), Some("nothing"), "{pool}");
}

for_each_pool!(nothing_leads_out_and_nothing_overfills);
fn nothing_leads_out_and_nothing_overfills(pool: &str) {
    let server = hostile(pool, &["--quota", "2MiB"]);
    for attack in [
        "/dotdot",
        "/absolute",
        "/symlink-out",
        "/symlink-make",
        "/fill",
        "/self-append",
        "/sparse",
        "/open-files",
        "/outgoing",
        "/connect",
        "/bind",
        "/udp",
        "/resolve",
    ] {
        let response = server.get(attack);
        assert!(response.text().starts_with("blocked: "), "{pool}: {attack}: {}", response.text());
    }
}

fn lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).expect(line)).collect()
}

for_each_pool!(every_host_call_has_a_line_in_the_audit);
fn every_host_call_has_a_line_in_the_audit(pool: &str) {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("audit");
    let mut server = start(pool, &["--quota", "1MiB", "--audit", path.to_str().unwrap()]);
    assert_eq!(server.request("PUT", "/store/a", b"abc").status, 200);
    assert_eq!(server.request("PUT", "/store/b", &noise(2 << 20, 3)).status, 409);
    assert_eq!(server.get("/file/a").text(), "abc");
    assert_eq!(server.get("/outgoing").status, 200);
    server.signal(Signal::TERM);
    server.wait();
    let lines = lines(&path);
    let has = |function: &str, outcome: &str, bytes: Option<u64>| {
        lines.iter().any(|line| {
            line["function"] == function
                && line["outcome"] == outcome
                && (bytes.is_none() || line["bytes"].as_u64() == bytes)
        })
    };
    for (function, outcome, bytes) in [
        ("get-directories", "allowed", None),
        ("descriptor.open-at", "allowed", None),
        ("descriptor.write-via-stream", "allowed", Some(3)),
        ("descriptor.write-via-stream", "denied", None),
        ("descriptor.read-via-stream", "allowed", None),
        ("request.consume-body", "allowed", None),
        ("response.new", "allowed", None),
        ("send", "denied", None),
    ] {
        assert!(has(function, outcome, bytes), "{pool}: {function} {outcome}: {lines:#?}");
    }
}

for_each_pool!(what_a_task_waits_for_at_the_end_of_its_call_is_in_the_audit);
fn what_a_task_waits_for_at_the_end_of_its_call_is_in_the_audit(pool: &str) {
    let passed = "the deadline of the handler call passed while it waited";
    let in_vain = "it waits for what cannot happen any more";
    let clock = ("wasi:clocks/monotonic-clock", "wait-for");
    let tasks = ("component-model", "waitable-set.wait");
    for (attack, status, (interface, function), reason) in [
        ("/timer-year", 504, clock, passed),
        ("/never-timed", 504, clock, passed),
        // Its response was there.
        ("/after-sleep", 200, clock, passed),
        ("/never", 504, tasks, in_vain),
        ("/unread", 504, tasks, in_vain),
        ("/blocked", 504, tasks, in_vain),
    ] {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("audit");
        let audit = ["--audit", path.to_str().unwrap()];
        let mut server = hostile(pool, &[&SHORT[..], &audit].concat());
        assert_eq!(server.get(attack).status, status, "{pool}: {attack}");
        server.signal(Signal::TERM);
        server.wait();
        let lines = lines(&path);
        let trapped: Vec<_> = lines.iter().filter(|line| line["outcome"] == "trapped").collect();
        let [line] = *trapped else { panic!("{pool}: {attack}: {lines:#?}") };
        let told = (&line["interface"], &line["function"], &line["reason"]);
        let expected = (&interface.into(), &function.into(), &reason.into());
        assert_eq!(told, expected, "{pool}: {attack}");
    }
}

for_each_pool!(a_stream_that_is_moved_at_the_deadline_is_in_the_audit);
fn a_stream_that_is_moved_at_the_deadline_is_in_the_audit(pool: &str) {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("audit");
    let audit = path.to_str().unwrap();
    let options = ["--timeout", "100ms", "--quota", "1TiB", "--audit", audit];
    let mut server = hostile(pool, &options);
    // A file is appended to itself, part by part.
    assert_eq!(server.get("/self-append").status, 504, "{pool}");
    server.signal(Signal::TERM);
    server.wait();
    let lines = lines(&path);
    let trapped: Vec<_> = lines.iter().filter(|line| line["outcome"] == "trapped").collect();
    let [line] = *trapped else { panic!("{pool}: {trapped:#?}") };
    assert_eq!(line["interface"], "wasi:filesystem/types", "{pool}");
    let passed = "the deadline of the handler call passed in a host call";
    assert_eq!(line["reason"], passed, "{pool}");
}

for_each_pool!(what_a_handler_prints_is_in_the_log);
fn what_a_handler_prints_is_in_the_log(pool: &str) {
    let mut server = start(pool, &[]);
    let text = server.get("/output").text().to_owned();
    assert_eq!(text, "stdout Ok(()), stderr Ok(()), stdin None Ok(())\n", "{pool}");
    server.wait_for_line("a line of standard output");
}

#[test]
fn an_operator_may_refuse_them_or_keep_them_in_processes() {
    for (pool, setting, is_taken) in
        [("process", "process", true), ("thread", "process", false), ("process", "off", false)]
    {
        let scratch = tempfile::tempdir().unwrap();
        let dir = scratch.path().to_str().unwrap();
        let args = ["--pool", pool, "--handler", SERVICE, "--wasi-03", setting, "--port", "0"];
        if is_taken {
            let server = start(pool, &["--wasi-03", setting]);
            assert_eq!(server.get("/").status, 200, "{pool} {setting}");
            continue;
        }
        let ended = output(host().args(args).args(["--dir", dir]));
        let said = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert_eq!(ended.status.code(), Some(1), "{pool} {setting}: {said}");
        assert!(
            said.contains("--wasi-03: it is a handler of WASI 0.3, which is not taken here"),
            "{said}"
        );
    }
    let ended = output(host().args(["--wasi-03", "maybe"]));
    assert_eq!(ended.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&ended.stderr).contains("--wasi-03"));
}

#[test]
fn inspect_says_which_engine_they_have() {
    let ended = output(host().args(["inspect", SERVICE]));
    let said = String::from_utf8_lossy(&ended.stdout).into_owned();
    assert!(said.contains("kind: http, WASI 0.3: wasi:http/handler"), "{said}");
    assert!(said.contains("accepted"), "{said}");
}

/// A handler that also imports other handlers' interface, with these exports.
fn importing(exports: &str) -> Vec<u8> {
    let clock = "(import \"wasi:clocks/";
    let types =
        r#"(alias export $http "request" (type $a)) (alias export $http "response" (type $b))"#;
    let import =
        format!("{types} (import \"wasi:http/handler@0.3.2\" (instance {exports}))\n{clock}");
    wat::parse_str(fibers::fibers().replacen(clock, &import, 1)).unwrap()
}

for_each_pool!(types_of_other_handlers_may_be_imported_and_no_function);
fn types_of_other_handlers_may_be_imported_and_no_function(pool: &str) {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("importing.wasm");
    let types = r#"(export "request" (type (eq $a))) (export "response" (type (eq $b)))"#;
    std::fs::write(&path, importing(types)).unwrap();
    let handler = ["--handler", path.to_str().unwrap()];
    assert_eq!(Server::start(pool, &handler).get("/ok").status, 200, "{pool}");
    let ended = output(host().args(["inspect", handler[1]]));
    let said = String::from_utf8_lossy(&ended.stdout).into_owned();
    assert!(said.contains("types, and nothing to call"), "{said}");

    std::fs::write(&path, importing(&format!("{types} (export \"handle\" (func))"))).unwrap();
    let ended = output(host().args(["inspect", handler[1]]));
    let said = String::from_utf8_lossy(&ended.stdout).into_owned();
    assert!(said.contains("refused: it imports wasi:http/handler@0.3.2"), "{said}");
}
