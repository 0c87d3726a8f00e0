//! Section 3.3.2.3.4, Topic Aliases.

use std::collections::BTreeSet;

use gateway_protocol::Property;
use gateway_protocol::packet::{Packet, Publish};
use gateway_tests::{Client, Frame, Gateway, Hello, ReasonCode, TIMEOUT};

use super::support::{announced, assert_next, connect, list, packet, properties, publish, text, told_for};
use crate::{QOS0, QOS1, QOS2, V5};

/// A QoS 0 PUBLISH with an alias, and a Topic Name or none.
fn aliased(topic: &str, alias: u16, payload: &str) -> Vec<u8> {
    let [high, low] = alias.to_be_bytes();
    packet(0x30, &[&text(topic), &properties(&[&[0x23, high, low]]), payload.as_bytes()])
}

/// The alias and the Topic Name that a subscriber is sent.
fn alias_and_topic(frame: &Frame) -> (Option<u16>, String) {
    match frame.packet() {
        Packet::Publish(publish) => (publish.properties.topic_alias(), publish.topic.to_owned()),
        other => panic!("{other:?}"),
    }
}

fn next_publish(client: &mut Client) -> Frame {
    client.await_frame("PUBLISH", |packet| matches!(packet, Packet::Publish(_)))
}

#[test]
fn mqtt_3_3_2_7_an_alias_ends_with_its_connection() {
    let gateway = Gateway::start();
    let hello = Hello::durable(V5, "publisher");
    let (mut publisher, _) = connect(&gateway, &hello);
    publisher.send_bytes(&aliased("t", 1, "x"));
    publisher.send_bytes(&aliased("", 1, "x"));
    publisher.ping();
    drop(publisher);
    let (mut publisher, _) = connect(&gateway, &hello);
    publisher.send_bytes(&aliased("", 1, "x"));
    assert_eq!(publisher.await_close(TIMEOUT), Some(ReasonCode::ProtocolError));
    // One client's alias is nothing to another.
    let (mut other, _) = connect(&gateway, &Hello::new(V5, "other"));
    let (mut publisher, _) = connect(&gateway, &hello);
    publisher.send_bytes(&aliased("t", 1, "x"));
    publisher.ping();
    other.send_bytes(&aliased("", 1, "x"));
    assert_eq!(other.await_close(TIMEOUT), Some(ReasonCode::ProtocolError));
    // And the server's own, towards a Session that goes on: each connection is told the name first.
    let hello = Hello::durable(V5, "reader").with(Property::TopicAliasMaximum(5));
    for connection in 0..3 {
        let (mut reader, _) = connect(&gateway, &hello);
        reader.subscribe(&[("u/#", QOS1)]);
        let mut named = BTreeSet::new();
        for _ in 0..3 {
            publisher.publish("u/of/some/length", "x", QOS1);
            let frame = next_publish(&mut reader);
            let (alias, topic) = alias_and_topic(&frame);
            match alias {
                Some(alias) if topic.is_empty() => assert!(named.contains(&alias), "connection {connection}"),
                Some(alias) => {
                    named.insert(alias);
                }
                None => assert_eq!(topic, "u/of/some/length"),
            }
            reader.acknowledge(&frame.message().unwrap());
        }
        reader.ping();
        drop(reader);
    }
}

#[test]
fn mqtt_3_3_2_8_there_is_no_alias_0() {
    let gateway = Gateway::start();
    for topic in ["t", ""] {
        let told = told_for(&gateway, &aliased(topic, 0, "x"));
        assert_eq!(told, Some(ReasonCode::TopicAliasInvalid), "{topic:?}");
    }
    // The server does not send one either: its list begins at 1.
    let hello = Hello::new(V5, "reader").with(Property::TopicAliasMaximum(3));
    let (mut reader, _) = connect(&gateway, &hello);
    reader.subscribe(&[("t/#", QOS0)]);
    for number in 0..20 {
        reader.send_publish(&format!("t/{}", number % 5), "x", QOS0);
        let frame = next_publish(&mut reader);
        assert_ne!(alias_and_topic(&frame).0, Some(0), "{frame:?}");
    }
}

#[test]
fn mqtt_3_3_2_12_every_alias_up_to_the_maximum_is_accepted() {
    for maximum in [1, 2, 16, 100] {
        let gateway = Gateway::start_set(&[&format!("mqtt.topic_alias_maximum={maximum}")]);
        let (mut client, connack) = connect(&gateway, &Hello::new(V5, "c"));
        assert_eq!(announced(&connack).topic_alias_maximum(), Some(maximum));
        client.subscribe(&[("t/#", QOS0)]);
        for alias in (1..=maximum).rev() {
            client.send_bytes(&aliased(&format!("t/{alias}"), alias, "named"));
            let message = assert_next(&mut client, "named");
            assert_eq!(message.topic, format!("t/{alias}"));
        }
        for alias in 1..=maximum {
            client.send_bytes(&aliased("", alias, "by alias"));
            let message = assert_next(&mut client, "by alias");
            assert_eq!(message.topic, format!("t/{alias}"));
        }
        // An alias may be given to another topic, at any QoS.
        let properties = list(&[Property::TopicAlias(maximum)]);
        client.send_publish_with("t/new", b"new", QOS1, properties.as_properties());
        assert_eq!(assert_next(&mut client, "new").topic, "t/new");
        client.send(&Packet::Publish(Publish {
            properties: properties.as_properties(),
            ..publish("", "again", QOS2)
        }));
        assert_eq!(assert_next(&mut client, "again").topic, "t/new");
        // But not one above.
        let told = told_for(&gateway, &aliased("t", maximum + 1, "x"));
        assert_eq!(told, Some(ReasonCode::TopicAliasInvalid));
    }
}

#[test]
fn mqtt_3_3_2_11_aliases_to_a_client_stay_within_its_maximum() {
    let gateway = Gateway::start();
    for (maximum, qos) in [(1, QOS0), (3, QOS1), (1_000, QOS1)] {
        let hello = Hello::durable(V5, "reader").clean_start(true).with(Property::TopicAliasMaximum(maximum));
        let (mut reader, _) = connect(&gateway, &hello);
        reader.subscribe(&[("t/#", qos)]);
        for number in 0..50 {
            let topic = format!("t/{}", number % 9);
            reader.send_publish(&topic, &topic, qos);
            let frame = next_publish(&mut reader);
            let (alias, topic) = alias_and_topic(&frame);
            assert!(alias.is_none_or(|alias| (1..=maximum).contains(&alias)), "{frame:?}");
            assert!(!topic.is_empty() || alias.is_some(), "{frame:?}");
            reader.acknowledge(&frame.message().unwrap());
        }
        reader.leave();
    }
}
