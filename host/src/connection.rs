//! One client connection: read a request, have it answered, write the answer,
//! again; each step within its time.

use std::io;
use std::net::SocketAddr;
use std::ops::Range;
use std::time::{Duration, SystemTime};

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, Interest};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};

use crate::http::{
    BodyLength, ChunkedDecoder, Head, HeadScanner, Malformed, Reject, Version, error_response,
    prepare,
};
use crate::log::{self, Access};
use crate::pool::{Busy, Done};
use crate::sandbox::CallError;
use crate::server::Shared;

/// Bytes that one read from a client may bring at first.
const READ: usize = 8 << 10;

/// Bytes by which the buffer of a long body grows.
const READ_BODY: usize = 256 << 10;

/// Bodies up to this many bytes are copied behind the head and leave in one write.
const ONE_WRITE: usize = 64 << 10;

/// Bytes of a request line that are looked at for the log.
const MAX_LINE: usize = 1 << 10;

/// How long, and how much, a rejected client is listened to after its answer, so
/// that a reset does not overtake it.
const LINGER: Duration = Duration::from_secs(5);
const LINGER_DRAINING: Duration = Duration::from_millis(100);
const LINGER_BYTES: usize = 64 << 20;

/// Serves a client until it is done, misbehaves or falls silent.
pub(crate) async fn serve(shared: &Shared, stream: TcpStream, client: SocketAddr) {
    let buffer = BytesMut::new();
    let mut connection = Connection { shared, stream, client, buffer, line: None };
    loop {
        let next = match connection.read_request().await {
            Ok(request) => connection.answer(request).await,
            Err(Unserved::Gone) => Next::Close,
            Err(Unserved::Rejected { line, status, why }) => {
                connection.reject(&line, status, &why).await
            }
        };
        match next {
            Next::KeepOpen => {}
            Next::Close => return,
            Next::Linger => return connection.linger().await,
        }
    }
}

struct Connection<'a> {
    shared: &'a Shared,
    stream: TcpStream,
    client: SocketAddr,
    /// What was read and not yet used: the start of the next request.
    buffer: BytesMut,
    /// Of the request that is being read, once its head is whole.
    line: Option<Line>,
}

/// A whole request.
struct Request {
    head: Head,
    line: Line,
    /// The message for the handler.
    message: Vec<u8>,
}

/// Why there is no request to serve.
enum Unserved {
    /// The client closed, broke off or fell silent between two requests.
    Gone,
    /// It is told so, and the connection closes.
    Rejected { line: Line, status: u16, why: String },
}

/// A request's method and target for the log, as far as they can be made out.
#[derive(Debug, Default)]
struct Line {
    bytes: Box<[u8]>,
    method: Range<usize>,
    target: Range<usize>,
}

impl Line {
    fn of(buffer: &[u8]) -> Self {
        let end = buffer.iter().take(MAX_LINE).take_while(|byte| !byte.is_ascii_control()).count();
        let bytes: Box<[u8]> = buffer.get(..end).unwrap_or_default().into();
        let mut words = bytes.split(|byte| *byte == b' ').map(<[u8]>::len);
        let method = 0..words.next().unwrap_or_default();
        let start = (method.end + 1).min(end);
        let target = start..start + words.next().unwrap_or_default();
        Self { bytes, method, target }
    }

    fn method(&self) -> &[u8] {
        self.bytes.get(self.method.clone()).unwrap_or_default()
    }

    fn target(&self) -> &[u8] {
        self.bytes.get(self.target.clone()).unwrap_or_default()
    }
}

impl From<io::Error> for Unserved {
    fn from(_: io::Error) -> Self {
        Self::Gone
    }
}

impl From<Reject> for Unserved {
    fn from(reject: Reject) -> Self {
        Self::Rejected { line: Line::default(), status: reject.status(), why: reject.to_string() }
    }
}

/// What becomes of the connection.
enum Next {
    KeepOpen,
    Close,
    Linger,
}

