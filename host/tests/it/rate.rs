//! Clients on slow lines: above `--min-rate` they are served for as long as it takes, below it
//! they are not; and who is refused while it sends gets to see why. The pauses here are the slow
//! line, not a wait for something.

use std::io::{Read as _, Write as _};
use std::process::Command;
use std::time::Duration;

use rustix::net::sockopt;

use crate::support::{Client, Server, eventually, for_each_pool, has_program, noise, output};

/// Sends `pieces` times the same bytes, with a pause after each.
fn send_slowly(client: &mut Client, piece: &[u8], pieces: usize, pause: Duration) {
    for _ in 0..pieces {
        client.send(piece);
        std::thread::sleep(pause);
    }
}

for_each_pool!(an_upload_above_the_rate_may_take_longer_than_the_timeout);
fn an_upload_above_the_rate_may_take_longer_than_the_timeout(pool: &str) {
    let server = Server::start(pool, &["--body-timeout", "1s"]);
    // 10 KiB a second, for three seconds.
    let (length, pieces, pause) = (2048, 15, Duration::from_millis(200));
    let chunk = [b"800\r\n", vec![b'x'; length].as_slice(), b"\r\n"].concat();
    let framings = [
        (format!("Content-Length: {}", length * pieces), vec![b'x'; length], ""),
        ("Transfer-Encoding: chunked".into(), chunk, "0\r\n\r\n"),
    ];
    for (framing, piece, end) in framings {
        let mut client = server.connect();
        client.send(format!("PUT /upload/x HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n"));
        send_slowly(&mut client, &piece, pieces, pause);
        client.send(end);
        assert_eq!(client.response().status, 200, "{pool}: {framing}");
        assert_eq!(server.get("/download/x").body.len(), length * pieces, "{pool}");
    }
}

for_each_pool!(an_upload_below_the_rate_is_late);
fn an_upload_below_the_rate_is_late(pool: &str) {
    let server = Server::start(pool, &["--body-timeout", "1s", "--min-rate", "256KiB"]);
    let mut client = server.connect();
    client.send("PUT /upload/x HTTP/1.1\r\nHost: a\r\nContent-Length: 10000000\r\n\r\n");
    client.stream.set_nonblocking(true).unwrap();
    // 100 KiB a second at most.
    let told = (0..1000).any(|_| {
        let _ = client.stream.write(&[b'x'; 1024]);
        std::thread::sleep(Duration::from_millis(10));
        client.stream.peek(&mut [0]).is_ok()
    });
    assert!(told, "{pool}: there is no end to it");
    client.stream.set_nonblocking(false).unwrap();
    assert_eq!(client.response().status, 408, "{pool}");
}

for_each_pool!(who_was_fast_and_stalls_is_late);
fn who_was_fast_and_stalls_is_late(pool: &str) {
    // What it has sent would be worth minutes.
    let server = Server::start(pool, &["--body-timeout", "1s", "--min-rate", "1KiB"]);
    let mut client = server.connect();
    client.send("PUT /upload/x HTTP/1.1\r\nHost: a\r\nContent-Length: 10000000\r\n\r\n");
    client.send(vec![b'x'; 1_000_000]);
    assert_eq!(client.response().status, 408, "{pool}");
    assert_eq!(server.get("/listdir").text(), "[]", "{pool}: nothing was uploaded");
}

for_each_pool!(a_download_above_the_rate_may_take_longer_than_the_timeout);
fn a_download_above_the_rate_may_take_longer_than_the_timeout(pool: &str) {
    let server = Server::start(pool, &["--write-timeout", "1s"]);
    let large = noise(15 << 20, 1);
    assert_eq!(server.request("PUT", "/upload/large", &large).status, 200);
    let mut client = server.connect();
    client.send("GET /download/large HTTP/1.1\r\nHost: a\r\n\r\n");
    // At most 64 KiB at a time, and so four seconds and more.
    let response = client.response_slowly(Duration::from_millis(16));
    assert!(response.status == 200 && response.body == large, "{pool}");
}

for_each_pool!(a_line_as_slow_as_the_rate_allows_is_enough);
fn a_line_as_slow_as_the_rate_allows_is_enough(pool: &str) {
    let args = ["--write-timeout", "3s", "--min-rate", "4KiB"];
    let server = Server::start(pool, &args);
    let large = noise(15 << 20, 1);
    assert_eq!(server.request("PUT", "/upload/large", &large).status, 200);
    let mut client = server.connect();
    sockopt::set_socket_recv_buffer_size(&client.stream, 64 << 10).unwrap();
    client.send("GET /download/large HTTP/1.1\r\nHost: a\r\n\r\n");
    // The kernel takes a lot of it at once, and then nothing for longer than the timeout.
    let mut taken = 0;
    for _ in 0..80 {
        std::thread::sleep(Duration::from_millis(100));
        let mut piece = vec![0; 24 << 10];
        client.stream.read_exact(&mut piece).unwrap();
        taken += piece.len();
    }
    let mut rest = vec![0; large.len() - taken];
    client.stream.read_exact(&mut rest).unwrap();
}

