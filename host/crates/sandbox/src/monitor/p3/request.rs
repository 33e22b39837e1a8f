//! The request, and those that a guest makes.

use wasmtime::component::{Access, FutureReader, Resource, StreamReader};

use super::Monitor;
use super::bindings::wasi::http::types::{
    self, ErrorCode, HostRequest, HostRequestWithStore, Method, Scheme,
};
use super::bodies::{Body, Handled, RequestBody, Trailers};
use crate::monitor::State;
use crate::monitor::audit::Argument;
use crate::monitor::http::{Fields, IncomingRequest, RequestHead, RequestOptions, TYPES};

/// A request: `wasi:http/types.request`.
pub struct Request {
    head: RequestHead,
    options: Option<RequestOptions>,
    body: RequestBody,
}

impl State {
    /// Hands out the request that came.
    pub(crate) fn begin_service(&mut self, message: &[u8]) -> wasmtime::Result<Resource<Request>> {
        let incoming = IncomingRequest::new(message, self.exchange.spooled());
        self.exchange.is_head = incoming.is_head();
        let head = incoming.request_head(self.grants.encrypted);
        let body = RequestBody::Received(incoming.body());
        Ok(self.hand_out(Request { head, options: None, body })?)
    }
}

impl Request {
    /// Says to a guest that nobody wants it.
    pub(super) fn close(self, access: &mut Access<'_, State, Monitor>) -> wasmtime::Result<()> {
        self.body.close(access)
    }
}

impl types::Host for State {}

impl HostRequestWithStore<State> for Monitor {
    fn new(
        mut access: Access<'_, State, Self>,
        fields: Resource<Fields>,
        contents: Option<StreamReader<u8>>,
        trailers: FutureReader<Trailers>,
        options: Option<Resource<RequestOptions>>,
    ) -> wasmtime::Result<(Resource<Request>, FutureReader<Handled>)> {
        let state = access.get();
        state.audit(TYPES, "request.new", Argument::None);
        let head = RequestHead::new(state.table.delete(fields)?.frozen());
        let options = options.map(|options| state.table.delete(options)).transpose()?;
        let options = options.map(|options| RequestOptions { is_immutable: true, ..options });
        let (body, sent) = Body::new(&mut access, contents, trailers)?;
        let body = RequestBody::Made(body);
        Ok((access.get().hand_out(Request { head, options, body })?, sent))
    }

    fn consume_body(
        mut access: Access<'_, State, Self>,
        request: Resource<Request>,
        handled: FutureReader<Handled>,
    ) -> wasmtime::Result<(
        StreamReader<u8>,
        FutureReader<Result<Option<Resource<Fields>>, ErrorCode>>,
    )> {
        let state = access.get();
        state.audit(TYPES, "request.consume-body", Argument::None);
        let request = state.table.delete(request)?;
        request.body.consume(access, handled)
    }

    fn drop(
        mut access: Access<'_, State, Self>,
        request: Resource<Request>,
    ) -> wasmtime::Result<()> {
        let request = access.get().table.delete(request)?;
        request.close(&mut access)
    }
}

impl HostRequest for State {
    fn get_method(&mut self, request: Resource<Request>) -> wasmtime::Result<Method> {
        self.audit(TYPES, "request.get-method", Argument::None);
        Ok(self.table.get(&request)?.head.method.clone().into())
    }

    fn set_method(
        &mut self,
        request: Resource<Request>,
        method: Method,
    ) -> wasmtime::Result<Result<(), ()>> {
        self.audit(TYPES, "request.set-method", Argument::None);
        Ok(self.table.get_mut(&request)?.head.set_method(method.into()))
    }

    fn get_path_with_query(
        &mut self,
        request: Resource<Request>,
    ) -> wasmtime::Result<Option<String>> {
        self.audit(TYPES, "request.get-path-with-query", Argument::None);
        Ok(self.table.get(&request)?.head.path_with_query.clone())
    }

    fn set_path_with_query(
        &mut self,
        request: Resource<Request>,
        path: Option<String>,
    ) -> wasmtime::Result<Result<(), ()>> {
        self.audit(TYPES, "request.set-path-with-query", Argument::None);
        Ok(self.table.get_mut(&request)?.head.set_path(path))
    }

    fn get_scheme(&mut self, request: Resource<Request>) -> wasmtime::Result<Option<Scheme>> {
        self.audit(TYPES, "request.get-scheme", Argument::None);
        Ok(self.table.get(&request)?.head.scheme.clone().map(Into::into))
    }

    fn set_scheme(
        &mut self,
        request: Resource<Request>,
        scheme: Option<Scheme>,
    ) -> wasmtime::Result<Result<(), ()>> {
        self.audit(TYPES, "request.set-scheme", Argument::None);
        Ok(self.table.get_mut(&request)?.head.set_scheme(scheme.map(Into::into)))
    }

    fn get_authority(&mut self, request: Resource<Request>) -> wasmtime::Result<Option<String>> {
        self.audit(TYPES, "request.get-authority", Argument::None);
        Ok(self.table.get(&request)?.head.authority.clone())
    }

    fn set_authority(
        &mut self,
        request: Resource<Request>,
        authority: Option<String>,
    ) -> wasmtime::Result<Result<(), ()>> {
        self.audit(TYPES, "request.set-authority", Argument::None);
        Ok(self.table.get_mut(&request)?.head.set_authority(authority))
    }

    fn get_options(
        &mut self,
        request: Resource<Request>,
    ) -> wasmtime::Result<Option<Resource<RequestOptions>>> {
        self.audit(TYPES, "request.get-options", Argument::None);
        let options = self.table.get(&request)?.options.clone();
        Ok(options.map(|options| self.hand_out(options)).transpose()?)
    }

    fn get_headers(&mut self, request: Resource<Request>) -> wasmtime::Result<Resource<Fields>> {
        self.audit(TYPES, "request.get-headers", Argument::None);
        let fields = self.table.get(&request)?.head.fields.clone();
        Ok(self.hand_out(fields)?)
    }
}
