//! The configurations of `docs/behind-a-proxy.md`, word for word, in the proxies they are for.

use std::fs;
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::support::{
    Browser, Client, ReservedPort, Server, eventually, for_each_pool, has_program, noise, output,
    skip,
};

const DOCUMENT: &str = include_str!("../../../docs/behind-a-proxy.md");

/// A proxy that runs until this is dropped.
struct Proxy {
    child: Child,
    port: ReservedPort,
    _scratch: tempfile::TempDir,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What the document has in a block of that language, for a server and a proxy at these ports.
fn configuration(language: &str, server: u16, proxy: u16) -> String {
    let (_, block) = DOCUMENT.split_once(&format!("```{language}\n")).expect("a block");
    let (block, _) = block.split_once("```").expect("its end");
    block.replace("8885", &server.to_string()).replace("8080", &proxy.to_string())
}

impl Proxy {
    /// Starts the proxy with the command that `command` makes, given a directory and the
    /// configuration in it.
    fn start(
        language: &str,
        server: &Server,
        around: impl Fn(&Path, &str) -> String,
        command: impl Fn(&Path, &Path) -> Command,
    ) -> Self {
        let scratch = tempfile::tempdir().unwrap();
        let port = ReservedPort::new();
        let file = scratch.path().join("configuration");
        let configuration = configuration(language, server.port, port.number);
        fs::write(&file, around(scratch.path(), &configuration)).unwrap();
        let log = fs::File::create(scratch.path().join("log")).unwrap();
        let mut command = command(scratch.path(), &file);
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let mut child = command.process_group(0).spawn().unwrap();
        eventually("the proxy listens", || {
            let log = || fs::read_to_string(scratch.path().join("log"));
            assert!(child.try_wait().unwrap().is_none(), "{language}: {:?}", log());
            TcpStream::connect((Ipv4Addr::LOCALHOST, port.number)).is_ok()
        });
        Self { child, port, _scratch: scratch }
    }

