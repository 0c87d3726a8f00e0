//! Publishes from the client that wait for their acknowledgement, in the order in which they came, and the Packet Identifiers of QoS 2
//! publishes that are ours but not released yet.
//!
//! ```text
//!  QoS 1:  PUBLISH --> pending --durable--> PUBACK
//!  QoS 2:  PUBLISH --> pending --durable--> PUBREC, received --PUBREL, durable--> PUBCOMP
//! ```

use crate::{PacketId, QoS, ReasonCode};
use std::collections::{BTreeSet, VecDeque};

#[derive(Clone, Copy, Debug)]
pub(super) struct Pending {
    pub(super) packet_id: PacketId,
    pub(super) qos: QoS,
    pub(super) reason: ReasonCode,
    /// The host has this message already, from an earlier PUBLISH.
    pub(super) is_duplicate: bool,
}

/// The queue and the set. The queue's length is bounded by Receive Maximum (version 5), or by one read past it (3.1.1, where the host
/// stops reading); the set by the number of Packet Identifiers.
#[derive(Debug, Default)]
pub(super) struct Inbound {
    pending: VecDeque<Pending>,
    received: BTreeSet<PacketId>,
}

impl Inbound {
    /// Publishes that wait for PUBACK or PUBREC.
    pub(super) fn pending(&self) -> usize {
        self.pending.len()
    }

    /// Publishes that count against Receive Maximum: a QoS 2 one does so until PUBCOMP (MQTT 5, 4.9).
    pub(super) fn unfinished(&self) -> usize {
        self.pending.len() + self.received.len()
    }

    pub(super) fn is_pending(&self, packet_id: PacketId) -> bool {
        // Short: the queue holds what arrived within one group commit.
        self.pending.iter().any(|pending| pending.packet_id == packet_id)
    }

    pub(super) fn is_received(&self, packet_id: PacketId) -> bool {
        self.received.contains(&packet_id)
    }

    pub(super) fn push(&mut self, packet_id: PacketId, qos: QoS) {
        self.pending.push_back(Pending { packet_id, qos, reason: ReasonCode::Success, is_duplicate: false });
    }

    pub(super) fn refuse_newest(&mut self, reason: ReasonCode) {
        if let Some(newest) = self.pending.back_mut() {
            newest.reason = reason;
        }
    }

    pub(super) fn mark_newest_duplicate(&mut self) {
        if let Some(newest) = self.pending.back_mut() {
            newest.is_duplicate = true;
        }
    }

    /// Takes the oldest; at QoS 2 it is remembered as received, unless it is refused [MQTT-4.3.3-9].
    pub(super) fn pop(&mut self) -> Option<Pending> {
        let pending = self.pending.pop_front()?;
        if self.pending.is_empty() && self.pending.capacity() > KEPT_WHEN_EMPTY {
            // An idle connection owns no buffer.
            self.pending = VecDeque::new();
        }
        if pending.qos == QoS::ExactlyOnce && !pending.reason.is_error() {
            self.received.insert(pending.packet_id);
        }
        Some(pending)
    }

    /// Identifiers received on earlier connections.
    pub(super) fn resume(&mut self, received: impl IntoIterator<Item = PacketId>) {
        self.received.extend(received);
    }

    /// False when there was nothing to release.
    pub(super) fn release(&mut self, packet_id: PacketId) -> bool {
        self.received.remove(&packet_id)
    }
}

const KEPT_WHEN_EMPTY: usize = 64;
