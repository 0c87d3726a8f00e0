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

/// The set of identifiers that are ours.
#[derive(Debug, Default)]
struct Received {
    ids: BTreeSet<PacketId>,
}

/// The queue and the set. The queue's length is bounded by Receive Maximum (version 5), or by one read past it (3.1.1, where the host
/// stops reading); the set by the number of Packet Identifiers.
#[derive(Debug, Default)]
pub(super) struct Inbound {
    pending: VecDeque<Pending>,
    /// The identifiers in the queue go up from its front to its back.
    is_ascending: bool,
    /// Few clients publish at QoS 2.
    received: Option<Box<Received>>,
}

impl Inbound {
    /// Publishes that wait for PUBACK or PUBREC.
    pub(super) fn pending(&self) -> usize {
        self.pending.len()
    }

    /// Publishes that count against Receive Maximum: a QoS 2 one does so until PUBCOMP (MQTT 5, 4.9).
    pub(super) fn unfinished(&self) -> usize {
        self.pending.len() + self.received.as_ref().map_or(0, |received| received.ids.len())
    }

    #[inline]
    pub(super) fn is_pending(&self, packet_id: PacketId) -> bool {
        let (Some(oldest), Some(newest)) = (self.pending.front(), self.pending.back()) else { return false };
        // Clients count their identifiers up, so the next one lies past the newest, but for when they begin again.
        if self.is_ascending && !(oldest.packet_id..=newest.packet_id).contains(&packet_id) {
            return false;
        }
        self.pending.iter().any(|pending| pending.packet_id == packet_id)
    }

    pub(super) fn is_received(&self, packet_id: PacketId) -> bool {
        self.received.as_ref().is_some_and(|received| received.ids.contains(&packet_id))
    }

    #[inline]
    pub(super) fn push(&mut self, packet_id: PacketId, qos: QoS) {
        let newest = self.pending.back();
        self.is_ascending = newest.is_none_or(|newest| self.is_ascending && newest.packet_id < packet_id);
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
            self.received.get_or_insert_default().ids.insert(pending.packet_id);
        }
        Some(pending)
    }

    /// Identifiers received on earlier connections.
    pub(super) fn resume(&mut self, received: impl IntoIterator<Item = PacketId>) {
        let mut received = received.into_iter().peekable();
        if received.peek().is_some() {
            self.received.get_or_insert_default().ids.extend(received);
        }
    }

    /// False when there was nothing to release.
    pub(super) fn release(&mut self, packet_id: PacketId) -> bool {
        self.received.as_mut().is_some_and(|received| received.ids.remove(&packet_id))
    }
}

const KEPT_WHEN_EMPTY: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identifier_is_pending_if_it_is_in_the_queue_and_not_otherwise() {
        let ids = [3, 4, 9, 65_534, 65_535, 1, 2, 5, 6, 7];
        let all = || (1..12).chain(65_530..=65_535).filter_map(PacketId::new);
        let mut inbound = Inbound::default();
        let mut waiting = VecDeque::new();
        // Filled one by one with the queue never empty, then emptied, twice: past the end of the numbers and back in order.
        for id in ids.into_iter().chain([8, 10]).filter_map(PacketId::new) {
            inbound.push(id, QoS::AtLeastOnce);
            waiting.push_back(id);
            if waiting.len() > 4 {
                assert_eq!(inbound.pop().map(|pending| pending.packet_id), waiting.pop_front());
            }
            if id.get() == 7 {
                while inbound.pop().is_some() {}
                waiting.clear();
            }
            for asked in all() {
                assert_eq!(inbound.is_pending(asked), waiting.contains(&asked), "{asked:?} in {waiting:?}");
            }
        }
    }
}
