//! The envelope: what every event carries so that its delivery can be judged without trusting the broker.
//!
//! Promise: a payload that [`open`]s as [`Opened::Event`] is, bit for bit and on that very topic, one that a simulator
//! sealed. The module knows nothing of connections, models or the ledger; those are `mqtt`, `model` and `ledger`.
//!
//! # Format
//!
//! A JSON object whose first member is `"_"`, a string of 46 lower-case hexadecimal digits at a fixed place, so that a
//! payload stays valid JSON for every other consumer and is checked here without parsing JSON:
//!
//! ```text
//! {"_":"1Qeeeeeeeeddddddddssssssssttttttttttttcccccccc","temperature":4.21,...}
//!       ||   epoch   device  sequence  due (µs)   CRC32C
//!       |QoS (0 or 1)
//!       format version (1)
//! ```
//!
//! - *epoch*: one number per process run; what an older run left in a durable session is told apart by it.
//! - *sequence*: the device's events, counted from 0 in the order in which they are due, whatever their QoS.
//! - *due*: microseconds from the start of the run, 48 bits.
//! - *CRC32C* over the topic, a zero byte, and the payload without these eight digits.

use std::ops::Range;

use crate::qos::QoS;

/// Length of the sealed prefix `{"_":"..."`, without the comma or brace after it.
pub const SEALED_LEN: usize = CRC_DIGITS.end + 1;

const HEAD: &[u8] = b"{\"_\":\"";
const VERSION: u8 = b'1';
const VERSION_DIGIT: usize = HEAD.len();
const QOS_DIGIT: usize = VERSION_DIGIT + 1;
const EPOCH_DIGITS: Range<usize> = digits(QOS_DIGIT + 1, 8);
const DEVICE_DIGITS: Range<usize> = digits(EPOCH_DIGITS.end, 8);
const SEQUENCE_DIGITS: Range<usize> = digits(DEVICE_DIGITS.end, 8);
const DUE_DIGITS: Range<usize> = digits(SEQUENCE_DIGITS.end, 12);
const CRC_DIGITS: Range<usize> = digits(DUE_DIGITS.end, 8);

const fn digits(start: usize, count: usize) -> Range<usize> {
    Range { start, end: start + count }
}

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

/// Begins a payload: writes the envelope with the place of the checksum still empty. The caller appends `,` and further
/// members and the closing brace, or the brace alone, and then calls [`seal`].
pub fn begin(out: &mut Vec<u8>, envelope: Envelope) {
    out.clear();
    out.extend_from_slice(HEAD);
    out.push(VERSION);
    out.push(b'0' + envelope.qos as u8);
    push_hex(out, u64::from(envelope.epoch), 8);
    push_hex(out, u64::from(envelope.device), 8);
    push_hex(out, u64::from(envelope.sequence), 8);
    push_hex(out, envelope.due_us, 12);
    out.extend_from_slice(b"00000000\"");
}

/// Writes the checksum into a payload started by [`begin`]; a shorter payload is left alone.
pub fn seal(payload: &mut [u8], topic: &[u8]) {
    let crc = checksum(payload, topic);
    if let Some(place) = payload.get_mut(CRC_DIGITS) {
        for (digit, shift) in place.iter_mut().zip((0..8).rev()) {
            *digit = hex_digit(u64::from(crc) >> (4 * shift));
        }
    }
}

/// Judges a received payload.
pub fn open(payload: &[u8], topic: &[u8]) -> Opened {
    if !payload.starts_with(HEAD) {
        return Opened::Foreign;
    }
    match read(payload) {
        Some((envelope, crc)) if checksum(payload, topic) == crc => Opened::Event(envelope),
        _ => Opened::Corrupt,
    }
}

fn read(payload: &[u8]) -> Option<(Envelope, u32)> {
    if *payload.get(VERSION_DIGIT)? != VERSION {
        return None;
    }
    let qos = match payload.get(QOS_DIGIT)? {
        b'0' => QoS::AtMostOnce,
        b'1' => QoS::AtLeastOnce,
        _ => return None,
    };
    let number = |digits| parse_hex(payload.get::<Range<usize>>(digits)?);
    let short = |digits| number(digits).and_then(|wide| u32::try_from(wide).ok());
    let envelope = Envelope {
        epoch: short(EPOCH_DIGITS)?,
        device: short(DEVICE_DIGITS)?,
        sequence: short(SEQUENCE_DIGITS)?,
        due_us: number(DUE_DIGITS)?,
        qos,
    };
    Some((envelope, short(CRC_DIGITS)?))
}

fn checksum(payload: &[u8], topic: &[u8]) -> u32 {
    let before = payload.get(..CRC_DIGITS.start).unwrap_or(payload);
    let after = payload.get(CRC_DIGITS.end..).unwrap_or_default();
    let crc = crc32c::crc32c(topic);
    let crc = crc32c::crc32c_append(crc, &[0]);
    let crc = crc32c::crc32c_append(crc, before);
    crc32c::crc32c_append(crc, after)
}

fn push_hex(out: &mut Vec<u8>, value: u64, count: u32) {
    out.extend((0..count).rev().map(|place| hex_digit(value >> (4 * place))));
}

fn hex_digit(value: u64) -> u8 {
    match (value & 0xf) as u8 {
        low @ 0..=9 => b'0' + low,
        high => b'a' - 10 + high,
    }
}

fn parse_hex(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0_u64, |value, digit| {
        let digit = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(value << 4 | u64::from(digit))
    })
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
    }

    proptest! {
        #[test]
        fn a_sealed_event_opens_as_itself(envelope in any_envelope(), rest in "[ -~]{0,60}") {
            let payload = sealed(envelope, rest.as_bytes());
            prop_assert_eq!(open(&payload, TOPIC), Opened::Event(envelope));
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
