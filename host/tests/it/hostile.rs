//! What a hostile handler can do to its clients: get them an error. On both
//! pools, and after each attack the server goes on.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::components;
use crate::support::{Server, eventually, for_each_pool};

/// Runs a handler: the status, and that it is so each time.
fn check(pool: &str, wat: &str, args: &[&str], status: u16, text: &str) {
    let server = Server::with_handler(pool, wat, args);
    for _ in 0..4 {
        let response = server.get("/");
        assert_eq!((response.status, response.text().trim_end()), (status, text));
    }
}

const HOSTILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../handlers/hostile.wasm");
const LATE: &str = "The handler did not answer in time";
const FAILED: &str = "The handler failed";

for_each_pool!(a_looping_handler_is_interrupted_at_the_deadline);
fn a_looping_handler_is_interrupted_at_the_deadline(pool: &str) {
    check(pool, &components::endless_loop(), &["--timeout", "300ms"], 504, LATE);
}

for_each_pool!(the_deadline_covers_instantiation);
fn the_deadline_covers_instantiation(pool: &str) {
    check(pool, &components::endless_start(), &["--timeout", "300ms"], 504, LATE);
}

for_each_pool!(a_handler_asleep_in_a_host_call_is_ended_at_the_deadline);
fn a_handler_asleep_in_a_host_call_is_ended_at_the_deadline(pool: &str) {
    let year = 365 * 24 * 3600 * 1_000_000_000;
    let server = Server::with_handler(pool, &components::sleeper(year), &["--timeout", "300ms"]);
    let before = server.all_workers();
    for _ in 0..4 {
        let response = server.get("/");
        assert_eq!((response.status, response.text().trim_end()), (504, LATE), "{pool}");
    }
    assert_eq!(server.all_workers(), before, "{pool}: no worker had to be given up for it");
}

for_each_pool!(host_calls_in_a_straight_line_are_ended_at_the_deadline);
fn host_calls_in_a_straight_line_are_ended_at_the_deadline(pool: &str) {
    let mut server =
        Server::with_handler(pool, &components::slow_host_calls(), &["--timeout", "300ms"]);
    for _ in 0..8 {
        let response = server.get("/");
        assert_eq!((response.status, response.text().trim_end()), (504, LATE), "{pool}");
        server.wait_for_line("status=504");
    }
    assert!(!server.has_said("is replaced"), "{pool}: no worker had to be killed for it");
    assert!(!server.has_said("stuck"), "{pool}: no worker had to be given up for it");
}

for_each_pool!(a_limit_on_file_sizes_costs_a_request_and_not_the_server);
fn a_limit_on_file_sizes_costs_a_request_and_not_the_server(pool: &str) {
    let server = Server::start(pool, &[]);
    let pid = rustix::process::Pid::from_raw(server.pid().try_into().unwrap());
    let workers = server.workers();
    let workers =
        workers.iter().map(|pid| rustix::process::Pid::from_raw((*pid).try_into().unwrap()));
    for pid in workers.chain([pid]) {
        let limit = rustix::process::Rlimit { current: Some(100_000), maximum: Some(100_000) };
        rustix::process::prlimit(pid, rustix::process::Resource::Fsize, limit).unwrap();
    }
    let before = server.all_workers();
    assert_eq!(server.request("PUT", "/upload/x", &vec![1; 200_000]).status, 413, "{pool}");
    assert_eq!(server.request("PUT", "/upload/x", &vec![1; 50_000]).status, 200, "{pool}");
    assert_eq!(server.all_workers(), before, "{pool}");
}

for_each_pool!(a_nap_is_no_offence);
fn a_nap_is_no_offence(pool: &str) {
    check(pool, &components::sleeper(1_000_000), &[], 204, "");
}

