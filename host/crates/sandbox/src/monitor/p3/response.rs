//! The response: what a handler returns, and its body, which may go on for as long as the call does.

use std::sync::Arc;

use futures_channel::oneshot::{Receiver, channel};
use http::StatusCode;
use wasmtime::component::{Access, FutureReader, Resource, StreamReader};

use super::Monitor;
use super::bindings::wasi::http::types::{ErrorCode, HostResponse, HostResponseWithStore};
use super::bodies::{Body, DroppedTrailers, Filling, Handled, Open, Trailers, say_sent};
use super::streams::{READ, Reading};
use crate::monitor::Message;
use crate::monitor::NotAnswered;
use crate::monitor::State;
use crate::monitor::audit::Argument;
use crate::monitor::errors::StreamError;
use crate::monitor::http::{self as messages, Fields, TYPES};
use crate::monitor::outgoing_body::{self, SharedBody, lock};
use crate::monitor::streams::InputStream;
use printable::shortened;

/// A response: `wasi:http/types.response`.
pub struct Response {
    status: StatusCode,
    fields: Fields,
    body: Body,
}

/// What the handler returned.
pub(in crate::monitor) struct Answer {
    status: StatusCode,
    fields: Fields,
    body: SharedBody,
    /// Held by whoever still waits for a part of it.
    open: Arc<()>,
    /// The error that the handler gave in place of the response's end.
    error: Option<String>,
}

/// What says that a part of a response is there: dropped, when it is.
pub(crate) type Part = Receiver<()>;

/// The last status that there is.
const LAST_STATUS: u16 = 599;

impl State {
    /// Takes what the handler returned, and has its body be kept as it comes. Says when that has ended, and when what
    /// follows it is known.
    pub(crate) fn begin_answer(
        mut access: Access<'_, Self, Monitor>,
        answer: Result<Resource<Response>, ErrorCode>,
    ) -> wasmtime::Result<[Part; 2]> {
        let response = match answer {
            Ok(response) => access.get().table.delete(response)?,
            Err(code) => return Err(NotAnswered::Error(shortened(&code)).into()),
        };
        let Response { status, fields, body: Body { contents, trailers, sent } } = response;
        let shared = outgoing_body::Body::shared(fields.content_length());
        let open = Arc::new(());
        access.get().tasks.answer = Some(Answer {
            status,
            fields,
            body: SharedBody::clone(&shared),
            open: Arc::clone(&open),
            error: None,
        });
        let is_head = access.get().exchange.is_head;
        let ((ended, has_ended), (known, are_known)) = (channel(), channel());
        let [ended, known] = [ended, known].map(|sender| Open::new(sender, &open));
        trailers.pipe(&mut access, DroppedTrailers::new(SharedBody::clone(&shared), known))?;
        match contents.map(|contents| contents.try_into::<Reading>(&mut access)) {
            // It is what the host has given the guest.
            Some(Ok(mut reading)) => {
                let stream = std::mem::replace(&mut reading.stream, InputStream::Empty);
                access.get().send_all(stream, &shared)?;
                say_sent(sent, lock(&shared).finish(is_head));
            }
            Some(Err(contents)) => {
                contents.pipe(&mut access, Filling::new(shared, is_head, sent, ended))?;
            }
            None => say_sent(sent, lock(&shared).finish(is_head)),
        }
        Ok([has_ended, are_known])
    }

