//! Reading pages out of sled.

use std::sync::atomic::{AtomicU64, Ordering};

use super::cursor::{Cursor, Head};
use super::engine::{Engine, EngineError};
use super::recover::Recovered;
use crate::frame::FrameHeader;
use crate::log::page::{PageBuilder, check_known};
use crate::log::{LogReader, Page, ReadError, SkippedGroup};
use crate::offset::Offset;

/// The most read into one page, whatever the caller asks for, unless a single group is larger.
const PAGE_BYTES_MAX: usize = 64 << 20;
/// Stretches passed over that one page reports; the next page goes on behind them.
const SKIPPED_MAX: usize = 1024;

/// What the log, its readers and its trimmer know together.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) engine: Engine,
    pub(super) salt: u64,
    /// Readers look no further.
    end: AtomicU64,
    /// The end of what is on stable storage.
    synced: AtomicU64,
    earliest: AtomicU64,
    /// Bytes of all groups ever appended before the earliest one.
    trimmed_bytes: AtomicU64,
    /// Bytes of all groups ever appended.
    place: AtomicU64,
}

impl Shared {
    pub(super) fn new(engine: Engine, recovered: &Recovered) -> Self {
        let Recovered { salt, tail, trimmed_bytes, report } = recovered;
        Self {
            engine,
            salt: *salt,
            end: AtomicU64::new(tail.next.get()),
            synced: AtomicU64::new(tail.next.get()),
            earliest: AtomicU64::new(report.earliest.get()),
            trimmed_bytes: AtomicU64::new(*trimmed_bytes),
            place: AtomicU64::new(tail.place),
        }
    }

    pub(super) fn end(&self) -> Offset {
        Offset::new(self.end.load(Ordering::Acquire))
    }

    pub(super) fn set_end(&self, end: Offset) {
        self.end.store(end.get(), Ordering::Release);
    }

    pub(super) fn synced(&self) -> Offset {
        Offset::new(self.synced.load(Ordering::Acquire))
    }

    pub(super) fn set_synced(&self, synced: Offset) {
        self.synced.store(synced.get(), Ordering::Release);
    }

    pub(super) fn earliest(&self) -> Offset {
        Offset::new(self.earliest.load(Ordering::Acquire))
    }

    pub(super) fn set_earliest(&self, earliest: Offset) {
        self.earliest.store(earliest.get(), Ordering::Release);
    }

    pub(super) fn trimmed_bytes(&self) -> u64 {
        self.trimmed_bytes.load(Ordering::Acquire)
    }

    pub(super) fn set_trimmed_bytes(&self, bytes: u64) {
        self.trimmed_bytes.store(bytes, Ordering::Release);
    }

    pub(super) fn place(&self) -> u64 {
        self.place.load(Ordering::Acquire)
    }

    pub(super) fn set_place(&self, bytes: u64) {
        self.place.store(bytes, Ordering::Release);
    }

    pub(super) fn size_bytes(&self) -> u64 {
        self.place().saturating_sub(self.trimmed_bytes())
    }

    fn failed(&self, error: EngineError) -> ReadError {
        ReadError::Io { file: self.engine.dir().into(), source: error.into() }
    }

    fn skipped(&self, first: Offset, end: Offset, bytes: u64, place: Option<u64>) -> SkippedGroup {
        let file = self.engine.dir().to_path_buf();
        SkippedGroup { first, end, bytes, file, at_byte: place.unwrap_or(0) }
    }

