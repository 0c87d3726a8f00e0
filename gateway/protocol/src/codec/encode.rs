//! From a packet to bytes.
//!
//! Lengths first, then the header, then the fields: once the header is written nothing can fail any more, so `out` gets a whole
//! packet or nothing.

use super::EncodeError;
use super::primitives::{VARINT_MAX, has_nul, put_varint, varint_len};
use crate::packet::{Packet, PacketType, publish_body_len, put_publish, put_short};
use crate::property::{Carrier, Properties, validate};
use crate::{PacketId, ProtocolVersion, QoS, ReasonCode};

/// Appends exactly one packet, in its shortest form. A CONNECT is written for its own version. What `version` has no field
/// for is left out.
///
/// # Errors
/// [`EncodeError`]; `out` is then as before.
pub fn encode(packet: &Packet<'_>, version: ProtocolVersion, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    match packet {
        Packet::Connect(connect) => connect.encode(out),
        Packet::ConnAck(connack) => connack.encode(version, out),
        Packet::Publish(publish) => publish.encode(version, out),
        Packet::PubAck(ack) | Packet::PubRec(ack) | Packet::PubRel(ack) | Packet::PubComp(ack) => {
            ack.encode(packet.packet_type(), version, out)
        }
        Packet::Subscribe(subscribe) => subscribe.encode(version, out),
        Packet::SubAck(suback) => suback.encode(version, out),
        Packet::Unsubscribe(unsubscribe) => unsubscribe.encode(version, out),
        Packet::UnsubAck(unsuback) => unsuback.encode(version, out),
        Packet::PingReq | Packet::PingResp => Frame::new(packet.packet_type().first_byte()).put_header(out),
        Packet::Disconnect(disconnect) => disconnect.encode(version, out),
        Packet::Auth(auth) => auth.encode(version, out),
    }
}

/// A PUBLISH as a delivery has it: its properties in two pieces, in wire form.
///
/// Topic and properties are taken on trust: they come out of a decoded packet or a [`crate::property::PropertiesBuf`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PublishFrame<'a> {
    /// A retransmission. Not with QoS 0.
    pub dup: bool,
    /// Of this transmission.
    pub qos: QoS,
    /// The RETAIN flag of this transmission.
    pub retain: bool,
    /// A Topic Name; empty only in MQTT 5 and with a Topic Alias in `extra`.
    pub topic: &'a str,
    /// Present if the QoS is not 0.
    pub packet_id: Option<PacketId>,
    /// Properties of this delivery: Subscription Identifiers, Topic Alias, what is left of the lifetime. They go first.
    pub extra: &'a [u8],
    /// Properties of the message.
    pub properties: &'a [u8],
    /// The payload.
    pub payload: &'a [u8],
}

/// Appends a PUBLISH; the hot path of every delivery. Before MQTT 5 both property lists are left out.
///
/// # Errors
/// [`EncodeError`] if it is too large, or DUP, Packet Identifier or an empty topic do not go with QoS and version; `out` is
/// then as before.
#[inline]
pub fn encode_publish(
    frame: &PublishFrame<'_>,
    version: ProtocolVersion,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    put_publish(frame, version, out)
}

/// How many bytes [`encode_publish`] appends, fixed header included: for comparison with Maximum Packet Size.
#[inline]
#[must_use]
pub fn publish_frame_len(frame: &PublishFrame<'_>, version: ProtocolVersion) -> usize {
    let body_len = publish_body_len(frame, version);
    1 + varint_len(body_len) + body_len
}

/// Appends a PUBACK without properties: 4 bytes on Success or before MQTT 5, else 5.
#[inline]
pub fn encode_puback(packet_id: PacketId, reason: ReasonCode, version: ProtocolVersion, out: &mut Vec<u8>) {
    put_short(PacketType::PubAck, packet_id, reason, version, out);
}

/// Adds up the length of a packet, then writes its fixed header.
pub(crate) struct Frame {
    first_byte: u8,
    body_len: usize,
}

impl Frame {
    #[inline]
    pub(crate) const fn new(first_byte: u8) -> Self {
        Self { first_byte, body_len: 0 }
    }

    #[inline]
    pub(crate) const fn add(&mut self, length: usize) {
        self.body_len = self.body_len.saturating_add(length);
    }

    /// Counts a property list with its length, if the version has one and the packet may carry it.
    pub(crate) fn add_properties(
        &mut self,
        properties: &Properties<'_>,
        carrier: Carrier,
        version: ProtocolVersion,
    ) -> Result<(), EncodeError> {
        if version.is_v5() {
            validate(properties.raw(), carrier)?;
            let length = properties.raw().len();
            self.add(varint_len(length) + length);
        }
        Ok(())
    }

    /// Makes room for the whole packet and writes its fixed header.
    #[inline]
    pub(crate) fn put_header(self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        if self.body_len > VARINT_MAX {
            return Err(EncodeError::PacketTooLarge);
        }
        out.reserve(1 + varint_len(self.body_len) + self.body_len);
        out.push(self.first_byte);
        put_varint(out, self.body_len);
        Ok(())
    }
}

impl Properties<'_> {
    /// Appends the list with its length, if the version has one.
    pub(crate) fn put(&self, version: ProtocolVersion, out: &mut Vec<u8>) {
        if version.is_v5() {
            put_varint(out, self.raw().len());
            out.extend_from_slice(self.raw());
        }
    }
}

/// The length of a string on the wire, if it can be there.
pub(crate) fn check_string(text: &str) -> Result<usize, EncodeError> {
    if has_nul(text) { Err(EncodeError::NulCharacter) } else { check_binary(text.as_bytes()) }
}

/// The length of binary data on the wire, if it can be there.
pub(crate) const fn check_binary(bytes: &[u8]) -> Result<usize, EncodeError> {
    if bytes.len() > 0xFFFF { Err(EncodeError::FieldTooLong) } else { Ok(2 + bytes.len()) }
}
