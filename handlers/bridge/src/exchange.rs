//! The exchange: a request of `wasi:http` as a message, a message as its response.
//!
//! Each function that is imported costs an instance a little, whether or not it is called. So no resource is given
//! back that ends with the instance, and a caller says how a body is written.

use alloc::format;
use alloc::vec::Vec;
use core::mem::ManuallyDrop;
use core::ops::RangeInclusive;

use wasip2::http::types::{
    ErrorCode, Fields, IncomingRequest, Method, OutgoingBody, OutgoingResponse, ResponseOutparam,
};
use wasip2::io::streams::{InputStream, OutputStream, StreamError};

use crate::response::Response;

/// Bytes of a request's body, all of which is held in memory.
const MAX_BODY: usize = 64 << 20;

/// Bytes that are read of a request's body at a time: as many as there are already, within this. What is
/// read at first fits into the memory that the instance starts with.
const CHUNK: RangeInclusive<usize> = 4 << 10..=64 << 10;

/// Fields of a response that are the server's to set.
const FORBIDDEN: [&str; 10] = [
    "connection",
    "host",
    "http2-settings",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "transfer-encoding",
    "upgrade",
];

/// Fields of a request that are between client and server, and two that are written anew.
const DROPPED: [&str; 10] = [
    "connection",
    "content-length",
    "expect",
    "host",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Responds with a message, to a HEAD request or to another, whose body `write` writes.
pub fn respond(
    out: ResponseOutparam,
    message: &[u8],
    is_head: bool,
    write: impl FnOnce(&OutputStream, &[u8]) -> Result<(), StreamError>,
) {
    match Response::parse(message, is_head).and_then(Outgoing::new) {
        // Where there is no body, Content-Length may say how long another would be: so none is begun.
        Some(response) if response.body.is_empty() => response.send(out, None::<fn(&_) -> _>),
        Some(response) => {
            let body = response.body;
            response.send(out, Some(|stream: &_| write(stream, body)));
        }
        None => ResponseOutparam::set(out, Err(ErrorCode::HttpProtocolError)),
    }
}

/// Responds with the head of a message, and a body that `write` writes, as long as the head says.
pub fn respond_with(
    out: ResponseOutparam,
    head: &[u8],
    write: impl FnOnce(&OutputStream) -> Result<(), StreamError>,
) {
    match Response::parse(head, true).and_then(Outgoing::new) {
        Some(response) => response.send(out, Some(write)),
        None => ResponseOutparam::set(out, Err(ErrorCode::HttpProtocolError)),
    }
}

/// The request as one message.
///
/// # Errors
/// What is wrong with it, or with its body.
pub fn message(request: &IncomingRequest) -> Result<Vec<u8>, ErrorCode> {
    let (mut message, length) = fields(request)?;
    let method = request.method();
    let head = message.len();
    read_body(request, &mut message)?;
    let has_length =
        length.is_some() || matches!(method, Method::Post | Method::Put | Method::Patch);
    let length = message.len() - head;
    let end = match has_length || length > 0 {
        true => format!("Content-Length: {length}\r\n\r\n"),
        false => "\r\n".into(),
    };
    message.splice(head..head, end.into_bytes());
    Ok(message)
}

/// The request's head as that of a message, and its body's stream; `None` where the length of that is not said.
///
/// # Errors
/// What is wrong with the request.
pub fn streamed(request: &IncomingRequest) -> Result<Option<(Vec<u8>, InputStream)>, ErrorCode> {
    let (mut head, length) = fields(request)?;
    let Some(length) = length else { return Ok(None) };
    line(&mut head, &[b"Content-Length: ", &length])?;
    head.extend_from_slice(b"\r\n");
    let taken = |()| ErrorCode::InternalError(None);
    let body = ManuallyDrop::new(request.consume().map_err(taken)?);
    Ok(Some((head, body.stream().map_err(taken)?)))
}

/// The request's head, but for the length of its body, which is the second.
fn fields(request: &IncomingRequest) -> Result<(Vec<u8>, Option<Vec<u8>>), ErrorCode> {
    let method = request.method();
    let path = request.path_with_query().filter(|path| !path.is_empty());
    let path = path.as_deref().unwrap_or(match method {
        Method::Options => "*",
        _ => "/",
    });
    let fields = ManuallyDrop::new(request.headers()).entries();
    let is = |name: &str, other| name.eq_ignore_ascii_case(other);
    let host = match request.authority() {
        Some(authority) => authority.into_bytes(),
        None => {
            let host = fields.iter().find(|(name, _)| is(name, "host"));
            // The field must be there, if need be without a value.
            host.map(|(_, value)| value.clone()).unwrap_or_default()
        }
    };

    let mut message = Vec::new();
    line(&mut message, &[name(&method).as_bytes(), b" ", path.as_bytes(), b" HTTP/1.1"])?;
    line(&mut message, &[b"Host: ", &host])?;
    for (name, value) in &fields {
        if !DROPPED.iter().any(|dropped| is(name, dropped)) {
            line(&mut message, &[name.as_bytes(), b": ", value])?;
        }
    }
    let length = fields.into_iter().find(|(name, _)| is(name, "content-length"));
    Ok((message, length.map(|(_, length)| length)))
}

/// Appends a line, unless its parts would make several of it.
fn line(message: &mut Vec<u8>, parts: &[&[u8]]) -> Result<(), ErrorCode> {
    for part in parts {
        if part.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)) {
            return Err(ErrorCode::HttpProtocolError);
        }
        message.extend_from_slice(part);
    }
    message.extend_from_slice(b"\r\n");
    Ok(())
}

