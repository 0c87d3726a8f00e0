//! Reading pages out of segment files.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use super::disk::{Disk, SegmentFile, read_full};
use super::header::FILE_HEADER_LEN;
use super::table::{Segment, Table};
use super::walk::{Step, Walk};
use crate::frame::{FRAME_HEADER_LEN, FrameHeader};
use crate::log::page::{PageBuilder, check_known};
use crate::log::{LogReader, Page, ReadError, SkippedGroup};
use crate::offset::Offset;

/// Distance of the points of a sparse index: what a search reads over at most, beside one group.
pub(super) const POINT_BYTES: u64 = 64 << 10;

/// Segments whose file and index are kept at hand; the least recently read goes first. An index takes at most
/// 48 KiB for each 128 MiB of a segment.
pub(super) const OPEN_MAX: usize = 32;

/// The most read at once, whatever the caller asks for.
const PAGE_BYTES_MAX: usize = 64 << 20;

/// How much smaller compressed groups are taken to be. A wrong guess costs a shorter page or bytes read twice.
const PACKED_RATIO: usize = 4;

#[derive(Debug)]
pub(super) struct SegmentsReader {
    table: Arc<Table>,
    disk: Arc<dyn Disk>,
    /// Most recently used last.
    pub(super) open: Mutex<Vec<Arc<OpenSegment>>>,
}

/// A segment with its file and what is known of where its groups lie.
#[derive(Debug)]
pub(super) struct OpenSegment {
    segment: Arc<Segment>,
    file: Box<dyn SegmentFile>,
    pub(super) points: Mutex<Vec<Point>>,
}

/// A place where a group begins.
#[derive(Clone, Copy, Debug)]
pub(super) struct Point {
    first: Offset,
    time_ms: u64,
    at: u64,
}

impl SegmentsReader {
    pub(super) fn new(table: Arc<Table>, disk: Arc<dyn Disk>) -> Self {
        Self { table, disk, open: Mutex::new(Vec::new()) }
    }

    /// The file of a segment. None if it has been trimmed since the segment was looked up: the caller looks again.
    pub(super) fn open(&self, segment: Arc<Segment>) -> Result<Option<Arc<OpenSegment>>, ReadError> {
        let find = |open: &[Arc<OpenSegment>]| open.iter().position(|o| Arc::ptr_eq(&o.segment, &segment));
        {
            let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(at) = find(&open) {
                let found = open.remove(at);
                open.push(Arc::clone(&found));
                return Ok(Some(found));
            }
        }
        let file = match self.disk.open(&segment.path) {
            Ok(file) => file,
            Err(_) if segment.is_trimmed() => return Ok(None),
            Err(source) => return Err(io_error(&segment.path, source)),
        };
        let opened =
            Arc::new(OpenSegment { segment: Arc::clone(&segment), file, points: Mutex::new(Vec::new()) });
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        // A trimmed file that were kept here would keep its space: whoever trims marks first and then comes by here.
        if find(&open).is_none() && !segment.is_trimmed() {
            if open.len() >= OPEN_MAX {
                open.remove(0);
            }
            open.push(Arc::clone(&opened));
        }
        Ok(Some(opened))
    }

    /// Lets go of the file of a trimmed segment. Reads under way finish on it.
    pub(super) fn forget(&self, segment: &Arc<Segment>) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|open| !Arc::ptr_eq(&open.segment, segment));
    }
}

impl LogReader for SegmentsReader {
    fn bounds(&self) -> (Offset, Offset) {
        let end = self.table.end();
        (self.table.earliest().min(end), end)
    }

    fn read_page(&self, from: Offset, max_bytes: usize) -> Result<Option<Page>, ReadError> {
        let (mut page, mut bytes) = (PageBuilder::new(from), Vec::new());
        loop {
            // Loaded first: the bytes before it are then readable in every segment.
            let end = self.table.end();
            if page.next >= end {
                break;
            }
            let (segment, behind) = self.table.segment_of(page.next);
            let Some(segment) = segment else { break };
            if page.next < segment.first {
                // Older segments are gone; the caller asked for what the log no longer has.
                page.next = segment.first;
            }
            let segment_end = behind.map_or(end, |behind| behind.first);
            let Some(open) = self.open(segment)? else { continue };
            let complete = open.read_into(&mut page, &mut bytes, max_bytes, segment_end, self.table.salt)?;
            if complete && page.next < segment_end {
                page.skip(open.skipped(page.next, segment_end, 0, open.segment.readable()));
            }
            if !page.is_empty() {
                break;
            }
        }
        let nothing = page.is_empty() && page.skipped.is_empty();
        Ok(if nothing { None } else { Some(page.finish(bytes)) })
    }

    fn offset_at(&self, time_ms: u64) -> Result<Offset, ReadError> {
        loop {
            let end = self.table.end();
            let (Some(segment), behind) = self.table.segment_before(time_ms) else { return Ok(end) };
            let Some(open) = self.open(segment)? else { continue };
            let found = open.offset_at(time_ms, self.table.salt)?;
            return Ok(found.or_else(|| behind.map(|behind| behind.first)).unwrap_or(end).min(end));
        }
    }
}

