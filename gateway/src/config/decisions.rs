//! `[decisions]`: the record of what did not go through, and why.

use std::path::PathBuf;

use super::fault::FaultKind;
use super::reader::{Refusal, Section};

/// `[decisions]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecisionsConfig {
    /// Decisions that are kept in memory.
    pub max_entries: usize,
    /// The file they are written to, if they are.
    pub file: Option<PathBuf>,
    /// Bytes of one file.
    pub file_bytes: u64,
    /// How many files there are, the one being written included.
    pub files: u32,
}

const KIB: u64 = 1 << 10;
const GIB: u64 = 1 << 30;

pub(super) fn decisions(mut section: Section<'_>) -> Option<DecisionsConfig> {
    let max_entries = section.integer("max_entries", 1..=10_000_000_u32);
    let show = |file: &Option<PathBuf>| {
        file.as_ref().map_or_else(String::new, |file| file.to_string_lossy().into_owned()).into()
    };
    let file = section.string("file", "the path of a file; empty: none", file, show);
    let file_bytes = section.size("file_bytes", 64 * KIB..=64 * GIB);
    let files = section.integer("files", 1..=1_000_u32);
    section.finish();
    Some(DecisionsConfig {
        max_entries: usize::try_from(max_entries?).unwrap_or(usize::MAX),
        file: file?,
        file_bytes: file_bytes?,
        files: files?,
    })
}

fn file(text: &str) -> Result<Option<PathBuf>, Refusal> {
    if text.contains('\0') || text.ends_with('/') {
        return Err(Refusal::new(FaultKind::Invalid, "is not the path of a file"));
    }
    Ok((!text.is_empty()).then(|| PathBuf::from(text)))
}
