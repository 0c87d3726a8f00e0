//! The Control Packets: one file and one type for each, the same for all versions.
//!
//! A packet borrows everything from the bytes it was decoded from, or from whoever builds it. What a version has no field for
//! (properties, Reason Codes, Subscription Options before MQTT 5) is empty when decoded and left out when encoded. Each file
//! has the type and both directions of its wire form; the fixed header and the choice of packet are in `codec/`.

mod ack;
mod auth;
mod connack;
mod connect;
mod disconnect;
mod publish;
mod suback;
mod subscribe;
mod unsuback;
mod unsubscribe;

pub use ack::Ack;
pub use auth::Auth;
pub use connack::ConnAck;
pub use connect::{Connect, Will};
pub use disconnect::Disconnect;
pub use publish::Publish;
pub use suback::{ReasonCodes, SubAck, UnknownReasonCode};
pub use subscribe::{RetainHandling, Subscribe, SubscribeFilters, SubscribeFiltersBuf, SubscribeOptions};
pub use unsuback::UnsubAck;
pub use unsubscribe::{Unsubscribe, UnsubscribeFilters, UnsubscribeFiltersBuf};

pub(crate) use ack::put_short;
pub(crate) use publish::{body_len as publish_body_len, decode_flags, put_publish};

use crate::codec::DecodeError;
use crate::codec::primitives::Reader;
use crate::property::{Carrier, Properties, validate};
use crate::{PacketId, ReasonCode};

/// The type of a Control Packet: the upper four bits of its first byte.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
#[expect(missing_docs, reason = "each is documented on the packet of the same name")]
pub enum PacketType {
    Connect = 1,
    ConnAck = 2,
    Publish = 3,
    PubAck = 4,
    PubRec = 5,
    PubRel = 6,
    PubComp = 7,
    Subscribe = 8,
    SubAck = 9,
    Unsubscribe = 10,
    UnsubAck = 11,
    PingReq = 12,
    PingResp = 13,
    Disconnect = 14,
    Auth = 15,
}

impl PacketType {
    /// The packet type with this number, 1 to 15.
    #[must_use]
    pub const fn from_u8(value: u8) -> Option<Self> {
        Some(match value {
            1 => Self::Connect,
            2 => Self::ConnAck,
            3 => Self::Publish,
            4 => Self::PubAck,
            5 => Self::PubRec,
            6 => Self::PubRel,
            7 => Self::PubComp,
            8 => Self::Subscribe,
            9 => Self::SubAck,
            10 => Self::Unsubscribe,
            11 => Self::UnsubAck,
            12 => Self::PingReq,
            13 => Self::PingResp,
            14 => Self::Disconnect,
            15 => Self::Auth,
            _ => return None,
        })
    }

    /// The first byte of such a packet, its flags as the text fixes them; those of a PUBLISH are 0 here.
    pub(crate) const fn first_byte(self) -> u8 {
        let flags = match self {
            Self::PubRel | Self::Subscribe | Self::Unsubscribe => 0b0010,
            _ => 0,
        };
        (self as u8) << 4 | flags
    }
}

/// A Control Packet of any kind.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Packet<'a> {
    /// A client asks to be connected.
    Connect(Connect<'a>),
    /// The server's answer to it.
    ConnAck(ConnAck<'a>),
    /// A message.
    Publish(Publish<'a>),
    /// QoS 1: acknowledges a PUBLISH.
    PubAck(Ack<'a>),
    /// QoS 2, first answer: received.
    PubRec(Ack<'a>),
    /// QoS 2: release.
    PubRel(Ack<'a>),
    /// QoS 2: complete.
    PubComp(Ack<'a>),
    /// A client asks for topics.
    Subscribe(Subscribe<'a>),
    /// The server's answer to it.
    SubAck(SubAck<'a>),
    /// A client wants no more of them.
    Unsubscribe(Unsubscribe<'a>),
    /// The server's answer to it.
    UnsubAck(UnsubAck<'a>),
    /// A client asks whether the server is there.
    PingReq,
    /// The server's answer to it.
    PingResp,
    /// The last packet of a connection.
    Disconnect(Disconnect<'a>),
    /// A step of extended authentication; MQTT 5 only.
    Auth(Auth<'a>),
}

impl Packet<'_> {
    /// Which kind it is.
    #[must_use]
    pub const fn packet_type(&self) -> PacketType {
        match self {
            Self::Connect(_) => PacketType::Connect,
            Self::ConnAck(_) => PacketType::ConnAck,
            Self::Publish(_) => PacketType::Publish,
            Self::PubAck(_) => PacketType::PubAck,
            Self::PubRec(_) => PacketType::PubRec,
            Self::PubRel(_) => PacketType::PubRel,
            Self::PubComp(_) => PacketType::PubComp,
            Self::Subscribe(_) => PacketType::Subscribe,
            Self::SubAck(_) => PacketType::SubAck,
            Self::Unsubscribe(_) => PacketType::Unsubscribe,
            Self::UnsubAck(_) => PacketType::UnsubAck,
            Self::PingReq => PacketType::PingReq,
            Self::PingResp => PacketType::PingResp,
            Self::Disconnect(_) => PacketType::Disconnect,
            Self::Auth(_) => PacketType::Auth,
        }
    }
}

/// Fields that several packets have, read with their rules.
impl<'a> Reader<'a> {
    #[inline]
    fn packet_id(&mut self) -> Result<PacketId, DecodeError> {
        PacketId::new(self.u16()?).ok_or(DecodeError::ZeroPacketId)
    }

    /// A Property Length and the list it announces.
    #[inline]
    fn properties(&mut self, carrier: Carrier) -> Result<Properties<'a>, DecodeError> {
        let length = self.varint()?;
        let bytes = self.take(length)?;
        validate(bytes, carrier)?;
        Ok(Properties::validated(bytes))
    }

    fn reason_code(&mut self, packet_type: PacketType) -> Result<ReasonCode, DecodeError> {
        let code = self.u8()?;
        ReasonCode::from_u8(code)
            .filter(|reason_code| reason_code.is_allowed_in(packet_type))
            .ok_or(DecodeError::ReasonCode { packet_type, code })
    }
}
