//! One registry, as a client speaks to it: bounded in time as a whole, and in length for each answer.

mod challenge;

use std::io::Read as _;
use std::time::{Duration, Instant};

use ureq::http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, LOCATION};
use ureq::http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri};
use ureq::{Agent, AsSendBody, Body};

use super::manifest::{Descriptor, MANIFEST};
use super::{Failure, MAX_MANIFEST, digest_of};
use crate::config::{ContentDigest, Reference, Version};
use crate::outbound;

/// How often a redirection is followed for one request.
const MAX_REDIRECTIONS: usize = 3;

/// The most bytes that are made room for before they have come.
const FIRST_ROOM: u64 = 1 << 20;

/// What is added when there are no roots of certificates.
const NO_ROOTS: &str =
    "; this machine has no root certificates, of which SSL_CERT_FILE can name a file";

/// The header of a manifest's digest.
const CONTENT_DIGEST: &str = "docker-content-digest";

/// What the client wants to do with a repository, as a token's scope says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    Pull,
    Push,
}

/// A client of the registry of one reference.
pub(super) struct Client<'a> {
    pub(super) reference: &'a Reference,
    pub(super) access: Access,
    agent: Agent,
    /// What the next requests together may take, and until when that is.
    bound: Duration,
    deadline: Instant,
    /// Whether no certificate can be trusted for want of roots.
    without_roots: bool,
    /// What the registry was told after it had asked for it.
    authorization: Option<HeaderValue>,
}

/// What is sent to the registry.
pub(super) struct Message<'a> {
    pub(super) method: Method,
    pub(super) uri: Uri,
    /// The body with its media type; `None` for requests that have none.
    pub(super) body: Option<(&'static str, &'a [u8])>,
}

impl<'a> Client<'a> {
    /// A client whose requests have no time yet.
    pub(super) fn new(reference: &'a Reference, access: Access) -> Self {
        let is_secure = reference.registry().scheme() == "https";
        let (agent, without_roots) = outbound::agent(is_secure);
        let (bound, deadline) = (Duration::ZERO, Instant::now());
        Self { reference, access, agent, bound, deadline, without_roots, authorization: None }
    }

    /// Gives the next requests that long, all together.
    pub(super) fn begin(&mut self, bound: Duration) {
        (self.bound, self.deadline) = (bound, Instant::now() + bound);
    }

    /// The digest of the manifest that the reference leads to.
    pub(super) fn resolve(&mut self) -> Result<ContentDigest, Failure> {
        let message = Message::new(Method::HEAD, self.manifest_uri()?);
        let response = self.followed(&message, false)?;
        // Not every registry answers HEAD, nor says the digest.
        match (response.status(), said_digest(response.headers())?) {
            (StatusCode::OK, Some(digest)) => Ok(digest),
            (StatusCode::OK | StatusCode::METHOD_NOT_ALLOWED, _) => {
                self.manifest().map(|(digest, _)| digest)
            }
            (status, _) => Err(failed(status, "manifest")),
        }
    }

    /// The manifest of the reference, with its digest.
    pub(super) fn manifest(&mut self) -> Result<(ContentDigest, Vec<u8>), Failure> {
        let response = self.followed(&Message::new(Method::GET, self.manifest_uri()?), false)?;
        if response.status() != StatusCode::OK {
            return Err(failed(response.status(), "manifest"));
        }
        let said = said_digest(response.headers())?;
        let bytes = self.body(response, MAX_MANIFEST, "manifest")?;
        let wanted = match self.reference.version() {
            Version::Digest(digest) => Some(*digest),
            Version::Tag(_) => said,
        };
        Ok((checked(&bytes, wanted, "manifest")?, bytes))
    }

