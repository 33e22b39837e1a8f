//! Requests to others. A guest can make one and ask for it; the answer is that it may not.

use std::convert::Infallible;

use ::http::uri::{Authority, PathAndQuery, Scheme as UriScheme};
use wasmtime::component::Resource;

use super::outgoing::body::SharedBody;
use super::{Fields, IncomingBody, OutgoingBody, TYPES};
use crate::monitor::State;
use crate::monitor::audit::{Argument, Outcome};
use crate::monitor::bindings::wasi::http::outgoing_handler;
use crate::monitor::bindings::wasi::http::types::{self, ErrorCode, Method, Scheme};
use crate::monitor::clocks::Pollable;

/// A request to another server: `wasi:http/types.outgoing-request`.
pub struct OutgoingRequest {
    method: Method,
    path_with_query: Option<String>,
    scheme: Option<Scheme>,
    authority: Option<String>,
    fields: Fields,
    body: Option<SharedBody>,
}

/// Times for such a request: `wasi:http/types.request-options`.
#[derive(Default)]
pub struct RequestOptions {
    connect: Option<u64>,
    first_byte: Option<u64>,
    between_bytes: Option<u64>,
}

/// A response of another server: there is none.
pub struct IncomingResponse(Infallible);

/// A response that is waited for: there is none.
pub struct FutureIncomingResponse(Infallible);

/// Why a handler asks nobody else.
const NO_NETWORK: &str = "there is no network";

impl outgoing_handler::Host for State {
    fn handle(
        &mut self,
        request: Resource<OutgoingRequest>,
        options: Option<Resource<RequestOptions>>,
    ) -> wasmtime::Result<Result<Resource<FutureIncomingResponse>, ErrorCode>> {
        self.audit("wasi:http/outgoing-handler", "handle", Argument::None);
        self.release(request)?;
        if let Some(options) = options {
            self.release(options)?;
        }
        self.refused(Outcome::Denied, &NO_NETWORK);
        Ok(Err(ErrorCode::HttpRequestDenied))
    }
}

impl types::HostOutgoingRequest for State {
    fn new(&mut self, fields: Resource<Fields>) -> wasmtime::Result<Resource<OutgoingRequest>> {
        self.audit(TYPES, "outgoing-request.new", Argument::None);
        let fields = self.table.delete(fields)?.frozen();
        Ok(self.hand_out(OutgoingRequest {
            method: Method::Get,
            path_with_query: None,
            scheme: None,
            authority: None,
            fields,
            body: None,
        })?)
    }

    fn body(
        &mut self,
        request: Resource<OutgoingRequest>,
    ) -> wasmtime::Result<Result<Resource<OutgoingBody>, ()>> {
        self.audit(TYPES, "outgoing-request.body", Argument::None);
        let request = self.table.get_mut(&request)?;
        if request.body.is_some() {
            return Ok(Err(()));
        }
        let (body, shared) = OutgoingBody::new(request.fields.content_length());
        request.body = Some(shared);
        Ok(Ok(self.hand_out(body)?))
    }

    fn method(&mut self, request: Resource<OutgoingRequest>) -> wasmtime::Result<Method> {
        self.audit(TYPES, "outgoing-request.method", Argument::None);
        Ok(self.table.get(&request)?.method.clone())
    }

    fn set_method(
        &mut self,
        request: Resource<OutgoingRequest>,
        method: Method,
    ) -> wasmtime::Result<Result<(), ()>> {
        self.audit(TYPES, "outgoing-request.set-method", Argument::None);
        let request = self.table.get_mut(&request)?;
        if let Method::Other(name) = &method
            && ::http::Method::from_bytes(name.as_bytes()).is_err()
        {
            return Ok(Err(()));
        }
        request.method = method;
        Ok(Ok(()))
    }

    fn path_with_query(
        &mut self,
        request: Resource<OutgoingRequest>,
    ) -> wasmtime::Result<Option<String>> {
        self.audit(TYPES, "outgoing-request.path-with-query", Argument::None);
        Ok(self.table.get(&request)?.path_with_query.clone())
    }

    fn set_path_with_query(
        &mut self,
        request: Resource<OutgoingRequest>,
        path: Option<String>,
    ) -> wasmtime::Result<Result<(), ()>> {
        self.audit(TYPES, "outgoing-request.set-path-with-query", Argument::None);
        let request = self.table.get_mut(&request)?;
        if path.as_deref().is_some_and(|path| !is_path_with_query(path)) {
            return Ok(Err(()));
        }
        request.path_with_query = path;
        Ok(Ok(()))
    }

    fn scheme(&mut self, request: Resource<OutgoingRequest>) -> wasmtime::Result<Option<Scheme>> {
        self.audit(TYPES, "outgoing-request.scheme", Argument::None);
        Ok(self.table.get(&request)?.scheme.clone())
    }

    fn set_scheme(
        &mut self,
        request: Resource<OutgoingRequest>,
        scheme: Option<Scheme>,
    ) -> wasmtime::Result<Result<(), ()>> {
        self.audit(TYPES, "outgoing-request.set-scheme", Argument::None);
        let request = self.table.get_mut(&request)?;
        if let Some(Scheme::Other(name)) = &scheme
            && name.parse::<UriScheme>().is_err()
        {
            return Ok(Err(()));
        }
        request.scheme = scheme;
        Ok(Ok(()))
    }

