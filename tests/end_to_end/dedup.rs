//! Idempotent publishing: events with a User Property `event-id`, published more than once.

use gateway_protocol::packet::{Ack, Packet, Publish};
use gateway_protocol::{PacketId, Properties, PropertiesBuf, Property, encode};
use gateway_tests::{Client, Gateway, Hello, ProtocolVersion, QoS, ReasonCode, TIMEOUT, wait};

use crate::{QOS0, QOS1};

const V5: ProtocolVersion = ProtocolVersion::V5;
const QOS2: QoS = QoS::ExactlyOnce;

fn named(name: &str) -> PropertiesBuf {
    let mut properties = PropertiesBuf::new();
    properties.push(Property::UserProperty { name: "event-id", value: name }).unwrap();
    properties
}

/// Publishes under a name and waits for the PUBACK or PUBREC. Whether that says that the event is there already.
fn publish(client: &mut Client, name: &str, payload: &str, qos: QoS) -> bool {
    let properties = named(name);
    let id =
        client.send_publish_with("devices/1", payload.as_bytes(), qos, properties.as_properties()).unwrap();
    let is_duplicate = await_acknowledgement(client, id);
    if qos == QOS2 {
        client.send(&Packet::PubRel(Ack::success(id)));
        client.await_frame("PUBCOMP", |packet| matches!(packet, Packet::PubComp(ack) if ack.packet_id == id));
    }
    is_duplicate
}

fn await_acknowledgement(client: &mut Client, id: PacketId) -> bool {
    let frame = client.await_frame(
        "an acknowledgement",
        |packet| matches!(packet, Packet::PubAck(ack) | Packet::PubRec(ack) if ack.packet_id == id),
    );
    let (Packet::PubAck(ack) | Packet::PubRec(ack)) = frame.packet() else { unreachable!() };
    assert_eq!(ack.reason_code, ReasonCode::Success);
    let properties: Vec<_> = ack.properties.user_properties().collect();
    assert!(properties.is_empty() || properties == [("event-id-duplicate", "1")], "{properties:?}");
    !properties.is_empty()
}

/// Everything that the stream has, an event `end` last.
fn stream(gateway: &Gateway) -> Vec<String> {
    gateway.connect(V5, "the-last").publish("devices/1", "end", QOS1);
    let mut reader = gateway.connect(V5, "reader");
    reader.subscribe(&[("$stream/telemetry/earliest/#", QOS1)]);
    up_to_the_end(&mut reader)
}

fn up_to_the_end(client: &mut Client) -> Vec<String> {
    let mut payloads = Vec::new();
    while payloads.last().is_none_or(|last| last != "end") {
        payloads.push(client.messages(1).remove(0).payload);
    }
    payloads
}

/// `duplicates` of `received` PUBLISH packets were acknowledged and not stored.
fn assert_books(gateway: &Gateway, received: usize, duplicates: usize) {
    let metrics = gateway.metrics();
    let gone = metrics.sum("gateway_events_accepted_total") + metrics.sum("gateway_events_rejected_total");
    assert_eq!((metrics.sum("gateway_events_received_total"), gone), (received as f64, received as f64));
    assert_eq!(metrics.get("gateway_events_accepted_total{kind=\"duplicate\"}"), duplicates as f64);
}

#[test]
fn an_event_published_three_times_once_after_a_kill_is_stored_once_and_acknowledged_three_times() {
    for (version_of_view, qos) in [("saved", QOS1), ("not saved", QOS2)] {
        let interval = if version_of_view == "saved" { "100" } else { "600000" };
        let mut gateway = Gateway::start_set(&[&format!("storage.view_save_interval_ms={interval}")]);
        let hello = Hello::durable(V5, "subscriber");
        let (mut subscriber, _) = Client::connect(gateway.mqtt(), &hello);
        subscriber.subscribe(&[("devices/#", QOS1)]);
        subscriber.leave();
        let mut publisher = gateway.connect(V5, "publisher");
        assert!(!publish(&mut publisher, "e-1", "one", qos));
        assert!(publish(&mut publisher, "e-1", "one", qos));
        assert!(!publish(&mut gateway.connect(V5, "another"), "e-1", "of another client", qos));
        assert_books(&gateway, 3, 1);
        gateway.kill();
        gateway.restart();
        let mut publisher = gateway.connect(V5, "publisher");
        assert!(publish(&mut publisher, "e-1", "one", qos), "the view was {version_of_view}");
        assert!(!publish(&mut publisher, "e-2", "two", qos));
        assert_books(&gateway, 2, 1);
        let stored = ["one", "of another client", "two", "end"];
        assert_eq!(stream(&gateway), stored);
        let (mut subscriber, present) = Client::connect(gateway.mqtt(), &hello);
        assert!(present);
        assert_eq!(up_to_the_end(&mut subscriber), stored);
        gateway.await_gauge("gateway_dedup_entries", 3.0);
        gateway.terminate();
        gateway.restart();
        let mut publisher = gateway.connect(V5, "publisher");
        assert!(publish(&mut publisher, "e-1", "one", qos), "and after an orderly restart");
        gateway.assert_sound();
    }
}