    /// A blob, which has the length and the digest that its manifest says.
    pub(super) fn blob(&mut self, layer: &Descriptor) -> Result<Vec<u8>, Failure> {
        let uri = self.uri(&format!("blobs/{}", layer.digest))?;
        let response = self.followed(&Message::new(Method::GET, uri), true)?;
        if response.status() != StatusCode::OK {
            return Err(failed(response.status(), "layer"));
        }
        let wanted = layer.size;
        let length = |found| Failure::Length { wanted, found };
        if let Some(said) = response.body().content_length().filter(|said| *said != wanted) {
            return Err(length(said));
        }
        let bytes = match self.body(response, wanted, "layer") {
            Err(Failure::TooLarge { .. }) => return Err(length(wanted.saturating_add(1))),
            bytes => bytes?,
        };
        match bytes.len() as u64 {
            found if found != wanted => Err(length(found)),
            _ => checked(&bytes, Some(layer.digest), "layer").map(|_| bytes),
        }
    }

    /// An address below the repository's in the registry.
    pub(super) fn uri(&self, rest: &str) -> Result<Uri, Failure> {
        let (registry, repository) = (self.reference.registry(), self.reference.repository());
        let text = format!("{}://{}/v2/{repository}/{rest}", registry.scheme(), registry.host());
        text.parse().map_err(|_| Failure::Protocol("its address is none"))
    }

    fn manifest_uri(&self) -> Result<Uri, Failure> {
        self.uri(&format!("manifests/{}", self.reference.version()))
    }

    /// Sends a message, and once more with what the registry asks for, if it asks for credentials.
    pub(super) fn send(&mut self, message: &Message<'_>) -> Result<Response<Body>, Failure> {
        let response = self.once(message, self.authorization.clone())?;
        if response.status() != StatusCode::UNAUTHORIZED {
            return Ok(response);
        }
        let answer = challenge::answer(self, response.headers())?;
        drop(response);
        self.authorization = Some(answer.header.clone());
        let response = self.once(message, Some(answer.header))?;
        match response.status() {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(Failure::Denied(answer.who)),
            _ => Ok(response),
        }
    }

    /// Sends a message without a body, and follows redirections: within the registry's host, and of content that
    /// has a digest also to `others`, by HTTPS and without credentials.
    fn followed(&mut self, message: &Message<'_>, others: bool) -> Result<Response<Body>, Failure> {
        let mut response = self.send(message)?;
        for _ in 0..MAX_REDIRECTIONS {
            if !response.status().is_redirection() {
                return Ok(response);
            }
            let uri = self.location(response.headers())?;
            let is_same = self.is_registry(&uri);
            let is_secure =
                [self.reference.registry().scheme(), uri.scheme_str().unwrap_or_default()]
                    == ["https"; 2];
            if !(is_same || others && is_secure) {
                return Err(Failure::Redirected(origin(&uri)));
            }
            let authorization = self.authorization.clone().filter(|_| is_same);
            response = self.once(&Message::new(message.method.clone(), uri), authorization)?;
        }
        match response.status().is_redirection() {
            true => Err(Failure::Protocol("it redirects again and again")),
            false => Ok(response),
        }
    }

    /// Where an answer says to go on: an address, or a path of the registry's own (RFC 9110, 10.2.2).
    pub(super) fn location(&self, headers: &HeaderMap) -> Result<Uri, Failure> {
        const NONE: Failure = Failure::Protocol("it says to go on elsewhere, but not where");
        let location = headers.get(LOCATION).and_then(|value| value.to_str().ok()).ok_or(NONE)?;
        let registry = self.reference.registry();
        let uri: Uri = match location.starts_with('/') && !location.starts_with("//") {
            true => format!("{}://{}{location}", registry.scheme(), registry.host()).parse(),
            false => location.parse(),
        }
        .map_err(|_| NONE)?;
        let has_user = uri.authority().is_some_and(|authority| authority.as_str().contains('@'));
        if has_user || !matches!(uri.scheme_str(), Some("http" | "https")) {
            Err(NONE)
        } else {
            Ok(uri)
        }
    }

    /// Whether an address is of the registry itself: the same scheme, host and port.
    pub(super) fn is_registry(&self, uri: &Uri) -> bool {
        let registry = self.reference.registry();
        let host = uri.authority().map(|authority| authority.as_str().to_ascii_lowercase());
        uri.scheme_str() == Some(registry.scheme()) && host.as_deref() == Some(registry.host())
    }

