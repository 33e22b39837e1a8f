//! What holds of the pools themselves, the process pool's deaths above all.

use std::collections::HashSet;

use rustix::process::Signal;

use crate::components;
use crate::support::{Server, eventually, for_each_pool, kill, process_status, processor_ticks};

fn state(pid: u32) -> Option<char> {
    process_status(pid)?.first()?.chars().next()
}

#[test]
fn workers_are_processes_that_are_ready_before_the_first_request() {
    let server = Server::start("process", &[]);
    let workers = server.workers();
    assert_eq!(workers.len(), 3);
    for worker in &workers {
        let status = std::fs::read_to_string(format!("/proc/{worker}/status")).unwrap();
        assert!(status.contains("Seccomp:\t2"), "confined by a filter: {status}");
        assert!(status.contains("NoNewPrivs:\t1"), "{status}");
        let environment = std::fs::read(format!("/proc/{worker}/environ")).unwrap();
        assert_eq!(environment, b"", "nothing of the host's environment");
    }
    for _ in 0..20 {
        assert_eq!(server.get("/").status, 200);
    }
    let now: HashSet<_> = server.workers().into_iter().collect();
    assert_eq!(now, workers.into_iter().collect(), "the same ones have served");
}

#[test]
fn worker_threads_are_confined() {
    let server = Server::start("thread", &[]);
    let mut confined = 0;
    for task in std::fs::read_dir(format!("/proc/{}/task", server.pid())).unwrap() {
        let status = std::fs::read_to_string(task.unwrap().path().join("status")).unwrap();
        if status.starts_with("Name:\tworker-") {
            assert!(status.contains("Seccomp:\t2"), "{status}");
            assert!(status.contains("NoNewPrivs:\t1"), "{status}");
            confined += 1;
        }
    }
    assert_eq!(confined, 3);
}

#[test]
fn a_worker_killed_in_a_request_costs_that_request_and_no_other() {
    let server = Server::with_handler("process", &components::sleeper(300_000_000), &[]);
    let mut clients: Vec<_> = (0..3).map(|_| server.connect()).collect();
    for client in &mut clients {
        client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    }
    eventually("three workers in a request", || server.sleeping_workers() == 3);
    let victim = server.workers()[0];
    kill(victim, Signal::KILL);
    let mut statuses: Vec<_> = clients.iter_mut().map(|client| client.response().status).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [204, 204, 500]);
    eventually("a replacement", || {
        let workers = server.workers();
        workers.len() == 3 && !workers.contains(&victim)
    });
    assert_eq!(server.get("/").status, 204);
}

/// The server finds a call late and answered at the same time: the worker is to be killed, and
/// whoever comes next must not get it.
#[test]
fn a_request_behind_a_late_one_is_not_charged_for_it() {
    let handler = components::computes_when_asked(60_000_000_000);
    for _ in 0..4 {
        let mut server = Server::with_handler(
            "process",
            &handler,
            &["--workers", "1", "--max-workers", "1", "--timeout", "1s"],
        );
        let worker = server.workers()[0];
        let mut late = server.connect();
        late.send("GET /s HTTP/1.1\r\nHost: x\r\n\r\n");
        eventually("it computes", || state(worker) == Some('R'));
        let mut others: Vec<_> = (0..3).map(|_| server.connect()).collect();
        for client in &mut others {
            client.send("GET /b HTTP/1.1\r\nHost: x\r\n\r\n");
        }
        // Past the deadline, at which the worker ends the call by itself at the next host call.
        server.signal(Signal::STOP);
        eventually("it is done", || state(worker) == Some('S'));
        server.signal(Signal::CONT);
        let mut statuses = vec![late.response().status];
        statuses.extend(others.iter_mut().map(|client| client.response().status));
        assert_eq!(statuses, [504, 204, 204, 204]);
        server.wait_for_line("status=504");
    }
}

