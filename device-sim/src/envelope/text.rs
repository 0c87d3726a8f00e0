//! The envelope in JSON: hexadecimal digits at a fixed place.

use std::ops::Range;

use super::{Envelope, Kind};
use crate::qos::QoS;

/// Length of the sealed prefix `{"_":"..."`, without the comma or brace after it.
pub const SEALED_LEN: usize = HEAD_LEN + DIGITS + 1;

const HEAD_LEN: usize = 6;
const EVENT_HEAD: &[u8; HEAD_LEN] = b"{\"_\":\"";
const ASIDE_HEAD: &[u8; HEAD_LEN] = b"{\"~\":\"";

const VERSION: u8 = b'1';
const QOS_DIGIT: usize = 1;
const EPOCH: Range<usize> = digits(QOS_DIGIT + 1, 8);
const DEVICE: Range<usize> = digits(EPOCH.end, 8);
const SEQUENCE: Range<usize> = digits(DEVICE.end, 8);
const DUE: Range<usize> = digits(SEQUENCE.end, 12);
const CRC: Range<usize> = digits(DUE.end, 8);
const DIGITS: usize = CRC.end;

const fn digits(start: usize, count: usize) -> Range<usize> {
    Range { start, end: start + count }
}

pub(super) fn begin(out: &mut Vec<u8>, envelope: Envelope, kind: Kind) {
    out.clear();
    out.extend_from_slice(head(kind));
    out.push(VERSION);
    out.push(b'0' + envelope.qos as u8);
    push_hex(out, u64::from(envelope.epoch), 8);
    push_hex(out, u64::from(envelope.device), 8);
    push_hex(out, u64::from(envelope.sequence), 8);
    push_hex(out, envelope.due_us, 12);
    out.extend_from_slice(b"00000000\"");
}

/// Where the digits begin, if this payload has some.
pub(super) fn locate(payload: &[u8], kind: Kind) -> Option<usize> {
    payload.starts_with(head(kind)).then_some(HEAD_LEN)
}

pub(super) fn crc_digits(at: usize) -> Range<usize> {
    at + CRC.start..at + CRC.end
}

pub(super) fn write_crc(payload: &mut [u8], digits: Range<usize>, crc: u32) {
    if let Some(place) = payload.get_mut(digits) {
        for (digit, shift) in place.iter_mut().zip((0..8).rev()) {
            *digit = hex_digit(u64::from(crc) >> (4 * shift));
        }
    }
}

pub(super) fn read(payload: &[u8], at: usize) -> Option<(Envelope, u32)> {
    let digits = payload.get(at..at + DIGITS)?;
    if *digits.first()? != VERSION {
        return None;
    }
    let qos = QoS::from_number(digits.get(QOS_DIGIT)?.checked_sub(b'0')?)?;
    let number = |range: Range<usize>| parse_hex(digits.get(range)?);
    let short = |range| number(range).and_then(|wide| u32::try_from(wide).ok());
    let envelope = Envelope {
        epoch: short(EPOCH)?,
        device: short(DEVICE)?,
        sequence: short(SEQUENCE)?,
        due_us: number(DUE)?,
        qos,
    };
    Some((envelope, short(CRC)?))
}

fn head(kind: Kind) -> &'static [u8] {
    match kind {
        Kind::Event => EVENT_HEAD,
        Kind::Aside => ASIDE_HEAD,
    }
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