for_each_pool!(loops_on_every_worker_at_once_pass);
fn loops_on_every_worker_at_once_pass(pool: &str) {
    let server = Server::with_handler(
        pool,
        &components::endless_loop(),
        &["--timeout", "300ms", "--workers", "2"],
    );
    let mut clients: Vec<_> = (0..6).map(|_| server.connect()).collect();
    for client in &mut clients {
        client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    }
    for client in &mut clients {
        assert_eq!(client.response().status, 504, "{pool}");
    }
}

for_each_pool!(a_trap_is_a_500);
fn a_trap_is_a_500(pool: &str) {
    check(pool, &components::trap(), &[], 500, FAILED);
}

for_each_pool!(deep_recursion_is_a_500);
fn deep_recursion_is_a_500(pool: &str) {
    check(pool, &components::deep_recursion(), &[], 500, FAILED);
}

for_each_pool!(an_exit_is_a_500);
fn an_exit_is_a_500(pool: &str) {
    check(pool, &components::exit(), &[], 500, FAILED);
}

for_each_pool!(a_memory_bomb_hits_the_ceiling);
fn a_memory_bomb_hits_the_ceiling(pool: &str) {
    let text = "The handler ran out of memory";
    check(pool, &components::memory_bomb(), &["--memory", "8MiB"], 500, text);
}

for_each_pool!(all_memories_share_one_ceiling);
fn all_memories_share_one_ceiling(pool: &str) {
    let text = "The handler ran out of memory";
    check(pool, &components::two_memories(), &["--memory", "3MiB"], 500, text);
    check(pool, &components::two_memories(), &["--memory", "5MiB"], 204, "");
}

for_each_pool!(what_one_instance_grew_by_is_not_there_for_the_next);
/// With memories that are used again, which stay accessible, and with such as are mapped anew.
fn what_one_instance_grew_by_is_not_there_for_the_next(pool: &str) {
    for (pages, more) in [(2, 20), (2, 60), (60, 20)] {
        let component = components::remembers(pages, more);
        let server = Server::with_handler(pool, &component, &["--workers", "1"]);
        let status = |target| server.get(target).status;
        for _ in 0..3 {
            let statuses = ["/fill", "/look", "/grow", "/look"].map(status);
            assert_eq!(statuses, [204, 500, 204, 500], "{pages} + {more} pages, {pool}");
        }
    }
}

