//! Takes names out of messages: levels of topics become keyed hashes, the same name the same hash under the same key.
//!
//! Promise: the names on the chosen levels of a message's topic are nowhere in what leaves here, neither in the topic nor, as
//! words, in its payload or its properties; a payload that is not text and holds such a name is withheld as a whole. What it
//! cannot know are names that stand in the payload alone. Without the key nobody gets a name back from its hash, not even by
//! trying all names there may be.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use gateway_protocol::{PropertiesBuf, Property};
use sha2::{Digest, Sha256};

use super::Message;

/// SHA-256's block, which HMAC pads keys to.
const BLOCK_BYTES: usize = 64;
const KEY_BYTES: usize = 32;
/// Bytes of a hash that stand in a name: of a million names no two are likely to meet.
const HASH_BYTES: usize = 8;
/// A shorter name in a payload that is not text is chance rather than a name.
const CHANCE_BYTES: usize = 3;
/// The largest key file.
const KEY_FILE_BYTES_MAX: u64 = 1 << 16;

/// What hashes names.
#[derive(Clone)]
pub(crate) struct Anonymiser {
    key: [u8; KEY_BYTES],
    /// Counted from 0.
    levels: Vec<usize>,
}

impl Anonymiser {
    /// For these levels, counted from 1, with the key that is in this file; without a file, with one that nobody will know.
    pub(crate) fn new(levels: &[usize], key_file: Option<&Path>) -> io::Result<Self> {
        let mut material = Vec::new();
        match key_file {
            Some(file) => File::open(file)?.take(KEY_FILE_BYTES_MAX).read_to_end(&mut material)?,
            None => File::open("/dev/urandom")?.take(KEY_BYTES as u64).read_to_end(&mut material)?,
        };
        if material.len() < KEY_BYTES / 2 {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a key has 16 bytes at least"));
        }
        Ok(Self::with_key(levels, &material))
    }

    fn with_key(levels: &[usize], material: &[u8]) -> Self {
        Self {
            key: Sha256::digest(material).into(),
            levels: levels.iter().map(|level| level.saturating_sub(1)).collect(),
        }
    }

    /// The message without its names; none if it has to be withheld.
    pub(crate) fn apply(&self, message: Message) -> Option<Message> {
        let names: Vec<(String, String)> = message
            .topic
            .split('/')
            .enumerate()
            .filter(|(level, name)| self.levels.contains(level) && !name.is_empty())
            .map(|(_, name)| (name.to_owned(), self.hashed(name)))
            .collect();
        let levels = message.topic.split('/').enumerate().map(|(level, name)| {
            match self.levels.contains(&level).then(|| names.iter().find(|(own, _)| own == name)) {
                Some(Some((_, hashed))) => hashed.as_str(),
                _ => name,
            }
        });
        let topic = levels.collect::<Vec<_>>().join("/");
        let payload = match String::from_utf8(message.payload) {
            Ok(text) => without(&text, &names).into_bytes(),
            Err(binary) => Some(binary.into_bytes()).filter(|bytes| !holds(bytes, &names))?,
        };
        let properties = properties_without(&message.properties, &names)?;
        Some(Message { topic, payload, properties, ..message })
    }

    fn hashed(&self, name: &str) -> String {
        let hash = hmac(&self.key, name.as_bytes());
        let digits: String = hash.iter().take(HASH_BYTES).map(|byte| format!("{byte:02x}")).collect();
        format!("anon-{digits}")
    }
}

/// HMAC-SHA-256 (RFC 2104).
fn hmac(key: &[u8; KEY_BYTES], text: &[u8]) -> [u8; KEY_BYTES] {
    let mut block = [0_u8; BLOCK_BYTES];
    for (place, byte) in block.iter_mut().zip(key) {
        *place = *byte;
    }
    let padded = |pad: u8| block.map(|byte| byte ^ pad);
    let inner = Sha256::new().chain_update(padded(0x36)).chain_update(text).finalize();
    Sha256::new().chain_update(padded(0x5c)).chain_update(inner).finalize().into()
}

