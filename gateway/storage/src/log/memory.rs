//! The log's twin in memory, for tests: the same contract, with faults on demand and crashes that lose what was not
//! synced.
//!
//! Trimming removes units of a few groups, as files hold several. It shares the frame format with the files and nothing else, so that it can disagree with them.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::faults::Faults;
use super::page::PageBuilder;
use super::{GroupInfo, Log, LogError, LogReader, LogTrimmer, Page, ReadError, SkippedGroup, Trimmed};
use crate::frame::FrameHeader;
use crate::offset::Offset;

/// A log in memory. See the module documentation.
#[derive(Debug)]
pub struct MemoryLog {
    image: Arc<Image>,
    faults: Faults,
    next: Offset,
    last_time_ms: u64,
    failed: bool,
    sync_failed: bool,
}

/// What a test keeps of a [`MemoryLog`] that it gave away.
#[derive(Clone, Debug)]
pub struct MemoryHandle {
    image: Arc<Image>,
    faults: Faults,
}

#[derive(Debug)]
struct Image {
    salt: u64,
    unit_bytes: usize,
    faults: Faults,
    groups: Mutex<Groups>,
}

#[derive(Clone, Debug, Default)]
struct Groups {
    stored: VecDeque<Stored>,
    /// Bytes of the stored groups.
    bytes: u64,
    /// The first offset there is, or where it will be.
    earliest: Offset,
    /// Of the unit that is being filled: its number and its bytes.
    unit: (u64, usize),
    /// How many of them survive a crash, and how many readers see.
    synced: usize,
    released: usize,
    /// Bytes of a write that failed half-way.
    torn: Vec<u8>,
    /// The end of what readers may see; it stays when a released group is lost.
    end: Offset,
}

#[derive(Clone, Debug)]
struct Stored {
    frame: Vec<u8>,
    first: Offset,
    end: Offset,
    time_ms: u64,
    /// The number of the unit it belongs to; a unit is trimmed as a whole.
    unit: u64,
}

const NAME: &str = "(memory)";
const UNIT_BYTES: usize = 4 << 10;

impl MemoryLog {
    /// An empty log.
    pub fn new() -> Self {
        Self::with_unit(UNIT_BYTES)
    }

    /// An empty log that is trimmed by units of about `unit_bytes`, as [`super::SegmentsLog`] is by files.
    pub fn with_unit(unit_bytes: usize) -> Self {
        Self::from_groups(Groups::default(), unit_bytes)
    }

    /// A handle to inject faults and to crash the log.
    pub fn handle(&self) -> MemoryHandle {
        MemoryHandle { image: Arc::clone(&self.image), faults: self.faults.clone() }
    }

    fn from_groups(groups: Groups, unit_bytes: usize) -> Self {
        let faults = Faults::new();
        Self {
            next: groups.end,
            last_time_ms: groups.stored.back().map_or(0, |group| group.time_ms),
            image: Arc::new(Image {
                salt: 0x6d65_6d6f_7279,
                unit_bytes,
                faults: faults.clone(),
                groups: Mutex::new(groups),
            }),
            faults,
            failed: false,
            sync_failed: false,
        }
    }

    fn failing(&mut self, error: LogError) -> LogError {
        self.failed = true;
        error
    }
}

impl Default for MemoryLog {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryHandle {
    /// The plan of faults.
    pub fn faults(&self) -> &Faults {
        &self.faults
    }

    /// A reading end.
    pub fn reader(&self) -> Arc<dyn LogReader> {
        Arc::clone(&self.image) as Arc<dyn LogReader>
    }

    /// What a machine that lost its power now would find: everything synced, and of what was written since, the first
    /// `torn_tail` bytes. The log itself goes on unharmed.
    pub fn crash(&self, torn_tail: usize) -> MemoryLog {
        let groups = self.image.lock().clone();
        let mut left = torn_tail;
        let mut survived = groups.synced;
        for group in groups.stored.iter().skip(groups.synced) {
            if group.frame.len() > left {
                break;
            }
            left -= group.frame.len();
            survived += 1;
        }
        let mut groups = groups;
        groups.keep(survived);
        groups.torn.clear();
        groups.end = groups.stored.back().map_or(groups.earliest, |group| group.end);
        MemoryLog::from_groups(groups, self.image.unit_bytes)
    }

