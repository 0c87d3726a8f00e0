//! What the tests of MQTT 5 share: packets made byte by byte, without the encoder of the product, and the steps of QoS 2.

use std::io::{ErrorKind, Read};
use std::time::Duration;

use gateway_protocol::packet::{Ack, Packet, Publish, RetainHandling, SubscribeOptions};
use gateway_protocol::{Decoded, PacketId, PacketType, Properties, PropertiesBuf, Property, decode};
use gateway_tests::{Client, Ended, Frame, Gateway, Hello, Message, QoS, ReasonCode, TIMEOUT};

use crate::V5;

/// PINGREQ, PINGRESP: the packets without a body.
pub(super) const PINGREQ: [u8; 2] = [0xC0, 0];
pub(super) const PINGRESP: [u8; 2] = [0xD0, 0];

/// A Variable Byte Integer.
pub(super) fn varint(mut value: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let byte = (value % 128) as u8;
        value /= 128;
        if value == 0 {
            bytes.push(byte);
            return bytes;
        }
        bytes.push(byte | 0x80);
    }
}

/// A string or Binary Data: its length and its bytes, whatever they are.
pub(super) fn text(value: impl AsRef<[u8]>) -> Vec<u8> {
    let value = value.as_ref();
    [&u16::try_from(value.len()).unwrap().to_be_bytes(), value].concat()
}

/// A packet: its first byte, Remaining Length, and the parts of its body.
pub(super) fn packet(first: u8, body: &[&[u8]]) -> Vec<u8> {
    let body = body.concat();
    [&[first], &varint(body.len())[..], &body].concat()
}

/// A Property Length and the properties.
pub(super) fn properties(list: &[&[u8]]) -> Vec<u8> {
    let list = list.concat();
    [varint(list.len()), list].concat()
}

/// A property list.
pub(super) fn list(properties: &[Property<'_>]) -> PropertiesBuf {
    let mut list = PropertiesBuf::new();
    for property in properties {
        list.push(*property).unwrap();
    }
    list
}

/// CONNECT of a client named `client_id`, from its Connect Flags on; `rest` follows the Client Identifier.
pub(super) fn connect_with_flags(flags: u8, client_id: impl AsRef<[u8]>, rest: &[&[u8]]) -> Vec<u8> {
    let head = [&b"\0\x04MQTT\x05"[..], &[flags, 0, 0, 0], &text(client_id)].concat();
    packet(0x10, &[&head, &rest.concat()])
}

pub(super) fn id(packet_id: u16) -> PacketId {
    PacketId::new(packet_id).unwrap()
}

/// All the bytes that come until the connection is closed.
pub(super) fn rest_of(client: &mut Client) -> Vec<u8> {
    let mut answer = Vec::new();
    client.stream().set_read_timeout(Some(TIMEOUT)).unwrap();
    match client.stream().read_to_end(&mut answer) {
        Err(error) if error.kind() != ErrorKind::ConnectionReset => panic!("still open: {error}"),
        _ => answer,
    }
}

/// Sends bytes as the first of a connection; all that comes back until it is closed.
pub(super) fn answer_to(gateway: &Gateway, bytes: &[u8]) -> Vec<u8> {
    let mut client = Client::open(gateway.mqtt(), V5);
    client.send_bytes(bytes);
    rest_of(&mut client)
}

/// Asserts that a first packet is refused: closed without a word, or with this CONNACK.
pub(super) fn assert_refused(gateway: &Gateway, what: &str, bytes: &[u8], reason: ReasonCode) {
    let answer = answer_to(gateway, bytes);
    let is_refusal = match answer.as_slice() {
        [] => true,
        [0x20, _, flags, code, ..] => *flags == 0 && *code == reason.as_u8(),
        _ => false,
    };
    assert!(is_refusal, "{what}: not refused with {reason:?} but answered {answer:02x?}");
}

/// Sends bytes after CONNACK; the Reason Code of the DISCONNECT that ends the connection.
pub(super) fn told_for(gateway: &Gateway, bytes: &[u8]) -> Option<ReasonCode> {
    let mut client = gateway.connect(V5, "offender");
    client.send_bytes(bytes);
    client.await_close(TIMEOUT)
}

/// These bytes are a DISCONNECT with this Reason Code, with a Reason String at most, and nothing else.
pub(super) fn assert_disconnect(bytes: &[u8], reason: ReasonCode, what: &str) {
    let Ok(Decoded::Packet { packet: Packet::Disconnect(disconnect), consumed }) = decode(bytes, V5, 1 << 20)
    else {
        panic!("{what}: not {reason:?}: {bytes:02x?}");
    };
    let is_plain = disconnect.properties.iter().all(|property| matches!(property, Property::ReasonString(_)));
    assert!(
        disconnect.reason_code == reason && consumed == bytes.len() && is_plain,
        "{what}: not {reason:?}: {bytes:02x?}"
    );
}

/// A connection and its CONNACK.
pub(super) fn connect(gateway: &Gateway, hello: &Hello) -> (Client, Frame) {
    let mut client = Client::open(gateway.mqtt(), V5);
    client.send_bytes(&hello.bytes());
    let connack = client.next_packet();
    assert_eq!(connack.packet().packet_type(), PacketType::ConnAck, "{connack:?}");
    (client, connack)
}

/// The properties of a CONNACK.
pub(super) fn announced(connack: &Frame) -> Properties<'_> {
    match connack.packet() {
        Packet::ConnAck(connack) => connack.properties,
        other => panic!("{other:?}"),
    }
}

