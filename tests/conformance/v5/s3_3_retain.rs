//! Section 3.3.1.3, RETAIN, and the options of a subscription that concern it.

use gateway_protocol::packet::{Packet, Publish, RetainHandling, SubscribeOptions};
use gateway_tests::{Client, Gateway, Hello};

use super::support::{
    absent, assert_next, at_most, back, handling, list, publish, publish_exactly_once, retain, subscribe,
    take,
};
use crate::{QOS0, QOS1, QOS2, V5};

/// What a newcomer finds retained on `filter`, in the order of topics: topic and payload. It has to be less than 100.
fn retained(gateway: &Gateway, filter: &str) -> Vec<(String, String)> {
    let mut reader = gateway.connect(V5, "late");
    reader.subscribe(&[(filter, QOS2)]);
    // What is retained comes before what is published after SUBACK.
    reader.subscribe(&[("retained/end", QOS2)]);
    reader.publish("retained/end", "end", QOS1);
    let mut found = Vec::new();
    loop {
        let message = take(&mut reader);
        if message.topic == "retained/end" {
            break;
        }
        assert!(message.retain, "{message:?}");
        found.push((message.topic, message.payload));
    }
    found.sort();
    reader.leave();
    found
}

fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
    list.iter().map(|&(topic, payload)| (topic.to_owned(), payload.to_owned())).collect()
}

#[test]
fn mqtt_3_3_1_5_a_retained_message_replaces_the_one_before() {
    let gateway = Gateway::start();
    let mut publisher = gateway.connect(V5, "publisher");
    for payload in ["first", "second", "third"] {
        retain(&mut publisher, "t/1", payload, &list(&[]));
        retain(&mut publisher, "t/2", payload, &list(&[]));
    }
    assert_eq!(retained(&gateway, "t/#"), pairs(&[("t/1", "third"), ("t/2", "third")]));
    // At each QoS, and with a payload of one byte.
    for (qos, payload) in [(QOS0, "0"), (QOS1, "1"), (QOS2, "2")] {
        publisher.send(&Packet::Publish(Publish { retain: true, ..publish("t/1", payload, qos) }));
        publisher.ping();
        if qos == QOS0 {
            // It has no acknowledgement; the next publish is one for it.
            publisher.publish("t/other", "x", QOS1);
        } else {
            publisher.await_frame("an acknowledgement", |packet| {
                matches!(packet, Packet::PubAck(_) | Packet::PubRec(_))
            });
        }
        let expected = pairs(&[("t/1", payload), ("t/2", "third")]);
        gateway_tests::wait::until_it(
            "the new Retained Message",
            gateway_tests::TIMEOUT,
            || retained(&gateway, "t/#"),
            |found| *found == expected,
        );
    }
}

#[test]
fn mqtt_3_3_1_6_an_empty_payload_is_delivered_and_removes_the_retained_message() {
    let gateway = Gateway::start();
    let mut reader = gateway.connect(V5, "reader");
    subscribe(&mut reader, "t/#", SubscribeOptions { retain_as_published: true, ..at_most(QOS1) });
    absent(&gateway, "sleeper", "t/#", QOS1);
    let mut publisher = gateway.connect(V5, "publisher");
    retain(&mut publisher, "t/1", "stored", &list(&[]));
    retain(&mut publisher, "t/2", "stays", &list(&[]));
    retain(&mut publisher, "t/1", "", &list(&[]));
    publisher.publish("t/end", "end", QOS1);
    for expected in ["stored", "stays", "", "end"] {
        assert_eq!(assert_next(&mut reader, expected).retain, expected != "end");
    }
    let mut sleeper = back(&gateway, "sleeper");
    for expected in ["stored", "stays", "", "end"] {
        assert_next(&mut sleeper, expected);
    }
    assert_eq!(retained(&gateway, "t/#"), pairs(&[("t/2", "stays")]));
}

#[test]
fn mqtt_3_3_1_7_an_empty_message_is_not_retained() {
    let mut gateway = Gateway::start();
    let mut publisher = gateway.connect(V5, "publisher");
    retain(&mut publisher, "t/never", "", &list(&[]));
    retain(&mut publisher, "t/before", "x", &list(&[]));
    retain(&mut publisher, "t/before", "", &list(&[]));
    assert_eq!(retained(&gateway, "t/#"), []);
    gateway.kill();
    gateway.restart();
    assert_eq!(retained(&gateway, "t/#"), []);
}

#[test]
fn mqtt_3_3_1_8_without_retain_nothing_is_stored_or_touched() {
    let gateway = Gateway::start();
    let mut publisher = gateway.connect(V5, "publisher");
    retain(&mut publisher, "t/1", "stored", &list(&[]));
    for (qos, payload) in [(QOS0, "x"), (QOS1, "x"), (QOS0, ""), (QOS1, "")] {
        publisher.publish("t/1", payload, qos);
        publisher.publish("t/2", payload, qos);
    }
    publish_exactly_once(&mut publisher, "t/1", "");
    assert_eq!(retained(&gateway, "t/#"), pairs(&[("t/1", "stored")]));
}

