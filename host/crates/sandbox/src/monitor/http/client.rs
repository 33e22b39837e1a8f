//! Requests to others. A guest can make one and ask for it; the answer is that it may not.

use std::convert::Infallible;

use ::http::uri::{Authority, PathAndQuery, Scheme as UriScheme};
use wasmtime::component::Resource;

use super::{Fields, IncomingBody, OutgoingBody, TYPES};
use crate::denials::DeniedBy;
use crate::monitor::State;
use crate::monitor::audit::{Argument, Outcome};
use crate::monitor::bindings::wasi::http::outgoing_handler;
use crate::monitor::bindings::wasi::http::types::{self, ErrorCode, Method, Scheme};
use crate::monitor::clocks::Pollable;
use crate::monitor::outgoing_body::SharedBody;

/// The longest method, target, scheme or authority of such a request, in bytes: they are in no ceiling.
const MAX_WORD: usize = 8 << 10;

/// A request to another server: `wasi:http/types.outgoing-request`.
pub struct OutgoingRequest {
    head: RequestHead,
    body: Option<SharedBody>,
}

/// What a request says before its body.
pub(in crate::monitor) struct RequestHead {
    pub(in crate::monitor) method: Method,
    pub(in crate::monitor) path_with_query: Option<String>,
    pub(in crate::monitor) scheme: Option<Scheme>,
    pub(in crate::monitor) authority: Option<String>,
    pub(in crate::monitor) fields: Fields,
}

impl RequestHead {
    /// A GET with those fields, and nothing else.
    pub(in crate::monitor) fn new(fields: Fields) -> Self {
        let (path_with_query, scheme, authority) = (None, None, None);
        Self { method: Method::Get, path_with_query, scheme, authority, fields }
    }

    pub(in crate::monitor) fn set_method(&mut self, method: Method) -> Result<(), ()> {
        if let Method::Other(name) = &method
            && (name.len() > MAX_WORD || ::http::Method::from_bytes(name.as_bytes()).is_err())
        {
            return Err(());
        }
        self.method = method;
        Ok(())
    }

    pub(in crate::monitor) fn set_path(&mut self, path: Option<String>) -> Result<(), ()> {
        if path.as_deref().is_some_and(|path| path.len() > MAX_WORD || !is_path_with_query(path)) {
            return Err(());
        }
        self.path_with_query = path;
        Ok(())
    }

    pub(in crate::monitor) fn set_scheme(&mut self, scheme: Option<Scheme>) -> Result<(), ()> {
        if let Some(Scheme::Other(name)) = &scheme
            && (name.len() > MAX_WORD || name.parse::<UriScheme>().is_err())
        {
            return Err(());
        }
        self.scheme = scheme;
        Ok(())
    }

    pub(in crate::monitor) fn set_authority(&mut self, name: Option<String>) -> Result<(), ()> {
        let is_none = |name: &str| name.len() > MAX_WORD || name.parse::<Authority>().is_err();
        if name.as_deref().is_some_and(is_none) {
            return Err(());
        }
        self.authority = name;
        Ok(())
    }
}

/// Times for such a request: `wasi:http/types.request-options`.
#[derive(Clone, Default)]
pub struct RequestOptions {
    pub(in crate::monitor) connect: Option<u64>,
    pub(in crate::monitor) first_byte: Option<u64>,
    pub(in crate::monitor) between_bytes: Option<u64>,
    /// Whether they are a request's already, which 0.3 lets a guest see and not change.
    pub(in crate::monitor) is_immutable: bool,
}

/// A response of another server: there is none.
pub struct IncomingResponse(Infallible);

/// A response that is waited for: there is none.
pub struct FutureIncomingResponse(Infallible);

/// Why a handler asks nobody else.
pub(in crate::monitor) const NO_NETWORK: &str = "there is no network";

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
        self.refused(Outcome::Denied(DeniedBy::Monitor), &NO_NETWORK);
        Ok(Err(ErrorCode::HttpRequestDenied))
    }
}

