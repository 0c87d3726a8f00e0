//! Properties (MQTT 5, section 2.2.2): one at a time, as a list on the wire, and as a list being built.
//!
//! A list stays in wire form. It is validated once, where it enters; from then on a forward is a copy of bytes, a getter a
//! short scan, and a decoded packet owns nothing. Which packet may carry what stands in `id.rs`.

mod buf;
mod id;
mod list;

pub use buf::PropertiesBuf;
pub(crate) use id::Carrier;
pub use id::PropertyId;
pub(crate) use list::validate;
pub use list::{EncodedProperty, Properties, user_property_in};

use id::ValueKind;

use crate::ReasonCode;
use crate::codec::FieldError;
use crate::codec::primitives::{Reader, VARINT_MAX, has_nul, put_binary, put_varint};
use crate::topic::TopicName;

/// Why bytes are no property list, or why a property cannot be put into one.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PropertyError {
    /// An identifier or value is not what the wire format says.
    #[error(transparent)]
    Field(#[from] FieldError),
    /// No property has this identifier.
    #[error("no property has the identifier {0:#04x}")]
    Unknown(u8),
    /// Not a property of this packet.
    #[error("{0:?} is no property of this packet")]
    Foreign(PropertyId),
    /// A property that may occur once occurs again.
    #[error("{0:?} occurs more than once")]
    Duplicate(PropertyId),
    /// The type is right, the value is not one of those allowed.
    #[error("{0:?} has a value that it cannot have")]
    Value(PropertyId),
    /// A string or binary value, or the whole list, is longer than its length can say.
    #[error("{0:?} does not fit: too long")]
    TooLong(PropertyId),
    /// CONNECT with Authentication Data and without Authentication Method, or AUTH without one.
    #[error("there is no Authentication Method")]
    NoAuthenticationMethod,
}

impl PropertyError {
    /// What to tell the peer that sent this list.
    #[must_use]
    pub const fn reason_code(self) -> ReasonCode {
        match self {
            // Section 2.2.2.2: an identifier not valid for its packet type is a Malformed Packet.
            Self::Field(_) | Self::Unknown(_) | Self::Foreign(_) | Self::TooLong(_) => {
                ReasonCode::MalformedPacket
            }
            Self::Value(PropertyId::TopicAlias) => ReasonCode::TopicAliasInvalid,
            Self::Value(PropertyId::ResponseTopic) => ReasonCode::TopicNameInvalid,
            Self::Duplicate(_) | Self::Value(_) | Self::NoAuthenticationMethod => ReasonCode::ProtocolError,
        }
    }
}

