//! Where the spans of a connection begin and end: *publish* when a packet is taken, *deliver* when one was sent.

use super::feed::{How, Origin};
use super::task::Connection;
use crate::decisions::Reason;
use crate::ingest;
use crate::spans::{Delivered, OpenSpan};
use gateway_protocol::packet::Publish;
use gateway_protocol::session::Lane;
use gateway_protocol::{QoS, ReasonCode};
use gateway_storage::{Batch, Event};
use std::collections::BTreeMap;

/// Deliveries of one connection that are traced and not acknowledged. Most connections have none.
#[derive(Default)]
pub(super) struct Traced {
    /// By their numbers in the live lane, and in the durable one.
    live: BTreeMap<u64, OpenSpan>,
    durable: BTreeMap<u64, OpenSpan>,
}

impl Traced {
    const fn lane(&mut self, lane: Lane) -> &mut BTreeMap<u64, OpenSpan> {
        match lane {
            Lane::Live => &mut self.live,
            Lane::Durable => &mut self.durable,
        }
    }

    /// The client is done with a delivery.
    pub(super) fn acknowledged(&mut self, lane: Lane, sequence: u64, reason: ReasonCode) {
        let Some(span) = self.lane(lane).remove(&sequence) else { return };
        if reason.is_error() {
            span.fail("refused");
        } else {
            span.end("acknowledged");
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.live.is_empty() && self.durable.is_empty()
    }
}

/// The span of a publish that was taken, which ends with its acknowledgement; none where that will not be.
pub(super) fn taken(span: OpenSpan, outcome: ingest::Outcome) -> Option<OpenSpan> {
    match outcome {
        ingest::Outcome::Stored => Some(span.expecting("stored")),
        ingest::Outcome::Live => Some(span.expecting("live")),
        ingest::Outcome::Unwanted => Some(span.expecting("unwanted")),
        ingest::Outcome::Duplicate | ingest::Outcome::DuplicateOnItsWay => Some(span.expecting("duplicate")),
        ingest::Outcome::Refused(refusal) => {
            span.fail(refusal.reason().label());
            None
        }
    }
}

impl Connection {
    /// The span of a publish, if it is to be traced. `now_ms` is the time that its event is given.
    pub(super) fn begin_publish_span(&self, publish: &Publish<'_>, now_ms: u64) -> Option<OpenSpan> {
        let event = Event {
            client_id: &self.claim.seat.client_id,
            topic: publish.topic,
            qos: publish.qos as u8,
            retain: publish.retain,
            received_ms: now_ms,
            expires_at_ms: 0,
            properties: publish.properties.raw(),
            payload: publish.payload,
        };
        self.context.spans.publish(&event)
    }

    /// The span of a publish that is not taken.
    #[cold]
    pub(super) fn trace_refusal(&self, publish: &Publish<'_>, now_ms: u64, reason: Reason) {
        let resolved = Publish { topic: self.session.topic_of(publish), ..*publish };
        if let Some(span) = self.begin_publish_span(&resolved, now_ms) {
            span.fail(reason.label());
        }
    }

    /// Where an event comes from, if anything is traced.
    #[inline]
    pub(super) fn origin_in(&self, batch: &Batch, at: usize, event: &Event<'_>) -> Option<Origin<'static>> {
        if !self.context.spans.is_on() {
            return None;
        }
        // What is for live subscribers alone has no place in the log.
        Some(match batch.time_ms(at) {
            0 => Origin { routed_ms: Some(event.received_ms), offset: None, work: None },
            committed_ms => Origin { routed_ms: Some(committed_ms), offset: batch.offset_of(at), work: None },
        })
    }

    /// A message was sent; `sequence` is its number in its lane, if it is to be acknowledged.
    #[inline]
    pub(super) fn begin_delivery_span(
        &mut self,
        event: &Event<'_>,
        how: &How<'_>,
        origin: &Origin<'_>,
        sequence: u64,
    ) {
        if event.properties.is_empty() {
            return; // There is no trace in them.
        }
        let delivered = Delivered {
            client_id: &self.claim.seat.client_id,
            qos: how.qos as u8,
            dup: how.dup,
            routed_ms: origin.routed_ms,
            offset: origin.offset.map(|offset| offset.get()),
            consumer: origin.work.map(|(consumer, _)| consumer),
            attempt: origin.work.map(|(_, attempt)| attempt),
        };
        let Some(span) = self.context.spans.deliver(event, &delivered) else { return };
        if how.qos == QoS::AtMostOnce {
            return span.end("sent");
        }
        let lane = if how.sequence.is_some() { Lane::Durable } else { Lane::Live };
        self.traced.get_or_insert_default().lane(lane).insert(sequence, span);
    }

    /// The client is done with a delivery.
    pub(super) fn end_delivery_span(&mut self, lane: Lane, sequence: u64, reason: ReasonCode) {
        let Some(traced) = &mut self.traced else { return };
        traced.acknowledged(lane, sequence, reason);
        if traced.is_empty() {
            self.traced = None;
        }
    }
}