    fn authority(
        &mut self,
        request: Resource<OutgoingRequest>,
    ) -> wasmtime::Result<Option<String>> {
        self.audit(TYPES, "outgoing-request.authority", Argument::None);
        Ok(self.table.get(&request)?.authority.clone())
    }

    fn set_authority(
        &mut self,
        request: Resource<OutgoingRequest>,
        authority: Option<String>,
    ) -> wasmtime::Result<Result<(), ()>> {
        self.audit(TYPES, "outgoing-request.set-authority", Argument::None);
        let request = self.table.get_mut(&request)?;
        if authority.as_deref().is_some_and(|name| name.parse::<Authority>().is_err()) {
            return Ok(Err(()));
        }
        request.authority = authority;
        Ok(Ok(()))
    }

    fn headers(
        &mut self,
        request: Resource<OutgoingRequest>,
    ) -> wasmtime::Result<Resource<Fields>> {
        self.audit(TYPES, "outgoing-request.headers", Argument::None);
        let fields = self.table.get(&request)?.fields.clone();
        Ok(self.hand_out(fields)?)
    }

    fn drop(&mut self, request: Resource<OutgoingRequest>) -> wasmtime::Result<()> {
        self.release(request)
    }
}

/// Whether that can be the path of a URI with an authority (RFC 3986, 3.3), with a query.
fn is_path_with_query(path: &str) -> bool {
    let begins = path.is_empty() || path.starts_with(['/', '?']);
    begins && (path.is_empty() || path.parse::<PathAndQuery>().is_ok())
}

impl types::HostRequestOptions for State {
    fn new(&mut self) -> wasmtime::Result<Resource<RequestOptions>> {
        self.audit(TYPES, "request-options.new", Argument::None);
        Ok(self.hand_out(RequestOptions::default())?)
    }

    fn connect_timeout(
        &mut self,
        options: Resource<RequestOptions>,
    ) -> wasmtime::Result<Option<u64>> {
        self.audit(TYPES, "request-options.connect-timeout", Argument::None);
        Ok(self.table.get(&options)?.connect)
    }

    fn set_connect_timeout(
        &mut self,
        options: Resource<RequestOptions>,
        nanoseconds: Option<u64>,
    ) -> wasmtime::Result<Result<(), ()>> {
        self.audit(TYPES, "request-options.set-connect-timeout", Argument::None);
        self.table.get_mut(&options)?.connect = nanoseconds;
        Ok(Ok(()))
    }

    fn first_byte_timeout(
        &mut self,
        options: Resource<RequestOptions>,
    ) -> wasmtime::Result<Option<u64>> {
        self.audit(TYPES, "request-options.first-byte-timeout", Argument::None);
        Ok(self.table.get(&options)?.first_byte)
    }

    fn set_first_byte_timeout(
        &mut self,
        options: Resource<RequestOptions>,
        nanoseconds: Option<u64>,
    ) -> wasmtime::Result<Result<(), ()>> {
        self.audit(TYPES, "request-options.set-first-byte-timeout", Argument::None);
        self.table.get_mut(&options)?.first_byte = nanoseconds;
        Ok(Ok(()))
    }

    fn between_bytes_timeout(
        &mut self,
        options: Resource<RequestOptions>,
    ) -> wasmtime::Result<Option<u64>> {
        self.audit(TYPES, "request-options.between-bytes-timeout", Argument::None);
        Ok(self.table.get(&options)?.between_bytes)
    }

    fn set_between_bytes_timeout(
        &mut self,
        options: Resource<RequestOptions>,
        nanoseconds: Option<u64>,
    ) -> wasmtime::Result<Result<(), ()>> {
        self.audit(TYPES, "request-options.set-between-bytes-timeout", Argument::None);
        self.table.get_mut(&options)?.between_bytes = nanoseconds;
        Ok(Ok(()))
    }

    fn drop(&mut self, options: Resource<RequestOptions>) -> wasmtime::Result<()> {
        self.release(options)
    }
}

impl types::HostIncomingResponse for State {
    fn status(&mut self, response: Resource<IncomingResponse>) -> wasmtime::Result<u16> {
        match self.table.get(&response)?.0 {}
    }

    fn headers(
        &mut self,
        response: Resource<IncomingResponse>,
    ) -> wasmtime::Result<Resource<Fields>> {
        match self.table.get(&response)?.0 {}
    }

    fn consume(
        &mut self,
        response: Resource<IncomingResponse>,
    ) -> wasmtime::Result<Result<Resource<IncomingBody>, ()>> {
        match self.table.get(&response)?.0 {}
    }

    fn drop(&mut self, response: Resource<IncomingResponse>) -> wasmtime::Result<()> {
        self.release(response)
    }
}

impl types::HostFutureIncomingResponse for State {
    fn subscribe(
        &mut self,
        response: Resource<FutureIncomingResponse>,
    ) -> wasmtime::Result<Resource<Pollable>> {
        match self.table.get(&response)?.0 {}
    }

    fn get(
        &mut self,
        response: Resource<FutureIncomingResponse>,
    ) -> wasmtime::Result<Option<Result<Result<Resource<IncomingResponse>, ErrorCode>, ()>>> {
        match self.table.get(&response)?.0 {}
    }

    fn drop(&mut self, response: Resource<FutureIncomingResponse>) -> wasmtime::Result<()> {
        self.release(response)
    }
}