#[test]
fn idle_workers_that_are_killed_cost_nothing() {
    let server = Server::start("process", &[]);
    let mut client = server.connect();
    for _ in 0..20 {
        for worker in server.workers() {
            kill(worker, Signal::KILL);
        }
        assert_eq!(client.request("GET", "/listdir", b"").status, 200);
    }
}

#[test]
fn nothing_is_left_of_a_thousand_requests_and_fifty_killed_workers() {
    let server = Server::start("process", &[]);
    let mut client = server.connect();
    for _ in 0..5 {
        client.request("PUT", "/upload/x", b"x");
    }
    let before = server.descriptors();
    let mut killed = 0;
    for n in 0..1000 {
        assert!([200, 500].contains(&client.request("PUT", "/upload/x", b"x").status));
        if n % 20 == 0 {
            eventually("all workers", || server.workers().len() == 3);
            kill(server.workers()[n % 3], Signal::KILL);
            killed += 1;
        }
    }
    assert_eq!(killed, 50);
    eventually("three living workers and no zombie", || {
        let states: Vec<_> = server.workers().into_iter().map(state).collect();
        states.len() == 3 && states.iter().all(|state| matches!(state, Some('S' | 'R')))
    });
    eventually("no more descriptors than before", || server.descriptors() <= before);
}

#[test]
fn large_requests_to_dying_workers_leave_nothing_behind() {
    let server = Server::start("process", &[]);
    let before = server.descriptors();
    let body = vec![7; 8 << 20];
    for _ in 0..10 {
        let mut client = server.connect();
        client.send(format!(
            "PUT /upload/x HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n",
            body.len()
        ));
        client.send(&body);
        for worker in server.workers() {
            kill(worker, Signal::KILL);
        }
        assert!([200, 500].contains(&client.response().status));
    }
    assert_eq!(server.request("PUT", "/upload/x", &body).status, 200);
    eventually("no more descriptors than before", || server.descriptors() <= before);
}

#[test]
fn workers_die_with_their_parent() {
    for signal in [Signal::KILL, Signal::TERM] {
        let mut server =
            Server::with_handler("process", &components::sleeper(u64::MAX / 2), &["--grace", "0s"]);
        let mut client = server.connect();
        client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
        let processes = [server.workers(), server.zygotes()].concat();
        assert_eq!(processes.len(), 4);
        server.signal(signal);
        server.wait();
        eventually("no process", || {
            processes.iter().all(|pid| matches!(state(*pid), None | Some('Z' | 'X')))
        });
    }
}

#[test]
fn a_killed_zygote_is_replaced_when_workers_are_wanted() {
    let server = Server::start("process", &[]);
    let (workers, zygotes) = (server.workers(), server.zygotes());
    assert_eq!(zygotes.len(), 1);
    kill(zygotes[0], Signal::KILL);
    assert_eq!(server.get("/").status, 200);
    assert_eq!(server.workers(), workers, "they do not depend on it");
    for worker in workers {
        kill(worker, Signal::KILL);
    }
    assert_eq!(server.get("/").status, 200);
    eventually("all workers", || server.workers().len() == 3);
    assert!(server.zygotes().len() == 1 && server.zygotes() != zygotes);
}

#[test]
fn nobody_waits_for_ever_where_no_worker_can_be_started() {
    let server = Server::start("process", &["--timeout", "300ms", "--workers", "1"]);
    kill(server.zygotes()[0], Signal::STOP);
    kill(server.workers()[0], Signal::KILL);
    for _ in 0..3 {
        assert_eq!(server.get("/").status, 500);
    }
}

#[test]
fn a_stopped_worker_is_replaced_at_its_deadline() {
    let server = Server::start("process", &["--timeout", "300ms", "--workers", "1"]);
    let worker = server.workers()[0];
    kill(worker, Signal::STOP);
    // It never began the request; but its word for that could be a lie.
    assert_eq!(server.get("/").status, 504);
    assert_eq!(server.get("/").status, 200);
    assert_ne!(server.workers(), [worker]);
}

