//! What the log holds: entries, format version 1.
//!
//! **Constraints.** Storage knows no packets: a topic is a string, a session's state, an event's properties, the
//! runs of an acknowledgement and what a consumer has done are opaque bytes. An entry read back is validated completely (kind, number of fields,
//! lengths, UTF-8, ranges) before anybody sees it.
//!
//! **Format.** An entry is one MessagePack array `[kind, fields...]` with the fields in the order of the variants
//! below; strings are `str`, opaque bytes are `bin`, times are milliseconds since the Unix epoch. The numbers of the
//! kinds are never used again for something else. An unknown kind, or one with more fields than this version knows,
//! is refused with [`EntryError`], never guessed at.
//!
//! **Operation.** `encode` writes entries (events by hand, so that the places of their fields are known while they
//! are written), `wire` holds the serde definition of every kind and reads entries back. Read on in
//! [`crate::staging`] for how a connection collects entries and in [`crate::Batch`] for how they are read.

mod encode;
mod markers;
#[cfg(test)]
mod tests;
mod walk;
mod wire;

pub(crate) use encode::{encode_control, encode_event};
pub(crate) use wire::{decode_entry, index_entry};

use thiserror::Error;

/// The longest Client Identifier, Topic Name or Topic Filter in bytes, as MQTT strings have it (`[MQTT-1.5.4]`).
pub const STRING_BYTES_MAX: usize = 65_535;

/// The longest encoded entry in bytes: the largest MQTT packet (256 MiB) and room for what storage adds to it.
pub const ENTRY_BYTES_MAX: usize = (256 << 20) + (256 << 10);

