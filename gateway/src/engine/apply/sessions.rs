//! Sessions opened, closed and removed, and what they subscribe to.

use super::{Applied, Applier, list_unsaved};
use crate::decisions::Reason;
use crate::engine::backlog::Profile;
use crate::engine::recovery::Saved;
use crate::engine::session::{DurableSession, SessionState};
use crate::router::{Grant, Router};
use gateway_protocol::packet::{RetainHandling, SubscribeOptions};
use gateway_protocol::{QoS, SharedFilter, TopicFilter};
use std::sync::Arc;

impl Applier {
    pub(super) fn open(
        &mut self,
        client_id: &str,
        clean_start: bool,
        expiry_secs: u32,
        applied: &mut Applied,
    ) {
        if clean_start {
            self.remove(client_id, applied);
        }
        let resumed = self.table.session(client_id);
        let session = match &resumed {
            Some(session) => session.clone(),
            None if expiry_secs == 0 => return,
            None => {
                // Its beginning may be what was lost, and then the client counts from there.
                let doubtful_from = (self.has_losses() && !clean_start).then_some(0);
                self.restore(client_id, SessionState { doubtful_from, ..SessionState::default() })
            }
        };
        self.openings += 1;
        let mut state = session.state();
        state.connected = true;
        state.opening = self.openings;
        state.resumed = resumed.is_some();
        state.expiry_secs = expiry_secs;
        list_unsaved(&mut self.unsaved, &session, &mut state);
    }

    pub(super) fn close(
        &mut self,
        client_id: &str,
        at_ms: u64,
        expiry_secs: u32,
        ending: Ending,
        applied: &mut Applied,
    ) {
        let Some(session) = self.table.session(client_id) else { return };
        {
            let mut state = session.state();
            state.connected = false;
            state.closed_at_ms = at_ms;
            state.expiry_secs = expiry_secs;
            state.sent_end = state.sent_end.max(ending.sent_end);
            list_unsaved(&mut self.unsaved, &session, &mut state);
        }
        if expiry_secs == 0 {
            self.remove(client_id, applied);
        } else if !ending.with_all {
            self.pass_on(&session, ending.sent_end, false, applied);
        }
    }

    /// Puts back what a view had saved.
    pub(in crate::engine) fn restore_all(&mut self, saved: Saved) {
        for (client_id, state) in saved.sessions {
            self.restore(&client_id, state);
        }
        *self.table.write_retained() = saved.retained;
        *self.table.write_wills() = saved.wills;
        self.table.streams.restore(saved.made_streams, saved.usage);
        self.table.dedup.restore(saved.identities);
        self.table.consumers.restore(saved.consumers);
        self.turns = saved.turns;
        if let Some(rules) = saved.rules {
            self.rules = rules;
        }
    }

    /// Puts a session into the table, with everything it subscribed to.
    pub(in crate::engine) fn restore(&mut self, client_id: &str, state: SessionState) -> Arc<DurableSession> {
        let id = self.next_session_id;
        self.next_session_id += 1;
        let filters: Vec<_> =
            state.subscriptions.iter().map(|(filter, grant)| (filter.clone(), *grant)).collect();
        let session = Arc::new(DurableSession::new(client_id, id, state));
        self.table.insert(&session);
        for (filter, grant) in filters {
            self.table.router.change(|router| route(router, &session, &filter, grant));
        }
        session
    }

    pub(super) fn remove(&mut self, client_id: &str, applied: &mut Applied) {
        self.remove_for(client_id, Reason::SessionEnded, applied);
    }

    /// As [`Applier::remove`]; `reason` is why what waits for the session is given up.
    pub(super) fn remove_for(&mut self, client_id: &str, reason: Reason, applied: &mut Applied) {
        let Some(session) = self.table.remove(client_id) else { return };
        let (filters, sent_end) = {
            let mut state = session.state();
            state.removed = true;
            session.note_removed();
            if let Some(waker) = &state.waker {
                waker.wake_by_ref();
            }
            // A connection is told of this end later, and may be sending meanwhile.
            (state.subscriptions.keys().cloned().collect::<Vec<_>>(), state.possibly_sent())
        };
        self.table.router.change(|router| {
            for filter in &filters {
                unroute(router, &session, filter);
            }
        });
        self.pass_on(&session, sent_end, true, applied);
        for filter in &filters {
            self.forget_empty_group(filter);
        }
        let left = session.state().backlog.pending();
        applied.session_ended += left;
        if left > 0 {
            self.note_given_up(&session, left, reason);
        }
        self.removed.push(session);
    }

