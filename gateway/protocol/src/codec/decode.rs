//! From bytes to a packet.

use super::fixed_header::FixedHeader;
use super::{DecodeError, FieldError};
use crate::ProtocolVersion;
use crate::packet::{
    Ack, Auth, ConnAck, Connect, Disconnect, Packet, PacketType, Publish, SubAck, Subscribe, UnsubAck,
    Unsubscribe,
};

/// What the front of a buffer holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Decoded<'a> {
    /// A whole, valid packet.
    Packet {
        /// The packet; it borrows from the buffer.
        packet: Packet<'a>,
        /// How many bytes it took; the next one starts there.
        consumed: usize,
    },
    /// The start of a packet, so far without a fault.
    Incomplete {
        /// How many bytes the buffer has to hold before it makes sense to decode again: the length of the packet if that is
        /// known, else at least one more than it holds.
        needed: usize,
    },
}

/// Decodes the packet at the front of `bytes`, a connection's bytes from a packet boundary on.
///
/// `version` is what the connection's CONNECT said; a CONNECT carries its own, so for the first packet any will do.
/// `max_packet_bytes` bounds a whole packet, fixed header included.
///
/// # Errors
/// [`DecodeError`], as soon as the bytes that prove the fault are there. The connection cannot be used any more.
#[inline]
pub fn decode(
    bytes: &[u8],
    version: ProtocolVersion,
    max_packet_bytes: usize,
) -> Result<Decoded<'_>, DecodeError> {
    match FixedHeader::decode(bytes, version, max_packet_bytes)? {
        FixedHeader::Incomplete { needed } => Ok(Decoded::Incomplete { needed }),
        FixedHeader::Complete { packet_type, flags, header_len, packet_len } => {
            let Some(body) = bytes.get(header_len..packet_len) else {
                return Ok(Decoded::Incomplete { needed: packet_len });
            };
            let packet = decode_body(packet_type, flags, body, version)?;
            Ok(Decoded::Packet { packet, consumed: packet_len })
        }
    }
}

#[inline]
fn decode_body(
    packet_type: PacketType,
    flags: u8,
    body: &[u8],
    version: ProtocolVersion,
) -> Result<Packet<'_>, DecodeError> {
    Ok(match packet_type {
        PacketType::Publish => Packet::Publish(Publish::decode(flags, body, version)?),
        PacketType::PubAck => Packet::PubAck(Ack::decode(body, packet_type, version)?),
        PacketType::PubRec => Packet::PubRec(Ack::decode(body, packet_type, version)?),
        PacketType::PubRel => Packet::PubRel(Ack::decode(body, packet_type, version)?),
        PacketType::PubComp => Packet::PubComp(Ack::decode(body, packet_type, version)?),
        PacketType::Connect => Packet::Connect(Connect::decode(body)?),
        PacketType::ConnAck => Packet::ConnAck(ConnAck::decode(body, version)?),
        PacketType::Subscribe => Packet::Subscribe(Subscribe::decode(body, version)?),
        PacketType::SubAck => Packet::SubAck(SubAck::decode(body, version)?),
        PacketType::Unsubscribe => Packet::Unsubscribe(Unsubscribe::decode(body, version)?),
        PacketType::UnsubAck => Packet::UnsubAck(UnsubAck::decode(body, version)?),
        PacketType::PingReq => empty(body, Packet::PingReq)?,
        PacketType::PingResp => empty(body, Packet::PingResp)?,
        PacketType::Disconnect => Packet::Disconnect(Disconnect::decode(body, version)?),
        PacketType::Auth => Packet::Auth(Auth::decode(body)?),
    })
}

/// The fixed header has seen to it already; here it costs nothing to be sure.
fn empty<'a>(body: &[u8], packet: Packet<'a>) -> Result<Packet<'a>, FieldError> {
    if body.is_empty() { Ok(packet) } else { Err(FieldError::TrailingBytes) }
}