/// One durable change, borrowed from the bytes it was read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry<'a> {
    /// A device's event was accepted.
    Event(Event<'a>),
    /// A session was opened, or taken over, by a connection.
    SessionOpened {
        /// Whose session.
        client_id: &'a str,
        /// When, in milliseconds since the Unix epoch.
        at_ms: u64,
        /// Whether what was there before is gone.
        clean_start: bool,
        /// Session Expiry Interval in seconds; `u32::MAX` is never.
        expiry_secs: u32,
        /// The session's state, opaque to storage.
        state: &'a [u8],
    },
    /// A connection ended; the session lives on.
    SessionClosed {
        /// Whose session.
        client_id: &'a str,
        /// When, in milliseconds since the Unix epoch.
        at_ms: u64,
        /// Session Expiry Interval in seconds from `at_ms` on; `u32::MAX` is never.
        expiry_secs: u32,
        /// The session's state, opaque to storage.
        state: &'a [u8],
    },
    /// A session ended: nothing of it is kept.
    SessionRemoved {
        /// Whose session.
        client_id: &'a str,
        /// When, in milliseconds since the Unix epoch.
        at_ms: u64,
        /// Why, as a number the engine defines.
        cause: u8,
    },
    /// A subscription was made or replaced.
    Subscribed {
        /// Whose subscription.
        client_id: &'a str,
        /// The Topic Filter.
        filter: &'a str,
        /// Subscription Options as on the wire.
        options: u8,
        /// Subscription Identifier; 0 is none.
        subscription_id: u32,
    },
    /// A subscription was given up.
    Unsubscribed {
        /// Whose subscription.
        client_id: &'a str,
        /// The Topic Filter.
        filter: &'a str,
    },
    /// A session acknowledged deliveries.
    Acknowledged {
        /// Whose deliveries.
        client_id: &'a str,
        /// Which ones, in the engine's own coding.
        runs: &'a [u8],
    },
    /// A QoS 2 publish of this session was accepted: its Packet Identifier is in use until it is released.
    PublishReceived {
        /// Whose publish.
        client_id: &'a str,
        /// The Packet Identifier; not 0.
        packet_id: u16,
    },
    /// The client will not repeat that publish: its Packet Identifier is free.
    PublishReleased {
        /// Whose publish.
        client_id: &'a str,
        /// The Packet Identifier; not 0.
        packet_id: u16,
    },
    /// A session has QoS 2 deliveries, but may not know that this is known.
    DeliveryReceived {
        /// Whose deliveries.
        client_id: &'a str,
        /// Which ones, in the engine's own coding.
        runs: &'a [u8],
    },
    /// A connection left a Will Message, in place of one it may have left before.
    WillSet {
        /// Whose will.
        client_id: &'a str,
        /// Will Delay Interval in seconds.
        delay_secs: u32,
        /// The message, opaque to storage.
        will: &'a [u8],
    },
    /// The connection that left the will is gone: it is to be published at this time.
    WillDue {
        /// Whose will.
        client_id: &'a str,
        /// When, in milliseconds since the Unix epoch.
        at_ms: u64,
    },
    /// The will was published, or is not to be.
    WillCleared {
        /// Whose will.
        client_id: &'a str,
    },
    /// A Retained Message was removed other than by a publish.
    RetainedRemoved {
        /// Its Topic Name.
        topic: &'a str,
        /// The offset of its event: a later one under the same topic stays.
        offset: u64,
    },
    /// From here on entries are applied by other rules.
    RulesChanged {
        /// The rules, opaque to storage.
        rules: &'a [u8],
    },
    /// A session gives up what waits for it in the oldest part of the log, so that the log can be trimmed.
    BacklogCut {
        /// Whose deliveries.
        client_id: &'a str,
        /// Deliveries of events below this offset are given up.
        before: u64,
    },
    /// A stream was made or altered.
    StreamSet {
        /// Its name.
        name: &'a str,
        /// When, in milliseconds since the Unix epoch.
        at_ms: u64,
        /// What it keeps, opaque to storage.
        spec: &'a [u8],
    },
    /// A stream is no more.
    StreamRemoved {
        /// Its name.
        name: &'a str,
        /// When, in milliseconds since the Unix epoch.
        at_ms: u64,
    },
    /// A consumer was made or altered.
    ConsumerSet {
        /// Its name.
        name: &'a str,
        /// When, in milliseconds since the Unix epoch.
        at_ms: u64,
        /// What it reads and how, opaque to storage.
        spec: &'a [u8],
    },
    /// A consumer is no more.
    ConsumerRemoved {
        /// Its name.
        name: &'a str,
        /// When, in milliseconds since the Unix epoch.
        at_ms: u64,
    },
    /// A consumer has handed out events, and settled some.
    ConsumerProgress {
        /// Its name.
        name: &'a str,
        /// When, in milliseconds since the Unix epoch.
        at_ms: u64,
        /// What has changed, opaque to storage.
        progress: &'a [u8],
    },
    /// A consumer gave an event up: it is a dead letter.
    DeadLettered {
        /// The consumer's name.
        name: &'a str,
        /// When, in milliseconds since the Unix epoch.
        at_ms: u64,
        /// The event and what became of it, opaque to storage.
        letter: &'a [u8],
    },
    /// Dead letters were redriven, settled or removed.
    DeadLettersChanged {
        /// The consumer's name.
        name: &'a str,
        /// When, in milliseconds since the Unix epoch.
        at_ms: u64,
        /// Which ones, and what became of them, opaque to storage.
        change: &'a [u8],
    },
}

/// An event as a device published it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event<'a> {
    /// The publishing client.
    pub client_id: &'a str,
    /// The Topic Name.
    pub topic: &'a str,
    /// 0, 1 or 2, as published.
    pub qos: u8,
    /// The RETAIN flag, as published.
    pub retain: bool,
    /// When it was received, in milliseconds since the Unix epoch.
    pub received_ms: u64,
    /// When it expires, in milliseconds since the Unix epoch; 0 is never.
    pub expires_at_ms: u64,
    /// Properties in wire form, opaque to storage.
    pub properties: &'a [u8],
    /// The Application Message.
    pub payload: &'a [u8],
}

