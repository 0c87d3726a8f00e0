//! A sink that posts to a URL, seen from the receiver.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use gateway_protocol::{ProtocolVersion, QoS};
use gateway_tests::{Gateway, wait};
use serde_json::{Value, json};

use crate::admin_api::{done, get, send};
use crate::http_receiver;

const LIMIT: Duration = Duration::from_secs(30);

/// A receiver on a port of its own. It answers as it was told, and 200 when it was told nothing.
#[derive(Clone, Default)]
struct Receiver {
    /// Status of answers to come.
    answers: Arc<Mutex<VecDeque<u16>>>,
    /// Payloads that are answered with 422, wherever in a batch they stand.
    poison: Arc<Mutex<Vec<String>>>,
    taken: Arc<Mutex<Vec<Request>>>,
}

#[derive(Clone, Debug)]
struct Request {
    head: String,
    body: Value,
    status: u16,
}

impl Request {
    fn payloads(&self) -> Vec<String> {
        let events = self.body["events"].as_array().expect("events");
        events.iter().map(|event| event["payload"].as_str().expect("text").to_owned()).collect()
    }
}

impl Receiver {
    fn listen(&self) -> SocketAddr {
        let receiver = self.clone();
        http_receiver::listen(move |head, body| (receiver.take(head, &body), "no"))
    }

    /// The status that a request is answered with.
    fn take(&self, head: String, body: &[u8]) -> u16 {
        let mut request = Request { head, body: serde_json::from_slice(body).expect("JSON"), status: 200 };
        let is_poison = |payload: &String| self.poison.lock().unwrap().contains(payload);
        request.status = match self.answers.lock().unwrap().pop_front() {
            Some(status) => status,
            None if request.payloads().iter().any(is_poison) => 422,
            None => 200,
        };
        let status = request.status;
        self.taken.lock().unwrap().push(request);
        status
    }

    fn requests(&self) -> Vec<Request> {
        self.taken.lock().unwrap().clone()
    }

    /// The payloads of everything that was answered with 200, in the order in which it came.
    fn written(&self) -> Vec<String> {
        let taken = self.taken.lock().unwrap();
        taken.iter().filter(|request| request.status == 200).flat_map(Request::payloads).collect()
    }

    fn await_written(&self, expected: &[String]) {
        wait::until_it("the receiver has all", LIMIT, || self.written(), |written| written == expected);
    }
}

fn sink(address: SocketAddr) -> String {
    format!(
        "sink=[{{name='hook', type='webhook', stream='telemetry', filter='devices/+/out', from='earliest', \
         url='http://{address}/in?x=1', secret='geheim', batch_events=8}}]"
    )
}

fn numbers(range: std::ops::Range<u32>) -> Vec<String> {
    range.map(|number| number.to_string()).collect()
}

#[test]
fn a_webhook_gets_what_matches_in_order_signed_and_in_batches() {
    let receiver = Receiver::default();
    let gateway = Gateway::start_set(&[&sink(receiver.listen())]);
    let mut device = gateway.connect(ProtocolVersion::V5, "meter");
    for number in numbers(0..50) {
        device.publish("devices/meter/out", &number, QoS::AtLeastOnce);
        device.publish("devices/meter/other", "no", QoS::AtLeastOnce);
    }
    receiver.await_written(&numbers(0..50));
    for request in receiver.requests() {
        assert!(request.head.starts_with("POST /in?x=1 HTTP/1.1\r\n"), "{}", request.head);
        let head = request.head.to_ascii_lowercase();
        for header in ["content-type: application/json", "x-gateway-signature: t=", "idempotency-key: hook/"]
        {
            assert!(head.contains(header), "{header}: {head}");
        }
        assert!(request.payloads().len() <= 8);
        let event = &request.body["events"][0];
        assert_eq!(
            (event["publisher"].as_str(), event["topic"].as_str()),
            (Some("meter"), Some("devices/meter/out"))
        );
    }
}

#[test]
fn a_webhook_that_is_down_gets_everything_when_it_is_up_even_after_the_gateway_was_killed() {
    let receiver = Receiver::default();
    let address = receiver.listen();
    let mut gateway = Gateway::start_set(&[&sink(address)]);
    let mut device = gateway.connect(ProtocolVersion::V5, "meter");
    receiver.answers.lock().unwrap().extend([503, 500, 429, 404, 503, 503]);
    for number in numbers(0..20) {
        device.publish("devices/meter/out", &number, QoS::AtLeastOnce);
    }
    let up = || gateway.metrics().find(r#"gateway_sink_up{sink="hook"}"#);
    wait::until_it("the sink is down", LIMIT, up, |up| *up == Some(0.0));
    gateway.kill();
    gateway.restart();
    receiver.await_written(&numbers(0..20));
    wait::until_it(
        "the sink is up",
        LIMIT,
        || gateway.metrics().find(r#"gateway_sink_up{sink="hook"}"#),
        |up| *up == Some(1.0),
    );
}

#[test]
fn what_a_webhook_refuses_holds_nothing_up() {
    let receiver = Receiver::default();
    receiver.poison.lock().unwrap().extend(["3".to_owned(), "11".to_owned()]);
    let gateway = Gateway::start_set(&[&sink(receiver.listen())]);
    let mut device = gateway.connect(ProtocolVersion::V5, "meter");
    for number in numbers(0..20) {
        device.publish("devices/meter/out", &number, QoS::AtLeastOnce);
    }
    let others: Vec<_> =
        numbers(0..20).into_iter().filter(|number| number != "3" && number != "11").collect();
    receiver.await_written(&others);
    wait::until_it(
        "two are dead letters",
        LIMIT,
        || gateway.metrics().find(r#"gateway_sink_rejected_total{sink="hook"}"#),
        |rejected| *rejected == Some(2.0),
    );
}

#[test]
fn a_sink_is_paused_as_its_consumer_over_http_and_by_the_program() {
    let receiver = Receiver::default();
    let gateway = Gateway::start_set(&[&sink(receiver.listen())]);
    let state = || get(&gateway, "/v1/sinks")["sinks"][0]["state"].as_str().unwrap().to_owned();
    wait::until_it("the sink is up", LIMIT, state, |state| state == "up");

    let (status, consumer) = send(&gateway, "POST", "/v1/consumers/sink%2Fhook/pause", Value::Null);
    assert_eq!((status, &consumer["name"], &consumer["paused"]), (200, &json!("sink/hook"), &json!(true)));
    wait::until_it("the sink is paused", LIMIT, state, |state| state == "paused");
    let mut device = gateway.connect(ProtocolVersion::V5, "meter");
    for number in numbers(0..5) {
        device.publish("devices/meter/out", &number, QoS::AtLeastOnce);
    }
    let shown = get(&gateway, "/v1/consumers/sink%2Fhook");
    assert_eq!((&shown["state"], &shown["lag_events"]), (&json!("paused"), &json!(5)), "{shown}");
    assert!(done(&gateway, &["consumers", "list"]).contains("sink/hook"));
    assert_eq!(receiver.written(), [""; 0]);

    // Nobody else works for it, and what it reads is said in the configuration.
    assert_eq!(send(&gateway, "POST", "/v1/consumers/sink%2Fhook/ack", json!({"ids": ["1-1-1"]})).0, 409);
    assert_eq!(send(&gateway, "PATCH", "/v1/consumers/sink%2Fhook", json!({"filter": "x"})).0, 409);
    assert_eq!(send(&gateway, "DELETE", "/v1/consumers/sink%2Fhook", Value::Null).0, 409);

    done(&gateway, &["consumers", "resume", "sink/hook"]);
    receiver.await_written(&numbers(0..5));
}
