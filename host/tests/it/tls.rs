//! HTTPS: the same promises as without TLS, and what a certificate can have wrong.

use std::fs;
use std::io::{Read, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use rustix::net::sockopt;
use rustix::process::Signal;
use tempfile::TempDir;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::support::{Client, Server, eventually, for_each_pool, has_program, host, noise, output};

type Stream = StreamOwned<ClientConnection, TcpStream>;

/// A certificate for this machine, and its key, in files.
struct Files {
    dir: TempDir,
    certificate: CertificateDer<'static>,
}

impl Files {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let certificate = write(dir.path(), "", |_| ());
        Self { dir, certificate }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn serve(&self, pool: &str, args: &[&str]) -> Server {
        let (cert, key) = (self.path("cert.pem"), self.path("key.pem"));
        let files = ["--tls-cert", cert.to_str().unwrap(), "--tls-key", key.to_str().unwrap()];
        Server::start(pool, &[&files[..], args].concat())
    }

    /// A connection that trusts the certificate, and offers these protocols.
    fn connect_for(&self, server: &Server, protocols: &[&str]) -> Stream {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).unwrap();
        let provider = Arc::new(ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        let client =
            ClientConnection::new(Arc::new(config), "localhost".try_into().unwrap()).unwrap();
        StreamOwned::new(client, server.connect().stream)
    }

    fn connect(&self, server: &Server) -> Stream {
        self.connect_for(server, &["http/1.1"])
    }

    /// The whole answer to a request on a connection of its own, which must end as TLS ends.
    fn ask(&self, server: &Server, method: &str, target: &str, body: &[u8]) -> Vec<u8> {
        let mut stream = self.connect(server);
        send(&mut stream, method, target, body);
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        answer
    }
}

/// Writes a certificate that signs itself, and its key.
fn write(
    dir: &Path,
    prefix: &str,
    change: impl Fn(&mut CertificateParams),
) -> CertificateDer<'static> {
    let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
    let mut params = CertificateParams::new(names).unwrap();
    change(&mut params);
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    fs::write(dir.join(format!("{prefix}cert.pem")), certificate.pem()).unwrap();
    fs::write(dir.join(format!("{prefix}key.pem")), key.serialize_pem()).unwrap();
    certificate.der().clone()
}

fn send(stream: &mut Stream, method: &str, target: &str, body: &[u8]) {
    let length = body.len();
    let head = format!(
        "{method} {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n"
    );
    stream.write_all(&[head.as_bytes(), body].concat()).unwrap();
    stream.flush().unwrap();
}

fn is_ok(answer: &[u8]) -> bool {
    answer.starts_with(b"HTTP/1.1 200 ")
}

for_each_pool!(files_of_any_length_come_and_go_by_https);
fn files_of_any_length_come_and_go_by_https(pool: &str) {
    let files = Files::new();
    let mut server = files.serve(pool, &[]);
    assert!(server.has_said(&format!("https://127.0.0.1:{}/", server.port)), "{pool}");
    for length in [0, 1, 20_000, 3 << 20, 20 << 20] {
        let body = noise(length, 1);
        assert!(is_ok(&files.ask(&server, "PUT", "/upload/x", &body)), "{pool}: {length}");
        let answer = files.ask(&server, "GET", "/download/x", b"");
        assert!(is_ok(&answer) && answer.ends_with(&body), "{pool}: {length}");
    }
    let line = server.wait_for_line("method=GET target=/download/x");
    assert!(line.contains("status=200"), "{pool}: {line}");
    // A connection stays open, and a body may come long after its head.
    let mut stream = files.connect(&server);
    for _ in 0..3 {
        stream
            .write_all(b"PUT /upload/y HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\n")
            .unwrap();
        stream.flush().unwrap();
        stream.write_all(b"abc").unwrap();
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"HTTP/1.1 200", "{pool}");
        eventually("the rest of the answer", || {
            let mut rest = [0; 4096];
            let read = stream.read(&mut rest).unwrap();
            rest[..read].ends_with(b"uploaded successfully")
        });
    }
    assert_eq!(stream.conn.alpn_protocol(), Some(&b"http/1.1"[..]));
}

