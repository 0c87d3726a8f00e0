//! The engine on real files on a failing disk, and what it shows. A crash is a copy of the data directory as it lies there at that moment,
//! with every file of the log cut to what was synced, and perhaps a torn tail.

use super::entries::Owned;
use super::plain::{Message, Session, Sessions, Wrong, ensure};
use crate::engine::tests::{Bell, Hands, WAIT, options, stream};
use crate::engine::{DueBatch, DueReader, Engine, Fetch, Rules, StreamOptions};
use gateway_protocol::TopicFilter;
use gateway_storage::log::faulty_disk::FaultyDisk;
use gateway_storage::{
    LogKind, Offset, SegmentsOptions, Staging, StoreOptions, SubmitError, Ticket, Urgency, recovery,
};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};
use tempfile::TempDir;

pub(super) const SEGMENT_BYTES: u64 = 1024;
const YEAR_MS: u64 = 365 * 86_400_000;
/// Streams: names, topics, and what they may keep.
pub(super) const STREAMS: [(&str, &str, u64); 2] = [("large", "a/#", 2000), ("small", "b/#", 1000)];

/// How an engine is run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Setup {
    pub(super) rules: Rules,
    /// The view is saved soon after there is something, or at start and end alone.
    pub(super) saves: bool,
}

/// Looks on when a group has been applied and nobody is told yet.
#[derive(Default)]
struct Onlooker {
    engine: OnceLock<Engine>,
    /// What is being committed.
    ticket: Mutex<Option<Ticket>>,
    /// There was a receipt for it.
    is_early: AtomicBool,
}

impl Onlooker {
    fn look(&self) {
        let ticket = *self.ticket.lock().unwrap();
        let receipt = self.engine.get().and_then(Engine::receipt);
        if ticket.is_some_and(|ticket| receipt.is_some_and(|receipt| receipt.covers(ticket))) {
            self.is_early.store(true, Ordering::Relaxed);
        }
    }
}

pub(super) struct Rig {
    hands: Hands,
    onlooker: Arc<Onlooker>,
    dir: TempDir,
    disk: FaultyDisk,
    setup: Setup,
    is_rebuilt: bool,
    /// What upkeep takes for the time.
    now_ms: u64,
}

impl Rig {
    pub(super) fn open(dir: TempDir, setup: Setup) -> Result<Self, Wrong> {
        let disk = FaultyDisk::new();
        let segments = SegmentsOptions { segment_bytes: SEGMENT_BYTES, reserve_bytes: 0 };
        let store_options = StoreOptions {
            log: LogKind::Segments(segments),
            reserve_bytes: 0,
            disk: Arc::new(disk.clone()),
            ..StoreOptions::default()
        };
        let store = recovery::open(dir.path(), store_options).map_err(|error| error.to_string())?;
        let is_rebuilt = store.view_report.rebuilt.is_some();
        let streams = STREAMS.iter().map(|(name, topics, max_bytes)| StreamOptions {
            max_age_ms: 100 * YEAR_MS,
            max_bytes: *max_bytes,
            ..stream(name, topics)
        });
        let mut options = options(streams.collect(), setup.rules);
        options.segment_bytes = SEGMENT_BYTES;
        options.recent_bytes = 0;
        options.commit.reopen_delay = Duration::from_millis(1);
        options.view_save_interval = Duration::from_millis(if setup.saves { 1 } else { 3_600_000 });
        let onlooker = Arc::new(Onlooker::default());
        let sink = Box::new({
            let onlooker = onlooker.clone();
            move |_: &_| onlooker.look()
        });
        let engine = Engine::start(store.log, store.view, store.checkpoints, store.reserve, options, sink);
        let engine = engine.map_err(|error| error.to_string())?;
        let _ = onlooker.engine.set(engine.clone());
        Ok(Self {
            hands: Hands::on(engine),
            onlooker,
            dir,
            disk,
            setup,
            is_rebuilt,
            now_ms: crate::clock::unix_ms(),
        })
    }

