//! `--admin`: the operator's listener answers whatever the server is doing.

use std::fs;
use std::io::Write as _;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::time::Duration;

use rustix::process::Signal;

use crate::components;
use crate::documents::root;
use crate::support::{
    Client, Operator, Response, Server, eventually, for_each_pool, host, kill, output,
};

const ADMIN: [&str; 2] = ["--admin", "127.0.0.1:0"];
const GET: &str = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";

/// A handler that answers everything with this status.
fn status(status: u16) -> String {
    components::answer(&format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n"))
}

/// Clients that have sent a request and wait.
fn waiting(server: &Server, count: usize) -> Vec<Client> {
    let client = |_| {
        let mut client = server.connect();
        client.send(GET);
        client
    };
    (0..count).map(client).collect()
}

for_each_pool!(each_path_has_its_answer);
fn each_path_has_its_answer(pool: &str) {
    let mut server = Server::start(pool, &ADMIN);
    let operator = server.operator();
    assert_eq!(server.get("/listdir").status, 200);
    for (path, kind, text) in [
        ("/", "text/plain", "POST /reload"),
        ("/livez", "application/json", "\"live\": true"),
        ("/readyz", "application/json", "\"ready\": true"),
        ("/status", "application/json", "\"prefix\": \"/\""),
        ("/status?x=y", "application/json", "\"prefix\": \"/\""),
        ("/metrics", "text/plain; version=0.0.4", "# TYPE swapbox_workers gauge"),
    ] {
        let response = operator.get(path);
        assert_eq!(response.status, 200, "{path}");
        assert!(response.field("content-type").unwrap().starts_with(kind), "{path}");
        assert_eq!(response.field("cache-control"), Some("no-store"), "{path}");
        assert!(response.text().contains(text), "{path}: {}", response.text());
        let head = operator.request("HEAD", path, "");
        assert_eq!((head.status, head.body.len()), (200, 0), "HEAD {path}");
    }
    for (method, path, status, allow) in [
        ("GET", "/nothing", 404, None),
        ("GET", "/livez/", 404, None),
        ("POST", "/metrics", 405, Some("GET, HEAD")),
        ("GET", "/reload", 405, Some("POST")),
        ("GET", "/drain", 405, Some("POST")),
        ("PUT", "/reload", 405, Some("POST")),
    ] {
        let response = operator.request(method, path, "");
        assert_eq!((response.status, response.field("allow")), (status, allow), "{method} {path}");
    }
    let long = format!("X: {}\r\n", "x".repeat(17 << 10));
    assert_eq!(operator.request("GET", "/livez", &long).status, 431);
    // Its client has the answer before it is counted.
    let counted = || operator.json("/status", 200)["handlers"][0]["requests"] == 1;
    eventually("the request is counted", counted);
    let state = operator.json("/status", 200);
    assert_eq!((&state["pool"], &state["requests"]["total"]), (&pool.into(), &1.into()));
    let idle = || operator.json("/status", 200)["handlers"][0]["workers"]["idle"] == 3;
    eventually("all workers are idle", idle);
}

for_each_pool!(it_is_ready_from_the_start_to_the_drain_and_lives_through_both);
fn it_is_ready_from_the_start_to_the_drain_and_lives_through_both(pool: &str) {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("admin");
    let operator = Operator::unix(&path);
    let address = format!("unix:{}", path.display());
    let args = ["--admin", &address, "--cache-dir", "none", "--grace", "60s"];
    let nap = components::slow_to_compile(&components::sleeper(4_000_000_000));
    let mut server = Server::with_handler_and(pool, &nap, &args, |server| {
        let compiler = server.stop_compiler(Signal::STOP);
        let state = operator.json("/readyz", 503);
        assert_eq!(state["reasons"][0], "the server is starting");
        assert_eq!(operator.request("POST", "/reload", "").status, 503);
        assert_eq!(operator.get("/livez").status, 200);
        kill(compiler, Signal::CONT);
    });
    eventually("it is ready", || operator.get("/readyz").status == 200);
    let mut last = waiting(&server, 1);
    operator.wait_for_sample("swapbox_workers{http_route=\"/\",state=\"busy\"}", 1.0);
    server.signal(Signal::TERM);
    server.wait_for_line("finishing the requests in flight");
    let state = operator.json("/readyz", 503);
    assert_eq!(state["reasons"][0], "the server is shutting down");
    assert_eq!(operator.sample("swapbox_ready"), Some(0.0));
    assert_eq!(operator.get("/livez").status, 200);
    assert_eq!(last[0].response().status, 204, "{pool}");
    assert!(server.wait().success());
    assert!(!path.exists(), "its socket goes with it");
}

for_each_pool!(it_answers_while_all_workers_are_busy_and_the_queue_is_full);
fn it_answers_while_all_workers_are_busy_and_the_queue_is_full(pool: &str) {
    let limits = ["--max-workers", "3", "--queue", "4", "--timeout", "1h", "--client-share", "100"];
    let limits = [&ADMIN[..], &limits, &["--max-connections", "8"]].concat();
    let mut server = Server::with_handler(pool, &components::endless_loop(), &limits);
    let operator = server.operator();
    let busy = waiting(&server, 7);
    operator.wait_for_sample("swapbox_workers{http_route=\"/\",state=\"busy\"}", 3.0);
    operator.wait_for_sample("swapbox_queued_requests{http_route=\"/\"}", 4.0);
    let mut refused = waiting(&server, 1);
    assert_eq!(refused[0].response().status, 503);
    assert_eq!(operator.sample("swapbox_refused_requests_total{reason=\"queue\"}"), Some(1.0));
    assert_eq!(operator.sample("swapbox_open_connections"), Some(8.0));
    // Its client has the answer before it is counted.
    operator.wait_for_sample("http_server_active_requests", 7.0);
    // There are as many connections as may be: nobody hears of this one.
    let _more = waiting(&server, 1);
    for path in ["/livez", "/readyz", "/status"] {
        assert_eq!(operator.get(path).status, 200, "{path}");
    }
    drop(busy);
}

for_each_pool!(a_reload_swaps_and_says_what_came_of_it);
fn a_reload_swaps_and_says_what_came_of_it(pool: &str) {
    let mut server = Server::with_handler(pool, &status(201), &ADMIN);
    let operator = server.operator();
    let reload = |status| {
        let response = operator.request("POST", "/reload", "");
        assert_eq!(response.status, status, "{}", response.text());
        serde_json::from_slice::<serde_json::Value>(&response.body).unwrap()
    };
    assert_eq!(reload(200)["unchanged"], 1);
    server.wait_for_line("POST /reload: nothing has changed");
    fs::write(server.handler(), wat::parse_str(status(202)).unwrap()).unwrap();
    let outcome = reload(200);
    assert_eq!((&outcome["swapped"], &outcome["unchanged"]), (&1.into(), &0.into()));
    assert_eq!(server.get("/").status, 202, "{pool}: from the answer on");
    fs::write(server.handler(), "no handler").unwrap();
    let outcome = reload(422);
    assert_eq!((&outcome["refused"], &outcome["refusals"][0]["prefix"]), (&1.into(), &"/".into()));
    let reason = outcome["refusals"][0]["reason"].as_str().unwrap();
    assert!(reason.contains("not a valid WebAssembly component"), "{reason}");
    assert_eq!(server.get("/").status, 202, "{pool}: the one before goes on");
    assert_eq!(operator.sample("swapbox_swaps_total{outcome=\"taken\"}"), Some(1.0));
    assert_eq!(operator.sample("swapbox_swaps_total{outcome=\"refused\"}"), Some(1.0));
}

#[test]
fn pages_of_other_sites_reach_nothing() {
    let mut server = Server::start("thread", &[&ADMIN[..], &["--host", "ops.example"]].concat());
    let operator = server.operator();
    let (ours, other) = (operator.authority(), "http://evil.example");
    for (fields, expected) in [
        (String::new(), 200),
        ("Sec-Fetch-Site: same-origin\r\n".into(), 200),
        (format!("Sec-Fetch-Site: none\r\nOrigin: http://{ours}\r\n"), 200),
        ("Sec-Fetch-Site: cross-site\r\n".into(), 403),
        ("Sec-Fetch-Site: same-site\r\n".into(), 403),
        (format!("Origin: {other}\r\n"), 403),
        ("Origin: null\r\n".into(), 403),
        (format!("Sec-Fetch-Site: same-origin\r\nOrigin: {other}\r\n"), 403),
    ] {
        assert_eq!(operator.request("POST", "/reload", &fields).status, expected, "{fields}");
    }
    for (head, expected) in [
        ("GET /status HTTP/1.1\r\nHost: localhost\r\n", 200),
        ("GET /status HTTP/1.1\r\nHost: ops.example\r\n", 200),
        ("GET /status HTTP/1.1\r\nHost: evil.example\r\n", 421),
        ("GET /status HTTP/1.1\r\nHost: 192.0.2.1\r\n", 421),
        // No browser asks so, and a proxy's health check does.
        ("GET /status HTTP/1.0\r\n", 200),
        ("GET http://evil.example/status HTTP/1.1\r\nHost: localhost\r\n", 421),
        ("POST /reload HTTP/1.1\r\nHost: evil.example\r\nOrigin: http://evil.example\r\n", 421),
    ] {
        assert_eq!(operator.send(head).status, expected, "{head}");
    }
}

#[test]
fn a_unix_socket_is_its_users_and_takes_the_place_of_a_stale_one() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("admin");
    let address = format!("unix:{}", path.display());
    let args = ["--admin", &address];
    drop(UnixListener::bind(&path).unwrap());
    let mut server = Server::start("thread", &args);
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let operator = Operator::unix(&path);
    assert_eq!(operator.get("/readyz").status, 200);
    assert_eq!(operator.send("GET /readyz HTTP/1.1\r\n").status, 200, "no browser opens it");

    let second = output(host().args(args).args(["--port", "0", "--dir"]).arg(scratch.path()));
    let error = String::from_utf8_lossy(&second.stderr).into_owned();
    assert_eq!(second.status.code(), Some(1), "{error}");
    assert!(error.contains("--admin unix:") && error.contains("another server"), "{error}");
    assert_eq!(operator.get("/livez").status, 200, "the first goes on");

    server.signal(Signal::KILL);
    server.wait();
    assert!(path.exists());
    let mut next = Server::start("thread", &args);
    assert_eq!(operator.get("/livez").status, 200);
    next.signal(Signal::TERM);
    next.wait();
    assert!(!path.exists());
}

