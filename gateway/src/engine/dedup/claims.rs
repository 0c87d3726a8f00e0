//! The named events of one read, on their way to the log.

use super::Dedup;
use super::identity::Identity;
use gateway_storage::Ticket;
use std::sync::Arc;

/// What a read has named: events that were staged for the log, and duplicates of events that are not stored yet. It goes with the
/// submission; dropped before that was taken, its events are as if they had never been named.
#[derive(Debug)]
pub struct NamedEvents {
    dedup: Arc<Dedup>,
    staged: Vec<Identity>,
    /// With the times at which they were received.
    awaited: Vec<(Identity, u64)>,
    is_submitted: bool,
}

impl NamedEvents {
    pub(super) const fn new(dedup: Arc<Dedup>) -> Self {
        Self { dedup, staged: Vec::new(), awaited: Vec::new(), is_submitted: false }
    }

    /// An event was staged for the log. From now on it is on its way.
    pub fn stage(&mut self, identity: Identity, received_ms: u64) {
        self.dedup.begin(identity, received_ms);
        self.staged.push(identity);
    }

    /// A duplicate of an event on its way, received at `received_ms`, is to be acknowledged when that one is stored.
    pub fn wait_for(&mut self, identity: Identity, received_ms: u64) {
        self.awaited.push((identity, received_ms));
    }

    /// Waits for what a later read waits for, too.
    pub fn join(&mut self, mut later: Self) {
        self.awaited.append(&mut later.awaited);
    }

    /// The log has taken the staged events.
    pub fn submitted(&mut self, ticket: Ticket) {
        self.is_submitted = true;
        self.dedup.submitted(&self.staged, ticket);
        self.staged = Vec::new();
    }

    /// Whether every event is stored of which a duplicate waits. To be asked when a receipt covers the submission: what is not stored by
    /// then never will be, and its duplicate must not be acknowledged.
    #[must_use]
    pub fn are_stored(&self) -> bool {
        self.awaited.is_empty() || self.dedup.are_stored(&self.awaited)
    }
}

impl Drop for NamedEvents {
    fn drop(&mut self) {
        if !self.is_submitted && !self.staged.is_empty() {
            self.dedup.give_up(&self.staged);
        }
    }
}