    pub(super) fn engine(&self) -> &Engine {
        &self.hands.engine
    }

    pub(super) fn disk(&self) -> &FaultyDisk {
        &self.disk
    }

    pub(super) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Whether the view had to be made anew.
    pub(super) fn is_rebuilt(&self) -> bool {
        self.is_rebuilt
    }

    /// Waits until `done`.
    pub(super) fn wait(&self, what: &str, mut done: impl FnMut(&Engine) -> bool) -> Result<(), Wrong> {
        let deadline = Instant::now() + WAIT;
        let Bell { rung, changed } = &*self.hands.bell;
        let mut rung = rung.lock().unwrap();
        while !done(self.engine()) {
            ensure!(Instant::now() < deadline, "{what}: nothing came of it");
            (rung, _) = changed.wait_timeout(rung, Duration::from_millis(1)).unwrap();
        }
        Ok(())
    }

    pub(super) fn submit(&self, entries: &[Owned]) -> Result<Ticket, SubmitError> {
        let mut staging = Staging::new();
        for entry in entries {
            staging.push(&entry.entry()).unwrap();
        }
        self.engine().submit(&mut staging, Urgency::Now, &self.hands.waker, None)
    }

    pub(super) fn commit(&self, entries: &[Owned]) -> Result<(), Wrong> {
        let mut expected = self.onlooker.ticket.lock().unwrap();
        let ticket = self.submit(entries).map_err(|error| error.to_string())?;
        *expected = Some(ticket);
        drop(expected);
        self.wait("a receipt", |engine| engine.receipt().is_some_and(|receipt| receipt.covers(ticket)))?;
        *self.onlooker.ticket.lock().unwrap() = None;
        ensure!(!self.onlooker.is_early.load(Ordering::Relaxed), "a receipt came before all was applied");
        Ok(())
    }

    /// Whether the group was receipted, once the log takes entries again.
    pub(super) fn outcome(&self, ticket: Ticket) -> Result<bool, Wrong> {
        let mut markers = Vec::new();
        let mut is_covered = false;
        self.wait("the log to be open again", |engine| {
            markers.extend(self.submit(&[Owned::nothing()]).ok());
            let Some(receipt) = engine.receipt() else { return false };
            is_covered |= receipt.covers(ticket);
            markers.iter().any(|marker| receipt.covers(*marker))
        })?;
        // Those that were submitted after it are in the log by the time it is looked at.
        if let Some(last) = markers.last().copied() {
            self.wait("what was submitted last", |engine| {
                engine.receipt().is_some_and(|receipt| receipt.covers(last) || receipt.outlives(last))
            })?;
        }
        Ok(is_covered)
    }

    /// Everything in the log from `from` on.
    pub(super) fn read(&self, from: u64) -> Result<Vec<(u64, Owned)>, Wrong> {
        let mut found = Vec::new();
        let mut at = Offset::new(from);
        while let Some(page) =
            self.engine().log().read_page(at, 1 << 16).map_err(|error| error.to_string())?
        {
            ensure!(page.skipped.is_empty(), "skipped: {:?}", page.skipped);
            for index in page.batch.index_from(at)..page.batch.len() {
                let (offset, entry) = (page.batch.offset_of(index), page.batch.entry(index));
                let (Some(offset), Some(entry)) = (offset, entry) else {
                    return Err("an illegible entry".into());
                };
                found.push((offset.get(), Owned::of(&entry)));
            }
            at = page.next;
        }
        Ok(found)
    }

