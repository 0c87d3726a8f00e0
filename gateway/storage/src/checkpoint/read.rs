//! Reading one checkpoint file, and trusting nothing in it.

use std::path::{Path, PathBuf};

use crc32c::{crc32c, crc32c_append};
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::error::{CheckpointError, Damage};
use super::format::{
    BLOCK_HEADER_LEN, BlockHeader, CHECKPOINT_FORMAT, FOOTER_LEN, Footer, HEADER_LEN, Header, Row,
};
use super::offset_of;
use crate::log::segments::disk::{SegmentFile, read_full};
use crate::offset::Offset;
use crate::view::RowSink;

/// A checkpoint whose header, length and footer agree. Whether its rows are whole, only reading tells.
pub(super) struct Reader<'a> {
    path: &'a Path,
    file: &'a dyn SegmentFile,
    footer: Footer,
    header_crc: u32,
}

/// A checkpoint that was read from one end to the other and is undamaged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// The file.
    pub path: PathBuf,
    /// Up to which offset the view was applied.
    pub applied: Offset,
    /// Rows of the view.
    pub rows: u64,
    /// Length of the file in bytes.
    pub bytes: u64,
}

impl<'a> Reader<'a> {
    pub(super) fn open(path: &'a Path, file: &'a dyn SegmentFile) -> Result<Self, CheckpointError> {
        let size = file.size().map_err(|source| CheckpointError::from_io("read", path, source))?;
        let damaged = |at, damage| CheckpointError::Damaged { path: path.into(), at, damage };
        let mut header = [0; HEADER_LEN];
        if read(path, file, &mut header, 0)? < HEADER_LEN {
            return Err(damaged(0, Damage::CutOff));
        }
        let header_crc = crc32c(&header);
        let header = Header::parse(&header).ok_or_else(|| damaged(0, Damage::Header))?;
        if header.version != CHECKPOINT_FORMAT {
            let (found, known) = (header.version, CHECKPOINT_FORMAT);
            return Err(CheckpointError::NewerFormat { path: path.into(), found, known });
        }
        if path.file_name().and_then(offset_of) != Some(header.applied) {
            return Err(damaged(0, Damage::Name));
        }
        let mut footer = [0; FOOTER_LEN];
        let footer_at = size.checked_sub(FOOTER_LEN as u64).filter(|at| *at >= HEADER_LEN as u64);
        let footer_at = footer_at.ok_or_else(|| damaged(size, Damage::CutOff))?;
        if read(path, file, &mut footer, footer_at)? < FOOTER_LEN {
            return Err(damaged(footer_at, Damage::CutOff));
        }
        match Footer::parse_unchecked(&footer) {
            Some(footer) if footer.bytes == size && footer.applied == header.applied => {
                Ok(Self { path, file, footer, header_crc })
            }
            _ => Err(damaged(footer_at, Damage::CutOff)),
        }
    }

    pub(super) fn applied(&self) -> Offset {
        self.footer.applied
    }

    pub(super) fn bytes(&self) -> u64 {
        self.footer.bytes
    }

    /// Calls `row` with every key, table byte included, and value. Rows are handed out block by block as they are found
    /// undamaged: whether all are there is known at the end.
    pub(super) fn read(&self, row: &mut RowSink<'_, CheckpointError>) -> Result<Verified, CheckpointError> {
        let footer_at = self.footer.bytes - FOOTER_LEN as u64;
        let mut at = HEADER_LEN as u64;
        let mut crc = self.header_crc;
        let (mut blocks, mut rows) = (0_u32, 0_u64);
        let mut payload = Vec::new();
        while at < footer_at {
            let mut header = [0; BLOCK_HEADER_LEN];
            self.read_full(&mut header, at)?;
            let block = BlockHeader::parse(&header).ok_or_else(|| self.damaged(at, Damage::Block))?;
            payload.resize(block.payload_len, 0);
            self.read_full(&mut payload, at + BLOCK_HEADER_LEN as u64)?;
            if !block.is_whole(self.applied(), u64::from(blocks), &payload) {
                return Err(self.damaged(at, Damage::Block));
            }
            self.read_rows(&payload, block.rows, at, row)?;
            crc = crc32c_append(crc32c_append(crc, &header), &payload);
            at += (BLOCK_HEADER_LEN + block.payload_len) as u64;
            blocks = blocks.saturating_add(1);
            rows += u64::from(block.rows);
        }
        let mut footer = [0; FOOTER_LEN];
        self.read_full(&mut footer, footer_at)?;
        let footer = Footer::parse(&footer, crc).ok_or_else(|| self.damaged(footer_at, Damage::Footer))?;
        if at != footer_at || (footer.blocks, footer.rows) != (blocks, rows) {
            return Err(self.damaged(footer_at, Damage::Count));
        }
        Ok(Verified { path: self.path.into(), applied: self.applied(), rows, bytes: self.footer.bytes })
    }

    fn read_rows(
        &self,
        payload: &[u8],
        rows: u32,
        at: u64,
        row: &mut RowSink<'_, CheckpointError>,
    ) -> Result<(), CheckpointError> {
        let mut reader = rmp_serde::Deserializer::from_read_ref(payload);
        for _ in 0..rows {
            let Ok(Row { key, value }) = Row::deserialize(&mut reader) else {
                return Err(self.damaged(at, Damage::Row));
            };
            // The rows of the view's own table are not part of a checkpoint.
            if key.first().is_none_or(|table| *table == 0) {
                return Err(self.damaged(at, Damage::Row));
            }
            row(key, value)?;
        }
        // A block ends with its last row.
        match IgnoredAny::deserialize(&mut reader) {
            Ok(_) => Err(self.damaged(at, Damage::Row)),
            Err(_) => Ok(()),
        }
    }

    fn read_full(&self, into: &mut [u8], at: u64) -> Result<(), CheckpointError> {
        let len = into.len();
        if read(self.path, self.file, into, at)? < len {
            return Err(self.damaged(at, Damage::CutOff));
        }
        Ok(())
    }

    fn damaged(&self, at: u64, damage: Damage) -> CheckpointError {
        CheckpointError::Damaged { path: self.path.into(), at, damage }
    }
}

fn read(path: &Path, file: &dyn SegmentFile, into: &mut [u8], at: u64) -> Result<usize, CheckpointError> {
    read_full(file, into, at).map_err(|source| CheckpointError::from_io("read", path, source))
}
