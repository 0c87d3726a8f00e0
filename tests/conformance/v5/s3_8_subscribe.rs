//! Sections 3.8 and 3.9, SUBSCRIBE and SUBACK.

use gateway_protocol::packet::{Packet, RetainHandling, SubscribeOptions};
use gateway_protocol::{Properties, Property};
use gateway_tests::{Client, Gateway, Hello, QoS, ReasonCode, TIMEOUT, Will};

use super::support::{
    announced, assert_next, assert_quiet, at_most, back, connect, handling, list, packet, properties,
    publish_exactly_once, retain, subscribe, take, text, told_for,
};
use crate::{QOS0, QOS1, QOS2, V5};

const SUBACK_CODES: [u8; 12] = [0x00, 0x01, 0x02, 0x80, 0x83, 0x87, 0x8F, 0x91, 0x97, 0x9E, 0xA1, 0xA2];

#[test]
fn mqtt_3_8_1_1_subscribe_has_flags_0010() {
    let gateway = Gateway::start();
    for flags in (0..16).filter(|flags| *flags != 2) {
        let bytes = packet(0x80 | flags, &[&[0, 1, 0], &text("t"), &[0]]);
        assert_eq!(told_for(&gateway, &bytes), Some(ReasonCode::MalformedPacket), "{flags:04b}");
    }
}

#[test]
fn mqtt_3_8_3_3_no_local_keeps_a_client_s_own_messages_from_it() {
    let gateway = Gateway::start();
    let no_local = |qos| SubscribeOptions { no_local: true, ..at_most(qos) };
    for hello in [Hello::new(V5, "live"), Hello::durable(V5, "durable")] {
        let (mut client, _) = Client::connect(gateway.mqtt(), &hello);
        let mut other = gateway.connect(V5, "other");
        subscribe(&mut client, "t", no_local(QOS2));
        for qos in [QOS0, QOS1] {
            client.publish("t", "own", qos);
            other.publish("t", "other's", qos);
            assert_next(&mut client, "other's");
        }
        publish_exactly_once(&mut client, "t", "own");
        publish_exactly_once(&mut other, "t", "other's");
        assert_next(&mut client, "other's");
        // Somebody else gets them; and so does the client itself, through a subscription without the option.
        other.subscribe(&[("t", QOS1)]);
        client.publish("t", "for the other", QOS1);
        assert_next(&mut other, "for the other");
        client.subscribe(&[("t/#", QOS1)]);
        client.publish("t", "by another filter", QOS1);
        assert_next(&mut client, "by another filter");
        assert_quiet(&mut client);
        client.leave();
        other.leave();
    }
}

#[test]
fn mqtt_3_8_3_3_no_local_goes_by_the_client_identifier() {
    let gateway = Gateway::start();
    let options = SubscribeOptions { no_local: true, ..at_most(QOS1) };
    let (mut client, _) = Client::connect(gateway.mqtt(), &Hello::durable(V5, "c"));
    subscribe(&mut client, "t", options);
    client.leave();
    // On another connection, of the same client; and while it is away nobody else's are lost.
    let mut client = back(&gateway, "c");
    client.publish("t", "own", QOS1);
    client.leave();
    gateway.connect(V5, "other").publish("t", "other's", QOS1);
    let mut client = back(&gateway, "c");
    assert_next(&mut client, "other's");
    // Its own Will Message is its own, too.
    let will = Will::new("t", "own will");
    client.leave();
    drop(Client::connect(gateway.mqtt(), &Hello { will: Some(will), ..Hello::durable(V5, "c") }));
    let mut client = back(&gateway, "c");
    gateway.connect(V5, "other").publish("t", "last", QOS1);
    assert_next(&mut client, "last");
}