/// The kind of an entry; the numbers are those in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum EntryKind {
    /// [`Entry::Event`]
    Event = 0,
    /// [`Entry::SessionOpened`]
    SessionOpened = 1,
    /// [`Entry::SessionClosed`]
    SessionClosed = 2,
    /// [`Entry::SessionRemoved`]
    SessionRemoved = 3,
    /// [`Entry::Subscribed`]
    Subscribed = 4,
    /// [`Entry::Unsubscribed`]
    Unsubscribed = 5,
    /// [`Entry::Acknowledged`]
    Acknowledged = 6,
    /// [`Entry::PublishReceived`]
    PublishReceived = 7,
    /// [`Entry::PublishReleased`]
    PublishReleased = 8,
    /// [`Entry::DeliveryReceived`]
    DeliveryReceived = 9,
    /// [`Entry::WillSet`]
    WillSet = 10,
    /// [`Entry::WillDue`]
    WillDue = 11,
    /// [`Entry::WillCleared`]
    WillCleared = 12,
    /// [`Entry::RetainedRemoved`]
    RetainedRemoved = 13,
    /// [`Entry::RulesChanged`]
    RulesChanged = 14,
    /// [`Entry::BacklogCut`]
    BacklogCut = 15,
    /// [`Entry::StreamSet`]
    StreamSet = 16,
    /// [`Entry::StreamRemoved`]
    StreamRemoved = 17,
    /// [`Entry::ConsumerSet`]
    ConsumerSet = 18,
    /// [`Entry::ConsumerRemoved`]
    ConsumerRemoved = 19,
    /// [`Entry::ConsumerProgress`]
    ConsumerProgress = 20,
    /// [`Entry::DeadLettered`]
    DeadLettered = 21,
    /// [`Entry::DeadLettersChanged`]
    DeadLettersChanged = 22,
}

impl EntryKind {
    /// The kind with this number in the log, if this version knows one.
    pub const fn from_u8(number: u8) -> Option<Self> {
        Some(match number {
            0 => Self::Event,
            1 => Self::SessionOpened,
            2 => Self::SessionClosed,
            3 => Self::SessionRemoved,
            4 => Self::Subscribed,
            5 => Self::Unsubscribed,
            6 => Self::Acknowledged,
            7 => Self::PublishReceived,
            8 => Self::PublishReleased,
            9 => Self::DeliveryReceived,
            10 => Self::WillSet,
            11 => Self::WillDue,
            12 => Self::WillCleared,
            13 => Self::RetainedRemoved,
            14 => Self::RulesChanged,
            15 => Self::BacklogCut,
            16 => Self::StreamSet,
            17 => Self::StreamRemoved,
            18 => Self::ConsumerSet,
            19 => Self::ConsumerRemoved,
            20 => Self::ConsumerProgress,
            21 => Self::DeadLettered,
            22 => Self::DeadLettersChanged,
            _ => return None,
        })
    }

    /// The number of this kind in the log.
    pub const fn as_u8(self) -> u8 {
        self as u8
    }

    /// Elements in the array of an entry of this kind, the kind itself included.
    pub(crate) const fn elements(self) -> u8 {
        match self {
            Self::Event => 9,
            Self::SessionOpened => 6,
            Self::SessionClosed | Self::Subscribed => 5,
            Self::SessionRemoved
            | Self::WillSet
            | Self::StreamSet
            | Self::ConsumerSet
            | Self::ConsumerProgress
            | Self::DeadLettered
            | Self::DeadLettersChanged => 4,
            Self::Unsubscribed
            | Self::Acknowledged
            | Self::PublishReceived
            | Self::PublishReleased
            | Self::DeliveryReceived
            | Self::WillDue
            | Self::RetainedRemoved
            | Self::BacklogCut
            | Self::StreamRemoved
            | Self::ConsumerRemoved => 3,
            Self::WillCleared | Self::RulesChanged => 2,
        }
    }
}

