//! Publishes from the client that wait for their acknowledgement, in the order in which they came.

use crate::{PacketId, ReasonCode};
use std::collections::VecDeque;

#[derive(Clone, Copy, Debug)]
pub(super) struct Pending {
    pub(super) packet_id: PacketId,
    pub(super) reason: ReasonCode,
}

/// The queue. Its length is bounded by Receive Maximum (version 5), or by one read past it (3.1.1, where the host stops reading).
#[derive(Debug, Default)]
pub(super) struct Inbound {
    pending: VecDeque<Pending>,
}

impl Inbound {
    pub(super) fn len(&self) -> usize {
        self.pending.len()
    }

    pub(super) fn contains(&self, packet_id: PacketId) -> bool {
        // Clients count upwards, so an identifier above the newest one is almost always new; the scan is for the others, and
        // it is short: the queue holds what arrived within one group commit.
        self.pending.iter().any(|pending| pending.packet_id == packet_id)
    }

    pub(super) fn push(&mut self, packet_id: PacketId) {
        self.pending.push_back(Pending { packet_id, reason: ReasonCode::Success });
    }

    pub(super) fn refuse_newest(&mut self, reason: ReasonCode) {
        if let Some(newest) = self.pending.back_mut() {
            newest.reason = reason;
        }
    }

    pub(super) fn pop(&mut self) -> Option<Pending> {
        let pending = self.pending.pop_front();
        if self.pending.is_empty() && self.pending.capacity() > KEPT_WHEN_EMPTY {
            // An idle connection owns no buffer.
            self.pending = VecDeque::new();
        }
        pending
    }
}

const KEPT_WHEN_EMPTY: usize = 64;
