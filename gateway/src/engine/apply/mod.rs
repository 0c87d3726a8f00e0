//! The apply step: log entries to the view, one after the other.
//!
//! Deterministic: the same entries give the same view, on this machine or another one. Time and chance enter only as entries,
//! which is why no clock is asked here, and why an entry that no longer fits (the removal of a Session that is connected again)
//! is judged by the view as it stands at that entry.

mod groups;
mod quota;
mod route;
mod sessions;

pub(super) use quota::AtLimit;
pub use sessions::{Ending, sends_retained};

use super::backlog::AckRuns;
use super::dedup;
pub(super) use super::metrics::Applied;
use super::rules::Rules;
use super::session::{DurableSession, SessionState};
use super::snapshot::pending::{ChunkError, Chunks};
use super::streams::Usages;
use super::table::Table;
use crate::decisions::Reason;
use crate::router::{GroupMatch, Match, RouteCache};
use gateway_storage::{Batch, Entry, Offset, Page};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

/// Topics whose durable subscribers are remembered.
const ROUTES_CACHED: usize = 131_072;

/// Who wants a topic: streams that keep it, sessions for themselves, and groups of which one member gets it.
#[derive(PartialEq)]
struct Routes {
    streams: Arc<[u64]>,
    direct: Vec<Match<Arc<DurableSession>>>,
    groups: Vec<GroupMatch<Arc<DurableSession>>>,
}

/// Applies entries to a [`Table`]. There is one, and it runs on one thread.
pub(super) struct Applier {
    table: Arc<Table>,
    rules: Rules,
    rules_unsaved: bool,
    /// How many messages each group has been given: whose turn it is. And the groups for which that has changed.
    turns: HashMap<Arc<str>, u64>,
    turns_unsaved: HashSet<Arc<str>>,
    routes: RouteCache<Arc<Routes>>,
    next_session_id: u64,
    /// Sessions opened in this run.
    openings: u64,
    /// Sessions whose backlog has grown since their ends were published.
    touched: Vec<Arc<DurableSession>>,
    /// Sessions that differ from the saved view, and those that are gone but still in it.
    unsaved: Vec<Arc<DurableSession>>,
    removed: Vec<Arc<DurableSession>>,
    /// Sessions to be ended behind the entry at hand, by Client Identifier: a replay ends them in the same order.
    over_quota: BTreeSet<Box<str>>,
    /// Sessions whose messages were given up, by their keys and why, for the gateway's log and the record of decisions.
    at_limit: HashMap<(u64, Reason), AtLimit>,
    /// Parts of the log that were passed over, and that the rules do not know of yet.
    losses: u32,
    /// Where backlogs read back what they have let go of, and the error that ended the applying.
    chunks: Option<Arc<dyn Chunks>>,
    failure: Option<ChunkError>,
}

impl Applier {
    pub(super) fn new(table: Arc<Table>, rules: Rules) -> Self {
        Self {
            table,
            rules,
            rules_unsaved: false,
            turns: HashMap::new(),
            turns_unsaved: HashSet::new(),
            routes: RouteCache::new(ROUTES_CACHED),
            next_session_id: 1,
            openings: 0,
            touched: Vec::new(),
            unsaved: Vec::new(),
            removed: Vec::new(),
            over_quota: BTreeSet::new(),
            at_limit: HashMap::new(),
            losses: 0,
            chunks: None,
            failure: None,
        }
    }

    /// From now on backlogs may have let go of what `chunks` has.
    pub(super) fn read_chunks_from(&mut self, chunks: Arc<dyn Chunks>) {
        self.chunks = Some(chunks);
    }

    /// Collects what a saved view has of named events.
    pub(super) fn identities(&self) -> dedup::Loader {
        self.table.dedup.loader()
    }

    /// Why the entries of the last batch are not all applied. What the view has become since must not be saved or shown.
    pub(super) fn failure(&self) -> Option<&ChunkError> {
        self.failure.as_ref()
    }

    /// The failure, for whoever passes it on.
    pub(super) fn take_failure(&mut self) -> Option<ChunkError> {
        self.failure.take()
    }