/// One property: its value in the type the text gives it. Seconds and bytes are plain numbers, flags are 0 or 1.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "each is the property that PropertyId documents under the same name")]
pub enum Property<'a> {
    PayloadFormatIndicator(u8),
    MessageExpiryInterval(u32),
    ContentType(&'a str),
    ResponseTopic(&'a str),
    CorrelationData(&'a [u8]),
    SubscriptionIdentifier(u32),
    SessionExpiryInterval(u32),
    AssignedClientIdentifier(&'a str),
    ServerKeepAlive(u16),
    AuthenticationMethod(&'a str),
    AuthenticationData(&'a [u8]),
    RequestProblemInformation(u8),
    WillDelayInterval(u32),
    RequestResponseInformation(u8),
    ResponseInformation(&'a str),
    ServerReference(&'a str),
    ReasonString(&'a str),
    ReceiveMaximum(u16),
    TopicAliasMaximum(u16),
    TopicAlias(u16),
    MaximumQoS(u8),
    RetainAvailable(u8),
    UserProperty { name: &'a str, value: &'a str },
    MaximumPacketSize(u32),
    WildcardSubscriptionAvailable(u8),
    SubscriptionIdentifierAvailable(u8),
    SharedSubscriptionAvailable(u8),
}

impl<'a> Property<'a> {
    /// Which one it is.
    #[must_use]
    pub const fn id(&self) -> PropertyId {
        match self {
            Self::PayloadFormatIndicator(_) => PropertyId::PayloadFormatIndicator,
            Self::MessageExpiryInterval(_) => PropertyId::MessageExpiryInterval,
            Self::ContentType(_) => PropertyId::ContentType,
            Self::ResponseTopic(_) => PropertyId::ResponseTopic,
            Self::CorrelationData(_) => PropertyId::CorrelationData,
            Self::SubscriptionIdentifier(_) => PropertyId::SubscriptionIdentifier,
            Self::SessionExpiryInterval(_) => PropertyId::SessionExpiryInterval,
            Self::AssignedClientIdentifier(_) => PropertyId::AssignedClientIdentifier,
            Self::ServerKeepAlive(_) => PropertyId::ServerKeepAlive,
            Self::AuthenticationMethod(_) => PropertyId::AuthenticationMethod,
            Self::AuthenticationData(_) => PropertyId::AuthenticationData,
            Self::RequestProblemInformation(_) => PropertyId::RequestProblemInformation,
            Self::WillDelayInterval(_) => PropertyId::WillDelayInterval,
            Self::RequestResponseInformation(_) => PropertyId::RequestResponseInformation,
            Self::ResponseInformation(_) => PropertyId::ResponseInformation,
            Self::ServerReference(_) => PropertyId::ServerReference,
            Self::ReasonString(_) => PropertyId::ReasonString,
            Self::ReceiveMaximum(_) => PropertyId::ReceiveMaximum,
            Self::TopicAliasMaximum(_) => PropertyId::TopicAliasMaximum,
            Self::TopicAlias(_) => PropertyId::TopicAlias,
            Self::MaximumQoS(_) => PropertyId::MaximumQoS,
            Self::RetainAvailable(_) => PropertyId::RetainAvailable,
            Self::UserProperty { .. } => PropertyId::UserProperty,
            Self::MaximumPacketSize(_) => PropertyId::MaximumPacketSize,
            Self::WildcardSubscriptionAvailable(_) => PropertyId::WildcardSubscriptionAvailable,
            Self::SubscriptionIdentifierAvailable(_) => PropertyId::SubscriptionIdentifierAvailable,
            Self::SharedSubscriptionAvailable(_) => PropertyId::SharedSubscriptionAvailable,
        }
    }

    /// Takes the value of property `id` off the reader.
    #[inline]
    fn read_value(id: PropertyId, reader: &mut Reader<'a>) -> Result<Self, FieldError> {
        Ok(match id {
            PropertyId::PayloadFormatIndicator => Self::PayloadFormatIndicator(reader.u8()?),
            PropertyId::MessageExpiryInterval => Self::MessageExpiryInterval(reader.u32()?),
            PropertyId::ContentType => Self::ContentType(reader.string()?),
            PropertyId::ResponseTopic => Self::ResponseTopic(reader.string()?),
            PropertyId::CorrelationData => Self::CorrelationData(reader.binary()?),
            PropertyId::SubscriptionIdentifier => Self::SubscriptionIdentifier(reader.varint()? as u32),
            PropertyId::SessionExpiryInterval => Self::SessionExpiryInterval(reader.u32()?),
            PropertyId::AssignedClientIdentifier => Self::AssignedClientIdentifier(reader.string()?),
            PropertyId::ServerKeepAlive => Self::ServerKeepAlive(reader.u16()?),
            PropertyId::AuthenticationMethod => Self::AuthenticationMethod(reader.string()?),
            PropertyId::AuthenticationData => Self::AuthenticationData(reader.binary()?),
            PropertyId::RequestProblemInformation => Self::RequestProblemInformation(reader.u8()?),
            PropertyId::WillDelayInterval => Self::WillDelayInterval(reader.u32()?),
            PropertyId::RequestResponseInformation => Self::RequestResponseInformation(reader.u8()?),
            PropertyId::ResponseInformation => Self::ResponseInformation(reader.string()?),
            PropertyId::ServerReference => Self::ServerReference(reader.string()?),
            PropertyId::ReasonString => Self::ReasonString(reader.string()?),
            PropertyId::ReceiveMaximum => Self::ReceiveMaximum(reader.u16()?),
            PropertyId::TopicAliasMaximum => Self::TopicAliasMaximum(reader.u16()?),
            PropertyId::TopicAlias => Self::TopicAlias(reader.u16()?),
            PropertyId::MaximumQoS => Self::MaximumQoS(reader.u8()?),
            PropertyId::RetainAvailable => Self::RetainAvailable(reader.u8()?),
            PropertyId::UserProperty => {
                Self::UserProperty { name: reader.string()?, value: reader.string()? }
            }
            PropertyId::MaximumPacketSize => Self::MaximumPacketSize(reader.u32()?),
            PropertyId::WildcardSubscriptionAvailable => Self::WildcardSubscriptionAvailable(reader.u8()?),
            PropertyId::SubscriptionIdentifierAvailable => {
                Self::SubscriptionIdentifierAvailable(reader.u8()?)
            }
            PropertyId::SharedSubscriptionAvailable => Self::SharedSubscriptionAvailable(reader.u8()?),
        })
    }

    /// The rules of the text about single values.
    #[inline]
    fn check_value(&self) -> Result<(), PropertyError> {
        let allowed = match *self {
            // Every one-byte property is a flag, or a Maximum QoS, which is only sent when it is below 2.
            Self::PayloadFormatIndicator(flag)
            | Self::RequestProblemInformation(flag)
            | Self::RequestResponseInformation(flag)
            | Self::MaximumQoS(flag)
            | Self::RetainAvailable(flag)
            | Self::WildcardSubscriptionAvailable(flag)
            | Self::SubscriptionIdentifierAvailable(flag)
            | Self::SharedSubscriptionAvailable(flag) => flag <= 1,
            Self::ReceiveMaximum(number) | Self::TopicAlias(number) => number != 0, // [MQTT-3.3.2-8]
            Self::MaximumPacketSize(bytes) => bytes != 0,
            Self::SubscriptionIdentifier(number) => number != 0 && number as usize <= VARINT_MAX,
            Self::ResponseTopic(topic) => TopicName::parse(topic).is_ok(), // [MQTT-3.3.2-14]
            _ => true,
        };
        if allowed { Ok(()) } else { Err(PropertyError::Value(self.id())) }
    }

    /// Strings without U+0000, nothing longer than its length prefix can say.
    fn check_strings(&self) -> Result<(), PropertyError> {
        let text = |text: &str| match text.len() {
            0..=0xFFFF if has_nul(text) => Err(FieldError::NulCharacter.into()),
            0..=0xFFFF => Ok(()),
            _ => Err(PropertyError::TooLong(self.id())),
        };
        match *self {
            Self::ContentType(value)
            | Self::ResponseTopic(value)
            | Self::AssignedClientIdentifier(value)
            | Self::AuthenticationMethod(value)
            | Self::ResponseInformation(value)
            | Self::ServerReference(value)
            | Self::ReasonString(value) => text(value),
            Self::CorrelationData(value) | Self::AuthenticationData(value) if value.len() > 0xFFFF => {
                Err(PropertyError::TooLong(self.id()))
            }
            Self::UserProperty { name, value } => text(name).and_then(|()| text(value)),
            _ => Ok(()),
        }
    }

    /// Appends identifier and value, which were checked.
    fn put(&self, out: &mut Vec<u8>) {
        out.push(self.id().as_u8());
        match *self {
            Self::PayloadFormatIndicator(value)
            | Self::RequestProblemInformation(value)
            | Self::RequestResponseInformation(value)
            | Self::MaximumQoS(value)
            | Self::RetainAvailable(value)
            | Self::WildcardSubscriptionAvailable(value)
            | Self::SubscriptionIdentifierAvailable(value)
            | Self::SharedSubscriptionAvailable(value) => out.push(value),
            Self::ServerKeepAlive(value)
            | Self::ReceiveMaximum(value)
            | Self::TopicAliasMaximum(value)
            | Self::TopicAlias(value) => out.extend_from_slice(&value.to_be_bytes()),
            Self::MessageExpiryInterval(value)
            | Self::SessionExpiryInterval(value)
            | Self::WillDelayInterval(value)
            | Self::MaximumPacketSize(value) => out.extend_from_slice(&value.to_be_bytes()),
            Self::SubscriptionIdentifier(value) => put_varint(out, value as usize),
            Self::ContentType(value)
            | Self::ResponseTopic(value)
            | Self::AssignedClientIdentifier(value)
            | Self::AuthenticationMethod(value)
            | Self::ResponseInformation(value)
            | Self::ServerReference(value)
            | Self::ReasonString(value) => put_binary(out, value.as_bytes()),
            Self::CorrelationData(value) | Self::AuthenticationData(value) => put_binary(out, value),
            Self::UserProperty { name, value } => {
                put_binary(out, name.as_bytes());
                put_binary(out, value.as_bytes());
            }
        }
    }
}