    /// Sends a message with that authorization, in the time that is left.
    pub(super) fn once(
        &self,
        message: &Message<'_>,
        authorization: Option<HeaderValue>,
    ) -> Result<Response<Body>, Failure> {
        let mut request = Request::builder().method(&message.method).uri(&message.uri);
        if let Some(value) = authorization {
            request = request.header(AUTHORIZATION, value);
        }
        match message.body {
            None => self.run(request.header(ACCEPT, MANIFEST).body(()), &message.uri),
            Some((kind, bytes)) => {
                self.run(request.header(CONTENT_TYPE, kind).body(bytes), &message.uri)
            }
        }
    }

    fn run(
        &self,
        request: ureq::http::Result<Request<impl AsSendBody>>,
        uri: &Uri,
    ) -> Result<Response<Body>, Failure> {
        let request = request.map_err(|_| Failure::Protocol("its address is none"))?;
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Failure::Timeout(self.bound.as_secs()));
        }
        let request = self.agent.configure_request(request).timeout_global(Some(left)).build();
        self.agent.run(request).map_err(|error| self.broken(error, uri))
    }

    /// The whole body of an answer, which is not longer than `limit`.
    pub(super) fn body(
        &self,
        response: Response<Body>,
        limit: u64,
        what: &'static str,
    ) -> Result<Vec<u8>, Failure> {
        let said = response.body().content_length();
        if said.is_some_and(|said| said > limit) {
            return Err(Failure::TooLarge { what, limit });
        }
        let room = usize::try_from(said.unwrap_or_default().min(FIRST_ROOM)).unwrap_or_default();
        let mut bytes = Vec::with_capacity(room);
        let read = response.into_body().into_reader().take(limit + 1).read_to_end(&mut bytes);
        if let Err(error) = read {
            return Err(self.broken(error.into(), &Uri::default()));
        }
        if bytes.len() as u64 > limit { Err(Failure::TooLarge { what, limit }) } else { Ok(bytes) }
    }

    fn broken(&self, error: ureq::Error, uri: &Uri) -> Failure {
        match error {
            ureq::Error::Timeout(_) => Failure::Timeout(self.bound.as_secs()),
            error => {
                let host = uri
                    .authority()
                    .map_or_else(|| self.reference.registry().host(), |host| host.as_str());
                let hint = if self.without_roots { NO_ROOTS } else { "" };
                Failure::Unreachable { host: host.to_owned(), why: format!("{error}{hint}") }
            }
        }
    }
}

impl Message<'_> {
    /// A message without a body.
    pub(super) fn new(method: Method, uri: Uri) -> Self {
        Self { method, uri, body: None }
    }
}

/// What a status means that is not the one to be expected.
pub(super) fn failed(status: StatusCode, what: &'static str) -> Failure {
    match status {
        StatusCode::NOT_FOUND => Failure::Missing(what),
        StatusCode::FORBIDDEN => Failure::Denied("it is not for this client".into()),
        status => Failure::Status(status.as_u16()),
    }
}

/// The digest that an answer says its manifest has.
fn said_digest(headers: &HeaderMap) -> Result<Option<ContentDigest>, Failure> {
    const BAD: Failure = Failure::Protocol("its digest of the manifest is none of sha256");
    let Some(value) = headers.get(CONTENT_DIGEST) else { return Ok(None) };
    value.to_str().ok().and_then(|text| text.parse().ok()).map(Some).ok_or(BAD)
}

/// The digest of bytes, if it is the one that is wanted.
fn checked(
    bytes: &[u8],
    wanted: Option<ContentDigest>,
    what: &'static str,
) -> Result<ContentDigest, Failure> {
    let found = digest_of(bytes);
    match wanted.filter(|wanted| *wanted != found) {
        Some(wanted) => Err(Failure::Digest { what, wanted, found }),
        None => Ok(found),
    }
}