impl OpenSegment {
    /// Reads groups from `page.next` on until the page is full, and says whether that was all this segment has.
    fn read_into(
        &self,
        page: &mut PageBuilder,
        bytes: &mut Vec<u8>,
        max_bytes: usize,
        segment_end: Offset,
        salt: u64,
    ) -> Result<bool, ReadError> {
        let path = self.segment.path.as_path();
        let readable = self.segment.readable();
        let max_bytes = max_bytes.min(PAGE_BYTES_MAX);
        let Some((start, first_len, packed)) = self.find(page.next, readable, salt)? else { return Ok(true) };
        // One read for the whole page; more than asked for only when its first group alone is larger, and less when the
        // groups will be larger than they are in the file.
        let asked = if packed { max_bytes / PACKED_RATIO } else { max_bytes };
        let len = (readable - start).min(asked as u64).max(first_len);
        bytes.resize(len as usize, 0);
        let read = read_full(self.file.as_ref(), bytes, start).map_err(|source| io_error(path, source))?;
        bytes.truncate(read);

        let mut place = 0;
        while let Some(frame) = bytes.get(place..).filter(|rest| rest.len() >= FRAME_HEADER_LEN) {
            let at = start + place as u64;
            // Offsets only grow within a file, and no group reaches beyond what is readable.
            let header = FrameHeader::parse(frame, salt)
                .filter(|header| header.end() > page.next && at + header.frame_len() as u64 <= readable);
            let Some(header) = header else {
                let mut walk = Walk::new(self.file.as_ref(), salt, at, readable, page.next);
                if let Some(Step::Damaged { bytes, end, .. }) = walk.step().map_err(|e| io_error(path, e))? {
                    page.skip(self.skipped(page.next, end.unwrap_or(segment_end), bytes, at));
                }
                place = (walk.at - start) as usize;
                continue;
            };
            if header.frame_len() > frame.len() {
                break;
            }
            self.note(at, &header);
            if header.first > page.next {
                page.skip(self.skipped(page.next, header.first, 0, at));
            }
            if header.is_whole(frame, salt) {
                if !page.has_room(bytes, place, &header, max_bytes) {
                    return Ok(false);
                }
                page.push(bytes, place, &header, path)?;
            } else {
                check_known(&header, path)?;
                page.skip(self.skipped(header.first, header.end(), header.frame_len() as u64, at));
            }
            place += header.frame_len();
        }
        // The buffer was sized for the first group. If that is not in it, the file has been cut off under us.
        Ok(place == 0 || start + place as u64 >= readable)
    }

    /// Where the group that holds `offset`, or the damage in its place, begins, how long it is, and whether it is
    /// compressed. None when the segment ends before it.
    fn find(&self, offset: Offset, readable: u64, salt: u64) -> Result<Option<(u64, u64, bool)>, ReadError> {
        let point = self.point_before(|point| point.first <= offset);
        let mut walk = Walk::new(self.file.as_ref(), salt, point.at, readable, point.first);
        while let Some(step) = walk.step().map_err(|source| io_error(&self.segment.path, source))? {
            match step {
                Step::Group { at, header } => {
                    self.note(at, &header);
                    if header.end() > offset {
                        return Ok(Some((at, header.frame_len() as u64, header.is_packed())));
                    }
                }
                Step::Damaged { at, bytes, end, .. } => {
                    if end.is_none_or(|end| end > offset) {
                        return Ok(Some((at, bytes.min(PAGE_BYTES_MAX as u64), false)));
                    }
                }
            }
        }
        Ok(None)
    }

    /// The first offset of the first group committed at `time_ms` or later.
    fn offset_at(&self, time_ms: u64, salt: u64) -> Result<Option<Offset>, ReadError> {
        // A point at the very time may have groups of the same time before it.
        let point = self.point_before(|point| point.time_ms < time_ms);
        let readable = self.segment.readable();
        let mut walk = Walk::new(self.file.as_ref(), salt, point.at, readable, point.first);
        while let Some(step) = walk.step().map_err(|source| io_error(&self.segment.path, source))? {
            if let Step::Group { at, header } = step {
                self.note(at, &header);
                if header.time_ms >= time_ms {
                    return Ok(Some(header.first));
                }
            }
        }
        Ok(None)
    }

    /// The last point of which `before` holds, or the beginning of the segment.
    fn point_before(&self, before: impl Fn(&Point) -> bool) -> Point {
        let points = self.points.lock().unwrap_or_else(PoisonError::into_inner);
        let after = points.partition_point(before);
        let start = Point {
            first: self.segment.first,
            time_ms: self.segment.base_time_ms,
            at: FILE_HEADER_LEN as u64,
        };
        after.checked_sub(1).and_then(|at| points.get(at)).copied().unwrap_or(start)
    }

    /// Remembers where a group begins, if it is far enough behind the last place remembered. Only a reader that walked
    /// up to here calls this, so the points grow from the front and cost nothing but this comparison.
    fn note(&self, at: u64, header: &FrameHeader) {
        let mut points = self.points.lock().unwrap_or_else(PoisonError::into_inner);
        if points.last().map_or(FILE_HEADER_LEN as u64, |last| last.at) + POINT_BYTES <= at {
            points.push(Point { first: header.first, time_ms: header.time_ms, at });
        }
    }

    fn skipped(&self, first: Offset, end: Offset, bytes: u64, at_byte: u64) -> SkippedGroup {
        SkippedGroup { first, end, bytes, file: self.segment.path.clone(), at_byte }
    }
}

fn io_error(path: &Path, source: io::Error) -> ReadError {
    ReadError::Io { file: path.into(), source }
}
