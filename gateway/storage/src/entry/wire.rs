//! The serde definition of every kind, and reading entries back.

use serde::{Deserialize, Serialize};

use super::walk::walk;
use super::{Entry, EntryError, EntryKind, Event, STRING_BYTES_MAX};
use crate::index::EntryIndex;

#[derive(Serialize, Deserialize)]
pub(super) struct EventV1<'a> {
    pub(super) kind: u8,
    pub(super) client_id: &'a str,
    pub(super) topic: &'a str,
    pub(super) qos: u8,
    pub(super) retain: bool,
    pub(super) received_ms: u64,
    pub(super) expires_at_ms: u64,
    #[serde(with = "serde_bytes")]
    pub(super) properties: &'a [u8],
    #[serde(with = "serde_bytes")]
    pub(super) payload: &'a [u8],
}

#[derive(Serialize, Deserialize)]
pub(super) struct SessionOpenedV1<'a> {
    pub(super) kind: u8,
    pub(super) client_id: &'a str,
    pub(super) at_ms: u64,
    pub(super) clean_start: bool,
    pub(super) expiry_secs: u32,
    #[serde(with = "serde_bytes")]
    pub(super) state: &'a [u8],
}

#[derive(Serialize, Deserialize)]
pub(super) struct SessionClosedV1<'a> {
    pub(super) kind: u8,
    pub(super) client_id: &'a str,
    pub(super) at_ms: u64,
    pub(super) expiry_secs: u32,
    #[serde(with = "serde_bytes")]
    pub(super) state: &'a [u8],
}

#[derive(Serialize, Deserialize)]
pub(super) struct SessionRemovedV1<'a> {
    pub(super) kind: u8,
    pub(super) client_id: &'a str,
    pub(super) at_ms: u64,
    pub(super) cause: u8,
}

#[derive(Serialize, Deserialize)]
pub(super) struct SubscribedV1<'a> {
    pub(super) kind: u8,
    pub(super) client_id: &'a str,
    pub(super) filter: &'a str,
    pub(super) options: u8,
    pub(super) subscription_id: u32,
}

#[derive(Serialize, Deserialize)]
pub(super) struct UnsubscribedV1<'a> {
    pub(super) kind: u8,
    pub(super) client_id: &'a str,
    pub(super) filter: &'a str,
}

#[derive(Serialize, Deserialize)]
pub(super) struct AcknowledgedV1<'a> {
    pub(super) kind: u8,
    pub(super) client_id: &'a str,
    #[serde(with = "serde_bytes")]
    pub(super) runs: &'a [u8],
}

/// PublishReceived and PublishReleased.
#[derive(Serialize, Deserialize)]
pub(super) struct PacketIdV1<'a> {
    pub(super) kind: u8,
    pub(super) client_id: &'a str,
    pub(super) packet_id: u16,
}

#[derive(Serialize, Deserialize)]
pub(super) struct WillSetV1<'a> {
    pub(super) kind: u8,
    pub(super) client_id: &'a str,
    pub(super) delay_secs: u32,
    #[serde(with = "serde_bytes")]
    pub(super) will: &'a [u8],
}

#[derive(Serialize, Deserialize)]
pub(super) struct WillDueV1<'a> {
    pub(super) kind: u8,
    pub(super) client_id: &'a str,
    pub(super) at_ms: u64,
}

#[derive(Serialize, Deserialize)]
pub(super) struct WillClearedV1<'a> {
    pub(super) kind: u8,
    pub(super) client_id: &'a str,
}

#[derive(Serialize, Deserialize)]
pub(super) struct RetainedRemovedV1<'a> {
    pub(super) kind: u8,
    pub(super) topic: &'a str,
    pub(super) offset: u64,
}

#[derive(Serialize, Deserialize)]
pub(super) struct RulesChangedV1<'a> {
    pub(super) kind: u8,
    #[serde(with = "serde_bytes")]
    pub(super) rules: &'a [u8],
}

#[derive(Serialize, Deserialize)]
pub(super) struct BacklogCutV1<'a> {
    pub(super) kind: u8,
    pub(super) client_id: &'a str,
    pub(super) before: u64,
}

/// StreamRemoved and ConsumerRemoved.
#[derive(Serialize, Deserialize)]
pub(super) struct NamedV1<'a> {
    pub(super) kind: u8,
    pub(super) name: &'a str,
    pub(super) at_ms: u64,
}