for_each_pool!(the_log_has_the_bytes_that_went_out);
fn the_log_has_the_bytes_that_went_out(pool: &str) {
    let args = ["--write-timeout", "1s", "--max-request", "32MiB"];
    for format in ["text", "json"] {
        let mut server = Server::start(pool, &[&args[..], &["--log", format]].concat());
        let large = noise(32 << 20, 1);
        assert_eq!(server.request("PUT", "/upload/large", &large).status, 200);
        let gone = ask(&server);
        gone.stream.peek(&mut [0]).unwrap();
        // With bytes that it has not read, and so by a reset.
        drop(gone);
        let line = server.wait_for_line("/download/large");
        assert!(line.contains("the client broke the connection off"), "{pool}: {line}");
        assert!(logged(&line, "status") == 200 && logged(&line, "bytes") < large.len(), "{line}");
        let still = ask(&server);
        let line = server.wait_for_line("/download/large");
        assert!(line.contains("the client took too long"), "{pool}: {line}");
        let bytes = logged(&line, "bytes");
        assert!(logged(&line, "status") == 200 && (1..large.len()).contains(&bytes), "{line}");
        drop(still);
        let whole = server.get("/download/large");
        let line = server.wait_for_line("/download/large");
        assert_eq!(logged(&line, "bytes"), whole.head.len() + whole.body.len(), "{line}");
    }
}

/// Asks for a large file and takes nothing of it.
fn ask(server: &Server) -> Client {
    let mut client = server.connect();
    sockopt::set_socket_recv_buffer_size(&client.stream, 4096).unwrap();
    client.send("GET /download/large HTTP/1.1\r\nHost: a\r\n\r\n");
    client
}

/// A number of a line of the access log.
fn logged(line: &str, name: &str) -> usize {
    let (text, json) = (format!("{name}="), format!("\"{name}\":"));
    let after = line.split_once(&text).or_else(|| line.split_once(&json));
    let (_, after) = after.unwrap_or_else(|| panic!("no {name} in {line}"));
    let digits: String = after.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().unwrap()
}

for_each_pool!(who_is_refused_while_it_sends_gets_to_see_why);
fn who_is_refused_while_it_sends_gets_to_see_why(pool: &str) {
    const PIECE: usize = 2 << 20;
    let server = Server::start(pool, &["--max-request", "1KiB"]);
    let idle = server.descriptors();
    let piece = vec![b'x'; PIECE];
    // Longer than the few seconds in which others would close.
    let pause = Duration::from_millis(120);
    std::thread::scope(|scope| {
        for (framing, start, status, pieces) in [
            (format!("Content-Length: {}", 60 * PIECE), "", 413, 60),
            ("Transfer-Encoding: chunked".into(), "8000000\r\n", 413, 30),
            ("Transfer-Encoding: chunked".into(), "no number\r\n", 400, 30),
            // Two lengths: the head itself is refused.
            ("Content-Length: 1\r\nContent-Length: 2".into(), "", 400, 30),
        ] {
            let (mut client, piece) = (server.connect(), &piece);
            scope.spawn(move || {
                client
                    .send(format!("PUT /upload/x HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n{start}"));
                send_slowly(
                    &mut client,
                    piece,
                    pieces,
                    pause * 60 / u32::try_from(pieces).unwrap(),
                );
                assert_eq!(client.response().status, status, "{pool}: {framing}");
                assert!(client.is_closed(), "{pool}: {framing}");
            });
        }
    });
    eventually("it is let go", || server.descriptors() <= idle);
    let resident = server.memory("VmHWM") >> 10;
    assert!(resident < 200, "{pool}: {resident} MiB to drop what nobody reads");
}

for_each_pool!(who_sends_while_the_server_ends_gets_to_see_why);
fn who_sends_while_the_server_ends_gets_to_see_why(pool: &str) {
    const PIECE: usize = 64 << 10;
    let mut server = Server::start(pool, &[]);
    let mut client = server.connect();
    // Its head is not whole yet.
    client.send(format!("PUT /upload/x HTTP/1.1\r\nContent-Length: {}\r\n", 80 * PIECE));
    eventually("it is read", || server.unread() == 0);
    server.signal(rustix::process::Signal::TERM);
    server.wait_for_line("status=503");
    // For longer than a client is listened to that says nothing more.
    client.send("Host: a\r\n\r\n");
    send_slowly(&mut client, &[b'x'; PIECE], 80, Duration::from_millis(10));
    assert_eq!(client.response().status, 503, "{pool}");
    drop(client);
    assert!(server.wait().success(), "{pool}");
}

for_each_pool!(wget_and_python_see_a_refusal);
fn wget_and_python_see_a_refusal(pool: &str) {
    const LENGTH: u64 = 300 << 20;
    let server = Server::start(pool, &["--max-request", "16MiB"]);
    let url = format!("http://127.0.0.1:{}/upload/x", server.port);
    let file = server.scratch().join("sparse");
    std::fs::File::create(&file).unwrap().set_len(LENGTH).unwrap();
    let post = format!("--post-file={}", file.display());
    let python = "import http.client, sys\n\
        connection = http.client.HTTPConnection('127.0.0.1', int(sys.argv[1]), timeout=60)\n\
        connection.request('PUT', '/upload/x', open(sys.argv[2], 'rb'))\n\
        response = connection.getresponse()\n\
        print(response.status, response.read().decode())";
    let commands = [
        ("wget", vec!["--no-proxy", "--tries=1", "-O-", "--content-on-error", &post, &url]),
        (
            "python3",
            vec![
                "-c",
                python,
                &url["http://127.0.0.1:".len()..url.len() - 9],
                file.to_str().unwrap(),
            ],
        ),
    ];
    for (program, args) in commands {
        if !has_program(pool, program) {
            continue;
        }
        let output = output(Command::new(program).args(args));
        let told =
            String::from_utf8_lossy(&[&*output.stdout, &output.stderr].concat()).into_owned();
        assert!(told.contains("413"), "{pool}, {program}: {told}");
        assert!(told.contains("body is too large"), "{pool}, {program}: {told}");
    }
}
