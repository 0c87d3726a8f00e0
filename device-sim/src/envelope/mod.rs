//! The envelope: what every event carries so that its delivery can be judged without trusting the broker.
//!
//! Promise: a payload that [`open`]s as [`Opened::Event`] is, bit for bit and on that very topic, one that a simulator
//! sealed, whatever its encoding. The module knows nothing of connections, models or the ledger; those are `mqtt`,
//! [`crate::model`] and [`crate::ledger`]. What a payload holds beside the envelope is [`crate::payload`]'s.
//!
//! # Format
//!
//! The envelope is the first member of a payload, at a place that the payload's first bytes give away, so that the payload
//! stays valid for every other consumer and is checked here without a decoder:
//!
//! ```text
//! JSON         {"_":"1Qeeeeeeeeddddddddssssssssttttttttttttcccccccc","temperature":4.21,...}   46 hexadecimal digits
//! MessagePack  map, "_": bin8    24 bytes        Protobuf    field 536870911: 24 bytes (unknown to every schema)
//! CBOR         map, "_": bytes   24 bytes        Sparkplug B field 5 (body):  24 bytes
//! raw          24 bytes, then noise
//!
//! 24 bytes:  D5  1Q  epoch:4  device:4  sequence:4  due:6  CRC32C:4     all big-endian
//! ```
//!
//! - *1Q*: the format's version, and the QoS.
//! - *epoch*: one number per process run; what an older run left in a durable session is told apart by it.
//! - *sequence*: the device's events, counted from 0 in the order in which they are due, whatever their QoS.
//! - *due*: microseconds from the start of the run, 48 bits.
//! - *CRC32C* over the topic, a zero byte, and the payload without the checksum itself.
//!
//! What a device says beside its schedule (births, states, replies to commands) is an *aside*: sealed the same way with
//! `"~"` for `"_"` and `D6` for `D5`. To [`open`] it is foreign; [`open_aside`] knows it.

mod binary;
mod text;

use std::ops::Range;

use crate::qos::QoS;

pub use binary::{
    BINARY_LEN, CBOR_MEMBER, MESSAGE_PACK_MEMBER, PROTOBUF_FIELD, PROTOBUF_HEAD, SPARKPLUG_HEAD,
};
pub use text::SEALED_LEN;

/// What identifies an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// The run that made it.
    pub epoch: u32,
    /// The device's number.
    pub device: u32,
    /// The event's place among the device's events.
    pub sequence: u32,
    /// When it was due, microseconds from the start of the run (the low 48 bits are kept).
    pub due_us: u64,
    /// The QoS it was published with.
    pub qos: QoS,
}

/// A received payload, judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opened {
    /// Intact, and on the topic it was published to.
    Event(Envelope),
    /// Starts as an event of a simulator does and is damaged, or was moved to another topic.
    Corrupt,
    /// Not an event of a simulator at all.
    Foreign,
}

/// Whether a sealed payload is an event of the schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An event of the schedule: it stands in the ledger.
    Event,
    /// Something said beside the schedule.
    Aside,
}

/// Where a payload keeps its envelope.
enum Place {
    /// Hexadecimal digits from here.
    Text(usize),
    /// [`BINARY_LEN`] bytes from here.
    Binary(usize),
}

/// Begins a JSON payload: writes the envelope with the place of the checksum still empty. The caller appends `,` and
/// further members and the closing brace, or the brace alone, and then calls [`seal`].
pub fn begin(out: &mut Vec<u8>, envelope: Envelope) {
    text::begin(out, envelope, Kind::Event);
}

/// Like [`begin`], for an aside.
pub fn begin_aside(out: &mut Vec<u8>, envelope: Envelope) {
    text::begin(out, envelope, Kind::Aside);
}

/// Appends the binary form with the place of the checksum still empty, behind a head that [`open`] knows
/// ([`MESSAGE_PACK_MEMBER`] after a map's header, ...). The caller appends the rest and then calls [`seal`].
pub fn append_binary(out: &mut Vec<u8>, envelope: Envelope, kind: Kind) {
    binary::append(out, envelope, kind);
}