    /// What the engine shows of its sessions, read as a connection would.
    pub(super) fn sessions(&self) -> Result<Sessions, Wrong> {
        let mut sessions = Sessions::new();
        for session in self.engine().sessions() {
            let (mut reader, mut batch) = (DueReader::default(), DueBatch::default());
            let mut shown = Session::default();
            let mut at = 0;
            loop {
                match session.fetch(at, &mut reader, &mut batch) {
                    Fetch::Nothing => break,
                    Fetch::GivenUp(given_up) => {
                        shown.open.extend(given_up.first..given_up.end);
                        at = given_up.end;
                    }
                    Fetch::NotInMemory(first) => {
                        let chunk = self.engine().chunks().load(&session.client_id, first);
                        reader.give(chunk.map_err(|error| error.to_string())?);
                    }
                    Fetch::Some => {
                        for run in batch.runs() {
                            for n in 0..u64::from(run.len) {
                                let message = Message {
                                    offset: run.offset.get() + n,
                                    qos: run.profile.qos as u8,
                                    retained: run.profile.is_retained,
                                    as_published: run.profile.retain_as_published,
                                    ids: run.profile.subscription_ids.as_deref().unwrap_or_default().to_vec(),
                                    group: run.profile.group.as_deref().map(str::to_owned),
                                    received: run.is_received,
                                };
                                shown.pending.insert(run.sequence + n, message);
                            }
                            at = run.sequence + u64::from(run.len);
                        }
                    }
                }
            }
            let state = session.state();
            ensure!(
                state.backlog.pending() == shown.pending.len() as u64,
                "{} says it has {} messages, and has {}",
                session.client_id,
                state.backlog.pending(),
                shown.pending.len()
            );
            (shown.connected, shown.expiry_secs) = (state.connected, state.expiry_secs);
            shown.next = state.backlog.end();
            shown.packets = state.received.clone();
            let grants = state.subscriptions.iter();
            shown.subscriptions = grants
                .map(|(filter, grant)| {
                    let grant =
                        (grant.qos as u8, grant.retain_as_published, grant.no_local, grant.subscription_id);
                    (filter.to_string(), grant)
                })
                .collect();
            sessions.insert(session.client_id.to_string(), shown);
        }
        Ok(sessions)
    }

    /// Retained Messages: topics, offsets, payloads.
    pub(super) fn retained(&self) -> Vec<(String, u64, Vec<u8>)> {
        let mut found: Vec<_> = self
            .engine()
            .retained(TopicFilter::parse("#").unwrap())
            .iter()
            .map(|message| {
                (message.event().topic.to_owned(), message.offset().get(), message.event().payload.to_vec())
            })
            .collect();
        found.sort();
        found
    }

    /// Everything so far is in the saved view, if this one saves.
    pub(super) fn save(&self) -> Result<(), Wrong> {
        if !self.setup.saves {
            return Ok(());
        }
        self.wait("the view to be saved", |engine| engine.view.saved() == engine.end())
    }

    pub(super) fn checkpoint(&self) -> Result<(), Wrong> {
        self.save()?;
        self.wait("a checkpoint", |engine| engine.view.try_checkpoint())?;
        self.engine().view.wait_idle();
        let failed = self.engine().checkpoints().failed;
        ensure!(failed.is_none(), "{failed:?}");
        Ok(())
    }

    /// Has a checkpoint written as far as its sync, where there is anything to write.
    pub(super) fn begin_checkpoint(&self) -> Result<(), Wrong> {
        self.save()?;
        let faults = self.disk.faults();
        if self.engine().checkpoints().newest == Some(self.engine().view.saved()) {
            return Ok(());
        }
        faults.stall_sync();
        self.wait("a checkpoint", |engine| engine.view.try_checkpoint())?;
        // After a start with an older view, what replays has saved meanwhile may be what the newest has.
        self.wait("a checkpoint to be written", |engine| {
            let known = engine.checkpoints();
            faults.is_stalled() || known.failed.is_some() || known.newest == Some(engine.view.saved())
        })?;
        let failed = self.engine().checkpoints().failed;
        ensure!(failed.is_none(), "{failed:?}");
        Ok(())
    }

