//! The seam to what is durable: entries go in, receipts and applied changes come out.
//!
//! ```text
//!  submit() --> open group --> committer: append, sync --> applier: apply to the view --> sink (delivery)
//!     |                              (gateway-storage)        |  publish receipt, wake contributors
//!     +--- Ticket ---------------------------------------------> receipt().covers(ticket)
//! ```
//!
//! What it promises: a receipt is visible only after the sync *and* after its entries were applied, so whoever is told "done" finds
//! the view changed; entries are applied in log order; a restart restores the view before anything is submitted. The hand-over
//! between the threads is bounded: when applying is slow, committing waits, and with it every acknowledgement.
//!
//! Nothing here knows connections or packets; whoever has to be woken gives a [`Waker`].

mod apply;
mod apply_loop;
mod backlog;
mod consumers;
mod dead_letters;
mod dedup;
mod fate;
mod held;
mod lookups;
pub mod metrics;
mod quota_log;
mod ranges;
mod recent;
mod recovery;
mod retained;
mod retention;
mod rules;
mod session;
mod snapshot;
mod stored;
mod streams;
mod table;
#[cfg(test)]
mod tests;
mod trimming;
mod will;

pub use apply::{Ending, sends_retained};
pub use backlog::{
    AckRuns, BacklogLimits, DueBatch, DueReader, DueRun, Fetch, GivenUp, LoadedChunk, Profile,
};
pub use consumers::{
    CONSUMER_NAME_BYTES_MAX, Cause, ConsumerEntry, ConsumerSpec, ConsumerState, OffsetRuns, OpenItem, Order,
    Progress, WORKER_BYTES_MAX, is_consumer_name,
};
pub use dead_letters::{DeadLetter, LetterFacts, LetterLimits, LetterUsage, LettersChange, NOTE_BYTES_MAX};
pub use dedup::{DedupOptions, DedupStats, Identity, NamedEvents, Novelty};
pub use fate::Fate;
pub use retained::RetainedMessage;
pub use retention::Holder;
pub use rules::{Rules, ShareStrategy, WhenFull};
pub use session::{DurableSession, SessionState};
pub use snapshot::pending::{ChunkError, Chunks};
pub use stored::Unavailable;
pub use streams::{STREAMS_MAX, SetStreamError, StreamInfo, StreamOptions};
pub use table::Interest;
pub use trimming::RetentionReport;
pub use will::{Will, WillMessage};

use crate::decisions::DecisionLog;
use apply::Applier;
use apply_loop::ApplyLoop;
use gateway_storage::{
    Batch, Checkpoints, CommitState, CommittedGroup, Durable, GroupCommit, GroupCommitOptions, Log,
    LogReader, Offset, ReadError, ReceiptCell, Reserve, Staging, StoreError, SubmitError, Ticket, Urgency,
    View, ViewWriter,
};
use quota_log::QuotaLog;
use recent::{Found, Recent};
use snapshot::rounds::Rounds;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::Waker;
use std::thread::JoinHandle;
use std::time::Duration;
use table::Table;
use trimming::Trimming;

/// Groups between the committer and the applier.
const HAND_OVER_GROUPS: usize = 2;
/// Bytes in one page read back from the log.
pub const PAGE_BYTES: usize = 256 * 1024;

/// How an engine is to be run.
pub struct EngineOptions {
    /// How long changes may wait before the view is saved.
    pub view_save_interval: Duration,
    /// The configured streams.
    pub streams: Vec<StreamOptions>,
    /// How long the names of events are remembered.
    pub dedup: DedupOptions,
    /// By which rules entries are applied from now on.
    pub rules: Rules,
    /// How long dead letters are kept, in milliseconds.
    pub letters_max_age_ms: u64,
    /// Bytes of one segment of the log: what trimming can gain.
    pub segment_bytes: u64,
    /// Bytes of newest batches kept in memory.
    pub recent_bytes: usize,
    /// The committer's options.
    pub commit: GroupCommitOptions,
}

/// Takes what was applied and delivers it to live subscribers. Called on the applier's thread, in log order.
pub type Sink = Box<dyn FnMut(&Arc<Batch>) + Send>;

