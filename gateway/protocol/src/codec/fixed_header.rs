//! The fixed header: packet type, flags, Remaining Length.
//!
//! Judged as early as its bytes allow: nothing waits for a body that is bound to be refused.

use super::DecodeError;
use super::primitives::{VARINT_MAX, read_varint};
use crate::ProtocolVersion;
use crate::packet::{PacketType, decode_flags};

/// What the start of a packet says about it.
pub(super) enum FixedHeader {
    /// So many bytes are needed, at least.
    Incomplete { needed: usize },
    Complete {
        packet_type: PacketType,
        /// The lower four bits of the first byte, judged.
        flags: u8,
        /// Where the body starts: 2 to 5.
        header_len: usize,
        /// Fixed header and body, in bytes.
        packet_len: usize,
    },
}

impl FixedHeader {
    #[inline]
    pub(super) fn decode(
        bytes: &[u8],
        version: ProtocolVersion,
        max_packet_bytes: usize,
    ) -> Result<Self, DecodeError> {
        let Some((&first, after_first)) = bytes.split_first() else {
            return Ok(Self::Incomplete { needed: 2 });
        };
        let flags = first & 0x0F;
        let packet_type = PacketType::from_u8(first >> 4)
            .filter(|&packet_type| packet_type != PacketType::Auth || version.is_v5())
            .ok_or(DecodeError::ReservedPacketType(first >> 4))?;
        check_flags(packet_type, flags, version)?;
        let Some((remaining_length, length_len)) = read_varint(after_first)? else {
            return Ok(Self::Incomplete { needed: bytes.len() + 1 });
        };
        check_remaining_length(packet_type, remaining_length, version)?;
        let header_len = 1 + length_len;
        let packet_len = header_len + remaining_length;
        if packet_len > max_packet_bytes {
            return Err(DecodeError::PacketTooLarge { packet_bytes: packet_len, max_packet_bytes });
        }
        Ok(Self::Complete { packet_type, flags, header_len, packet_len })
    }
}

#[inline]
fn check_flags(packet_type: PacketType, flags: u8, version: ProtocolVersion) -> Result<(), DecodeError> {
    let expected = packet_type.first_byte() & 0x0F;
    let right = match packet_type {
        PacketType::Publish => return decode_flags(flags).map(|_| ()),
        // MQTT 3.1 sets DUP when it repeats one of these, 3.1.1 no longer does.
        PacketType::PubRel | PacketType::Subscribe | PacketType::Unsubscribe
            if version == ProtocolVersion::V3_1 =>
        {
            flags & 0b0111 == expected
        }
        _ => flags == expected,
    };
    if right { Ok(()) } else { Err(DecodeError::FixedHeaderFlags(packet_type)) }
}

/// Bounds that follow from the packet type alone; whether the fields fit is seen when they are read.
#[inline]
fn check_remaining_length(
    packet_type: PacketType,
    remaining_length: usize,
    version: ProtocolVersion,
) -> Result<(), DecodeError> {
    let v5 = version.is_v5();
    let (least, most) = match packet_type {
        PacketType::PingReq | PacketType::PingResp => (0, 0),
        PacketType::Disconnect => (0, if v5 { VARINT_MAX } else { 0 }),
        PacketType::Auth => (0, VARINT_MAX),
        PacketType::ConnAck
        | PacketType::PubAck
        | PacketType::PubRec
        | PacketType::PubRel
        | PacketType::PubComp
        | PacketType::UnsubAck => (2, if v5 { VARINT_MAX } else { 2 }),
        // Name (6 bytes), level, flags, Keep Alive, Client Identifier (2 bytes).
        PacketType::Connect => (12, VARINT_MAX),
        PacketType::Publish | PacketType::Subscribe | PacketType::SubAck | PacketType::Unsubscribe => {
            (2, VARINT_MAX)
        }
    };
    let possible = (least..=most).contains(&remaining_length);
    if possible { Ok(()) } else { Err(DecodeError::RemainingLength { packet_type, remaining_length }) }
}