    /// Has a checkpoint hang, so that nothing is saved until [`Rig::let_go_of_view`]. False where there is nothing to write, or this one
    /// does not save.
    pub(super) fn keep_view_busy(&self) -> Result<bool, Wrong> {
        self.save()?;
        if !self.setup.saves || self.engine().checkpoints().newest == Some(self.engine().view.saved()) {
            return Ok(false);
        }
        let faults = self.disk.faults();
        faults.stall_one_sync();
        self.wait("a checkpoint", |engine| engine.view.try_checkpoint())?;
        self.wait("a checkpoint to be written", |engine| {
            let known = engine.checkpoints();
            faults.is_stalled() || known.newest == Some(engine.view.saved())
        })?;
        let hangs = faults.is_stalled();
        if !hangs {
            faults.release_sync();
        }
        Ok(hangs)
    }

    /// Waits until one more save was refused.
    pub(super) fn await_refused_save(&self, before: u64) -> Result<(), Wrong> {
        self.wait("a save to be refused", |engine| engine.view.refused() > before)
    }

    pub(super) fn let_go_of_view(&self) -> Result<(), Wrong> {
        self.disk.faults().release_sync();
        self.engine().view.wait_idle();
        self.save()
    }

    /// One turn of upkeep, and what it asked for.
    pub(super) fn retain(&mut self) -> Result<(), Wrong> {
        self.save()?;
        self.now_ms += 6_000;
        self.engine().retain(self.now_ms);
        self.engine().view.wait_idle();
        Ok(())
    }

    /// The view as it lies on disk, copied while nothing is written to it.
    pub(super) fn copy_view(&self, to: &Path) -> Result<(), Wrong> {
        let from = self.dir().join("view");
        self.wait("the view to come to rest", |engine| {
            let before = (engine.view.saved(), listing(&from));
            let _ = fs::remove_dir_all(to);
            copy(&from, to);
            before == (engine.view.saved(), listing(&from))
        })
    }

    /// Stops it as it should be, and gives the directory back.
    pub(super) fn stop(self) -> TempDir {
        let Self { hands, dir, .. } = self;
        hands.engine.shutdown();
        dir
    }

    /// What is left when the power fails now; of what is not synced, the first `torn` bytes of each file survive.
    pub(super) fn crash(&self, torn: u64) -> Result<TempDir, Wrong> {
        let left = new_dir();
        self.copy_view(&left.path().join("view"))?;
        for name in ["log", "checkpoint"] {
            let (from, to) = (self.dir().join(name), left.path().join(name));
            copy(&from, &to);
            for (path, len) in files(&to) {
                let original = from.join(path.file_name().unwrap());
                let survives = self.disk.synced(&original).unwrap_or(len).saturating_add(torn);
                fs::File::options().write(true).open(path).unwrap().set_len(len.min(survives)).unwrap();
            }
        }
        Ok(left)
    }
}

/// A directory in memory where there is such: what is synced is the faulty disk's to say.
pub(super) fn new_dir() -> TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

/// The files of a directory, with their lengths.
pub(super) fn files(dir: &Path) -> Vec<(PathBuf, u64)> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    let mut files: Vec<_> = entries
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let known = entry.metadata().ok()?;
            known.is_file().then(|| (entry.path(), known.len()))
        })
        .collect();
    files.sort();
    files
}

/// The checkpoints in a data directory, the oldest first: up to where each is applied, and its file.
pub(super) fn checkpoints(dir: &Path) -> Vec<(u64, PathBuf)> {
    let applied = |path: &Path| path.file_name()?.to_str()?.strip_suffix(".ckpt")?.parse().ok();
    let found = files(&dir.join("checkpoint")).into_iter();
    found.filter_map(|(path, _)| Some((applied(&path)?, path))).collect()
}

fn listing(dir: &Path) -> Vec<(PathBuf, u64, Option<std::time::SystemTime>)> {
    let changed = |path: &Path| fs::metadata(path).and_then(|known| known.modified()).ok();
    let mut found: Vec<_> =
        files(dir).into_iter().map(|(path, len)| (path.clone(), len, changed(&path))).collect();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            found.extend(listing(&entry.path()));
        }
    }
    found
}

/// Copies a directory.
pub(super) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).into_iter().flatten().flatten() {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            // A file that vanishes meanwhile was not there to be copied.
            let _ = fs::copy(entry.path(), target);
        }
    }
}
