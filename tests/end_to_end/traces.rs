//! Traces, seen from a collector that reads them with OpenTelemetry's own types.

use std::collections::HashSet;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use gateway_protocol::{PropertiesBuf, Property, ProtocolVersion};
use gateway_tests::{Client, Gateway, GatewayOptions, Hello, Will, wait};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::{Span, span::SpanKind, status::StatusCode};
use prost::Message as _;
use serde_json::json;

use crate::admin_api::{get, send};
use crate::{QOS0, QOS1, http_receiver};

const V5: ProtocolVersion = ProtocolVersion::V5;
const V4: ProtocolVersion = ProtocolVersion::V3_1_1;
const LIMIT: Duration = Duration::from_secs(30);
const SAMPLED: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const NOT_SAMPLED: &str = "00-4bf92f3577b34da6a3ce929d0e0e4737-00f067aa0ba902b7-00";

/// The head of a request, and its body.
type Request = (String, Vec<u8>);

/// A collector on a port of its own.
#[derive(Clone, Default)]
struct Collector {
    taken: Arc<Mutex<Vec<Request>>>,
}

impl Collector {
    fn listen(&self) -> SocketAddr {
        let taken = self.taken.clone();
        http_receiver::listen(move |head, body| {
            taken.lock().unwrap().push((head.to_ascii_lowercase(), body));
            (200, "")
        })
    }

    fn requests(&self) -> Vec<(String, ExportTraceServiceRequest)> {
        let taken = self.taken.lock().unwrap();
        let read = |body: &[u8]| ExportTraceServiceRequest::decode(body).expect("OTLP");
        taken.iter().map(|(head, body)| (head.clone(), read(body))).collect()
    }

    fn spans(&self) -> Vec<Span> {
        let requests = self.requests().into_iter();
        let resources = requests.flat_map(|(_, request)| request.resource_spans);
        resources.flat_map(|resource| resource.scope_spans).flat_map(|scope| scope.spans).collect()
    }

    /// The spans of a name on a topic, once there are so many of them.
    fn await_spans(&self, name: &str, topic: &str, count: usize) -> Vec<Span> {
        let is_meant = |span: &Span| span.name == name && text(span, "messaging.destination.name") == topic;
        let found = || self.spans().into_iter().filter(is_meant).collect::<Vec<_>>();
        wait::until_it(&format!("{count} {name} on {topic}"), LIMIT, found, |found| found.len() >= count)
    }

    fn await_one(&self, name: &str, topic: &str) -> Span {
        let mut found = self.await_spans(name, topic, 1);
        assert_eq!(found.len(), 1, "{found:?}");
        found.remove(0)
    }
}

fn value(span: &Span, key: &str) -> Option<Value> {
    let found = span.attributes.iter().find(|attribute| attribute.key == key)?;
    found.value.clone()?.value
}

fn text(span: &Span, key: &str) -> String {
    match value(span, key) {
        Some(Value::StringValue(text)) => text,
        other => panic!("{key} is {other:?} in {span:?}"),
    }
}

