//! What gives way when a backlog is full, by the rules in force; and when the log is.

use super::{Applied, Applier, list_unsaved};
use crate::decisions::Reason;
use crate::engine::backlog::Profile;
use crate::engine::rules::WhenFull;
use crate::engine::session::DurableSession;
use gateway_storage::Offset;
use std::sync::Arc;

/// A session whose backlog was at a limit, or that has ended with messages waiting.
#[derive(Debug)]
pub(in crate::engine) struct AtLimit {
    pub(in crate::engine) session: Arc<DurableSession>,
    /// Messages that waited.
    pub(in crate::engine) pending: u64,
    /// Messages given up for it, and why.
    pub(in crate::engine) given_up: u64,
    pub(in crate::engine) reason: Reason,
}

impl Applier {
    /// Adds a message to a backlog, which may have to make room for it. It was counted as routed.
    pub(super) fn add_making_room(
        &mut self,
        session: &Arc<DurableSession>,
        offset: Offset,
        profile: &Profile,
        bytes: u64,
        applied: &mut Applied,
    ) {
        if self.add(session, offset, profile, bytes) {
            return;
        }
        let before = *applied;
        let limits = self.rules.backlog;
        // What no backlog could hold is worth neither its other messages nor the session.
        let fits = limits.messages_max > 0 && bytes <= limits.bytes_max;
        match self.rules.when_full {
            WhenFull::DropOldest if fits => {
                {
                    let mut state = session.state();
                    let sent_end = state.possibly_sent();
                    applied.oldest_dropped += state.backlog.drop_oldest(1, bytes, &limits, sent_end);
                    list_unsaved(&mut self.unsaved, session, &mut state);
                }
                let added = self.add(session, offset, profile, bytes);
                applied.backlog_full += u64::from(!added);
            }
            WhenFull::EndSession if fits => {
                applied.over_quota += 1;
                self.over_quota.insert(session.client_id.clone());
            }
            WhenFull::DropNewest | WhenFull::DropOldest | WhenFull::EndSession => applied.backlog_full += 1,
        }
        for (now, before, reason) in [
            (applied.backlog_full, before.backlog_full, Reason::BacklogFull),
            (applied.oldest_dropped, before.oldest_dropped, Reason::BacklogOldest),
            (applied.over_quota, before.over_quota, Reason::SessionOverQuota),
        ] {
            if now > before {
                self.note_given_up(session, now - before, reason);
            }
        }
    }

    /// The session gives up what waits for it below `before`, as far as the rules allow that.
    pub(super) fn cut(&mut self, client_id: &str, before: Offset, applied: &mut Applied) {
        let Some(session) = self.table.session(client_id) else { return };
        if self.rules.when_full == WhenFull::DropNewest {
            return;
        }
        let cut_before = applied.backlog_cut;
        {
            let mut state = session.state();
            if !state.backlog.has_before(before) {
                return; // It has caught up in the meantime.
            }
            if self.rules.when_full == WhenFull::DropOldest {
                let sent_end = state.possibly_sent();
                applied.backlog_cut += state.backlog.drop_before(before, sent_end);
                list_unsaved(&mut self.unsaved, &session, &mut state);
            } else {
                // It ends with all that waits for it: of that, other members of its groups get theirs.
                self.over_quota.insert(session.client_id.clone());
            }
        }
        self.note_given_up(&session, applied.backlog_cut - cut_before, Reason::LogFull);
    }

    /// Ends the sessions that turned out to be over their quota, as if they had expired. What they leave to other members of a group goes
    /// to those that have room.
    pub(super) fn end_over_quota(&mut self, applied: &mut Applied) {
        while let Some(client_id) = self.over_quota.pop_first() {
            let ended_before = applied.session_ended;
            self.remove_for(&client_id, Reason::SessionOverQuota, applied);
            applied.over_quota += applied.session_ended - ended_before;
            applied.session_ended = ended_before;
            // The end of the session is the end of the delay of its will [MQTT-3.1.2-8].
            let is_due = self.table.read_wills().get(&client_id).is_some_and(|will| will.due_at_ms.is_some());
            if is_due {
                self.table.write_wills().due(&client_id, 0);
            }
        }
    }

    /// Messages of a session are given up: for the gateway's log, and the record of decisions.
    pub(super) fn note_given_up(&mut self, session: &Arc<DurableSession>, count: u64, reason: Reason) {
        session.note_given_up(count);
        let noted = self.at_limit.entry((session.id, reason)).or_insert_with(|| AtLimit {
            session: session.clone(),
            pending: session.state().backlog.pending(),
            given_up: 0,
            reason,
        });
        noted.given_up += count;
    }

    /// Sessions whose backlog was at a limit since this was last called, in no order.
    pub(in crate::engine) fn take_at_limit(&mut self) -> impl Iterator<Item = AtLimit> {
        std::mem::take(&mut self.at_limit).into_values()
    }
}