#[test]
fn worker_processes_that_compute_for_long_take_turns() {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let workers = (4 * processors).to_string();
    let args = ["--timeout", "4s", "--workers", &workers];
    let server = Server::with_handler("process", &components::endless_loop(), &args);
    let before = server.workers();
    let mut clients: Vec<_> = before.iter().map(|_| server.connect()).collect();
    for client in &mut clients {
        client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    }
    let computing = || before.iter().filter(|pid| state(**pid) == Some('R')).count();
    eventually("all but a few wait", || (1..=processors).contains(&computing()));
    for client in &mut clients {
        assert_eq!(client.response().status, 504);
    }
    let least = before.iter().map(|pid| processor_ticks(*pid)).min();
    assert!(least > Some(5), "each had its turns: {least:?}");
    assert_eq!(server.workers(), before, "none had to be killed");
}

for_each_pool!(the_log_has_a_line_for_every_request);
fn the_log_has_a_line_for_every_request(pool: &str) {
    let mut server = Server::start(pool, &[]);
    server.get("/listdir?a=b");
    let line = server.wait_for_line("target=/listdir?a=b");
    for part in [
        "request=1",
        "client=127.0.0.1:",
        "method=GET",
        "status=200",
        "bytes=",
        "seconds=",
        "worker=",
        "running=0",
        "pending=0",
        "done=1",
    ] {
        assert!(line.contains(part), "{part} in {line}");
    }
    let mut client = server.connect();
    client.send("nonsense\r\n\r\n");
    client.response();
    let line = server.wait_for_line("request=2");
    assert!(line.contains("status=400"), "{line}");
}

#[test]
fn the_log_can_be_json() {
    let mut server = Server::start("thread", &["--log", "json"]);
    server.get("/listdir");
    let line = server.wait_for_line("listdir");
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(line["target"], "/listdir", "{line}");
    assert_eq!(line["method"], "GET", "{line}");
    assert_eq!(line["status"], 200, "{line}");
}

for_each_pool!(the_pool_grows_while_every_worker_is_held_up_and_shrinks_again);
fn the_pool_grows_while_every_worker_is_held_up_and_shrinks_again(pool: &str) {
    const HOSTILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../handlers/hostile.wasm");
    let server = Server::start(
        pool,
        &["--handler", HOSTILE, "--workers", "2", "--max-workers", "5", "--timeout", "5s"],
    );
    assert_eq!(server.all_workers().len(), 2, "{pool}");
    let mut loops: Vec<_> = (0..4).map(|_| server.connect()).collect();
    for client in &mut loops {
        client.send("GET /loop HTTP/1.1\r\nHost: x\r\n\r\n");
    }
    assert_eq!(server.get("/ok").status, 200, "{pool}");
    for client in &mut loops {
        let mut byte = [0];
        client.stream.set_nonblocking(true).unwrap();
        assert!(client.stream.peek(&mut byte).is_err(), "{pool}: nobody waited for these");
        client.stream.set_nonblocking(false).unwrap();
    }
    // The good request may have overtaken one of them on its way, and have had its worker. Another
    // one finds all four in workers.
    eventually("one for each, and one more", || {
        server.get("/ok").status == 200 && server.all_workers().len() == 5
    });
    for client in &mut loops {
        assert_eq!(client.response().status, 504, "{pool}");
    }
    eventually("the usual number", || server.all_workers().len() == 2);
    assert_eq!(server.get("/ok").status, 200, "{pool}");
}

for_each_pool!(a_pool_that_may_not_grow_refuses_what_it_cannot_queue);
fn a_pool_that_may_not_grow_refuses_what_it_cannot_queue(pool: &str) {
    let server = Server::with_handler(
        pool,
        &components::sleeper(1_000_000_000),
        &["--workers", "1", "--max-workers", "1", "--queue", "2", "--client-share", "100"],
    );
    let mut clients: Vec<_> = (0..12).map(|_| server.connect()).collect();
    for client in &mut clients {
        client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    }
    let statuses: Vec<_> = clients.iter_mut().map(|client| client.response().status).collect();
    assert!(statuses.contains(&204) && statuses.contains(&503), "{pool}: {statuses:?}");
}
