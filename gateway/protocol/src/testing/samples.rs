//! Valid packets of the kinds that a client sends, in parts.

use super::raw::{Part, RawPacket, WILL};
use crate::{ProtocolVersion, ReasonCode};

const PAYLOAD: &[u8] = br#"{"temperature":21.5}"#;

pub(super) fn all() -> Vec<RawPacket> {
    let mut samples = Vec::new();
    for version in [ProtocolVersion::V3_1, ProtocolVersion::V3_1_1, ProtocolVersion::V5] {
        samples.extend(connects(version));
        samples.extend(publishes(version));
        samples.extend(subscriptions(version));
        samples.extend(acks(version));
        samples.push(RawPacket { name: "PINGREQ", version, first: 0xC0, parts: Vec::new() });
        samples.push(RawPacket { name: "DISCONNECT", version, first: 0xE0, parts: Vec::new() });
    }
    samples.extend(with_reason());
    samples
}

/// The property list of a packet, absent before version 5.
fn properties(version: ProtocolVersion, carrier: u8, list: Vec<Part>) -> Vec<Part> {
    if version.is_v5() { vec![Part::Properties { carrier, list }] } else { Vec::new() }
}

fn user_property() -> Vec<Part> {
    vec![Part::Bytes(vec![0x26]), Part::text("site"), Part::text("12")]
}

fn connects(version: ProtocolVersion) -> Vec<RawPacket> {
    let start = |flags| {
        let mut parts =
            vec![Part::text(version.protocol_name()), Part::Bytes(vec![version.level(), flags, 0, 60])];
        let mut list = vec![Part::Bytes(vec![0x11, 0, 0, 14, 16, 0x21, 0, 20])];
        list.extend(user_property());
        parts.extend(properties(version, 1, list));
        parts.push(Part::text("sensor-0042"));
        parts
    };
    let mut full = start(0b1110_1110);
    let mut will = vec![Part::Bytes(vec![0x18, 0, 0, 0, 5, 0x01, 1])];
    will.extend(user_property());
    full.extend(properties(version, WILL, will));
    full.extend([Part::text("devices/sensor-0042/status"), Part::Binary(b"offline".to_vec())]);
    full.extend([Part::text("fleet"), Part::Binary(b"secret".to_vec())]);
    vec![
        RawPacket { name: "CONNECT", version, first: 0x10, parts: start(0b0000_0010) },
        RawPacket { name: "CONNECT with everything", version, first: 0x10, parts: full },
    ]
}

fn publishes(version: ProtocolVersion) -> Vec<RawPacket> {
    let parts = |packet_id: Option<u16>| {
        let mut parts = vec![Part::text("devices/sensor-0042/telemetry")];
        parts.extend(packet_id.map(Part::PacketId));
        let mut list =
            vec![Part::Bytes(vec![0x01, 1, 0x02, 0, 0, 14, 16, 0x03]), Part::text("application/json")];
        list.extend(user_property());
        parts.extend(properties(version, 3, list));
        parts.push(Part::Payload(PAYLOAD.to_vec()));
        parts
    };
    vec![
        RawPacket { name: "PUBLISH QoS 0", version, first: 0x31, parts: parts(None) },
        RawPacket { name: "PUBLISH QoS 1", version, first: 0x32, parts: parts(Some(7)) },
        RawPacket { name: "PUBLISH QoS 2", version, first: 0x3C, parts: parts(Some(0xFFFF)) },
    ]
}

fn subscriptions(version: ProtocolVersion) -> Vec<RawPacket> {
    let parts = |packet_type: u8, list: Vec<Part>, options: &[&[u8]]| {
        let mut parts = vec![Part::PacketId(10)];
        parts.extend(properties(version, packet_type, list));
        parts.push(Part::MayEnd(Some(ReasonCode::ProtocolError))); // no filter [MQTT-3.8.3-2], [MQTT-3.10.3-2]
        for (filter, options) in ["devices/+/telemetry", "commands/#"].into_iter().zip(options) {
            parts.extend([Part::text(filter), Part::Bytes(options.to_vec()), Part::MayEnd(None)]);
        }
        parts
    };
    let mut identified = vec![Part::Bytes(vec![0x0B, 0x90, 0x4E])];
    identified.extend(user_property());
    let options: [&[u8]; 2] = if version.is_v5() { [&[0b0010_1101], &[2]] } else { [&[1], &[2]] };
    vec![
        RawPacket { name: "SUBSCRIBE", version, first: 0x82, parts: parts(8, identified, &options) },
        RawPacket {
            name: "UNSUBSCRIBE",
            version,
            first: 0xA2,
            parts: parts(10, user_property(), &[&[], &[]]),
        },
    ]
}

fn acks(version: ProtocolVersion) -> Vec<RawPacket> {
    let kinds = [("PUBACK", 0x40), ("PUBREC", 0x50), ("PUBREL", 0x62), ("PUBCOMP", 0x70)];
    kinds.map(|(name, first)| RawPacket { name, version, first, parts: vec![Part::PacketId(7)] }).into()
}

/// The long forms that version 5 has of acknowledgements, DISCONNECT and AUTH.
fn with_reason() -> Vec<RawPacket> {
    let version = ProtocolVersion::V5;
    let mut samples = Vec::new();
    for (name, first, code) in [
        ("PUBACK with reason", 0x40, 0x10),
        ("PUBREC with reason", 0x50, 0x97),
        ("PUBREL with reason", 0x62, 0x92),
        ("PUBCOMP with reason", 0x70, 0x92),
    ] {
        let mut list = vec![Part::Bytes(vec![0x1F]), Part::text("because")];
        list.extend(user_property());
        let parts = vec![
            Part::PacketId(7),
            Part::MayEnd(None),
            Part::Bytes(vec![code]),
            Part::MayEnd(None),
            Part::Properties { carrier: first >> 4, list },
        ];
        samples.push(RawPacket { name, version, first, parts });
    }
    let mut list = vec![Part::Bytes(vec![0x11, 0, 0, 0, 0, 0x1F]), Part::text("done")];
    list.extend(user_property());
    let parts = vec![
        Part::MayEnd(None),
        Part::Bytes(vec![0x04]),
        Part::MayEnd(None),
        Part::Properties { carrier: 14, list },
    ];
    samples.push(RawPacket { name: "DISCONNECT with reason", version, first: 0xE0, parts });
    let mut list = vec![Part::Bytes(vec![0x15]), Part::text("SCRAM"), Part::Bytes(vec![0x16, 0, 2, 1, 2])];
    list.extend(user_property());
    let parts = vec![Part::MayEnd(None), Part::Bytes(vec![0x18]), Part::Properties { carrier: 15, list }];
    samples.push(RawPacket { name: "AUTH", version, first: 0xF0, parts });
    samples
}
