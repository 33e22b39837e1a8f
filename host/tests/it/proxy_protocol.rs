//! Connections that begin with a PROXY header: the client that it names is the one that counts.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

use rustix::net::{AddressFamily, SocketType, bind, connect, socket};

use crate::support::{Client, ReservedPort, Server, eventually, for_each_pool, has_program};

const GET: &str = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";

fn from(address: &str) -> String {
    format!("PROXY TCP4 {address} 127.0.0.1 7777 80\r\n")
}

for_each_pool!(the_named_client_is_the_one_in_the_log);
fn the_named_client_is_the_one_in_the_log(pool: &str) {
    let mut server = Server::start(pool, &["--proxy-protocol"]);
    let mut version_2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0f".to_vec();
    // With something besides that a proxy may add.
    version_2.extend_from_slice(&[192, 0, 2, 9, 127, 0, 0, 1, 0x1e, 0x61, 0, 80, 4, 0, 0]);
    let local = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0".to_vec();
    for (header, expected) in [
        (from("192.0.2.1").into_bytes(), "192.0.2.1:7777"),
        (b"PROXY TCP6 2001:db8::1 ::1 7 80\r\n".to_vec(), "[2001:db8::1]:7"),
        (version_2, "192.0.2.9:7777"),
        (b"PROXY UNKNOWN\r\n".to_vec(), "127.0.0.1:"),
        (local, "127.0.0.1:"),
    ] {
        for pieces in [1, header.len()] {
            let mut client = server.connect();
            for piece in header.chunks(header.len().div_ceil(pieces)) {
                client.send(piece);
            }
            client.send(GET);
            assert_eq!(client.response().status, 200, "{pool}: {expected}");
            // The connection goes on as any other.
            assert_eq!(client.request("GET", "/listdir", b"").status, 200, "{pool}: {expected}");
            let line = server.wait_for_line("target=/ ");
            assert!(line.contains(&format!(" client={expected}")), "{pool}: {line}");
        }
        // Header and request in one.
        let mut client = server.connect();
        client.send([&header[..], GET.as_bytes()].concat());
        assert_eq!(client.response().status, 200, "{pool}: {expected}");
        server.wait_for_line("target=/ ");
    }
}

#[test]
fn shares_are_those_of_the_named_clients() {
    let args = ["--proxy-protocol", "--max-connections", "10", "--client-share", "20"];
    let server = Server::start("thread", &args);
    let open = |address: &str| {
        let mut client = server.connect();
        client.send(from(address));
        // With its answer, it is known that the connection counts.
        client.send(GET);
        assert_eq!(client.response().status, 200);
        // Busy, and so it gives no way.
        client.send("GET / HTTP/1.1\r\n");
        client
    };
    let mut all = vec![open("192.0.2.1"), open("192.0.2.1")];
    eventually("the third one is refused", || {
        let mut third = server.connect();
        third.send(from("192.0.2.1"));
        third.send(GET);
        third.response().status == 503
    });
    all.extend([open("192.0.2.2"), open("192.0.2.3")]);
    for client in &mut all {
        client.send("Host: x\r\n\r\n");
        assert_eq!(client.response().status, 200);
    }
}

for_each_pool!(a_connection_without_a_header_is_closed);
fn a_connection_without_a_header_is_closed(pool: &str) {
    let args = ["--proxy-protocol", "--header-timeout", "500ms"];
    let long = [&b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff"[..], &[0; 4096]].concat();
    for bytes in [GET.as_bytes(), b"PROXY TCP4 nobody\r\n", b"PROXY ", b"", &long] {
        let mut server = Server::start(pool, &args);
        let mut client = server.connect();
        client.send(bytes);
        let mut byte = [0];
        let ended = std::io::Read::read(&mut client.stream, &mut byte);
        assert!(matches!(ended, Ok(0) | Err(_)), "{pool}: {bytes:?} is answered");
        let line = server.wait_for_line("a connection without a PROXY header is closed: ");
        assert!(line.contains("peer=127.0.0.1:"), "{pool}: {line}");
        let mut client = server.connect();
        client.send([from("192.0.2.1").as_bytes(), GET.as_bytes()].concat());
        assert_eq!(client.response().status, 200, "{pool}");
    }
}

#[test]
fn haproxy_names_its_clients() {
    if !has_program("thread", "haproxy") {
        return;
    }
    for word in ["send-proxy", "send-proxy-v2"] {
        let mut server = Server::start("thread", &["--proxy-protocol"]);
        let reserved = ReservedPort::new();
        let port = reserved.number;
        let file = server.scratch().join("haproxy.cfg");
        let configuration = format!(
            "defaults\n mode http\n timeout connect 5s\n timeout client 60s\n timeout server 60s\n\
             frontend in\n bind 127.0.0.1:{port}\n default_backend out\n\
             backend out\n server swapbox 127.0.0.1:{} {word}\n",
            server.port
        );
        fs::write(&file, configuration).unwrap();
        let mut command = Command::new("haproxy");
        command.arg("-db").arg("-f").arg(&file).process_group(0);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut haproxy = command.spawn().unwrap();
        eventually("haproxy listens", || TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok());
        let stream = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        bind(&stream, &SocketAddr::from(([127, 0, 0, 9], 0))).unwrap();
        connect(&stream, &SocketAddr::from(([127, 0, 0, 1], port))).unwrap();
        let mut client = Client::new(stream.into());
        assert_eq!(client.request("GET", "/", b"").status, 200, "{word}");
        let line = server.wait_for_line("target=/ ");
        haproxy.kill().unwrap();
        haproxy.wait().unwrap();
        assert!(line.contains(" client=127.0.0.9:"), "{word}: {line}");
    }
}
