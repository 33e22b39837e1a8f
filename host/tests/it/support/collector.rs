//! A collector of traces: it takes what a server sends by OTLP, as the specification's messages have it.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::process::Command;
use std::sync::{Arc, Mutex};

use prost::Message;

use super::{Answer, FakeRegistry, eventually, host, respond};

/// One that keeps all spans.
pub struct Collector {
    http: FakeRegistry,
    received: Arc<Mutex<Vec<Received>>>,
}

/// What one message says.
#[derive(Clone)]
struct Received {
    resource: BTreeMap<String, String>,
    spans: Vec<Span>,
}

#[derive(Clone, PartialEq, Message)]
struct Export {
    #[prost(message, repeated, tag = "1")]
    resources: Vec<ResourceSpans>,
}

#[derive(Clone, PartialEq, Message)]
struct ResourceSpans {
    #[prost(message, optional, tag = "1")]
    resource: Option<Resource>,
    #[prost(message, repeated, tag = "2")]
    scopes: Vec<ScopeSpans>,
}

#[derive(Clone, PartialEq, Message)]
struct Resource {
    #[prost(message, repeated, tag = "1")]
    attributes: Vec<Attribute>,
}

#[derive(Clone, PartialEq, Message)]
struct ScopeSpans {
    #[prost(message, repeated, tag = "2")]
    spans: Vec<Span>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Span {
    #[prost(bytes = "vec", tag = "1")]
    pub trace_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    pub span_id: Vec<u8>,
    #[prost(string, tag = "3")]
    pub state: String,
    #[prost(bytes = "vec", tag = "4")]
    pub parent: Vec<u8>,
    #[prost(string, tag = "5")]
    pub name: String,
    #[prost(int32, tag = "6")]
    pub kind: i32,
    #[prost(fixed64, tag = "7")]
    pub start: u64,
    #[prost(fixed64, tag = "8")]
    pub end: u64,
    #[prost(message, repeated, tag = "9")]
    attributes: Vec<Attribute>,
    #[prost(message, optional, tag = "15")]
    pub status: Option<Status>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Status {
    #[prost(string, tag = "2")]
    pub message: String,
    #[prost(int32, tag = "3")]
    pub code: i32,
}

#[derive(Clone, PartialEq, Message)]
struct Attribute {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(message, optional, tag = "2")]
    value: Option<Value>,
}

#[derive(Clone, PartialEq, Message)]
struct Value {
    #[prost(string, optional, tag = "1")]
    text: Option<String>,
    #[prost(int64, optional, tag = "3")]
    number: Option<i64>,
}

/// `host` with an endpoint for traces, and no other variable of OpenTelemetry's but that they are sent at once.
pub fn host_with_traces(port: u16) -> Command {
    let mut command = host();
    command.env("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://127.0.0.1:{port}"));
    command.env("OTEL_BSP_SCHEDULE_DELAY", "1");
    command
}

impl Collector {
    pub fn start() -> Self {
        let received: Arc<Mutex<Vec<Received>>> = Arc::default();
        let all = Arc::clone(&received);
        let http = FakeRegistry::start(answer(move |message| all.lock().unwrap().push(message)));
        Self { http, received }
    }

    pub fn port(&self) -> u16 {
        self.http.port
    }

    /// The heads of the messages so far.
    pub fn heads(&self) -> Vec<String> {
        self.http.heads()
    }

    /// All spans so far.
    pub fn spans(&self) -> Vec<Span> {
        self.received.lock().unwrap().iter().flat_map(|message| message.spans.clone()).collect()
    }

    /// What was said of the server with the first message.
    pub fn resource(&self) -> BTreeMap<String, String> {
        self.received.lock().unwrap().first().expect("a message").resource.clone()
    }

    /// Waits for the span of a request to this path, and those below it.
    pub fn wait_for_request(&self, path: &str) -> (Span, Vec<Span>) {
        let is_of = |span: &Span| span.attribute("url.path").as_deref() == Some(path);
        eventually("a span of the request", || self.spans().iter().any(is_of));
        let spans = self.spans();
        let request = spans.iter().find(|span| is_of(span)).unwrap().clone();
        let stages = spans.into_iter().filter(|span| span.parent == request.span_id).collect();
        (request, stages)
    }
}

impl Span {
    /// An attribute, numbers in decimal.
    pub fn attribute(&self, key: &str) -> Option<String> {
        text(&self.attributes).remove(key)
    }
}

fn text(attributes: &[Attribute]) -> BTreeMap<String, String> {
    let text = |value: Value| value.text.or(value.number.map(|number| number.to_string()));
    let value = |attribute: &Attribute| attribute.value.clone().and_then(text).expect("a value");
    attributes.iter().map(|attribute| (attribute.key.clone(), value(attribute))).collect()
}

/// Takes each message, and says so.
fn answer(take: impl Fn(Received) + Send + Sync + 'static) -> Answer {
    Arc::new(move |head, client| {
        let length = head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().unwrap())
        });
        let mut body = Vec::new();
        client.take(length.expect("a length")).read_to_end(&mut body).unwrap();
        let message = Export::decode(&*body).unwrap();
        let [of_server] = message.resources.as_slice() else { panic!("{message:?}") };
        let resource = text(&of_server.resource.clone().expect("a resource").attributes);
        take(Received { resource, spans: of_server.scopes[0].spans.clone() });
        respond(client, "200 OK", "Content-Type: application/x-protobuf\r\n", b"");
    })
}
