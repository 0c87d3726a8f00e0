//! What the text forbids for one kind of packet.

use super::Corpus;
use crate::testing::raw::{Part, RawPacket, concat, framed};
use crate::{ProtocolVersion, ReasonCode};

pub(super) fn of(sample: &RawPacket, corpus: &mut Corpus) {
    match sample.packet_type() {
        1 if sample.name == "CONNECT" => {
            protocols(sample, corpus);
            connect_flags(sample, corpus);
        }
        1 => will_topics(sample, corpus),
        3 => topic_names(sample, corpus),
        8 | 10 => {
            topic_filters(sample, corpus);
            if sample.packet_type() == 8 {
                options(sample, corpus);
            }
        }
        4..=7 | 14 | 15 => reason_codes(sample, corpus),
        _ => {}
    }
}

/// Where a packet has its `nth` part of the kind that `wanted` wants.
fn find(sample: &RawPacket, nth: usize, wanted: impl Fn(&Part) -> bool) -> Option<usize> {
    sample.parts.iter().enumerate().filter(|(_, part)| wanted(part)).nth(nth).map(|(index, _)| index)
}

fn texts(sample: &RawPacket, nth: usize) -> Option<usize> {
    find(sample, nth, |part| matches!(part, Part::Text(_)))
}

/// Names and levels that are no version spoken here [MQTT-3.1.2-1], [MQTT-3.1.2-2].
fn protocols(sample: &RawPacket, corpus: &mut Corpus) {
    let expected = ReasonCode::UnsupportedProtocolVersion;
    for name in ["MQTX", "mqtt", "MQTTX", "MQIsdpX", "MQISDP", "HTTP/1.1", "MQT\0", "\u{feff}MQTT"] {
        corpus.add(sample, format!("protocol name {name:?}"), sample.with(0, Part::text(name)), expected);
    }
    let other_name = if sample.version == ProtocolVersion::V3_1 { "MQTT" } else { "MQIsdp" };
    corpus.add(sample, "name of another level", sample.with(0, Part::text(other_name)), expected);
    let right = sample.version.level();
    for level in [0, 1, 2, 3, 4, 5, 6, 7, 127, 128, 0x83, 0x84, 0x85, 255] {
        // Name MQTT goes with levels 4 and 5, MQIsdp with 3.
        let known = if right == 3 { level == 3 } else { matches!(level, 4 | 5) };
        if !known {
            let part = Part::Bytes(vec![level, 2, 0, 60]);
            corpus.add(sample, format!("protocol level {level}"), sample.with(1, part), expected);
        }
    }
}

/// The reserved bit [MQTT-3.1.2-3], Will bits without a Will [MQTT-3.1.2-11], [MQTT-3.1.2-13], Will QoS 3 [MQTT-3.1.2-12],
/// fields announced and missing, fields there and not announced.
fn connect_flags(sample: &RawPacket, corpus: &mut Corpus) {
    let level = sample.version.level();
    for flags in 0..=u8::MAX {
        let nothing_announced = flags & 0b1100_0100 == 0;
        let legal = nothing_announced && flags & 0b0011_1001 == 0;
        if !legal {
            // The payload of the sample is a Client Identifier alone.
            let bytes = sample.with(1, Part::Bytes(vec![level, flags, 0, 60]));
            corpus.add(sample, format!("Connect Flags {flags:#010b}"), bytes, ReasonCode::MalformedPacket);
        }
    }
    let mut with_field = sample.clone();
    with_field.parts.push(Part::text("unannounced"));
    corpus.add(sample, "an unannounced field", with_field.bytes(), ReasonCode::MalformedPacket);
    if !sample.version.is_v5() {
        let mut password = sample.clone();
        password.parts.push(Part::Binary(b"secret".to_vec()));
        let bytes = password.with(1, Part::Bytes(vec![level, 0b0100_0010, 0, 60]));
        corpus.add(sample, "a password without a user name", bytes, ReasonCode::MalformedPacket);
    }
}

