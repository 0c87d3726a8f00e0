//! Removing files from the front of the log.
//!
//! A segment leaves the table before its file goes, so that no reader is sent to a file that is not there; one that was
//! sent there before finds the file, open or gone, and looks again. Files go one by one, oldest first, so that what a
//! crash or a failure leaves is the end of the log without a gap.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::disk::Disk;
use super::reader::SegmentsReader;
use super::table::{Segment, Table};
use crate::log::{LogError, LogTrimmer, Trimmed};
use crate::offset::Offset;

#[derive(Debug)]
pub(super) struct SegmentsTrimmer {
    dir: PathBuf,
    table: Arc<Table>,
    disk: Arc<dyn Disk>,
    reader: Arc<SegmentsReader>,
    unfinished: Mutex<Unfinished>,
}

/// What a trim that failed left to the next one.
#[derive(Debug, Default)]
struct Unfinished {
    /// Out of the table, and its file could not be removed.
    file: Option<Arc<Segment>>,
    /// Files were removed, and the directory has not been synced since.
    directory: bool,
}

impl SegmentsTrimmer {
    pub(super) fn new(
        dir: &Path,
        table: Arc<Table>,
        disk: Arc<dyn Disk>,
        reader: Arc<SegmentsReader>,
    ) -> Self {
        Self { dir: dir.into(), table, disk, reader, unfinished: Mutex::default() }
    }

    fn remove_files(
        &self,
        before: Offset,
        unfinished: &mut Unfinished,
        trimmed: &mut Trimmed,
    ) -> Result<(), LogError> {
        while let Some(segment) = unfinished.file.take().or_else(|| self.table.take_earliest(before)) {
            self.reader.forget(&segment);
            match self.disk.remove(&segment.path) {
                Err(source) if source.kind() != io::ErrorKind::NotFound => {
                    let failed = LogError::from_io("remove", &segment.path, source);
                    unfinished.file = Some(segment);
                    return Err(failed);
                }
                _ => {}
            }
            unfinished.directory = true;
            self.table.resized(segment.readable(), 0);
            trimmed.segments += 1;
            trimmed.bytes += segment.readable();
        }
        Ok(())
    }
}

impl LogTrimmer for SegmentsTrimmer {
    fn trim(&self, before: Offset) -> Result<Trimmed, LogError> {
        let mut unfinished = self.unfinished.lock().unwrap_or_else(PoisonError::into_inner);
        let mut trimmed = Trimmed::default();
        let removed = self.remove_files(before, &mut unfinished, &mut trimmed);
        if unfinished.directory {
            let synced = self.disk.sync_dir(&self.dir);
            unfinished.directory = synced.is_err();
            // The first failure is the one to tell; the other comes up again with the next trim.
            removed.and(synced.map_err(|source| LogError::from_io("sync", &self.dir, source)))?;
        } else {
            removed?;
        }
        trimmed.earliest = self.table.earliest().min(self.table.end());
        Ok(trimmed)
    }

    fn size_bytes(&self) -> u64 {
        self.table.bytes()
    }
}
