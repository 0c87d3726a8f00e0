//! What a named event is known by.

use gateway_protocol::property::user_property_in;
use sha2::{Digest, Sha256};

/// The User Property by which a publisher names its event.
const EVENT_ID: &str = "event-id";

/// A Client Identifier and the name that this client gave an event, as the first half of their SHA-256. No client can make up a name that
/// passes for another client's; and the same entries give the same identities on every machine, for there is no secret in them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Identity([u64; 2]);

impl Identity {
    /// Of an event that `client_id` published with `properties` (in wire form, validated once); none if it has no name. The first
    /// `event-id` counts; an empty one names nothing.
    pub(super) fn of(client_id: &str, properties: &[u8]) -> Option<Self> {
        let name = user_property_in(properties, EVENT_ID).filter(|name| !name.is_empty())?;
        let mut hash = Sha256::new();
        // No Client Identifier is longer than 65,535 bytes. Its length sets the two strings apart.
        hash.update((client_id.len() as u32).to_le_bytes());
        hash.update(client_id);
        hash.update(name);
        let digest: [u8; 32] = hash.finalize().into();
        Self::from_bytes(digest.first_chunk()?)
    }

    /// Its bytes in a row of the view.
    pub(super) fn to_bytes(self) -> [u8; 16] {
        let mut bytes = [0; 16];
        let [low, high] = self.0.map(u64::to_le_bytes);
        let (first, second) = bytes.split_at_mut(8);
        first.copy_from_slice(&low);
        second.copy_from_slice(&high);
        bytes
    }

    pub(super) fn from_bytes(bytes: &[u8; 16]) -> Option<Self> {
        let [low, high] = bytes.as_chunks::<8>().0 else { return None };
        Some(Self([u64::from_le_bytes(*low), u64::from_le_bytes(*high)]))
    }

    /// For tables: every bit is as good as random.
    pub(super) const fn hash(self) -> u64 {
        let [low, _] = self.0;
        low
    }

    /// One for each number.
    #[cfg(test)]
    pub(super) const fn numbered(number: u64) -> Self {
        // Bits well mixed, and cheap where tests make millions.
        let mixed = (number.wrapping_add(1)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let mixed = (mixed ^ (mixed >> 32)).wrapping_mul(0xD6E8_FEB8_6659_FD93);
        Self([mixed ^ (mixed >> 32), number])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gateway_protocol::{PropertiesBuf, Property};

    fn named(client_id: &str, names: &[(&str, &str)]) -> Option<Identity> {
        let mut list = PropertiesBuf::new();
        list.push(Property::ContentType("json")).unwrap();
        for &(name, value) in names {
            list.push(Property::UserProperty { name, value }).unwrap();
        }
        Identity::of(client_id, list.as_properties().raw())
    }

    #[test]
    fn an_identity_is_of_one_client_and_one_name() {
        let one = named("a", &[("event-id", "1")]);
        assert!(one.is_some());
        assert_eq!(one, named("a", &[("other", "2"), ("event-id", "1"), ("event-id", "2")]));
        assert_ne!(one, named("b", &[("event-id", "1")]));
        assert_ne!(one, named("a", &[("event-id", "2")]));
        assert_ne!(named("ab", &[("event-id", "c")]), named("a", &[("event-id", "bc")]));
        assert_eq!(Identity::from_bytes(&one.unwrap().to_bytes()), one);
    }

    #[test]
    fn what_is_not_named_has_none() {
        assert_eq!(named("a", &[("Event-Id", "1"), ("event-id", "")]), None);
        assert_eq!(Identity::of("a", &[]), None);
        assert_eq!(Identity::of("a", &[0x26, 0, 8, b'e']), None, "cut short");
    }

    #[test]
    fn the_identity_in_a_saved_view_stays_what_it_is() {
        let digest = Sha256::digest(b"\x01\0\0\0a1");
        assert_eq!(named("a", &[("event-id", "1")]).unwrap().to_bytes(), digest[..16]);
    }
}
