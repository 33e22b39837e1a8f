//! One client connection: read a request, have it answered, write the answer,
//! again; each phase within its time.

mod answer;
mod body;
mod departure;
mod ended;
mod failure;
mod farewell;
mod first_read;
mod opening;
mod phase_timer;
mod request_line;
mod running;
mod traced;

use std::fmt::Write as _;
use std::future::{poll_fn, ready};
use std::io;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Instant, SystemTime};

use bytes::{BufMut as _, BytesMut};
use http1::{
    Awaited, Framing, MAX_RESPONSE_HEAD, Malformed, Outgoing, Persistence, Reject, Reply, Request,
    Version, prepare_start,
};
use sandbox::SpooledBody;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::yield_now;

use self::answer::{LINGER_BYTES, flush, linger, write};
use self::failure::Failure;
pub(super) use self::farewell::turn_away;
use self::first_read::read_first;
use self::opening::{Opened, open};
use self::phase_timer::{Phase, PhaseTimer, Stop};
use self::request_line::RequestLine;
use self::traced::enter;
use crate::front::clients::{ConnectionLease, Full};
use crate::front::context::Context;
use crate::front::socket::{Peer, Socket};
use crate::front::spool::{IN_MEMORY, SpoolFile};
use crate::front::stream::Stream;
use crate::observe::log::{self, AccessLogEntry};
use crate::observe::traces::Stage;
use crate::pool::Payload;

/// An interim response, which every HTTP/1.1 client must pass over (RFC 9110, 15.2).
const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// Bytes of a response that mostly hold its head.
const USUAL_HEAD: usize = 2 << 10;

/// Serves a client until it is done, misbehaves or falls silent.
pub(crate) async fn serve(
    context: &Arc<Context>,
    lease: ConnectionLease,
    socket: Socket,
    peer: Peer,
) {
    if socket.set_nodelay().is_err() {
        return;
    }
    let mut timer = PhaseTimer::new(&context.limits, context.draining.clone());
    let opened = open(context, &mut timer, lease, socket, peer).await;
    let Some(Opened { lease, stream, client }) = opened else { return };
    let (client, address) = (client.to_string(), client.ip());
    let mut connection = Connection {
        context,
        lease,
        stream,
        client: &client,
        address,
        timer,
        framing: Framing::new(
            context.limits.max_request,
            IN_MEMORY.min(context.limits.max_message),
        ),
        buffer: BytesMut::new(),
        began: None,
    };
    loop {
        let next = match connection.read_request().await {
            Ok((request, body)) => connection.answer(request, body).await,
            Err(Unserved::Gone) if connection.is_in_body() => {
                connection.reject(Failure::ClientGone).await
            }
            // What the client has not taken yet would be lost with a reset, if it sends more.
            Err(Unserved::Gone) if connection.stream.socket().unsent() > 0 => Next::Linger,
            Err(Unserved::Gone) => Next::Close,
            Err(Unserved::Failed(failure)) => connection.reject(failure).await,
        };
        match next {
            Next::KeepOpen => {}
            Next::Pause => connection.timer.pause().await,
            Next::Close => return,
            Next::Linger => return connection.linger().await,
        }
    }
}

/// How a client is answered whose connection then closes.
fn last_reply(is_head: bool) -> Reply {
    Reply { is_head, persistence: Persistence::Close, now: SystemTime::now() }
}

/// What of a response goes to the client. Few heads are long, and what lies with a worker is copied
/// before it is looked at.
fn outgoing(response: &Payload, reply: &Reply) -> Result<Outgoing, Malformed> {
    match prepare_start(&response.start(USUAL_HEAD), response.len(), reply) {
        Err(Malformed::Head) if response.len() > USUAL_HEAD => {
            prepare_start(&response.start(MAX_RESPONSE_HEAD), response.len(), reply)
        }
        outgoing => outgoing,
    }
}

struct Connection<'a> {
    context: &'a Context,
    lease: ConnectionLease,
    stream: Stream,
    /// The client's address and port, as the log has them.
    client: &'a str,
    /// The client's address, as its handler is told.
    address: Option<IpAddr>,
    timer: PhaseTimer<'a>,
    framing: Framing,
    /// What was read and not yet used: the start of the next request.
    buffer: BytesMut,
    /// When the first bytes of the request came, unless they came with those of the one before.
    began: Option<Instant>,
}

/// Why there is no request to serve.
enum Unserved {
    /// The client closed, broke off or fell silent, and is not told anything.
    Gone,
    /// The client is told so, and the connection closes.
    Failed(Failure),
}

