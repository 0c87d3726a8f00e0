//! The envelope in bytes, and the heads behind which each encoding carries it.

use std::ops::Range;

use super::{Envelope, Kind};
use crate::qos::QoS;

/// Bytes of the binary form.
pub const BINARY_LEN: usize = CRC.end;

/// MessagePack: the key `"_"` and the header of 24 bytes; stands after the map's header.
pub const MESSAGE_PACK_MEMBER: &[u8] = &[0xa1, b'_', 0xc4, BINARY_LEN as u8];

/// CBOR: the key `"_"` and the header of 24 bytes; stands after the map's header.
pub const CBOR_MEMBER: &[u8] = &[0x61, b'_', 0x58, BINARY_LEN as u8];

/// Protocol Buffers: the number of the field that carries the envelope, the highest there is.
pub const PROTOBUF_FIELD: u32 = (1 << 29) - 1;

/// Protocol Buffers: the tag of [`PROTOBUF_FIELD`], length-delimited, and the length.
pub const PROTOBUF_HEAD: &[u8] = &[0xfa, 0xff, 0xff, 0xff, 0x0f, BINARY_LEN as u8];

/// Sparkplug B: the tag of `body` and the length.
pub const SPARKPLUG_HEAD: &[u8] = &[0x2a, BINARY_LEN as u8];

const EVENT_MAGIC: u8 = 0xd5;
const ASIDE_MAGIC: u8 = 0xd6;
const VERSION: u8 = 0x10;

const FLAGS: usize = 1;
const EPOCH: Range<usize> = 2..6;
const DEVICE: Range<usize> = 6..10;
const SEQUENCE: Range<usize> = 10..14;
const DUE: Range<usize> = 14..20;
const CRC: Range<usize> = 20..24;

pub(super) fn append(out: &mut Vec<u8>, envelope: Envelope, kind: Kind) {
    out.push(magic(kind));
    out.push(VERSION | envelope.qos as u8);
    out.extend_from_slice(&envelope.epoch.to_be_bytes());
    out.extend_from_slice(&envelope.device.to_be_bytes());
    out.extend_from_slice(&envelope.sequence.to_be_bytes());
    out.extend(envelope.due_us.to_be_bytes().into_iter().skip(2));
    out.extend_from_slice(&[0; 4]);
}

/// Where the binary form begins, if this payload has one.
pub(super) fn locate(payload: &[u8], kind: Kind) -> Option<usize> {
    let at = match *payload.first()? {
        EVENT_MAGIC | ASIDE_MAGIC => 0,
        0x80..=0x8f => member(payload, 1, MESSAGE_PACK_MEMBER)?,
        0xde => member(payload, 3, MESSAGE_PACK_MEMBER)?,
        0xa0..=0xb7 => member(payload, 1, CBOR_MEMBER)?,
        0xb8 => member(payload, 2, CBOR_MEMBER)?,
        0xfa => member(payload, 0, PROTOBUF_HEAD)?,
        0x2a => member(payload, 0, SPARKPLUG_HEAD)?,
        _ => return None,
    };
    (*payload.get(at)? == magic(kind)).then_some(at)
}

fn member(payload: &[u8], at: usize, head: &[u8]) -> Option<usize> {
    payload.get(at..)?.starts_with(head).then_some(at + head.len())
}

pub(super) fn crc_bytes(at: usize) -> Range<usize> {
    at + CRC.start..at + CRC.end
}

pub(super) fn read(payload: &[u8], at: usize) -> Option<(Envelope, u32)> {
    let bytes = payload.get(at..at + BINARY_LEN)?;
    let flags = *bytes.get(FLAGS)?;
    if flags & 0xf0 != VERSION {
        return None;
    }
    let number = |range: Range<usize>| {
        Some(bytes.get(range)?.iter().fold(0_u64, |value, byte| value << 8 | u64::from(*byte)))
    };
    let short = |range| number(range).and_then(|wide| u32::try_from(wide).ok());
    let envelope = Envelope {
        epoch: short(EPOCH)?,
        device: short(DEVICE)?,
        sequence: short(SEQUENCE)?,
        due_us: number(DUE)?,
        qos: QoS::from_number(flags & 0x0f)?,
    };
    Some((envelope, short(CRC)?))
}

fn magic(kind: Kind) -> u8 {
    match kind {
        Kind::Event => EVENT_MAGIC,
        Kind::Aside => ASIDE_MAGIC,
    }
}
