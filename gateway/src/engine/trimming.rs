//! Trimming the log as far as nobody needs it, having checkpoints written so that this goes on, and making room when the log is nearly
//! full.
//!
//! [`Engine::retain`] is called once a second, on a thread that may block. It finds out from where on streams, sessions and checkpoints
//! need the log ([`super::retention`] compares them), and trims. Looking at all sessions is the dear part, so it is done every five
//! seconds, or each time while the log is large. Between two looks the older answer stands: what a backlog needs only moves on, and
//! what came later lies behind the end of that time.
//!
//! From nine tenths of `storage.max_bytes` on, whoever holds the log gives way as far as it may: sessions by an entry of the log
//! ([`Entry::BacklogCut`]), if the rules say so, and streams by beginning later. What may not give way is named in the gateway's log.

use super::Engine;
use super::retention::{Holder, Needs, Plan, cut_before};
use super::rules::WhenFull;
use super::streams::StreamOptions;
use gateway_storage::{
    CheckpointError, CheckpointState, Entry, LogReader, Offset, Staging, Urgency, ViewError, ViewWriter,
};
use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::task::Waker;

/// The time between two looks at all sessions, while there is room.
const LOOK_EVERY_MS: u64 = 5_000;
/// The time between two requests for a checkpoint.
const CHECKPOINT_EVERY_MS: u64 = 5_000;
/// The time between two lines that say who holds a log that is nearly full; and if that is somebody of another kind now.
const SAY_EVERY_MS: u64 = 60_000;
const SAY_CHANGE_EVERY_MS: u64 = 5_000;
/// Sessions cut in one turn; the others follow in the next.
const CUTS_MAX: usize = 10_000;
/// A checkpoint is due after as many times its own size of log.
const LOG_PER_CHECKPOINT: u64 = 8;

/// What became of trimming so far, for metrics and for those who ask why the log is full.
#[derive(Clone, Debug, Default)]
pub struct RetentionReport {
    /// Who holds the log.
    pub holder: Holder,
    /// The earliest offset in the log.
    pub earliest: Offset,
    /// The oldest message that waited for a session when that was last looked at.
    pub oldest_pending: Option<Offset>,
    /// Segments removed since the start.
    pub segments: u64,
    /// Bytes removed since the start.
    pub bytes: u64,
    /// Trims that failed.
    pub failures: u64,
    /// When the newest checkpoint was first seen, in milliseconds since the Unix epoch; 0: there is none.
    pub checkpoint_seen_ms: u64,
    /// Checkpoints that failed.
    pub checkpoint_failures: u64,
}

/// What is remembered from one turn to the next.
#[derive(Debug, Default)]
pub(super) struct Trimming {
    state: Mutex<State>,
    report: Mutex<RetentionReport>,
}

#[derive(Debug, Default)]
struct State {
    look: Option<Look>,
    /// When the age of each stream is to be looked at again, and where it lets the stream begin.
    ages: HashMap<u64, (u64, Offset)>,
    trimmed_before: Offset,
    asked_ms: Option<u64>,
    /// When it was last said what holds the log, and what that was.
    said: Option<(u64, &'static str)>,
    newest: Option<Offset>,
    failed: Option<Arc<CheckpointError>>,
}

/// A look at all sessions.
#[derive(Clone, Debug)]
struct Look {
    at_ms: u64,
    /// The end of what was applied before it.
    end: Offset,
    oldest: Option<(Box<str>, Offset)>,
}

/// How full the log is, in percent of its limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fill {
    Normal,
    /// 80 and more.
    High,
    /// 90 and more.
    NearlyFull,
}

impl Engine {
    /// Trims the log, has a checkpoint written if one is due, and makes room if the log is nearly full. Blocks on the disk. Where somebody
    /// else is at it, it does nothing.
    pub fn retain(&self, now_ms: u64) {
        let mut state = match self.trimming.state.try_lock() {
            Ok(state) => state,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return,
        };
        self.age_letters(now_ms);
        let checkpoints = self.view.checkpoint_state();
        state.note_checkpoints(&checkpoints, &mut self.trimming.report(), now_ms);
        let fill = self.fill();
        let Some(look) = state.look(self, now_ms, fill) else { return };
        let mut needs = Needs {
            end: look.end,
            streams: self.stream_needs(&mut state.ages, look.end, now_ms),
            session: look.oldest,
            // Where room is short, the older checkpoint does not count: without it a damaged newer one could not be replaced.
            checkpoint: match fill {
                Fill::NearlyFull => checkpoints.newest,
                Fill::Normal | Fill::High => checkpoints.oldest,
            }
            .unwrap_or(Offset::ZERO),
        };
        let mut plan = needs.plan();
        if fill == Fill::NearlyFull
            && let Holder::Stream(name) = &plan.holder
        {
            self.squeeze(name);
            needs.streams = self.stream_needs(&mut state.ages, needs.end, now_ms);
            plan = needs.plan();
        }
        self.trimming.report().oldest_pending = needs.session.as_ref().map(|(_, oldest)| *oldest);
        self.trim(&mut state, &plan);
        self.checkpoint_if_due(&mut state, &checkpoints, &plan, now_ms);
        if self.fill() == Fill::NearlyFull {
            self.make_room(&needs, &plan);
            state.say(self, &plan.holder, now_ms);
        }
    }

