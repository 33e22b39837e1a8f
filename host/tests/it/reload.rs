//! What makes a server look at its handlers again, and what it says of it.

use std::fs;
use std::path::Path;

use rustix::process::Signal;

use crate::components;
use crate::support::{Server, eventually, for_each_pool, kill};

const FILEOPS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../handlers/fileops.wasm");

/// A handler that answers everything with this status.
fn status(status: u16) -> String {
    components::answer(&format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n"))
}

/// A handler that answers so, and takes long to compile.
fn slow(answer: u16) -> String {
    components::slow_to_compile(&status(answer))
}

fn component(wat: &str) -> Vec<u8> {
    wat::parse_str(wat).unwrap()
}

/// Changes a file as programs do: in place, by another file, or by another link.
fn change(way: &str, file: &Path, wat: &str) {
    let beside = file.with_extension("new");
    match way {
        "in place" => return fs::write(file, component(wat)).unwrap(),
        "renamed" => fs::write(&beside, component(wat)).unwrap(),
        _ => {
            let target = file.with_extension("target");
            fs::write(&target, component(wat)).unwrap();
            std::os::unix::fs::symlink(&target, &beside).unwrap();
        }
    }
    fs::rename(&beside, file).unwrap();
}

/// Every compiler has its work to do, and the file is watched.
const WATCHED: [&str; 3] = ["--watch", "--cache-dir", "none"];

for_each_pool!(a_file_that_changes_while_the_server_starts_is_taken_up);
fn a_file_that_changes_while_the_server_starts_is_taken_up(pool: &str) {
    for way in ["in place", "renamed", "link"] {
        let mut server = Server::with_handler_and(pool, &slow(201), &WATCHED, |server| {
            // What it compiles it has read.
            let compiler = server.stop_compiler(Signal::STOP);
            change(way, &server.handler(), &status(202));
            kill(compiler, Signal::CONT);
        });
        server.wait_for_line("handler swapped");
        assert_eq!(server.get("/").status, 202, "{pool}: {way}");
    }
}

#[test]
fn a_file_that_changes_while_it_is_taken_up_is_taken_up_again() {
    let mut server = Server::with_handler("thread", &status(201), &WATCHED);
    for (way, first, second) in [("in place", 202, 203), ("renamed", 204, 205)] {
        change(way, &server.handler(), &slow(first));
        let compiler = server.stop_compiler(Signal::STOP);
        change(way, &server.handler(), &status(second));
        kill(compiler, Signal::CONT);
        server.wait_for_line("handler swapped");
        server.wait_for_line("handler swapped");
        assert_eq!(server.get("/").status, second, "{way}");
    }
}

#[test]
fn a_file_that_changes_while_sighup_adds_it_is_taken_up() {
    let scratch = tempfile::tempdir().unwrap();
    let file = |name: &str| scratch.path().join(name);
    let table = |prefix: &str, path: &Path| {
        let dir = file("folder").display().to_string();
        format!("[[handler]]\nprefix = '{prefix}'\npath = '{}'\ndir = '{dir}'\n", path.display())
    };
    let (one, two, config) = (file("one.wasm"), file("two.wasm"), file("config.toml"));
    fs::write(&one, component(&status(201))).unwrap();
    fs::write(&two, component(&slow(202))).unwrap();
    fs::write(&config, table("/", &one)).unwrap();
    let args = [&WATCHED[..], &["--config", config.to_str().unwrap()]].concat();
    let mut server = Server::start("thread", &args);
    let both = format!("{}{}", table("/", &one), table("/two", &two));
    fs::write(&config, both).unwrap();
    server.signal(Signal::HUP);
    let compiler = server.stop_compiler(Signal::STOP);
    change("in place", &two, &status(203));
    kill(compiler, Signal::CONT);
    let line = server.wait_for_line("SIGHUP: ");
    assert!(line.ends_with("added=1 swapped=0 removed=0 unchanged=1 refused=0"), "{line}");
    eventually("the change is taken up", || server.get("/two").status == 203);
    assert_eq!(server.get("/").status, 201);
}

#[test]
fn sighup_says_in_one_line_what_came_of_it() {
    let mut server = Server::with_handler("thread", &status(201), &[]);
    let hangup = |server: &mut Server| {
        server.signal(Signal::HUP);
        server.wait_for_line("SIGHUP: ")
    };
    let line = hangup(&mut server);
    assert!(line.contains("SIGHUP: nothing has changed added=0 swapped=0"), "{line}");
    assert!(line.ends_with("unchanged=1 refused=0"), "{line}");
    change("in place", &server.handler(), &status(202));
    let line = hangup(&mut server);
    assert!(line.contains("handlers reloaded added=0 swapped=1"), "{line}");
    fs::write(server.handler(), "no handler").unwrap();
    let line = hangup(&mut server);
    assert!(line.ends_with("swapped=0 removed=0 unchanged=0 refused=1"), "{line}");
    assert!(server.has_said("not a valid WebAssembly component: it looks like text"));
    assert_eq!(server.get("/").status, 202);
}

for_each_pool!(what_fails_for_a_passing_reason_is_tried_again);
fn what_fails_for_a_passing_reason_is_tried_again(pool: &str) {
    let args = [&WATCHED[..], &["--compile-timeout", "6500ms"]].concat();
    let mut server = Server::with_handler(pool, &status(201), &args);
    // Each change that is noticed begins anew, and this is noticed once.
    change("renamed", &server.handler(), &slow(202));
    // As the kernel ends one that has had its time, and one for which there is no memory.
    for (signal, why, next) in [
        (Signal::XCPU, "more than 7 s of processor time", "tried again in 1 s"),
        (Signal::KILL, "the compiler was killed", "tried again in 2 s"),
    ] {
        server.stop_compiler(signal);
        let line = server.wait_for_line("handler refused");
        assert!(line.contains(why) && line.contains(next), "{pool}: {line}");
        assert_eq!(server.get("/").status, 201, "{pool}");
    }
    server.wait_for_line("handler swapped");
    assert_eq!(server.get("/").status, 202, "{pool}");
}

#[test]
fn without_watch_sighup_has_a_passing_failure_tried_again() {
    let mut server = Server::with_handler("thread", &status(201), &["--cache-dir", "none"]);
    change("in place", &server.handler(), &slow(202));
    server.signal(Signal::HUP);
    server.stop_compiler(Signal::KILL);
    let line = server.wait_for_line("handler refused");
    assert!(line.contains("; SIGHUP has it tried again"), "{line}");
    server.signal(Signal::HUP);
    server.wait_for_line("handler swapped");
    assert_eq!(server.get("/").status, 202);
}

#[test]
fn what_is_no_handler_is_told_once_and_not_tried_again() {
    let mut server = Server::with_handler("thread", &status(201), &WATCHED);
    fs::write(server.handler(), "no handler").unwrap();
    let line = server.wait_for_line("handler refused");
    assert!(line.contains("it looks like text") && !line.contains("again"), "{line}");
    // The same again, as a build writes it that found nothing to do.
    fs::write(server.handler(), "no handler").unwrap();
    server.signal(Signal::HUP);
    server.wait_for_line("handler refused");
    change("renamed", &server.handler(), &status(202));
    server.wait_for_line("handler swapped");
    assert_eq!(server.count_said("handler refused"), 2, "once of itself, once as it was asked");
}

for_each_pool!(a_quota_changes_with_the_handler_and_not_before);
fn a_quota_changes_with_the_handler_and_not_before(pool: &str) {
    let scratch = tempfile::tempdir().unwrap();
    let config = scratch.path().join("config.toml");
    let write = |path: &str, quota: &str| {
        let dir = scratch.path().join("folder").display().to_string();
        let table = format!("[[handler]]\nprefix = '/upload'\ndir = '{dir}'\n");
        fs::write(&config, format!("{table}path = '{path}'\nquota = '{quota}'\n")).unwrap();
    };
    write(FILEOPS, "1MiB");
    let mut server = Server::with_config(pool, &config);
    let bad = scratch.path().join("bad.wasm");
    fs::write(&bad, "no handler").unwrap();
    write(bad.to_str().unwrap(), "4KiB");
    server.signal(Signal::HUP);
    server.wait_for_line("handler refused");
    let trap_at_start = components::endless_start().replace("(loop $l br $l)", "unreachable");
    fs::write(&bad, component(&trap_at_start)).unwrap();
    server.signal(Signal::HUP);
    server.wait_for_line("it cannot be instantiated");
    let upload = |name| server.request("PUT", name, &[b'x'; 100 << 10]).status;
    assert_eq!(upload("/upload/x"), 200, "{pool}: the old one goes on, and its quota too");
    write(FILEOPS, "4KiB");
    server.signal(Signal::HUP);
    server.wait_for_line("handler swapped");
    let status = server.request("PUT", "/upload/y", &[b'y'; 100 << 10]).status;
    assert_eq!(status, 507, "{pool}");
}
