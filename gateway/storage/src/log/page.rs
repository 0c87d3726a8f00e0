//! A page: what one read of the log brings.

use std::path::{Path, PathBuf};

use crate::batch::{Batch, GroupSpan};
use crate::entry::{EntryError, index_entry};
use crate::frame::{FRAME_HEADER_LEN, FRAME_VERSION, FrameHeader};
use crate::index::EntryIndex;
use crate::log::ReadError;
use crate::offset::Offset;

/// Whole groups read back from the log.
#[derive(Debug)]
pub struct Page {
    /// The entries; offsets have holes where groups were passed over. Empty when all that is left is damaged.
    pub batch: Batch,
    /// Groups that should be there and were passed over, ascending.
    pub skipped: Vec<SkippedGroup>,
    /// Where to go on reading: behind everything this page read or passed over.
    pub next: Offset,
}

/// A stretch of the log that cannot be read: a damaged group, several behind one damaged header, or offsets that a
/// failing disk took with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SkippedGroup {
    /// The first offset passed over.
    pub first: Offset,
    /// The first offset behind it.
    pub end: Offset,
    /// Damaged bytes; 0 if the entries are not in the file at all.
    pub bytes: u64,
    /// Which file.
    pub file: PathBuf,
    /// Where in the file.
    pub at_byte: u64,
}

/// Puts a page together from groups as they lie in one buffer.
pub(crate) struct PageBuilder {
    index: Vec<EntryIndex>,
    groups: Vec<GroupSpan>,
    pub(crate) skipped: Vec<SkippedGroup>,
    /// The offset behind everything seen so far.
    pub(crate) next: Offset,
}

impl PageBuilder {
    /// A page without entries whose readers continue at `from`.
    pub(crate) fn new(from: Offset) -> Self {
        Self { index: Vec::new(), groups: Vec::new(), skipped: Vec::new(), next: from }
    }

    /// Whether the page holds no entry yet.
    pub(crate) fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// Takes in the undamaged group whose frame begins at `at` in `bytes`.
    pub(crate) fn push(
        &mut self,
        bytes: &[u8],
        at: usize,
        header: &FrameHeader,
        file: &Path,
    ) -> Result<(), ReadError> {
        check_version(header, file)?;
        let first_index = self.index.len() as u32;
        index_group(bytes, at, header, &mut self.index).map_err(|(entries, source)| ReadError::Entry {
            file: file.into(),
            offset: header.first.plus(entries),
            source,
        })?;
        self.groups.push(GroupSpan { first_index, first: header.first, time_ms: header.time_ms });
        self.next = header.end();
        Ok(())
    }

    /// Notes what is passed over.
    pub(crate) fn skip(&mut self, skipped: SkippedGroup) {
        self.next = self.next.max(skipped.end);
        self.skipped.push(skipped);
    }

    /// The page, with the buffer its groups lie in.
    pub(crate) fn finish(self, bytes: Vec<u8>) -> Page {
        let Self { index, groups, skipped, next } = self;
        let batch = if index.is_empty() { Batch::empty_at(next) } else { Batch::new(bytes, index, groups) };
        Page { batch, skipped, next }
    }
}

/// Refuses a group this version cannot read.
pub(crate) fn check_version(header: &FrameHeader, file: &Path) -> Result<(), ReadError> {
    if header.version == FRAME_VERSION {
        return Ok(());
    }
    Err(ReadError::NewerFormat { file: file.into(), found: header.version, known: FRAME_VERSION })
}

/// Validates and indexes every entry of a group; on error says how many were good.
fn index_group(
    bytes: &[u8],
    at: usize,
    header: &FrameHeader,
    index: &mut Vec<EntryIndex>,
) -> Result<(), (u64, EntryError)> {
    let end = at + header.frame_len();
    let mut start = at + FRAME_HEADER_LEN;
    index.reserve((header.entries as usize).min(header.body_len as usize));
    for done in 0..header.entries {
        let failed = |error| (u64::from(done), error);
        let rest = bytes.get(start..end).ok_or_else(|| failed(EntryError::NotAnEntry))?;
        let place = u32::try_from(start).map_err(|_| failed(EntryError::NotAnEntry))?;
        let entry = index_entry(rest, place).map_err(failed)?;
        start += entry.len as usize;
        index.push(entry);
    }
    if start == end {
        Ok(())
    } else {
        Err((u64::from(header.entries), EntryError::TrailingBytes { excess: end - start }))
    }
}