    /// Reads whole groups from `page.next` on until the page is full or the log ends.
    fn read_into(
        &self,
        page: &mut PageBuilder,
        bytes: &mut Vec<u8>,
        max_bytes: usize,
        end: Offset,
    ) -> Result<(), ReadError> {
        let failed = |error| self.failed(error);
        let max_bytes = max_bytes.min(PAGE_BYTES_MAX);
        // The group that holds the offset begins there or before.
        let begin = self.engine.last_until(page.next).map_err(failed)?.map_or(page.next, |key| key.first);
        let mut cursor = Cursor::new(&self.engine, self.salt, begin, Some(end), max_bytes.max(1));
        while let Some(head) = cursor.peek().map_err(failed)? {
            let at = bytes.len();
            let header = head.header;
            if header.is_some_and(|header| header.end() <= page.next) {
                cursor.take(&head, None).map_err(failed)?;
                continue;
            }
            let len = header.map_or(0, |header| header.frame_len());
            if !page.is_empty() && at + len > max_bytes || page.skipped.len() >= SKIPPED_MAX {
                return Ok(());
            }
            let taken = cursor.take(&head, Some(bytes)).map_err(failed)?;
            // Asked for after reading: what was trimmed meanwhile is no hole.
            page.next = page.next.max(self.earliest().min(head.first));
            if head.first > page.next {
                page.skip(self.skipped(page.next, head.first, 0, head.place));
            }
            let frame = bytes.get(at..).unwrap_or_default();
            let whole = header.filter(|header| taken.complete && header.is_whole(frame, self.salt));
            if let Some(header) = whole {
                if !page.has_room(bytes, at, &header, max_bytes) {
                    bytes.truncate(at);
                    return Ok(());
                }
                page.push(bytes, at, &header, self.engine.dir())?;
                continue;
            }
            bytes.truncate(at);
            if let Some(header) = &header {
                check_known(header, self.engine.dir())?;
            }
            let behind = match header {
                Some(header) => header.end(),
                None => cursor.peek().map_err(failed)?.map_or(end, |next| next.first),
            };
            if head.first < self.earliest() {
                // Not damaged: it was trimmed while it was read.
                page.next = page.next.max(behind).max(self.earliest());
                continue;
            }
            page.skip(self.skipped(page.next, behind, taken.bytes, head.place));
        }
        page.next = page.next.max(self.earliest().min(end));
        if page.next < end {
            page.skip(self.skipped(page.next, end, 0, None));
        }
        Ok(())
    }

    /// The first header that can be read of a group that begins at `from` or later and before `to`.
    fn header_from(&self, from: Offset, to: Offset) -> Result<Option<FrameHeader>, EngineError> {
        let mut at = from;
        while at < to {
            let head = Head::load(&self.engine, self.salt, at)?;
            if head.header.is_some() {
                return Ok(head.header);
            }
            match self.engine.first_behind(at)? {
                Some(key) => at = key.first,
                None => break,
            }
        }
        Ok(None)
    }
}

impl LogReader for Shared {
    fn bounds(&self) -> (Offset, Offset) {
        let end = self.end();
        (self.earliest().min(end), end)
    }

    fn read_page(&self, from: Offset, max_bytes: usize) -> Result<Option<Page>, ReadError> {
        let (mut page, mut bytes) = (PageBuilder::new(from.max(self.earliest())), Vec::new());
        let is_empty = |page: &PageBuilder| page.is_empty() && page.skipped.is_empty();
        // Again, when all there was to read was trimmed meanwhile.
        while is_empty(&page) && page.next < self.end() {
            self.read_into(&mut page, &mut bytes, max_bytes, self.end())?;
        }
        Ok(if is_empty(&page) { None } else { Some(page.finish(bytes)) })
    }

    fn offset_at(&self, time_ms: u64) -> Result<Offset, ReadError> {
        // Commit times only grow, so the offsets can be searched like a sorted list: what begins below `low` is earlier
        // than that time, what begins at `high` or behind it is not, and begins at `found` at the earliest. Groups
        // whose header cannot be read are passed over.
        let failed = |error| self.failed(error);
        let end = self.end();
        let (mut low, mut high, mut found) = (self.earliest(), end, end);
        while low < high {
            let middle = Offset::new(low.get() + (high.get() - low.get()) / 2);
            let begin = self.engine.last_until(middle).map_err(failed)?;
            let begin = begin.map_or(low, |key| key.first.max(low));
            match self.header_from(begin, high).map_err(failed)? {
                Some(header) if header.time_ms < time_ms => low = header.end(),
                Some(header) => (high, found) = (begin, header.first),
                None => high = begin,
            }
        }
        Ok(found)
    }
}
