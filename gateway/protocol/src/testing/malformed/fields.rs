//! Fields that many packets have: strings and Packet Identifiers.

use super::Corpus;
use crate::ReasonCode;
use crate::testing::raw::{Part, RawPacket};

/// Not well-formed UTF-8 [MQTT-1.5.4-1], or with U+0000 [MQTT-1.5.4-2].
const BAD_TEXTS: [(&str, &[u8]); 10] = [
    ("a lone continuation byte", b"\x80"),
    ("a cut sequence", b"ab\xE2\x82"),
    ("a sequence cut by a letter", b"\xC3a"),
    ("an overlong U+0000", b"\xC0\x80"),
    ("an overlong slash", b"a\xE0\x80\xAFb"),
    ("a surrogate", b"a\xED\xA0\x80"),
    ("above U+10FFFF", b"\xF4\x90\x80\x80"),
    ("a byte that never occurs", b"devices/sensor-\xFF"),
    ("U+0000", b"\0"),
    ("U+0000 in the middle", b"devices/\0/telemetry"),
];

pub(super) fn of(sample: &RawPacket, corpus: &mut Corpus) {
    for (index, part) in sample.parts.iter().enumerate() {
        match part {
            // The first string of a CONNECT is the protocol name, which is compared and not read.
            Part::Text(_) if !(sample.packet_type() == 1 && index == 0) => {
                for (fault, text) in BAD_TEXTS {
                    let bytes = sample.with(index, Part::Text(text.to_vec()));
                    let fault = format!("part {index} is {fault}");
                    corpus.add(sample, fault, bytes, ReasonCode::MalformedPacket);
                }
            }
            Part::PacketId(_) => {
                let bytes = sample.with(index, Part::PacketId(0)); // [MQTT-2.2.1-3]
                corpus.add(sample, "Packet Identifier 0", bytes, ReasonCode::ProtocolError);
            }
            Part::Properties { carrier, list } => texts_in_list(sample, index, *carrier, list, corpus),
            _ => {}
        }
    }
}

fn texts_in_list(sample: &RawPacket, index: usize, carrier: u8, list: &[Part], corpus: &mut Corpus) {
    for (at, _) in list.iter().enumerate().filter(|(_, part)| matches!(part, Part::Text(_))) {
        for (fault, text) in BAD_TEXTS {
            let mut list = list.to_vec();
            if let Some(part) = list.get_mut(at) {
                *part = Part::Text(text.to_vec());
            }
            let bytes = sample.with(index, Part::Properties { carrier, list });
            let fault = format!("string {at} in property list {index} is {fault}");
            corpus.add(sample, fault, bytes, ReasonCode::MalformedPacket);
        }
    }
}
