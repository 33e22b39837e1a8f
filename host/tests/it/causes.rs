//! What the log says of a call that failed. Its client learns nothing of that.

use rustix::process::Signal;

use crate::components;
use crate::support::{Server, eventually, for_each_pool, kill, processor_ticks};

const LOOP: &str = "(loop $l br $l) unreachable";

/// The seconds of a line of the access log.
fn seconds(line: &str) -> f64 {
    let (_, rest) = line.split_once(" seconds=").unwrap();
    rest.split(' ').next().unwrap().parse().unwrap()
}

for_each_pool!(what_a_call_wrote_before_its_deadline_is_logged_and_so_is_its_time);
fn what_a_call_wrote_before_its_deadline_is_logged_and_so_is_its_time(pool: &str) {
    let handler = components::prints_and("about to loop", LOOP);
    let mut server = Server::with_handler(pool, &handler, &["--timeout", "500ms"]);
    for _ in 0..2 {
        assert_eq!(server.get("/").status, 504, "{pool}");
        server.wait_for_line("about to loop");
        let line = server.wait_for_line("status=504");
        assert!(seconds(&line) >= 0.5, "{line}");
    }
}

#[test]
fn what_a_killed_worker_had_written_is_logged() {
    let handler = components::prints_and("about to loop", LOOP);
    let mut server = Server::with_handler("process", &handler, &["--workers", "1"]);
    for _ in 0..2 {
        eventually("a worker", || server.workers().len() == 1);
        let worker = server.workers()[0];
        let mut client = server.connect();
        client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
        // It has written when it computes.
        eventually("it computes", || processor_ticks(worker) > 5);
        kill(worker, Signal::KILL);
        assert_eq!(client.response().status, 500);
        server.wait_for_line("about to loop");
        let line = server.wait_for_line("status=500");
        assert!(seconds(&line) > 0.0, "{line}");
    }
}

for_each_pool!(the_log_tells_the_cause_and_the_client_does_not_learn_it);
fn the_log_tells_the_cause_and_the_client_does_not_learn_it(pool: &str) {
    let trap = components::trap().replace("{MEMORY}", "");
    let (failed, memory) = ("The handler failed", "The handler ran out of memory");
    let busy = "(loop $l (local.set $count (i32.add (local.get $count) (i32.const 1)))
                  (br_if $l (i32.lt_u (local.get $count) (i32.const 500000000))))";
    for (handler, text, told) in [
        (components::exit(), failed, "exited with code 0 "),
        (components::exit_with_code(7), failed, "exited with code 7 "),
        (
            components::random_flood(),
            failed,
            "not allowed: wasi:random/random get-random-bytes: more than a mebibyte",
        ),
        (components::handle_flood(), failed, "wasi:clocks/monotonic-clock subscribe-duration: "),
        (components::refused_and(""), memory, "ran out of memory"),
        (components::refused_and(busy), failed, "wasm `unreachable` instruction executed"),
        (
            components::refused_and("(drop (memory.grow (i32.const 1)))"),
            failed,
            "wasm `unreachable` instruction executed",
        ),
        (components::own_stack_overflow(), failed, "call stack exhausted"),
        (components::deep_recursion(), failed, "call stack exhausted"),
        (trap, failed, "wasm `unreachable` instruction executed"),
    ] {
        let mut server = Server::with_handler(pool, &handler, &["--workers", "1"]);
        let response = server.get("/");
        assert_eq!((response.status, response.text().trim_end()), (500, text), "{pool}: {told}");
        let line = server.wait_for_line("status=500");
        assert!(line.contains(told), "{pool}: not {told:?} in {line}");
    }
}

for_each_pool!(a_trap_is_told_with_the_functions_that_were_being_executed);
fn a_trap_is_told_with_the_functions_that_were_being_executed(pool: &str) {
    let handler = components::own_stack_overflow()
        .replace("(call $deeper) (call $deeper))", "unreachable) (func $outer (call $deeper))")
        .replace("(call $deeper) unreachable", "(call $outer) unreachable");
    let mut server = Server::with_handler(pool, &handler, &[]);
    assert_eq!(server.get("/").text().trim_end(), "The handler failed", "{pool}");
    server.wait_for_line("deeper < outer < ");
}

for_each_pool!(a_trap_is_told_with_file_and_line_where_the_component_says_them);
fn a_trap_is_told_with_file_and_line_where_the_component_says_them(pool: &str) {
    let handler = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/lines.wasm");
    let mut server = Server::start(pool, &["--handler", handler]);
    for _ in 0..2 {
        assert_eq!(server.get("/").status, 500, "{pool}");
        let line = server.wait_for_line("backtrace=");
        assert!(line.contains("divides (") && line.contains("lines.wat:9)"), "{line}");
        assert!(line.contains("lines.wat:12)"), "{line}");
    }
}