for_each_pool!(handlers_are_told_that_clients_use_tls);
fn handlers_are_told_that_clients_use_tls(pool: &str) {
    let files = Files::new();
    let handler = |name| format!("{}/../handlers/{name}.wasm", env!("CARGO_MANIFEST_DIR"));
    for (name, target, expected) in [
        ("cgi", "/environment", "HTTPS=on\n"),
        ("cgi", "/environment", "SERVER_PORT=443\n"),
        ("service", "/request", "scheme Scheme::Https\n"),
        ("exchange", "/request", "scheme Some(Scheme::Https)\n"),
    ] {
        let server = files.serve(pool, &["--handler", &handler(name)]);
        let answer = files.ask(&server, "GET", target, b"");
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.contains(expected), "{pool}: {answer}");
    }
}

for_each_pool!(slow_clients_have_the_same_times_by_https);
fn slow_clients_have_the_same_times_by_https(pool: &str) {
    let files = Files::new();
    let mut server = files.serve(pool, &["--write-timeout", "1s", "--header-timeout", "1s"]);
    let large = noise(15 << 20, 1);
    assert!(is_ok(&files.ask(&server, "PUT", "/upload/large", &large)), "{pool}");
    let mut slow = files.connect(&server);
    send(&mut slow, "GET", "/download/large", b"");
    // TLS hands out 16 KiB at a time, and so it takes four seconds and more.
    let answer = Client::over(slow).response_slowly(Duration::from_millis(5));
    assert!(answer.body == large, "{pool}: {} bytes", answer.body.len());
    let mut stalled = files.connect(&server);
    send(&mut stalled, "GET", "/download/large", b"");
    let line = server.wait_for_line("the client took too long");
    assert!(line.contains("/download/large"), "{pool}: {line}");
    // What was cut off does not look whole.
    assert!(stalled.read_to_end(&mut Vec::new()).is_err(), "{pool}");
    let mut head = files.connect(&server);
    head.write_all(b"GET / HTTP/1.1\r\n").unwrap();
    head.flush().unwrap();
    let mut answer = Vec::new();
    head.read_to_end(&mut answer).unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 408 "), "{pool}");
}

for_each_pool!(who_took_much_at_first_and_little_then_is_late_by_https);
fn who_took_much_at_first_and_little_then_is_late_by_https(pool: &str) {
    let files = Files::new();
    let mut server = files.serve(pool, &["--write-timeout", "1s", "--min-rate", "1MiB"]);
    let large = noise(15 << 20, 1);
    assert!(is_ok(&files.ask(&server, "PUT", "/upload/large", &large)), "{pool}");
    let mut client = files.connect(&server);
    sockopt::set_socket_recv_buffer_size(&client.sock, 64 << 10).unwrap();
    send(&mut client, "GET", "/download/large", b"");
    let mut first = vec![0; 2 << 20];
    client.read_exact(&mut first).unwrap();
    // A quarter of the rate from here on: TLS hands out 16 KiB at a time.
    let rest = Client::over(client).rest_slowly(Duration::from_millis(64));
    let taken = first.len() + rest;
    assert!(taken < large.len(), "{pool}: what it took at first counts again and again");
    let line = server.wait_for_line("the client took too long");
    assert!(line.contains("/download/large"), "{pool}: {line}");
}