impl Entry<'_> {
    /// The kind of this entry.
    pub const fn kind(&self) -> EntryKind {
        match self {
            Self::Event(_) => EntryKind::Event,
            Self::SessionOpened { .. } => EntryKind::SessionOpened,
            Self::SessionClosed { .. } => EntryKind::SessionClosed,
            Self::SessionRemoved { .. } => EntryKind::SessionRemoved,
            Self::Subscribed { .. } => EntryKind::Subscribed,
            Self::Unsubscribed { .. } => EntryKind::Unsubscribed,
            Self::Acknowledged { .. } => EntryKind::Acknowledged,
            Self::PublishReceived { .. } => EntryKind::PublishReceived,
            Self::PublishReleased { .. } => EntryKind::PublishReleased,
            Self::DeliveryReceived { .. } => EntryKind::DeliveryReceived,
            Self::WillSet { .. } => EntryKind::WillSet,
            Self::WillDue { .. } => EntryKind::WillDue,
            Self::WillCleared { .. } => EntryKind::WillCleared,
            Self::RetainedRemoved { .. } => EntryKind::RetainedRemoved,
            Self::RulesChanged { .. } => EntryKind::RulesChanged,
            Self::BacklogCut { .. } => EntryKind::BacklogCut,
            Self::StreamSet { .. } => EntryKind::StreamSet,
            Self::StreamRemoved { .. } => EntryKind::StreamRemoved,
            Self::ConsumerSet { .. } => EntryKind::ConsumerSet,
            Self::ConsumerRemoved { .. } => EntryKind::ConsumerRemoved,
            Self::ConsumerProgress { .. } => EntryKind::ConsumerProgress,
            Self::DeadLettered { .. } => EntryKind::DeadLettered,
            Self::DeadLettersChanged { .. } => EntryKind::DeadLettersChanged,
        }
    }
}

/// Why bytes are not an entry of format version 1.
#[derive(Debug, Error)]
pub enum EntryError {
    /// The bytes do not begin with an entry's array header and kind.
    #[error("this is not an entry: an entry begins with a MessagePack array and the number of its kind")]
    NotAnEntry,
    /// The kind is not one of this version.
    #[error("entry kind {kind} is unknown to this version; a newer gateway has written this log")]
    UnknownKind {
        /// The number found.
        kind: u8,
    },
    /// The kind is known, its number of fields is not.
    #[error(
        "an entry of kind {kind:?} has {found} elements instead of {known}; a newer gateway has written this log"
    )]
    UnknownShape {
        /// The kind found.
        kind: EntryKind,
        /// Elements found.
        found: u8,
        /// Elements this version knows.
        known: u8,
    },
    /// A field is not what it must be: its type, its size or its UTF-8.
    #[error("an entry of kind {kind:?} cannot be read: {source}")]
    Malformed {
        /// The kind found.
        kind: EntryKind,
        /// What is wrong.
        source: Box<rmp_serde::decode::Error>,
    },
    /// A field has a value outside its range.
    #[error("the field {field} of an entry of kind {kind:?} is out of range")]
    OutOfRange {
        /// The kind found.
        kind: EntryKind,
        /// The field's name.
        field: &'static str,
    },
    /// The bytes end within the entry, or one of its fields has a type no entry has.
    #[error("an entry of kind {kind:?} is cut short or holds a field of a type no entry has")]
    Unwalkable {
        /// The kind found.
        kind: EntryKind,
    },
    /// A group is undamaged, but its compressed entries are no LZ4 block, or not one of the length the group says.
    #[error("the compressed entries of a group cannot be unpacked")]
    Unpackable,
    /// A group is undamaged, but its entries end before its last byte.
    #[error("{excess} bytes follow the last entry of a group")]
    TrailingBytes {
        /// How many.
        excess: usize,
    },
}
