//! Wrong from outside: packet type, flags, Remaining Length, and bodies that are too short or too long.

use super::Corpus;
use crate::testing::raw::{Part, RawPacket, framed, varint};
use crate::{ProtocolVersion, ReasonCode};

pub(super) fn of(sample: &RawPacket, corpus: &mut Corpus) {
    cuts(sample, corpus);
    flags(sample, corpus);
    lengths(sample, corpus);
    trailing(sample, corpus);
}

/// The body ends early, and the Remaining Length says so.
fn cuts(sample: &RawPacket, corpus: &mut Corpus) {
    let body = sample.body();
    for length in 0..body.len() {
        if let (Some(expected), Some(body)) = (sample.verdict_on_cut(length), body.get(..length)) {
            corpus.add(sample, format!("body cut to {length}"), framed(sample.first, body), expected);
        }
    }
}

/// Every combination of fixed-header flags that the packet type does not have [MQTT-2.1.3-1].
fn flags(sample: &RawPacket, corpus: &mut Corpus) {
    let right = sample.first & 0x0F;
    for flags in 0..16 {
        let wrong = match sample.packet_type() {
            // QoS 3 [MQTT-3.3.1-4], and DUP with QoS 0 [MQTT-3.3.1-2]; the others make another PUBLISH.
            3 => flags & 0b0110 == 0b0110 || flags & 0b1110 == 0b1000,
            6 | 8 | 10 if sample.version == ProtocolVersion::V3_1 => flags & 0b0111 != right, // DUP is legal in 3.1
            _ => flags != right,
        };
        if wrong {
            let bytes = framed(sample.first & 0xF0 | flags, &sample.body());
            corpus.add(sample, format!("flags {flags:#06b}"), bytes, ReasonCode::MalformedPacket);
        }
    }
}

/// A Remaining Length that is not in its shortest form, or does not end after four bytes [MQTT-1.5.5-1].
fn lengths(sample: &RawPacket, corpus: &mut Corpus) {
    let body = sample.body();
    let shortest = varint(body.len(), 1).len();
    for length in shortest + 1..=6 {
        let mut bytes = vec![sample.first];
        bytes.extend(varint(body.len(), length));
        bytes.extend_from_slice(&body);
        corpus.add(sample, format!("Remaining Length in {length} bytes"), bytes, ReasonCode::MalformedPacket);
    }
    let endless = vec![sample.first, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF];
    corpus.add(sample, "endless Remaining Length", endless, ReasonCode::MalformedPacket);
}

/// Something follows the last field. A PUBLISH has no last field; of a list of filters this is a cut string.
fn trailing(sample: &RawPacket, corpus: &mut Corpus) {
    // An acknowledgement in its short form would take the byte for its Reason Code.
    let short_form = sample.version.is_v5()
        && matches!(sample.packet_type(), 4..=7 | 14)
        && !sample.parts.iter().any(|part| matches!(part, Part::Properties { .. }));
    if sample.packet_type() == 3 || short_form {
        return;
    }
    for byte in [0x00, 0x01, 0x7F, 0xC0, 0xFF] {
        let mut body = sample.body();
        body.push(byte);
        let fault = format!("trailing byte {byte:#04x}");
        corpus.add(sample, fault, framed(sample.first, &body), ReasonCode::MalformedPacket);
    }
}

/// Packet types that do not exist in a version.
pub(super) fn reserved_types(corpus: &mut Corpus) {
    for version in [ProtocolVersion::V3_1, ProtocolVersion::V3_1_1, ProtocolVersion::V5] {
        let auth = if version.is_v5() { None } else { Some(0xF0..=0xFF) };
        for first in (0x00..=0x0F).chain(auth.into_iter().flatten()) {
            let name = format!("{version} reserved packet type: first byte {first:#04x}");
            corpus.add_named(name, version, vec![first, 0], ReasonCode::MalformedPacket);
        }
    }
}
