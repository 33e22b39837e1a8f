//! Handlers that are swapped while they serve.
//!
//! The normal run is short. `SWAP_SECONDS=30 cargo test --release --test it swap -- --nocapture`
//! makes it whole, and prints what it saw.

use std::fs;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::components;
use crate::support::{Client, Server, SetOnDrop, eventually, for_each_pool, kill};

const FILEOPS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../handlers/fileops.wasm");

/// How long the servers are under load.
fn seconds() -> u64 {
    std::env::var("SWAP_SECONDS").map_or(3, |seconds| seconds.parse().unwrap())
}

fn body(version: u8) -> String {
    format!("v{version}").repeat(50 << 10)
}

/// A handler that answers everything with its version, 100 KiB of it.
fn version(version: u8) -> Vec<u8> {
    let body = body(version);
    let response = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    wat::parse_str(components::long_answer(&response)).unwrap()
}

fn component(wat: &str) -> Vec<u8> {
    wat::parse_str(wat).unwrap()
}

/// A module of 50 MB that does nothing.
fn huge() -> Vec<u8> {
    let name = b"\x04junk";
    let length = 50_000_000 + name.len();
    let mut module = b"\0asm\x01\0\0\0\0".to_vec();
    module.extend((0..5).map(|at| {
        let low = (length >> (7 * at)) as u8 & 0x7f;
        if at < 4 { low | 0x80 } else { low }
    }));
    module.extend(name);
    module.resize(module.len() + 50_000_000, 7);
    module
}

/// Files that are no better than what serves already, and a part of why.
fn bad_candidates() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("not a valid WebAssembly component", version(1)[..60_000].to_vec()),
        ("not a valid WebAssembly component", b"not even wasm".to_vec()),
        ("core WebAssembly module", component("(module)")),
        ("does not export", component(&components::wrong_export())),
        ("not for handlers to do", component(&components::reserved_export())),
        ("cannot be instantiated", component(&components::endless_start())),
        (
            "it answers 500",
            component(&components::answer("HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n")),
        ),
        ("core WebAssembly module", huge()),
        ("No such file", Vec::new()),
    ]
}

/// Puts a file into the place of another, in the ways in which programs do that.
fn replace(way: usize, file: &Path, contents: &[u8]) {
    let dir = file.parent().unwrap();
    let other = dir.join(format!("other-{}.wasm", way % 2));
    match way % 5 {
        // As editors do that write in place.
        0 => fs::write(file, contents).unwrap(),
        // As those that write a new file and rename it.
        1 => {
            fs::write(&other, contents).unwrap();
            fs::rename(&other, file).unwrap();
        }
        // As `cp` on a slow disk.
        2 => {
            let (first, rest) = contents.split_at(contents.len() / 2);
            fs::write(file, first).unwrap();
            let mut open = fs::File::options().append(true).open(file).unwrap();
            std::io::Write::write_all(&mut open, rest).unwrap();
        }
        // It disappears and comes back.
        3 => {
            fs::remove_file(file).unwrap();
            fs::write(file, contents).unwrap();
        }
        // A link that is switched to another target.
        _ => {
            let target = dir.join(format!("target-{way}.wasm"));
            fs::write(&target, contents).unwrap();
            let link = dir.join("link.wasm");
            std::os::unix::fs::symlink(&target, &link).unwrap();
            fs::rename(&link, file).unwrap();
        }
    }
}

/// Puts a bad candidate there: nothing at all, if it is empty.
fn spoil(file: &Path, contents: &[u8]) {
    match contents.is_empty() {
        true => fs::remove_file(file).unwrap(),
        false => replace(1, file, contents),
    }
}

/// A request that began then, and the version that answered it; `None` if nobody did.
type Served = (Instant, Option<u8>);

/// Asks again and again, on one connection or each time on a new one.
fn ask(mut connect: impl FnMut() -> Client, close: bool, done: &AtomicBool) -> Vec<Served> {
    let bodies = [1, 2].map(body);
    let mut served = Vec::new();
    let mut client = connect();
    while !done.load(Ordering::SeqCst) {
        if close {
            client = connect();
        }
        let began = Instant::now();
        let response = client.request("GET", "/", b"");
        let version = (1..).zip(&bodies).find(|(_, body)| response.body == body.as_bytes());
        served
            .push((began, version.map(|(version, _)| version).filter(|_| response.status == 200)));
    }
    served
}

