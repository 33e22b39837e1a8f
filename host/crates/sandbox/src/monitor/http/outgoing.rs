//! The response.

use wasmtime::component::Resource;

use super::head::Head;
use super::{Fields, IncomingRequest, TYPES};
use crate::monitor::Message;
use crate::monitor::NotAnswered;
use crate::monitor::State;
use crate::monitor::audit::{Argument, Outcome};
use crate::monitor::bindings::wasi::http::types::{self, ErrorCode};
use crate::monitor::outgoing_body::{Body, SharedBody, lock};
use crate::monitor::streams::OutputStream;
use printable::shortened;

/// A response that is being made: `wasi:http/types.outgoing-response`.
pub struct OutgoingResponse {
    status: ::http::StatusCode,
    fields: Fields,
    /// The body, once the guest has asked for it.
    body: Option<SharedBody>,
}

/// A body that is being written: `wasi:http/types.outgoing-body`.
pub struct OutgoingBody {
    body: SharedBody,
    is_stream_taken: bool,
}

impl OutgoingBody {
    /// A body of that length, if it was said.
    pub(super) fn new(length: Option<u64>) -> (Self, SharedBody) {
        let body = Body::shared(length);
        (Self { body: SharedBody::clone(&body), is_stream_taken: false }, body)
    }
}

/// Where the one response of a call goes: `wasi:http/types.response-outparam`.
pub struct ResponseOutparam;

/// The message of HTTP/1.1 that a response is.
pub(in crate::monitor) fn message(
    status: ::http::StatusCode,
    fields: &Fields,
    body: Option<&SharedBody>,
    is_head: bool,
) -> Result<Message, NotAnswered> {
    let body = match body {
        Some(body) => lock(body).whole().ok_or(NotAnswered::Unfinished)?,
        None => Message::default(),
    };
    let mut head = Head::new(status, is_head);
    for (name, value) in fields.iter() {
        head.field(name.as_str().as_bytes(), value.as_bytes());
    }
    Ok(head.before(body, 0))
}

impl State {
    /// Hands a request out, and where the response to it goes.
    pub(crate) fn begin_exchange(
        &mut self,
        request: &[u8],
    ) -> wasmtime::Result<(Resource<IncomingRequest>, Resource<ResponseOutparam>)> {
        let request = IncomingRequest::new(request, self.exchange.spooled.clone());
        self.exchange.is_head = request.is_head();
        Ok((self.hand_out(request)?, self.hand_out(ResponseOutparam)?))
    }

    /// The response, once the guest has returned.
    pub(crate) fn end_exchange(&mut self) -> Result<Message, NotAnswered> {
        match self.exchange.answer.take() {
            Some(Ok(OutgoingResponse { status, fields, body })) => {
                message(status, &fields, body.as_ref(), self.exchange.is_head)
            }
            Some(Err(code)) => Err(NotAnswered::Error(shortened(&code))),
            None => Err(NotAnswered::Unset),
        }
    }
}

impl types::HostOutgoingResponse for State {
    fn new(&mut self, fields: Resource<Fields>) -> wasmtime::Result<Resource<OutgoingResponse>> {
        self.audit(TYPES, "outgoing-response.new", Argument::None);
        let fields = self.table.delete(fields)?.frozen();
        let status = ::http::StatusCode::OK;
        Ok(self.hand_out(OutgoingResponse { status, fields, body: None })?)
    }

    fn status_code(&mut self, response: Resource<OutgoingResponse>) -> wasmtime::Result<u16> {
        self.audit(TYPES, "outgoing-response.status-code", Argument::None);
        Ok(self.table.get(&response)?.status.as_u16())
    }

    fn set_status_code(
        &mut self,
        response: Resource<OutgoingResponse>,
        status: u16,
    ) -> wasmtime::Result<Result<(), ()>> {
        self.audit(TYPES, "outgoing-response.set-status-code", Argument::None);
        let response = self.table.get_mut(&response)?;
        let Ok(status) = ::http::StatusCode::from_u16(status) else { return Ok(Err(())) };
        response.status = status;
        Ok(Ok(()))
    }

    fn headers(
        &mut self,
        response: Resource<OutgoingResponse>,
    ) -> wasmtime::Result<Resource<Fields>> {
        self.audit(TYPES, "outgoing-response.headers", Argument::None);
        let fields = self.table.get(&response)?.fields.clone();
        Ok(self.hand_out(fields)?)
    }

    fn body(
        &mut self,
        response: Resource<OutgoingResponse>,
    ) -> wasmtime::Result<Result<Resource<OutgoingBody>, ()>> {
        self.audit(TYPES, "outgoing-response.body", Argument::None);
        let response = self.table.get_mut(&response)?;
        if response.body.is_some() {
            return Ok(Err(()));
        }
        let (body, shared) = OutgoingBody::new(response.fields.content_length());
        response.body = Some(shared);
        Ok(Ok(self.hand_out(body)?))
    }

    fn drop(&mut self, response: Resource<OutgoingResponse>) -> wasmtime::Result<()> {
        self.release(response)
    }
}

impl types::HostOutgoingBody for State {
    fn write(
        &mut self,
        body: Resource<OutgoingBody>,
    ) -> wasmtime::Result<Result<Resource<OutputStream>, ()>> {
        self.audit(TYPES, "outgoing-body.write", Argument::None);
        let this = self.table.get_mut(&body)?;
        if std::mem::replace(&mut this.is_stream_taken, true) {
            return Ok(Err(()));
        }
        let stream = OutputStream::Body(SharedBody::clone(&this.body));
        Ok(Ok(self.hand_out_child(stream, &body)?))
    }

    fn finish(
        &mut self,
        body: Resource<OutgoingBody>,
        trailers: Option<Resource<Fields>>,
    ) -> wasmtime::Result<Result<(), ErrorCode>> {
        self.audit(TYPES, "outgoing-body.finish", Argument::None);
        let body = self.table.delete(body)?;
        if let Some(trailers) = trailers {
            self.release(trailers)?;
        }
        let finished = lock(&body.body).finish(self.exchange.is_head);
        if let Err(code) = &finished {
            self.refused(Outcome::Failed, code);
        }
        Ok(finished)
    }

    fn drop(&mut self, body: Resource<OutgoingBody>) -> wasmtime::Result<()> {
        let body = self.table.delete(body)?;
        lock(&body.body).abort();
        Ok(())
    }
}

impl types::HostResponseOutparam for State {
    /// An interim response, which is dropped: by the time that anything is sent, the final one is there.
    fn send_informational(
        &mut self,
        out: Resource<ResponseOutparam>,
        _status: u16,
        fields: Resource<Fields>,
    ) -> wasmtime::Result<Result<(), ErrorCode>> {
        self.audit(TYPES, "response-outparam.send-informational", Argument::None);
        self.table.get(&out)?;
        self.release(fields)?;
        Ok(Ok(()))
    }

    fn set(
        &mut self,
        out: Resource<ResponseOutparam>,
        response: Result<Resource<OutgoingResponse>, ErrorCode>,
    ) -> wasmtime::Result<()> {
        self.audit(TYPES, "response-outparam.set", Argument::None);
        self.release(out)?;
        self.exchange.answer = Some(match response {
            Ok(response) => Ok(self.table.delete(response)?),
            Err(code) => Err(code),
        });
        Ok(())
    }

    fn drop(&mut self, out: Resource<ResponseOutparam>) -> wasmtime::Result<()> {
        self.release(out)
    }
}