/// A Will is published, so its topic is a Topic Name.
fn will_topics(sample: &RawPacket, corpus: &mut Corpus) {
    let Some(index) = texts(sample, 2) else { return };
    for topic in ["", "#", "+", "a/#", "a/+/b", "a+"] {
        let bytes = sample.with(index, Part::text(topic));
        corpus.add(sample, format!("Will Topic {topic:?}"), bytes, ReasonCode::TopicNameInvalid);
    }
    let flags = Part::Bytes(vec![sample.version.level(), 0b1111_1110, 0, 60]);
    corpus.add(sample, "Will QoS 3", sample.with(1, flags), ReasonCode::MalformedPacket);
}

/// Wildcards [MQTT-3.3.2-2], and no topic at all.
fn topic_names(sample: &RawPacket, corpus: &mut Corpus) {
    for topic in ["#", "+", "/#", "a/#", "a/+/b", "a+", "a/b#", "devices/sensor-0042/telemetry/#"] {
        let bytes = sample.with(0, Part::text(topic));
        corpus.add(sample, format!("Topic Name {topic:?}"), bytes, ReasonCode::TopicNameInvalid);
    }
    let expected =
        if sample.version.is_v5() { ReasonCode::ProtocolError } else { ReasonCode::MalformedPacket };
    corpus.add(sample, "neither Topic Name nor Topic Alias", sample.with(0, Part::text("")), expected);
}

/// Empty [MQTT-4.7.3-1], or with wildcards that do not fill their level [MQTT-4.7.1-1], [MQTT-4.7.1-2].
fn topic_filters(sample: &RawPacket, corpus: &mut Corpus) {
    for nth in 0..2 {
        let Some(index) = texts(sample, nth) else { return };
        for filter in ["", "a/b#", "a/#/b", "##", "#/", "a+", "+a", "a/+b/c", "a/#+", "$share/g/a#"] {
            let bytes = sample.with(index, Part::text(filter));
            let fault = format!("Topic Filter {nth} is {filter:?}");
            corpus.add(sample, fault, bytes, ReasonCode::TopicFilterInvalid);
        }
    }
}

/// Subscription Options; before version 5 a requested QoS.
fn options(sample: &RawPacket, corpus: &mut Corpus) {
    let Some(index) = texts(sample, 0).map(|index| index + 1) else { return };
    for byte in 0..=u8::MAX {
        let expected = match sample.version {
            ProtocolVersion::V5 if byte & 0b1100_0000 != 0 => ReasonCode::MalformedPacket, // [MQTT-3.8.3-5]
            ProtocolVersion::V5 if byte & 3 == 3 || byte >> 4 == 3 => ReasonCode::ProtocolError,
            ProtocolVersion::V3_1 | ProtocolVersion::V3_1_1 if byte > 2 => ReasonCode::MalformedPacket,
            _ => continue,
        };
        let bytes = sample.with(index, Part::Bytes(vec![byte]));
        corpus.add(sample, format!("options {byte:#010b}"), bytes, expected);
    }
    if sample.version.is_v5() {
        let parts = [
            Part::PacketId(10),
            Part::Bytes(vec![0]),
            Part::text("$share/group/devices/#"),
            Part::Bytes(vec![0b0000_0101]),
        ];
        let bytes = framed(sample.first, &concat(&parts));
        corpus.add(sample, "No Local on a Shared Subscription", bytes, ReasonCode::ProtocolError);
    }
}

/// Codes that are not in the packet's table.
fn reason_codes(sample: &RawPacket, corpus: &mut Corpus) {
    let allowed: &[u8] = match sample.packet_type() {
        4 | 5 => &[0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99],
        6 | 7 => &[0x00, 0x92],
        14 => &[
            0x00, 0x04, 0x80, 0x81, 0x82, 0x83, 0x87, 0x89, 0x8B, 0x8C, 0x8D, 0x8E, 0x8F, 0x90, 0x93, 0x94,
            0x95, 0x96, 0x97, 0x98, 0x99, 0x9A, 0x9B, 0x9C, 0x9D, 0x9E, 0x9F, 0xA0, 0xA1, 0xA2,
        ],
        _ => &[0x00, 0x18, 0x19],
    };
    let Some(index) = find(sample, 0, |part| matches!(part, Part::Bytes(_))) else { return };
    for code in (0..=u8::MAX).filter(|code| !allowed.contains(code)) {
        let bytes = sample.with(index, Part::Bytes(vec![code]));
        corpus.add(sample, format!("Reason Code {code:#04x}"), bytes, ReasonCode::ProtocolError);
    }
}
