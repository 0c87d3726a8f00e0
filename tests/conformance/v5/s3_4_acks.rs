//! Sections 3.4 to 3.7: PUBACK, PUBREC, PUBREL, PUBCOMP.

use gateway_protocol::packet::{Ack, Packet, Publish};
use gateway_protocol::{PacketType, Property};
use gateway_tests::{Client, Frame, Gateway, Hello, QoS, ReasonCode, TIMEOUT};

use super::support::{
    absent, await_pubrec, await_pubrel, connect, id, list, packet, properties, publish, retain, text,
    told_for,
};
use crate::{QOS1, QOS2, V5};

const PUBLISH_CODES: [u8; 9] = [0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99];
const RELEASE_CODES: [u8; 2] = [0x00, 0x92];

/// The Reason Code of an acknowledgement as it is on the wire, left out or not.
fn code_of(frame: &Frame) -> u8 {
    frame.bytes().get(4).copied().unwrap_or(0)
}

/// A gateway that has one Retained Message and no room for another, and a client that takes but small packets.
fn full() -> (Gateway, Client, u32) {
    const BYTES: u32 = 40;
    let gateway = Gateway::start_set(&["mqtt.retained_max_messages=1"]);
    retain(&mut gateway.connect(V5, "filler"), "filler", "x", &list(&[]));
    absent(&gateway, "sleeper", "stored", QOS2);
    let (client, _) = connect(&gateway, &Hello::new(V5, "c").with(Property::MaximumPacketSize(BYTES)));
    (gateway, client, BYTES)
}

/// Publishes for each way a publish may go: taken and wanted by nobody, by somebody, stored; refused for its topic, for its
/// RETAIN. The first answers.
fn answers(client: &mut Client, qos: QoS) -> Vec<(&'static str, Frame)> {
    let mut answers = Vec::new();
    for (topic, retain) in [
        ("nobody", false),
        ("stored", false),
        ("devices/1", false),
        ("$SYS/no", false),
        ("retained/too-many", true),
    ] {
        let packet_id = client.new_id();
        let publish = Publish { retain, packet_id: Some(packet_id), ..publish(topic, "x", qos) };
        client.send(&Packet::Publish(publish));
        let answer = client.next_packet();
        assert_eq!(answer.bytes()[2..4], packet_id.get().to_be_bytes());
        answers.push((topic, answer));
    }
    answers
}

/// Reason Codes out of the table, errors where there are some, and nothing that would not fit: the gateway explains nothing.
fn judge(answers: &[(&str, Frame)], kind: PacketType, bytes_max: u32) {
    for (topic, answer) in answers {
        assert_eq!(answer.packet().packet_type(), kind, "{topic}");
        let code = code_of(answer);
        assert!(PUBLISH_CODES.contains(&code), "{topic}: {code:#04x}");
        let refused = topic.starts_with('$') || topic.starts_with("retained");
        assert_eq!(code >= 0x80, refused, "{topic}: {code:#04x}");
        assert!(answer.bytes().len() <= bytes_max as usize);
        assert_eq!(properties_len(answer), 0, "{answer:?}");
    }
}