#[test]
fn duplicates_in_one_write_are_acknowledged_in_their_turn() {
    let gateway = Gateway::start();
    let mut client = gateway.connect(V5, "publisher");
    let mut bytes = Vec::new();
    let names = ["a", "a", "b", "a", "b", "c"];
    for (number, name) in (1..).zip(names) {
        let properties = named(name);
        let publish = Publish {
            dup: false,
            qos: QOS1,
            retain: false,
            topic: "devices/1",
            packet_id: PacketId::new(number),
            properties: properties.as_properties(),
            payload: name.as_bytes(),
        };
        encode(&Packet::Publish(publish), V5, &mut bytes).unwrap();
    }
    client.send_bytes(&bytes);
    let acks: Vec<_> = (0..names.len())
        .map(|_| match client.next_packet().packet() {
            Packet::PubAck(ack) => (ack.packet_id.get(), !ack.properties.is_empty()),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(acks, [(1, false), (2, true), (3, false), (4, true), (5, true), (6, false)]);
    assert_books(&gateway, 6, 3);
    assert_eq!(stream(&gateway), ["a", "b", "c", "end"]);
}

#[test]
fn a_publisher_that_reconnects_while_its_event_is_on_its_way_stores_it_once() {
    const EVENTS: usize = 150;
    let gateway = Gateway::start_set(&["admission.flap_connects=0"]);
    for number in 0..EVENTS {
        let name = number.to_string();
        let properties = named(&name);
        let mut first = gateway.connect(V5, "publisher");
        first.send_publish_with("devices/1", name.as_bytes(), QOS1, properties.as_properties());
        if number % 3 == 0 {
            drop(first);
        }
        // It takes over while the first may be read, staged, submitted, or stored.
        let mut second = gateway.connect(V5, "publisher");
        publish(&mut second, &name, &name, if number % 2 == 0 { QOS1 } else { QOS2 });
    }
    let mut expected: Vec<_> = (0..EVENTS).map(|number| number.to_string()).collect();
    expected.push("end".to_owned());
    assert_eq!(stream(&gateway), expected);
    gateway.assert_sound();
}

#[test]
fn qos_0_duplicates_are_absorbed_and_reach_no_live_subscriber() {
    let gateway = Gateway::start();
    let mut live = gateway.connect(V5, "live");
    live.subscribe(&[("devices/#", QOS1)]);
    let mut client = gateway.connect(V5, "publisher");
    for payload in ["first", "second"] {
        let properties = named("e");
        client.send_publish_with("devices/1", payload.as_bytes(), QOS0, properties.as_properties());
    }
    client.publish("devices/1", "end", QOS1);
    assert_eq!(up_to_the_end(&mut live), ["first", "end"]);
    assert_books(&gateway, 3, 1);
}

#[test]
fn a_client_that_wants_no_problem_information_or_speaks_3_1_1_gets_a_plain_acknowledgement() {
    let gateway = Gateway::start();
    let hello = Hello::new(V5, "quiet").with(Property::RequestProblemInformation(0));
    let (mut quiet, _) = Client::connect(gateway.mqtt(), &hello);
    for _ in 0..2 {
        assert!(!publish(&mut quiet, "e", "once", QOS1));
    }
    let mut old = gateway.connect(ProtocolVersion::V3_1_1, "old");
    for _ in 0..2 {
        let id = old.send_publish_with("devices/1", b"each", QOS1, Properties::default()).unwrap();
        assert!(!await_acknowledgement(&mut old, id));
    }
    assert_eq!(stream(&gateway), ["once", "each", "each", "end"]);
}

#[test]
fn a_name_is_forgotten_when_the_window_is_over_or_there_are_too_many() {
    let gateway = Gateway::start_set(&["dedup.window=1s"]);
    let mut client = gateway.connect(V5, "publisher");
    assert!(!publish(&mut client, "e", "one", QOS1));
    wait::until("the end of the window", TIMEOUT, || (!publish(&mut client, "e", "two", QOS1)).then_some(()));
    assert_eq!(stream(&gateway), ["one", "two", "end"]);

    let gateway = Gateway::start_set(&["dedup.max_entries=2"]);
    let mut client = gateway.connect(V5, "publisher");
    for name in ["a", "b", "c"] {
        assert!(!publish(&mut client, name, name, QOS1));
    }
    assert!(publish(&mut client, "b", "b", QOS1) && publish(&mut client, "c", "c", QOS1));
    assert!(!publish(&mut client, "a", "a", QOS1), "it was forgotten early");
    let early = || gateway.metrics().find("gateway_dedup_forgotten_early_total");
    wait::until_it("the count", TIMEOUT, early, |&early| early == Some(2.0));
    assert_eq!(gateway.said(|line| line.contains("dedup.max_entries")).len(), 1);

    let gateway = Gateway::start_set(&["dedup.window=0s"]);
    let mut client = gateway.connect(V5, "publisher");
    for _ in 0..2 {
        assert!(!publish(&mut client, "e", "each time", QOS1));
    }
}