#[test]
fn only_who_says_so_lets_other_machines_ask() {
    let run = |args: &[&str]| {
        let run = output(host().args(args));
        (run.status.code(), String::from_utf8(run.stderr).unwrap())
    };
    for (args, expected) in [
        (&["--admin", "0.0.0.0:0"][..], "--admin-allow-remote allows for it"),
        (&["--admin", "[::]:0"], "--admin-allow-remote allows for it"),
        (&["--admin", "localhost:0"], "IP:PORT or unix:PATH"),
        (&["--admin", "9090"], "IP:PORT or unix:PATH"),
    ] {
        let (code, error) = run(args);
        assert_eq!(code, Some(2), "{error}");
        assert!(error.contains("--admin") && error.contains(expected), "{error}");
        assert_eq!(error.lines().count(), 1, "{error}");
    }
    let args = ["--admin", "0.0.0.0:0", "--admin-allow-remote"];
    let mut server = Server::start("thread", &args);
    let line = server.wait_for_line("the operator's listener address=0.0.0.0:");
    let operator = Operator::Tcp(line.rsplit_once(':').unwrap().1.parse().unwrap());
    assert_eq!(operator.get("/livez").status, 200);
    assert_eq!(operator.send("GET /livez HTTP/1.1\r\nHost: 192.0.2.1:9\r\n").status, 200);
    assert_eq!(operator.send("GET /livez HTTP/1.1\r\nHost: evil.example\r\n").status, 421);
}