/// The text with every name that stands in it as a word replaced.
fn without(text: &str, names: &[(String, String)]) -> String {
    let mut text = text.to_owned();
    for (name, hashed) in names {
        let mut out = String::with_capacity(text.len());
        let mut rest = text.as_str();
        while let Some((before, after)) = rest.split_once(name.as_str()) {
            out.push_str(before);
            let is_word = !out.ends_with(is_of_a_word) && !after.starts_with(is_of_a_word);
            out.push_str(if is_word { hashed } else { name });
            rest = after;
        }
        out.push_str(rest);
        text = out;
    }
    text
}

fn is_of_a_word(letter: char) -> bool {
    letter.is_alphanumeric() || letter == '_' || letter == '-'
}

fn holds(bytes: &[u8], names: &[(String, String)]) -> bool {
    names.iter().any(|(name, _)| {
        name.len() > CHANCE_BYTES && bytes.windows(name.len()).any(|window| window == name.as_bytes())
    })
}

fn properties_without(properties: &PropertiesBuf, names: &[(String, String)]) -> Option<PropertiesBuf> {
    let mut out = PropertiesBuf::new();
    for property in properties.as_properties().iter() {
        let pushed = match property {
            Property::UserProperty { name, value } => out
                .push(Property::UserProperty { name: &without(name, names), value: &without(value, names) }),
            Property::ResponseTopic(topic) => out.push(Property::ResponseTopic(&without(topic, names))),
            Property::ContentType(kind) => out.push(Property::ContentType(&without(kind, names))),
            Property::CorrelationData(data) if holds(data, names) => return None,
            other => out.push(other),
        };
        pushed.ok()?;
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use gateway_protocol::QoS;

    use super::*;

    fn message(topic: &str, payload: &[u8]) -> Message {
        let mut properties = PropertiesBuf::new();
        properties.push(Property::UserProperty { name: "of", value: "dev-7" }).unwrap();
        properties.push(Property::ResponseTopic("answers/dev-7")).unwrap();
        let topic = topic.to_owned();
        Message {
            at_us: 5,
            qos: QoS::AtLeastOnce,
            retain: false,
            topic,
            properties,
            payload: payload.to_vec(),
        }
    }

    #[test]
    fn hmac_is_what_the_standard_says() {
        // RFC 4231, test case 1; its key of 20 bytes is padded with zeros like any shorter than the block.
        let mut key = [0; KEY_BYTES];
        key[..20].fill(0x0b);
        let hex: String = hmac(&key, b"Hi There").iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7");
    }

    #[test]
    fn a_name_is_gone_from_topic_payload_and_properties_and_its_hash_depends_on_the_key() {
        let one = Anonymiser::with_key(&[3], b"the key of the first");
        let payload = br#"{"id":"dev-7","of":"dev-70","path":"site/dev-7"}"#;
        let hidden = one.apply(message("devices/site/dev-7/telemetry", payload)).unwrap();
        let levels: Vec<&str> = hidden.topic.split('/').collect();
        assert_eq!((levels[0], levels[1], levels[3]), ("devices", "site", "telemetry"));
        assert!(levels[2].starts_with("anon-") && levels[2].len() == 21, "{levels:?}");
        let text = String::from_utf8(hidden.payload).unwrap();
        assert_eq!(text, format!(r#"{{"id":"{0}","of":"dev-70","path":"site/{0}"}}"#, levels[2]));
        let list = hidden.properties.as_properties();
        assert_eq!(list.user_property("of"), Some(levels[2]));
        assert_eq!(list.response_topic(), Some(format!("answers/{}", levels[2]).as_str()));
        let again = one.apply(message("devices/site/dev-7/other", b"")).unwrap();
        assert!(again.topic.contains(levels[2]), "the same name, the same hash");
        let other =
            Anonymiser::with_key(&[3], b"the key of another").apply(message("a/b/dev-7", b"")).unwrap();
        assert!(!other.topic.contains(levels[2]), "another key, another hash");
    }

    #[test]
    fn a_name_within_what_is_not_text_withholds_the_message() {
        let anonymiser = Anonymiser::with_key(&[1], b"some key");
        assert!(anonymiser.apply(message("device-1/x", b"\xff\x00device-1\x01")).is_none());
        assert!(anonymiser.apply(message("device-1/x", b"\xff\x00device-2\x01")).is_some());
        assert_eq!(anonymiser.apply(message("short", b"\xff")).unwrap().topic.len(), 21);
    }
}
