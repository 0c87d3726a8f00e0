//! A property list in wire form: the bytes after the Property Length.

use super::{Carrier, Property, PropertyError, PropertyId, ValueKind};
use crate::QoS;
use crate::codec::FieldError;
use crate::codec::primitives::{Reader, VARINT_MAX};
use crate::packet::PacketType;

/// A validated property list; empty for packets before MQTT 5, and by default.
///
/// Every getter is one scan over the list and decodes nothing but what it returns. Two lists are equal if their bytes are.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Properties<'a> {
    bytes: &'a [u8],
}

/// One property as it lies in its list.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EncodedProperty<'a> {
    /// Which one it is.
    pub id: PropertyId,
    /// Identifier and value, in wire form.
    pub bytes: &'a [u8],
}

/// Checks a whole list: known properties, allowed in this list, not repeated, with values that the text allows.
#[inline]
pub(crate) fn validate(bytes: &[u8], carrier: Carrier) -> Result<(), PropertyError> {
    // One list alone may not be empty.
    let is_checked = bytes.is_empty() && !matches!(carrier, Carrier::Packet(PacketType::Auth));
    if is_checked { Ok(()) } else { validate_each(bytes, carrier) }
}

fn validate_each(bytes: &[u8], carrier: Carrier) -> Result<(), PropertyError> {
    let mut reader = Reader::new(bytes);
    let mut seen = 0_u64;
    while !reader.is_empty() {
        let number = reader.u8()?;
        let id = PropertyId::from_u8(number).ok_or(PropertyError::Unknown(number))?;
        if !id.is_allowed_in(carrier) {
            return Err(PropertyError::Foreign(id));
        }
        if seen & bit(id) != 0 && !id.may_repeat_in(carrier) {
            return Err(PropertyError::Duplicate(id));
        }
        seen |= bit(id);
        Property::read_value(id, &mut reader)?.check_value()?;
    }
    let has = |id| seen & bit(id) != 0;
    let needs_method = match carrier {
        Carrier::Packet(PacketType::Connect) => has(PropertyId::AuthenticationData),
        Carrier::Packet(PacketType::Auth) => true,
        _ => false,
    };
    if needs_method && !has(PropertyId::AuthenticationMethod) {
        return Err(PropertyError::NoAuthenticationMethod);
    }
    Ok(())
}

/// Identifiers end at 0x2A, so a set of them is one number.
const fn bit(id: PropertyId) -> u64 {
    1 << id.as_u8()
}

impl<'a> Properties<'a> {
    /// Validates a list that has left its packet, as one read back from storage has. Any property may be in it.
    ///
    /// # Errors
    /// [`PropertyError`], never `Foreign` or `NoAuthenticationMethod`.
    pub fn from_wire(bytes: &'a [u8]) -> Result<Self, PropertyError> {
        if bytes.len() > VARINT_MAX {
            return Err(FieldError::VariableByteInteger.into());
        }
        validate(bytes, Carrier::Any).map(|()| Self { bytes })
    }

    /// For bytes that [`validate`] has accepted.
    pub(crate) const fn validated(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    /// The list in wire form, without its length.
    #[must_use]
    pub const fn raw(&self) -> &'a [u8] {
        self.bytes
    }

    /// Whether there is no property.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The properties in their order.
    pub fn iter(&self) -> impl Iterator<Item = Property<'a>> + use<'a> {
        self.encoded().filter_map(|property| {
            let mut reader = Reader::new(property.bytes.get(1..)?);
            Property::read_value(property.id, &mut reader).ok()
        })
    }

    /// The properties in their order, not decoded: for whoever copies some of them.
    pub fn encoded(&self) -> impl Iterator<Item = EncodedProperty<'a>> + use<'a> {
        let mut rest = self.bytes;
        std::iter::from_fn(move || {
            let mut reader = Reader::new(rest);
            // A validated list has no end in the middle, so an error here is the end.
            let id = PropertyId::from_u8(reader.u8().ok()?)?;
            skip_value(id, &mut reader).ok()?;
            let (bytes, after) = rest.split_at_checked(rest.len() - reader.rest().len())?;
            rest = after;
            Some(EncodedProperty { id, bytes })
        })
    }

