//! Events that are never logged, kept in the very bytes they came in.
//!
//! What goes to live subscribers only is put together for no reader but them. Its records are copied as they are, with the places of their
//! fields beside them, and whoever made the records may find them again, unchanged but for their first byte. What a record is, this module
//! does not know; the caller gives it a name ([`Verbatim::begin`]).

use crate::batch::Batch;
use crate::buffers::BufferPool;
use crate::entry::EntryKind;
use crate::index::EntryIndex;
use std::sync::Arc;

/// The largest buffer that is used again, and how many of those may wait for that.
const KEPT_BYTES_MAX: usize = 64 << 10;
const KEPT_MAX: usize = 16;

/// Where the fields of a record lie, from its beginning; the payload is its end.
#[derive(Clone, Copy, Debug)]
pub struct Fields {
    /// Place of the Topic Name.
    pub topic_at: usize,
    /// Its length in bytes.
    pub topic_len: usize,
    /// Place of the properties.
    pub properties_at: usize,
    /// Their length.
    pub properties_len: usize,
    /// Length of the payload.
    pub payload_len: usize,
}

/// What else is known of an event.
#[derive(Clone, Copy, Debug)]
pub struct Traits {
    /// 0, 1 or 2.
    pub qos: u8,
    /// To be kept as the Retained Message of its topic.
    pub retain: bool,
    /// In milliseconds since the Unix epoch.
    pub received_ms: u64,
    /// The same; 0: never.
    pub expires_at_ms: u64,
}

/// Records of one publisher on their way to live subscribers.
#[derive(Debug)]
pub struct Verbatim {
    bytes: Vec<u8>,
    index: Vec<EntryIndex>,
    publisher: Option<Arc<str>>,
    form: u8,
    /// Where the memory of batches comes back to.
    pool: Arc<BufferPool>,
}

impl Default for Verbatim {
    fn default() -> Self {
        let pool = Arc::new(BufferPool::new(KEPT_BYTES_MAX, KEPT_MAX));
        Self { bytes: Vec::new(), index: Vec::new(), publisher: None, form: 0, pool }
    }
}

impl Verbatim {
    /// Nothing yet; owns no buffer.
    pub fn new() -> Self {
        Self::default()
    }

    /// What follows is of this publisher, in records of this form: a number of the caller's, not 0.
    pub fn begin(&mut self, client_id: Arc<str>, form: u8) {
        self.publisher = Some(client_id);
        self.form = form;
    }

    /// Whether nothing is kept.
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// Copies a record, with `first` in place of its first byte; false, and nothing copied, where its fields do not lie in it or the whole
    /// would exceed 4 GiB.
    #[inline]
    pub fn push(&mut self, record: &[u8], first: u8, fields: &Fields, traits: &Traits) -> bool {
        let Some(index) = self.locate(record, fields, traits) else { return false };
        self.bytes.extend_from_slice(record);
        if let Some(byte) = self.bytes.get_mut(index.start as usize) {
            *byte = first;
        }
        self.index.push(index);
        true
    }

    fn locate(&self, record: &[u8], fields: &Fields, traits: &Traits) -> Option<EntryIndex> {
        let Fields { topic_at, topic_len, properties_at, properties_len, payload_len } = *fields;
        let end = record.len();
        let in_order = topic_at.checked_add(topic_len)? <= properties_at
            && properties_at.checked_add(properties_len)?.checked_add(payload_len)? == end;
        let last = u32::try_from(self.bytes.len().checked_add(end)?).ok()?;
        in_order.then_some(())?;
        Some(EntryIndex {
            received_ms: traits.received_ms,
            expires_at_ms: traits.expires_at_ms,
            start: last - end as u32,
            len: end as u32,
            topic_at: topic_at as u32,
            properties_at: properties_at as u32,
            properties_len: properties_len as u32,
            payload_len: payload_len as u32,
            client_id_len: 0,
            topic_len: u16::try_from(topic_len).ok()?,
            kind: EntryKind::Event,
            client_id_at: 0,
            qos: traits.qos,
            retain: traits.retain,
        })
    }

