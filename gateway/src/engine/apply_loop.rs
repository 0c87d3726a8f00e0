//! The applier's thread: groups from the committer, one after the other, to the view, to delivery, and to those who wait.

use super::apply::{Applier, AtLimit};
use super::quota_log::QuotaLog;
use super::snapshot::rounds::Rounds;
use super::{Shared, Sink, metrics, recovery, snapshot, trimming};
use crate::decisions::{Action, Decision};
use gateway_storage::{Changes, CommittedGroup, Offset, Table, ViewWriter};
use std::ops::ControlFlow;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

pub(super) struct ApplyLoop {
    pub(super) shared: Arc<Shared>,
    pub(super) applier: Applier,
    pub(super) view: Arc<ViewWriter>,
    pub(super) save_interval: Duration,
    pub(super) applied: Offset,
    /// Changes that the view's thread was too busy to take; they go before any later ones.
    pub(super) refused: Option<(Changes, Offset)>,
    pub(super) quota_log: QuotaLog,
    pub(super) sink: Sink,
    pub(super) rounds: Rounds,
}

impl ApplyLoop {
    pub(super) fn run(mut self, groups: &Receiver<CommittedGroup>) {
        // At once: what was replayed at start need not be replayed at the next one, however soon that comes.
        let mut save_at = Instant::now();
        loop {
            match groups.recv_timeout(save_at.saturating_duration_since(Instant::now())) {
                Ok(group) => {
                    if self.apply(group).is_break() {
                        return; // Nothing is saved or acknowledged any more: a restart begins with what was.
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if Instant::now() >= save_at {
                self.save();
                save_at = Instant::now() + self.save_interval;
            }
        }
        // The first takes what was refused before, the second what has changed since.
        for _ in 0..2 {
            self.view.wait_idle();
            self.save();
        }
        self.view.wait_idle();
        trimming::checkpoint_at_end(&self.view, self.shared.checkpoint_at_end.load(Ordering::Relaxed));
        self.view.shutdown();
    }

    fn apply(&mut self, group: CommittedGroup) -> ControlFlow<()> {
        let applied = self.applier.apply(&group.batch, group.batch.first());
        if let Some(error) = self.applier.failure() {
            tracing::error!(%error, "the view cannot follow the log; nothing is acknowledged until a restart, which rebuilds it");
            self.shared.has_lost_view.store(true, Ordering::Release);
            for waker in group.contributors {
                waker.wake();
            }
            return ControlFlow::Break(());
        }
        self.applied = group.batch.end();
        self.shared.table.dedup.applied(group.durable);
        let given_up: Vec<_> = self.applier.take_at_limit().collect();
        self.quota_log.say(&given_up);
        self.record(&given_up);
        metrics::applied(&applied, self.shared.take_undeliverable(applied.acknowledged));
        self.shared.table.consumers.report();
        self.shared.recent.push(group.batch.clone());
        (self.sink)(&group.batch);
        self.applier.announce();
        self.shared.receipts.publish(group.durable);
        for waker in group.contributors {
            waker.wake();
        }
        let waiters = {
            let mut waiters = self.shared.tail_waiters.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *waiters)
        };
        for waker in waiters {
            waker.wake();
        }
        ControlFlow::Continue(())
    }

    /// Puts on record what sessions had to give up.
    fn record(&self, given_up: &[AtLimit]) {
        let Some(decisions) = self.shared.decisions.get() else { return };
        for AtLimit { session, given_up, reason, .. } in given_up.iter().filter(|noted| noted.given_up > 0) {
            let decision = Decision {
                client: &session.client_id,
                topic: "",
                action: Action::Dropped,
                reason: *reason,
                count: u32::try_from(*given_up).unwrap_or(u32::MAX),
            };
            decisions.record(crate::clock::unix_ms(), decision);
        }
    }

    /// Hands the changed rows to the view's own thread, if that is free. What is not taken now is taken next time.
    fn save(&mut self) {
        if let Some((changes, applied)) = self.refused.take()
            && let Err(changes) = self.view.try_save(changes, applied)
        {
            self.refused = Some((changes, applied));
        }
        // Where nothing has changed the offset is saved all the same: the log is trimmed only as far as the view has seen it.
        let is_saved = !self.applier.has_unsaved() && self.view.saved() >= self.applied;
        if self.refused.is_some() || !self.rounds.settle(&self.view) || is_saved {
            return;
        }
        let (removed, changed) = self.applier.take_unsaved();
        let mut changes = Changes::new();
        for session in &removed {
            if let Err(error) = snapshot::forget(session, &mut changes) {
                tracing::error!(%error, client_id = %session.client_id, "a removed session cannot be taken out of the view");
            }
        }
        for session in &changed {
            if let Err(error) = snapshot::save(session, &mut changes) {
                tracing::error!(%error, client_id = %session.client_id, "a session cannot be saved in the view");
            }
        }
        if let Some(rules) = self.applier.take_unsaved_rules()
            && let Err(error) = changes.put(Table::Meta, recovery::RULES_KEY, &rules.encode())
        {
            tracing::error!(%error, "the rules cannot be saved in the view");
        }
        for (group, turn) in self.applier.take_unsaved_turns() {
            let key = [recovery::TURN_PREFIX, group.as_bytes()].concat();
            let saved = match turn {
                Some(turn) => changes.put(Table::Meta, &key, &turn.to_le_bytes()),
                None => changes.delete(Table::Meta, &key),
            };
            if let Err(error) = saved {
                tracing::error!(%error, %group, "whose turn it is in a group cannot be saved in the view");
            }
        }
        let table = &self.shared.table;
        let saved =
            table.write_retained().save(&mut changes).and_then(|()| table.write_wills().save(&mut changes));
        if let Err(error) = saved {
            tracing::error!(%error, "Retained Messages and wills cannot be saved in the view");
        }
        if let Err(error) = table.streams.save(&mut changes) {
            tracing::error!(%error, "what streams keep cannot be saved in the view");
        }
        if let Err(error) = table.dedup.save(&mut changes) {
            tracing::error!(%error, "the names of events cannot be saved in the view");
        }
        if let Err(error) = table.consumers.save(&mut changes) {
            tracing::error!(%error, "consumers and dead letters cannot be saved in the view");
        }
        self.rounds.begin(&self.view, self.applied, changed);
        if let Err(changes) = self.view.try_save(changes, self.applied) {
            self.refused = Some((changes, self.applied));
        }
    }
}
