//! A client that speaks raw bytes.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::PATIENCE;

/// A client's end of a connection.
pub struct Client<S = TcpStream> {
    pub stream: S,
    read: Vec<u8>,
    /// How long it waits before each read.
    pause: Duration,
}

#[derive(Debug, PartialEq, Eq)]
pub struct Response {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Response {
    /// The one response of a connection that then ends.
    pub fn until_the_end(stream: &mut impl Read) -> Self {
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let end = answer.windows(4).position(|four| four == b"\r\n\r\n").expect("a head") + 4;
        let head = String::from_utf8(answer[..end].to_vec()).unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Self { status, head, body: answer[end..].to_vec() }
    }

    pub fn field(&self, name: &str) -> Option<&str> {
        self.head.split("\r\n").skip(1).find_map(|line| {
            let (key, value) = line.split_once(": ")?;
            key.eq_ignore_ascii_case(name).then_some(value)
        })
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

impl Client {
    pub fn connect(port: u16) -> Self {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        Self::new(TcpStream::connect_timeout(&address, PATIENCE).unwrap())
    }

    pub fn new(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self::over(stream)
    }

    /// Whether the server has anything to say before it closes the connection.
    pub fn has_more(&mut self) -> bool {
        !self.read.is_empty() || self.stream.peek(&mut [0]).is_ok_and(|read| read > 0)
    }
}

impl<S: Read + Write> Client<S> {
    /// By a connection that was made already.
    pub fn over(stream: S) -> Self {
        Self { stream, read: Vec::new(), pause: Duration::ZERO }
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).unwrap();
    }

    /// Sends this again and again until the server has closed the connection.
    pub fn send_until_closed(&mut self, bytes: &[u8]) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.stream.write_all(bytes) {
                Ok(()) => assert!(Instant::now() < deadline, "the server never has enough"),
                Err(error) => {
                    let closed = [ErrorKind::BrokenPipe, ErrorKind::ConnectionReset];
                    assert!(closed.contains(&error.kind()), "{error}");
                    return;
                }
            }
        }
    }

    pub fn request(&mut self, method: &str, target: &str, body: &[u8]) -> Response {
        let length = body.len();
        let head =
            format!("{method} {target} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n");
        self.send([head.as_bytes(), body].concat());
        self.response_to(method)
    }

    pub fn response(&mut self) -> Response {
        self.response_to("GET")
    }

    /// Reads exactly one response, with a pause after each read.
    pub fn response_slowly(&mut self, pause: Duration) -> Response {
        self.pause = pause;
        self.response()
    }

    /// Reads exactly one response; what follows it stays for the next.
    pub fn response_to(&mut self, method: &str) -> Response {
        let end = loop {
            if let Some(at) = self.read.windows(4).position(|window| window == b"\r\n\r\n") {
                break at + 4;
            }
            assert!(self.read_more(), "the connection ended in a head: {:?}", self.shown());
        };
        let head = String::from_utf8(self.read.drain(..end).collect()).unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let mut response = Response { status, head, body: Vec::new() };
        let length = match (method, status) {
            ("HEAD", _) | (_, 100..200 | 204 | 304) => 0,
            _ => response.field("content-length").map_or(0, |length| length.parse().unwrap()),
        };
        while self.read.len() < length {
            assert!(self.read_more(), "the connection ended in a body: {}", response.head);
        }
        response.body = self.read.drain(..length).collect();
        response
    }

    /// Whether the server has closed the connection, with nothing more to say.
    pub fn is_closed(&mut self) -> bool {
        self.read.is_empty() && !self.read_more()
    }

    /// Takes what comes, with a pause before each piece, until the server ends the connection, well or not. Says how many
    /// bytes that were.
    pub fn rest_slowly(&mut self, pause: Duration) -> usize {
        self.pause = pause;
        while let Ok(1..) = self.read_piece() {}
        self.read.len()
    }

    fn read_more(&mut self) -> bool {
        self.read_piece().unwrap() > 0
    }

    fn read_piece(&mut self) -> io::Result<usize> {
        let mut buffer = [0; 64 << 10];
        std::thread::sleep(self.pause);
        let read = self.stream.read(&mut buffer)?;
        self.read.extend_from_slice(&buffer[..read]);
        Ok(read)
    }

    fn shown(&self) -> String {
        String::from_utf8_lossy(&self.read).into_owned()
    }
}