fn integer(span: &Span, key: &str) -> i64 {
    match value(span, key) {
        Some(Value::IntValue(integer)) => integer,
        other => panic!("{key} is {other:?} in {span:?}"),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A client whose Session outlives its connection.
fn lasting(client_id: &str) -> Hello {
    let mut hello = Hello::new(V5, client_id);
    hello.properties.push(Property::SessionExpiryInterval(600)).unwrap();
    hello
}

fn gateway(collector: &Collector, sets: &[&str]) -> Gateway {
    let endpoint = format!("telemetry.traces_endpoint=http://{}", collector.listen());
    Gateway::start_set(&[&[endpoint.as_str()], sets].concat())
}

fn context(traceparent: &str) -> PropertiesBuf {
    let mut properties = PropertiesBuf::new();
    for (name, value) in [("before", "1"), ("traceparent", traceparent), ("tracestate", "vendor=x")] {
        properties.push(Property::UserProperty { name, value }).unwrap();
    }
    properties
}

fn publish(client: &mut Client, topic: &str, properties: &PropertiesBuf) {
    let id = client.send_publish_with(topic, b"21.5", QOS1, properties.as_properties()).unwrap();
    client.await_puback(id);
}

#[test]
fn a_publish_on_its_publishers_trace_and_its_deliveries_are_spans_of_that_trace() {
    let collector = Collector::default();
    let sets = [
        "telemetry.traces_sample_ratio=0",
        "telemetry.service_name=plant",
        "telemetry.traces_headers=x-key=k",
    ];
    let gateway = gateway(&collector, &sets);
    let mut live = gateway.connect(V5, "live");
    let mut durable = Client::connect(gateway.mqtt(), &lasting("durable")).0;
    for client in [&mut live, &mut durable] {
        client.subscribe(&[("devices/+/out", QOS1)]);
    }
    let mut device = gateway.connect(V5, "meter");
    publish(&mut device, "devices/1/out", &context(SAMPLED));
    publish(&mut device, "devices/2/out", &context(NOT_SAMPLED));
    publish(&mut device, "devices/3/out", &PropertiesBuf::new());
    for client in [&mut live, &mut durable] {
        let messages = client.messages(3);
        // What the publisher said goes on as it was said, and in its order.
        let said: Vec<_> =
            messages[0].user_properties.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(said, [("before", "1"), ("traceparent", SAMPLED), ("tracestate", "vendor=x")]);
        assert_eq!(messages[1].user_property("traceparent"), NOT_SAMPLED);
        assert!(messages[2].user_properties.is_empty(), "not sampled here");
    }
    let received = collector.await_one("publish", "devices/1/out");
    assert_eq!(hex(&received.trace_id), "4bf92f3577b34da6a3ce929d0e0e4736");
    assert_eq!(hex(&received.parent_span_id), "00f067aa0ba902b7");
    assert_eq!((received.kind(), received.trace_state.as_str()), (SpanKind::Server, "vendor=x"));
    assert_eq!(text(&received, "messaging.system"), "mqtt");
    assert_eq!(text(&received, "messaging.client.id"), "meter");
    assert_eq!(text(&received, "gateway.outcome"), "stored");
    assert_eq!(integer(&received, "messaging.message.body.size"), 4);
    assert!(received.status.is_none());

    let delivered = collector.await_spans("deliver", "devices/1/out", 2);
    let to: HashSet<_> = delivered.iter().map(|span| text(span, "messaging.client.id")).collect();
    assert_eq!(to, HashSet::from(["live".to_owned(), "durable".to_owned()]));
    let offsets: HashSet<_> = delivered.iter().map(|span| integer(span, "gateway.offset")).collect();
    assert_eq!(offsets.len(), 1);
    for span in &delivered {
        assert_eq!((&span.trace_id, &span.parent_span_id), (&received.trace_id, &received.span_id));
        assert_ne!(span.span_id, received.span_id);
        assert_eq!(text(span, "gateway.outcome"), "acknowledged");
        assert_eq!(integer(span, "messaging.mqtt.qos"), 1);
        assert_eq!(span.events[0].name, "sent");
        let at = span.events[0].time_unix_nano;
        assert!(span.start_time_unix_nano <= at && at <= span.end_time_unix_nano, "{span:?}");
    }
    for (head, request) in collector.requests() {
        assert!(head.starts_with("post /v1/traces http/1.1\r\n"), "{head}");
        assert!(head.contains("content-type: application/x-protobuf\r\n") && head.contains("x-key: k\r\n"));
        let resource = request.resource_spans[0].resource.as_ref().unwrap();
        let name = resource.attributes.iter().find(|attribute| attribute.key == "service.name").unwrap();
        assert_eq!(name.value.clone().unwrap().value, Some(Value::StringValue("plant".into())));
    }
    assert_eq!(collector.spans().len(), 3, "and nothing of the other two");
}

#[test]
fn a_publish_that_is_sampled_here_begins_a_trace_that_its_subscribers_can_go_on() {
    let collector = Collector::default();
    let mut gateway = gateway(&collector, &["telemetry.traces_sample_ratio=1"]);
    let hello = lasting("away");
    Client::connect(gateway.mqtt(), &hello).0.subscribe(&[("#", QOS1)]);
    let mut live = gateway.connect(V5, "live");
    let mut old = gateway.connect(V4, "old");
    for client in [&mut live, &mut old] {
        client.subscribe(&[("devices/#", QOS1), ("rooms/#", QOS0)]);
    }
    // One that a stream keeps, from a client of version 3.1.1, and one that is for live subscribers alone.
    gateway.connect(V4, "meter").publish("devices/1", "21.5", QOS1);
    let kept = collector.await_one("publish", "devices/1");
    assert!(kept.parent_span_id.is_empty());
    gateway.connect(V5, "switch").send_publish("rooms/1", "on", QOS0);
    let passed = collector.await_one("publish", "rooms/1");
    assert_eq!(text(&passed, "gateway.outcome"), "live");
    assert_ne!(kept.trace_id, passed.trace_id);
    let mut messages = live.messages(2);
    messages.sort_by_key(|message| message.topic.clone());
    for (message, published) in messages.iter().zip([&kept, &passed]) {
        let said = message.user_property("traceparent");
        assert_eq!(said, format!("00-{}-{}-01", hex(&published.trace_id), hex(&published.span_id)));
    }
    old.messages(2);
    for published in [&kept, &passed] {
        let topic = text(published, "messaging.destination.name");
        for span in collector.await_spans("deliver", &topic, 2) {
            assert_eq!((&span.trace_id, &span.parent_span_id), (&published.trace_id, &published.span_id));
        }
    }
    // Nothing of a trace is kept in memory: it goes on after a kill.
    gateway.kill();
    gateway.restart();
    let mut away = Client::connect(gateway.mqtt(), &Hello { clean_start: false, ..hello }).0;
    away.messages(1);
    let late = collector.await_spans("deliver", "devices/1", 3);
    let late = late.iter().find(|span| text(span, "messaging.client.id") == "away").expect("the late one");
    assert_eq!((&late.trace_id, &late.parent_span_id), (&kept.trace_id, &kept.span_id));
}

#[test]
fn workers_of_a_consumer_and_deliveries_that_fail_are_told_as_such() {
    let collector = Collector::default();
    let consumer = "consumer=[{name='billing', stream='telemetry', filter='#', backoff=['10ms']}]";
    let gateway = gateway(&collector, &["telemetry.traces_sample_ratio=1", consumer]);
    let mut worker = gateway.connect(V5, "worker");
    worker.subscribe(&[("$consumer/billing", QOS1)]);
    gateway.connect(V5, "meter").publish("devices/1", "21.5", QOS1);
    let message = worker.message();
    let parent = message.user_property("traceparent").to_owned();
    // It goes away without a word about the event.
    drop(worker);
    let lost = collector.await_one("deliver", "devices/1");
    assert_eq!(text(&lost, "messaging.consumer.group.name"), "billing");
    assert_eq!(
        (integer(&lost, "gateway.attempt"), text(&lost, "gateway.outcome")),
        (1, "interrupted".into())
    );
    assert_eq!(lost.status.as_ref().unwrap().code(), StatusCode::Error);
    let published = collector.await_one("publish", "devices/1");
    assert_eq!(lost.parent_span_id, published.span_id);
    assert!(parent.contains(&hex(&published.span_id)));
    gateway.connect(V5, "meter").publish("$reserved", "no", QOS1);
    let refused = collector.await_one("publish", "$reserved");
    assert_eq!(text(&refused, "error.type"), "reserved_topic");
}

#[test]
fn workers_over_http_and_sinks_deliver_in_spans_of_their_own() {
    let collector = Collector::default();
    let (taken, nobody) =
        (http_receiver::listen(|_, _| (200, "")), http_receiver::listen(|_, _| (422, "no")));
    let sink = |name: &str, filter: &str, address: SocketAddr| {
        format!(
            "{{name='{name}', type='webhook', stream='telemetry', filter='{filter}', url='http://{address}/'}}"
        )
    };
    let sinks = format!("sink=[{}, {}]", sink("hook", "#", taken), sink("deaf", "devices/2", nobody));
    let consumer = "consumer=[{name='billing', stream='telemetry', filter='#', backoff=['10ms']}]";
    let gateway = gateway(&collector, &["telemetry.traces_sample_ratio=1", consumer, &sinks]);
    let mut device = gateway.connect(V5, "meter");
    device.publish("devices/1", "21.5", QOS1);
    let published = collector.await_one("publish", "devices/1");
    for (verb, attempt, outcome) in [("nak", 1, "handed_back"), ("ack", 2, "acknowledged")] {
        let events = get(&gateway, "/v1/consumers/billing/next?wait=20s&worker=till")["events"].clone();
        let ids = json!({ "ids": [events[0]["id"]] });
        assert_eq!(send(&gateway, "POST", &format!("/v1/consumers/billing/{verb}"), ids).0, 200);
        let is_it = |span: &Span| text(span, "messaging.client.id") == "till";
        let spans =
            || collector.spans().into_iter().filter(|span| span.name == "deliver" && is_it(span)).collect();
        let count = attempt as usize;
        let spans: Vec<Span> = wait::until_it(verb, LIMIT, spans, |spans: &Vec<Span>| spans.len() == count);
        let span = &spans[count - 1];
        assert_eq!(
            (integer(span, "gateway.attempt"), text(span, "gateway.outcome")),
            (attempt, outcome.into())
        );
        assert_eq!(text(span, "messaging.consumer.group.name"), "billing");
        assert_eq!((&span.trace_id, &span.parent_span_id), (&published.trace_id, &published.span_id));
    }
    // The other sink refuses what it gets.
    device.publish("devices/2", "22", QOS1);
    let published = collector.await_one("publish", "devices/2");
    let spans = collector.await_spans("deliver", "devices/2", 2);
    for (sink, outcome) in [("sink/hook", "written"), ("sink/deaf", "refused")] {
        let span = spans.iter().find(|span| text(span, "messaging.consumer.group.name") == sink).expect(sink);
        assert_eq!(
            (text(span, "gateway.outcome"), &span.parent_span_id),
            (outcome.into(), &published.span_id)
        );
    }
}

#[test]
fn a_will_message_is_a_publish_of_who_left_it() {
    let collector = Collector::default();
    let gateway = gateway(&collector, &["telemetry.traces_sample_ratio=0"]);
    let mut reader = gateway.connect(V5, "reader");
    reader.subscribe(&[("devices/#", QOS1)]);
    let mut will = Will::new("devices/meter/gone", "1");
    will.properties = context(SAMPLED);
    let (meter, _) = Client::connect(gateway.mqtt(), &Hello::new(V5, "meter").will(will));
    // It goes away without a word.
    drop(meter);
    let message = reader.message();
    reader.acknowledge(&message);
    assert_eq!(message.user_property("traceparent"), SAMPLED);
    let (published, delivered) = (
        collector.await_one("publish", "devices/meter/gone"),
        collector.await_one("deliver", "devices/meter/gone"),
    );
    assert_eq!(hex(&published.parent_span_id), "00f067aa0ba902b7");
    assert_eq!(text(&published, "messaging.client.id"), "meter");
    assert_eq!(text(&published, "gateway.outcome"), "submitted");
    assert_eq!(delivered.parent_span_id, published.span_id);
}

#[test]
fn a_collector_that_is_not_there_costs_spans_and_nobody_else_anything() {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut gateway = Gateway::start_with(GatewayOptions {
        sets: vec![
            format!("telemetry.traces_endpoint=http://{nobody}"),
            "telemetry.traces_sample_ratio=1".into(),
            "telemetry.traces_queue=16".into(),
        ],
        ..GatewayOptions::default()
    });
    let mut reader = gateway.connect(V5, "reader");
    reader.subscribe(&[("devices/#", QOS1)]);
    let mut device = gateway.connect(V5, "meter");
    for number in 0..200 {
        device.publish("devices/1", &number.to_string(), QOS1);
        assert_eq!(reader.messages(1)[0].payload, number.to_string());
    }
    let failures = || gateway.metrics().find("gateway_spans_export_failures_total");
    wait::until_it("an attempt failed", LIMIT, failures, |failures| {
        failures.is_some_and(|count| count >= 1.0)
    });
    let metrics = gateway.metrics();
    let count = |series: &str| metrics.find(series).unwrap_or_else(|| panic!("no {series}"));
    let ended =
        count(r#"gateway_spans_total{name="publish"}"#) + count(r#"gateway_spans_total{name="deliver"}"#);
    let dropped = count(r#"gateway_spans_dropped_total{reason="queue_full"}"#);
    // One batch is being tried, one waits.
    assert!(dropped >= ended - 32.0 && dropped > 300.0, "{dropped} of {ended}");
    assert_eq!(count("gateway_spans_exported_total"), 0.0);
    gateway.terminate();
}
