//! Packets of MQTT 3.1.1 put together by hand, and the little conversations that many tests have.

use std::time::Duration;

use gateway_protocol::packet::Packet;
use gateway_tests::{Client, Ended, Gateway, Hello, Message, TIMEOUT};

use crate::{QOS0, QOS1, QOS2, V3_1_1};

/// Connect flags.
pub(super) const CLEAN: u8 = 0x02;
pub(super) const WILL: u8 = 0x04;
pub(super) const WILL_QOS_1: u8 = 0x08;
pub(super) const WILL_QOS_2: u8 = 0x10;
pub(super) const WILL_RETAIN: u8 = 0x20;
pub(super) const PASSWORD: u8 = 0x40;
pub(super) const USER_NAME: u8 = 0x80;

/// First bytes of the acknowledgements.
pub(super) const PUBACK: u8 = 0x40;
pub(super) const PUBREC: u8 = 0x50;
pub(super) const PUBREL: u8 = 0x62;
pub(super) const PUBCOMP: u8 = 0x70;

/// First bytes of PUBLISH, and flags to add to them.
pub(super) const PUBLISH_0: u8 = 0x30;
pub(super) const PUBLISH_1: u8 = 0x32;
pub(super) const PUBLISH_2: u8 = 0x34;
pub(super) const RETAIN: u8 = 0x01;
pub(super) const DUP: u8 = 0x08;

pub(super) const PINGREQ: [u8; 2] = [0xC0, 0];
pub(super) const PINGRESP: [u8; 2] = [0xD0, 0];
pub(super) const DISCONNECT: [u8; 2] = [0xE0, 0];

/// CONNACK with Session Present and return code.
pub(super) const fn connack(session_present: u8, code: u8) -> [u8; 4] {
    [0x20, 2, session_present, code]
}

/// A string with its length before it. It need not be well-formed.
pub(super) fn text(text: impl AsRef<[u8]>) -> Vec<u8> {
    let text = text.as_ref();
    let length = u16::try_from(text.len()).expect("a string of at most 65,535 bytes");
    [&length.to_be_bytes(), text].concat()
}

/// First byte, Remaining Length, and what belongs in between.
pub(super) fn packet(first: u8, parts: &[&[u8]]) -> Vec<u8> {
    let body = parts.concat();
    let mut bytes = vec![first];
    let mut rest = body.len();
    loop {
        let digit = (rest % 128) as u8;
        rest /= 128;
        bytes.push(if rest > 0 { digit | 0x80 } else { digit });
        if rest == 0 {
            break;
        }
    }
    bytes.extend(body);
    bytes
}

/// CONNECT: the flags, the Keep Alive, and the payload's fields.
pub(super) fn connect(flags: u8, keep_alive_secs: u16, fields: &[&str]) -> Vec<u8> {
    let fields: Vec<u8> = fields.iter().flat_map(text).collect();
    packet(0x10, &[b"\0\x04MQTT\x04", &[flags], &keep_alive_secs.to_be_bytes(), &fields])
}

/// PUBACK, PUBREC, PUBREL or PUBCOMP.
pub(super) fn ack(first: u8, packet_id: u16) -> Vec<u8> {
    packet(first, &[&packet_id.to_be_bytes()])
}

/// PUBLISH; `packet_id` is left out at QoS 0.
pub(super) fn publish(first: u8, topic: impl AsRef<[u8]>, packet_id: u16, payload: &str) -> Vec<u8> {
    let packet_id = packet_id.to_be_bytes();
    let packet_id: &[u8] = if first & 0x06 == 0 { &[] } else { &packet_id };
    packet(first, &[&text(topic), packet_id, payload.as_bytes()])
}

/// SUBSCRIBE: filters, and the byte that says which QoS.
pub(super) fn subscribe(packet_id: u16, filters: &[(&str, u8)]) -> Vec<u8> {
    let list: Vec<u8> =
        filters.iter().flat_map(|&(filter, qos)| [text(filter), vec![qos]].concat()).collect();
    packet(0x82, &[&packet_id.to_be_bytes(), &list])
}

pub(super) fn unsubscribe(packet_id: u16, filters: &[&str]) -> Vec<u8> {
    let list: Vec<u8> = filters.iter().flat_map(text).collect();
    packet(0xA2, &[&packet_id.to_be_bytes(), &list])
}

/// A connection with a clean Session.
pub(super) fn client(gateway: &Gateway, client_id: &str) -> Client {
    gateway.connect(V3_1_1, client_id)
}

/// A connection with a Session that is kept, and Session Present.
pub(super) fn durable(gateway: &Gateway, client_id: &str) -> (Client, bool) {
    Client::connect(gateway.mqtt(), &Hello::durable(V3_1_1, client_id))
}

/// A connection on which nothing has been said.
pub(super) fn silent(gateway: &Gateway) -> Client {
    Client::open(gateway.mqtt(), V3_1_1)
}