    /// The User Properties in their order, as name and value.
    pub fn user_properties(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        self.iter().filter_map(|property| match property {
            Property::UserProperty { name, value } => Some((name, value)),
            _ => None,
        })
    }

    /// The value of the first User Property called `name`; nothing else is decoded.
    #[must_use]
    pub fn user_property(&self, name: &str) -> Option<&'a str> {
        std::str::from_utf8(user_property_in(self.bytes, name)?).ok()
    }

    /// The Subscription Identifiers in their order.
    pub fn subscription_identifiers(&self) -> impl Iterator<Item = u32> + use<'a> {
        self.iter().filter_map(|property| match property {
            Property::SubscriptionIdentifier(number) => Some(number),
            _ => None,
        })
    }

    /// A reader at the value of the first such property.
    #[inline]
    fn find(&self, wanted: PropertyId) -> Option<Reader<'a>> {
        let mut reader = Reader::new(self.bytes);
        while let Ok(number) = reader.u8() {
            let id = PropertyId::from_u8(number)?;
            if id == wanted {
                return Some(reader);
            }
            skip_value(id, &mut reader).ok()?;
        }
        None
    }

    fn find_u8(&self, id: PropertyId) -> Option<u8> {
        self.find(id)?.u8().ok()
    }

    fn find_flag(&self, id: PropertyId) -> Option<bool> {
        self.find_u8(id).map(|flag| flag != 0)
    }

    fn find_u16(&self, id: PropertyId) -> Option<u16> {
        self.find(id)?.u16().ok()
    }

    fn find_u32(&self, id: PropertyId) -> Option<u32> {
        self.find(id)?.u32().ok()
    }

    fn find_str(&self, id: PropertyId) -> Option<&'a str> {
        self.find(id)?.utf8().ok()
    }

    fn find_binary(&self, id: PropertyId) -> Option<&'a [u8]> {
        self.find(id)?.binary().ok()
    }
}

/// The value of the first User Property called `name` in a list in wire form that was validated once, for those who keep such lists: it
/// is not looked at again but for its lengths. What is no property list has none.
#[must_use]
pub fn user_property_in<'a>(list: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let mut reader = Reader::new(list);
    while let Ok(number) = reader.u8() {
        let id = PropertyId::from_u8(number)?;
        if id != PropertyId::UserProperty {
            skip_value(id, &mut reader).ok()?;
            continue;
        }
        let (found, value) = (reader.binary().ok()?, reader.binary().ok()?);
        if found == name.as_bytes() {
            return Some(value);
        }
    }
    None
}

#[inline]
fn skip_value(id: PropertyId, reader: &mut Reader<'_>) -> Result<(), FieldError> {
    match id.value_kind() {
        ValueKind::Byte => reader.take(1)?,
        ValueKind::TwoBytes => reader.take(2)?,
        ValueKind::FourBytes => reader.take(4)?,
        ValueKind::Varint => return reader.varint().map(|_| ()),
        ValueKind::Prefixed => reader.binary()?,
        ValueKind::Pair => {
            reader.binary()?;
            reader.binary()?
        }
    };
    Ok(())
}

/// Getters, in the order of the identifiers. `None` means absent; what that stands for is told where it is not obvious.
impl<'a> Properties<'a> {
    /// 1: the payload is UTF-8. Absent: 0, unspecified bytes.
    #[must_use]
    pub fn payload_format_indicator(&self) -> Option<u8> {
        self.find_u8(PropertyId::PayloadFormatIndicator)
    }

    /// Seconds. Absent: the message does not expire.
    #[must_use]
    pub fn message_expiry_interval(&self) -> Option<u32> {
        self.find_u32(PropertyId::MessageExpiryInterval)
    }