/// StreamSet, ConsumerSet, ConsumerProgress, DeadLettered and DeadLettersChanged.
#[derive(Serialize, Deserialize)]
pub(super) struct NamedRecordV1<'a> {
    pub(super) kind: u8,
    pub(super) name: &'a str,
    pub(super) at_ms: u64,
    #[serde(with = "serde_bytes")]
    pub(super) record: &'a [u8],
}

/// Reads the entry that `bytes` are, to the last byte.
pub(crate) fn decode_entry(bytes: &[u8]) -> Result<Entry<'_>, EntryError> {
    let kind = kind_of(bytes)?;
    Ok(match kind {
        EntryKind::Event => Entry::Event(decode_event(bytes)?),
        EntryKind::SessionOpened => {
            let SessionOpenedV1 { client_id, at_ms, clean_start, expiry_secs, state, .. } =
                read(kind, bytes)?;
            Entry::SessionOpened { client_id, at_ms, clean_start, expiry_secs, state }
        }
        EntryKind::SessionClosed => {
            let SessionClosedV1 { client_id, at_ms, expiry_secs, state, .. } = read(kind, bytes)?;
            Entry::SessionClosed { client_id, at_ms, expiry_secs, state }
        }
        EntryKind::SessionRemoved => {
            let SessionRemovedV1 { client_id, at_ms, cause, .. } = read(kind, bytes)?;
            Entry::SessionRemoved { client_id, at_ms, cause }
        }
        EntryKind::Subscribed => {
            let SubscribedV1 { client_id, filter, options, subscription_id, .. } = read(kind, bytes)?;
            Entry::Subscribed { client_id, filter, options, subscription_id }
        }
        EntryKind::Unsubscribed => {
            let UnsubscribedV1 { client_id, filter, .. } = read(kind, bytes)?;
            Entry::Unsubscribed { client_id, filter }
        }
        EntryKind::Acknowledged => {
            let AcknowledgedV1 { client_id, runs, .. } = read(kind, bytes)?;
            Entry::Acknowledged { client_id, runs }
        }
        EntryKind::PublishReceived => {
            let PacketIdV1 { client_id, packet_id, .. } = read(kind, bytes)?;
            in_range(kind, "packet_id", packet_id != 0)?;
            Entry::PublishReceived { client_id, packet_id }
        }
        EntryKind::PublishReleased => {
            let PacketIdV1 { client_id, packet_id, .. } = read(kind, bytes)?;
            in_range(kind, "packet_id", packet_id != 0)?;
            Entry::PublishReleased { client_id, packet_id }
        }
        EntryKind::DeliveryReceived => {
            let AcknowledgedV1 { client_id, runs, .. } = read(kind, bytes)?;
            Entry::DeliveryReceived { client_id, runs }
        }
        EntryKind::WillSet => {
            let WillSetV1 { client_id, delay_secs, will, .. } = read(kind, bytes)?;
            Entry::WillSet { client_id, delay_secs, will }
        }
        EntryKind::WillDue => {
            let WillDueV1 { client_id, at_ms, .. } = read(kind, bytes)?;
            Entry::WillDue { client_id, at_ms }
        }
        EntryKind::WillCleared => {
            let WillClearedV1 { client_id, .. } = read(kind, bytes)?;
            Entry::WillCleared { client_id }
        }
        EntryKind::RetainedRemoved => {
            let RetainedRemovedV1 { topic, offset, .. } = read(kind, bytes)?;
            Entry::RetainedRemoved { topic, offset }
        }
        EntryKind::RulesChanged => {
            let RulesChangedV1 { rules, .. } = read(kind, bytes)?;
            Entry::RulesChanged { rules }
        }
        EntryKind::BacklogCut => {
            let BacklogCutV1 { client_id, before, .. } = read(kind, bytes)?;
            Entry::BacklogCut { client_id, before }
        }
        EntryKind::StreamSet => {
            let NamedRecordV1 { name, at_ms, record, .. } = read(kind, bytes)?;
            Entry::StreamSet { name, at_ms, spec: record }
        }
        EntryKind::StreamRemoved => {
            let NamedV1 { name, at_ms, .. } = read(kind, bytes)?;
            Entry::StreamRemoved { name, at_ms }
        }
        EntryKind::ConsumerSet => {
            let NamedRecordV1 { name, at_ms, record, .. } = read(kind, bytes)?;
            Entry::ConsumerSet { name, at_ms, spec: record }
        }
        EntryKind::ConsumerRemoved => {
            let NamedV1 { name, at_ms, .. } = read(kind, bytes)?;
            Entry::ConsumerRemoved { name, at_ms }
        }
        EntryKind::ConsumerProgress => {
            let NamedRecordV1 { name, at_ms, record, .. } = read(kind, bytes)?;
            Entry::ConsumerProgress { name, at_ms, progress: record }
        }
        EntryKind::DeadLettered => {
            let NamedRecordV1 { name, at_ms, record, .. } = read(kind, bytes)?;
            Entry::DeadLettered { name, at_ms, letter: record }
        }
        EntryKind::DeadLettersChanged => {
            let NamedRecordV1 { name, at_ms, record, .. } = read(kind, bytes)?;
            Entry::DeadLettersChanged { name, at_ms, change: record }
        }
    })
}

