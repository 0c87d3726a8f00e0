//! Entries that own what they hold, so that the plain model can keep what was told to the log.

use gateway_storage::{Entry, Event};

/// An event, owned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Published {
    pub(super) publisher: String,
    pub(super) topic: String,
    pub(super) qos: u8,
    pub(super) retain: bool,
    pub(super) payload: Vec<u8>,
}

/// An entry, owned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Owned {
    Event(Published),
    Opened { client: String, clean: bool, expiry_secs: u32 },
    Closed { client: String, at_ms: u64, expiry_secs: u32, state: Vec<u8> },
    Removed { client: String },
    Subscribed { client: String, filter: String, options: u8, id: u32 },
    Unsubscribed { client: String, filter: String },
    Acknowledged { client: String, runs: Vec<u8> },
    Received { client: String, runs: Vec<u8> },
    PacketIn { client: String, packet_id: u16 },
    PacketReleased { client: String, packet_id: u16 },
    WillSet { client: String, delay_secs: u32, will: Vec<u8> },
    WillDue { client: String, at_ms: u64 },
    WillCleared { client: String },
    RetainedRemoved { topic: String, offset: u64 },
    Rules { rules: Vec<u8> },
    Cut { client: String, before: u64 },
}

impl Owned {
    /// An entry that changes nothing.
    pub(super) fn nothing() -> Self {
        Self::Unsubscribed { client: "nobody".into(), filter: "nothing".into() }
    }

    pub(super) fn of(entry: &Entry<'_>) -> Self {
        match *entry {
            Entry::Event(event) => Self::Event(Published {
                publisher: event.client_id.into(),
                topic: event.topic.into(),
                qos: event.qos,
                retain: event.retain,
                payload: event.payload.into(),
            }),
            Entry::SessionOpened { client_id, clean_start, expiry_secs, .. } => {
                Self::Opened { client: client_id.into(), clean: clean_start, expiry_secs }
            }
            Entry::SessionClosed { client_id, at_ms, expiry_secs, state } => {
                Self::Closed { client: client_id.into(), at_ms, expiry_secs, state: state.into() }
            }
            Entry::SessionRemoved { client_id, .. } => Self::Removed { client: client_id.into() },
            Entry::Subscribed { client_id, filter, options, subscription_id } => Self::Subscribed {
                client: client_id.into(),
                filter: filter.into(),
                options,
                id: subscription_id,
            },
            Entry::Unsubscribed { client_id, filter } => {
                Self::Unsubscribed { client: client_id.into(), filter: filter.into() }
            }
            Entry::Acknowledged { client_id, runs } => {
                Self::Acknowledged { client: client_id.into(), runs: runs.into() }
            }
            Entry::DeliveryReceived { client_id, runs } => {
                Self::Received { client: client_id.into(), runs: runs.into() }
            }
            Entry::PublishReceived { client_id, packet_id } => {
                Self::PacketIn { client: client_id.into(), packet_id }
            }
            Entry::PublishReleased { client_id, packet_id } => {
                Self::PacketReleased { client: client_id.into(), packet_id }
            }
            Entry::WillSet { client_id, delay_secs, will } => {
                Self::WillSet { client: client_id.into(), delay_secs, will: will.into() }
            }
            Entry::WillDue { client_id, at_ms } => Self::WillDue { client: client_id.into(), at_ms },
            Entry::WillCleared { client_id } => Self::WillCleared { client: client_id.into() },
            Entry::RetainedRemoved { topic, offset } => Self::RetainedRemoved { topic: topic.into(), offset },
            Entry::RulesChanged { rules } => Self::Rules { rules: rules.into() },
            Entry::BacklogCut { client_id, before } => Self::Cut { client: client_id.into(), before },
            // Nobody writes them in this test.
            Entry::StreamSet { .. }
            | Entry::StreamRemoved { .. }
            | Entry::ConsumerSet { .. }
            | Entry::ConsumerRemoved { .. }
            | Entry::ConsumerProgress { .. }
            | Entry::DeadLettered { .. }
            | Entry::DeadLettersChanged { .. } => Self::nothing(),
        }
    }

    pub(super) fn entry(&self) -> Entry<'_> {
        match self {
            Self::Event(event) => Entry::Event(Event {
                client_id: &event.publisher,
                topic: &event.topic,
                qos: event.qos,
                retain: event.retain,
                received_ms: 1,
                expires_at_ms: 0,
                properties: &[],
                payload: &event.payload,
            }),
            Self::Opened { client, clean, expiry_secs } => Entry::SessionOpened {
                client_id: client,
                at_ms: 1,
                clean_start: *clean,
                expiry_secs: *expiry_secs,
                state: &[],
            },
            Self::Closed { client, at_ms, expiry_secs, state } => {
                Entry::SessionClosed { client_id: client, at_ms: *at_ms, expiry_secs: *expiry_secs, state }
            }
            Self::Removed { client } => Entry::SessionRemoved { client_id: client, at_ms: 1, cause: 1 },
            Self::Subscribed { client, filter, options, id } => {
                Entry::Subscribed { client_id: client, filter, options: *options, subscription_id: *id }
            }
            Self::Unsubscribed { client, filter } => Entry::Unsubscribed { client_id: client, filter },
            Self::Acknowledged { client, runs } => Entry::Acknowledged { client_id: client, runs },
            Self::Received { client, runs } => Entry::DeliveryReceived { client_id: client, runs },
            Self::PacketIn { client, packet_id } => {
                Entry::PublishReceived { client_id: client, packet_id: *packet_id }
            }
            Self::PacketReleased { client, packet_id } => {
                Entry::PublishReleased { client_id: client, packet_id: *packet_id }
            }
            Self::WillSet { client, delay_secs, will } => {
                Entry::WillSet { client_id: client, delay_secs: *delay_secs, will }
            }
            Self::WillDue { client, at_ms } => Entry::WillDue { client_id: client, at_ms: *at_ms },
            Self::WillCleared { client } => Entry::WillCleared { client_id: client },
            Self::RetainedRemoved { topic, offset } => Entry::RetainedRemoved { topic, offset: *offset },
            Self::Rules { rules } => Entry::RulesChanged { rules },
            Self::Cut { client, before } => Entry::BacklogCut { client_id: client, before: *before },
        }
    }
}

/// Whether `filter`, without `$share/<name>/`, matches `topic`. No topic here begins with a dollar sign.
pub(super) fn matches(filter: &str, topic: &str) -> bool {
    let (mut filter, mut topic) = (filter.split('/'), topic.split('/'));
    loop {
        match (filter.next(), topic.next()) {
            (Some("#"), _) | (None, None) => return true,
            (Some("+"), Some(_)) => {}
            (Some(wanted), Some(found)) if wanted == found => {}
            _ => return false,
        }
    }
}

/// The filter of a Shared Subscription behind the name of its group.
pub(super) fn shared(filter: &str) -> Option<&str> {
    filter.strip_prefix("$share/")?.split_once('/').map(|(_, filter)| filter)
}