impl From<Reject> for Unserved {
    fn from(reject: Reject) -> Self {
        Self::Failed(Failure::Rejected(reject))
    }
}

impl From<Failure> for Unserved {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl From<Full> for Unserved {
    fn from(_: Full) -> Self {
        Self::Failed(Failure::Full)
    }
}

impl From<Stop> for Unserved {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::Late(Phase::Head) => Self::Failed(Failure::LateHead),
            Stop::Late(Phase::Body) => Self::Failed(Failure::LateBody),
            Stop::Draining(Phase::Head) => Self::Failed(Failure::Draining),
            Stop::Gone | Stop::Shortened | Stop::File(_) | Stop::Late(_) | Stop::Draining(_) => {
                Self::Gone
            }
        }
    }
}

/// What becomes of the connection.
enum Next {
    KeepOpen,
    /// The client was refused: it is heard again in a moment.
    Pause,
    Close,
    Linger,
}

impl<'a> Connection<'a> {
    /// The next request, and its body where that waits in a file.
    async fn read_request(&mut self) -> Result<(Request, Option<SpooledBody>), Unserved> {
        // Also between pipelined requests, so that each answer has a time of its own.
        self.timer.enter(Phase::Idle);
        self.began = None;
        let mut told = false;
        let mut has_read = false;
        let mut spooled = None;
        loop {
            let request = self.framing.step(&mut self.buffer)?;
            self.refuse_too_long()?;
            let piece = self.framing.take_piece();
            if !piece.is_empty() {
                // (Boxed, since every connection would hold room for it.)
                Box::pin(self.spool(piece, &mut spooled)).await?;
            }
            if let Some(request) = request {
                let body = spooled.map(SpoolFile::finish).transpose().map_err(Failure::from)?;
                return Ok((request, body));
            }
            if std::mem::replace(&mut has_read, true) {
                // A client that is always ready must not keep others waiting.
                yield_now().await;
            }
            self.timer.enter(match self.framing.awaited(&self.buffer) {
                Awaited::Start => Phase::Idle,
                Awaited::Head => Phase::Head,
                Awaited::Body => Phase::Body,
            });
            if self.framing.expects_continue() && !std::mem::replace(&mut told, true) {
                self.timer.wait(self.stream.write_all(CONTINUE)).await?;
            }
            match self.framing.announced_rest() {
                Some(left) if self.stream.plain().is_some() => {
                    Box::pin(self.receive(&mut spooled, left)).await?;
                }
                _ => self.read().await?,
            }
            self.began.get_or_insert_with(Instant::now);
        }
    }

    /// Whether a request's head is there, and not all of its body.
    fn is_in_body(&self) -> bool {
        self.framing.awaited(&self.buffer) == Awaited::Body
    }

    /// Waits for bytes and takes what there is. While nothing comes, an idle connection
    /// holds no room for it.
    async fn read(&mut self) -> Result<(), Unserved> {
        let readable = self.stream.readable();
        if self.framing.awaited(&self.buffer) == Awaited::Start {
            if self.buffer.is_empty() {
                self.buffer = BytesMut::new();
            }
            self.lease.hold(0)?;
            self.timer.wait_idle(readable, &self.lease).await?;
            return match read_first(&mut self.stream, &mut self.buffer).await {
                Ok(1..) => Ok(()),
                // It was not ready after all.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
                Ok(0) | Err(_) => Err(Unserved::Gone),
            };
        }
        if self.framing.long_body() > 0 && self.buffer.is_empty() {
            let mut readable = pin!(readable);
            if poll_fn(|context| Poll::Ready(readable.as_mut().poll(context).is_ready())).await {
                self.timer.wait(ready(Ok(()))).await?;
            } else {
                // Whoever sends slowly holds no room for what he has not sent.
                self.buffer = BytesMut::new();
                self.lease.hold(self.framing.digested())?;
                self.timer.wait(readable).await?;
            }
        } else {
            self.timer.wait(readable).await?;
        }
        let room = self.framing.room(&self.buffer);
        self.lease.hold(self.framing.digested() + self.buffer.len() + room)?;
        self.buffer.reserve(room);
        let mut buffer = (&mut self.buffer).limit(room);
        tokio::select! {
            biased;
            // Unlike `try_read_buf`, this takes a read that does not fill the buffer as the
            // last one, and so saves another that would find nothing.
            read = self.stream.read_buf(&mut buffer) => match read {
                Ok(read @ 1..) => {
                    self.timer.progress(read);
                    Ok(())
                }
                Ok(0) | Err(_) => Err(Unserved::Gone),
            },
            // It was not ready after all.
            () = ready(()) => Ok(()),
        }
    }

