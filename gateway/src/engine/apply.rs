//! The apply step: log entries to the view, one after the other.
//!
//! Deterministic: the same entries give the same view, on this machine or another one. Time and chance enter only as entries,
//! which is why no clock is asked here, and why an entry that no longer fits (the removal of a Session that is connected again)
//! is judged by the view as it stands at that entry.

use super::backlog::{AckRuns, BacklogLimits, Profile};
use super::recovery::Saved;
use super::session::{DurableSession, SessionState};
use super::table::Table;
use crate::router::{Grant, Match, RouteCache};
use gateway_protocol::packet::{RetainHandling, SubscribeOptions};
use gateway_protocol::{QoS, TopicFilter};
use gateway_storage::{Batch, Entry, Event, Offset};
use std::sync::Arc;

/// Topics whose durable subscribers are remembered.
const ROUTES_CACHED: usize = 65_536;

type Routes = Arc<[Match<Arc<DurableSession>>]>;

/// What applying a batch did, in numbers for the books.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Applied {
    /// Events among the entries.
    pub(super) events: u64,
    /// Messages added to backlogs or refused by their limits.
    pub(super) routed: u64,
    /// Of those, refused because the backlog was at a limit.
    pub(super) backlog_full: u64,
    /// Messages that waited for a Session which has ended.
    pub(super) session_ended: u64,
    /// Messages that a client has acknowledged.
    pub(super) acknowledged: u64,
}

/// Applies entries to a [`Table`]. There is one, and it runs on one thread.
pub(super) struct Applier {
    table: Arc<Table>,
    limits: BacklogLimits,
    routes: RouteCache<Routes>,
    next_session_id: u64,
    /// Sessions whose backlog has grown since their ends were published.
    touched: Vec<Arc<DurableSession>>,
    /// Sessions that differ from the saved view, and those that are gone but still in it.
    unsaved: Vec<Arc<DurableSession>>,
    removed: Vec<Arc<DurableSession>>,
}

impl Applier {
    pub(super) fn new(table: Arc<Table>, limits: BacklogLimits) -> Self {
        Self {
            table,
            limits,
            routes: RouteCache::new(ROUTES_CACHED),
            next_session_id: 1,
            touched: Vec::new(),
            unsaved: Vec::new(),
            removed: Vec::new(),
        }
    }