    /// What the payload is.
    #[must_use]
    pub fn content_type(&self) -> Option<&'a str> {
        self.find_str(PropertyId::ContentType)
    }

    /// A valid Topic Name.
    #[must_use]
    pub fn response_topic(&self) -> Option<&'a str> {
        self.find_str(PropertyId::ResponseTopic)
    }

    /// Which request a response answers.
    #[must_use]
    pub fn correlation_data(&self) -> Option<&'a [u8]> {
        self.find_binary(PropertyId::CorrelationData)
    }

    /// The first one, 1 to 268,435,455; see [`Properties::subscription_identifiers`] for all.
    #[must_use]
    pub fn subscription_identifier(&self) -> Option<u32> {
        let value = self.find(PropertyId::SubscriptionIdentifier)?.varint().ok()?;
        Some(value as u32)
    }

    /// Seconds; `u32::MAX` means that the Session does not expire. Absent: 0.
    #[must_use]
    pub fn session_expiry_interval(&self) -> Option<u32> {
        self.find_u32(PropertyId::SessionExpiryInterval)
    }

    /// The name that the server made up.
    #[must_use]
    pub fn assigned_client_identifier(&self) -> Option<&'a str> {
        self.find_str(PropertyId::AssignedClientIdentifier)
    }

    /// Seconds; 0 turns Keep Alive off. Absent: what the client asked for.
    #[must_use]
    pub fn server_keep_alive(&self) -> Option<u16> {
        self.find_u16(PropertyId::ServerKeepAlive)
    }

    /// Name of the extended authentication.
    #[must_use]
    pub fn authentication_method(&self) -> Option<&'a str> {
        self.find_str(PropertyId::AuthenticationMethod)
    }

    /// Its data.
    #[must_use]
    pub fn authentication_data(&self) -> Option<&'a [u8]> {
        self.find_binary(PropertyId::AuthenticationData)
    }

    /// Absent: true.
    #[must_use]
    pub fn request_problem_information(&self) -> Option<bool> {
        self.find_flag(PropertyId::RequestProblemInformation)
    }

    /// Seconds. Absent: 0.
    #[must_use]
    pub fn will_delay_interval(&self) -> Option<u32> {
        self.find_u32(PropertyId::WillDelayInterval)
    }

    /// Absent: false.
    #[must_use]
    pub fn request_response_information(&self) -> Option<bool> {
        self.find_flag(PropertyId::RequestResponseInformation)
    }

    /// Basis of Response Topics.
    #[must_use]
    pub fn response_information(&self) -> Option<&'a str> {
        self.find_str(PropertyId::ResponseInformation)
    }

    /// Another server to use.
    #[must_use]
    pub fn server_reference(&self) -> Option<&'a str> {
        self.find_str(PropertyId::ServerReference)
    }

    /// For a person who reads a log.
    #[must_use]
    pub fn reason_string(&self) -> Option<&'a str> {
        self.find_str(PropertyId::ReasonString)
    }

    /// Not 0. Absent: 65,535.
    #[must_use]
    pub fn receive_maximum(&self) -> Option<u16> {
        self.find_u16(PropertyId::ReceiveMaximum)
    }

    /// Absent: 0, no alias is taken.
    #[must_use]
    pub fn topic_alias_maximum(&self) -> Option<u16> {
        self.find_u16(PropertyId::TopicAliasMaximum)
    }

    /// Not 0.
    #[must_use]
    pub fn topic_alias(&self) -> Option<u16> {
        self.find_u16(PropertyId::TopicAlias)
    }

    /// QoS 0 or 1. Absent: QoS 2.
    #[must_use]
    pub fn maximum_qos(&self) -> Option<QoS> {
        QoS::from_u8(self.find_u8(PropertyId::MaximumQoS)?)
    }

    /// Absent: true.
    #[must_use]
    pub fn retain_available(&self) -> Option<bool> {
        self.find_flag(PropertyId::RetainAvailable)
    }

    /// Bytes, not 0. Absent: no limit but the protocol's.
    #[must_use]
    pub fn maximum_packet_size(&self) -> Option<u32> {
        self.find_u32(PropertyId::MaximumPacketSize)
    }

    /// Absent: true.
    #[must_use]
    pub fn wildcard_subscription_available(&self) -> Option<bool> {
        self.find_flag(PropertyId::WildcardSubscriptionAvailable)
    }

    /// Absent: true.
    #[must_use]
    pub fn subscription_identifier_available(&self) -> Option<bool> {
        self.find_flag(PropertyId::SubscriptionIdentifierAvailable)
    }

    /// Absent: true.
    #[must_use]
    pub fn shared_subscription_available(&self) -> Option<bool> {
        self.find_flag(PropertyId::SharedSubscriptionAvailable)
    }
}