#[test]
fn mqtt_3_8_3_5_reserved_option_bits_are_malformed() {
    let gateway = Gateway::start();
    for options in [0x40, 0x80, 0xC0, 0x41, 0xAE] {
        let bytes = packet(0x82, &[&[0, 1, 0], &text("t"), &[options]]);
        assert_eq!(told_for(&gateway, &bytes), Some(ReasonCode::MalformedPacket), "{options:#010b}");
    }
    // Values that do not exist: QoS 3, Retain Handling 3.
    for options in [0x03, 0x30, 0x33, 0x3C] {
        let bytes = packet(0x82, &[&[0, 1, 0], &text("t"), &[options]]);
        assert_eq!(told_for(&gateway, &bytes), Some(ReasonCode::ProtocolError), "{options:#010b}");
    }
    // All that is defined is accepted.
    let mut client = gateway.connect(V5, "c");
    for options in (0..0x30).filter(|options| options & 3 != 3) {
        client.send_bytes(&packet(0x82, &[&[0, 1, 0], &text("t"), &[options]]));
        assert_eq!(client.next_packet().bytes(), [0x90, 4, 0, 1, 0, options & 3]);
    }
}

#[test]
fn mqtt_3_8_4_1_subscribe_is_answered_by_suback() {
    let gateway = Gateway::start();
    for hello in [Hello::new(V5, "live"), Hello::durable(V5, "durable")] {
        let (mut client, _) = Client::connect(gateway.mqtt(), &hello);
        // [MQTT-3.8.4-2] With its Packet Identifier; answers to many in flight are all given.
        let ids = [5_u16, 0xFFFF, 1, 0x1234, 6];
        let bytes: Vec<u8> =
            ids.iter().flat_map(|id| packet(0x82, &[&id.to_be_bytes(), &[0], &text("t"), &[1]])).collect();
        client.send_bytes(&bytes);
        let mut answered = Vec::new();
        for _ in ids {
            let suback = client.next_packet();
            assert_eq!(suback.bytes()[..2], [0x90, 4], "{suback:?}");
            assert_eq!(suback.bytes()[4..], [0, 1], "{suback:?}");
            answered.push(u16::from_be_bytes([suback.bytes()[2], suback.bytes()[3]]));
        }
        answered.sort_unstable();
        assert_eq!(answered, [1, 5, 6, 0x1234, 0xFFFF]);
        // With all that a SUBSCRIBE may have.
        let extras =
            properties(&[&[0x0B, 9], &[0x26], &text("a"), &text("b"), &[0x26], &text("a"), &text("b")]);
        client.send_bytes(&packet(0x82, &[&[0, 1], &extras, &text("t"), &[1]]));
        assert_eq!(client.next_packet().bytes(), [0x90, 4, 0, 1, 0, 1]);
    }
}

#[test]
fn mqtt_3_8_4_3_the_same_filter_again_replaces_the_subscription() {
    let gateway = Gateway::start();
    for hello in [Hello::new(V5, "live"), Hello::durable(V5, "durable")] {
        let (mut client, _) = Client::connect(gateway.mqtt(), &hello);
        for (qos, granted) in [(QOS0, QOS0), (QOS2, QOS1), (QOS1, QOS1), (QOS0, QOS0)] {
            subscribe(&mut client, "t/#", at_most(qos));
            client.publish("t/1", "x", QOS1);
            assert_eq!(assert_next(&mut client, "x").qos, granted, "by the newest options");
            client.publish("t/1", "once", QOS1);
            assert_next(&mut client, "once");
        }
        // Its other options, too.
        subscribe(&mut client, "t/#", SubscribeOptions { no_local: true, ..at_most(QOS1) });
        client.publish("t/1", "own", QOS1);
        subscribe(&mut client, "t/#", at_most(QOS1));
        client.publish("t/1", "own again", QOS1);
        assert_next(&mut client, "own again");
        // And it is one: removed, it is gone.
        assert_eq!(client.unsubscribe(&["t/#"]), [ReasonCode::Success]);
        assert_eq!(client.unsubscribe(&["t/#"]), [ReasonCode::NoSubscriptionExisted]);
        client.leave();
    }
}

