//! A property list being built.

use super::{Properties, Property, PropertyError};
use crate::codec::primitives::VARINT_MAX;

/// Properties in wire form, in the order in which they were pushed. Reusable: [`PropertiesBuf::clear`] keeps the memory.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct PropertiesBuf {
    bytes: Vec<u8>,
}

impl PropertiesBuf {
    /// An empty list; allocates nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self { bytes: Vec::new() }
    }

    /// Appends one property. Which packets may carry it is judged when the packet is encoded.
    ///
    /// # Errors
    /// The list is as before if the value is not allowed, a string is over 65,535 bytes or has U+0000, or the property is there
    /// already and is none of those that repeat (User Property, Subscription Identifier).
    pub fn push(&mut self, property: Property<'_>) -> Result<(), PropertyError> {
        property.check_strings()?;
        property.check_value()?;
        let id = property.id();
        let repeats = id.may_repeat_in(super::Carrier::Any);
        if !repeats && self.as_properties().encoded().any(|present| present.id == id) {
            return Err(PropertyError::Duplicate(id));
        }
        let before = self.bytes.len();
        property.put(&mut self.bytes);
        if self.bytes.len() > VARINT_MAX {
            self.bytes.truncate(before);
            return Err(PropertyError::TooLong(id));
        }
        Ok(())
    }

    /// Appends, in their order, those properties of `list` that `keep` wants: a forward without its Topic Alias, for instance.
    ///
    /// # Errors
    /// As [`PropertiesBuf::push`]; the list is then as before.
    pub fn extend_filtered(
        &mut self,
        list: Properties<'_>,
        mut keep: impl FnMut(super::PropertyId) -> bool,
    ) -> Result<(), PropertyError> {
        let before = self.bytes.len();
        for property in list.encoded().filter(|property| keep(property.id)) {
            let id = property.id;
            let repeats = id.may_repeat_in(super::Carrier::Any);
            let error = if !repeats && self.as_properties().encoded().any(|present| present.id == id) {
                PropertyError::Duplicate(id)
            } else if self.bytes.len() + property.bytes.len() > VARINT_MAX {
                PropertyError::TooLong(id)
            } else {
                self.bytes.extend_from_slice(property.bytes);
                continue;
            };
            self.bytes.truncate(before);
            return Err(error);
        }
        Ok(())
    }

    /// The list as packets have it.
    #[must_use]
    pub fn as_properties(&self) -> Properties<'_> {
        Properties::validated(&self.bytes)
    }

    /// Whether there is no property.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Removes everything and keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::FieldError;
    use crate::property::PropertyId;

    #[test]
    fn a_built_list_reads_back() {
        let mut list = PropertiesBuf::new();
        let pushed = [
            Property::MessageExpiryInterval(60),
            Property::UserProperty { name: "a", value: "1" },
            Property::SubscriptionIdentifier(268_435_455),
            Property::CorrelationData(&[0, 1]),
            Property::UserProperty { name: "a", value: "2" },
            Property::SubscriptionIdentifier(1),
        ];
        for property in pushed {
            list.push(property).unwrap();
        }
        let read = Properties::from_wire(list.as_properties().raw()).unwrap();
        assert_eq!(read.iter().collect::<Vec<_>>(), pushed);
        assert_eq!(read.message_expiry_interval(), Some(60));
        assert_eq!(read.correlation_data(), Some(&[0, 1][..]));
        assert_eq!(read.subscription_identifier(), Some(268_435_455));
        assert_eq!(read.subscription_identifiers().collect::<Vec<_>>(), [268_435_455, 1]);
        assert_eq!(read.user_properties().collect::<Vec<_>>(), [("a", "1"), ("a", "2")]);
        assert_eq!(read.topic_alias(), None);
        assert_eq!((read.user_property("a"), read.user_property("b")), (Some("1"), None));
    }

    #[test]
    fn a_refused_push_leaves_no_trace() {
        let long = "x".repeat(65_536);
        let mut list = PropertiesBuf::new();
        list.push(Property::ReceiveMaximum(7)).unwrap();
        let before = list.clone();
        for (property, error) in [
            (Property::ReceiveMaximum(8), PropertyError::Duplicate(PropertyId::ReceiveMaximum)),
            (Property::TopicAlias(0), PropertyError::Value(PropertyId::TopicAlias)),
            (Property::MaximumQoS(2), PropertyError::Value(PropertyId::MaximumQoS)),
            (
                Property::SubscriptionIdentifier(268_435_456),
                PropertyError::Value(PropertyId::SubscriptionIdentifier),
            ),
            (Property::ResponseTopic("a/+"), PropertyError::Value(PropertyId::ResponseTopic)),
            (Property::ReasonString(&long), PropertyError::TooLong(PropertyId::ReasonString)),
            (Property::CorrelationData(long.as_bytes()), PropertyError::TooLong(PropertyId::CorrelationData)),
            (Property::UserProperty { name: "", value: "\0" }, FieldError::NulCharacter.into()),
        ] {
            assert_eq!(list.push(property), Err(error));
            assert_eq!(list, before);
        }
    }

    #[test]
    fn a_filtered_copy_keeps_the_order() {
        let mut source = PropertiesBuf::new();
        source.push(Property::TopicAlias(3)).unwrap();
        source.push(Property::ContentType("json")).unwrap();
        source.push(Property::UserProperty { name: "k", value: "v" }).unwrap();
        let mut copy = PropertiesBuf::new();
        copy.extend_filtered(source.as_properties(), |id| id != PropertyId::TopicAlias).unwrap();
        assert_eq!(
            copy.as_properties().iter().collect::<Vec<_>>(),
            [Property::ContentType("json"), Property::UserProperty { name: "k", value: "v" }]
        );
        let before = copy.clone();
        let again = copy.extend_filtered(source.as_properties(), |_| true);
        assert_eq!(again, Err(PropertyError::Duplicate(PropertyId::ContentType)));
        assert_eq!(copy, before);
        copy.clear();
        assert!(copy.is_empty());
    }
}
