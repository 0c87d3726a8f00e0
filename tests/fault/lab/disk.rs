//! A disk that fails, stalls and loses its power on demand, under a gateway in this process.
//!
//! Real files take what is written and are read from. Beside them stands what stable storage would hold: contents by
//! the last sync of each file, names by the last sync of their directory. A failed sync loses what it was to make
//! durable, as Linux does, and syncing again does not bring it back. A sync costs no time unless it is told to.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use gateway_storage::log::segments::disk::{Disk, RealDisk, SegmentFile};

use super::wreck::{Change, NameChange, Node, Wreck};

/// The errors that a disk gives, as the kernel numbers them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Errno {
    NoSpace,
    Io,
}

impl Errno {
    fn error(self) -> io::Error {
        io::Error::from_raw_os_error(match self {
            Self::NoSpace => rustix::io::Errno::NOSPC.raw_os_error(),
            Self::Io => rustix::io::Errno::IO.raw_os_error(),
        })
    }
}

/// What goes wrong, and when.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fault {
    /// The operation that is the first to fail, counted from 1.
    pub(crate) at: u64,
    pub(crate) errno: Errno,
    /// Later ones fail as well, until the fault is lifted: all of them, or those that need space.
    pub(crate) lasting: bool,
}

/// One operation that changes something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    Create,
    Remove,
    Rename,
    SyncDir,
    Write,
    Sync,
    SetLen,
    Allocate,
}

/// A handle; clones share the disk.
#[derive(Clone, Debug, Default)]
pub(crate) struct LabDisk(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    wreck: Wreck,
    /// The names as they are.
    names: BTreeMap<PathBuf, u64>,
    fault: Option<Fault>,
    /// The fault has struck.
    struck: bool,
    operations: u64,
    /// How long each sync takes.
    sync_takes: Duration,
    longest_sync: Duration,
    syncing: bool,
    /// The power is off.
    off: bool,
    /// Every write so far: its file, its place and its length.
    writes: Vec<(PathBuf, u64, usize)>,
}

impl LabDisk {
    /// Plans a fault.
    pub(crate) fn fail(&self, fault: Fault) {
        self.lock().fault = Some(fault);
    }

    /// The fault is over, or will never come.
    pub(crate) fn lift(&self) {
        self.lock().fault = None;
    }

    /// Whether the fault has struck.
    pub(crate) fn has_struck(&self) -> bool {
        self.lock().struck
    }

    /// Operations that changed something, or were to.
    pub(crate) fn operations(&self) -> u64 {
        self.lock().operations
    }

    /// How long each sync takes from now on; one under way included.
    pub(crate) fn set_sync_time(&self, sync_takes: Duration) {
        self.lock().sync_takes = sync_takes;
        self.0.changed.notify_all();
    }

    /// The longest time a sync took, planned or not.
    pub(crate) fn longest_sync(&self) -> Duration {
        self.lock().longest_sync
    }