#[test]
fn mqtt_3_8_4_4_a_replacement_resends_retained_messages_and_loses_nothing() {
    let gateway = Gateway::start();
    for (hello, qos) in [
        (Hello::new(V5, "live"), QOS0),
        (Hello::new(V5, "live"), QOS1),
        (Hello::durable(V5, "durable"), QOS1),
    ] {
        let (mut client, _) = Client::connect(gateway.mqtt(), &hello);
        subscribe(&mut client, "t/#", handling(RetainHandling::DoNotSend));
        // While another client publishes, the subscription is replaced again and again.
        let mut publisher = gateway.connect(V5, "publisher");
        for number in 0..200 {
            publisher.send_publish("t/1", &number.to_string(), qos);
            if number % 10 == 0 {
                let options =
                    SubscribeOptions { no_local: number % 20 == 0, ..handling(RetainHandling::DoNotSend) };
                subscribe(&mut client, "t/#", options);
            }
        }
        for number in 0..200 {
            assert_next(&mut client, &number.to_string());
        }
        // Retained Messages, each time.
        retain(&mut publisher, "t/1", "retained", &list(&[]));
        assert_next(&mut client, "retained");
        for _ in 0..3 {
            subscribe(&mut client, "t/#", handling(RetainHandling::Send));
            assert!(assert_next(&mut client, "retained").retain);
        }
        client.leave();
    }
}

#[test]
fn mqtt_3_8_4_5_several_filters_are_several_subscriptions_with_one_suback() {
    let gateway = Gateway::start();
    let (mut client, _) = Client::connect(gateway.mqtt(), &Hello::durable(V5, "c"));
    let filters = [("a", QOS0), ("b/#", QOS1), ("+/c", QOS2), ("a", QOS2)];
    let codes = client.subscribe(&filters);
    // [MQTT-3.8.4-6] One code for each.
    let granted =
        [ReasonCode::Success, ReasonCode::GrantedQos1, ReasonCode::GrantedQos2, ReasonCode::GrantedQos2];
    assert_eq!(codes, granted);
    assert_quiet(&mut client);
    for (topic, qos) in [("a", QOS2), ("b/1", QOS1), ("x/c", QOS2)] {
        client.send_publish(topic, topic, QOS2);
        assert_eq!(assert_next(&mut client, topic).qos, qos);
    }
    assert_eq!(client.unsubscribe(&["b/#"]), [ReasonCode::Success]);
    client.send_publish("b/1", "gone", QOS1);
    client.send_publish("a", "there", QOS1);
    assert_next(&mut client, "there");
}

#[test]
fn mqtt_3_8_4_7_each_code_is_the_granted_qos_or_a_failure() {
    let gateway = Gateway::start_set(&["mqtt.max_qos=1", "admission.max_subscriptions_per_client=3"]);
    let mut client = gateway.connect(V5, "c");
    // [MQTT-3.9.3-1] In the order of the filters; [MQTT-3.9.3-2] codes of the table alone.
    let body: Vec<u8> = [("a", 2), ("$consumer/x", 1), ("b", 0), ("c", 1), ("one/too/many", 1), ("a", 0)]
        .iter()
        .flat_map(|(filter, options)| [text(filter), vec![*options]].concat())
        .collect();
    client.send_bytes(&packet(0x82, &[&[0, 1, 0], &body]));
    let suback = client.next_packet();
    let codes = &suback.bytes()[5..];
    assert_eq!(codes.len(), 6, "{suback:?}");
    assert!(codes.iter().all(|code| SUBACK_CODES.contains(code)), "{suback:?}");
    assert_eq!([codes[0], codes[2], codes[3], codes[5]], [1, 0, 1, 0], "{suback:?}");
    assert!(codes[1] >= 0x80 && codes[4] >= 0x80, "{suback:?}");
    // What was refused is not subscribed to, what was granted is.
    for topic in ["one/too/many", "c"] {
        client.publish(topic, topic, QOS1);
    }
    assert_next(&mut client, "c");
    assert_quiet(&mut client);
}

