//! Files that are longer than any message: they are sent from the directory.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::FileExt as _;
use std::process::Command;

use crate::support::{Client, Server, eventually, for_each_pool, has_program, noise, output};

/// More than a response may have that passes through memory (`--max-response`), and than an instance has.
const LONG: usize = 90 << 20;

fn ask(server: &Server, target: &str, fields: &str) -> Client {
    let mut client = server.connect();
    client.send(format!("GET {target} HTTP/1.1\r\nHost: a\r\n{fields}\r\n"));
    client
}

for_each_pool!(a_file_of_any_size_is_had_whole_and_in_ranges);
fn a_file_of_any_size_is_had_whole_and_in_ranges(pool: &str) {
    let server = Server::start(pool, &[]);
    let content = noise(LONG, 5);
    fs::write(server.dir.join("video.mp4"), &content).unwrap();
    let mut client = server.connect();
    let whole = client.request("GET", "/download/video.mp4", b"");
    assert_eq!(whole.status, 200);
    assert!(whole.body == content);
    let head = client.request("HEAD", "/download/video.mp4", b"");
    assert_eq!(head.field("content-length"), Some(&*LONG.to_string()));
    for (range, start, end) in [
        ("1000-70000000".to_owned(), 1000, 70_000_001),
        ("-50000000".to_owned(), LONG - 50_000_000, LONG),
        (format!("{}-", LONG - 300_000), LONG - 300_000, LONG),
        ("0-99".to_owned(), 0, 100),
    ] {
        client.send(format!(
            "GET /download/video.mp4 HTTP/1.1\r\nHost: a\r\nRange: bytes={range}\r\n\r\n"
        ));
        let part = client.response();
        assert_eq!(part.status, 206, "{range}");
        let expected = format!("bytes {start}-{}/{LONG}", end - 1);
        assert_eq!(part.field("content-range"), Some(&*expected));
        assert!(part.body == content[start..end], "{range}");
    }
}

for_each_pool!(common_tools_go_on_with_a_download);
fn common_tools_go_on_with_a_download(pool: &str) {
    const NAME: &str = "film.mp4";
    let mut server = Server::start(pool, &[]);
    let content = noise(LONG, 6);
    fs::write(server.dir.join(NAME), &content).unwrap();
    let base = format!("http://127.0.0.1:{}/", server.port);
    let url = format!("{base}download/{NAME}");
    let tools: [(&str, &[&str]); 3] = [
        ("wget", &["-c", "-q", "--no-proxy", &url]),
        ("curl", &["-sSf", "--noproxy", "*", "-C", "-", "-O", &url]),
        // By four connections.
        ("aria2c", &["--no-conf", "-q", "-c", "-x4", "-s4", "-k1M", "--all-proxy=", &url]),
    ];
    for (tool, arguments) in tools {
        if !has_program(pool, tool) {
            continue;
        }
        let dir = server.scratch().join(tool);
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join(NAME), &content[..LONG / 3]).unwrap();
        let output = output(Command::new(tool).args(arguments).current_dir(&dir));
        assert!(output.status.success(), "{pool}: {tool}: {output:?}");
        assert!(fs::read(dir.join(NAME)).unwrap() == content, "{pool}: {tool}");
        let line = server.wait_for_line("status=206");
        assert!(line.contains(NAME), "{pool}: {tool}: {line}");
    }
    if has_program(pool, "rclone") {
        let target = server.scratch().join("rclone");
        let mut command = Command::new("rclone");
        command.env("RCLONE_CONFIG", server.scratch().join("rclone.conf")).env("no_proxy", "*");
        command.args(["--multi-thread-cutoff", "1M", "--multi-thread-streams", "4", "--http-url"]);
        let from = format!(":http:download/{NAME}");
        let output = output(command.args([&base, "copyto", &from]).arg(&target));
        assert!(output.status.success(), "{pool}: {output:?}");
        assert!(fs::read(target).unwrap() == content, "{pool}: rclone");
    }
}

for_each_pool!(a_file_beyond_all_memory_is_sent_in_constant_memory);
fn a_file_beyond_all_memory_is_sent_in_constant_memory(pool: &str) {
    // More than a number of 32 bits can say.
    const LENGTH: u64 = 5 << 30;
    let server = Server::start(pool, &["--quota", "6GiB"]);
    let file = File::create(server.dir.join("disk.img")).unwrap();
    file.set_len(LENGTH).unwrap();
    file.write_all_at(b"the end", LENGTH - 7).unwrap();
    let before = server.all_memory();
    let mut client = ask(&server, "/download/disk.img", "Connection: close\r\n");
    let mut buffer = vec![0; 1 << 20];
    let (mut read, mut end) = (0, Vec::new());
    loop {
        let now = client.stream.read(&mut buffer).unwrap();
        if now == 0 {
            break;
        }
        read += now as u64;
        end.extend_from_slice(&buffer[..now]);
        end.drain(..end.len().saturating_sub(7));
    }
    assert!(read > LENGTH && read < LENGTH + 1000, "{read}");
    assert_eq!(end, b"the end");
    let more = server.all_memory().saturating_sub(before);
    assert!(more < 16 << 20, "{more} bytes more");
}