for_each_pool!(no_request_is_lost_while_handlers_are_swapped);
fn no_request_is_lost_while_handlers_are_swapped(pool: &str) {
    let first = components::answer("HTTP/1.1 404 Not\r\nContent-Length: 0\r\n\r\n");
    // One pool has each version compiled anew, the other keeps them.
    let cache: &[_] = if pool == "thread" { &["--cache-dir", "none"] } else { &[] };
    let options = ["--watch", "--probe", "GET /", "--timeout", "1s"];
    let mut server = Server::with_handler(pool, &first, &[&options[..], cache].concat());
    let (file, port) = (server.handler(), server.port);
    replace(1, &file, &version(2));
    server.wait_for_line("handler swapped");

    let done = AtomicBool::new(false);
    let swaps = Mutex::new(Vec::new());
    let ends = Instant::now() + Duration::from_secs(seconds());
    let (mut refused, mut after_second) = (0, None);
    let served: Vec<Served> = thread::scope(|scope| {
        let ending = SetOnDrop(&done);
        let clients: Vec<_> = (0..16)
            .map(|number| {
                let connect = move || Client::connect(port);
                let done = &done;
                scope.spawn(move || ask(connect, number % 2 == 0, done))
            })
            .collect();
        let mut bad = bad_candidates().into_iter().cycle();
        for number in 0.. {
            if Instant::now() > ends && number >= 10 {
                break;
            }
            if number % 3 == 2 {
                let (why, contents) = bad.next().unwrap();
                spoil(&file, &contents);
                let line = server.wait_for_line("handler refused");
                assert!(line.contains(why), "{pool}: {line}");
                refused += 1;
                if contents.is_empty() {
                    fs::write(&file, b"back").unwrap();
                    server.wait_for_line("handler refused");
                }
            }
            let new = number % 2 + 1;
            let began = Instant::now();
            replace(usize::from(number), &file, &version(new));
            if number % 4 == 0 {
                server.signal(Signal::HUP);
            }
            server.wait_for_line("handler swapped");
            swaps.lock().unwrap().push((began, Instant::now(), new));
            // What begins now is answered by the new one.
            assert_eq!(server.get("/").text(), body(new), "{pool}: {number}");
            if number == 2 {
                after_second = Some((server.all_workers().len(), server.memory("VmRSS")));
            }
        }
        drop(ending);
        clients.into_iter().flat_map(|client| client.join().unwrap()).collect()
    });

    let swaps = swaps.into_inner().unwrap();
    let lost = served.iter().filter(|(_, version)| version.is_none()).count();
    assert_eq!(lost, 0, "{pool}: of {}", served.len());
    let mut between = swaps.windows(2);
    let stale = |swap: &[(Instant, Instant, u8)]| {
        let [(_, logged, new), (next, ..)] = swap else { return 0 };
        let window = served.iter().filter(|(at, _)| (*logged..*next).contains(at));
        window.filter(|(_, version)| *version != Some(*new)).count()
    };
    assert!(between.all(|swap| stale(swap) == 0), "{pool}: answered by an old one");
    let (workers, resident) = after_second.unwrap();
    eventually("as many workers as at first", || server.all_workers().len() <= workers);
    let (swaps, requests, now) = (swaps.len(), served.len(), server.memory("VmRSS"));
    println!(
        "{pool}: {swaps} swaps, {refused} refused, {requests} requests, none lost; \
         resident {resident} KiB after two, {now} KiB in the end"
    );
}

for_each_pool!(what_is_no_better_than_what_serves_is_refused);
fn what_is_no_better_than_what_serves_is_refused(pool: &str) {
    let handler = components::answer("HTTP/1.1 404 Not\r\nContent-Length: 0\r\n\r\n");
    let options = ["--watch", "--probe", "GET /", "--timeout", "1s"];
    let mut server = Server::with_handler(pool, &handler, &options);
    for (why, contents) in bad_candidates() {
        spoil(&server.handler(), &contents);
        let line = server.wait_for_line("handler refused");
        assert!(line.contains(why), "{pool}: {why}: {line}");
        assert_eq!(server.get("/").status, 404, "{pool}: {why}");
    }
}

