//! Property lists: lengths, unknown, foreign and repeated properties, values that are not allowed.

use super::Corpus;
use crate::ReasonCode;
use crate::testing::raw::{Part, RawPacket, WILL, concat, varint};

const CONNECT: u8 = 1;
const CONNACK: u8 = 2;
const PUBLISH: u8 = 3;
const SUBSCRIBE: u8 = 8;
const DISCONNECT: u8 = 14;
const AUTH: u8 = 15;

/// MQTT 5, table 2-4: identifier, a valid value, packet types that carry it. User Property, which goes everywhere, is 0x26.
const PROPERTIES: [(u8, &[u8], &[u8]); 26] = [
    (0x01, &[1], &[PUBLISH, WILL]),
    (0x02, &[0, 0, 0, 9], &[PUBLISH, WILL]),
    (0x03, b"\0\x04json", &[PUBLISH, WILL]),
    (0x08, b"\0\x03a/b", &[PUBLISH, WILL]),
    (0x09, &[0, 2, 0, 255], &[PUBLISH, WILL]),
    (0x0B, &[7], &[PUBLISH, SUBSCRIBE]),
    (0x11, &[0, 0, 1, 0], &[CONNECT, CONNACK, DISCONNECT]),
    (0x12, b"\0\x01x", &[CONNACK]),
    (0x13, &[0, 9], &[CONNACK]),
    (0x15, b"\0\x05SCRAM", &[CONNECT, CONNACK, AUTH]),
    (0x16, &[0, 1, 0], &[CONNECT, CONNACK, AUTH]),
    (0x17, &[1], &[CONNECT]),
    (0x18, &[0, 0, 0, 5], &[WILL]),
    (0x19, &[1], &[CONNECT]),
    (0x1A, b"\0\x01x", &[CONNACK]),
    (0x1C, b"\0\x01x", &[CONNACK, DISCONNECT]),
    (0x1F, b"\0\x02no", &[CONNACK, 4, 5, 6, 7, 9, 11, DISCONNECT, AUTH]),
    (0x21, &[0, 9], &[CONNECT, CONNACK]),
    (0x22, &[0, 9], &[CONNECT, CONNACK]),
    (0x23, &[0, 9], &[PUBLISH]),
    (0x24, &[1], &[CONNACK]),
    (0x25, &[1], &[CONNACK]),
    (0x27, &[0, 0, 9, 0], &[CONNECT, CONNACK]),
    (0x28, &[1], &[CONNACK]),
    (0x29, &[1], &[CONNACK]),
    (0x2A, &[1], &[CONNACK]),
];

const METHOD: &[u8] = b"\x15\0\x05SCRAM";

/// Identifier, a value it cannot have, and what that is called.
const BAD_VALUES: [(u8, &[u8], ReasonCode); 21] = [
    (0x01, &[2], ReasonCode::ProtocolError),
    (0x01, &[255], ReasonCode::ProtocolError),
    (0x17, &[2], ReasonCode::ProtocolError),
    (0x17, &[255], ReasonCode::ProtocolError),
    (0x19, &[2], ReasonCode::ProtocolError),
    (0x19, &[255], ReasonCode::ProtocolError),
    (0x21, &[0, 0], ReasonCode::ProtocolError),
    (0x27, &[0, 0, 0, 0], ReasonCode::ProtocolError),
    (0x23, &[0, 0], ReasonCode::TopicAliasInvalid), // [MQTT-3.3.2-8]
    (0x0B, &[0], ReasonCode::ProtocolError),
    (0x0B, &[0x80, 0x00], ReasonCode::MalformedPacket),
    (0x0B, &[0x87, 0x00], ReasonCode::MalformedPacket),
    (0x0B, &[0x87, 0x80, 0x80, 0x00], ReasonCode::MalformedPacket),
    (0x0B, &[0xFF, 0xFF, 0xFF, 0xFF, 0x01], ReasonCode::MalformedPacket),
    (0x08, b"\0\x01#", ReasonCode::TopicNameInvalid), // [MQTT-3.3.2-14]
    (0x08, b"\0\x01+", ReasonCode::TopicNameInvalid),
    (0x08, b"\0\x03a/#", ReasonCode::TopicNameInvalid),
    (0x08, b"\0\x05a/+/b", ReasonCode::TopicNameInvalid),
    (0x08, b"\0\0", ReasonCode::TopicNameInvalid),
    (0x08, b"\0\x02\xC0\x80", ReasonCode::MalformedPacket),
    (0x03, b"\0\x03\xED\xA0\x80", ReasonCode::MalformedPacket),
];

pub(super) fn of(sample: &RawPacket, corpus: &mut Corpus) {
    for (index, part) in sample.parts.iter().enumerate() {
        if let Part::Properties { carrier, list } = part {
            let place = Place { sample, index, carrier: *carrier };
            place.lengths(&concat(list), corpus);
            place.foreign(corpus);
            place.own(corpus);
        }
    }
}