/// An address without what may be secret of it.
pub(super) fn origin(uri: &Uri) -> String {
    let host = uri.authority().map_or("nowhere", |authority| authority.as_str());
    format!("{}://{host}", uri.scheme_str().unwrap_or("http"))
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::{TcpListener, TcpStream};

    use super::*;

    const BOUND: Duration = Duration::from_millis(300);

    /// What becomes of asking a registry for a manifest that does this with its first request.
    fn failure(answer: impl FnOnce(&mut TcpStream) + Send + 'static) -> Failure {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let reference = format!("oci://{}/x:1", listener.local_addr().expect("an address"));
        let registry = std::thread::spawn(move || {
            let (mut client, _) = listener.accept().expect("a client");
            answer(&mut client);
            // Until the client leaves.
            let _ = client.read_to_end(&mut Vec::new());
        });
        let reference = reference.parse().expect("a reference");
        let mut client = Client::new(&reference, Access::Pull);
        client.begin(BOUND);
        let failure = client.manifest().expect_err("no manifest");
        drop(client);
        registry.join().expect("the registry ends");
        failure
    }

    #[test]
    fn a_registry_that_hangs_or_trickles_is_given_up_in_time() {
        assert!(matches!(failure(|_| ()), Failure::Timeout(_)));
        let begun = |client: &mut TcpStream| {
            client.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{").expect("sent");
        };
        assert!(matches!(failure(begun), Failure::Timeout(_)));
        let trickles = |client: &mut TcpStream| {
            let mut sent = client.write_all(b"HTTP/1.1 200 OK\r\nX: ");
            while sent.is_ok() {
                std::thread::sleep(BOUND / 10);
                sent = client.write_all(b"x");
            }
        };
        assert!(matches!(failure(trickles), Failure::Timeout(_)));
    }

    #[test]
    fn where_a_tag_leads_is_asked_by_head_and_else_by_get() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let reference = format!("oci://{}/x:1", listener.local_addr().expect("an address"));
        let registry = std::thread::spawn(move || {
            ["HEAD", "GET"].map(|method| {
                let (mut client, _) = listener.accept().expect("a client");
                let mut head = [0; 4096];
                let read = client.read(&mut head).expect("a request");
                assert!(head.get(..read).is_some_and(|head| head.starts_with(method.as_bytes())));
                let answer = match method {
                    "HEAD" => "HTTP/1.1 405 No\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
                    _ => "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}",
                };
                client.write_all(answer.as_bytes()).expect("sent");
            })
        });
        let reference = reference.parse().expect("a reference");
        let mut client = Client::new(&reference, Access::Pull);
        client.begin(Duration::from_secs(60));
        assert_eq!(client.resolve().ok(), Some(digest_of(b"{}")));
        registry.join().expect("the registry ends");
    }

    #[test]
    fn an_answer_leads_to_an_address_of_http() {
        let reference: Reference = "oci://r.example:5000/n:1".parse().expect("valid");
        let client = Client::new(&reference, Access::Pull);
        let location = |text: &str| {
            let headers =
                HeaderMap::from_iter([(LOCATION, HeaderValue::from_str(text).expect("a value"))]);
            client.location(&headers).ok().map(|uri| (client.is_registry(&uri), uri.to_string()))
        };
        for (text, expected) in [
            ("/v2/x?y", Some((true, "https://r.example:5000/v2/x?y"))),
            ("https://R.example:5000/x", Some((true, "https://R.example:5000/x"))),
            ("http://r.example:5000/x", Some((false, "http://r.example:5000/x"))),
            ("https://r.example/x", Some((false, "https://r.example/x"))),
            ("https://r.example:5000.evil/x", Some((false, "https://r.example:5000.evil/x"))),
            ("//evil/x", None),
            ("x", None),
            ("ftp://r.example/x", None),
            ("https://r.example:5000@evil/x", None),
        ] {
            let expected = expected.map(|(is_same, uri)| (is_same, uri.to_owned()));
            assert_eq!(location(text), expected, "{text}");
        }
    }
}