impl Connection<'_> {
    async fn read_request(&mut self) -> Result<Request, Unserved> {
        self.await_first_byte().await?;
        match self.read_whole().await {
            Err(Unserved::Rejected { status, why, .. }) => {
                // The head may have been taken out of the buffer already.
                let line = self.line.take().unwrap_or_else(|| Line::of(&self.buffer));
                Err(Unserved::Rejected { line, status, why })
            }
            read => read,
        }
    }

    async fn read_whole(&mut self) -> Result<Request, Unserved> {
        let limits = &self.shared.limits;
        let by = Instant::now() + limits.header_timeout;
        let mut scanner = HeadScanner::default();
        let head = loop {
            match scanner.scan(&self.buffer, limits.max_request)? {
                Some(head) => break head,
                None => self.read_more(READ, by, "the request's head took too long").await?,
            }
        };
        self.line = Some(Line::of(&self.buffer));
        let message = self.read_body(&head).await?;
        Ok(Request { head, line: self.line.take().unwrap_or_default(), message })
    }

    /// Waits for a request to begin, with no buffer held meanwhile. Passes over
    /// empty lines before it (RFC 9112, 2.2).
    async fn await_first_byte(&mut self) -> Result<(), Unserved> {
        let by = Instant::now() + self.shared.limits.idle_timeout;
        loop {
            while self.buffer.starts_with(b"\r\n") {
                self.buffer.advance(2);
            }
            if !self.buffer.is_empty() && *self.buffer != b"\r"[..] {
                return Ok(());
            }
            if self.buffer.is_empty() {
                self.buffer = BytesMut::new();
            }
            let mut draining = self.shared.draining.clone();
            tokio::select! {
                biased;
                readable = timeout_at(by, self.stream.readable()) => match readable {
                    Ok(ready) => ready?,
                    Err(_) => return Err(Unserved::Gone),
                },
                _ = draining.wait_for(|draining| *draining) => return Err(Unserved::Gone),
            }
            self.buffer.reserve(READ);
            // It may be ready no more, which only an attempt can tell.
            match self.stream.try_read_buf(&mut self.buffer) {
                Ok(1..) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Ok(0) | Err(_) => return Err(Unserved::Gone),
            }
        }
    }

    async fn read_more(&mut self, room: usize, by: Instant, late: &str) -> Result<(), Unserved> {
        self.buffer.reserve(room);
        let mut draining = self.shared.draining.clone();
        let (status, why) = tokio::select! {
            biased;
            read = self.stream.read_buf(&mut self.buffer) => match read? {
                0 => return Err(Unserved::Gone),
                _ => return Ok(()),
            },
            () = sleep_until(by) => (408, format!("Request timeout: {late}")),
            // It would be refused anyway when it is whole.
            _ = draining.wait_for(|draining| *draining) => (503, Failure::Draining.text().into()),
        };
        Err(Unserved::Rejected { line: Line::default(), status, why })
    }

    /// Reads the body and takes the whole request out of the buffer.
    async fn read_body(&mut self, head: &Head) -> Result<Vec<u8>, Unserved> {
        const LATE: &str = "the request's body took too long";
        let by = Instant::now() + self.shared.limits.body_timeout;
        let mut told = !head.expects_continue;
        let message = match head.body {
            BodyLength::Bytes(length) => {
                let end = head.length + length;
                while self.buffer.len() < end {
                    self.tell_to_continue(&mut told, by).await?;
                    let room = (end - self.buffer.len()).clamp(READ, READ_BODY);
                    self.read_more(room, by, LATE).await?;
                }
                let request = self.buffer.split_to(end);
                let (start, body) = request.split_at(head.length);
                head.request(start, body)
            }
            BodyLength::Chunked => {
                let start = self.buffer.split_to(head.length);
                let mut decoder = ChunkedDecoder::new(self.shared.limits.max_request);
                let mut body = Vec::new();
                loop {
                    let used = decoder.decode(&self.buffer, &mut body)?;
                    self.buffer.advance(used);
                    if decoder.is_done() {
                        break head.request(&start, &body);
                    }
                    self.tell_to_continue(&mut told, by).await?;
                    self.read_more(READ_BODY, by, LATE).await?;
                }
            }
        };
        Ok(message)
    }

    /// Sends the 100 that the client waits for, once and only if it must wait.
    async fn tell_to_continue(&mut self, told: &mut bool, by: Instant) -> Result<(), Unserved> {
        if !std::mem::replace(told, true) {
            let interim = self.stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n");
            timeout_at(by, interim).await.map_err(|_| Unserved::Gone)??;
        }
        Ok(())
    }

    async fn answer(&mut self, request: Request) -> Next {
        let Request { head, line, message } = request;
        let number = self.shared.metrics.next_request();
        let http10 = head.version == Version::Http10;
        let now = SystemTime::now();

        let mut access = Access {
            number,
            client: self.client,
            method: line.method(),
            target: line.target(),
            status: 0,
            bytes: 0,
            handler: Duration::ZERO,
            worker: 0,
            pool: self.shared.metrics.snapshot(),
            error: None,
        };
        let draining = || *self.shared.draining.borrow();
        let outcome = match draining() {
            true => Err(Failure::Draining),
            false => tokio::select! {
                biased;
                done = self.shared.pool.run(message) => done.map_err(|Busy| Failure::Busy),
                () = reset(&self.stream) => Err(Failure::ClientGone),
            },
        };
        let keep_alive = head.keep_alive && !draining();
        let result = outcome.and_then(|Done { call, worker }| {
            log::captured(number, &call.captured);
            (access.handler, access.worker) = (call.elapsed, worker);
            let response = call.result?;
            let outgoing = prepare(&response, head.is_head, keep_alive, http10, now)?;
            Ok((outgoing, response))
        });
        access.pool = self.shared.metrics.snapshot();
        let written = match &result {
            Ok((outgoing, response)) => {
                let body = response.get(outgoing.body_start..).unwrap_or_default();
                access.status = outgoing.status;
                access.bytes = outgoing.head.len() + body.len();
                self.write(&outgoing.head, body).await
            }
            Err(failure) => {
                let status = failure.status();
                let text = failure.text();
                let response = error_response(status, text, head.is_head, keep_alive, http10, now);
                access.status = status;
                access.bytes = response.len();
                access.error = Some(failure);
                self.write(&response, &[]).await
            }
        };
        access.write();
        match written {
            Ok(()) if keep_alive => Next::KeepOpen,
            // What the client sent beyond this request would cause a reset.
            Ok(()) => Next::Linger,
            Err(_) => Next::Close,
        }
    }

    async fn reject(&mut self, line: &Line, status: u16, why: &str) -> Next {
        let is_head = line.method() == b"HEAD";
        let response = error_response(status, why, is_head, false, false, SystemTime::now());
        Access {
            number: self.shared.metrics.next_request(),
            client: self.client,
            method: line.method(),
            target: line.target(),
            status,
            bytes: response.len(),
            handler: Duration::ZERO,
            worker: 0,
            pool: self.shared.metrics.snapshot(),
            error: Some(&why),
        }
        .write();
        match self.write(&response, &[]).await {
            Ok(()) => Next::Linger,
            Err(_) => Next::Close,
        }
    }

    /// Writes a response within the write timeout: in one piece if it is small.
    async fn write(&mut self, head: &[u8], body: &[u8]) -> io::Result<()> {
        let stream = &mut self.stream;
        let write = async {
            if body.is_empty() {
                stream.write_all(head).await
            } else if body.len() <= ONE_WRITE {
                stream.write_all(&[head, body].concat()).await
            } else {
                let mut parts = bytes::Buf::chain(head, body);
                stream.write_all_buf(&mut parts).await
            }
        };
        timeout(self.shared.limits.write_timeout, write).await?
    }

    /// Ends the connection in the client's own time, within bounds: what it
    /// still sends is read and dropped, so that it gets to see its answer.
    async fn linger(mut self) {
        if self.stream.shutdown().await.is_err() {
            return;
        }
        self.buffer.clear();
        let mut left = LINGER_BYTES;
        let drop_input = async {
            while left > 0 {
                self.buffer.clear();
                self.buffer.reserve(READ);
                match self.stream.read_buf(&mut self.buffer).await {
                    Ok(read @ 1..) => left = left.saturating_sub(read),
                    Ok(0) | Err(_) => return,
                }
            }
        };
        let mut draining = self.shared.draining.clone();
        tokio::select! {
            () = drop_input => {}
            // A client that goes on for longer has had its chance.
            () = sleep(LINGER) => {}
            () = async {
                let _ = draining.wait_for(|draining| *draining).await;
                sleep(LINGER_DRAINING).await;
            } => {}
        }
    }
}