    /// Applies the entries of `batch` from offset `from` on.
    pub(super) fn apply(&mut self, batch: &Batch, from: Offset) -> Applied {
        let mut applied = Applied::default();
        for index in batch.index_from(from)..batch.len() {
            if let Some(event) = batch.event(index) {
                if let Some(offset) = batch.offset_of(index) {
                    self.apply_event(offset, &event, &mut applied);
                }
            } else if let Some(entry) = batch.entry(index) {
                self.apply_control(&entry, &mut applied);
            }
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

    fn apply_event(&mut self, offset: Offset, event: &Event<'_>, applied: &mut Applied) {
        applied.events += 1;
        if event.retain {
            self.table.write_retained().publish(offset, event);
        }
        if event.qos == 0 {
            return; // A QoS 0 delivery is made now or never: nothing to remember.
        }
        let table = &self.table;
        let routes = self.routes.get_or_find(table.router.epoch(), event.topic, || {
            table.router.read(|router| router.matches(event.topic)).into()
        });
        let bytes = (event.topic.len() + event.properties.len() + event.payload.len()) as u64;
        for found in routes.iter() {
            let session = &found.subscriber;
            if found.qos == QoS::AtMostOnce || (found.no_local && *session.client_id == *event.client_id) {
                continue;
            }
            let profile = Profile {
                qos: found.qos,
                retain_as_published: found.retain_as_published,
                is_retained: false,
                subscription_ids: found.subscription_ids.clone(),
            };
            let mut state = session.state();
            applied.routed += 1;
            let is_first = state.backlog.end() == session.end();
            if !state.backlog.push(offset, &profile, bytes, &self.limits) {
                applied.backlog_full += 1;
                continue;
            }
            if is_first {
                self.touched.push(session.clone());
            }
            list_unsaved(&mut self.unsaved, session, &mut state);
        }
    }

    fn apply_control(&mut self, entry: &Entry<'_>, applied: &mut Applied) {
        match *entry {
            Entry::SessionOpened { client_id, clean_start, expiry_secs, .. } => {
                applied.session_ended += self.open(client_id, clean_start, expiry_secs);
            }
            Entry::SessionClosed { client_id, at_ms, expiry_secs, .. } => {
                let Some(session) = self.table.session(client_id) else { return };
                if expiry_secs == 0 {
                    applied.session_ended += self.remove(client_id);
                    return;
                }
                let mut state = session.state();
                state.connected = false;
                state.closed_at_ms = at_ms;
                state.expiry_secs = expiry_secs;
                list_unsaved(&mut self.unsaved, &session, &mut state);
            }
            Entry::SessionRemoved { client_id, .. } => {
                if self.table.session(client_id).is_some_and(|session| !session.state().connected) {
                    applied.session_ended += self.remove(client_id);
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
                    applied.acknowledged += state.backlog.acknowledge(sequence, u64::from(len));
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
                    state.backlog.receive(sequence, u64::from(len));
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
            Entry::Event(_) => {}
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

    /// Returns how many messages ended with a Session that was discarded.
    fn open(&mut self, client_id: &str, clean_start: bool, expiry_secs: u32) -> u64 {
        let ended = if clean_start { self.remove(client_id) } else { 0 };
        let resumed = self.table.session(client_id);
        let session = match &resumed {
            Some(session) => session.clone(),
            None if expiry_secs == 0 => return ended,
            None => self.restore(client_id, SessionState::default()),
        };
        let mut state = session.state();
        state.connected = true;
        state.resumed = resumed.is_some();
        state.expiry_secs = expiry_secs;
        list_unsaved(&mut self.unsaved, &session, &mut state);
        ended
    }

    /// Puts back what a view had saved.
    pub(super) fn restore_all(&mut self, saved: Saved) {
        for (client_id, state) in saved.sessions {
            self.restore(&client_id, state);
        }
        *self.table.write_retained() = saved.retained;
        *self.table.write_wills() = saved.wills;
    }

    /// Puts a session into the table, with everything it subscribed to.
    pub(super) fn restore(&mut self, client_id: &str, state: SessionState) -> Arc<DurableSession> {
        let id = self.next_session_id;
        self.next_session_id += 1;
        let filters: Vec<_> =
            state.subscriptions.iter().map(|(filter, grant)| (filter.clone(), *grant)).collect();
        let session = Arc::new(DurableSession::new(client_id, id, state));
        self.table.insert(&session);
        for (filter, grant) in filters {
            self.route(&session, &filter, grant);
        }
        session
    }

    fn route(&self, session: &Arc<DurableSession>, filter: &str, grant: Grant) {
        let Ok(filter) = TopicFilter::parse(filter) else { return };
        // A filter that is too deep was refused before it could become an entry.
        let _ =
            self.table.router.change(|router| router.subscribe(session.id, session.clone(), filter, grant));
    }

    /// Returns how many messages it had not acknowledged.
    fn remove(&mut self, client_id: &str) -> u64 {
        let Some(session) = self.table.remove(client_id) else { return 0 };
        let mut state = session.state();
        state.removed = true;
        self.table.router.change(|router| {
            for filter in state.subscriptions.keys() {
                if let Ok(filter) = TopicFilter::parse(filter) {
                    router.unsubscribe(session.id, filter);
                }
            }
        });
        if let Some(waker) = &state.waker {
            waker.wake_by_ref();
        }
        let pending = state.backlog.pending();
        drop(state);
        self.removed.push(session);
        pending
    }

    fn subscribe(
        &mut self,
        client_id: &str,
        filter: &str,
        options: u8,
        subscription_id: u32,
        applied: &mut Applied,
    ) {
        let Some(session) = self.table.session(client_id) else { return };
        let Some(options) = SubscribeOptions::from_u8(options) else { return };
        let grant = Grant {
            qos: options.qos,
            no_local: options.no_local,
            retain_as_published: options.retain_as_published,
            subscription_id,
        };
        self.route(&session, filter, grant);
        let mut state = session.state();
        let is_new = state.subscriptions.insert(filter.into(), grant).is_none();
        state.unsaved.filters.insert(filter.into(), true);
        list_unsaved(&mut self.unsaved, &session, &mut state);
        drop(state);
        if sends_retained(options.retain_handling, is_new) {
            self.add_retained(&session, filter, &grant, applied);
        }
    }

    /// Retained Messages go into the backlog of whoever subscribes above QoS 0, so that they survive what the backlog survives. Those
    /// that reach it at QoS 0 are sent by its connection.
    fn add_retained(
        &mut self,
        session: &Arc<DurableSession>,
        filter: &str,
        grant: &Grant,
        applied: &mut Applied,
    ) {
        let Ok(filter) = TopicFilter::parse(filter) else { return };
        let messages = self.table.read_retained().matching(filter);
        let profile = Profile {
            qos: grant.qos,
            retain_as_published: grant.retain_as_published,
            is_retained: true,
            subscription_ids: (grant.subscription_id != 0).then(|| [grant.subscription_id].into()),
        };
        let mut state = session.state();
        if state.backlog.end() == session.end() && !messages.is_empty() {
            self.touched.push(session.clone());
        }
        for message in messages {
            if grant.qos == QoS::AtMostOnce || message.event().qos == 0 {
                continue;
            }
            applied.routed += 1;
            if !state.backlog.push(message.offset(), &profile, message.cost(), &self.limits) {
                applied.backlog_full += 1;
            }
        }
    }

    fn unsubscribe(&mut self, client_id: &str, filter: &str) {
        let Some(session) = self.table.session(client_id) else { return };
        let mut state = session.state();
        if state.subscriptions.remove(filter).is_none() {
            return;
        }
        state.unsaved.filters.insert(filter.into(), false);
        list_unsaved(&mut self.unsaved, &session, &mut state);
        drop(state);
        if let Ok(filter) = TopicFilter::parse(filter) {
            self.table.router.change(|router| router.unsubscribe(session.id, filter));
        }
    }

    /// What has to be saved: sessions gone, then sessions changed. Empties both lists.
    pub(super) fn take_unsaved(&mut self) -> (Vec<Arc<DurableSession>>, Vec<Arc<DurableSession>>) {
        let changed = std::mem::take(&mut self.unsaved);
        for session in &changed {
            session.state().unsaved.listed = false;
        }
        (std::mem::take(&mut self.removed), changed)
    }

    /// Whether there is anything to save.
    pub(super) fn has_unsaved(&self) -> bool {
        !self.unsaved.is_empty()
            || !self.removed.is_empty()
            || self.table.read_retained().has_unsaved()
            || self.table.read_wills().has_unsaved()
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

/// Whether a subscription gets the Retained Messages that match it [MQTT-3.3.1-9] [MQTT-3.3.1-10] [MQTT-3.3.1-11].
#[must_use]
pub fn sends_retained(handling: RetainHandling, is_new: bool) -> bool {
    match handling {
        RetainHandling::Send => true,
        RetainHandling::SendIfNew => is_new,
        RetainHandling::DoNotSend => false,
    }
}
