//! The operator's end of `--admin`.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::{PATIENCE, Response, Server, eventually};

/// Whoever asks the operator's listener, each time by a connection of its own.
pub enum Operator {
    Tcp(u16),
    Unix(PathBuf),
}

/// An answer that goes on.
pub struct Following {
    stream: Box<dyn Read>,
    seen: String,
}

impl Server {
    /// The operator of a server that was started with `--admin 127.0.0.1:0`.
    pub fn operator(&mut self) -> Operator {
        let line = self.wait_for_line("the operator's listener address=127.0.0.1:");
        let (_, port) = line.rsplit_once(':').unwrap();
        Operator::Tcp(port.parse().unwrap())
    }
}

impl Operator {
    pub fn unix(path: &Path) -> Self {
        Self::Unix(path.to_owned())
    }

    /// The Host field of its requests.
    pub fn authority(&self) -> String {
        match self {
            Self::Tcp(port) => format!("127.0.0.1:{port}"),
            Self::Unix(_) => "localhost".into(),
        }
    }

    pub fn get(&self, path: &str) -> Response {
        self.request("GET", path, "")
    }

    /// The JSON of an answer with this status.
    pub fn json(&self, path: &str, status: u16) -> serde_json::Value {
        let response = self.get(path);
        assert_eq!(response.status, status, "{path}: {}", response.text());
        serde_json::from_slice(&response.body).unwrap()
    }

    /// One request with these fields more.
    pub fn request(&self, method: &str, path: &str, fields: &str) -> Response {
        let host = self.authority();
        self.send(&format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\n{fields}"))
    }

    /// One request whose head lacks only its end.
    pub fn send(&self, head: &str) -> Response {
        let mut stream = self.connect(&format!("{head}Connection: close\r\n\r\n"));
        Response::until_the_end(&mut stream)
    }

    /// The events from here on.
    pub fn events(&self) -> Following {
        let mut events = self.events_unread();
        events.wait_for(": events follow");
        events
    }

    /// The events for who has had those up to the one of that id.
    pub fn events_after(&self, id: &str) -> Following {
        let mut events = self.follow(&format!("Last-Event-ID: {id}\r\n"));
        events.wait_for(": events follow");
        events
    }

    /// The events from here on, of which nothing is read.
    pub fn events_unread(&self) -> Following {
        self.follow("")
    }

    fn follow(&self, fields: &str) -> Following {
        let host = self.authority();
        let stream = self.connect(&format!("GET /events HTTP/1.1\r\nHost: {host}\r\n{fields}\r\n"));
        Following { stream, seen: String::new() }
    }

    /// The value of a sample; its labels as they are exposed, or nothing.
    pub fn sample(&self, name: &str) -> Option<f64> {
        let metrics = self.get("/metrics");
        let sample = |line: &str| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok();
        metrics.text().lines().find_map(sample)
    }

    /// Waits until a sample has a value.
    pub fn wait_for_sample(&self, name: &str, expected: f64) {
        eventually(name, || self.sample(name) == Some(expected));
    }

    fn connect(&self, request: &str) -> Box<dyn Read> {
        match self {
            Self::Tcp(port) => {
                let mut stream = TcpStream::connect(("127.0.0.1", *port)).unwrap();
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                stream.write_all(request.as_bytes()).unwrap();
                Box::new(stream)
            }
            Self::Unix(path) => {
                let mut stream = UnixStream::connect(path).unwrap();
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                stream.write_all(request.as_bytes()).unwrap();
                Box::new(stream)
            }
        }
    }
}

impl Following {
    /// Reads until this has come, and the rest of its event.
    pub fn wait_for(&mut self, text: &str) {
        let deadline = Instant::now() + PATIENCE;
        let has_come =
            |seen: &str| seen.split_once(text).is_some_and(|(_, rest)| rest.contains("\n\n"));
        while !has_come(&self.seen) {
            assert!(Instant::now() < deadline, "never: {text}");
            let mut piece = vec![0; 64 << 10];
            let read = self.stream.read(&mut piece).unwrap();
            assert!(read > 0, "it ended without {text}: {}", self.seen);
            self.seen.push_str(&String::from_utf8_lossy(&piece[..read]));
        }
    }

    /// The data of the last event of that kind so far.
    pub fn last(&self, kind: &str) -> serde_json::Value {
        self.all(kind).pop().expect(kind)
    }

    /// The id of the first event with this text.
    pub fn id(&self, text: &str) -> &str {
        let event = self.seen.split("\n\n").find(|event| event.contains(text)).expect(text);
        event.lines().find_map(|line| line.strip_prefix("id: ")).expect("an id")
    }

    /// The data of all events of that kind so far.
    pub fn all(&self, kind: &str) -> Vec<serde_json::Value> {
        let begins = format!("event: {kind}\ndata: ");
        let events = self.seen.split(&begins).skip(1);
        events.map(|event| serde_json::from_str(event.lines().next().unwrap()).unwrap()).collect()
    }
}