#[test]
fn mqtt_3_8_4_7_what_is_not_offered_is_refused_by_its_own_code() {
    let gateway = Gateway::start_set(&[
        "mqtt.wildcard_subscription_available=false",
        "mqtt.subscription_identifiers_available=false",
        "mqtt.shared_subscription_available=false",
    ]);
    let (mut client, connack) = connect(&gateway, &Hello::new(V5, "c"));
    let offered = announced(&connack);
    assert_eq!(offered.wildcard_subscription_available(), Some(false));
    assert_eq!(offered.subscription_identifier_available(), Some(false));
    assert_eq!(offered.shared_subscription_available(), Some(false));
    assert_eq!(subscribe(&mut client, "t/#", at_most(QOS1)), ReasonCode::WildcardSubscriptionsNotSupported);
    assert_eq!(subscribe(&mut client, "+", at_most(QOS1)), ReasonCode::WildcardSubscriptionsNotSupported);
    let shared = subscribe(&mut client, "$share/g/t", at_most(QOS1));
    assert_eq!(shared, ReasonCode::SharedSubscriptionsNotSupported);
    let identifier = list(&[Property::SubscriptionIdentifier(1)]);
    let codes = client.subscribe_with(&[("t", at_most(QOS1))], identifier.as_properties());
    assert_eq!(codes, [ReasonCode::SubscriptionIdentifiersNotSupported]);
    assert_eq!(subscribe(&mut client, "t", at_most(QOS1)), ReasonCode::GrantedQos1);
}

#[test]
fn mqtt_3_8_4_8_a_delivery_has_the_lower_of_both_qos() {
    let gateway = Gateway::start();
    for hello in [Hello::new(V5, "live"), Hello::durable(V5, "durable")] {
        let (mut reader, _) = Client::connect(gateway.mqtt(), &hello);
        let mut publisher = gateway.connect(V5, "publisher");
        for granted in [QOS0, QOS1, QOS2] {
            subscribe(&mut reader, "t", at_most(granted));
            for published in [QOS0, QOS1, QOS2] {
                match published {
                    QoS::ExactlyOnce => publish_exactly_once(&mut publisher, "t", "x"),
                    _ => drop(publisher.publish("t", "x", published)),
                }
                let qos = take(&mut reader).qos;
                assert_eq!(qos, published.min(granted), "published at {published:?}, granted {granted:?}");
            }
            // Retained Messages alike.
            reader.unsubscribe(&["t"]);
            retain(&mut publisher, "t", "retained", &list(&[]));
            subscribe(&mut reader, "t", at_most(granted));
            assert_eq!(assert_next(&mut reader, "retained").qos, QOS1.min(granted));
            reader.unsubscribe(&["t"]);
            retain(&mut publisher, "t", "", &list(&[]));
        }
        reader.leave();
    }
}

#[test]
fn mqtt_3_9_2_1_suback_explains_nothing_and_fits() {
    const BYTES: u32 = 40;
    let gateway = Gateway::start();
    let (mut client, _) = connect(&gateway, &Hello::new(V5, "c").with(Property::MaximumPacketSize(BYTES)));
    for filter in ["granted", "$consumer/no/such", "$stream/no/such"] {
        client.send_bytes(&packet(0x82, &[&[0, 1, 0], &text(filter), &[1]]));
        let suback = client.await_frame("SUBACK", |packet| matches!(packet, Packet::SubAck(_)));
        assert_eq!(suback.bytes().len(), 6, "{suback:?}");
        let Packet::SubAck(ack) = suback.packet() else { panic!("{suback:?}") };
        assert_eq!(ack.properties, Properties::default());
    }
}

#[test]
fn a_subscribe_without_a_filter_is_a_protocol_error() {
    let gateway = Gateway::start();
    for body in [&[0, 1, 0][..], &[0, 1, 2, 0x0B, 1]] {
        let mut client = gateway.connect(V5, "offender");
        client.send_bytes(&packet(0x82, &[body]));
        assert_eq!(client.await_close(TIMEOUT), Some(ReasonCode::ProtocolError), "{body:?}");
    }
}
