//! A page: what one read of the log brings.

use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::batch::{Batch, GroupSpan};
use crate::compression;
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
    /// From the first compressed group on, the buffer that takes the place of the caller's: all entries of a page lie in
    /// one. It begins with what the caller's held up to there, so that places found before stay right.
    unpacked: Option<Vec<u8>>,
    /// The offset behind everything seen so far.
    pub(crate) next: Offset,
}

impl PageBuilder {
    /// A page without entries whose readers continue at `from`.
    pub(crate) fn new(from: Offset) -> Self {
        Self { index: Vec::new(), groups: Vec::new(), skipped: Vec::new(), unpacked: None, next: from }
    }

    /// Whether the page holds no entry yet.
    pub(crate) fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// Whether a page of at most `max_bytes` of unpacked groups has room for the group whose frame begins at `at` in
    /// `bytes`. An empty page always has. Groups that are not compressed count by the bytes they lie in.
    pub(crate) fn has_room(&self, bytes: &[u8], at: usize, header: &FrameHeader, max_bytes: usize) -> bool {
        let filled = self.unpacked.as_ref().map_or(at, Vec::len);
        let len = bytes.get(at..).and_then(|frame| header.unpacked_len(frame)).unwrap_or(0);
        self.is_empty() || filled + len <= max_bytes
    }

    /// Takes in the undamaged group whose frame begins at `at` in `bytes`.
    pub(crate) fn push(
        &mut self,
        bytes: &[u8],
        at: usize,
        header: &FrameHeader,
        file: &Path,
    ) -> Result<(), ReadError> {
        check_known(header, file)?;
        let entry_error = |(entries, source)| {
            let offset = header.first.plus(entries);
            ReadError::Entry { file: file.into(), offset, source }
        };
        let (start, end) = (at + FRAME_HEADER_LEN, at + header.frame_len());
        let body = bytes.get(start..end).ok_or_else(|| entry_error((0, EntryError::NotAnEntry)))?;
        if header.is_packed() && self.unpacked.is_none() {
            self.unpacked = Some(bytes.get(..at).unwrap_or_default().to_vec());
        }
        let first_index = self.index.len() as u32;
        let (bytes, entries) = match &mut self.unpacked {
            None => (bytes, start..end),
            Some(unpacked) => {
                let start = unpacked.len();
                if !header.is_packed() {
                    unpacked.extend_from_slice(body);
                } else if !compression::unpack(body, unpacked) {
                    return Err(entry_error((0, EntryError::Unpackable)));
                }
                (unpacked.as_slice(), start..unpacked.len())
            }
        };
        index_group(bytes, entries, header.entries, &mut self.index).map_err(entry_error)?;
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
        let Self { index, groups, skipped, unpacked, next } = self;
        let bytes = unpacked.unwrap_or(bytes);
        let batch = if index.is_empty() { Batch::empty_at(next) } else { Batch::new(bytes, index, groups) };
        Page { batch, skipped, next }
    }
}

/// Refuses a group this version cannot read.
pub(crate) fn check_known(header: &FrameHeader, file: &Path) -> Result<(), ReadError> {
    let (file, found, known) = (file.into(), header.version, FRAME_VERSION);
    match header.is_known() {
        true => Ok(()),
        false if found == known => Err(ReadError::UnknownFlags { file, flags: header.flags }),
        false => Err(ReadError::NewerFormat { file, found, known }),
    }
}

/// Validates and indexes the `count` entries of a group, which lie at `place`; on error says how many were good.
fn index_group(
    bytes: &[u8],
    place: Range<usize>,
    count: u32,
    index: &mut Vec<EntryIndex>,
) -> Result<(), (u64, EntryError)> {
    let Range { mut start, end } = place;
    index.reserve((count as usize).min(end - start));
    for done in 0..count {
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
        Err((u64::from(count), EntryError::TrailingBytes { excess: end - start }))
    }
}