for_each_pool!(a_handshake_has_its_time_and_a_plain_request_an_answer);
fn a_handshake_has_its_time_and_a_plain_request_an_answer(pool: &str) {
    let files = Files::new();
    let times = ["--header-timeout", "500ms", "--idle-timeout", "500ms"];
    let mut server = files.serve(pool, &[&times[..], &["--admin", "127.0.0.1:0"]].concat());
    let operator = server.operator();
    for begun in [&b""[..], b"\x16", b"\x16\x03\x01\x02\x00\x01", b"\x80\x2e\x01"] {
        let mut client = server.connect();
        client.send(begun);
        let ended = client.stream.read(&mut [0; 100]);
        assert!(matches!(ended, Ok(0) | Err(_)), "{pool}: {begun:?}");
    }
    server.wait_for_line("a TLS handshake failed: it took too long");
    let refused = server.get("/");
    assert_eq!(refused.status, 400, "{pool}");
    assert!(refused.text().contains("This port speaks HTTPS"), "{pool}");
    let mut other = files.connect_for(&server, &["h2"]);
    assert!(other.write_all(b"GET / HTTP/1.1\r\n\r\n").is_err(), "{pool}: no protocol in common");
    assert!(is_ok(&files.ask(&server, "GET", "/", b"")), "{pool}");
    // Two that stopped on the way, and the one without a protocol.
    let failed = || operator.json("/status", 200)["connections"]["failed_tls_handshakes"] == 3;
    eventually("the handshakes that failed are counted", failed);
}

for_each_pool!(who_agrees_on_keys_when_the_server_is_to_end_is_served);
fn who_agrees_on_keys_when_the_server_is_to_end_is_served(pool: &str) {
    let files = Files::new();
    let mut server = files.serve(pool, &[]);
    let mut stream = files.connect(&server);
    stream.conn.write_tls(&mut stream.sock).unwrap();
    stream.sock.peek(&mut [0]).unwrap();
    let mut silent = server.connect();
    server.signal(Signal::TERM);
    // So the server has waited for those who may be about to say something.
    assert!(silent.is_closed(), "{pool}");
    send(&mut stream, "GET", "/", b"");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    assert!(is_ok(&answer), "{pool}: {}", String::from_utf8_lossy(&answer));
    assert!(server.wait().success(), "{pool}");
}

for_each_pool!(a_new_certificate_is_taken_up_and_a_bad_one_is_not);
fn a_new_certificate_is_taken_up_and_a_bad_one_is_not(pool: &str) {
    let mut files = Files::new();
    let mut server = files.serve(pool, &[]);
    let mut open = files.connect(&server);
    open.write_all(b"GET / HTTP/1.1\r\n").unwrap();
    open.flush().unwrap();
    let key = fs::read(files.path("key.pem")).unwrap();
    files.certificate = write(files.dir.path(), "", |_| ());
    let new_key = fs::read(files.path("key.pem")).unwrap();
    fs::write(files.path("key.pem"), &key).unwrap();
    server.signal(Signal::HUP);
    let line = server.wait_for_line("the certificate is refused, the old one goes on");
    assert!(line.contains("the key is not that of the certificate"), "{pool}: {line}");
    fs::write(files.path("key.pem"), &new_key).unwrap();
    server.signal(Signal::HUP);
    server.wait_for_line("SIGHUP: the certificate is read again");
    // It trusts the new one alone.
    assert!(is_ok(&files.ask(&server, "GET", "/", b"")), "{pool}");
    open.write_all(b"Host: x\r\nConnection: close\r\n\r\n").unwrap();
    open.flush().unwrap();
    let mut answer = Vec::new();
    open.read_to_end(&mut answer).unwrap();
    assert!(is_ok(&answer), "{pool}: what is open goes on");
}

#[test]
fn who_asks_for_a_reload_is_told_that_the_certificate_is_refused() {
    let files = Files::new();
    let mut server = files.serve("thread", &["--admin", "127.0.0.1:0"]);
    let operator = server.operator();
    let reloaded = operator.request("POST", "/reload", "");
    assert!(reloaded.status == 200 && !reloaded.text().contains("certificate"));
    fs::write(files.path("cert.pem"), "nothing").unwrap();
    let refused = operator.request("POST", "/reload", "");
    assert_eq!(refused.status, 422);
    assert!(refused.text().contains("there is no certificate in it"), "{}", refused.text());
    assert!(is_ok(&files.ask(&server, "GET", "/", b"")), "the old one goes on");
}

