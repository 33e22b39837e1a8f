//! `wasi:http` for handlers that are components of it: the request as `incoming-request`, the response as
//! `outgoing-response`.
//!
//! The request came whole, and the response leaves when the call is over: it is checked as a whole, as any
//! handler's. So no function of these waits, and what a guest flushes waits until it ends. Trailers are dropped,
//! as in front of every handler. The functions for requests to others are there, and `outgoing-handler` refuses
//! each.

mod cgi;
mod client;
mod fields;
mod head;
mod incoming;
mod outgoing;

use std::sync::Arc;

use wasmtime::component::Resource;

use super::audit::Argument;
use super::bindings::wasi::http::types::{self, ErrorCode};
use super::errors::{IoError, StreamError, StreamResult};
use super::outgoing_body::{SharedBody, lock};
use super::streams::InputStream;
use super::{OpenFile, State};
use crate::context::spooled::SpooledBody;
use crate::monitor::ResponseTooLong;
pub use client::{FutureIncomingResponse, IncomingResponse, OutgoingRequest, RequestOptions};
pub(super) use client::{NO_NETWORK, RequestHead};
pub use fields::Fields;
pub(super) use fields::Wrong;
pub use incoming::{FutureTrailers, IncomingBody, IncomingRequest};

pub(super) use outgoing::message;
pub use outgoing::{OutgoingBody, OutgoingResponse, ResponseOutparam};

pub(super) const TYPES: &str = "wasi:http/types";

/// A request and the response to it, as far as there is one.
pub(in crate::monitor) struct Exchange {
    /// Bytes that bodies may still take, all together.
    room: usize,
    /// The request's body, where it is no part of the message.
    spooled: Option<Arc<SpooledBody>>,
    /// What the guest gave `response-outparam`.
    answer: Option<Result<OutgoingResponse, ErrorCode>>,
    /// Whether the request's method is HEAD, and so the response has no body.
    pub(super) is_head: bool,
    /// What a command has for its standard input.
    stdin: InputStream,
    /// The meta-variables of a command's request.
    variables: Vec<(String, String)>,
    /// What a command has written to its standard output, if that is its response.
    stdout: Option<Vec<u8>>,
}

impl Exchange {
    /// None yet; with so many bytes for the bodies that a guest writes.
    pub(super) fn new(room: usize, spooled: Option<Arc<SpooledBody>>) -> Self {
        Self {
            room,
            spooled,
            answer: None,
            is_head: false,
            stdin: InputStream::Empty,
            variables: Vec::new(),
            stdout: None,
        }
    }

    pub(super) fn stdin(&mut self) -> &mut InputStream {
        &mut self.stdin
    }

    /// The request's body, where it is no part of the message.
    pub(super) fn spooled(&self) -> Option<Arc<SpooledBody>> {
        self.spooled.clone()
    }

    pub(super) fn has_spooled_body(&self) -> bool {
        self.spooled.is_some()
    }

    /// Takes room for so many bytes of a body.
    ///
    /// # Errors
    /// When there is less.
    pub(super) fn take_room(&mut self, bytes: usize) -> Result<(), ResponseTooLong> {
        self.room = self.room.checked_sub(bytes).ok_or(ResponseTooLong)?;
        Ok(())
    }
}

impl State {
    /// A guest writes to a body.
    pub(super) fn write_body(&mut self, body: &SharedBody, bytes: &[u8]) -> StreamResult<()> {
        self.exchange.take_room(bytes.len())?;
        lock(body).write(bytes).map_err(|code| StreamError::Failed(IoError::Http(code)))
    }

    /// A guest has a part of a file follow what it has written to a body; `false` if that cannot be.
    pub(super) fn write_file(
        &mut self,
        body: &SharedBody,
        file: &Arc<OpenFile>,
        start: u64,
        length: u64,
    ) -> StreamResult<bool> {
        match lock(body).write_file(file, start, length) {
            Some(Ok(())) => Ok(true),
            Some(Err(code)) => Err(StreamError::Failed(IoError::Http(code))),
            None => Ok(false),
        }
    }

    /// A command writes to its standard output.
    pub(super) fn write_response(&mut self, bytes: &[u8]) -> StreamResult<()> {
        self.exchange.take_room(bytes.len())?;
        if let Some(stdout) = &mut self.exchange.stdout {
            stdout.extend_from_slice(bytes);
        }
        Ok(())
    }
}

impl types::Host for State {
    fn http_error_code(&mut self, error: Resource<IoError>) -> wasmtime::Result<Option<ErrorCode>> {
        self.audit(TYPES, "http-error-code", Argument::None);
        Ok(match self.table.get(&error)? {
            IoError::Http(code) => Some(code.clone()),
            IoError::Errno(_) => None,
        })
    }
}