    /// Puts all that a stream of the host's has into a body: as a part of a file, where it is one.
    fn send_all(&mut self, mut stream: InputStream, body: &SharedBody) -> wasmtime::Result<()> {
        let sent = loop {
            self.check_deadline(READ)?;
            if let InputStream::File { fd, position } = &mut stream {
                let (file, start) = (fd.clone(), *position);
                match self.send_part(body, &file, start, u64::MAX) {
                    // As much as there was when the handler returned.
                    Ok(Some(_)) => break Ok(()),
                    Ok(None) => {}
                    Err(error) => break Err(error),
                }
            }
            match stream.read(crate::monitor::MAX_TRANSFER) {
                Ok(bytes) => {
                    if let Err(error) = self.write_body(body, &bytes) {
                        break Err(error);
                    }
                }
                Err(error) => break Err(error),
            }
        };
        match sent {
            Ok(()) | Err(StreamError::Closed) => Ok(()),
            Err(StreamError::Trap(trap)) => Err(trap),
            // It is longer than it says, or cannot be read.
            Err(StreamError::Quota | StreamError::Failed(_)) => {
                lock(body).abort();
                Ok(())
            }
        }
    }

    /// The handler gave an error in place of what follows the response's body.
    pub(super) fn fail_answer(&mut self, code: &ErrorCode) {
        if let Some(answer) = &mut self.tasks.answer {
            answer.error = Some(shortened(code));
        }
    }

    /// Whether all of the response is there, whatever the handler still does.
    pub(crate) fn has_answered(&self) -> bool {
        self.tasks.answer.as_ref().is_some_and(|answer| Arc::strong_count(&answer.open) == 1)
    }

    /// The response, which is taken.
    pub(crate) fn end_service(&mut self) -> Result<Message, NotAnswered> {
        let answer = self.tasks.answer.take().ok_or(NotAnswered::Unset)?;
        let Answer { status, fields, body, error, .. } = answer;
        match error {
            Some(error) => Err(NotAnswered::Error(error)),
            None => messages::message(status, &fields, Some(&body), self.exchange.is_head),
        }
    }
}

impl HostResponseWithStore<State> for Monitor {
    fn new(
        mut access: Access<'_, State, Self>,
        fields: Resource<Fields>,
        contents: Option<StreamReader<u8>>,
        trailers: FutureReader<Trailers>,
    ) -> wasmtime::Result<(Resource<Response>, FutureReader<Handled>)> {
        let state = access.get();
        state.audit(TYPES, "response.new", Argument::None);
        let fields = state.table.delete(fields)?.frozen();
        let (body, sent) = Body::new(&mut access, contents, trailers)?;
        let response = Response { status: StatusCode::OK, fields, body };
        Ok((access.get().hand_out(response)?, sent))
    }

    fn consume_body(
        mut access: Access<'_, State, Self>,
        response: Resource<Response>,
        handled: FutureReader<Handled>,
    ) -> wasmtime::Result<(StreamReader<u8>, FutureReader<Trailers>)> {
        let state = access.get();
        state.audit(TYPES, "response.consume-body", Argument::None);
        let response = state.table.delete(response)?;
        response.body.consume(access, handled)
    }

    fn drop(
        mut access: Access<'_, State, Self>,
        response: Resource<Response>,
    ) -> wasmtime::Result<()> {
        let response = access.get().table.delete(response)?;
        response.body.close(&mut access)
    }
}

impl HostResponse for State {
    fn get_status_code(&mut self, response: Resource<Response>) -> wasmtime::Result<u16> {
        self.audit(TYPES, "response.get-status-code", Argument::None);
        Ok(self.table.get(&response)?.status.as_u16())
    }

    fn set_status_code(
        &mut self,
        response: Resource<Response>,
        status: u16,
    ) -> wasmtime::Result<Result<(), ()>> {
        self.audit(TYPES, "response.set-status-code", Argument::None);
        let response = self.table.get_mut(&response)?;
        // 0.3 knows no other statuses than those of RFC 9110, 15.
        if status > LAST_STATUS {
            return Ok(Err(()));
        }
        let Ok(status) = StatusCode::from_u16(status) else { return Ok(Err(())) };
        response.status = status;
        Ok(Ok(()))
    }

    fn get_headers(&mut self, response: Resource<Response>) -> wasmtime::Result<Resource<Fields>> {
        self.audit(TYPES, "response.get-headers", Argument::None);
        let fields = self.table.get(&response)?.fields.clone();
        Ok(self.hand_out(fields)?)
    }
}
