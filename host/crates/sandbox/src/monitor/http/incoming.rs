//! The request.

use std::sync::Arc;

use memchr::memmem;
use wasmtime::component::Resource;

use super::client::RequestHead;
use super::{Fields, TYPES};
use crate::context::spooled::SpooledBody;
use crate::monitor::State;
use crate::monitor::audit::Argument;
use crate::monitor::bindings::wasi::http::types::{self, ErrorCode, Method, Scheme};
use crate::monitor::clocks::Pollable;
use crate::monitor::streams::InputStream;

/// Fields of a request: the server lets 128 pass, and adds some of its own.
const MAX_FIELDS: usize = 160;

/// A whole request: `wasi:http/types.incoming-request`. What a guest does not ask for is not looked at.
pub struct IncomingRequest {
    message: Arc<[u8]>,
    /// Where the body begins.
    body: usize,
    /// The body, where it is no part of the message.
    spooled: Option<Arc<SpooledBody>>,
    /// The body, unless the guest has it.
    has_body: bool,
}

/// The body of a request, unless its stream was taken: `wasi:http/types.incoming-body`.
pub struct IncomingBody(Option<InputStream>);

/// What follows a body: `wasi:http/types.future-trailers`. There are none.
pub struct FutureTrailers {
    is_taken: bool,
}

impl IncomingRequest {
    /// A message of HTTP/1.x, which was checked.
    pub(in crate::monitor) fn new(message: &[u8], spooled: Option<Arc<SpooledBody>>) -> Self {
        let head = memmem::find(message, b"\r\n\r\n").map_or(message.len(), |end| end + 4);
        Self { message: message.into(), body: head, spooled, has_body: true }
    }

    /// What `read` finds in the request's head, which is taken apart; `None` if that is not possible.
    fn head<R>(&self, read: impl FnOnce(&httparse::Request<'_, '_>) -> R) -> Option<R> {
        let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
        let mut request = httparse::Request::new(&mut fields);
        request.parse(self.message.get(..self.body)?).ok()?;
        Some(read(&request))
    }

    /// Calls `each` with the name and the value of every field.
    pub(super) fn for_each_field(&self, mut each: impl FnMut(&str, &[u8])) {
        self.head(|head| head.headers.iter().for_each(|field| each(field.name, field.value)));
    }

    /// The version, as the request line says it.
    pub(super) fn version(&self) -> &str {
        let word = self.start_line().rsplit(|byte| *byte == b' ').next().unwrap_or_default();
        str::from_utf8(word).unwrap_or_default()
    }

    fn start_line(&self) -> &[u8] {
        self.message.split(|byte| *byte == b'\r').next().unwrap_or_default()
    }

    /// The method and the target.
    pub(super) fn words(&self) -> (&str, &str) {
        let mut words = self.start_line().split(|byte| *byte == b' ');
        let mut word =
            || words.next().and_then(|word| str::from_utf8(word).ok()).unwrap_or_default();
        (word(), word())
    }

    pub(in crate::monitor) fn is_head(&self) -> bool {
        self.message.starts_with(b"HEAD ")
    }

    /// The authority of a target in absolute form, and what follows it (RFC 9112, 3.2.2).
    fn absolute(&self) -> Option<(&str, &str)> {
        let (_, rest) =
            self.words().1.split_once("://").filter(|(scheme, _)| !scheme.contains('/'))?;
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        rest.split_at_checked(end)
    }

    /// The path of a target in any form; of `*`, that.
    pub(super) fn path(&self) -> String {
        match self.absolute() {
            None => self.words().1.to_owned(),
            Some((_, path)) if path.starts_with('/') => path.to_owned(),
            // An empty path means the root.
            Some((_, query)) => format!("/{query}"),
        }
    }

    pub(super) fn authority(&self) -> Option<String> {
        if let Some((authority, _)) = self.absolute() {
            return Some(authority.to_owned());
        }
        self.head(|head| {
            let host = head.headers.iter().find(|field| field.name.eq_ignore_ascii_case("host"))?;
            String::from_utf8(host.value.to_vec()).ok().filter(|host| !host.is_empty())
        })?
    }

    /// What the request says before its body, which came by TLS or not.
    pub(in crate::monitor) fn request_head(&self, encrypted: bool) -> RequestHead {
        RequestHead {
            method: self.words().0.into(),
            path_with_query: Some(self.path()),
            scheme: Some(scheme(encrypted)),
            authority: self.authority(),
            fields: self.fields(),
        }
    }

    fn fields(&self) -> Fields {
        let fields = self.head(|head| {
            Fields::of_request(head.headers.iter().map(|field| (field.name, field.value)))
        });
        fields.unwrap_or_else(|| Fields::of_request(std::iter::empty()))
    }

    pub(in crate::monitor) fn body(&self) -> InputStream {
        match &self.spooled {
            Some(body) => InputStream::Spooled { body: Arc::clone(body), position: 0 },
            None => InputStream::Bytes { bytes: Arc::clone(&self.message), position: self.body },
        }
    }
}

/// The scheme of a request that came by TLS, or not.
fn scheme(encrypted: bool) -> Scheme {
    if encrypted { Scheme::Https } else { Scheme::Http }
}

impl From<&str> for Method {
    fn from(method: &str) -> Self {
        match method {
            "GET" => Self::Get,
            "HEAD" => Self::Head,
            "POST" => Self::Post,
            "PUT" => Self::Put,
            "DELETE" => Self::Delete,
            "CONNECT" => Self::Connect,
            "OPTIONS" => Self::Options,
            "TRACE" => Self::Trace,
            "PATCH" => Self::Patch,
            other => Self::Other(other.to_owned()),
        }
    }
}

