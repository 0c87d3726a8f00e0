//! Sections 3.1.2.10 and 3.1.2.11: Keep Alive, and what the client announces of itself.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use gateway_protocol::packet::{Ack, Packet};
use gateway_protocol::{PacketType, Properties, Property};
use gateway_tests::{Client, Ended, Frame, Gateway, Hello, ReasonCode, TIMEOUT};

use super::support::{
    announced, assert_next, assert_quiet, at_most, back, connect, id, list, packet, pass,
    publish_exactly_once, retain, text,
};
use crate::{QOS0, QOS1, QOS2, V5};

#[test]
fn mqtt_3_1_2_22_silence_for_one_and_a_half_keep_alive_closes() {
    let gateway = Gateway::start();
    let began = Instant::now();
    let (mut client, _) = connect(&gateway, &Hello::new(V5, "silent").keep_alive_secs(1));
    // What is sent to the client is no sign of life of its.
    client.subscribe(&[("t", QOS0)]);
    let last_sent = Instant::now();
    let mut publisher = gateway.connect(V5, "publisher");
    publisher.publish("t", "x", QOS1);
    assert_eq!(client.await_close(TIMEOUT), Some(ReasonCode::KeepAliveTimeout));
    assert!(began.elapsed() >= Duration::from_millis(1_450), "{:?}", began.elapsed());
    assert!(last_sent.elapsed() < Duration::from_secs(8), "{:?}", last_sent.elapsed());
    publisher.ping();
    // Keep Alive 0 turns it off.
    let (mut client, _) = connect(&gateway, &Hello::new(V5, "at-ease").keep_alive_secs(0));
    pass(&mut client, Duration::from_secs(2));
    client.ping();
}

#[test]
fn mqtt_3_1_2_23_the_session_outlives_its_connection_until_it_expires() {
    let gateway = Gateway::start();
    for (secs, name) in [(60, "a-minute"), (u32::MAX, "for-ever")] {
        let hello = Hello::new(V5, name).clean_start(false).with(Property::SessionExpiryInterval(secs));
        let (mut client, _) = Client::connect(gateway.mqtt(), &hello);
        client.subscribe(&[("t", QOS1)]);
        drop(client);
        gateway.connect(V5, "publisher").publish("t", name, QOS1);
        let (mut client, present) = Client::connect(gateway.mqtt(), &hello);
        assert!(present, "{name}");
        assert_next(&mut client, name);
    }
}

/// What a client that takes packets of `bytes` at most is sent.
fn narrow(client_id: &str, bytes: u32) -> Hello {
    Hello::durable(V5, client_id).with(Property::MaximumPacketSize(bytes))
}

fn assert_fits(frame: &Frame, bytes: usize) {
    assert!(frame.bytes().len() <= bytes, "{} bytes: {frame:?}", frame.bytes().len());
}

#[test]
fn mqtt_3_1_2_24_no_packet_above_the_client_s_maximum() {
    const BYTES: usize = 64;
    let gateway = Gateway::start();
    let (mut client, connack) = connect(&gateway, &narrow("narrow", BYTES as u32));
    assert_fits(&connack, BYTES);
    client.subscribe(&[("t/#", QOS1), ("u/#", QOS0)]);
    let mut publisher = gateway.connect(V5, "publisher");
    // PUBLISH: header 2, topic 5, Packet Identifier 2, Property Length 1, so that 54 bytes of payload fit at QoS 1.
    for (topic, qos, fits) in [("t/1", QOS1, 54), ("u/1", QOS0, 56)] {
        for len in fits - 2..fits + 3 {
            publisher.send_publish(topic, &"x".repeat(len), qos);
        }
        publisher.send_publish(topic, "end", qos);
        for len in fits - 2..=fits {
            let frame = client.await_frame("PUBLISH", |packet| matches!(packet, Packet::Publish(_)));
            assert_fits(&frame, BYTES);
            let message = frame.message().unwrap();
            assert_eq!(message.payload.len(), len);
            client.acknowledge(&message);
        }
        assert_next(&mut client, "end");
    }
    // Retained Messages.
    retain(&mut publisher, "v/1", &"x".repeat(100), &list(&[]));
    retain(&mut publisher, "v/2", "small", &list(&[]));
    client.subscribe(&[("v/#", QOS1)]);
    assert_next(&mut client, "small");
    assert_quiet(&mut client);
}

