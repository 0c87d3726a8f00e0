//! Topic Aliases, both ways. They belong to a connection and end with it [MQTT-3.3.2-7].

use std::collections::HashMap;

/// Aliases that we give to the topics of one client at most, whatever it allows: each costs a copy of its topic.
const OUTBOUND_MAX: u16 = 64;

/// What the client calls its topics.
#[derive(Debug, Default)]
pub(super) struct InboundAliases {
    topics: Vec<Option<Box<str>>>,
}

impl InboundAliases {
    /// Remembers `topic` as `alias`. The caller has checked that the alias lies in what was announced.
    pub(super) fn set(&mut self, alias: u16, topic: &str) {
        let at = usize::from(alias.saturating_sub(1));
        if self.topics.len() <= at {
            self.topics.resize(at + 1, None);
        }
        if let Some(slot) = self.topics.get_mut(at)
            && slot.as_deref() != Some(topic)
        {
            *slot = Some(topic.into());
        }
    }

    pub(super) fn get(&self, alias: u16) -> Option<&str> {
        self.topics.get(usize::from(alias.checked_sub(1)?))?.as_deref()
    }
}

/// What we call topics towards the client: the first ones that were sent keep their alias for as long as the connection stands, which
/// suits a subscriber of few topics, and costs nothing for one of many.
#[derive(Debug)]
pub(super) struct OutboundAliases {
    aliases: HashMap<Box<str>, u16>,
    max: u16,
}

/// How a topic is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spelling {
    /// In full.
    Full,
    /// In full, and the client is to remember it by this alias.
    Introduce(u16),
    /// By its alias alone.
    Alias(u16),
}

impl OutboundAliases {
    /// `allowed` is the client's Topic Alias Maximum [MQTT-3.1.2-26] [MQTT-3.1.2-27].
    pub(super) fn new(allowed: u16) -> Self {
        Self { aliases: HashMap::new(), max: allowed.min(OUTBOUND_MAX) }
    }

    pub(super) fn spelling(&self, topic: &str) -> Spelling {
        match self.aliases.get(topic) {
            Some(alias) => Spelling::Alias(*alias),
            None => match u16::try_from(self.aliases.len() + 1) {
                Ok(next) if next <= self.max => Spelling::Introduce(next),
                _ => Spelling::Full,
            },
        }
    }

    /// The frame that introduces `topic` was written.
    pub(super) fn introduced(&mut self, topic: &str, alias: u16) {
        self.aliases.insert(topic.into(), alias);
    }
}
