//! What a power cut leaves: everything that was synced, and of the rest whatever chance keeps.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::disk::Nodes;

/// The unit that a disk writes whole or not at all.
const SECTOR: usize = 512;

/// A change to a file that no sync has covered.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    Write { at: u64, bytes: Box<[u8]> },
    SetLen(u64),
    Allocate(u64),
}

impl Change {
    pub(super) fn apply(&self, contents: &mut Vec<u8>) {
        match self {
            Self::Write { at, bytes } => {
                let at = *at as usize;
                if contents.len() < at + bytes.len() {
                    contents.resize(at + bytes.len(), 0);
                }
                contents[at..at + bytes.len()].copy_from_slice(bytes);
            }
            Self::SetLen(len) => contents.resize(*len as usize, 0),
            Self::Allocate(len) => contents.resize(contents.len().max(*len as usize), 0),
        }
    }
}

/// A change to names that no sync of their directory has covered.
#[derive(Clone, Debug)]
pub(crate) enum NameChange {
    Add(PathBuf, u64),
    Remove(PathBuf),
    Rename(PathBuf, PathBuf),
}

impl NameChange {
    pub(super) fn apply(&self, names: &mut BTreeMap<PathBuf, u64>) {
        match self {
            Self::Add(path, node) => {
                names.insert(path.clone(), *node);
            }
            Self::Remove(path) => {
                names.remove(path);
            }
            Self::Rename(from, to) => {
                if let Some(node) = names.remove(from) {
                    names.insert(to.clone(), node);
                }
            }
        }
    }

    fn dir(&self) -> Option<&Path> {
        let (Self::Add(path, _) | Self::Remove(path) | Self::Rename(path, _)) = self;
        path.parent()
    }
}

/// One file: what stable storage has, and what was done to it since.
#[derive(Clone, Debug, Default)]
pub(crate) struct Node {
    pub(crate) synced: Vec<u8>,
    pub(crate) pending: Vec<Change>,
}

/// What becomes of the unsynced part of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Dropped,
    Kept,
    /// Changes up to one of them, and that one up to some byte.
    Torn,
    /// The length is there, the data from some byte on is zeros.
    Zeros,
    /// The same, with what lay there before.
    Garbage,
    /// Each sector by chance.
    Sectors,
}

const FATES: [Fate; 6] = [Fate::Dropped, Fate::Kept, Fate::Torn, Fate::Zeros, Fate::Garbage, Fate::Sectors];

impl Node {
    fn after(&self, fate: Fate, rng: &mut ChaCha8Rng) -> Vec<u8> {
        let mut contents = self.synced.clone();
        if fate == Fate::Dropped || self.pending.is_empty() {
            return contents;
        }
        if fate == Fate::Torn {
            let last = rng.random_range(0..self.pending.len());
            self.pending[..last].iter().for_each(|change| change.apply(&mut contents));
            if let Change::Write { at, bytes } = &self.pending[last] {
                let kept = rng.random_range(0..=bytes.len());
                Change::Write { at: *at, bytes: bytes[..kept].into() }.apply(&mut contents);
            }
            return contents;
        }
        self.pending.iter().for_each(|change| change.apply(&mut contents));
        let writes = self.pending.iter().filter_map(|change| match change {
            Change::Write { at, bytes } => Some(*at as usize..*at as usize + bytes.len()),
            _ => None,
        });
        let written: Vec<_> = writes.collect();
        let (Some(first), Some(end)) =
            (written.iter().map(|w| w.start).min(), written.iter().map(|w| w.end).max())
        else {
            return contents;
        };
        let end = end.min(contents.len());
        let first = first.min(end);
        match fate {
            Fate::Zeros => contents[rng.random_range(first..=end)..end].fill(0),
            Fate::Garbage => {
                let from = rng.random_range(first..=end);
                rng.fill(&mut contents[from..end]);
            }
            Fate::Sectors => {
                for sector in (first / SECTOR..=end / SECTOR).map(|sector| sector * SECTOR) {
                    if rng.random_bool(0.5) {
                        let lost = sector.max(first)..(sector + SECTOR).min(end);
                        let before = self.synced.get(lost.start..).unwrap_or_default();
                        let before = before.iter().copied().chain(std::iter::repeat(0));
                        contents[lost].iter_mut().zip(before).for_each(|(byte, before)| *byte = before);
                    }
                }
            }
            _ => {}
        }
        contents
    }
}

/// Stable storage at the moment of the cut, and what had not reached it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wreck {
    pub(super) names: BTreeMap<PathBuf, u64>,
    pub(super) unsynced_names: Vec<NameChange>,
    pub(super) nodes: Nodes,
    last_node: u64,
}

impl Wreck {
    pub(super) fn add(&mut self, node: Node) -> u64 {
        self.last_node += 1;
        self.nodes.insert(self.last_node, node);
        self.last_node
    }

    pub(super) fn sync_names(&mut self, dir: &Path) {
        for change in std::mem::take(&mut self.unsynced_names) {
            if change.dir() == Some(dir) {
                change.apply(&mut self.names);
            } else {
                self.unsynced_names.push(change);
            }
        }
    }

    /// Writes below `to` what is found of the files below `from` afterwards: `fate` for every file, or chance.
    pub(crate) fn salvage(
        &self,
        from: &Path,
        to: &Path,
        fate: Option<Fate>,
        rng: &mut ChaCha8Rng,
    ) -> Salvage {
        let mut names = self.names.clone();
        let kept = match fate {
            Some(Fate::Dropped) => 0,
            _ => rng.random_range(0..=self.unsynced_names.len()),
        };
        self.unsynced_names[..kept].iter().for_each(|change| change.apply(&mut names));
        let mut salvage = Salvage { names_kept: (kept, self.unsynced_names.len()), files: Vec::new() };
        for (path, node) in names {
            let Ok(relative) = path.strip_prefix(from) else { continue };
            let node = &self.nodes[&node];
            let fate = fate.unwrap_or_else(|| FATES[rng.random_range(0..FATES.len())]);
            let contents = node.after(fate, rng);
            let target = to.join(relative);
            fs::create_dir_all(target.parent().expect("it is below a directory")).unwrap();
            fs::write(&target, contents).unwrap();
            if !node.pending.is_empty() {
                salvage.files.push((relative.into(), fate, node.pending.len()));
            }
        }
        salvage
    }
}

/// What was done to the unsynced part, for messages.
#[derive(Debug)]
pub(crate) struct Salvage {
    names_kept: (usize, usize),
    files: Vec<(PathBuf, Fate, usize)>,
}

impl fmt::Display for Salvage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} unsynced names kept", self.names_kept.0, self.names_kept.1)?;
        for (path, fate, changes) in &self.files {
            write!(f, ", {}: {changes} unsynced changes {fate:?}", path.display())?;
        }
        Ok(())
    }
}