/// A connection whose CONNECT, made by hand, was accepted.
pub(super) fn connected(gateway: &Gateway, hello: &[u8]) -> Client {
    let mut client = silent(gateway);
    exchange(&mut client, hello, &connack(0, 0));
    client
}

/// The next packet is this one, to the byte.
pub(super) fn expect(client: &mut Client, bytes: &[u8]) {
    let frame = client.next_packet();
    assert_eq!(frame.bytes(), bytes, "{:02x?} is not {bytes:02x?}", frame.bytes());
}

/// Sends one and expects the other.
pub(super) fn exchange(client: &mut Client, request: &[u8], response: &[u8]) {
    client.send_bytes(request);
    expect(client, response);
}

/// The connection is closed, and nothing is said before.
pub(super) fn assert_closed(client: &mut Client, what: &str) {
    match client.receive(TIMEOUT) {
        Err(Ended::Closed) => {}
        Err(Ended::TimedOut) => panic!("{what}: the connection stays open"),
        Ok(frame) => panic!("{what}: not closed but answered with {:02x?}", frame.bytes()),
    }
}

/// All that was sent has been answered, and nothing came that is not yet received.
pub(super) fn assert_nothing_more(client: &mut Client) {
    client.ping();
    assert_eq!(client.receive(Duration::ZERO).err(), Some(Ended::TimedOut));
}

/// Sent by a connected client, the bytes cost it the connection.
pub(super) fn assert_offends(gateway: &Gateway, what: &str, bytes: &[u8]) {
    let mut client = client(gateway, "");
    client.send_bytes(bytes);
    assert_closed(&mut client, what);
}

/// Sent as the first packet, the bytes are answered by closing alone.
pub(super) fn assert_no_connack(gateway: &Gateway, what: &str, bytes: &[u8]) {
    let mut client = silent(gateway);
    client.send_bytes(bytes);
    assert_closed(&mut client, what);
}

/// Publishes with the whole exchange that the QoS in `first` asks for. What is published afterwards comes afterwards.
pub(super) fn put(client: &mut Client, first: u8, topic: &str, payload: &str) {
    let packet_id = client.new_id();
    client.send_bytes(&publish(first, topic, packet_id.get(), payload));
    match first & 0x06 {
        0 => client.ping(),
        2 => drop(client.await_puback(packet_id)),
        _ => {
            client.await_frame(
                "PUBREC",
                |packet| matches!(packet, Packet::PubRec(ack) if ack.packet_id == packet_id),
            );
            client.send_bytes(&ack(PUBREL, packet_id.get()));
            client.await_frame(
                "PUBCOMP",
                |packet| matches!(packet, Packet::PubComp(ack) if ack.packet_id == packet_id),
            );
        }
    }
}

/// The Packet Identifier of a message above QoS 0.
pub(super) fn id_of(message: &Message) -> u16 {
    message.packet_id.expect("a message above QoS 0").get()
}

/// Takes the message over: PUBACK, or PUBREC and PUBCOMP.
pub(super) fn complete(client: &mut Client, message: &Message) {
    if message.qos == QOS0 {
        return;
    }
    if message.qos == QOS1 {
        return client.send_bytes(&ack(PUBACK, id_of(message)));
    }
    receive_release(client, message);
    client.send_bytes(&ack(PUBCOMP, id_of(message)));
}

/// PUBREC, and the PUBREL that it brings; not PUBCOMP.
pub(super) fn receive_release(client: &mut Client, message: &Message) {
    assert_eq!(message.qos, QOS2);
    client.send_bytes(&ack(PUBREC, id_of(message)));
    await_release(client, id_of(message));
}

/// A PUBREL with this identifier comes.
pub(super) fn await_release(client: &mut Client, packet_id: u16) {
    let frame = client.await_frame(
        "PUBREL",
        |packet| matches!(packet, Packet::PubRel(ack) if ack.packet_id.get() == packet_id),
    );
    assert_eq!(frame.bytes(), ack(PUBREL, packet_id));
}

/// The next `count` messages, each taken over.
pub(super) fn take(client: &mut Client, count: usize) -> Vec<Message> {
    (0..count)
        .map(|_| {
            let message = client.message();
            complete(client, &message);
            message
        })
        .collect()
}

/// The messages before the one that says `end` and says it for the first time, each taken over.
pub(super) fn take_until_end(client: &mut Client) -> Vec<Message> {
    let mut messages = Vec::new();
    loop {
        let message = client.message();
        complete(client, &message);
        if message.payload == "end" && !message.dup {
            return messages;
        }
        messages.push(message);
    }
}

/// What they say, in their order.
pub(super) fn payloads(messages: &[Message]) -> Vec<&str> {
    messages.iter().map(|message| &*message.payload).collect()
}