    /// The records as a batch. Its memory comes back when the last reader is done with it; a batch that would hold on to more than twice
    /// what it needs is copied out.
    pub fn take_batch(&mut self) -> Batch {
        let publisher = self.publisher.take();
        if self.bytes.len() < self.bytes.capacity() / 2 || self.index.len() < self.index.capacity() / 2 {
            let batch = Batch::verbatim(
                self.bytes.as_slice().into(),
                self.index.as_slice().into(),
                publisher,
                self.form,
            );
            self.bytes.clear();
            self.bytes.shrink_to(KEPT_BYTES_MAX);
            self.index.clear();
            self.index.shrink_to(KEPT_BYTES_MAX / size_of::<EntryIndex>());
            return batch;
        }
        let (mut bytes, mut index) = self.pool.take();
        if bytes.capacity() == 0 {
            bytes.reserve(self.bytes.len().min(KEPT_BYTES_MAX));
            index.reserve(self.index.len().min(KEPT_BYTES_MAX / size_of::<EntryIndex>()));
        }
        let bytes = std::mem::replace(&mut self.bytes, bytes);
        let index = std::mem::replace(&mut self.index, index);
        Batch::verbatim(bytes, index, publisher, self.form).pooled(self.pool.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRAITS: Traits = Traits { qos: 1, retain: true, received_ms: 5, expires_at_ms: 9 };

    #[test]
    fn fields_are_found_where_they_were_said_to_lie() {
        let mut verbatim = Verbatim::new();
        verbatim.begin("meter-7".into(), 3);
        let record = b"?..topic--propspayload";
        let fields =
            Fields { topic_at: 3, topic_len: 5, properties_at: 10, properties_len: 5, payload_len: 7 };
        for first in [b'a', b'b'] {
            assert!(verbatim.push(record, first, &fields, &TRAITS));
        }
        let batch = verbatim.take_batch();
        assert!(verbatim.is_empty());
        assert_eq!((batch.len(), batch.form()), (2, 3));
        for ((at, first), outline) in [(0, b'a'), (1, b'b')].into_iter().zip(batch.outlines()) {
            let event = batch.event(at).unwrap();
            assert_eq!((event.client_id, event.topic, event.payload), ("meter-7", "topic", &b"payload"[..]));
            assert_eq!((event.properties, event.qos, event.retain), (&b"props"[..], 1, true));
            assert_eq!((event.received_ms, event.expires_at_ms), (5, 9));
            let raw = batch.raw_event(at).unwrap();
            assert_eq!((raw.client_id, raw.topic), (&b"meter-7"[..], &b"topic"[..]));
            let outline = outline.unwrap();
            let found = &batch.bytes()[outline.start..outline.end];
            assert_eq!((found[0], &found[1..]), (first, &record[1..]));
            assert_eq!((outline.qos, outline.expires_at_ms), (1, 9));
            assert_eq!((outline.properties_len, outline.payload_len), (5, 7));
        }
    }

    #[test]
    fn fields_that_do_not_lie_in_the_record_are_refused() {
        let mut verbatim = Verbatim::new();
        let fields =
            Fields { topic_at: 1, topic_len: 2, properties_at: 3, properties_len: 1, payload_len: 2 };
        for wrong in [
            Fields { payload_len: 3, ..fields },
            Fields { properties_at: 2, properties_len: 2, ..fields },
            Fields { topic_len: usize::MAX, ..fields },
        ] {
            assert!(!verbatim.push(b"123456", b'1', &wrong, &TRAITS), "{wrong:?}");
        }
        assert!(verbatim.is_empty());
        assert!(verbatim.push(b"123456", b'1', &fields, &TRAITS));
    }
}