impl types::HostIncomingRequest for State {
    fn method(&mut self, request: Resource<IncomingRequest>) -> wasmtime::Result<Method> {
        self.audit(TYPES, "incoming-request.method", Argument::None);
        Ok(self.table.get(&request)?.words().0.into())
    }

    fn path_with_query(
        &mut self,
        request: Resource<IncomingRequest>,
    ) -> wasmtime::Result<Option<String>> {
        self.audit(TYPES, "incoming-request.path-with-query", Argument::None);
        Ok(Some(self.table.get(&request)?.path()))
    }

    fn scheme(&mut self, request: Resource<IncomingRequest>) -> wasmtime::Result<Option<Scheme>> {
        self.audit(TYPES, "incoming-request.scheme", Argument::None);
        self.table.get(&request)?;
        Ok(Some(scheme(self.grants.encrypted)))
    }

    fn authority(
        &mut self,
        request: Resource<IncomingRequest>,
    ) -> wasmtime::Result<Option<String>> {
        self.audit(TYPES, "incoming-request.authority", Argument::None);
        Ok(self.table.get(&request)?.authority())
    }

    fn headers(
        &mut self,
        request: Resource<IncomingRequest>,
    ) -> wasmtime::Result<Resource<Fields>> {
        self.audit(TYPES, "incoming-request.headers", Argument::None);
        let fields = self.table.get(&request)?.fields();
        Ok(self.hand_out(fields)?)
    }

    fn consume(
        &mut self,
        request: Resource<IncomingRequest>,
    ) -> wasmtime::Result<Result<Resource<IncomingBody>, ()>> {
        self.audit(TYPES, "incoming-request.consume", Argument::None);
        let request = self.table.get_mut(&request)?;
        if !std::mem::take(&mut request.has_body) {
            return Ok(Err(()));
        }
        let body = IncomingBody(Some(request.body()));
        Ok(Ok(self.hand_out(body)?))
    }

    fn drop(&mut self, request: Resource<IncomingRequest>) -> wasmtime::Result<()> {
        self.release(request)
    }
}

impl types::HostIncomingBody for State {
    fn stream(
        &mut self,
        body: Resource<IncomingBody>,
    ) -> wasmtime::Result<Result<Resource<InputStream>, ()>> {
        self.audit(TYPES, "incoming-body.stream", Argument::None);
        match self.table.get_mut(&body)?.0.take() {
            Some(stream) => Ok(Ok(self.hand_out_child(stream, &body)?)),
            None => Ok(Err(())),
        }
    }

    fn finish(
        &mut self,
        body: Resource<IncomingBody>,
    ) -> wasmtime::Result<Resource<FutureTrailers>> {
        self.audit(TYPES, "incoming-body.finish", Argument::None);
        self.release(body)?;
        Ok(self.hand_out(FutureTrailers { is_taken: false })?)
    }

    fn drop(&mut self, body: Resource<IncomingBody>) -> wasmtime::Result<()> {
        self.release(body)
    }
}

impl types::HostFutureTrailers for State {
    fn subscribe(
        &mut self,
        trailers: Resource<FutureTrailers>,
    ) -> wasmtime::Result<Resource<Pollable>> {
        self.audit(TYPES, "future-trailers.subscribe", Argument::None);
        self.table.get(&trailers)?;
        Ok(self.hand_out(Pollable::Ready)?)
    }

    fn get(
        &mut self,
        trailers: Resource<FutureTrailers>,
    ) -> wasmtime::Result<Option<Result<Result<Option<Resource<Fields>>, ErrorCode>, ()>>> {
        self.audit(TYPES, "future-trailers.get", Argument::None);
        let trailers = self.table.get_mut(&trailers)?;
        Ok(Some(match std::mem::replace(&mut trailers.is_taken, true) {
            true => Err(()),
            false => Ok(Ok(None)),
        }))
    }

    fn drop(&mut self, trailers: Resource<FutureTrailers>) -> wasmtime::Result<()> {
        self.release(trailers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_fields_are_seen_also_those_that_the_server_adds() {
        let fields: String = (0..130).map(|number| format!("x-{number}: a\r\n")).collect();
        let message = format!("GET / HTTP/1.1\r\n{fields}\r\n");
        let mut seen = 0;
        IncomingRequest::new(message.as_bytes(), None).for_each_field(|_, _| seen += 1);
        assert_eq!(seen, 130);
    }

    #[test]
    fn a_target_in_any_form_has_a_path_and_an_authority() {
        for (target, path, authority) in [
            ("/a?b=c", "/a?b=c", "host:1"),
            ("/a?u=http://x/y", "/a?u=http://x/y", "host:1"),
            ("*", "*", "host:1"),
            ("http://other/", "/", "other"),
            ("http://other", "/", "other"),
            ("http://other:8?q", "/?q", "other:8"),
            ("http://other/a?b", "/a?b", "other"),
        ] {
            let message = format!("GET {target} HTTP/1.1\r\nHost: host:1\r\n\r\n");
            let request = IncomingRequest::new(message.as_bytes(), None);
            assert_eq!(request.path(), path, "{target}");
            assert_eq!(request.authority().as_deref(), Some(authority), "{target}");
        }
        let request = IncomingRequest::new(b"PURGE / HTTP/1.0\r\n\r\nbody", None);
        assert_eq!(request.authority(), None);
        assert!(
            matches!(Method::from(request.words().0), Method::Other(method) if method == "PURGE")
        );
        assert_eq!(&request.message[request.body..], b"body");
    }
}
