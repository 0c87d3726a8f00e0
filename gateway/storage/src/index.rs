//! Where the fields of an entry lie, so that nobody decodes an event twice.

use crate::batch::RawEvent;
use crate::entry::{Entry, EntryKind, Event, decode_entry};

/// Places and small fields of one entry; 48 bytes beside an event of a few hundred.
///
/// All places are relative to the start of the entry, so that moving entries from the staging area of a connection
/// into a group changes `start` alone. For control entries only `start`, `len` and `kind` mean something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EntryIndex {
    pub(crate) received_ms: u64,
    pub(crate) expires_at_ms: u64,
    /// Place of the entry in the bytes that hold it.
    pub(crate) start: u32,
    pub(crate) len: u32,
    pub(crate) topic_at: u32,
    pub(crate) properties_at: u32,
    pub(crate) properties_len: u32,
    /// The payload is the last field: it ends where the entry ends.
    pub(crate) payload_len: u32,
    pub(crate) client_id_len: u16,
    pub(crate) topic_len: u16,
    pub(crate) kind: EntryKind,
    pub(crate) client_id_at: u8,
    pub(crate) qos: u8,
    pub(crate) retain: bool,
}

impl EntryIndex {
    /// The index of a control entry, which is decoded whenever it is looked at.
    pub(crate) fn control(kind: EntryKind, start: u32, len: u32) -> Self {
        Self {
            received_ms: 0,
            expires_at_ms: 0,
            start,
            len,
            topic_at: 0,
            properties_at: 0,
            properties_len: 0,
            payload_len: 0,
            client_id_len: 0,
            topic_len: 0,
            kind,
            client_id_at: 0,
            qos: 0,
            retain: false,
        }
    }

    /// The bytes of the entry.
    pub(crate) fn bytes_in<'a>(&self, bytes: &'a [u8]) -> Option<&'a [u8]> {
        slice(bytes, self.start, self.len)
    }

    /// The event, put together from its places. None for control entries. `publisher` is who published what does not say it itself.
    #[inline]
    pub(crate) fn event_in<'a>(&self, bytes: &'a [u8], publisher: &'a str) -> Option<Event<'a>> {
        if self.kind != EntryKind::Event {
            return None;
        }
        let entry = self.bytes_in(bytes)?;
        // Validated once when the entry was staged or read; looking again costs a few nanoseconds and keeps this crate
        // free of unsafe code.
        let client_id = match self.client_id_at {
            0 => publisher,
            at => str::from_utf8(slice(entry, u32::from(at), u32::from(self.client_id_len))?).ok()?,
        };
        let topic = slice(entry, self.topic_at, u32::from(self.topic_len))?;
        Some(Event {
            client_id,
            topic: str::from_utf8(topic).ok()?,
            qos: self.qos,
            retain: self.retain,
            received_ms: self.received_ms,
            expires_at_ms: self.expires_at_ms,
            properties: slice(entry, self.properties_at, self.properties_len)?,
            payload: slice(entry, self.len.checked_sub(self.payload_len)?, self.payload_len)?,
        })
    }

    /// The event as bytes, put together from its places. None for control entries.
    #[inline]
    pub(crate) fn raw_event_in<'a>(&self, bytes: &'a [u8], publisher: &'a str) -> Option<RawEvent<'a>> {
        if self.kind != EntryKind::Event {
            return None;
        }
        let entry = self.bytes_in(bytes)?;
        Some(RawEvent {
            client_id: match self.client_id_at {
                0 => publisher.as_bytes(),
                at => slice(entry, u32::from(at), u32::from(self.client_id_len))?,
            },
            topic: slice(entry, self.topic_at, u32::from(self.topic_len))?,
            qos: self.qos,
            retain: self.retain,
            expires_at_ms: self.expires_at_ms,
            properties: slice(entry, self.properties_at, self.properties_len)?,
            payload: slice(entry, self.len.checked_sub(self.payload_len)?, self.payload_len)?,
        })
    }

    /// The entry, whatever its kind.
    pub(crate) fn entry_in<'a>(&self, bytes: &'a [u8], publisher: &'a str) -> Option<Entry<'a>> {
        match self.kind {
            EntryKind::Event => self.event_in(bytes, publisher).map(Entry::Event),
            _ => decode_entry(self.bytes_in(bytes)?).ok(),
        }
    }
}

fn slice(bytes: &[u8], at: u32, len: u32) -> Option<&[u8]> {
    let at = at as usize;
    bytes.get(at..at.checked_add(len as usize)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_stays_small_beside_the_event_it_describes() {
        assert_eq!(size_of::<EntryIndex>(), 48);
    }
}
