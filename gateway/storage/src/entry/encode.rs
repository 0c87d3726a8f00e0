//! Writing entries.
//!
//! Events are put together from their markers ([`Markers`]): they are the hot path, and this way the places of
//! their fields are known while they are written. A test holds them byte for byte to the serde definition.

use rmp::encode::ByteBuf;
use serde::Serialize;

use super::markers::Markers;
use super::wire::{
    AcknowledgedV1, BacklogCutV1, NamedRecordV1, NamedV1, PacketIdV1, RetainedRemovedV1, RulesChangedV1,
    SessionClosedV1, SessionOpenedV1, SessionRemovedV1, SubscribedV1, UnsubscribedV1, WillClearedV1,
    WillDueV1, WillSetV1,
};
use super::{ENTRY_BYTES_MAX, Entry, EntryKind, Event, STRING_BYTES_MAX};
use crate::index::EntryIndex;
use crate::staging::StageError;

/// Appends an event. On error `out` is as before.
#[inline]
pub(crate) fn encode_event(event: &Event<'_>, out: &mut ByteBuf) -> Result<EntryIndex, StageError> {
    let (client_id_len, topic_len) = (string_len(event.client_id)?, string_len(event.topic)?);
    let (properties_len, payload_len) = (bin_len(event.properties)?, bin_len(event.payload)?);
    // All markers and numbers of an event take less than 64 bytes.
    let estimate = 64_usize
        .saturating_add(event.client_id.len())
        .saturating_add(event.topic.len())
        .saturating_add(event.properties.len())
        .saturating_add(event.payload.len());
    if estimate > ENTRY_BYTES_MAX {
        return Err(StageError::TooLarge);
    }
    let begin = out.as_vec().len();
    let start = u32::try_from(begin).map_err(|_| StageError::TooLarge)?;
    let out = out.as_mut_vec();
    out.reserve(estimate);
    let at = |out: &Vec<u8>| out.len() - begin;

    put(out, |to| {
        to.array(EntryKind::Event.elements());
        to.uint(u64::from(EntryKind::Event.as_u8()));
        to.str(client_id_len);
    });
    let client_id_at = at(out) as u8;
    out.extend_from_slice(event.client_id.as_bytes());
    put(out, |to| to.str(topic_len));
    let topic_at = at(out) as u32;
    out.extend_from_slice(event.topic.as_bytes());
    put(out, |to| {
        to.uint(u64::from(event.qos));
        to.bool(event.retain);
        to.uint(event.received_ms);
        to.uint(event.expires_at_ms);
        to.bin(properties_len);
    });
    let properties_at = at(out) as u32;
    out.extend_from_slice(event.properties);
    put(out, |to| to.bin(payload_len));
    out.extend_from_slice(event.payload);

    Ok(EntryIndex {
        received_ms: event.received_ms,
        expires_at_ms: event.expires_at_ms,
        start,
        len: at(out) as u32,
        topic_at,
        properties_at,
        properties_len,
        payload_len,
        client_id_len,
        topic_len,
        kind: EntryKind::Event,
        client_id_at,
        qos: event.qos,
        retain: event.retain,
    })
}

