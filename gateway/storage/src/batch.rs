//! Entries in memory, with the places of their fields.
//!
//! One type for a committed group, a page read back from the log, and a batch that goes to live subscribers only, so
//! that delivery does not know the difference. A batch is immutable and is shared as `Arc<Batch>`; an event is looked
//! at in constant time and without decoding MessagePack.
//!
//! A batch of a page may hold several groups and may have holes between them where a group was damaged.

use std::sync::Arc;

use crate::buffers::BufferPool;
use crate::entry::{Entry, EntryKind, Event};
use crate::index::EntryIndex;
use crate::offset::Offset;

/// Immutable entries with offsets and commit times. See the module documentation.
#[derive(Debug, Default)]
pub struct Batch {
    /// Entries as they lie in the log, group headers (and damaged stretches) between them included.
    bytes: Vec<u8>,
    index: Vec<EntryIndex>,
    /// Ascending; none if the batch is empty, or of records that have no offsets ([`crate::Verbatim`]).
    groups: Vec<GroupSpan>,
    empty_at: Offset,
    /// Who published the records of [`crate::Verbatim`], and what those are.
    publisher: Option<Arc<str>>,
    form: u8,
    /// Where the memory goes when the last reader is done with it.
    pool: Option<Arc<BufferPool>>,
}

/// The entries of one group within a batch: from `first_index` up to the next span's.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GroupSpan {
    pub(crate) first_index: u32,
    pub(crate) first: Offset,
    pub(crate) time_ms: u64,
}

/// An event whose strings are bytes: they were UTF-8 when it was staged, and to say so again costs more than to compare them.
#[derive(Clone, Copy, Debug)]
pub struct RawEvent<'a> {
    /// The publishing client.
    pub client_id: &'a [u8],
    /// Its topic.
    pub topic: &'a [u8],
    /// 0, 1 or 2.
    pub qos: u8,
    /// To be kept as the Retained Message of its topic.
    pub retain: bool,
    /// In milliseconds since the Unix epoch; 0 for never.
    pub expires_at_ms: u64,
    /// MQTT properties, opaque here.
    pub properties: &'a [u8],
    /// The payload.
    pub payload: &'a [u8],
}

/// What of an event is told without looking at its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outline {
    /// Where its record begins in [`Batch::bytes`].
    pub start: usize,
    /// Where it ends.
    pub end: usize,
    /// 0, 1 or 2.
    pub qos: u8,
    /// In milliseconds since the Unix epoch; 0 for never.
    pub expires_at_ms: u64,
    /// Bytes of its properties.
    pub properties_len: usize,
    /// Bytes of its payload.
    pub payload_len: usize,
}

impl Batch {
    pub(crate) fn new(bytes: Vec<u8>, index: Vec<EntryIndex>, groups: Vec<GroupSpan>) -> Self {
        Self { bytes, index, groups, empty_at: Offset::ZERO, publisher: None, form: 0, pool: None }
    }

    pub(crate) fn empty_at(offset: Offset) -> Self {
        let mut batch = Self::default();
        batch.empty_at = offset;
        batch
    }

    pub(crate) fn unlogged(bytes: Vec<u8>, index: Vec<EntryIndex>) -> Self {
        let groups = vec![GroupSpan { first_index: 0, first: Offset::ZERO, time_ms: 0 }];
        Self::new(bytes, index, groups)
    }

    pub(crate) fn verbatim(
        bytes: Vec<u8>,
        index: Vec<EntryIndex>,
        publisher: Option<Arc<str>>,
        form: u8,
    ) -> Self {
        let mut batch = Self::new(bytes, index, Vec::new());
        (batch.publisher, batch.form) = (publisher, form);
        batch
    }

    /// What the records of the batch are, in the words of whoever made it ([`crate::Verbatim`]); 0: entries of the log.
    pub fn form(&self) -> u8 {
        self.form
    }