/// Writes the checksum into a payload that carries an envelope; any other payload is left alone.
pub fn seal(payload: &mut [u8], topic: &[u8]) {
    let place = match locate(payload, Kind::Event) {
        None => locate(payload, Kind::Aside),
        found => found,
    };
    match place {
        Some(Place::Text(at)) => {
            let digits = text::crc_digits(at);
            let crc = checksum(payload, topic, digits.clone());
            text::write_crc(payload, digits, crc);
        }
        Some(Place::Binary(at)) => {
            let bytes = binary::crc_bytes(at);
            let crc = checksum(payload, topic, bytes.clone());
            if let Some(place) = payload.get_mut(bytes) {
                place.copy_from_slice(&crc.to_be_bytes());
            }
        }
        None => {}
    }
}

/// Judges a received payload.
pub fn open(payload: &[u8], topic: &[u8]) -> Opened {
    match locate(payload, Kind::Event) {
        None => Opened::Foreign,
        Some(place) => check(payload, topic, &place).map_or(Opened::Corrupt, Opened::Event),
    }
}

/// The envelope of an intact aside on the topic it was published to.
pub fn open_aside(payload: &[u8], topic: &[u8]) -> Option<Envelope> {
    check(payload, topic, &locate(payload, Kind::Aside)?)
}

fn locate(payload: &[u8], kind: Kind) -> Option<Place> {
    match payload.first()? {
        b'{' => text::locate(payload, kind).map(Place::Text),
        _ => binary::locate(payload, kind).map(Place::Binary),
    }
}

fn check(payload: &[u8], topic: &[u8], place: &Place) -> Option<Envelope> {
    let (envelope, crc, hole) = match *place {
        Place::Text(at) => {
            let (envelope, crc) = text::read(payload, at)?;
            (envelope, crc, text::crc_digits(at))
        }
        Place::Binary(at) => {
            let (envelope, crc) = binary::read(payload, at)?;
            (envelope, crc, binary::crc_bytes(at))
        }
    };
    (checksum(payload, topic, hole) == crc).then_some(envelope)
}