    /// Applies the entries of `batch` from offset `from` on.
    pub(super) fn apply(&mut self, batch: &Batch, from: Offset) -> Applied {
        self.apply_range(batch, batch.index_from(from)..batch.len())
    }

    /// Applies what a page of the log brought, from offset `from` on. Where a part of it cannot be read, messages are missing: later ones
    /// get smaller numbers than they had, and what clients acknowledged of them is not to be taken for others. They get those again.
    pub(super) fn apply_page(&mut self, page: &Page, from: Offset) -> Applied {
        let mut applied = Applied::default();
        let mut at = page.batch.index_from(from);
        for skipped in &page.skipped {
            let end = page.batch.index_from(skipped.end).max(at);
            applied
                .add(&self.apply_range(&page.batch, at..page.batch.index_from(skipped.first).clamp(at, end)));
            self.note_loss();
            at = end;
        }
        applied.add(&self.apply_range(&page.batch, at..page.batch.len()));
        applied
    }

    fn note_loss(&mut self) {
        self.losses += 1;
        for session in self.table.sessions() {
            let mut state = session.state();
            let end = state.backlog.end();
            state.doubtful_from.get_or_insert(end);
        }
    }

    /// Whether parts of the log were passed over since the rules last said so.
    pub(super) fn has_losses(&self) -> bool {
        self.losses > 0
    }

    fn change_rules(&mut self, rules: Rules) {
        if rules.losses != self.rules.losses {
            self.losses = 0;
            for session in self.table.sessions() {
                session.state().doubtful_from = None;
            }
        }
        self.rules = rules;
        self.rules_unsaved = true;
        self.table.consumers.limit(&rules);
    }

    fn apply_range(&mut self, batch: &Batch, range: std::ops::Range<usize>) -> Applied {
        let mut applied = Applied::default();
        let table = self.table.clone();
        let mut usage = table.streams.usage();
        for index in range {
            if self.failure.is_some() {
                break;
            }
            if let Some(event) = batch.raw_event(index) {
                if let Some(offset) = batch.offset_of(index) {
                    if event.retain || !event.properties.is_empty() {
                        self.apply_content(offset, batch.event(index));
                    }
                    self.apply_event(offset, &event, &mut usage, &mut applied);
                }
            } else if let Some(entry) = batch.entry(index) {
                let offset = batch.offset_of(index).unwrap_or(batch.end());
                if self.table.streams.apply(&entry, &mut usage) {
                    self.table.router.change(|_| ()); // What was remembered of topics holds no more.
                }
                self.apply_control(&entry, offset, &mut applied);
            }
            self.end_over_quota(&mut applied);
        }
        applied
    }

    /// Lets the connections see what was added, and wakes them; once for each batch.
    pub(super) fn announce(&mut self) {
        for session in self.touched.drain(..) {
            let mut state = session.state();
            session.publish_end(state.backlog.end());
            if let Some(waker) = &mut state.waker {
                waker.wake_by_ref();
            }
        }
    }