for_each_pool!(what_happens_is_told_to_who_looks_on);
fn what_happens_is_told_to_who_looks_on(pool: &str) {
    let mut server = Server::with_handler(pool, &components::trap(), &ADMIN);
    let operator = server.operator();
    let mut events = operator.events();
    assert_eq!(server.get("/a?b").status, 500);
    events.wait_for("event: stop\n");
    events.wait_for("event: request\n");
    let request = events.last("request");
    assert_eq!((&request["target"], &request["status"]), (&"/a?b".into(), &500.into()));
    let stop = events.last("stop");
    assert_eq!((&stop["stopped_by"], &stop["prefix"]), (&"wasm".into(), &"/".into()));
    assert_eq!(stop["request"], request["request"]);
    fs::write(server.handler(), wat::parse_str(status(202)).unwrap()).unwrap();
    assert_eq!(operator.request("POST", "/reload", "").status, 200);
    events.wait_for("event: swap\n");
    let swap = events.last("swap");
    assert_eq!((&swap["outcome"], &swap["prefix"]), (&"taken".into(), &"/".into()));
    fs::write(server.handler(), "no handler").unwrap();
    assert_eq!(operator.request("POST", "/reload", "").status, 422);
    events.wait_for("\"refused\"");
    assert_eq!(events.last("swap")["outcome"], "refused");
    assert_eq!(
        operator.sample("swapbox_stopped_calls_total{http_route=\"/\",layer=\"wasm\"}"),
        Some(1.0)
    );
    // Who comes later is told of what is kept, and a browser that comes again of what it has missed.
    let mut later = operator.events();
    later.wait_for("\"refused\"");
    let swaps = later.all("swap");
    assert_eq!((later.last("stop"), swaps.len(), &swaps[0]), (stop, 2, &swap));
    let mut again = operator.events_after(later.id("\"taken\""));
    again.wait_for("\"refused\"");
    assert_eq!((again.all("stop").len(), again.all("swap").len()), (0, 1));
}

