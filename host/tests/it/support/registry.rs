//! Registries: a real one, and one that does as a test says.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use super::reserved_port::ReservedPort;
use super::{clean, eventually, has_program};

/// A `docker-registry` with a directory of its own; it is killed when this is dropped.
pub struct RealRegistry {
    child: Option<Child>,
    pub port: u16,
    dir: TempDir,
    /// While it is stopped, nobody else is asked in its place.
    _reserved: ReservedPort,
}

impl RealRegistry {
    /// Starts one on a free port, for which a password is needed if `passwords` has any, in the format of `htpasswd -B`;
    /// `None` if it is not installed.
    pub fn start(pool: &str, passwords: Option<&str>) -> Option<Self> {
        if !has_program(pool, "docker-registry") {
            return None;
        }
        let reserved = ReservedPort::new();
        let port = reserved.number;
        let mut registry =
            Self { child: None, port, dir: tempfile::tempdir().unwrap(), _reserved: reserved };
        let dir = registry.dir.path();
        let mut config = format!(
            "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\n\
             storage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: '127.0.0.1:{port}'}}\n",
            dir.join("data").display()
        );
        if let Some(passwords) = passwords {
            let file = dir.join("passwords");
            std::fs::write(&file, passwords).unwrap();
            config += &format!("auth: {{htpasswd: {{realm: test, path: {}}}}}\n", file.display());
        }
        std::fs::write(dir.join("config.yml"), config).unwrap();
        registry.resume();
        Some(registry)
    }

    /// Starts it again, with what it had.
    pub fn resume(&mut self) {
        let mut command = clean("docker-registry");
        command.arg("serve").arg(self.dir.path().join("config.yml"));
        let command = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        self.child = Some(command.spawn().unwrap());
        eventually("the registry listens", || TcpStream::connect(("127.0.0.1", self.port)).is_ok());
    }

    pub fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// What is found at a path, and its media type.
    pub fn get(&self, path: &str, accept: &str) -> (Value, String) {
        let url = format!("http://127.0.0.1:{}{path}", self.port);
        let mut response = ureq::get(url).header("accept", accept).call().unwrap();
        let kind = response.headers()["content-type"].to_str().unwrap().to_owned();
        (serde_json::from_slice(&response.body_mut().read_to_vec().unwrap()).unwrap(), kind)
    }
}

impl Drop for RealRegistry {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A connection to a registry, in clear text or not.
pub trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

/// What a registry does with a request, whose head is given.
pub type Answer = Arc<dyn Fn(&str, &mut dyn Stream) + Send + Sync>;

/// A registry that answers each request on a connection of its own, as the test says. It lives as long as the tests.
pub struct FakeRegistry {
    pub port: u16,
    heads: Arc<Mutex<Vec<String>>>,
    answer: Arc<Mutex<Answer>>,
}

impl FakeRegistry {
    pub fn start(answer: Answer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let registry = Self { port, heads: Arc::default(), answer: Arc::new(Mutex::new(answer)) };
        let (heads, answer) = (Arc::clone(&registry.heads), Arc::clone(&registry.answer));
        std::thread::spawn(move || {
            for mut client in listener.incoming().map_while(Result::ok) {
                let (heads, answer) = (Arc::clone(&heads), Arc::clone(&answer));
                std::thread::spawn(move || {
                    let Some(head) = read_head(&mut client) else { return };
                    heads.lock().unwrap().push(head.clone());
                    let answer = Arc::clone(&answer.lock().unwrap());
                    answer(&head, &mut client);
                });
            }
        });
        registry
    }

    /// Does this from now on.
    pub fn answers(&self, answer: Answer) {
        *self.answer.lock().unwrap() = answer;
    }

    /// The heads of the requests so far.
    pub fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }
}

/// The head of a request, byte by byte, so that the body stays unread; `None` if the client leaves before.
pub fn read_head(client: &mut (impl Read + ?Sized)) -> Option<String> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        client.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    String::from_utf8(head).ok()
}

/// An answer whose length is as it says.
pub fn respond(client: &mut dyn Stream, status: &str, fields: &str, body: &[u8]) {
    let head = format!(
        "HTTP/1.1 {status}\r\nConnection: close\r\n{fields}Content-Length: {}\r\n\r\n",
        body.len()
    );
    // Whoever has read enough has left.
    let _ = client.write_all(head.as_bytes()).and_then(|()| client.write_all(body));
}

pub fn digest(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    digest.iter().fold("sha256:".into(), |text, byte| text + &format!("{byte:02x}"))
}

/// The manifest of a handler.
pub fn manifest(component: &[u8]) -> Vec<u8> {
    manifest_of("application/wasm", &digest(component), component.len() as u64)
}

/// A manifest with one layer.
pub fn manifest_of(media_type: &str, digest: &str, size: u64) -> Vec<u8> {
    let layer = json!({ "mediaType": media_type, "digest": digest, "size": size });
    let config = json!({ "mediaType": "application/vnd.wasm.config.v0+json", "digest": digest, "size": size });
    json!({ "schemaVersion": 2, "config": config, "layers": [layer] }).to_string().into()
}

/// A registry with this one handler, under every name and tag.
pub fn with_handler(component: Vec<u8>) -> Answer {
    let manifest = manifest(&component);
    Arc::new(move |head, client| match head.contains("/manifests/") {
        true => respond(client, "200 OK", "", &manifest),
        false => respond(client, "200 OK", "", &component),
    })
}

/// A file of credentials for a registry.
pub fn write_credentials(file: &Path, registry: &str, basic: &str) {
    let auths = json!({ "auths": { registry: { "auth": basic } } });
    std::fs::write(file, auths.to_string()).unwrap();
}
