//! Writing one checkpoint file.

use std::path::{Path, PathBuf};

use crc32c::{crc32c, crc32c_append};
use serde::Serialize;

use super::error::CheckpointError;
use super::format::{BLOCK_BYTES, CHECKPOINT_FORMAT, Footer, HEADER_LEN, Header, Row, block_header};
use super::{CheckpointFile, file_name, temporary_name};
use crate::log::segments::disk::{Disk, SegmentFile};
use crate::offset::Offset;

/// A checkpoint on its way, under a temporary name.
pub(super) struct Writer<'a> {
    disk: &'a dyn Disk,
    dir: &'a Path,
    path: PathBuf,
    file: Box<dyn SegmentFile>,
    applied: Offset,
    block: Vec<u8>,
    block_rows: u32,
    blocks: u32,
    rows: u64,
    at: u64,
    crc: u32,
}

impl<'a> Writer<'a> {
    pub(super) fn create(
        disk: &'a dyn Disk,
        dir: &'a Path,
        applied: Offset,
    ) -> Result<Self, CheckpointError> {
        let path = dir.join(temporary_name(applied));
        let created = disk.create(&path).map_err(|source| CheckpointError::from_io("create", &path, source));
        let mut writer = Self {
            disk,
            dir,
            path,
            file: created?,
            applied,
            block: Vec::with_capacity(BLOCK_BYTES + (64 << 10)),
            block_rows: 0,
            blocks: 0,
            rows: 0,
            at: HEADER_LEN as u64,
            crc: 0,
        };
        let header = Header { version: CHECKPOINT_FORMAT, applied }.encode();
        writer.crc = crc32c(&header);
        match writer.write(&header, 0) {
            Ok(()) => Ok(writer),
            Err(error) => Err(writer.abandon(error)),
        }
    }

    /// Adds a row; after an error, [`Writer::abandon`].
    pub(super) fn add(&mut self, key: &[u8], value: &[u8]) -> Result<(), CheckpointError> {
        let encoded = Row { key, value }.serialize(&mut rmp_serde::Serializer::new(&mut self.block));
        if let Err(error) = encoded {
            // Writing binaries to memory does not fail.
            let source = std::io::Error::other(error);
            return Err(CheckpointError::from_io("encode a row for", &self.path, source));
        }
        self.block_rows += 1;
        self.rows += 1;
        if self.block.len() >= BLOCK_BYTES { self.end_block() } else { Ok(()) }
    }

    /// Completes the file, makes it durable, and gives it its name.
    pub(super) fn finish(mut self) -> Result<CheckpointFile, CheckpointError> {
        match self.complete() {
            Ok(file) => Ok(file),
            Err(error) => Err(self.abandon(error)),
        }
    }

    /// Removes what was written, and hands the error on.
    pub(super) fn abandon(self, error: CheckpointError) -> CheckpointError {
        drop(self.file);
        // What stays behind is removed before the next one is written.
        if let Err(error) = self.disk.remove(&self.path) {
            tracing::warn!(%error, path = %self.path.display(), "an unfinished checkpoint could not be removed");
        }
        error
    }

    fn complete(&mut self) -> Result<CheckpointFile, CheckpointError> {
        if self.block_rows > 0 {
            self.end_block()?;
        }
        let bytes = self.at + super::format::FOOTER_LEN as u64;
        let footer = Footer { blocks: self.blocks, rows: self.rows, bytes, applied: self.applied };
        self.write(&footer.encode(self.crc), self.at)?;
        self.file.sync_data().map_err(|source| CheckpointError::from_io("sync", &self.path, source))?;
        let path = self.dir.join(file_name(self.applied));
        self.disk
            .rename(&self.path, &path)
            .map_err(|source| CheckpointError::from_io("rename", &self.path, source))?;
        if let Err(source) = self.disk.sync_dir(self.dir) {
            // Whole, but nobody knows whether it is there after a power cut: it does not count.
            self.path = path;
            return Err(CheckpointError::from_io("sync", self.dir, source));
        }
        Ok(CheckpointFile { path, applied: self.applied, bytes })
    }

    fn end_block(&mut self) -> Result<(), CheckpointError> {
        let header = block_header(self.applied, u64::from(self.blocks), self.block_rows, &self.block);
        self.write(&header, self.at)?;
        self.write(&self.block, self.at + header.len() as u64)?;
        self.crc = crc32c_append(crc32c_append(self.crc, &header), &self.block);
        self.at += (header.len() + self.block.len()) as u64;
        self.blocks += 1;
        self.block_rows = 0;
        self.block.clear();
        Ok(())
    }

    fn write(&self, bytes: &[u8], at: u64) -> Result<(), CheckpointError> {
        let written = self.file.write_at(bytes, at);
        written.map_err(|source| CheckpointError::from_io("write to", &self.path, source))
    }
}
