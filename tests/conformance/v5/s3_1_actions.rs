//! Section 3.1.4, what follows a CONNECT.

use gateway_protocol::Property;
use gateway_tests::{Client, Gateway, Hello, ReasonCode, Will};

use super::support::{
    PINGREQ, absent, answer_to, assert_next, assert_refused, back, connect, connect_with_flags, packet,
    properties, rest_of, text,
};
use crate::{QOS1, QOS2, V5};

#[test]
fn mqtt_3_1_4_1_a_connect_that_breaks_the_format_closes() {
    let gateway = Gateway::start();
    let malformed = ReasonCode::MalformedPacket;
    let with = |list: &[&[u8]]| packet(0x10, &[b"\0\x04MQTT\x05\x02\0\0", &properties(list), &text("c")]);
    let long_name = connect_with_flags(0x02, "c".repeat(20), &[]);
    let protocol_error = ReasonCode::ProtocolError;
    for (what, bytes, reason) in [
        ("nothing after the flags", packet(0x10, &[b"\0\x04MQTT\x05\x02"]), malformed),
        ("no Client Identifier", packet(0x10, &[b"\0\x04MQTT\x05\x02\0\0\0"]), malformed),
        ("bytes too many", connect_with_flags(0x02, "c", &[b"x"]), malformed),
        ("will flag without a will", connect_with_flags(0x06, "c", &[]), malformed),
        ("will QoS 3", connect_with_flags(0x1E, "c", &[&[0], &text("t"), &text("")]), malformed),
        ("will QoS without a will", connect_with_flags(0x0A, "c", &[]), malformed),
        ("Will Retain without a will", connect_with_flags(0x22, "c", &[]), malformed),
        ("User Name flag alone", connect_with_flags(0x82, "c", &[]), malformed),
        ("Password flag alone", connect_with_flags(0x42, "c", &[]), malformed),
        ("Property Length too large", with(&[&[0x21, 0, 1], &[0x7F]]), malformed),
        ("a PUBLISH's property", with(&[&[0x23, 0, 1]]), malformed),
        ("Receive Maximum 0", with(&[&[0x21, 0, 0]]), protocol_error),
        ("Maximum Packet Size 0", with(&[&[0x27, 0, 0, 0, 0]]), protocol_error),
        ("Receive Maximum twice", with(&[&[0x21, 0, 1], &[0x21, 0, 1]]), protocol_error),
        ("Session Expiry Interval twice", with(&[&[0x11, 0, 0, 0, 1], &[0x11, 0, 0, 0, 1]]), protocol_error),
        ("Request Problem Information 2", with(&[&[0x17, 2]]), protocol_error),
        ("Request Response Information 2", with(&[&[0x19, 2]]), protocol_error),
        ("Authentication Data without a method", with(&[&[0x16, 0, 1, 0]]), protocol_error),
        (
            "will topic with a wildcard",
            { connect_with_flags(0x06, "c", &[&[0], &text("t/#"), &text("")]) },
            ReasonCode::TopicNameInvalid,
        ),
    ] {
        assert_refused(&gateway, what, &bytes, reason);
    }
    // Cut anywhere and followed by nothing, it is not complete: closed when the time for a CONNECT is over.
    let gateway = Gateway::start_set(&["mqtt.connect_timeout_ms=300"]);
    let cut = &long_name[..long_name.len() - 1];
    assert_eq!(answer_to(&gateway, cut), []);
    connect(&gateway, &Hello::new(V5, "c")).0.ping();
}

#[test]
fn mqtt_3_1_4_2_a_connect_that_fails_further_checks_closes() {
    let gateway = Gateway::start_set(&[
        "mqtt.max_qos=1",
        "mqtt.retain_available=false",
        "mqtt.allow_empty_client_id=false",
        "admission.max_connections=1",
    ]);
    let will = |qos, retain| Hello::new(V5, "c").will(Will { qos, retain, ..Will::new("t", "x") }).bytes();
    for (what, bytes, reason) in [
        ("Client Identifier", Hello::new(V5, "").bytes(), ReasonCode::ClientIdentifierNotValid),
        ("Will QoS", will(QOS2, false), ReasonCode::QosNotSupported),
        ("Will Retain", will(QOS1, true), ReasonCode::RetainNotSupported),
        (
            "Authentication Method",
            { Hello::new(V5, "c").with(Property::AuthenticationMethod("SCRAM-SHA-1")).bytes() },
            ReasonCode::BadAuthenticationMethod,
        ),
    ] {
        let answer = answer_to(&gateway, &bytes);
        assert_eq!(answer[2..4], [0, reason.as_u8()], "{what}: {answer:02x?}");
    }
    gateway.await_connections(0);
    let mut first = gateway.connect(V5, "first");
    let answer = answer_to(&gateway, &Hello::new(V5, "second").bytes());
    assert_eq!(answer[2..4], [0, ReasonCode::ServerBusy.as_u8()], "one too many: {answer:02x?}");
    first.ping();
}