#[test]
fn mqtt_3_1_2_24_no_suback_or_unsuback_above_the_client_s_maximum() {
    const BYTES: usize = 48;
    let gateway = Gateway::start();
    let filters: Vec<String> = (0..100).map(|number| format!("t/{number}")).collect();
    let to_subscribe: Vec<u8> = filters.iter().flat_map(|filter| [text(filter), vec![1]].concat()).collect();
    let to_unsubscribe: Vec<u8> = filters.iter().flat_map(text).collect();
    for (first, filters) in [(0x82, to_subscribe), (0xA2, to_unsubscribe)] {
        let hello = Hello::new(V5, "narrow").with(Property::MaximumPacketSize(BYTES as u32));
        let (mut client, connack) = connect(&gateway, &hello);
        assert_fits(&connack, BYTES);
        client.send_bytes(&packet(first, &[&[0, 1, 0], &filters]));
        client.send(&Packet::PingReq);
        // The answer does not fit. The connection may be closed; what is not allowed is to send it.
        while let Ok(frame) = client.receive(TIMEOUT) {
            assert_fits(&frame, BYTES);
            if matches!(frame.packet(), Packet::PingResp) {
                break;
            }
        }
    }
}

#[test]
fn mqtt_3_1_2_24_no_connack_above_the_client_s_maximum() {
    let gateway = Gateway::start();
    for bytes in 1..32 {
        let mut client = Client::open(gateway.mqtt(), V5);
        client.send_bytes(&narrow("narrow", bytes).bytes());
        match client.receive(TIMEOUT) {
            Ok(frame) => assert_fits(&frame, bytes as usize),
            Err(ended) => assert_eq!(ended, Ended::Closed, "{bytes}"),
        }
    }
}

#[test]
fn mqtt_3_1_2_25_what_is_too_large_counts_as_sent() {
    let gateway = Gateway::start();
    let hello = narrow("narrow", 64).with(Property::ReceiveMaximum(2));
    let (mut client, _) = connect(&gateway, &hello);
    client.subscribe(&[("t", QOS2)]);
    let mut publisher = gateway.connect(V5, "publisher");
    let large = "x".repeat(100);
    // Far more than Receive Maximum: what is dropped uses none of it.
    for _ in 0..5 {
        assert_eq!(publisher.publish("t", &large, QOS1), Some(ReasonCode::Success));
    }
    publish_exactly_once(&mut publisher, "t", &large);
    publisher.publish("t", "small", QOS1);
    assert_next(&mut client, "small");
    // And is not kept for a time when it would fit.
    client.ping();
    client.leave();
    publisher.publish("t", &large, QOS1);
    let (mut client, _) = connect(&gateway, &hello);
    publisher.publish("t", "small again", QOS1);
    assert_next(&mut client, "small again");
    client.leave();
    let mut client = back(&gateway, "narrow");
    publisher.publish("t", "last", QOS1);
    assert_next(&mut client, "last");
}

#[test]
fn mqtt_3_1_2_26_topic_aliases_stay_within_the_client_s_maximum() {
    let gateway = Gateway::start();
    for maximum in [1, 2, 5, u16::MAX] {
        let hello = Hello::new(V5, "reader").with(Property::TopicAliasMaximum(maximum));
        let (mut reader, _) = connect(&gateway, &hello);
        reader.subscribe(&[("t/#", QOS0)]);
        let mut publisher = gateway.connect(V5, "publisher");
        let mut names = BTreeMap::new();
        for number in 0..60 {
            let topic = format!("t/{}/of/quite/some/length", number * number % 7);
            publisher.send_publish(&topic, &topic, QOS0);
            let frame = reader.await_frame("PUBLISH", |packet| matches!(packet, Packet::Publish(_)));
            let Packet::Publish(publish) = frame.packet() else { panic!("{frame:?}") };
            let resolved = match publish.properties.topic_alias() {
                Some(alias) => {
                    assert!((1..=maximum).contains(&alias), "{alias} of {maximum}");
                    if !publish.topic.is_empty() {
                        names.insert(alias, publish.topic.to_owned());
                    }
                    names.get(&alias).map_or("", |name| name)
                }
                None => publish.topic,
            };
            assert_eq!(resolved, topic, "{frame:?}");
            assert_eq!(publish.payload, topic.as_bytes());
        }
        reader.leave();
    }
}