/// The engine did not start.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The saved view can neither be read nor made anew.
    #[error("the view cannot be restored: {0}")]
    View(#[from] StoreError),
    /// The log cannot be read back.
    #[error("the log cannot be read: {0}")]
    Log(#[from] ReadError),
    /// A part of a backlog cannot be read back.
    #[error("the view cannot be brought up to the log: {0}")]
    Backlog(#[from] ChunkError),
    /// A thread cannot be started.
    #[error("a thread cannot be started: {0}")]
    Thread(#[from] std::io::Error),
}

/// What [`Engine::read`] found.
pub enum Read {
    /// The batch that holds the offset.
    Batch(Arc<Batch>),
    /// Not in memory any more: read a page from [`Engine::log`].
    OnDisk,
    /// Nothing is there yet; the waker given is woken when something is.
    End,
}

struct Shared {
    table: Arc<Table>,
    recent: Recent,
    receipts: ReceiptCell,
    tail_waiters: Mutex<Vec<Waker>>,
    /// Messages whose acknowledgement is on its way although they were never sent.
    undeliverable: AtomicU64,
    /// A checkpoint before the end is worth its while.
    checkpoint_at_end: AtomicBool,
    /// The applier has ended because the view could not follow the log.
    has_lost_view: AtomicBool,
    /// Where backlogs read back what they have let go of.
    chunks: Arc<dyn Chunks>,
    /// Where it is told what sessions had to give up.
    decisions: OnceLock<DecisionLog>,
}

impl Shared {
    /// How many of `acknowledged` messages were never sent.
    fn take_undeliverable(&self, acknowledged: u64) -> u64 {
        let count = self.undeliverable.load(Ordering::Relaxed).min(acknowledged);
        if count > 0 {
            self.undeliverable.fetch_sub(count, Ordering::Relaxed);
        }
        count
    }
}

/// A handle on the engine; cheap to clone.
#[derive(Clone)]
pub struct Engine {
    shared: Arc<Shared>,
    commit: GroupCommit,
    log: Arc<dyn LogReader>,
    log_bytes_max: u64,
    segment_bytes: u64,
    letters_max_age_ms: u64,
    rules: Rules,
    view: Arc<ViewWriter>,
    trimming: Arc<Trimming>,
    applier: Arc<Mutex<Option<JoinHandle<()>>>>,
}

impl Engine {
    /// Restores the view from what was saved, or from a checkpoint, and from the log's tail, then starts committer and applier.
    ///
    /// # Errors
    /// [`EngineError`]; nothing runs then.
    pub fn start(
        log: Box<dyn Log>,
        view: View,
        mut checkpoints: Checkpoints,
        reserve: Arc<Reserve>,
        options: EngineOptions,
        sink: Sink,
    ) -> Result<Self, EngineError> {
        let reader = log.reader();
        let table = Arc::new(Table::with_names(&options.streams, options.dedup));
        let mut applier = Applier::new(table.clone(), options.rules);
        let saved = recovery::restore(&mut applier, view, &mut checkpoints, reader.as_ref())?;
        table.dedup.restored();
        let shared = Arc::new(Shared {
            table,
            recent: Recent::new(options.recent_bytes, log.next_offset()),
            receipts: ReceiptCell::new(),
            tail_waiters: Mutex::new(Vec::new()),
            undeliverable: AtomicU64::new(0),
            checkpoint_at_end: AtomicBool::new(false),
            has_lost_view: AtomicBool::new(false),
            chunks: saved.clone(),
            decisions: OnceLock::new(),
        });
        let fresh = log.next_offset() == Offset::ZERO;
        let losses = applier.rules().losses.wrapping_add(u32::from(applier.has_losses()));
        let rules = Rules { losses, ..options.rules };
        let rules_differ = fresh || applier.rules() != rules;
        let view = Arc::new(ViewWriter::start(saved, checkpoints, reserve.clone())?);
        let (hand_over, groups) = sync_channel(HAND_OVER_GROUPS);
        let loop_ = ApplyLoop {
            shared: shared.clone(),
            applier,
            view: view.clone(),
            refused: None,
            rounds: Rounds::default(),
            save_interval: options.view_save_interval,
            applied: log.next_offset(),
            quota_log: QuotaLog::new(options.rules.when_full),
            sink,
        };
        let thread = std::thread::Builder::new().name("applier".into()).spawn(move || loop_.run(&groups))?;
        let log_bytes_max = options.commit.max_bytes;
        let commit = GroupCommit::start_gated(
            log,
            options.commit,
            Box::new(crate::clock::unix_ms),
            hand_over_to(hand_over),
            // A log that failed for want of space takes events again once there is room for the reserve, too.
            Box::new(move || reserve.restore()),
        )?;
        let engine = Self {
            shared,
            commit,
            log: reader,
            log_bytes_max,
            segment_bytes: options.segment_bytes,
            letters_max_age_ms: options.letters_max_age_ms,
            rules: options.rules,
            view,
            trimming: Arc::default(),
            applier: Arc::new(Mutex::new(Some(thread))),
        };
        // The size of the log is known from the first commit or trim on. Nothing lies below zero.
        if let Err(error) = engine.commit.trim(Offset::ZERO) {
            tracing::warn!(%error, "the log cannot be trimmed");
        }
        // Before anybody reads a stream it begins where it should.
        engine.stream_needs(&mut HashMap::new(), engine.end(), crate::clock::unix_ms());
        if rules_differ {
            engine.change_rules(&rules);
        }
        metrics::restored(engine.sessions().iter().map(|session| session.state().backlog.pending()).sum());
        engine.close_sessions_left_open();
        Ok(engine)
    }

    /// Puts the configured rules into force, as the first entry of this run.
    fn change_rules(&self, rules: &Rules) {
        let mut staging = Staging::new();
        // An entry this small is always taken, and a log that takes nothing now keeps its rules until the next start.
        let _ = staging.push(&gateway_storage::Entry::RulesChanged { rules: &rules.encode() });
        let _ = self.commit.submit(&mut staging, Urgency::Now, Waker::noop(), None);
    }

    /// Sessions that were connected when the gateway stopped without a word are closed now, as an entry of the log, and their wills are
    /// due after their delays.
    fn close_sessions_left_open(&self) {
        let mut staging = Staging::new();
        for session in self.shared.table.sessions() {
            let mut state = session.state();
            if state.connected {
                // Up to where messages were sent is not known: everything that waits may have been.
                state.sent_end = state.backlog.end();
                let entry = gateway_storage::Entry::SessionClosed {
                    client_id: &session.client_id,
                    at_ms: crate::clock::unix_ms(),
                    expiry_secs: state.expiry_secs,
                    state: &Ending { sent_end: state.sent_end, with_all: true }.encode(),
                };
                // An entry this small is never too large.
                let _ = staging.push(&entry);
            }
        }
        for (client_id, will) in self.wills() {
            if will.due_at_ms.is_none() {
                let expiry_secs = self.session(&client_id).map_or(0, |session| session.state().expiry_secs);
                let delay_secs = will.delay_secs.min(expiry_secs);
                let at_ms = crate::clock::unix_ms().saturating_add(u64::from(delay_secs) * 1000);
                let _ = staging.push(&gateway_storage::Entry::WillDue { client_id: &client_id, at_ms });
            }
        }
        if !staging.is_empty() {
            // If the log takes nothing now, the sessions stay open in the view and are closed at the next start.
            let _ = self.commit.submit(&mut staging, Urgency::Now, Waker::noop(), None);
        }
    }

    /// `count` messages are going to be acknowledged without having been sent: expired, too large, or lost by the log. For the books.
    pub fn note_undeliverable(&self, count: u64) {
        self.shared.undeliverable.fetch_add(count, Ordering::Relaxed);
    }

    /// Whether something durable wants `topic`. The answer is good while [`Engine::interest_epoch`] stands.
    #[must_use]
    pub fn interest(&self, topic: &str) -> Interest {
        self.shared.table.interest(topic)
    }

    /// Changes whenever an [`Interest`] may have changed.
    #[must_use]
    pub fn interest_epoch(&self) -> u64 {
        self.shared.table.router.epoch()
    }

    /// Copies what is staged into the open commit group and empties `staging`. `last` is the caller's previous ticket.
    ///
    /// # Errors
    /// [`SubmitError`]; `staging` is untouched then, and on `Full` the waker is woken when there is room.
    pub fn submit(
        &self,
        staging: &mut Staging,
        urgency: Urgency,
        waker: &Waker,
        last: Option<Ticket>,
    ) -> Result<Ticket, SubmitError> {
        self.commit.submit(staging, urgency, waker, last)
    }

    /// The newest receipt: everything it covers is on stable storage and applied.
    #[must_use]
    pub fn receipt(&self) -> Option<Durable> {
        self.shared.receipts.load()
    }

    /// What the committer is doing.
    #[must_use]
    pub fn commit_state(&self) -> CommitState {
        self.commit.state()
    }

    /// Whether the log has failed and is not open again, or the view cannot follow it: nothing durable is acknowledged.
    #[must_use]
    pub fn is_poisoned(&self) -> bool {
        self.has_lost_view() || matches!(self.commit.state(), CommitState::Poisoned { .. })
    }

    /// Whether the view could not follow the log, so that nothing durable is acknowledged until a restart.
    #[must_use]
    pub fn has_lost_view(&self) -> bool {
        self.shared.has_lost_view.load(Ordering::Acquire)
    }

    /// Where a backlog's chunk that is not in memory is read back. Its calls block on the disk.
    #[must_use]
    pub fn chunks(&self) -> &Arc<dyn Chunks> {
        &self.shared.chunks
    }

    /// Whether events are refused because the log has reached its limit, or will be, for less than half a percent of it is left.
    #[must_use]
    pub fn is_full(&self) -> bool {
        let nearly = self.log_bytes_max - self.log_bytes_max / 256;
        self.commit.refuses_events() || self.commit.stats().log_bytes >= nearly
    }

    /// The committer's figures.
    #[must_use]
    pub fn commit(&self) -> &GroupCommit {
        &self.commit
    }

    /// The log, for reading pages that are not in memory any more, and times. Its calls block on the disk.
    #[must_use]
    pub fn log(&self) -> &Arc<dyn LogReader> {
        &self.log
    }

    /// The end of what was applied.
    #[must_use]
    pub fn end(&self) -> Offset {
        self.shared.recent.end()
    }

    /// The batch that holds `offset`, if it is in memory. At the end of the log, `waker` is woken when it grows.
    #[must_use]
    pub fn read(&self, offset: Offset, waker: &Waker) -> Read {
        match self.shared.recent.find(offset) {
            Found::Batch(batch) => Read::Batch(batch),
            Found::Older => Read::OnDisk,
            Found::End => {
                let mut waiters = self.shared.tail_waiters.lock().unwrap_or_else(PoisonError::into_inner);
                // Looked at again under the lock that the applier takes after it has published the end: no wake-up is lost.
                if offset < self.shared.recent.end() {
                    drop(waiters);
                    waker.wake_by_ref();
                } else if !waiters.iter().any(|waiter| waiter.will_wake(waker)) {
                    waiters.push(waker.clone());
                }
                Read::End
            }
        }
    }

    /// Commits what was submitted, applies it, saves the view, and stops both threads. Blocks.
    pub fn shutdown(&self) {
        self.commit.shutdown();
        let thread = self.applier.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread
            && thread.join().is_err()
        {
            tracing::error!(
                "the applier ended in a panic; the view is rebuilt from the log at the next start"
            );
        }
    }
}

/// The committer's end of the hand-over. A send fails only when the applier is gone; then nothing is acknowledged any more.
fn hand_over_to(hand_over: SyncSender<CommittedGroup>) -> Box<dyn FnMut(CommittedGroup) + Send> {
    Box::new(move |group| {
        if hand_over.send(group).is_err() {
            tracing::error!("the applier is gone: stored events are acknowledged no more until a restart");
        }
    })
}