fn name(method: &Method) -> &str {
    match method {
        Method::Get => "GET",
        Method::Head => "HEAD",
        Method::Post => "POST",
        Method::Put => "PUT",
        Method::Delete => "DELETE",
        Method::Connect => "CONNECT",
        Method::Options => "OPTIONS",
        Method::Trace => "TRACE",
        Method::Patch => "PATCH",
        Method::Other(name) => name,
    }
}

/// Appends the request's body.
fn read_body(request: &IncomingRequest, message: &mut Vec<u8>) -> Result<(), ErrorCode> {
    let taken = |()| ErrorCode::InternalError(None);
    let most = message.len() + MAX_BODY;
    let body = ManuallyDrop::new(request.consume().map_err(taken)?);
    let stream = ManuallyDrop::new(body.stream().map_err(taken)?);
    loop {
        let chunk = message.len().clamp(*CHUNK.start(), *CHUNK.end());
        match runtime::append(message, chunk, || stream.blocking_read(chunk as u64)) {
            Ok(_) if message.len() > most => {
                return Err(ErrorCode::HttpRequestBodySize(Some(MAX_BODY as u64)));
            }
            Ok(_) => {}
            Err(StreamError::Closed) => return Ok(()),
            Err(StreamError::LastOperationFailed(_)) => {
                return Err(ErrorCode::ConnectionTerminated);
            }
        }
    }
}

/// A response that the server takes.
struct Outgoing<'a> {
    response: ManuallyDrop<OutgoingResponse>,
    body: &'a [u8],
}

impl<'a> Outgoing<'a> {
    /// The response; `None` if the server finds a field malformed. A field that is the server's to set is
    /// left out.
    fn new(Response { status, fields, body }: Response<'a>) -> Option<Self> {
        let fields: Vec<_> = fields
            .into_iter()
            .filter(|(name, _)| !FORBIDDEN.iter().any(|other| name.eq_ignore_ascii_case(other)))
            .map(|(name, value)| (name.into(), value.to_vec()))
            .collect();
        let response = ManuallyDrop::new(OutgoingResponse::new(Fields::from_list(&fields).ok()?));
        response.set_status_code(status).ok()?;
        Some(Self { response, body })
    }

    /// Sends the response, as far as the client takes it, with the body that `write` writes.
    fn send(
        self,
        out: ResponseOutparam,
        write: Option<impl FnOnce(&OutputStream) -> Result<(), StreamError>>,
    ) {
        let body =
            write.and_then(|write| Some((ManuallyDrop::new(self.response.body().ok()?), write)));
        ResponseOutparam::set(out, Ok(ManuallyDrop::into_inner(self.response)));
        // A body that is not finished is no whole response, for the server as for the client.
        if let Some((body, write)) = body
            && body.write().is_ok_and(|stream| write(&stream).is_ok())
        {
            let _ = OutgoingBody::finish(ManuallyDrop::into_inner(body), None);
        }
    }
}

/// Writes as much at a time as the server has room for.
///
/// # Errors
/// When the client takes no more.
pub fn write(stream: &OutputStream, mut bytes: &[u8]) -> Result<(), StreamError> {
    while !bytes.is_empty() {
        let room = usize::try_from(stream.check_write()?).unwrap_or(usize::MAX);
        let (now, later) = bytes.split_at(room.min(bytes.len()));
        match now {
            [] => stream.subscribe().block(),
            _ => stream.write(now)?,
        }
        bytes = later;
    }
    stream.blocking_flush()
}