impl types::HostOutgoingRequest for State {
    fn new(&mut self, fields: Resource<Fields>) -> wasmtime::Result<Resource<OutgoingRequest>> {
        self.audit(TYPES, "outgoing-request.new", Argument::None);
        let fields = self.table.delete(fields)?.frozen();
        Ok(self.hand_out(OutgoingRequest { head: RequestHead::new(fields), body: None })?)
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
        let (body, shared) = OutgoingBody::new(request.head.fields.content_length());
        request.body = Some(shared);
        Ok(Ok(self.hand_out(body)?))
    }

    fn method(&mut self, request: Resource<OutgoingRequest>) -> wasmtime::Result<Method> {
        self.audit(TYPES, "outgoing-request.method", Argument::None);
        Ok(self.table.get(&request)?.head.method.clone())
    }

    fn set_method(
        &mut self,
        request: Resource<OutgoingRequest>,
        method: Method,
    ) -> wasmtime::Result<Result<(), ()>> {
        self.audit(TYPES, "outgoing-request.set-method", Argument::None);
        Ok(self.table.get_mut(&request)?.head.set_method(method))
    }

    fn path_with_query(
        &mut self,
        request: Resource<OutgoingRequest>,
    ) -> wasmtime::Result<Option<String>> {
        self.audit(TYPES, "outgoing-request.path-with-query", Argument::None);
        Ok(self.table.get(&request)?.head.path_with_query.clone())
    }

    fn set_path_with_query(
        &mut self,
        request: Resource<OutgoingRequest>,
        path: Option<String>,
    ) -> wasmtime::Result<Result<(), ()>> {
        self.audit(TYPES, "outgoing-request.set-path-with-query", Argument::None);
        Ok(self.table.get_mut(&request)?.head.set_path(path))
    }

    fn scheme(&mut self, request: Resource<OutgoingRequest>) -> wasmtime::Result<Option<Scheme>> {
        self.audit(TYPES, "outgoing-request.scheme", Argument::None);
        Ok(self.table.get(&request)?.head.scheme.clone())
    }

    fn set_scheme(
        &mut self,
        request: Resource<OutgoingRequest>,
        scheme: Option<Scheme>,
    ) -> wasmtime::Result<Result<(), ()>> {
        self.audit(TYPES, "outgoing-request.set-scheme", Argument::None);
        Ok(self.table.get_mut(&request)?.head.set_scheme(scheme))
    }

    fn authority(
        &mut self,
        request: Resource<OutgoingRequest>,
    ) -> wasmtime::Result<Option<String>> {
        self.audit(TYPES, "outgoing-request.authority", Argument::None);
        Ok(self.table.get(&request)?.head.authority.clone())
    }

    fn set_authority(
        &mut self,
        request: Resource<OutgoingRequest>,
        authority: Option<String>,
    ) -> wasmtime::Result<Result<(), ()>> {
        self.audit(TYPES, "outgoing-request.set-authority", Argument::None);
        Ok(self.table.get_mut(&request)?.head.set_authority(authority))
    }

    fn headers(
        &mut self,
        request: Resource<OutgoingRequest>,
    ) -> wasmtime::Result<Resource<Fields>> {
        self.audit(TYPES, "outgoing-request.headers", Argument::None);
        let fields = self.table.get(&request)?.head.fields.clone();
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_cannot_keep_much_in_the_head_of_a_request() {
        let mut head = RequestHead::new(Fields::empty());
        for (bytes, kept) in [(MAX_WORD, Ok(())), (MAX_WORD + 1, Err(()))] {
            let word = "a".repeat(bytes);
            assert_eq!(head.set_method(Method::Other(word.clone())), kept, "{bytes}");
            assert_eq!(head.set_authority(Some(word.clone())), kept, "{bytes}");
            assert_eq!(head.set_path(Some(format!("/{}", &word[1..]))), kept, "{bytes}");
        }
        let word = "a".repeat(MAX_WORD + 1);
        assert!(head.set_scheme(Some(Scheme::Other(word))).is_err());
    }
}