#[test]
fn what_is_wrong_with_the_files_is_told_in_one_line() {
    let files = Files::new();
    write(files.dir.path(), "other-", |_| ());
    fs::write(files.path("none.pem"), "nothing").unwrap();
    let path = |name: &str| files.path(name).to_str().unwrap().to_owned();
    let (cert, key) = (path("cert.pem"), path("key.pem"));
    for (arguments, status, expected) in [
        (vec!["--tls-cert", &cert], 2, "--tls-cert: its key is missing, --tls-key"),
        (vec!["--tls-key", &key], 2, "--tls-key: its certificate is missing, --tls-cert"),
        (vec!["--tls-cert", &cert, "--tls-key", &path("other-key.pem")], 1, "is not that of the"),
        (vec!["--tls-cert", &path("none.pem"), "--tls-key", &key], 1, "there is no certificate in"),
        (vec!["--tls-cert", &cert, "--tls-key", &path("none.pem")], 1, "there is no key in it"),
        (vec!["--tls-cert", &cert, "--tls-key", &cert], 1, "there is no key in it"),
        (vec!["--tls-cert", "/nowhere", "--tls-key", &key], 1, "--tls-cert /nowhere: No such file"),
        (vec!["--tls-cert", &cert, "--tls-key", "/dev/zero"], 1, "the file has more than"),
    ] {
        let scratch = tempfile::tempdir().unwrap();
        let told =
            output(host().current_dir(scratch.path()).args(["--port", "0"]).args(&arguments));
        let error = String::from_utf8_lossy(&told.stderr);
        assert_eq!(told.status.code(), Some(status), "{arguments:?}: {error}");
        assert!(error.contains(expected), "{arguments:?}: {error}");
        assert_eq!(error.lines().count(), 1, "{error}");
    }
}

#[test]
fn an_expired_certificate_is_warned_of() {
    let mut files = Files::new();
    files.certificate = write(files.dir.path(), "", |params| {
        params.not_before = date_time_ymd(2001, 1, 1);
        params.not_after = date_time_ymd(2002, 2, 3);
    });
    let server = files.serve("thread", &[]);
    assert!(server.has_said("the certificate has expired, on 2002-02-03T00:00:00Z"));
}

#[test]
fn curl_and_python_trust_the_certificate() {
    let files = Files::new();
    let server = files.serve("thread", &[]);
    let (cert, url) = (files.path("cert.pem"), format!("https://localhost:{}/", server.port));
    if has_program("curl", "curl") {
        for version in ["--tlsv1.2", "--tlsv1.3"] {
            let mut curl = Command::new("curl");
            curl.args(["-sS", "--noproxy", "*", version]);
            if version == "--tlsv1.2" {
                curl.args(["--tls-max", "1.2"]);
            }
            let got = output(curl.arg("--cacert").arg(&cert).arg(&url));
            assert!(got.status.success(), "{version}: {}", String::from_utf8_lossy(&got.stderr));
            assert!(String::from_utf8_lossy(&got.stdout).contains("/listdir"), "{version}");
        }
    }
    if has_program("python3", "python3") {
        let script = "import ssl, sys, urllib.request as r\n\
                      c = ssl.create_default_context(cafile=sys.argv[1])\n\
                      print(r.urlopen(sys.argv[2], context=c, timeout=60).status)";
        let got = output(Command::new("python3").args(["-c", script]).arg(&cert).arg(&url));
        assert_eq!(String::from_utf8_lossy(&got.stdout).trim(), "200");
    }
}

#[test]
fn handshakes_that_do_not_end_hold_up_nobody() {
    let files = Files::new();
    let server = files.serve("thread", &[]);
    let begun: Vec<Client> = (0..50)
        .map(|_| {
            let mut client = server.connect();
            client.send(b"\x16\x03\x01");
            client
        })
        .collect();
    assert!(is_ok(&files.ask(&server, "GET", "/", b"")));
    drop(begun);
}
