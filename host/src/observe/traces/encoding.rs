//! Spans as OTLP has them: the messages of `opentelemetry/proto/trace/v1` and of the collector's trace service, as far
//! as they are used. Field numbers are those of the specification.

use std::time::Duration;

use prost::Message;

use super::attributes::Value;
use super::context::SpanContext;
use super::span::{Record, StageSpan};

/// Kinds of spans: within a server, and its answer to a client.
const INTERNAL: i32 = 1;
const SERVER: i32 = 2;

/// The status of a span that ended in an error.
const ERROR: i32 = 2;

/// Flags of a span: whether the trace is told of; that it is known whether the parent is elsewhere, and that it is.
const SAMPLED: u32 = 1;
const KNOWS_PARENT: u32 = 1 << 8;
const HAS_REMOTE_PARENT: u32 = 1 << 9;

#[derive(Clone, PartialEq, Message)]
pub(super) struct ExportRequest {
    #[prost(message, repeated, tag = "1")]
    resource_spans: Vec<ResourceSpans>,
}

#[derive(Clone, PartialEq, Message)]
struct ResourceSpans {
    #[prost(message, optional, tag = "1")]
    resource: Option<Resource>,
    #[prost(message, repeated, tag = "2")]
    scope_spans: Vec<ScopeSpans>,
}

/// What is said of the server.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Resource {
    #[prost(message, repeated, tag = "1")]
    attributes: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, Message)]
struct ScopeSpans {
    #[prost(message, optional, tag = "1")]
    scope: Option<Scope>,
    #[prost(message, repeated, tag = "2")]
    spans: Vec<Span>,
}

#[derive(Clone, PartialEq, Message)]
struct Scope {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    version: String,
}

#[derive(Clone, PartialEq, Message)]
struct Span {
    #[prost(bytes = "vec", tag = "1")]
    trace_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    span_id: Vec<u8>,
    #[prost(string, tag = "3")]
    trace_state: String,
    #[prost(bytes = "vec", tag = "4")]
    parent_span_id: Vec<u8>,
    #[prost(string, tag = "5")]
    name: String,
    #[prost(int32, tag = "6")]
    kind: i32,
    #[prost(fixed64, tag = "7")]
    start_time_unix_nano: u64,
    #[prost(fixed64, tag = "8")]
    end_time_unix_nano: u64,
    #[prost(message, repeated, tag = "9")]
    attributes: Vec<KeyValue>,
    #[prost(message, optional, tag = "15")]
    status: Option<Status>,
    #[prost(fixed32, tag = "16")]
    flags: u32,
}

#[derive(Clone, PartialEq, Message)]
struct Status {
    #[prost(string, tag = "2")]
    message: String,
    #[prost(int32, tag = "3")]
    code: i32,
}

#[derive(Clone, PartialEq, Message)]
struct KeyValue {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(message, optional, tag = "2")]
    value: Option<AnyValue>,
}

