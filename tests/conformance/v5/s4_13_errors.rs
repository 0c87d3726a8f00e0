//! Section 4.13, handling errors.

use gateway_protocol::packet::Packet;
use gateway_tests::{Client, Gateway, Hello, ReasonCode, Will};

use super::support::{answer_to, assert_disconnect, assert_next, packet, properties, rest_of, text};
use crate::{QOS1, QOS2, V5};

/// What is wrong, the bytes, and the Reason Code that the text gives for it.
fn errors() -> Vec<(&'static str, Vec<u8>, ReasonCode)> {
    let malformed = ReasonCode::MalformedPacket;
    let protocol_error = ReasonCode::ProtocolError;
    let publish = |list: &[&[u8]]| packet(0x30, &[&text("t"), &properties(list), b"x"]);
    vec![
        ("reserved packet type", packet(0x00, &[]), malformed),
        ("Remaining Length of five bytes", vec![0x30, 0x80, 0x80, 0x80, 0x80, 0x01], malformed),
        ("packet ends too early", packet(0x32, &[&text("t"), &[0]]), malformed),
        ("property unknown", publish(&[&[0x7F, 0]]), malformed),
        ("property of another packet", publish(&[&[0x21, 0, 1]]), malformed),
        ("property cut off", publish(&[&[0x02, 0, 0]]), malformed),
        ("property twice", publish(&[&[0x01, 0], &[0x01, 0]]), protocol_error),
        ("Payload Format Indicator 2", publish(&[&[0x01, 2]]), protocol_error),
        ("Packet Identifier 0", packet(0x32, &[&text("t"), &[0, 0, 0]]), protocol_error),
        ("no Topic Name and no alias", packet(0x30, &[&text(""), &[0]]), protocol_error),
        ("alias of nothing", packet(0x30, &[&text(""), &properties(&[&[0x23, 0, 1]])]), protocol_error),
        ("Subscription Identifier from a client", publish(&[&[0x0B, 1]]), protocol_error),
        ("Topic Alias too large", publish(&[&[0x23, 0xFF, 0xFF]]), ReasonCode::TopicAliasInvalid),
        ("Topic Name", packet(0x30, &[&text("t/#"), &[0]]), ReasonCode::TopicNameInvalid),
        ("Topic Filter", packet(0x82, &[&[0, 1, 0], &text("t/#/u"), &[0]]), ReasonCode::TopicFilterInvalid),
        ("packet too large", vec![0x30, 0xFF, 0xFF, 0xFF, 0x7F, 0, 1], ReasonCode::PacketTooLarge),
        ("a server's packet", packet(0x20, &[&[0, 0, 0]]), protocol_error),
        (
            "No Local on a Shared Subscription",
            { packet(0x82, &[&[0, 1, 0], &text("$share/g/t"), &[0x04]]) },
            protocol_error,
        ),
    ]
}

#[test]
fn mqtt_4_13_1_1_a_malformed_packet_or_protocol_error_closes() {
    let gateway = Gateway::start();
    let mut bystander = gateway.connect(V5, "bystander");
    bystander.subscribe(&[("t", QOS1)]);
    for (what, bytes, reason) in errors() {
        let mut client = gateway.connect(V5, "offender");
        client.send_bytes(&bytes);
        // DISCONNECT says why, and the connection is closed behind it.
        assert_disconnect(&rest_of(&mut client), reason, what);
        // As the first packet it closes too; there is no DISCONNECT then.
        let answer = answer_to(&gateway, &bytes);
        assert!(matches!(answer.first(), None | Some(0x20)), "{what}: {answer:02x?}");
    }
    // Nobody else is harmed.
    bystander.publish("t", "x", QOS1);
    assert_next(&mut bystander, "x");
    gateway.assert_sound();
}

#[test]
fn mqtt_4_13_2_1_with_an_error_code_the_connection_is_closed_sent_or_not() {
    let gateway = Gateway::start_set(&["mqtt.max_qos=1"]);
    // A CONNACK or DISCONNECT with an error is the last of its connection, also where the client does not read it, or sends on.
    let mut client = Client::open(gateway.mqtt(), V5);
    client.send_bytes(&Hello::new(V5, "c").bytes());
    assert!(matches!(client.next_packet().packet(), Packet::ConnAck(_)));
    let flood = packet(0x34, &[&text("t"), &[0, 1, 0], &[b'x'; 1_000]]).repeat(50);
    client.send_bytes(&flood);
    let last_words = rest_of(&mut client);
    if !last_words.is_empty() {
        assert_disconnect(&last_words, ReasonCode::QosNotSupported, "QoS 2");
    }
    // A client's DISCONNECT with an error code closes as well.
    let mut client = gateway.connect(V5, "c");
    client.send_bytes(&packet(0xE0, &[&[0x81]]));
    assert_eq!(rest_of(&mut client), []);
    let refused = Hello::new(V5, "c").will(Will { qos: QOS2, ..Will::new("t", "") });
    let answer = answer_to(&gateway, &[refused.bytes(), flood].concat());
    assert!(answer.is_empty() || answer[..4] == [0x20, 3, 0, 0x9B], "{answer:02x?}");
    gateway.await_connections(0);
}