/// Appends any entry through its serde definition, events included. On error `out` is as before.
pub(crate) fn encode_control(entry: &Entry<'_>, out: &mut ByteBuf) -> Result<EntryIndex, StageError> {
    let kind = entry.kind();
    let number = kind.as_u8();
    match *entry {
        Entry::Event(ref event) => encode_event(event, out),
        Entry::SessionOpened { client_id, at_ms, clean_start, expiry_secs, state } => {
            string_len(client_id)?;
            let entry = SessionOpenedV1 { kind: number, client_id, at_ms, clean_start, expiry_secs, state };
            append(kind, &entry, state.len(), out)
        }
        Entry::SessionClosed { client_id, at_ms, expiry_secs, state } => {
            string_len(client_id)?;
            let entry = SessionClosedV1 { kind: number, client_id, at_ms, expiry_secs, state };
            append(kind, &entry, state.len(), out)
        }
        Entry::SessionRemoved { client_id, at_ms, cause } => {
            string_len(client_id)?;
            append(kind, &SessionRemovedV1 { kind: number, client_id, at_ms, cause }, 0, out)
        }
        Entry::Subscribed { client_id, filter, options, subscription_id } => {
            string_len(client_id)?;
            string_len(filter)?;
            let entry = SubscribedV1 { kind: number, client_id, filter, options, subscription_id };
            append(kind, &entry, 0, out)
        }
        Entry::Unsubscribed { client_id, filter } => {
            string_len(client_id)?;
            string_len(filter)?;
            append(kind, &UnsubscribedV1 { kind: number, client_id, filter }, 0, out)
        }
        Entry::Acknowledged { client_id, runs } => {
            string_len(client_id)?;
            append(kind, &AcknowledgedV1 { kind: number, client_id, runs }, runs.len(), out)
        }
        Entry::DeliveryReceived { client_id, runs } => {
            string_len(client_id)?;
            append(kind, &AcknowledgedV1 { kind: number, client_id, runs }, runs.len(), out)
        }
        Entry::PublishReceived { client_id, packet_id } | Entry::PublishReleased { client_id, packet_id } => {
            string_len(client_id)?;
            append(kind, &PacketIdV1 { kind: number, client_id, packet_id }, 0, out)
        }
        Entry::WillSet { client_id, delay_secs, will } => {
            string_len(client_id)?;
            append(kind, &WillSetV1 { kind: number, client_id, delay_secs, will }, will.len(), out)
        }
        Entry::WillDue { client_id, at_ms } => {
            string_len(client_id)?;
            append(kind, &WillDueV1 { kind: number, client_id, at_ms }, 0, out)
        }
        Entry::WillCleared { client_id } => {
            string_len(client_id)?;
            append(kind, &WillClearedV1 { kind: number, client_id }, 0, out)
        }
        Entry::RetainedRemoved { topic, offset } => {
            string_len(topic)?;
            append(kind, &RetainedRemovedV1 { kind: number, topic, offset }, 0, out)
        }
        Entry::RulesChanged { rules } => {
            append(kind, &RulesChangedV1 { kind: number, rules }, rules.len(), out)
        }
        Entry::BacklogCut { client_id, before } => {
            string_len(client_id)?;
            append(kind, &BacklogCutV1 { kind: number, client_id, before }, 0, out)
        }
        Entry::StreamRemoved { name, at_ms } | Entry::ConsumerRemoved { name, at_ms } => {
            string_len(name)?;
            append(kind, &NamedV1 { kind: number, name, at_ms }, 0, out)
        }
        Entry::StreamSet { name, at_ms, spec: record }
        | Entry::ConsumerSet { name, at_ms, spec: record }
        | Entry::ConsumerProgress { name, at_ms, progress: record }
        | Entry::DeadLettered { name, at_ms, letter: record }
        | Entry::DeadLettersChanged { name, at_ms, change: record } => {
            string_len(name)?;
            append(kind, &NamedRecordV1 { kind: number, name, at_ms, record }, record.len(), out)
        }
    }
}

/// Appends a control entry; `opaque` is the length of its bin field, which alone could make it too large.
fn append<T: Serialize>(
    kind: EntryKind,
    entry: &T,
    opaque: usize,
    out: &mut ByteBuf,
) -> Result<EntryIndex, StageError> {
    // Two strings, markers and numbers stay far below 256 KiB.
    if opaque > ENTRY_BYTES_MAX - (256 << 10) {
        return Err(StageError::TooLarge);
    }
    let begin = out.as_vec().len();
    let start = u32::try_from(begin).map_err(|_| StageError::TooLarge)?;
    if let Err(source) = rmp_serde::encode::write(out.as_mut_vec(), entry) {
        out.as_mut_vec().truncate(begin);
        return Err(StageError::Encode { kind, source: Box::new(source) });
    }
    Ok(EntryIndex::control(kind, start, (out.as_vec().len() - begin) as u32))
}

fn string_len(string: &str) -> Result<u16, StageError> {
    const { assert!(STRING_BYTES_MAX == u16::MAX as usize) };
    u16::try_from(string.len()).map_err(|_| StageError::TooLarge)
}

fn bin_len(bytes: &[u8]) -> Result<u32, StageError> {
    u32::try_from(bytes.len()).map_err(|_| StageError::TooLarge)
}

#[inline]
fn put(out: &mut Vec<u8>, gather: impl FnOnce(&mut Markers)) {
    let mut markers = Markers::new();
    gather(&mut markers);
    out.extend_from_slice(markers.as_bytes());
}