/// Subscribes to `t/#` several times, with one Retained Handling, on a Session that goes on; after which of them the Retained
/// Message comes.
fn comes(gateway: &Gateway, hello: &Hello, retain_handling: RetainHandling) -> Vec<bool> {
    let (mut reader, _) = Client::connect(gateway.mqtt(), hello);
    let mut publisher = gateway.connect(V5, "publisher");
    retain(&mut publisher, "t/1", "retained", &list(&[]));
    let mut came = Vec::new();
    let mut step = |reader: &mut Client| {
        subscribe(reader, "t/#", handling(retain_handling));
        publisher.publish("t/end", "end", QOS1);
        let mut payload = take(reader).payload;
        came.push(payload == "retained");
        if payload == "retained" {
            payload = take(reader).payload;
        }
        assert_eq!(payload, "end");
    };
    step(&mut reader); // new
    step(&mut reader); // there already
    reader.unsubscribe(&["t/#"]);
    step(&mut reader); // new again
    if !hello.clean_start {
        reader.leave();
        step(&mut back(gateway, &hello.client_id)); // there already, from an earlier connection
    }
    came
}

#[test]
fn mqtt_3_3_1_9_retain_handling_0_sends_each_time() {
    let gateway = Gateway::start();
    assert_eq!(comes(&gateway, &Hello::new(V5, "live"), RetainHandling::Send), [true; 3]);
    assert_eq!(comes(&gateway, &Hello::durable(V5, "durable"), RetainHandling::Send), [true; 4]);
    // Each that matches, and no other.
    let mut publisher = gateway.connect(V5, "publisher");
    for topic in ["u", "u/1", "u/1/2", "v", "u/3"] {
        retain(&mut publisher, topic, topic, &list(&[]));
    }
    let expected = |topics: &[&str]| {
        topics.iter().map(|&topic| (topic.to_owned(), topic.to_owned())).collect::<Vec<_>>()
    };
    assert_eq!(retained(&gateway, "u/#"), expected(&["u", "u/1", "u/1/2", "u/3"]));
    assert_eq!(retained(&gateway, "u/+"), expected(&["u/1", "u/3"]));
    assert_eq!(retained(&gateway, "v"), expected(&["v"]));
    assert_eq!(retained(&gateway, "w/#"), []);
}

#[test]
fn mqtt_3_3_1_10_retain_handling_1_sends_for_a_new_subscription() {
    let gateway = Gateway::start();
    let expected = [true, false, true, false];
    assert_eq!(comes(&gateway, &Hello::new(V5, "live"), RetainHandling::SendIfNew), expected[..3]);
    assert_eq!(comes(&gateway, &Hello::durable(V5, "durable"), RetainHandling::SendIfNew), expected);
}

#[test]
fn mqtt_3_3_1_11_retain_handling_2_sends_none() {
    let gateway = Gateway::start();
    assert_eq!(comes(&gateway, &Hello::new(V5, "live"), RetainHandling::DoNotSend), [false; 3]);
    assert_eq!(comes(&gateway, &Hello::durable(V5, "durable"), RetainHandling::DoNotSend), [false; 4]);
}

/// The RETAIN flags of two publishes, without and with RETAIN, as a subscriber gets them, connected or absent.
fn flags(gateway: &Gateway, name: &str, retain_as_published: bool) -> [bool; 4] {
    let options = SubscribeOptions { retain_as_published, ..handling(RetainHandling::DoNotSend) };
    let (mut reader, _) = Client::connect(gateway.mqtt(), &Hello::durable(V5, name));
    subscribe(&mut reader, "t", options);
    let mut publisher = gateway.connect(V5, "publisher");
    let mut send = || {
        publisher.publish("t", "plain", QOS1);
        retain(&mut publisher, "t", "retained", &list(&[]));
    };
    send();
    let connected = [assert_next(&mut reader, "plain").retain, assert_next(&mut reader, "retained").retain];
    reader.leave();
    send();
    let mut reader = back(gateway, name);
    let absent = [assert_next(&mut reader, "plain").retain, assert_next(&mut reader, "retained").retain];
    [connected[0], connected[1], absent[0], absent[1]]
}

#[test]
fn mqtt_3_3_1_12_without_retain_as_published_the_flag_is_0() {
    let gateway = Gateway::start();
    assert_eq!(flags(&gateway, "reader", false), [false; 4]);
    // One that is sent because of a new subscription has it all the same.
    let mut late = gateway.connect(V5, "late");
    subscribe(&mut late, "t", at_most(QOS1));
    assert!(assert_next(&mut late, "retained").retain);
}

#[test]
fn mqtt_3_3_1_13_with_retain_as_published_the_flag_is_as_it_was() {
    let gateway = Gateway::start();
    assert_eq!(flags(&gateway, "reader", true), [false, true, false, true]);
    let mut live = gateway.connect(V5, "live");
    let options = SubscribeOptions { retain_as_published: true, ..at_most(QOS0) };
    subscribe(&mut live, "u", options);
    for retain in [false, true] {
        live.send(&Packet::Publish(Publish { retain, packet_id: None, ..publish("u", "x", QOS0) }));
        assert_eq!(assert_next(&mut live, "x").retain, retain);
    }
}