    fn apply_control(&mut self, entry: &Entry<'_>, offset: Offset, applied: &mut Applied) {
        match *entry {
            Entry::SessionOpened { client_id, clean_start, expiry_secs, .. } => {
                self.open(client_id, clean_start, expiry_secs, applied);
            }
            Entry::SessionClosed { client_id, at_ms, expiry_secs, state } => {
                self.close(client_id, at_ms, expiry_secs, Ending::decode(state), applied);
            }
            Entry::SessionRemoved { client_id, .. } => {
                if self.table.session(client_id).is_some_and(|session| !session.state().connected) {
                    self.remove(client_id, applied);
                }
            }
            Entry::Subscribed { client_id, filter, options, subscription_id } => {
                self.subscribe(client_id, filter, options, subscription_id, applied);
            }
            Entry::Unsubscribed { client_id, filter } => self.unsubscribe(client_id, filter),
            Entry::Acknowledged { client_id, runs } => {
                let Some(session) = self.table.session(client_id) else { return };
                let mut state = session.state();
                for (sequence, len) in AckRuns::decode(runs) {
                    let len = state.undoubted(sequence, u64::from(len));
                    applied.acknowledged += state.backlog.acknowledge(sequence, len);
                }
                list_unsaved(&mut self.unsaved, &session, &mut state);
            }
            Entry::PublishReceived { client_id, packet_id } => {
                self.change(client_id, |state| state.received.insert(packet_id));
            }
            Entry::PublishReleased { client_id, packet_id } => {
                self.change(client_id, |state| state.received.remove(&packet_id));
            }
            Entry::DeliveryReceived { client_id, runs } => self.change(client_id, |state| {
                for (sequence, len) in AckRuns::decode(runs) {
                    let len = state.undoubted(sequence, u64::from(len));
                    state.backlog.receive(sequence, len);
                }
                true
            }),
            Entry::WillSet { client_id, delay_secs, will } => {
                self.table.write_wills().set(client_id, delay_secs, will);
            }
            Entry::WillDue { client_id, at_ms } => self.table.write_wills().due(client_id, at_ms),
            Entry::WillCleared { client_id } => self.table.write_wills().clear(client_id),
            Entry::RetainedRemoved { topic, offset } => {
                self.table.write_retained().remove_at(topic, offset);
            }
            Entry::RulesChanged { rules } => {
                if let Some(rules) = Rules::decode(rules) {
                    self.change_rules(rules);
                }
            }
            Entry::BacklogCut { client_id, before } => self.cut(client_id, Offset::new(before), applied),
            Entry::Event(_) | Entry::StreamSet { .. } | Entry::StreamRemoved { .. } => {}
            Entry::ConsumerSet { .. }
            | Entry::ConsumerRemoved { .. }
            | Entry::ConsumerProgress { .. }
            | Entry::DeadLettered { .. }
            | Entry::DeadLettersChanged { .. } => self.table.consumers.apply(entry, offset, &self.rules),
        }
    }

    /// Changes a session's state, if it is there; `change` says whether it did.
    fn change(&mut self, client_id: &str, change: impl FnOnce(&mut SessionState) -> bool) {
        let Some(session) = self.table.session(client_id) else { return };
        let mut state = session.state();
        if change(&mut state) {
            list_unsaved(&mut self.unsaved, &session, &mut state);
        }
    }

    /// From here on what consumers do is counted.
    pub(super) fn begin_report(&self) {
        self.table.consumers.begin_report();
    }

    /// What has to be saved: sessions gone, then sessions changed. Empties both lists.
    pub(super) fn take_unsaved(&mut self) -> (Vec<Arc<DurableSession>>, Vec<Arc<DurableSession>>) {
        let changed = std::mem::take(&mut self.unsaved);
        for session in &changed {
            session.state().unsaved.listed = false;
        }
        (std::mem::take(&mut self.removed), changed)
    }

    /// The rules in force.
    pub(super) fn rules(&self) -> Rules {
        self.rules
    }

    /// The rules, if they have changed since they were last asked for.
    pub(super) fn take_unsaved_rules(&mut self) -> Option<Rules> {
        std::mem::take(&mut self.rules_unsaved).then_some(self.rules)
    }

    /// Turns that have changed since they were last asked for; `None`: the group is gone.
    pub(super) fn take_unsaved_turns(&mut self) -> Vec<(Arc<str>, Option<u64>)> {
        let changed = std::mem::take(&mut self.turns_unsaved);
        changed.into_iter().map(|group| (group.clone(), self.turns.get(&group).copied())).collect()
    }

    /// Whether there is anything to save.
    pub(super) fn has_unsaved(&self) -> bool {
        self.rules_unsaved
            || !self.turns_unsaved.is_empty()
            || !self.unsaved.is_empty()
            || !self.removed.is_empty()
            || self.table.read_retained().has_unsaved()
            || self.table.read_wills().has_unsaved()
            || self.table.streams.has_unsaved()
            || self.table.dedup.has_unsaved()
            || self.table.consumers.has_unsaved()
    }
}

fn list_unsaved(
    list: &mut Vec<Arc<DurableSession>>,
    session: &Arc<DurableSession>,
    state: &mut SessionState,
) {
    if !state.unsaved.listed {
        state.unsaved.listed = true;
        list.push(session.clone());
    }
}