for_each_pool!(a_memory_ends_where_it_ends_whoever_had_it_before);
/// A large memory is a small one's next, when the one before has grown: what lies beyond is not made writable by writing there.
fn a_memory_ends_where_it_ends_whoever_had_it_before(pool: &str) {
    let (small, large) = (r#"(memory $small (export "memory") 2)"#, "(memory $large 4)");
    for memories in [[small, large], [large, small]] {
        let answer =
            r#"(data (memory $small) (i32.const 1024) "HTTP/1.1 204 No Content\0d\0a\0d\0a")"#;
        let component = components::handler(
            &format!("{} {answer}", memories.concat()),
            "(local $what i32)
             (local.set $what (i32.load8_u $small offset=5 (local.get $at)))
             (if (i32.eq (local.get $what) (i32.const 103))
               (then (drop (memory.grow $large (i32.const 1)))))
             (if (i32.eq (local.get $what) (i32.const 98))
               (then (i32.store8 $small (i32.const 250000) (i32.const 1))))
             (i32.store $small (i32.const 0) (i32.const 1024))
             (i32.store $small (i32.const 4) (i32.const 27))
             i32.const 0",
        );
        let server = Server::with_handler(pool, &component, &["--workers", "1"]);
        for _ in 0..3 {
            let statuses = ["/grow", "/beyond", "/ok"].map(|target| server.get(target).status);
            assert_eq!(statuses, [204, 500, 204], "{memories:?}");
        }
    }
}

for_each_pool!(a_response_over_the_limit_is_a_502);
fn a_response_over_the_limit_is_a_502(pool: &str) {
    let text = "The handler's response is too long";
    for claims in
        [components::claims(4_000_000), components::inside(&components::claims(4_000_000))]
    {
        check(pool, &claims, &["--max-response", "1MiB"], 502, text);
    }
    let body = "x".repeat(1024);
    let response = format!("HTTP/1.1 200 OK\r\nContent-Length: 1024\r\n\r\n{body}");
    let [exact, less] = [response.len(), response.len() - 1].map(|limit| limit.to_string());
    check(pool, &components::answer(&response), &["--max-response", &exact], 200, &body);
    check(pool, &components::answer(&response), &["--max-response", &less], 502, text);
}

for_each_pool!(a_response_beyond_the_handlers_memory_is_a_502);
fn a_response_beyond_the_handlers_memory_is_a_502(pool: &str) {
    let text = "The handler's response does not lie in its memory";
    for length in [4 << 20, u32::MAX] {
        check(pool, &components::claims(length), &[], 502, text);
        check(pool, &components::inside(&components::claims(length)), &[], 502, text);
    }
}

for_each_pool!(a_response_is_taken_before_the_handler_is_told_to_free_it);
fn a_response_is_taken_before_the_handler_is_told_to_free_it(pool: &str) {
    let response = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
    let spoil = "(memory.fill (i32.load (local.get $at)) (i32.const 0)
                              (i32.load offset=4 (local.get $at)))";
    let spoils = components::answer_and_then(response, spoil);
    let traps = components::answer_and_then(response, "unreachable");
    let for_ever = components::answer_and_then(response, "(loop $l br $l)");
    // It is read where it lies, and the handler is not told.
    for handler in [&spoils, &traps, &for_ever] {
        check(pool, handler, &["--timeout", "300ms"], 200, "hello");
    }
    // It is copied before the handler is told.
    check(pool, &components::inside(&spoils), &[], 200, "hello");
    check(pool, &components::inside(&traps), &[], 500, FAILED);
    check(pool, &components::inside(&for_ever), &["--timeout", "300ms"], 504, LATE);
}

for_each_pool!(a_malformed_response_is_a_502_and_is_not_forwarded);
fn a_malformed_response_is_a_502_and_is_not_forwarded(pool: &str) {
    let text = "The handler's response is not well-formed";
    for response in [
        "",
        "hello",
        "HTTP/1.1 200 OK\r\n\r\nno length",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\ntoo long",
        "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort",
        "HTTP/1.1 200 OK\r\nX: a\nSet-Cookie: b\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 100 Continue\r\n\r\n",
    ] {
        let server = Server::with_handler(pool, &components::answer(response), &[]);
        let answer = server.get("/");
        assert_eq!((answer.status, answer.text().trim_end()), (502, text), "{response:?}");
    }
    check(pool, &components::answer("nonsense"), &[], 502, text);
}

for_each_pool!(there_is_no_network);
fn there_is_no_network(pool: &str) {
    check(pool, &components::socket(), &[], 500, FAILED);
}

for_each_pool!(floods_of_random_bytes_and_handles_end_the_handler);
fn floods_of_random_bytes_and_handles_end_the_handler(pool: &str) {
    check(pool, &components::random_flood(), &[], 500, FAILED);
    check(pool, &components::handle_flood(), &[], 500, FAILED);
}

for_each_pool!(names_that_a_handler_makes_break_no_listing);
fn names_that_a_handler_makes_break_no_listing(pool: &str) {
    use std::os::unix::ffi::OsStrExt as _;
    let attacker = Server::start(pool, &["--handler", HOSTILE]);
    assert_eq!(attacker.get("/names").status, 200, "{pool}");
    let not_text = std::ffi::OsStr::from_bytes(b"\xff\xfe");
    std::fs::write(attacker.dir.join(not_text), "x").unwrap();
    let dir = attacker.dir.to_str().unwrap();
    let server = Server::start(pool, &["--dir", dir]);
    let list: Vec<serde_json::Value> =
        serde_json::from_slice(&server.get("/listdir").body).unwrap();
    let names: Vec<_> = list.iter().map(|entry| entry["name"].as_str().unwrap()).collect();
    for part in ["\"", "<script>"] {
        assert!(names.iter().any(|name| name.contains(part)), "{pool}: {part:?} in {names:?}");
    }
    // Nobody could ask for these.
    assert!(!names.iter().any(|name| name.contains(['\n', '\\'])), "{pool}: {names:?}");
    assert_eq!(attacker.get("/clean").status, 200, "{pool}");
    std::fs::remove_file(attacker.dir.join(not_text)).ok();
    assert_eq!(server.get("/listdir").text(), "[]", "{pool}: all deleted, and it lists on");
}