    /// The bytes that its records lie in.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The outlines of all entries that are events; `None` for the others.
    pub fn outlines(&self) -> impl Iterator<Item = Option<Outline>> + '_ {
        self.index.iter().map(|entry| {
            (entry.kind == EntryKind::Event).then_some(Outline {
                start: entry.start as usize,
                end: entry.start as usize + entry.len as usize,
                qos: entry.qos,
                expires_at_ms: entry.expires_at_ms,
                properties_len: entry.properties_len as usize,
                payload_len: entry.payload_len as usize,
            })
        })
    }

    /// Makes the batch give its memory back to `pool` when it is dropped.
    pub(crate) fn pooled(mut self, pool: Arc<BufferPool>) -> Self {
        self.pool = Some(pool);
        self
    }

    /// The offset of the first entry.
    pub fn first(&self) -> Offset {
        self.groups.first().map_or(self.empty_at, |group| group.first)
    }

    /// The offset right after the last entry.
    pub fn end(&self) -> Offset {
        self.offset_after_index(self.index.len())
    }

    /// Entries in the batch; less than `end - first` where groups between them are missing.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Whether there are no entries.
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// Encoded bytes the batch holds, group headers included.
    pub fn byte_len(&self) -> usize {
        self.bytes.len()
    }

    /// Memory the batch takes in bytes, spare capacity and the side index included. This is what a bound on memory
    /// must count.
    pub fn memory_bytes(&self) -> usize {
        self.bytes.capacity() + self.index.capacity() * size_of::<EntryIndex>()
    }

    /// The entry at this index. Control entries are decoded each time.
    pub fn entry(&self, i: usize) -> Option<Entry<'_>> {
        self.index.get(i)?.entry_in(&self.bytes, self.publisher())
    }

    /// The event at this index, in constant time; None for a control entry or beyond the end.
    #[inline]
    pub fn event(&self, i: usize) -> Option<Event<'_>> {
        self.index.get(i)?.event_in(&self.bytes, self.publisher())
    }

    /// The event at this index as bytes, for those who compare and copy: nothing is looked at again.
    #[inline]
    pub fn raw_event(&self, i: usize) -> Option<RawEvent<'_>> {
        self.index.get(i)?.raw_event_in(&self.bytes, self.publisher())
    }

    /// The kind of the entry at this index.
    pub fn kind(&self, i: usize) -> Option<EntryKind> {
        self.index.get(i).map(|entry| entry.kind)
    }

    /// The commit time of the entry's group in milliseconds since the Unix epoch; 0 for an unlogged batch and beyond
    /// the end.
    pub fn time_ms(&self, i: usize) -> u64 {
        if i < self.len() { self.group_of(i).map_or(0, |group| group.time_ms) } else { 0 }
    }

    /// The index of the entry with this offset, if the batch holds it.
    pub fn index_of(&self, offset: Offset) -> Option<usize> {
        let after = self.groups.partition_point(|group| group.first <= offset);
        let group = self.groups.get(after.checked_sub(1)?)?;
        let within = usize::try_from(offset.get() - group.first.get()).ok()?;
        let index = (group.first_index as usize).checked_add(within)?;
        let end = self.groups.get(after).map_or(self.len(), |next| next.first_index as usize);
        (index < end).then_some(index)
    }

    /// The offset of the entry at this index.
    pub fn offset_of(&self, i: usize) -> Option<Offset> {
        let group = self.group_of(i)?;
        (i < self.len()).then(|| group.first.plus(i as u64 - u64::from(group.first_index)))
    }

    /// The first index whose offset is at least `offset`; the length of the batch if there is none.
    pub fn index_from(&self, offset: Offset) -> usize {
        if let Some(index) = self.index_of(offset) {
            return index;
        }
        let after = self.groups.partition_point(|group| group.first <= offset);
        self.groups.get(after).map_or(self.len(), |next| next.first_index as usize)
    }

    fn publisher(&self) -> &str {
        self.publisher.as_deref().unwrap_or_default()
    }

    fn offset_after_index(&self, len: usize) -> Offset {
        match self.groups.last() {
            Some(group) => group.first.plus(len as u64 - u64::from(group.first_index)),
            None => self.empty_at,
        }
    }

    fn group_of(&self, i: usize) -> Option<&GroupSpan> {
        match self.groups.as_slice() {
            [only] => Some(only),
            groups => {
                let after = groups.partition_point(|group| group.first_index as usize <= i);
                groups.get(after.checked_sub(1)?)
            }
        }
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        if let Some(pool) = self.pool.take() {
            pool.put(std::mem::take(&mut self.bytes), std::mem::take(&mut self.index));
        }
    }
}