#[derive(Clone, PartialEq, Message)]
struct AnyValue {
    #[prost(oneof = "AnyValueKind", tags = "1, 3")]
    value: Option<AnyValueKind>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum AnyValueKind {
    #[prost(string, tag = "1")]
    Text(String),
    #[prost(int64, tag = "3")]
    Number(i64),
}

/// What a collector answers.
#[derive(Clone, PartialEq, Message)]
struct ExportResponse {
    #[prost(message, optional, tag = "1")]
    partial_success: Option<PartialSuccess>,
}

#[derive(Clone, PartialEq, Message)]
struct PartialSuccess {
    #[prost(int64, tag = "1")]
    rejected_spans: i64,
    #[prost(string, tag = "2")]
    error_message: String,
}

impl Resource {
    /// What the settings say, and what is so of every server.
    pub(super) fn new(attributes: &[(String, String)]) -> Self {
        const OURS: [(&str, &str); 4] = [
            ("service.version", env!("CARGO_PKG_VERSION")),
            ("telemetry.sdk.language", "rust"),
            ("telemetry.sdk.name", "swapbox"),
            ("telemetry.sdk.version", env!("CARGO_PKG_VERSION")),
        ];
        let of_settings = attributes.iter().map(|(key, value)| (key.as_str(), value.as_str()));
        let ours = OURS.into_iter().filter(|(key, _)| !attributes.iter().any(|of| of.0 == *key));
        let text = |(key, value): (&str, &str)| key_value(key, &Value::Text(value.to_owned()));
        Self { attributes: of_settings.chain(ours).map(text).collect() }
    }
}

/// The message for a collector.
pub(super) fn request(resource: &Resource, records: &[Record]) -> Vec<u8> {
    let scope = Scope { name: "swapbox".into(), version: env!("CARGO_PKG_VERSION").into() };
    let scope_spans =
        ScopeSpans { scope: Some(scope), spans: records.iter().flat_map(spans).collect() };
    let resource_spans =
        ResourceSpans { resource: Some(resource.clone()), scope_spans: vec![scope_spans] };
    ExportRequest { resource_spans: vec![resource_spans] }.encode_to_vec()
}

/// Spans that a collector did not take, by its answer to others, and why. An answer that makes no sense says nothing.
pub(super) fn rejected(answer: &[u8]) -> Option<(u64, String)> {
    let partial = ExportResponse::decode(answer).ok()?.partial_success?;
    let rejected = u64::try_from(partial.rejected_spans).ok().filter(|rejected| *rejected > 0)?;
    Some((rejected, partial.error_message))
}

/// The span of a request, and those of its stages.
fn spans(record: &Record) -> Vec<Span> {
    let server = Span {
        trace_state: record.state.clone(),
        parent_span_id: record.parent.map_or_else(Vec::new, |id| id.to_be_bytes().into()),
        name: record.name.clone(),
        kind: SERVER,
        attributes: record.attributes.iter().map(|(key, value)| key_value(key, value)).collect(),
        status: record.failure.clone().map(|message| Status { message, code: ERROR }),
        flags: flags(record.parent.is_some()),
        ..span(record, record.context, record.began, record.ended)
    };
    let stages = record.stages.iter().enumerate().map(|(at, StageSpan { stage, began, ended })| {
        // What follows a random number is as random.
        let span_id = record.context.span_id.saturating_add(1 + at as u64);
        Span {
            trace_state: record.state.clone(),
            parent_span_id: record.context.span_id.to_be_bytes().into(),
            name: stage.name().into(),
            kind: INTERNAL,
            flags: flags(false),
            ..span(record, SpanContext { span_id, ..record.context }, *began, *ended)
        }
    });
    std::iter::once(server).chain(stages).collect()
}

fn span(record: &Record, context: SpanContext, began: Duration, ended: Duration) -> Span {
    let nanoseconds = |at: Duration| {
        u64::try_from(record.epoch.saturating_add(at).as_nanos()).unwrap_or(u64::MAX)
    };
    Span {
        trace_id: context.trace_id.to_be_bytes().into(),
        span_id: context.span_id.to_be_bytes().into(),
        start_time_unix_nano: nanoseconds(began),
        end_time_unix_nano: nanoseconds(ended),
        ..Span::default()
    }
}

fn flags(has_remote_parent: bool) -> u32 {
    SAMPLED | KNOWS_PARENT | if has_remote_parent { HAS_REMOTE_PARENT } else { 0 }
}

fn key_value(key: &str, value: &Value) -> KeyValue {
    let value = match value {
        Value::Text(text) => AnyValueKind::Text(text.clone()),
        Value::Number(number) => AnyValueKind::Number(i64::try_from(*number).unwrap_or(i64::MAX)),
    };
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_collector_says_what_it_does_not_take() {
        let partial = |rejected_spans| {
            let error_message = "why".to_owned();
            let partial_success = Some(PartialSuccess { rejected_spans, error_message });
            rejected(&ExportResponse { partial_success }.encode_to_vec())
        };
        assert_eq!(partial(3), Some((3, "why".into())));
        assert_eq!(partial(0), None);
        assert_eq!(partial(-1), None);
        assert_eq!(rejected(b""), None);
    }

    #[test]
    fn what_the_settings_say_counts() {
        let resource = Resource::new(&[("service.version".into(), "mine".into())]);
        let versions = resource.attributes.iter().filter(|pair| pair.key == "service.version");
        let expected = key_value("service.version", &Value::Text("mine".into()));
        assert_eq!(versions.collect::<Vec<_>>(), [&expected]);
    }

    proptest! {
        #[test]
        fn no_answer_is_too_odd(answer: Vec<u8>) {
            let _ = rejected(&answer);
        }
    }
}