/// A durable Session with one subscription, its client gone.
pub(super) fn absent(gateway: &Gateway, client_id: &str, filter: &str, qos: QoS) {
    let (mut client, _) = Client::connect(gateway.mqtt(), &Hello::durable(V5, client_id));
    client.subscribe(&[(filter, qos)]);
    client.leave();
}

/// Its client, back.
pub(super) fn back(gateway: &Gateway, client_id: &str) -> Client {
    let (client, present) = Client::connect(gateway.mqtt(), &Hello::durable(V5, client_id));
    assert!(present, "{client_id}: its Session goes on");
    client
}

/// Nothing is on its way but what a PINGREQ sent now brings.
pub(super) fn assert_quiet(client: &mut Client) {
    client.send(&Packet::PingReq);
    let frame = client.next_packet();
    assert_eq!(frame.bytes(), PINGRESP, "nothing else was to come: {frame:?}");
}

/// Lets time pass on a connection that nothing is to come on.
pub(super) fn pass(client: &mut Client, time: Duration) {
    let came = client.receive(time);
    assert_eq!(came.as_ref().err(), Some(&Ended::TimedOut), "nothing was to come: {came:?}");
}

/// A publish to fill in.
pub(super) fn publish<'a>(topic: &'a str, payload: &'a str, qos: QoS) -> Publish<'a> {
    Publish {
        dup: false,
        qos,
        retain: false,
        topic,
        packet_id: (qos != QoS::AtMostOnce).then_some(id(1)),
        properties: Properties::default(),
        payload: payload.as_bytes(),
    }
}

/// Publishes with RETAIN set at QoS 1, and takes the PUBACK.
pub(super) fn retain(client: &mut Client, topic: &str, payload: &str, properties: &PropertiesBuf) {
    let packet_id = client.new_id();
    let properties = properties.as_properties();
    let publish = publish(topic, payload, QoS::AtLeastOnce);
    let publish = Publish { retain: true, packet_id: Some(packet_id), properties, ..publish };
    client.send(&Packet::Publish(publish));
    assert!(!client.await_puback(packet_id).is_error());
}

/// Publishes at QoS 2 to the end of the handshake.
pub(super) fn publish_exactly_once(client: &mut Client, topic: &str, payload: &str) {
    let packet_id = client.send_publish(topic, payload, QoS::ExactlyOnce).unwrap();
    assert_eq!(await_pubrec(client, packet_id), ReasonCode::Success);
    client.send(&Packet::PubRel(Ack::success(packet_id)));
    assert_eq!(await_pubcomp(client, packet_id), ReasonCode::Success);
}

/// The Reason Code of the PUBREC.
pub(super) fn await_pubrec(client: &mut Client, packet_id: PacketId) -> ReasonCode {
    let frame = client
        .await_frame("PUBREC", |packet| matches!(packet, Packet::PubRec(ack) if ack.packet_id == packet_id));
    match frame.packet() {
        Packet::PubRec(ack) => ack.reason_code,
        other => panic!("{other:?}"),
    }
}

/// The Reason Code of the PUBCOMP.
pub(super) fn await_pubcomp(client: &mut Client, packet_id: PacketId) -> ReasonCode {
    let frame = client.await_frame(
        "PUBCOMP",
        |packet| matches!(packet, Packet::PubComp(ack) if ack.packet_id == packet_id),
    );
    match frame.packet() {
        Packet::PubComp(ack) => ack.reason_code,
        other => panic!("{other:?}"),
    }
}

/// PUBREC, and the PUBREL that answers it.
pub(super) fn receive_first_half(client: &mut Client, packet_id: PacketId) {
    client.send(&Packet::PubRec(Ack::success(packet_id)));
    await_pubrel(client, packet_id);
}

/// The PUBREL.
pub(super) fn await_pubrel(client: &mut Client, packet_id: PacketId) -> Frame {
    client.await_frame("PUBREL", |packet| matches!(packet, Packet::PubRel(ack) if ack.packet_id == packet_id))
}

/// Receives at QoS 2 to the end of the handshake.
pub(super) fn receive_exactly_once(client: &mut Client, message: &Message) {
    let packet_id = message.packet_id.expect("QoS 2");
    receive_first_half(client, packet_id);
    client.send(&Packet::PubComp(Ack::success(packet_id)));
}

/// The next message, its handshake done, whatever its QoS.
pub(super) fn take(client: &mut Client) -> Message {
    let message = client.message();
    match message.qos {
        QoS::ExactlyOnce => receive_exactly_once(client, &message),
        _ => client.acknowledge(&message),
    }
    message
}

/// The next message is this one: none came before it that should not have.
pub(super) fn assert_next(client: &mut Client, payload: &str) -> Message {
    let message = take(client);
    assert_eq!(message.payload, payload, "{message:?}");
    message
}

/// Subscription Options.
pub(super) fn at_most(qos: QoS) -> SubscribeOptions {
    SubscribeOptions::at_most(qos)
}

pub(super) fn handling(retain_handling: RetainHandling) -> SubscribeOptions {
    SubscribeOptions { retain_handling, ..at_most(QoS::AtLeastOnce) }
}

/// Subscribes to one filter, without a Subscription Identifier.
pub(super) fn subscribe(client: &mut Client, filter: &str, options: SubscribeOptions) -> ReasonCode {
    client.subscribe_with(&[(filter, options)], Properties::default())[0]
}
