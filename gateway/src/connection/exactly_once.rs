//! QoS 2: what of its handshakes goes into the log, so that a restart knows of them.

use super::receive::{ReadBatch, Reply};
use super::task::Connection;
use crate::engine::AckRuns;
use crate::ingest;
use gateway_protocol::packet::Publish;
use gateway_protocol::{PacketId, QoS};
use gateway_storage::{Entry, Staging};

impl Connection {
    /// Stages the identifier of a QoS 2 publish along with the message: both are in one group, so a restart knows both or neither.
    /// Whether anything of this publish is on its way to the log.
    pub(super) fn remember_identifier(
        &self,
        publish: &Publish<'_>,
        outcome: ingest::Outcome,
        stored: &mut Staging,
    ) -> bool {
        let is_stored = outcome == ingest::Outcome::Stored;
        let Some(packet_id) = publish.packet_id else { return is_stored };
        let is_refused = matches!(outcome, ingest::Outcome::Refused(_));
        if publish.qos != QoS::ExactlyOnce || self.durable.is_none() || is_refused {
            return is_stored;
        }
        let entry =
            Entry::PublishReceived { client_id: &self.claim.seat.client_id, packet_id: packet_id.get() };
        // An entry this small always has room next to what one read brings.
        stored.push(&entry).is_ok() || is_stored
    }

    pub(super) fn release(
        &mut self,
        packet_id: PacketId,
        stored: &mut Staging,
        batch: &mut ReadBatch,
        out: &mut Vec<u8>,
    ) {
        let entry =
            Entry::PublishReleased { client_id: &self.claim.seat.client_id, packet_id: packet_id.get() };
        if self.durable.is_some() && stored.push(&entry).is_ok() {
            batch.replies.push(Reply::PubComp(packet_id));
        } else {
            self.session.handle_released(packet_id, out);
        }
    }

    pub(super) fn remember(&mut self, sequence: u64, stored: &mut Staging, batch: &mut ReadBatch) {
        let mut run = AckRuns::default();
        run.push(sequence);
        let mut bytes = Vec::with_capacity(12);
        run.encode(&mut bytes);
        let entry = Entry::DeliveryReceived { client_id: &self.claim.seat.client_id, runs: &bytes };
        if stored.push(&entry).is_ok() {
            batch.replies.push(Reply::PubRel(sequence));
        }
    }
}