for_each_pool!(nothing_waits_behind_a_slow_request_while_a_worker_is_idle);
fn nothing_waits_behind_a_slow_request_while_a_worker_is_idle(pool: &str) {
    let server = Server::with_handler(pool, &components::sleeper(2_000_000_000), &[]);
    let mut clients: Vec<_> = (0..3).map(|_| server.connect()).collect();
    for client in &mut clients {
        client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    }
    eventually("all three at the same time", || server.sleeping_workers() == 3);
    for client in &mut clients {
        assert_eq!(client.response().status, 204, "{pool}");
    }
}

for_each_pool!(no_answer_waits_for_a_slow_request);
fn no_answer_waits_for_a_slow_request(pool: &str) {
    let handler = components::sleeper_when_asked(60_000_000_000);
    let server = Server::with_handler(pool, &handler, &["--timeout", "2min", "--workers", "20"]);
    let mut clients: Vec<_> = (0..32).map(|_| server.connect()).collect();
    let (brief, slow) = clients.split_at_mut(26);
    for client in &mut *brief {
        client.send("GET /b HTTP/1.1\r\nHost: x\r\n\r\n");
    }
    for client in &mut *slow {
        client.send("GET /s HTTP/1.1\r\nHost: x\r\n\r\n");
    }
    for client in brief {
        assert_eq!(client.response().status, 204, "{pool}");
    }
    let others = slow.len();
    eventually("all others are in workers", || server.sleeping_workers() == others);
}

for_each_pool!(large_instances_are_not_kept_for_their_responses);
fn large_instances_are_not_kept_for_their_responses(pool: &str) {
    let body = "x".repeat(20_000);
    let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: 20000\r\n\r\n{body}");
    // 500 of the 512 MiB that one may have: two of them do not fit into a worker process.
    let handler = components::long_answer_of_a_large_instance(&answer, 8000);
    let server = Server::with_handler(pool, &handler, &["--workers", "1", "--memory", "512MiB"]);
    let mut clients: Vec<_> = (0..32).map(|_| server.connect()).collect();
    for _ in 0..10 {
        for client in &mut clients {
            client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
        }
        for client in &mut clients {
            let response = client.response();
            assert_eq!((response.status, response.body.len()), (200, 20_000), "{pool}");
        }
    }
}

for_each_pool!(the_deadline_does_not_drift);
fn the_deadline_does_not_drift(pool: &str) {
    // Long enough for a late tick to add up to more than a worker's reprieve.
    let timeout = Duration::from_secs(5);
    let args = ["--timeout", "5s", "--workers", "4"];
    let mut server = Server::with_handler(pool, &components::endless_loop(), &args);
    let began = Instant::now();
    let mut clients: Vec<_> = (0..4).map(|_| server.connect()).collect();
    for client in &mut clients {
        client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    }
    for client in &mut clients {
        assert_eq!(client.response().status, 504, "{pool}");
        let elapsed = began.elapsed();
        assert!((timeout..2 * timeout).contains(&elapsed), "{pool}: {elapsed:?}");
    }
    server.signal(Signal::TERM);
    server.wait_for_line("ended");
    // Each call is ended, and no worker.
    assert_eq!(server.count_said("replaced"), 0, "{pool}");
}
