//! Spans as OTLP has them: the messages of its protocol that are needed here, by their stable field numbers, and what goes into them.
//!
//! Names of attributes are those of OpenTelemetry's conventions for messaging; what they have no name for is under `messaging.mqtt` and
//! `gateway`. A topic is no part of a span's name, since there are too many of them.

use super::span::{Kind, Span};
use prost::{Message, Oneof};

/// What an exporter sends.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Request {
    #[prost(message, repeated, tag = "1")]
    resource_spans: Vec<ResourceSpans>,
}

/// What it gets back.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Response {
    #[prost(message, optional, tag = "1")]
    pub(super) partial_success: Option<PartialSuccess>,
}

/// Not all of them were taken.
#[derive(Clone, PartialEq, Message)]
pub(super) struct PartialSuccess {
    #[prost(int64, tag = "1")]
    pub(super) rejected_spans: i64,
    #[prost(string, tag = "2")]
    pub(super) error_message: String,
}

#[derive(Clone, PartialEq, Message)]
struct ResourceSpans {
    #[prost(message, optional, tag = "1")]
    resource: Option<Resource>,
    #[prost(message, repeated, tag = "2")]
    scope_spans: Vec<ScopeSpans>,
}

#[derive(Clone, PartialEq, Message)]
struct Resource {
    #[prost(message, repeated, tag = "1")]
    attributes: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, Message)]
struct ScopeSpans {
    #[prost(message, optional, tag = "1")]
    scope: Option<Scope>,
    #[prost(message, repeated, tag = "2")]
    spans: Vec<SpanMessage>,
}

#[derive(Clone, PartialEq, Message)]
struct Scope {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    version: String,
}

#[derive(Clone, PartialEq, Message)]
struct SpanMessage {
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
    #[prost(message, repeated, tag = "11")]
    events: Vec<EventMessage>,
    #[prost(message, optional, tag = "15")]
    status: Option<Status>,
    #[prost(fixed32, tag = "16")]
    flags: u32,
}

#[derive(Clone, PartialEq, Message)]
struct EventMessage {
    #[prost(fixed64, tag = "1")]
    time_unix_nano: u64,
    #[prost(string, tag = "2")]
    name: String,
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
    #[prost(oneof = "Value", tags = "1, 2, 3")]
    value: Option<Value>,
}

#[derive(Clone, PartialEq, Oneof)]
enum Value {
    #[prost(string, tag = "1")]
    Text(String),
    #[prost(bool, tag = "2")]
    Bool(bool),
    #[prost(int64, tag = "3")]
    Integer(i64),
}

/// It takes a request from elsewhere, and answers it.
const SERVER: i32 = 2;
/// It hands something over, and the work that this makes is not waited for.
const PRODUCER: i32 = 4;
const ERROR: i32 = 2;
/// Beside the sampled flag of the trace: whether the parent is elsewhere is known, and that it is.
const SAMPLED: u32 = 0x001;
const KNOWS_PARENT: u32 = 0x100;
const REMOTE_PARENT: u32 = 0x200;

/// The body of a request with `spans`, of the service of this name.
pub(super) fn request(service_name: &str, instance: &str, spans: &[Box<Span>]) -> Vec<u8> {
    let version = env!("CARGO_PKG_VERSION");
    let attributes = vec![
        text("service.name", service_name),
        text("service.version", version),
        text("service.instance.id", instance),
    ];
    let scope = Scope { name: "gateway".to_owned(), version: version.to_owned() };
    let spans = spans.iter().map(|span| message(span)).collect();
    let of_scope = ScopeSpans { scope: Some(scope), spans };
    let resource = Some(Resource { attributes });
    Request { resource_spans: vec![ResourceSpans { resource, scope_spans: vec![of_scope] }] }.encode_to_vec()
}

fn message(span: &Span) -> SpanMessage {
    let (kind, remote) = match span.kind {
        Kind::Publish => (SERVER, REMOTE_PARENT),
        Kind::Deliver => (PRODUCER, 0),
    };
    let sent = span.sent_ns.map(|at| EventMessage { time_unix_nano: at, name: "sent".to_owned() });
    SpanMessage {
        trace_id: span.trace_id.to_vec(),
        span_id: span.id.0.to_vec(),
        trace_state: span.trace_state.as_deref().unwrap_or_default().to_owned(),
        parent_span_id: span.parent.map(|parent| parent.0.to_vec()).unwrap_or_default(),
        name: span.kind.name().to_owned(),
        kind,
        start_time_unix_nano: span.start_ns,
        end_time_unix_nano: span.end_ns,
        attributes: attributes(span),
        events: sent.into_iter().collect(),
        status: span.has_failed.then(|| Status { message: span.outcome.to_owned(), code: ERROR }),
        flags: SAMPLED | KNOWS_PARENT | if span.parent.is_some() { remote } else { 0 },
    }
}

fn attributes(span: &Span) -> Vec<KeyValue> {
    let mut attributes = vec![
        text("messaging.system", "mqtt"),
        text("messaging.operation.name", span.kind.name()),
        text("messaging.destination.name", &span.topic),
        text("messaging.client.id", &span.client_id),
        integer("messaging.message.body.size", span.payload_bytes as u64),
        integer("messaging.mqtt.qos", span.qos.into()),
        text("gateway.outcome", span.outcome),
    ];
    if span.retain {
        attributes.push(attribute("messaging.mqtt.retain", Value::Bool(true)));
    }
    if span.dup {
        attributes.push(attribute("messaging.mqtt.dup", Value::Bool(true)));
    }
    if let Some(consumer) = &span.consumer {
        attributes.push(text("messaging.consumer.group.name", consumer));
    }
    if let Some(offset) = span.offset {
        attributes.push(integer("gateway.offset", offset));
    }
    if let Some(attempt) = span.attempt {
        attributes.push(integer("gateway.attempt", attempt.into()));
    }
    if span.has_failed {
        attributes.push(text("error.type", span.outcome));
    }
    attributes
}

fn attribute(key: &str, value: Value) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }) }
}

fn text(key: &str, value: &str) -> KeyValue {
    attribute(key, Value::Text(value.to_owned()))
}

fn integer(key: &str, value: u64) -> KeyValue {
    attribute(key, Value::Integer(i64::try_from(value).unwrap_or(i64::MAX)))
}