for_each_pool!(a_file_that_is_replaced_or_deleted_meanwhile_is_sent_whole);
fn a_file_that_is_replaced_or_deleted_meanwhile_is_sent_whole(pool: &str) {
    let server = Server::start(pool, &[]);
    let old = noise(32 << 20, 6);
    fs::write(server.dir.join("file"), &old).unwrap();
    let mut first = ask(&server, "/download/file", "");
    first.stream.peek(&mut [0]).unwrap();
    assert_eq!(server.request("PUT", "/upload/file", b"new").status, 200);
    let mut second = ask(&server, "/download/file", "");
    second.stream.peek(&mut [0]).unwrap();
    assert_eq!(server.request("DELETE", "/delete/file", b"").status, 200);
    assert!(first.response().body == old);
    assert_eq!(second.response().body, b"new");
    assert_eq!(server.get("/download/file").status, 404);
}

for_each_pool!(a_file_that_becomes_shorter_ends_the_connection);
fn a_file_that_becomes_shorter_ends_the_connection(pool: &str) {
    let mut server = Server::start(pool, &[]);
    let content = noise(64 << 20, 7);
    let path = server.dir.join("file");
    fs::write(&path, &content).unwrap();
    let mut client = ask(&server, "/download/file", "");
    client.stream.peek(&mut [0]).unwrap();
    File::options().write(true).open(&path).unwrap().set_len(10 << 20).unwrap();
    let mut got = Vec::new();
    // The rest cannot come, and nothing comes in its place.
    let _ = client.stream.read_to_end(&mut got);
    let head = got.windows(4).position(|end| end == b"\r\n\r\n").unwrap() + 4;
    assert!(got.len() - head < content.len() && content.starts_with(&got[head..]));
    server.wait_for_line("a file became shorter while it was sent");
    assert_eq!(server.get("/listdir").status, 200, "others are served");
}

for_each_pool!(what_is_sent_counts_although_it_has_no_name);
fn what_is_sent_counts_although_it_has_no_name(pool: &str) {
    let server = Server::start(pool, &["--quota", "48MiB", "--write-timeout", "60s"]);
    let put = |length| server.request("PUT", "/upload/b", &vec![1; length]).status;
    fs::write(server.dir.join("a"), noise(40 << 20, 8)).unwrap();
    let mut client = ask(&server, "/download/a", "");
    client.stream.peek(&mut [0]).unwrap();
    assert_eq!(server.request("DELETE", "/delete/a", b"").status, 200);
    assert_eq!(put(12 << 20), 507, "the file is still there, without a name");
    assert_eq!(put(4 << 20), 200);
    assert_eq!(client.response().body.len(), 40 << 20);
    eventually("room for another", || put(12 << 20) == 200);
}

for_each_pool!(slow_readers_hold_no_worker_and_little_memory);
fn slow_readers_hold_no_worker_and_little_memory(pool: &str) {
    const READERS: usize = 200;
    let server = Server::start(
        pool,
        &[
            "--workers",
            "2",
            "--max-workers",
            "2",
            "--client-share",
            "100",
            "--write-timeout",
            "60s",
        ],
    );
    File::create(server.dir.join("long")).unwrap().set_len(1 << 29).unwrap();
    server.get("/listdir");
    let (memory, descriptors) = (server.all_memory(), server.descriptors());
    let readers: Vec<_> = (0..READERS).map(|_| ask(&server, "/download/long", "")).collect();
    for reader in &readers {
        reader.stream.peek(&mut [0]).unwrap();
    }
    assert_eq!(server.get("/listdir").status, 200, "a worker is free");
    let each = server.all_memory().saturating_sub(memory) / READERS;
    assert!(each < 16 << 10, "{each} bytes each");
    let more = server.descriptors() - descriptors;
    assert!(
        more <= READERS + 10,
        "{more} descriptors for {READERS} connections: a file is open once"
    );
    drop(readers);
    eventually("all is closed", || server.descriptors() <= descriptors + 2);
}

for_each_pool!(a_pipelined_request_is_answered_after_a_long_file);
fn a_pipelined_request_is_answered_after_a_long_file(pool: &str) {
    let server = Server::start(pool, &[]);
    let content = noise(4 << 20, 9);
    fs::write(server.dir.join("file"), &content).unwrap();
    let mut client = ask(&server, "/download/file", "");
    client.stream.write_all(b"GET /listdir HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    assert!(client.response().body == content);
    assert!(client.response().text().contains("\"file\""));
}

for_each_pool!(who_would_be_sent_one_file_too_many_is_told_to_try_again);
fn who_would_be_sent_one_file_too_many_is_told_to_try_again(pool: &str) {
    let server = Server::with_descriptors(pool, 200, &["--client-share", "100"]);
    // More of each than the kernel takes for a client that reads nothing.
    let clients: Vec<_> = (0..60)
        .map(|number| {
            let name = number.to_string();
            File::create(server.dir.join(&name)).unwrap().set_len(64 << 20).unwrap();
            let mut client = server.connect();
            client.send(format!("GET /download/{name} HTTP/1.1\r\nHost: x\r\n\r\n"));
            let mut status = [0; 12];
            client.stream.read_exact(&mut status).unwrap();
            (client, String::from_utf8_lossy(&status[9..]).into_owned())
        })
        .collect();
    let with = |status| clients.iter().filter(|(_, told)| told == status).count();
    let (sent, refused) = (with("200"), with("503"));
    assert!(sent > 0 && refused > 0 && sent + refused == 60, "{pool}: {sent} and {refused}");
    drop(clients);
    eventually("there is room again", || server.get("/download/0").status == 200);
}