    /// Waits until a sync is under way.
    pub(crate) fn wait_for_sync(&self, limit: Duration) -> bool {
        let end = Instant::now() + limit;
        let mut state = self.lock();
        while !state.syncing {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            state = self.0.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    /// Whether stable storage holds `bytes` in some file.
    pub(crate) fn has_synced(&self, bytes: &[u8]) -> bool {
        self.lock().wreck.nodes.values().any(|node| find(&node.synced, bytes).is_some())
    }

    /// Every write so far: its file, its place and its length.
    pub(crate) fn writes(&self) -> Vec<(PathBuf, u64, usize)> {
        self.lock().writes.clone()
    }

    /// The power fails: nothing has an effect any more. What may be found afterwards.
    pub(crate) fn cut_power(&self) -> Wreck {
        let mut state = self.lock();
        state.off = true;
        std::mem::take(&mut state.wreck)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wrap(&self, node: u64, path: &Path, file: Box<dyn SegmentFile>) -> Box<dyn SegmentFile> {
        Box::new(LabFile { disk: self.clone(), node, path: path.into(), file })
    }
}

impl State {
    /// Counts an operation; the error with which it is to fail.
    fn begin(&mut self, operation: Operation) -> io::Result<()> {
        if self.off {
            return Err(Errno::Io.error());
        }
        self.operations += 1;
        let Some(Fault { at, errno, lasting }) = self.fault else { return Ok(()) };
        if self.operations < at {
            return Ok(());
        }
        let first = !self.struck;
        self.struck = true;
        let needs_space = matches!(operation, Operation::Create | Operation::Write | Operation::Allocate);
        let hit = first || (lasting && (errno == Errno::Io || needs_space));
        if hit { Err(errno.error()) } else { Ok(()) }
    }

    fn change(&mut self, node: u64, change: Change) {
        if let Some(node) = self.wreck.nodes.get_mut(&node) {
            node.pending.push(change);
        }
    }

    fn rename(&mut self, change: NameChange) {
        change.apply(&mut self.names);
        self.wreck.unsynced_names.push(change);
    }
}

impl Disk for LabDisk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn SegmentFile>> {
        let mut state = self.lock();
        state.begin(Operation::Create)?;
        let file = RealDisk.create(path)?;
        let node = state.wreck.add(Node::default());
        state.rename(NameChange::Add(path.into(), node));
        Ok(self.wrap(node, path, file))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn SegmentFile>> {
        let mut state = self.lock();
        let file = RealDisk.open(path)?;
        let node = match state.names.get(path) {
            Some(node) => *node,
            None => {
                let node = state.wreck.add(Node { synced: std::fs::read(path)?, pending: Vec::new() });
                state.names.insert(path.into(), node);
                state.wreck.names.insert(path.into(), node);
                node
            }
        };
        Ok(self.wrap(node, path, file))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.lock();
        state.begin(Operation::Remove)?;
        RealDisk.remove(path)?;
        state.rename(NameChange::Remove(path.into()));
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.lock();
        state.begin(Operation::Rename)?;
        RealDisk.rename(from, to)?;
        state.rename(NameChange::Rename(from.into(), to.into()));
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<OsString>> {
        RealDisk.list(dir)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.lock();
        state.begin(Operation::SyncDir)?;
        state.wreck.sync_names(dir);
        Ok(())
    }

    fn available(&self, dir: &Path) -> io::Result<u64> {
        let state = self.lock();
        match state.fault {
            Some(Fault { errno: Errno::NoSpace, lasting: true, .. }) if state.struck => Ok(0),
            _ => RealDisk.available(dir),
        }
    }
}

#[derive(Debug)]
struct LabFile {
    disk: LabDisk,
    node: u64,
    path: PathBuf,
    file: Box<dyn SegmentFile>,
}

impl SegmentFile for LabFile {
    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        let mut state = self.disk.lock();
        let begun = state.begin(Operation::Write);
        if state.off {
            return begun;
        }
        // A disk that fills up takes what there is room for.
        let taken = if begun.is_ok() { bytes } else { &bytes[..bytes.len() / 2] };
        self.file.write_at(taken, at)?;
        state.change(self.node, Change::Write { at, bytes: taken.into() });
        state.writes.push((self.path.clone(), at, taken.len()));
        begun
    }

    fn read_at(&self, into: &mut [u8], at: u64) -> io::Result<usize> {
        self.file.read_at(into, at)
    }

    fn sync_data(&self) -> io::Result<()> {
        let began = Instant::now();
        let mut state = self.disk.lock();
        let begun = state.begin(Operation::Sync);
        // What is written while it is under way is not part of it.
        let covered = state.wreck.nodes.get(&self.node).map_or(0, |node| node.pending.len());
        state.syncing = true;
        self.disk.0.changed.notify_all();
        loop {
            let left = state.sync_takes.saturating_sub(began.elapsed());
            if left.is_zero() || state.off {
                break;
            }
            state = self.disk.0.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        state.syncing = false;
        state.longest_sync = state.longest_sync.max(began.elapsed());
        if state.off {
            return Err(Errno::Io.error());
        }
        if let Some(node) = state.wreck.nodes.get_mut(&self.node) {
            let changes: Vec<Change> = node.pending.drain(..covered).collect();
            if begun.is_ok() {
                changes.iter().for_each(|change| change.apply(&mut node.synced));
            }
        }
        begun
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.disk.lock();
        state.begin(Operation::SetLen)?;
        self.file.set_len(len)?;
        state.change(self.node, Change::SetLen(len));
        Ok(())
    }

    fn allocate(&self, from: u64, len: u64) -> io::Result<()> {
        let mut state = self.disk.lock();
        state.begin(Operation::Allocate)?;
        self.file.allocate(from, len)?;
        state.change(self.node, Change::Allocate(len));
        Ok(())
    }

    fn size(&self) -> io::Result<u64> {
        self.file.size()
    }
}

/// Where `wanted` lies in `bytes`.
pub(crate) fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    let first = *wanted.first()?;
    let mut from = 0;
    while let Some(at) = bytes.get(from..)?.iter().position(|&byte| byte == first) {
        if bytes[from + at..].starts_with(wanted) {
            return Some(from + at);
        }
        from += at + 1;
    }
    None
}

/// What the disk of a test knows of its nodes.
pub(crate) type Nodes = HashMap<u64, Node>;