fn checksum(payload: &[u8], topic: &[u8], hole: Range<usize>) -> u32 {
    let before = payload.get(..hole.start).unwrap_or(payload);
    let after = payload.get(hole.end..).unwrap_or_default();
    let crc = crc32c::crc32c(topic);
    let crc = crc32c::crc32c_append(crc, &[0]);
    let crc = crc32c::crc32c_append(crc, before);
    crc32c::crc32c_append(crc, after)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TOPIC: &[u8] = b"devices/site-01/d00007/telemetry";

    fn sealed(envelope: Envelope, rest: &[u8]) -> Vec<u8> {
        let mut payload = Vec::new();
        begin(&mut payload, envelope);
        payload.extend_from_slice(rest);
        seal(&mut payload, TOPIC);
        payload
    }

    fn any_envelope() -> impl Strategy<Value = Envelope> {
        (any::<u32>(), any::<u32>(), any::<u32>(), 0..1_u64 << 48, any::<bool>()).prop_map(
            |(epoch, device, sequence, due_us, assured)| Envelope {
                epoch,
                device,
                sequence,
                due_us,
                qos: if assured { QoS::AtLeastOnce } else { QoS::AtMostOnce },
            },
        )
    }

    #[test]
    fn the_layout_is_what_the_documentation_says() {
        let envelope =
            Envelope { epoch: 0xe, device: 0xd, sequence: 0x5, due_us: 0xabc, qos: QoS::AtLeastOnce };
        let payload = sealed(envelope, b",\"t\":1}");
        let text = String::from_utf8(payload).unwrap();
        assert!(text.starts_with("{\"_\":\"110000000e0000000d00000005000000000abc"), "{text}");
        assert_eq!(text.find("\",\"t\":1}"), Some(SEALED_LEN - 1), "{text}");
        serde_json::from_str::<serde_json::Value>(&text).unwrap();
    }

    #[test]
    fn what_is_not_ours_is_foreign_and_what_is_cut_short_is_corrupt() {
        assert_eq!(open(b"{\"temperature\":1}", TOPIC), Opened::Foreign);
        assert_eq!(open(b"", TOPIC), Opened::Foreign);
        assert_eq!(open(b"{\"_\":\"1", TOPIC), Opened::Corrupt);
        assert_eq!(open(&[0x2a, 24, 0xd5], TOPIC), Opened::Corrupt);
    }

    /// What stands before the binary form in each encoding, the first byte being a header where there is one.
    fn heads() -> Vec<Vec<u8>> {
        let with = |header: &[u8], member: &[u8]| [header, member].concat();
        vec![
            Vec::new(),
            with(&[0x85], MESSAGE_PACK_MEMBER),
            with(&[0xde, 0, 40], MESSAGE_PACK_MEMBER),
            with(&[0xa5], CBOR_MEMBER),
            with(&[0xb8, 40], CBOR_MEMBER),
            PROTOBUF_HEAD.to_vec(),
            SPARKPLUG_HEAD.to_vec(),
        ]
    }

    fn sealed_binary(head: &[u8], envelope: Envelope, kind: Kind, rest: &[u8]) -> Vec<u8> {
        let mut payload = head.to_vec();
        append_binary(&mut payload, envelope, kind);
        payload.extend_from_slice(rest);
        seal(&mut payload, TOPIC);
        payload
    }

    #[test]
    fn an_aside_is_foreign_to_the_ledger_and_checked_all_the_same() {
        let envelope = Envelope { epoch: 1, device: 2, sequence: 3, due_us: 4, qos: QoS::AtMostOnce };
        let mut text = Vec::new();
        begin_aside(&mut text, envelope);
        text.push(b'}');
        seal(&mut text, TOPIC);
        for payload in [text, sealed_binary(SPARKPLUG_HEAD, envelope, Kind::Aside, b"more")] {
            assert_eq!(open(&payload, TOPIC), Opened::Foreign);
            assert_eq!(open_aside(&payload, TOPIC), Some(envelope));
            assert_eq!(open_aside(&payload, b"elsewhere"), None);
        }
    }

    proptest! {
        #[test]
        fn a_sealed_event_opens_as_itself(envelope in any_envelope(), rest in "[ -~]{0,60}") {
            let payload = sealed(envelope, rest.as_bytes());
            prop_assert_eq!(open(&payload, TOPIC), Opened::Event(envelope));
        }

        #[test]
        fn a_sealed_binary_event_opens_as_itself(envelope in any_envelope(), rest in prop::collection::vec(any::<u8>(), 0..60)) {
            for head in heads() {
                let payload = sealed_binary(&head, envelope, Kind::Event, &rest);
                prop_assert_eq!(open(&payload, TOPIC), Opened::Event(envelope));
                prop_assert_eq!(open_aside(&payload, TOPIC), None);
            }
        }

        #[test]
        fn one_flipped_bit_of_a_binary_event_never_opens(envelope in any_envelope(), rest in prop::collection::vec(any::<u8>(), 0..60), at in any::<prop::sample::Index>(), bit in 0..8_u8) {
            for head in heads() {
                let mut payload = sealed_binary(&head, envelope, Kind::Event, &rest);
                let at = at.index(payload.len());
                payload[at] ^= 1 << bit;
                prop_assert!(!matches!(open(&payload, TOPIC), Opened::Event(_)));
                prop_assert_eq!(open_aside(&payload, TOPIC), None);
            }
        }

        #[test]
        fn any_bytes_are_judged_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            prop_assert!(!matches!(open(&bytes, TOPIC), Opened::Event(_)));
            let mut bytes = bytes;
            seal(&mut bytes, TOPIC);
        }

        #[test]
        fn one_flipped_bit_never_opens(envelope in any_envelope(), rest in "[ -~]{0,60}", at in any::<prop::sample::Index>(), bit in 0..8_u8) {
            let mut payload = sealed(envelope, rest.as_bytes());
            let at = at.index(payload.len());
            payload[at] ^= 1 << bit;
            prop_assert!(!matches!(open(&payload, TOPIC), Opened::Event(_)));
        }

        #[test]
        fn a_cut_or_moved_payload_never_opens(envelope in any_envelope(), rest in "[ -~]{1,60}", cut in any::<prop::sample::Index>()) {
            let payload = sealed(envelope, rest.as_bytes());
            prop_assert!(!matches!(open(&payload[..cut.index(payload.len())], TOPIC), Opened::Event(_)));
            prop_assert_eq!(open(&payload, b"devices/site-01/d00008/telemetry"), Opened::Corrupt);
        }
    }
}