    pub(super) fn subscribe(
        &mut self,
        client_id: &str,
        filter: &str,
        options: u8,
        subscription_id: u32,
        applied: &mut Applied,
    ) {
        let is_shared = TopicFilter::parse(filter).is_ok_and(TopicFilter::is_shared);
        let session = match self.table.session(client_id) {
            Some(session) => session,
            // A member of a group has a backlog even if its Session ends with its connection, so that what it does not acknowledge can
            // be given to another member.
            None if is_shared => {
                self.restore(client_id, SessionState { connected: true, ..SessionState::default() })
            }
            None => return,
        };
        let Some(options) = SubscribeOptions::from_u8(options) else { return };
        let grant = Grant {
            qos: options.qos,
            no_local: options.no_local,
            retain_as_published: options.retain_as_published,
            subscription_id,
        };
        self.table.router.change(|router| route(router, &session, filter, grant));
        let mut state = session.state();
        let is_new = state.subscriptions.insert(filter.into(), grant).is_none();
        state.unsaved.filters.insert(filter.into(), true);
        list_unsaved(&mut self.unsaved, &session, &mut state);
        drop(state);
        if !is_shared && sends_retained(options.retain_handling, is_new) {
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
        let profile = Profile {
            qos: grant.qos,
            retain_as_published: grant.retain_as_published,
            is_retained: true,
            subscription_ids: (grant.subscription_id != 0).then(|| [grant.subscription_id].into()),
            group: None,
        };
        let messages = self.table.read_retained().matching(filter);
        for message in messages {
            if grant.qos == QoS::AtMostOnce || message.event().qos == 0 {
                continue;
            }
            applied.routed += 1;
            self.add_making_room(session, message.offset(), &profile, message.cost(), applied);
        }
    }

    pub(super) fn unsubscribe(&mut self, client_id: &str, filter: &str) {
        let Some(session) = self.table.session(client_id) else { return };
        {
            let mut state = session.state();
            if state.subscriptions.remove(filter).is_none() {
                return;
            }
            state.unsaved.filters.insert(filter.into(), false);
            list_unsaved(&mut self.unsaved, &session, &mut state);
        }
        self.table.router.change(|router| unroute(router, &session, filter));
        self.forget_empty_group(filter);
    }
}

/// Enters a subscription into the routing table. What is too deep was refused before it could become an entry.
fn route(router: &mut Router<Arc<DurableSession>>, session: &Arc<DurableSession>, text: &str, grant: Grant) {
    let Ok(filter) = TopicFilter::parse(text) else { return };
    let _ = match SharedFilter::parse(filter) {
        Some(Ok(shared)) => router.join(text, shared.filter, &session.client_id, session.clone(), grant),
        Some(Err(_)) => Ok(false),
        None => router.subscribe(session.id, session.clone(), filter, grant),
    };
}

fn unroute(router: &mut Router<Arc<DurableSession>>, session: &Arc<DurableSession>, text: &str) {
    let Ok(filter) = TopicFilter::parse(text) else { return };
    match SharedFilter::parse(filter) {
        Some(Ok(shared)) => router.leave(text, shared.filter, &session.client_id),
        Some(Err(_)) => false,
        None => router.unsubscribe(session.id, filter),
    };
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

/// How a connection ended, as its entry in the log says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ending {
    /// Everything below this sequence was sent.
    pub sent_end: u64,
    /// All connections ended with this one, since the gateway did: no member of a group is there to take over from another.
    pub with_all: bool,
}

impl Ending {
    /// The form in the log: the sequence (u64, little-endian), and a byte that is 1 where all connections ended.
    #[must_use]
    pub fn encode(self) -> [u8; 9] {
        let [a, b, c, d, e, f, g, h] = self.sent_end.to_le_bytes();
        [a, b, c, d, e, f, g, h, u8::from(self.with_all)]
    }

    /// What is not there is not known to have been sent.
    pub(super) fn decode(state: &[u8]) -> Self {
        Self {
            sent_end: state.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes)),
            with_all: state.get(8) == Some(&1),
        }
    }
}