    /// Flips a bit of the group that holds `offset`; false if there is none.
    pub fn damage(&self, offset: Offset) -> bool {
        let mut groups = self.image.lock();
        let group = groups.stored.iter_mut().find(|group| group.first <= offset && offset < group.end);
        match group.and_then(|group| group.frame.last_mut()) {
            Some(byte) => {
                *byte ^= 0x10;
                true
            }
            None => false,
        }
    }

    /// Bytes that failed writes left behind.
    pub fn torn_bytes(&self) -> usize {
        self.image.lock().torn.len()
    }
}

impl Log for MemoryLog {
    fn append(&mut self, frame: &[u8], info: GroupInfo) -> Result<(), LogError> {
        if self.failed {
            return Err(LogError::Failed);
        }
        if info.first != self.next {
            return Err(LogError::OutOfOrder { given: info.first, expected: self.next });
        }
        let (written, result) = self.faults.on_write(frame.len());
        if let Err(source) = result {
            let torn = frame.get(..written).unwrap_or(frame);
            self.image.lock().torn.extend_from_slice(torn);
            return Err(self.failing(LogError::from_io("write to", NAME, source)));
        }
        let (first, end) = (info.first, info.end());
        let stored = Stored { frame: frame.to_vec(), first, end, time_ms: info.time_ms, unit: 0 };
        self.image.lock().push(stored, self.image.unit_bytes);
        self.next = end;
        self.last_time_ms = info.time_ms;
        Ok(())
    }

    fn sync(&mut self) -> Result<(), LogError> {
        if self.failed {
            return Err(LogError::Failed);
        }
        if let Err(source) = self.faults.on_sync() {
            self.sync_failed = true;
            return Err(self.failing(LogError::from_io("sync", NAME, source)));
        }
        {
            let mut groups = self.image.lock();
            groups.synced = groups.stored.len();
        }
        self.release();
        Ok(())
    }

    fn release(&mut self) {
        let mut groups = self.image.lock();
        groups.released = groups.stored.len();
        groups.end = self.next;
    }

    fn reopen(&mut self) -> Result<(), LogError> {
        self.faults.on_reopen().map_err(|source| LogError::from_io("reopen", NAME, source))?;
        let mut groups = self.image.lock();
        let kept = if self.sync_failed { groups.synced } else { groups.released };
        groups.keep(kept);
        groups.torn.clear();
        self.next = groups.end;
        self.failed = false;
        self.sync_failed = false;
        Ok(())
    }

    fn advance_to(&mut self, offset: Offset) -> Result<(), LogError> {
        if self.failed {
            return Err(LogError::Failed);
        }
        if offset > self.next {
            self.next = offset;
            let mut groups = self.image.lock();
            groups.end = offset;
        }
        Ok(())
    }

    fn next_offset(&self) -> Offset {
        self.next
    }

    fn last_time_ms(&self) -> u64 {
        self.last_time_ms
    }

    fn salt(&self) -> u64 {
        self.image.salt
    }

    fn reader(&self) -> Arc<dyn LogReader> {
        self.handle().reader()
    }

    fn trimmer(&self) -> Arc<dyn LogTrimmer> {
        Arc::clone(&self.image) as Arc<dyn LogTrimmer>
    }

    fn size_bytes(&self) -> u64 {
        self.image.lock().bytes
    }
}

impl Groups {
    fn push(&mut self, group: Stored, unit_bytes: usize) {
        let (number, filled) = self.unit;
        let len = group.frame.len();
        self.unit =
            if filled > 0 && filled + len > unit_bytes { (number + 1, len) } else { (number, filled + len) };
        self.bytes += len as u64;
        self.stored.push_back(Stored { unit: self.unit.0, ..group });
    }

    /// Drops all but the first `kept` groups; those are durable and readable from here on.
    fn keep(&mut self, kept: usize) {
        self.stored.truncate(kept);
        self.bytes = self.stored.iter().map(|group| group.frame.len() as u64).sum();
        (self.synced, self.released) = (kept, kept);
    }