    async fn answer(&mut self, request: Request, body: Option<SpooledBody>) -> Next {
        let Request { head, message } = request;
        let began = self.began.unwrap_or_else(Instant::now);
        let line = RequestLine::of(&message);
        let number = self.context.metrics.next_request();
        let generation = self.context.routes.find(request_line::target(&message));
        let mut trace = self.trace(&message, began);
        let outcome =
            self.run(generation.as_deref(), &head, number, message, body, &mut trace).await;

        let ends = self.timer.is_draining() || self.timer.gives_way();
        let keeps = self.context.lifecycle.keeps_connections() && !ends;
        let keep_alive = head.keep_alive && keeps;
        let reply = Reply {
            is_head: head.is_head,
            persistence: match (keep_alive, head.version) {
                (false, _) => Persistence::Close,
                (true, Version::Http11) => Persistence::KeepAlive,
                (true, Version::Http10) => Persistence::KeepAliveExplicit,
            },
            now: SystemTime::now(),
        };
        let mut access = self.access(&line, number);
        let mut why = None;
        let result = outcome.and_then(|done| {
            if let (Some(cause), Some(generation)) = (done.call.cause, &generation) {
                why = cause.host_call.or(cause.reason);
                let symbols = generation.symbols.clone();
                log::backtrace(number, cause.frames, symbols, &generation.output);
            }
            (access.handler, access.worker) = (done.call.elapsed, done.worker);
            access.denials = done.call.denials;
            let response = done.call.result?;
            let outgoing = outgoing(&response, &reply)?;
            let overhead = self.stream.overhead(response.len());
            self.lease.hold(response.held() + overhead + self.buffer.len())?;
            Ok((outgoing, response))
        });
        if !matches!(result, Err(Failure::ClientGone)) {
            enter(&mut trace, Stage::Write);
        }
        let next = match result {
            Ok((outgoing, response)) => {
                let body = response.skip(outgoing.body_start);
                access.status = outgoing.status;
                let written = self.write(outgoing.head, body, &mut access).await;
                self.next(written, reply.persistence, &mut access)
            }
            Err(failure) => {
                let next = self.fail(&failure, &reply, &mut access).await;
                if let (Some(error), Some(why)) = (&mut access.error, why) {
                    // By the word of a worker, which may have been taken over.
                    let _ = write!(error, ": {}", printable::line(&why));
                }
                next
            }
        };
        self.ended(&access, began, generation.as_deref(), trace);
        // What was held for the answer is no longer; to hold less never fails.
        let _ = self.lease.hold(self.buffer.len());
        next
    }

    /// Answers what did not become a request.
    async fn reject(&mut self, failure: Failure) -> Next {
        let began = self.began.unwrap_or_else(Instant::now);
        let start = self.framing.start(&self.buffer);
        let (line, mut trace) = (RequestLine::of(start), self.trace(&[], began));
        let mut access = self.access(&line, self.context.metrics.next_request());
        let reply = last_reply(line.method() == b"HEAD");
        if !matches!(failure, Failure::ClientGone) {
            enter(&mut trace, Stage::Write);
        }
        let next = self.fail(&failure, &reply, &mut access).await;
        self.ended(&access, began, None, trace);
        next
    }

    /// Writes a response, and counts what of it goes out.
    async fn write(
        &mut self,
        head: Vec<u8>,
        body: Payload,
        access: &mut AccessLogEntry<'_>,
    ) -> Result<(), Stop> {
        write(&mut self.stream, &mut self.timer, head, body, &mut access.bytes).await?;
        flush(&mut self.stream, &mut self.timer, access.bytes).await
    }

    fn next(
        &self,
        written: Result<(), Stop>,
        persistence: Persistence,
        access: &mut AccessLogEntry<'_>,
    ) -> Next {
        match written {
            Ok(()) if persistence != Persistence::Close => Next::KeepOpen,
            // What the client sent beyond this request would cause a reset.
            Ok(()) => Next::Linger,
            Err(stop) => {
                access.error.get_or_insert_with(|| stop.to_string());
                // The kernel, too, lets go of what the client does not take.
                self.stream.socket().reset_on_close();
                Next::Close
            }
        }
    }

    async fn linger(mut self) {
        // Of a body without a length there may be as much as of any that is taken.
        let body =
            self.framing.outstanding(&self.buffer).unwrap_or(self.context.limits.max_request);
        drop((self.buffer, self.framing));
        let _ = self.lease.hold(0);
        linger(&mut self.stream, &mut self.timer, body.saturating_add(LINGER_BYTES)).await;
    }
}