/// The length of the properties of an acknowledgement.
fn properties_len(frame: &Frame) -> usize {
    match frame.packet() {
        Packet::PubAck(ack) | Packet::PubRec(ack) | Packet::PubRel(ack) | Packet::PubComp(ack) => {
            ack.properties.raw().len()
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn mqtt_3_4_2_1_puback_has_a_reason_code_of_the_table_and_stays_small() {
    let (_gateway, mut client, bytes_max) = full();
    judge(&answers(&mut client, QOS1), PacketType::PubAck, bytes_max);
}

#[test]
fn mqtt_3_4_2_1_a_client_s_puback_has_a_reason_code_of_the_table() {
    let gateway = Gateway::start();
    for code in (0..=u8::MAX).filter(|code| !PUBLISH_CODES.contains(code)).step_by(7) {
        for kind in [0x40, 0x50] {
            let told = told_for(&gateway, &packet(kind, &[&[0, 1, code]]));
            assert_eq!(told, Some(ReasonCode::ProtocolError), "{kind:#04x} {code:#04x}");
        }
    }
    // With every code that exists, and the explanations that go with it, it is taken.
    let mut client = gateway.connect(V5, "c");
    let reason = [&[0x1F][..], &text("because"), &[0x26], &text("a"), &text("b")].concat();
    let reason = properties(&[&reason]);
    for code in PUBLISH_CODES {
        client.subscribe(&[("t", QOS1)]);
        client.send_publish("t", "x", QOS1);
        let packet_id = client.message().packet_id.unwrap().get().to_be_bytes();
        client.send_bytes(&packet(0x40, &[&packet_id, &[code], &reason]));
        client.ping();
    }
}

#[test]
fn mqtt_3_5_2_1_pubrec_has_a_reason_code_of_the_table_and_stays_small() {
    let (_gateway, mut client, bytes_max) = full();
    judge(&answers(&mut client, QOS2), PacketType::PubRec, bytes_max);
}

#[test]
fn mqtt_3_6_1_1_pubrel_has_flags_0010() {
    let gateway = Gateway::start();
    for flags in (0..16).filter(|flags| *flags != 2) {
        let mut client = gateway.connect(V5, "c");
        let packet_id = client.send_publish("t", "x", QOS2).unwrap();
        client.await_frame("PUBREC", |packet| matches!(packet, Packet::PubRec(_)));
        client.send_bytes(&packet(0x60 | flags, &[&packet_id.get().to_be_bytes()]));
        let told = client.await_close(TIMEOUT);
        assert_eq!(told, Some(ReasonCode::MalformedPacket), "{flags:04b}");
    }
    // The server's own.
    let mut client = gateway.connect(V5, "c");
    client.subscribe(&[("t", QOS2)]);
    client.send_publish("t", "x", QOS2);
    let packet_id = client.message().packet_id.unwrap();
    client.send(&Packet::PubRec(Ack::success(packet_id)));
    let pubrel = await_pubrel(&mut client, packet_id);
    assert_eq!(pubrel.bytes(), [&[0x62, 2][..], &packet_id.get().to_be_bytes()].concat());
}

/// PUBREL for a delivery that is known, and for one that is not.
fn pubrels(client: &mut Client) -> [Frame; 2] {
    client.subscribe(&[("t", QOS2)]);
    client.send_publish("t", "x", QOS2);
    let known = client.message().packet_id.unwrap();
    [known, id(4_711)].map(|packet_id| {
        client.send(&Packet::PubRec(Ack::success(packet_id)));
        await_pubrel(client, packet_id)
    })
}

/// PUBCOMP for a publish that is known, and for one that is not.
fn pubcomps(client: &mut Client) -> [Frame; 2] {
    let known = client.send_publish("t", "x", QOS2).unwrap();
    await_pubrec(client, known);
    [known, id(4_711)].map(|packet_id| {
        client.send(&Packet::PubRel(Ack::success(packet_id)));
        client.await_frame("PUBCOMP", |packet| packet.packet_type() == PacketType::PubComp)
    })
}

fn judge_release(answers: &[Frame; 2], bytes_max: u32) {
    for answer in answers {
        assert!(RELEASE_CODES.contains(&code_of(answer)), "{answer:?}");
        assert!(answer.bytes().len() <= bytes_max as usize);
        assert_eq!(properties_len(answer), 0, "{answer:?}");
    }
    assert_eq!(answers.each_ref().map(code_of), [0x00, 0x92]);
}

#[test]
fn mqtt_3_6_2_1_pubrel_has_a_reason_code_of_the_table_and_stays_small() {
    let (gateway, mut client, bytes_max) = full();
    judge_release(&pubrels(&mut client), bytes_max);
    for code in [0x01, 0x10, 0x80, 0x91, 0xFF] {
        let told = told_for(&gateway, &packet(0x62, &[&[0, 1, code]]));
        assert_eq!(told, Some(ReasonCode::ProtocolError), "{code:#04x}");
    }
}

#[test]
fn mqtt_3_7_2_1_pubcomp_has_a_reason_code_of_the_table_and_stays_small() {
    let (gateway, mut client, bytes_max) = full();
    judge_release(&pubcomps(&mut client), bytes_max);
    for code in [0x01, 0x10, 0x80, 0x91, 0xFF] {
        let told = told_for(&gateway, &packet(0x70, &[&[0, 1, code]]));
        assert_eq!(told, Some(ReasonCode::ProtocolError), "{code:#04x}");
    }
}