    /// Where stream number `stream` begins: events below are not kept any more, whether or not the log still has them.
    #[must_use]
    pub fn stream_floor(&self, stream: u64) -> Offset {
        self.shared.table.streams.floor(stream)
    }

    /// The streams by name, with about how many bytes and events they keep.
    #[must_use]
    pub fn stream_usage(&self) -> Vec<(String, u64, u64)> {
        let streams = self.streams().into_iter();
        streams.map(|stream| (stream.options.name, stream.bytes, stream.events)).collect()
    }

    /// What became of trimming so far.
    #[must_use]
    pub fn retention(&self) -> RetentionReport {
        self.trimming.report().clone()
    }

    /// The checkpoints of the view.
    #[must_use]
    pub fn checkpoints(&self) -> CheckpointState {
        self.view.checkpoint_state()
    }

    /// Why the view is saved no more, if it is not.
    #[must_use]
    pub fn view_error(&self) -> Option<Arc<ViewError>> {
        self.view.error()
    }

    /// Whether saving the view waits for space on the disk.
    #[must_use]
    pub fn view_waits_for_space(&self) -> bool {
        self.view.space_state().waiting
    }

    fn fill(&self) -> Fill {
        let tenths = u128::from(self.commit.stats().log_bytes) * 10;
        let max = u128::from(self.log_bytes_max);
        match () {
            () if tenths >= max * 9 => Fill::NearlyFull,
            () if tenths >= max * 8 => Fill::High,
            () => Fill::Normal,
        }
    }

    /// Moves the beginning of every stream to where its age and its bytes let it be, and answers from where on streams need the log.
    pub(super) fn stream_needs(
        &self,
        ages: &mut HashMap<u64, (u64, Offset)>,
        end: Offset,
        now_ms: u64,
    ) -> Vec<(Box<str>, Offset)> {
        let streams = &self.shared.table.streams;
        let all = streams.all();
        ages.retain(|id, _| all.iter().any(|stream| stream.id == *id));
        let mut needs = Vec::new();
        for stream in all {
            let options = &stream.options;
            let known = ages.entry(stream.id).or_insert((0, Offset::ZERO));
            let by_age = age_floor(known, options, &*self.log, now_ms);
            let usages = streams.usage();
            let Some(usage) = usages.get(stream.id) else { continue };
            let floor = stream.raise_floor(by_age.max(usage.floor(options.max_bytes)).min(end));
            if let Some(from) = usage.needed_from(floor) {
                needs.push((options.name.as_str().into(), from));
            }
        }
        needs
    }

    /// The stream that holds a log which is nearly full begins later, in proportion to what the log has too much. Its own limit did not
    /// see that coming: framing and entries of other kinds are in the log, too.
    fn squeeze(&self, name: &str) {
        let streams = &self.shared.table.streams;
        let Some(stream) = streams.id(name).and_then(|id| streams.get(id)) else { return };
        let usages = streams.usage();
        let Some(usage) = usages.get(stream.id) else { return };
        let (kept, _) = usage.kept_from(stream.floor());
        let log_bytes = u128::from(self.commit.stats().log_bytes.max(1));
        let allowed = u128::from(kept) * u128::from(self.log_bytes_max) * 9 / 10 / log_bytes;
        let floor = usage.floor(u64::try_from(allowed).unwrap_or(u64::MAX));
        stream.raise_floor(floor);
    }

    fn trim(&self, state: &mut State, plan: &Plan) {
        let mut report = self.trimming.report();
        report.holder = plan.holder.clone();
        report.earliest = self.log.bounds().0;
        if plan.before <= report.earliest || plan.before <= state.trimmed_before {
            return;
        }
        drop(report); // Nobody who asks is to wait for the disk.
        let trimmed = self.commit.trim(plan.before);
        let mut report = self.trimming.report();
        match trimmed {
            Ok(trimmed) => {
                state.trimmed_before = plan.before;
                report.earliest = trimmed.earliest;
                report.segments += trimmed.segments;
                report.bytes += trimmed.bytes;
                if trimmed.segments > 0 {
                    let (segments, bytes) = (trimmed.segments, trimmed.bytes);
                    tracing::debug!(segments, bytes, earliest = %trimmed.earliest, "the log is trimmed");
                }
            }
            Err(error) => {
                report.failures += 1;
                tracing::warn!(%error, "the log cannot be trimmed; it is tried again");
            }
        }
    }

