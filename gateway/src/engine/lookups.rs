//! What is asked of the view: Retained Messages, wills, sessions.

use super::recent::Found;
use super::{Cause, DurableSession, Engine, RetainedMessage, Will};
use crate::decisions::{Action, Decision, DecisionLog, Reason};
use gateway_protocol::TopicFilter;
use gateway_storage::Offset;
use std::sync::Arc;

impl Engine {
    /// Retained Messages whose topics match `filter`, in the order in which they were published.
    #[must_use]
    pub fn retained(&self, filter: TopicFilter<'_>) -> Vec<Arc<RetainedMessage>> {
        self.shared.table.read_retained().matching(filter)
    }

    /// How many Retained Messages there are, and what they cost in bytes.
    #[must_use]
    pub fn retained_size(&self) -> (u64, u64) {
        self.shared.table.read_retained().size()
    }

    /// The Retained Message that was published at `offset`, unless it was replaced or removed. For backlogs that refer to one where the log
    /// no longer has it.
    #[must_use]
    pub fn retained_at(&self, offset: Offset) -> Option<Arc<RetainedMessage>> {
        self.shared.table.read_retained().at(offset)
    }

    /// Whether `topic` has a Retained Message.
    #[must_use]
    pub fn is_retained(&self, topic: &str) -> bool {
        self.shared.table.read_retained().contains(topic)
    }

    /// Retained Messages that have expired, at most `max`.
    #[must_use]
    pub fn expired_retained(&self, now_ms: u64, max: usize) -> Vec<Arc<RetainedMessage>> {
        self.shared.table.read_retained().expired(now_ms, max)
    }

    /// The Will Message that a client has left, if any.
    #[must_use]
    pub fn will(&self, client_id: &str) -> Option<Arc<Will>> {
        self.shared.table.read_wills().get(client_id)
    }

    /// All Will Messages by Client Identifier.
    #[must_use]
    pub fn wills(&self) -> Vec<(Box<str>, Arc<Will>)> {
        self.shared.table.read_wills().all()
    }

    /// The durable session of a client, if it has one.
    #[must_use]
    pub fn session(&self, client_id: &str) -> Option<Arc<DurableSession>> {
        self.shared.table.session(client_id)
    }

    /// All durable sessions.
    #[must_use]
    pub fn sessions(&self) -> Vec<Arc<DurableSession>> {
        self.shared.table.sessions()
    }

    /// How many durable sessions there are.
    #[must_use]
    pub fn session_count(&self) -> usize {
        self.shared.table.session_count()
    }

    /// From now on what sessions have to give up goes on record there; the first one counts.
    pub fn report_to(&self, decisions: DecisionLog) {
        let _ = self.shared.decisions.set(decisions);
    }

    /// An event has become a dead letter of a consumer, and that is stored: it goes on record.
    pub fn record_dead_letter(&self, consumer: &str, offset: u64) {
        let Some(decisions) = self.shared.decisions.get() else { return };
        let Some(letter) = self.dead_letter(consumer, offset) else { return };
        let reason = match letter.cause() {
            Cause::Rejected(_) => Reason::WorkerRejected,
            Cause::TooLarge => Reason::TooLargeForWorker,
            Cause::MaxDeliver | Cause::Timeout | Cause::WorkerLost | Cause::Nak | Cause::Released => {
                Reason::MaxDeliver
            }
        };
        let topic = letter.event().topic;
        let decision = Decision { client: consumer, topic, action: Action::DeadLettered, reason, count: 1 };
        decisions.record(crate::clock::unix_ms(), decision);
    }

    /// Whether the event at `offset` would have to be read from the disk.
    #[must_use]
    pub fn is_on_disk(&self, offset: Offset) -> bool {
        matches!(self.shared.recent.find(offset), Found::Older)
    }
}