/// Resolves when the client has broken the connection off. One that has only said
/// all it has to say still waits for its answer.
async fn reset(stream: &TcpStream) {
    loop {
        match stream.ready(Interest::ERROR).await {
            Ok(ready) if !ready.is_error() => tokio::task::yield_now().await,
            Ok(_) | Err(_) => return,
        }
    }
}

/// Why a request does not get its handler's answer.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("the client broke the connection off")]
    ClientGone,
    #[error("the queue is full")]
    Busy,
    #[error("the server is shutting down")]
    Draining,
    #[error(transparent)]
    Call(#[from] CallError),
    #[error(transparent)]
    Malformed(#[from] Malformed),
}

impl Failure {
    fn status(&self) -> u16 {
        match self {
            // Nobody reads it; the log has it, in nginx's way.
            Self::ClientGone => 499,
            Self::Busy | Self::Draining => 503,
            Self::Call(CallError::Deadline) => 504,
            Self::Call(CallError::TooLong) | Self::Malformed(_) => 502,
            Self::Call(_) => 500,
        }
    }

    /// What the client is told: what happened, and nothing of the insides.
    fn text(&self) -> &'static str {
        match self {
            Self::ClientGone => "The client is gone",
            Self::Busy => "All workers are busy: try again in a moment",
            Self::Draining => "The server is shutting down: try again in a moment",
            Self::Call(CallError::Deadline) => "The handler did not answer in time",
            Self::Call(CallError::TooLong) => "The handler's response is too long",
            Self::Call(CallError::OutOfMemory) => "The handler ran out of memory",
            Self::Call(_) => "The handler failed",
            Self::Malformed(_) => "The handler's response is not well-formed",
        }
    }
}