for_each_pool!(what_the_monitor_denies_is_told_although_the_call_goes_on);
fn what_the_monitor_denies_is_told_although_the_call_goes_on(pool: &str) {
    let hostile = root().join("handlers/hostile.wasm");
    let quota = ["--handler", hostile.to_str().unwrap(), "--quota", "1MiB"];
    let mut server = Server::start(pool, &[&ADMIN[..], &quota].concat());
    let operator = server.operator();
    let mut events = operator.events();
    for (target, by, other, first) in [
        ("/dotdot", "monitor", "quota", "the path leads out of the directory"),
        ("/fill", "quota", "monitor", "the directory is full"),
    ] {
        assert_eq!(server.get(target).status, 200, "{pool}: {target}");
        events.wait_for("event: denial\n");
        events.wait_for(first);
        let denial = events.last("denial");
        assert_eq!((&denial["target"], &denial["prefix"]), (&target.into(), &"/".into()));
        assert!(denial["first"].as_str().unwrap().ends_with(first), "{pool}: {denial}");
        let count = denial[by].as_f64().unwrap();
        assert!(count >= 1.0 && denial[other] == 0, "{pool}: {denial}");
        let labels = format!("{{http_route=\"/\",layer=\"{by}\"}}");
        operator.wait_for_sample(&format!("swapbox_denied_host_calls_total{labels}"), count);
        server.wait_for_line(&format!("denied={count} denial=\"wasi:"));
        assert_eq!(operator.json("/status", 200)["handlers"][0]["denied"][by], count);
    }
    assert_eq!(
        operator.sample("swapbox_stopped_calls_total{http_route=\"/\",layer=\"monitor\"}"),
        Some(0.0)
    );
}

#[test]
fn who_only_holds_connections_gives_way() {
    let mut server = Server::start("thread", &ADMIN);
    let operator = server.operator();
    let idle: Vec<_> = (0..200)
        .map(|number| {
            let mut stream = TcpStream::connect(operator.authority()).unwrap();
            if number % 2 == 0 {
                stream.write_all(b"GET /readyz HT").unwrap();
            }
            stream
        })
        .collect();
    let mut asking = TcpStream::connect(operator.authority()).unwrap();
    // Less than what one that holds a connection may take for its head.
    asking.set_read_timeout(Some(Duration::from_secs(25))).unwrap();
    let host = operator.authority();
    write!(asking, "GET /readyz HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").unwrap();
    assert_eq!(Response::until_the_end(&mut asking).status, 200);
    drop(idle);
}

#[test]
fn who_looks_on_and_does_not_read_delays_nobody_and_is_told_what_is_lost() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("admin");
    let address = format!("unix:{}", path.display());
    let server =
        Server::with_handler("thread", &status(200), &["--admin", &address, "--log", "off"]);
    let operator = Operator::unix(&path);
    let mut slow = operator.events_unread();
    let mut quick = operator.events();
    let mut client = server.connect();
    // More than the sockets and the ring have room for.
    let requests: String = (0..5_000)
        .map(|n| format!("GET /{n}?{} HTTP/1.1\r\nHost: x\r\n\r\n", "x".repeat(500)))
        .collect();
    let mut sender = client.stream.try_clone().unwrap();
    let sending = std::thread::spawn(move || {
        sender.write_all(requests.as_bytes()).unwrap();
    });
    for _ in 0..5_000 {
        assert_eq!(client.response().status, 200);
    }
    sending.join().unwrap();
    quick.wait_for("/4999?");
    slow.wait_for("event: lost\n");
    assert!(slow.last("lost")["events"].as_u64().unwrap() > 0);
    slow.wait_for("/4999?");
    // As many look on as may.
    let _others: Vec<_> = (0..14).map(|_| operator.events()).collect();
    assert_eq!(operator.get("/events").status, 503);
}