/// One property list of one packet.
struct Place<'a> {
    sample: &'a RawPacket,
    index: usize,
    carrier: u8,
}

impl Place<'_> {
    fn add(&self, fault: &str, part: Part, expected: ReasonCode, corpus: &mut Corpus) {
        let fault = format!("property list {}: {fault}", self.index);
        corpus.add(self.sample, fault, self.sample.with(self.index, part), expected);
    }

    /// The list is `tail`, after what this packet cannot do without.
    fn add_list(&self, fault: &str, tail: &[&[u8]], expected: ReasonCode, corpus: &mut Corpus) {
        let brings_method = tail.first().is_some_and(|property| property.first() == METHOD.first());
        let required = if self.carrier == AUTH && !brings_method { METHOD } else { &[] };
        let list = vec![Part::Bytes(required.to_vec()), Part::Bytes(tail.concat())];
        self.add(fault, Part::Properties { carrier: self.carrier, list }, expected, corpus);
    }

    /// A Property Length that lies, or is not in its shortest form.
    fn lengths(&self, list: &[u8], corpus: &mut Corpus) {
        let with_length = |mut length: Vec<u8>| {
            length.extend_from_slice(list);
            Part::Bytes(length)
        };
        for stretched in 2..=5 {
            let fault = format!("Property Length in {stretched} bytes");
            self.add(&fault, with_length(varint(list.len(), stretched)), ReasonCode::MalformedPacket, corpus);
        }
        // More than there can be between here and the end of the packet.
        for beyond in [self.sample.body().len(), 16_383, 268_435_455] {
            let fault = format!("Property Length {beyond}");
            self.add(&fault, with_length(varint(beyond, 1)), ReasonCode::MalformedPacket, corpus);
        }
        let is_last = self.index + 1 == self.sample.parts.len();
        if is_last && self.carrier != AUTH {
            let nothing = with_length(vec![0]);
            self.add("Property Length 0 before a list", nothing, ReasonCode::MalformedPacket, corpus);
        }
    }

    /// Properties of other packets, and of none (section 2.2.2.2).
    fn foreign(&self, corpus: &mut Corpus) {
        for (id, value, carriers) in PROPERTIES {
            if !carriers.contains(&self.carrier) {
                let fault = format!("foreign property {id:#04x}");
                self.add_list(&fault, &[&[id], value], ReasonCode::MalformedPacket, corpus);
            }
        }
        for id in 0..=u8::MAX {
            if id != 0x26 && PROPERTIES.iter().all(|&(known, ..)| known != id) {
                let fault = format!("unknown property {id:#04x}");
                self.add_list(&fault, &[&[id, 0, 0, 0, 0]], ReasonCode::MalformedPacket, corpus);
            }
        }
    }

    /// Its own properties: twice, cut short, with a bad value, without the one they depend on.
    fn own(&self, corpus: &mut Corpus) {
        for (id, value, carriers) in PROPERTIES {
            if !carriers.contains(&self.carrier) {
                continue;
            }
            let property = [&[id], value].concat();
            // A server may repeat Subscription Identifiers, so a PUBLISH with two of them decodes.
            if !(id == 0x0B && self.carrier == PUBLISH) {
                let method = if id == 0x16 && self.carrier == CONNECT { METHOD } else { &[] };
                let fault = format!("property {id:#04x} twice");
                self.add_list(&fault, &[method, &property, &property], ReasonCode::ProtocolError, corpus);
            }
            for length in 1..property.len() {
                if let Some(cut) = property.get(..length) {
                    let fault = format!("property {id:#04x} cut to {length}");
                    self.add_list(&fault, &[cut], ReasonCode::MalformedPacket, corpus);
                }
            }
        }
        let pair = b"\x26\0\x01k\0\x01v";
        for length in 1..pair.len() {
            if let Some(cut) = pair.get(..length) {
                let fault = format!("property 0x26 cut to {length}");
                self.add_list(&fault, &[pair, cut], ReasonCode::MalformedPacket, corpus);
            }
        }
        for (number, (id, value, expected)) in BAD_VALUES.into_iter().enumerate() {
            let owned = PROPERTIES
                .iter()
                .any(|&(known, _, carriers)| known == id && carriers.contains(&self.carrier));
            if owned {
                let fault = format!("property {id:#04x} with bad value {number}");
                self.add_list(&fault, &[&[id], value], expected, corpus);
            }
        }
        let data_alone =
            Part::Properties { carrier: self.carrier, list: vec![Part::Bytes(vec![0x16, 0, 1, 0])] };
        if matches!(self.carrier, CONNECT | AUTH) {
            let fault = "Authentication Data without Authentication Method";
            self.add(fault, data_alone, ReasonCode::ProtocolError, corpus);
        }
        if self.carrier == AUTH {
            let empty = Part::Properties { carrier: AUTH, list: Vec::new() };
            self.add("no Authentication Method", empty, ReasonCode::ProtocolError, corpus);
        }
    }
}