#[test]
fn mqtt_3_1_2_27_without_a_topic_alias_maximum_no_alias_is_sent() {
    let gateway = Gateway::start();
    let plain = Hello::new(V5, "reader");
    for hello in [plain.clone(), plain.with(Property::TopicAliasMaximum(0))] {
        let (mut reader, _) = connect(&gateway, &hello);
        reader.subscribe(&[("t/#", QOS1)]);
        for number in 0..30 {
            let topic = format!("t/{}", number % 3);
            // The publisher's own alias does not travel.
            let alias = list(&[Property::TopicAlias(number % 3 + 1)]);
            reader.send_publish_with(&topic, b"x", QOS0, alias.as_properties());
            let frame = reader.await_frame("PUBLISH", |packet| matches!(packet, Packet::Publish(_)));
            let Packet::Publish(publish) = frame.packet() else { panic!("{frame:?}") };
            assert_eq!((publish.topic, publish.properties.topic_alias()), (&*topic, None));
        }
        reader.leave();
    }
}

#[test]
fn mqtt_3_1_2_28_no_response_information_unless_it_is_asked_for() {
    let gateway = Gateway::start();
    let plain = Hello::new(V5, "c");
    for hello in [plain.clone(), plain.with(Property::RequestResponseInformation(0))] {
        let (_client, connack) = connect(&gateway, &hello);
        assert_eq!(announced(&connack).response_information(), None);
    }
}

/// The properties of an acknowledgement of any kind.
fn properties_of<'a>(frame: &'a Frame) -> Option<Properties<'a>> {
    Some(match frame.packet() {
        Packet::PubAck(ack) | Packet::PubRec(ack) | Packet::PubRel(ack) | Packet::PubComp(ack) => {
            ack.properties
        }
        Packet::SubAck(suback) => suback.properties,
        Packet::UnsubAck(unsuback) => unsuback.properties,
        _ => return None,
    })
}

#[test]
fn mqtt_3_1_2_29_without_problem_information_acknowledgements_have_no_reason_string() {
    let gateway = Gateway::start();
    let hello = Hello::new(V5, "c").with(Property::RequestProblemInformation(0));
    let (mut client, _) = connect(&gateway, &hello);
    // One of each, each of them with a problem.
    client.send_publish("$forbidden", "x", QOS1);
    client.send_publish("$forbidden", "x", QOS2);
    client.send(&Packet::PubRel(Ack::success(id(77))));
    client.send(&Packet::PubRec(Ack::success(id(78))));
    let mut seen = Vec::new();
    for _ in 0..4 {
        let frame = client.next_packet();
        assert_eq!(properties_of(&frame), Some(Properties::default()), "{frame:?}");
        seen.push(frame.packet().packet_type());
    }
    seen.sort();
    assert_eq!(seen, [PacketType::PubAck, PacketType::PubRec, PacketType::PubRel, PacketType::PubComp]);
    client.send_bytes(&packet(0x82, &[&[0, 9, 0], &text("$consumer/x"), &[1]]));
    client.send_bytes(&packet(0xA2, &[&[0, 9, 0], &text("unknown")]));
    for expected in [PacketType::SubAck, PacketType::UnsubAck] {
        let frame = client.next_packet();
        assert_eq!(frame.packet().packet_type(), expected);
        assert_eq!(properties_of(&frame), Some(Properties::default()), "{frame:?}");
    }
    // Where they are allowed, on a PUBLISH, User Properties are still forwarded.
    client.subscribe_with(&[("t", at_most(QOS0))], Properties::default());
    let user_property = list(&[Property::UserProperty { name: "a", value: "b" }]);
    client.send_publish_with("t", b"x", QOS0, user_property.as_properties());
    assert_eq!(client.message().user_property("a"), "b");
}