    fn client(&self) -> Client {
        Client::connect(self.port.number)
    }
}

/// What users do, by way of a proxy. Of so many refusals one at least must reach a client that is
/// still sending.
fn check(pool: &str, server: &Server, proxy: &Proxy, refusals: usize) {
    let large = noise(10 << 20, 1);
    let sparse = server.scratch().join("sparse");
    fs::File::create(&sparse).unwrap().set_len(100 << 20).unwrap();
    for base in ["/", "/files/"] {
        let context = format!("{pool}: {base}");
        let ask = |method: &str, target: &str, body: &[u8]| {
            proxy.client().request(method, &format!("{base}{target}"), body)
        };
        assert_eq!(ask("PUT", "upload/large", &large).status, 200, "{context}");
        assert!(ask("GET", "download/large", b"").body == large, "{context}");
        assert_eq!(ask("HEAD", "download/large", b"").field("content-length"), Some("10485760"));
        let name = "a%20b%26%3F%23%2525%2B%C3%BC.txt";
        assert_eq!(ask("POST", &format!("upload/{name}"), b"abc").status, 200, "{context}");
        assert!(server.dir.join("a b&?#%25+ü.txt").exists(), "{context}");
        assert_eq!(ask("GET", &format!("download/{name}"), b"").text(), "abc", "{context}");
        assert_eq!(ask("DELETE", &format!("delete/{name}"), b"").status, 200, "{context}");
        assert_eq!(ask("DELETE", &format!("delete/{name}"), b"").text(), "File not found");

        let mut client = proxy.client();
        client.send(format!(
            "PUT {base}upload/chunked HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        ));
        for piece in large.chunks(100_000).take(20) {
            client.send([format!("{:x}\r\n", piece.len()).as_bytes(), piece, b"\r\n"].concat());
        }
        client.send("0\r\n\r\n");
        assert_eq!(client.response().status, 200, "{context}");
        assert!(ask("GET", "download/chunked", b"").body == large[..2_000_000], "{context}");

        // What Swapbox refuses is refused with its words.
        let upload = format!("http://127.0.0.1:{}{base}upload/x", proxy.port.number);
        let refused = (0..refusals).any(|_| {
            let mut curl = Command::new("curl");
            let told = output(curl.args(["-s", "--noproxy", "*", "-T"]).arg(&sparse).arg(&upload));
            String::from_utf8_lossy(&told.stdout).contains("body is too large")
        });
        assert!(refused, "{context}");

        let mut client = proxy.client();
        let page = format!("GET {base} HTTP/1.1\r\nHost: x\r\nAccept: text/html\r\n\r\n");
        client.send(page);
        assert!(client.response().text().contains("href=\"download/large\""), "{context}");
        for file in ["large", "chunked"] {
            assert_eq!(ask("DELETE", &format!("delete/{file}"), b"").status, 200, "{context}");
        }
    }
    let response = proxy.client().request("GET", "/files", b"");
    assert_eq!((response.status, response.field("location")), (308, Some("/files/")), "{pool}");

    let Some(browser) = Browser::start() else { return skip(pool, "chromedriver") };
    for base in ["", "files/"] {
        let file = server.scratch().join("holiday.bin");
        fs::write(&file, &large[..300_000]).unwrap();
        browser.open(&format!("http://127.0.0.1:{}/{base}", proxy.port.number));
        eventually("an empty list", || browser.text().contains("Nothing here yet"));
        browser.type_into("#pick", file.to_str().unwrap());
        eventually("the file in the list", || browser.text().contains("293 KiB"));
        assert!(fs::read(server.dir.join("holiday.bin")).unwrap() == large[..300_000]);
        browser.click("td.actions .delete");
        browser.click("#confirm-yes");
        eventually("the file gone", || browser.text().contains("Nothing here yet"));
    }
}

fn serve(pool: &str) -> Server {
    Server::start(pool, &["--client-share", "100", "--max-request", "16MiB"])
}

for_each_pool!(nginx_serves_what_it_is_told);
fn nginx_serves_what_it_is_told(pool: &str) {
    if !has_program(pool, "nginx") {
        return;
    }
    let server = serve(pool);
    let around = |scratch: &Path, configuration: &str| {
        let scratch = scratch.display();
        let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|name| format!("{name}_temp_path {scratch}/{name};\n"))
            .concat();
        format!(
            "daemon off; master_process off; pid {scratch}/pid; error_log {scratch}/log;\n\
             events {{}}\nhttp {{\naccess_log off;\n{temporary}{configuration}}}\n"
        )
    };
    let proxy = Proxy::start("nginx", &server, around, |scratch, file| {
        let mut command = Command::new("nginx");
        command.arg("-p").arg(scratch).arg("-c").arg(file);
        command
    });
    check(pool, &server, &proxy, 1);
}

for_each_pool!(haproxy_serves_what_it_is_told);
fn haproxy_serves_what_it_is_told(pool: &str) {
    if !has_program(pool, "haproxy") {
        return;
    }
    let server = serve(pool);
    let around = |_: &Path, configuration: &str| configuration.to_owned();
    let proxy = Proxy::start("haproxy", &server, around, |_, file| {
        let mut command = Command::new("haproxy");
        command.arg("-db").arg("-f").arg(file);
        command
    });
    check(pool, &server, &proxy, 1);
}

for_each_pool!(caddy_serves_what_it_is_told);
fn caddy_serves_what_it_is_told(pool: &str) {
    if !has_program(pool, "caddy") {
        return;
    }
    let server = serve(pool);
    // Its own listener is on one port for all that run.
    let around = |_: &Path, configuration: &str| format!("{{\nadmin off\n}}\n{configuration}");
    let proxy = Proxy::start("caddyfile", &server, around, |scratch, file| {
        let mut command = Command::new("caddy");
        command.env("XDG_DATA_HOME", scratch).env("XDG_CONFIG_HOME", scratch);
        command.args(["run", "--adapter", "caddyfile", "--config"]).arg(file);
        command
    });
    // It closes a connection whose client goes on sending, at times before that has the answer.
    check(pool, &server, &proxy, 20);
}