    /// How many groups the first unit has, if all of it lies below `before` and it is not the one being filled.
    fn trimmable(&self, before: Offset) -> Option<usize> {
        let unit = self.stored.front()?.unit;
        let len = self.stored.partition_point(|group| group.unit == unit);
        let below = self.stored.get(len.checked_sub(1)?)?.end <= before;
        (below && unit < self.unit.0).then_some(len)
    }
}

impl LogTrimmer for Image {
    fn trim(&self, before: Offset) -> Result<Trimmed, LogError> {
        let mut groups = self.lock();
        let before = before.min(groups.end);
        let mut trimmed = Trimmed::default();
        while let Some(len) = groups.trimmable(before) {
            self.faults.on_remove().map_err(|source| LogError::from_io("remove", NAME, source))?;
            let removed: Vec<Stored> = groups.stored.drain(..len).collect();
            let bytes = removed.iter().map(|group| group.frame.len() as u64).sum::<u64>();
            groups.bytes -= bytes;
            groups.synced = groups.synced.saturating_sub(len);
            groups.released = groups.released.saturating_sub(len);
            groups.earliest = removed.last().map_or(groups.earliest, |group| group.end);
            trimmed.segments += 1;
            trimmed.bytes += bytes;
        }
        trimmed.earliest = groups.earliest;
        Ok(trimmed)
    }

    fn size_bytes(&self) -> u64 {
        self.lock().bytes
    }
}

impl LogReader for Image {
    fn bounds(&self) -> (Offset, Offset) {
        let groups = self.lock();
        (groups.earliest, groups.end)
    }

    fn read_page(&self, from: Offset, max_bytes: usize) -> Result<Option<Page>, ReadError> {
        let groups = self.lock();
        if from >= groups.end {
            return Ok(None);
        }
        let mut page = PageBuilder::new(from.max(groups.earliest));
        let mut bytes = Vec::new();
        let visible = groups.stored.iter().take(groups.released);
        for group in visible.skip_while(|group| group.end <= from) {
            if !page.is_empty() && bytes.len() + group.frame.len() > max_bytes {
                return Ok(Some(page.finish(bytes)));
            }
            if group.first > page.next {
                page.skip(skipped(page.next, group.first, 0));
            }
            let header = FrameHeader::parse(&group.frame, self.salt)
                .filter(|header| header.is_whole(&group.frame, self.salt));
            match header {
                Some(header) => {
                    let at = bytes.len();
                    bytes.extend_from_slice(&group.frame);
                    if !page.has_room(&bytes, at, &header, max_bytes) {
                        return Ok(Some(page.finish(bytes)));
                    }
                    page.push(&bytes, at, &header, Path::new(NAME))?;
                }
                None => page.skip(skipped(group.first, group.end, group.frame.len() as u64)),
            }
        }
        if page.next < groups.end {
            page.skip(skipped(page.next, groups.end, 0));
        }
        Ok(Some(page.finish(bytes)))
    }

    fn offset_at(&self, time_ms: u64) -> Result<Offset, ReadError> {
        let groups = self.lock();
        let found = groups.stored.iter().take(groups.released).find(|group| group.time_ms >= time_ms);
        Ok(found.map_or(groups.end, |group| group.first))
    }
}

impl Image {
    fn lock(&self) -> MutexGuard<'_, Groups> {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn skipped(first: Offset, end: Offset, bytes: u64) -> SkippedGroup {
    SkippedGroup { first, end, bytes, file: PathBuf::from(NAME), at_byte: 0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::contract::Subject;

    struct Twin {
        handle: MemoryHandle,
        survived: Option<MemoryLog>,
    }

    impl Subject for Twin {
        type Log = MemoryLog;

        fn new() -> Self {
            let log = MemoryLog::new();
            Self { handle: log.handle(), survived: Some(log) }
        }

        fn open(&mut self) -> MemoryLog {
            // Without a power cut, everything written survives.
            let log = self.survived.take().unwrap_or_else(|| self.handle.crash(usize::MAX));
            self.handle = log.handle();
            log
        }

        fn lose_power(&mut self, torn_tail: usize) {
            self.survived = Some(self.handle.crash(torn_tail));
        }

        fn damage(&mut self, offset: Offset) {
            assert!(self.handle.damage(offset));
        }

        fn faults(&self) -> Faults {
            self.handle.faults().clone()
        }
    }

    crate::log_contract!(Twin);
}