for_each_pool!(nothing_is_left_of_old_generations);
fn nothing_is_left_of_old_generations(pool: &str) {
    let swaps = if seconds() >= 30 { 200 } else { 20 };
    let first = component(&components::answer("HTTP/1.1 204 A\r\n\r\n"));
    let second = component(&components::answer("HTTP/1.1 205 B\r\nContent-Length: 0\r\n\r\n"));
    let mut server = Server::with_handler(pool, &components::answer("HTTP/1.1 204 C\r\n\r\n"), &[]);
    let file = server.handler();
    let holds = |server: &Server| {
        let threads = fs::read_dir(format!("/proc/{}/task", server.pid())).unwrap().count();
        (server.descriptors(), threads, server.workers().len())
    };
    let mut after_second = None;
    for number in 0..swaps {
        let mut client = server.connect();
        client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
        fs::write(&file, if number % 2 == 0 { &first } else { &second }).unwrap();
        server.signal(Signal::HUP);
        server.wait_for_line("handler swapped");
        assert!([204, 205].contains(&client.response().status));
        drop(client);
        if number == 2 {
            eventually("as many workers as there are", || server.all_workers().len() == 3);
            after_second = Some((holds(&server), server.memory("VmRSS")));
        }
    }
    let (before, resident) = after_second.unwrap();
    eventually("as many as after the second", || {
        let now = holds(&server);
        now.0 <= before.0 && now.1 <= before.1 && now.2 <= before.2
    });
    let now = server.memory("VmRSS");
    println!(
        "{pool}: after the second swap {before:?} descriptors, threads, processes and \
         {resident} KiB, after {swaps} {:?} and {now} KiB",
        holds(&server)
    );
    assert!(now < resident + (32 << 10), "{pool}: {resident} to {now} KiB");
}

#[test]
fn a_worker_that_is_killed_during_a_swap_costs_its_own_request_at_most() {
    let answer = |reason: &str| components::answer(&format!("HTTP/1.1 204 {reason}\r\n\r\n"));
    let mut server = Server::with_handler("process", &answer("A"), &[]);
    let port = server.port;
    let done = AtomicBool::new(false);
    let kills = 10;
    let lost: usize = thread::scope(|scope| {
        let ending = SetOnDrop(&done);
        let client = scope.spawn(|| {
            let mut client = Client::connect(port);
            let mut lost = 0;
            while !done.load(Ordering::SeqCst) {
                lost += usize::from(client.request("GET", "/", b"").status != 204);
            }
            lost
        });
        for number in 0..kills {
            let reason = if number % 2 == 0 { "B" } else { "A" };
            fs::write(server.handler(), component(&answer(reason))).unwrap();
            server.signal(Signal::HUP);
            if let Some(worker) = server.workers().get(number % 3) {
                kill(*worker, Signal::KILL);
            }
            server.wait_for_line("handler swapped");
        }
        drop(ending);
        client.join().unwrap()
    });
    assert!(lost <= kills, "{lost}");
    assert_eq!(server.get("/").status, 204);
}

for_each_pool!(a_request_in_flight_ends_on_the_handler_it_began_with);
fn a_request_in_flight_ends_on_the_handler_it_began_with(pool: &str) {
    let slow = components::sleeper(700_000_000);
    let mut server = Server::with_handler(pool, &slow, &[]);
    let mut client = server.connect();
    client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    eventually("it runs", || server.sleeping_workers() == 1);
    let new = component(&components::answer("HTTP/1.1 205 New\r\nContent-Length: 0\r\n\r\n"));
    fs::write(server.handler(), new).unwrap();
    server.signal(Signal::HUP);
    server.wait_for_line("handler swapped");
    assert_eq!(server.get("/").status, 205, "{pool}");
    assert_eq!(client.response().status, 204, "{pool}");
    assert_eq!(client.request("GET", "/", b"").status, 205, "{pool}: the same connection");
}