#[test]
fn mqtt_3_1_4_3_a_second_connection_takes_the_session_over() {
    let gateway = Gateway::start();
    for hello in [Hello::new(V5, "twin"), Hello::durable(V5, "twin")] {
        let (mut old, _) = Client::connect(gateway.mqtt(), &hello);
        old.subscribe(&[("t", QOS1)]);
        let (mut new, _) = Client::connect(gateway.mqtt(), &hello);
        // The last packet is the DISCONNECT that says why, and the connection is closed behind it.
        let last_words = rest_of(&mut old);
        assert_eq!(last_words[0], 0xE0, "{last_words:02x?}");
        assert_eq!(last_words[2], ReasonCode::SessionTakenOver.as_u8());
        assert_eq!(last_words.len(), 2 + usize::from(last_words[1]), "nothing follows");
        new.ping();
        new.leave();
    }
    // Who has another name is left alone.
    let mut other = gateway.connect(V5, "other");
    drop(gateway.connect(V5, "Other"));
    other.ping();
}

#[test]
fn mqtt_3_1_4_4_clean_start_is_processed() {
    let gateway = Gateway::start();
    let steps = [(false, false), (false, true), (true, false), (false, true), (false, true), (true, false)];
    for (step, (clean_start, expected)) in steps.into_iter().enumerate() {
        let hello = Hello::durable(V5, "c").clean_start(clean_start);
        let (mut client, present) = Client::connect(gateway.mqtt(), &hello);
        assert_eq!(present, expected, "step {step}");
        // The subscription is there if and only if the Session is.
        let code = client.unsubscribe(&["t"])[0];
        let found = if present { ReasonCode::Success } else { ReasonCode::NoSubscriptionExisted };
        assert_eq!(code, found, "step {step}");
        client.subscribe(&[("t", QOS1)]);
        client.leave();
    }
}

#[test]
fn mqtt_3_1_4_5_an_accepted_connect_is_answered_by_success() {
    let gateway = Gateway::start();
    let everything = Hello::durable(V5, "everything")
        .keep_alive_secs(60)
        .will(Will::new("t", "x").with(Property::WillDelayInterval(5)))
        .with(Property::ReceiveMaximum(7))
        .with(Property::MaximumPacketSize(1_000))
        .with(Property::TopicAliasMaximum(3))
        .with(Property::RequestResponseInformation(1))
        .with(Property::RequestProblemInformation(1))
        .with(Property::UserProperty { name: "a", value: "b" })
        .with(Property::UserProperty { name: "a", value: "c" });
    for hello in [Hello::new(V5, "plain"), Hello::durable(V5, "durable"), everything] {
        let (mut client, connack) = connect(&gateway, &hello);
        assert_eq!(connack.bytes()[2..4], [0, 0], "{connack:?}");
        client.ping();
    }
    // With User Name and Password, or with one of them; nobody asks for them here.
    for (flags, credentials) in
        [(0xC2, [text("name"), text("secret")].concat()), (0x82, text("name")), (0x42, text("secret"))]
    {
        let mut client = Client::open(gateway.mqtt(), V5);
        client.send_bytes(&connect_with_flags(flags, "c", &[&credentials]));
        let connack = client.next_packet();
        assert_eq!((connack.bytes()[0], &connack.bytes()[2..4]), (0x20, &[0, 0][..]), "{connack:?}");
        client.ping();
    }
}

#[test]
fn mqtt_3_1_4_6_what_follows_a_rejected_connect_is_ignored() {
    let gateway = Gateway::start_set(&["mqtt.allow_empty_client_id=false"]);
    let mut watcher = gateway.connect(V5, "watcher");
    watcher.subscribe(&[("t/#", QOS1)]);
    absent(&gateway, "sleeper", "t/#", QOS1);
    let publish = packet(0x32, &[&text("t/smuggled"), &[0, 1, 0], b"smuggled"]);
    let subscribe = packet(0x82, &[&[0, 2, 0], &text("t/#"), &[1]]);
    let rejected = Hello::new(V5, "").will(Will::new("t/will", "will")).bytes();
    let accepted = Hello::new(V5, "late").bytes();
    let bytes = [&rejected[..], &publish, &subscribe, &PINGREQ, &accepted, &publish].concat();
    let answer = answer_to(&gateway, &bytes);
    assert_eq!((answer[0], answer[3]), (0x20, ReasonCode::ClientIdentifierNotValid.as_u8()));
    assert_eq!(answer.len(), 2 + usize::from(answer[1]), "the CONNACK is all: {answer:02x?}");
    let mut publisher = gateway.connect(V5, "publisher");
    publisher.publish("t/honest", "honest", QOS1);
    assert_next(&mut watcher, "honest");
    assert_next(&mut back(&gateway, "sleeper"), "honest");
}