/// Reads and validates the entry at the front of `bytes` and notes where its fields lie; `start` is the entry's place
/// in the bytes that hold it.
pub(crate) fn index_entry(bytes: &[u8], start: u32) -> Result<EntryIndex, EntryError> {
    let kind = kind_of(bytes)?;
    let places = walk(bytes, kind)?;
    let entry = bytes.get(..places.end as usize).ok_or(EntryError::NotAnEntry)?;
    if kind != EntryKind::Event {
        decode_entry(entry)?;
        return Ok(EntryIndex::control(kind, start, places.end));
    }
    let event = decode_event(entry)?;
    let [_, client_id, topic, _, _, _, _, properties, payload] = places.fields;
    let out_of_range = |field| EntryError::OutOfRange { kind, field };
    Ok(EntryIndex {
        received_ms: event.received_ms,
        expires_at_ms: event.expires_at_ms,
        start,
        len: places.end,
        topic_at: topic.at,
        properties_at: properties.at,
        properties_len: properties.len,
        payload_len: payload.len,
        client_id_len: u16::try_from(client_id.len).map_err(|_| out_of_range("client_id"))?,
        topic_len: u16::try_from(topic.len).map_err(|_| out_of_range("topic"))?,
        kind,
        client_id_at: u8::try_from(client_id.at).map_err(|_| out_of_range("client_id"))?,
        qos: event.qos,
        retain: event.retain,
    })
}

fn decode_event(bytes: &[u8]) -> Result<Event<'_>, EntryError> {
    let kind = EntryKind::Event;
    let fields: EventV1<'_> = read(kind, bytes)?;
    in_range(kind, "qos", fields.qos <= 2)?;
    in_range(kind, "client_id", fields.client_id.len() <= STRING_BYTES_MAX)?;
    in_range(kind, "topic", fields.topic.len() <= STRING_BYTES_MAX)?;
    Ok(Event {
        client_id: fields.client_id,
        topic: fields.topic,
        qos: fields.qos,
        retain: fields.retain,
        received_ms: fields.received_ms,
        expires_at_ms: fields.expires_at_ms,
        properties: fields.properties,
        payload: fields.payload,
    })
}

/// The kind at the front of `bytes`, if it is one this version knows, in the shape it knows.
fn kind_of(bytes: &[u8]) -> Result<EntryKind, EntryError> {
    // A fixarray marker is 0x90 plus the number of elements, a kind below 128 is its own byte.
    let (Some(&marker @ 0x90..=0x9f), Some(&number @ 0..=0x7f)) = (bytes.first(), bytes.get(1)) else {
        return Err(EntryError::NotAnEntry);
    };
    let kind = EntryKind::from_u8(number).ok_or(EntryError::UnknownKind { kind: number })?;
    let found = marker & 0x0f;
    if found != kind.elements() {
        return Err(EntryError::UnknownShape { kind, found, known: kind.elements() });
    }
    Ok(kind)
}

fn read<'a, T: Deserialize<'a>>(kind: EntryKind, bytes: &'a [u8]) -> Result<T, EntryError> {
    rmp_serde::from_slice(bytes).map_err(|source| EntryError::Malformed { kind, source: Box::new(source) })
}

fn in_range(kind: EntryKind, field: &'static str, holds: bool) -> Result<(), EntryError> {
    if holds { Ok(()) } else { Err(EntryError::OutOfRange { kind, field }) }
}