for_each_pool!(the_longest_prefix_has_the_request);
fn the_longest_prefix_has_the_request(pool: &str) {
    let scratch = tempfile::tempdir().unwrap();
    let handler = |prefix: &str, status: u16| {
        let file = scratch.path().join(format!("{status}.wasm"));
        let response = format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n");
        fs::write(&file, component(&components::answer(&response))).unwrap();
        format!("{prefix}={}", file.display())
    };
    let (api, deep) = (handler("/api", 201), handler("/api/v1", 202));
    let parrot = scratch.path().join("parrot.wasm");
    fs::write(&parrot, component(&components::parrot())).unwrap();
    let parrot = format!("/parrot={}", parrot.display());
    let handlers = ["--handler", &api, "--handler", &deep, "--handler", &parrot];
    let server = Server::start(pool, &handlers);
    for (target, status) in [
        ("/api", 201),
        ("/api/x", 201),
        ("/api/v1", 202),
        ("/api/v1/x?y", 202),
        ("/api/v10", 201),
        ("/apis", 404),
        ("/", 404),
        ("*", 404),
    ] {
        let method = if target == "*" { "OPTIONS" } else { "GET" };
        assert_eq!(server.request(method, target, b"").status, status, "{pool}: {target}");
    }
    assert_eq!(server.get("/none").text(), "Not found: no handler serves this path\n");
}

for_each_pool!(tables_have_directories_and_limits_of_their_own_and_change_with_the_file);
fn tables_have_directories_and_limits_of_their_own_and_change_with_the_file(pool: &str) {
    let scratch = tempfile::tempdir().unwrap();
    let write = |more: &str| {
        let dir = |name: &str| scratch.path().join(name).display().to_string();
        let fileops = format!("path = '{FILEOPS}'");
        let table = |prefix: &str, more: &str| {
            let dir = dir(prefix.trim_start_matches('/'));
            format!("[[handler]]\nprefix = '{prefix}'\ndir = '{dir}'\n{more}\n")
        };
        let loops = scratch.path().join("loop.wasm");
        fs::write(&loops, component(&components::endless_loop())).unwrap();
        let loops = format!("path = '{}'\ntimeout = '300ms'\nmax-concurrent = 1", loops.display());
        let text = [
            // The file handler knows no prefix, so `/listdir` is one.
            table("/listdir", &fileops),
            table("/upload", &format!("{fileops}\nquota = '48KiB'")),
            table("/bad", &loops),
            more.to_owned(),
        ];
        fs::write(scratch.path().join("config.toml"), text.concat()).unwrap();
    };
    write("");
    let config = scratch.path().join("config.toml");
    // A directory on the command line would be that of every handler.
    let mut server = Server::with_config(pool, &config);
    assert_eq!(server.request("PUT", "/upload/x", b"small").status, 200, "{pool}");
    assert_eq!(server.request("PUT", "/upload/y", &[b'y'; 48 << 10]).status, 507, "{pool}");
    assert_eq!(server.get("/listdir").text(), "[]", "{pool}: of another directory");
    assert_eq!(fs::read(scratch.path().join("upload/x")).unwrap(), b"small");

    // A bad handler has one worker, and cannot take the others'.
    let mut bad: Vec<_> = (0..3).map(|_| server.connect()).collect();
    for client in &mut bad {
        client.send("GET /bad HTTP/1.1\r\nHost: x\r\n\r\n");
    }
    assert_eq!(server.get("/listdir").status, 200, "{pool}");
    for client in &mut bad {
        assert_eq!(client.response().status, 504, "{pool}");
    }

    write("[[handler]]\nprefix = '/more'\npath = '/nonexistent'\n");
    server.signal(Signal::HUP);
    let line = server.wait_for_line("handler refused, there is none");
    assert!(line.contains("/more") && line.contains("No such file"), "{line}");
    write("[[handler]]\nprefix = '/more'\nquota = '1GB ago'\n");
    server.signal(Signal::HUP);
    server.wait_for_line("the configuration is refused, all goes on: --config");
    write(&format!("[[handler]]\nprefix = '/more'\npath = '{FILEOPS}'\n"));
    server.signal(Signal::HUP);
    server.wait_for_line("handler swapped");
    assert_eq!(server.get("/more").status, 404, "{pool}: of the handler");
    assert_eq!(server.get("/less").text(), "Not found: no handler serves this path\n");
    let only = format!("[[handler]]\nprefix = '/listdir'\npath = '{FILEOPS}'\n");
    fs::write(&config, only).unwrap();
    server.signal(Signal::HUP);
    server.wait_for_line("handler removed");
    let line = server.wait_for_line("SIGHUP: ");
    // Its directory is another now.
    let counts = "added=0 swapped=1 removed=3 unchanged=0 refused=0";
    assert!(line.ends_with(counts), "{line}");
    eventually("it is gone", || server.get("/bad").status == 404);
}