    /// A checkpoint is due when enough log has come since the last one, or when nothing else holds a log that is rather full.
    fn checkpoint_if_due(&self, state: &mut State, known: &CheckpointState, plan: &Plan, now_ms: u64) {
        let (earliest, end) = self.log.bounds();
        let newest = known.newest.unwrap_or(earliest).max(earliest);
        // The log's bytes in proportion: nothing to be remembered across a restart.
        let entries = u128::from(end.get().saturating_sub(earliest.get()).max(1));
        let since = u128::from(self.view.saved().get().saturating_sub(newest.get()));
        let since_bytes = u128::from(self.commit.stats().log_bytes) * since / entries;
        let is_large = since_bytes >= u128::from(self.segment_bytes);
        self.shared.checkpoint_at_end.store(is_large, Ordering::Relaxed);
        let is_due = is_large && since_bytes >= u128::from(known.bytes) * u128::from(LOG_PER_CHECKPOINT);
        let is_missed = self.fill() >= Fill::High && plan.without_checkpoint > plan.before && since > 0;
        let is_asked = state.asked_ms.is_some_and(|asked_ms| now_ms.abs_diff(asked_ms) < CHECKPOINT_EVERY_MS);
        if (is_due || is_missed) && !is_asked && self.view.try_checkpoint() {
            state.asked_ms = Some(now_ms);
        }
    }

    /// Sessions that hold a log which is nearly full give up the oldest of what waits for them, where the rules allow it.
    fn make_room(&self, needs: &Needs, plan: &Plan) {
        let (Holder::Session(_), Some((_, oldest))) = (&plan.holder, &needs.session) else { return };
        if self.rules.when_full == WhenFull::DropNewest {
            return;
        }
        let before = cut_before(self.log.bounds().0, *oldest, needs);
        let mut staging = Staging::new();
        for session in self.sessions() {
            if session.state().backlog.oldest_offset().is_none_or(|oldest| oldest >= before) {
                continue;
            }
            let entry = Entry::BacklogCut { client_id: &session.client_id, before: before.get() };
            if staging.push(&entry).is_err() || staging.len() >= CUTS_MAX {
                break;
            }
        }
        if !staging.is_empty() {
            tracing::warn!(
                sessions = staging.len(), %before,
                "the log is nearly full: sessions give up the oldest messages that wait for them, or end"
            );
            // Refused or full: it is tried again in a second.
            let _ = self.commit.submit(&mut staging, Urgency::Now, Waker::noop(), None);
        }
    }
}

/// From where on a stream's events are young enough. A failure to find out leaves it where it was.
fn age_floor(known: &mut (u64, Offset), options: &StreamOptions, log: &dyn LogReader, now_ms: u64) -> Offset {
    // A clock that was set back asks again, and gets no farther than it was.
    let is_current = known.0 > now_ms && known.0 - now_ms <= options.max_age_ms;
    if !is_current {
        match log.offset_at(now_ms.saturating_sub(options.max_age_ms)) {
            Ok(floor) => known.1 = known.1.max(floor),
            Err(error) => {
                tracing::warn!(%error, stream = options.name, "where a stream begins cannot be found out");
            }
        }
        known.0 = now_ms.saturating_add((options.max_age_ms / 1024).min(60_000));
    }
    known.1
}

impl State {
    /// The newest look at all sessions that is good enough now; `None` when there is none.
    fn look(&mut self, engine: &Engine, now_ms: u64, fill: Fill) -> Option<Look> {
        let is_good = |look: &Look| now_ms.abs_diff(look.at_ms) < LOOK_EVERY_MS;
        if fill != Fill::Normal || !self.look.as_ref().is_some_and(is_good) {
            let end = engine.end();
            if let Some(oldest) = engine.shared.table.oldest_pending() {
                let oldest = oldest.map(|(session, offset)| (session.client_id.clone(), offset));
                self.look = Some(Look { at_ms: now_ms, end, oldest });
            }
        }
        self.look.clone()
    }

    fn note_checkpoints(&mut self, known: &CheckpointState, report: &mut RetentionReport, now_ms: u64) {
        if known.newest != self.newest {
            self.newest = known.newest;
            report.checkpoint_seen_ms = now_ms;
        }
        if let Some(failed) = &known.failed
            && !self.failed.as_ref().is_some_and(|seen| Arc::ptr_eq(seen, failed))
        {
            report.checkpoint_failures += 1;
        }
        self.failed.clone_from(&known.failed);
    }

    fn say(&mut self, engine: &Engine, holder: &Holder, now_ms: u64) {
        if let Some((said_ms, label)) = self.said {
            let every = if label == holder.label() { SAY_EVERY_MS } else { SAY_CHANGE_EVERY_MS };
            if now_ms.abs_diff(said_ms) < every {
                return;
            }
        }
        self.said = Some((now_ms, holder.label()));
        let log_bytes = engine.commit.stats().log_bytes;
        tracing::warn!(
            held_by = %holder, log_bytes, max_bytes = engine.log_bytes_max,
            "the log is nearly full; at storage.max_bytes events are refused"
        );
    }
}

impl Trimming {
    fn report(&self) -> MutexGuard<'_, RetentionReport> {
        self.report.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a last checkpoint is worth the time it takes, since trimming waits for one.
pub(super) fn checkpoint_at_end(view: &ViewWriter, is_worth_it: bool) {
    if is_worth_it && view.try_checkpoint() {
        view.wait_idle();
    }
}
