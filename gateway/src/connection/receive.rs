//! What the client sends: packets to decisions, publishes to the log, receipts to acknowledgements.

use super::brake::{Brake, MOMENT};
use super::metrics;
use super::task::{Connection, Outcome};
use super::toll::Pressed;
use super::turn::is_overloaded;
use super::words;
use super::{Context, Ingest};
use crate::clock;
use crate::decisions::Action;
use crate::engine::NamedEvents;
use crate::spans::OpenSpan;
use gateway_protocol::codec::{Decoded, Publishes, decode};
use gateway_protocol::packet::Packet;
use gateway_protocol::session::{Event, Lane, Millis};
use gateway_protocol::{PacketId, ReasonCode};
use gateway_storage::{Staging, SubmitError, Ticket, Urgency};
use std::sync::Arc;
use std::task::Waker;

/// Bytes of a PUBACK that says nothing but Success.
const PUBACK_BYTES: usize = 4;

/// Acknowledgements that one receipt releases.
#[derive(Debug, Default)]
pub(super) struct Owed {
    pub(super) ticket: Option<Ticket>,
    /// PUBACKs, for the oldest publishes.
    pub(super) publishes: usize,
    pub(super) replies: Vec<Reply>,
    /// The named ones among the events.
    pub(super) named: Option<Box<NamedEvents>>,
    /// Those of publishes that are acknowledged then.
    pub(super) spans: Vec<OpenSpan>,
}

/// A packet that waits for its entries to be stored and applied.
#[derive(Debug)]
pub(super) enum Reply {
    SubAck(PacketId, Vec<u8>),
    UnsubAck(PacketId, Vec<u8>),
    /// The identifier of a QoS 2 publish is forgotten.
    PubComp(PacketId),
    /// The client's having a QoS 2 delivery, by its sequence, is remembered.
    PubRel(u64),
}

/// What one read has brought, until it is handed on.
#[derive(Default)]
pub(super) struct ReadBatch {
    pub(super) now_ms: u64,
    /// The routing in force when the read began.
    pub(super) epoch: u64,
    /// Publishes that wait for nothing: nothing durable wants them, and nothing before them waits.
    pub(super) free: usize,
    pub(super) publishes: usize,
    pub(super) replies: Vec<Reply>,
    pub(super) counts: metrics::Received,
    /// Of publishes that are traced and not refused.
    pub(super) spans: Vec<OpenSpan>,
    /// There is something to be judged by.
    pub(super) pressed: Option<Box<Pressed>>,
}

impl Connection {
    /// Decodes and takes every whole packet of `bytes`. Answers how many bytes were used, and how the connection ended, if it did.
    pub(super) fn take_packets(
        &mut self,
        context: &Context,
        bytes: &[u8],
        waker: &Waker,
        out: &mut Vec<u8>,
    ) -> (usize, Option<Outcome>) {
        let mut ingest = context.ingest.borrow();
        let epoch = context.engine.interest_epoch();
        let now = clock::monotonic();
        let pressed = Pressed::begin(context, context.rates_of(self.listener), now.0);
        let mut batch = ReadBatch { now_ms: clock::unix_ms(), epoch, pressed, ..ReadBatch::default() };
        let max_packet_bytes = context.limits.max_packet_bytes as usize;
        // Whatever PUBLISH is whole and legal is taken from here, everything else from `decode`.
        let mut publishes = Publishes::default();
        let mut used = 0;
        let mut outcome = None;
        self.feed.has_unparsed = false;
        while let Some(rest) = bytes.get(used..)
            && !rest.is_empty()
        {
            let pubacks = self.take_pubacks(now, rest);
            if pubacks > 0 {
                self.tell_pubacks(rest.get(..pubacks * PUBACK_BYTES));
                used += pubacks * PUBACK_BYTES;
                batch.counts.packets += pubacks as u64;
                continue;
            }
            ingest.look_ahead(rest);
            if let Some((publish, consumed)) =
                publishes.decode(rest, self.session.version(), max_packet_bytes)
            {
                if self.leaves(&publish, &mut batch) {
                    self.feed.has_unparsed = true;
                    break;
                }
                used += consumed;
                batch.counts.packets += 1;
                self.tell_received(consumed, || Packet::Publish(publish));
                let packet = rest.get(..consumed).unwrap_or_default();
                let taken = self.take_publish(now, &publish, packet, &mut ingest, &mut batch, out);
                outcome = taken.unwrap_or_else(|closed| Some(Outcome::Closed(closed.reason)));
                self.tell_done(outcome);
                if outcome.is_some() {
                    break;
                }
                continue;
            }
            match decode(rest, self.session.version(), max_packet_bytes) {
                Ok(Decoded::Incomplete { .. }) => break,
                Ok(Decoded::Packet { packet, consumed }) => {
                    used += consumed;
                    batch.counts.packets += 1;
                    self.tell_received(consumed, || packet);
                    let event = self.session.handle_packet(now, packet, out);
                    let taken = event.map(|event| self.take_event(event, &mut ingest, &mut batch, out));
                    outcome = taken.unwrap_or_else(|closed| Some(Outcome::Closed(closed.reason)));
                    self.tell_done(outcome);
                }
                Err(error) => {
                    outcome = Some(Outcome::Closed(self.session.handle_malformed(error, out).reason));
                }
            }
            if outcome.is_some() {
                break;
            }
        }
        batch.counts.bytes = used as u64;
        let refused = self.hand_on(&mut ingest, batch, waker, out);
        (used, outcome.or(refused))
    }

    /// Takes the PUBACKs at the front of `bytes`; how many.
    #[inline]
    fn take_pubacks(&mut self, now: Millis, bytes: &[u8]) -> usize {
        let Self { session, durable, feed, work, traced, .. } = self;
        let count = session.handle_pubacks(now, bytes, |lane, sequence| {
            if let Some(traced) = traced {
                traced.acknowledged(lane, sequence, ReasonCode::Success);
            }
            match (lane, &mut *durable) {
                (Lane::Live, _) => {
                    feed.counts.acked += 1;
                    if let Some(work) = work {
                        work.acknowledge(sequence);
                    }
                }
                (Lane::Durable, Some(durable)) => durable.acks.push(sequence),
                (Lane::Durable, None) => {}
            }
        });
        if count > 0 {
            self.settle_acknowledged();
            self.traced = self.traced.take().filter(|traced| !traced.is_empty());
        }
        count
    }

    fn take_event(
        &mut self,
        event: Event<'_>,
        ingest: &mut Ingest,
        batch: &mut ReadBatch,
        out: &mut Vec<u8>,
    ) -> Option<Outcome> {
        match event {
            Event::Released { packet_id } => self.release(packet_id, &mut ingest.stored, batch, out),
            Event::Received { sequence } => self.remember(sequence, &mut ingest.stored, batch),
            Event::Subscribe(subscribe) => self.subscribe(&subscribe, &mut ingest.stored, batch, out),
            Event::Unsubscribe(unsubscribe) => self.unsubscribe(&unsubscribe, &mut ingest.stored, batch, out),
            Event::Acknowledged { lane: Lane::Durable, sequence, reason } => {
                self.end_delivery_span(Lane::Durable, sequence, reason);
                if let Some(durable) = &mut self.durable {
                    durable.acks.push(sequence);
                }
            }
            Event::Acknowledged { lane: Lane::Live, sequence, reason } => {
                self.feed.counts.acked += 1;
                self.end_delivery_span(Lane::Live, sequence, reason);
                self.settle_item(sequence, reason);
            }
            Event::Disconnect { with_will, session_expiry_secs } => {
                self.final_expiry_secs = session_expiry_secs;
                return Some(if with_will { Outcome::LeftWithWill } else { Outcome::Left });
            }
            // CONNECT is taken by the handshake, PUBLISH where it is decoded.
            Event::Connect(_) | Event::Publish(_) | Event::Handled => {}
        }
        None
    }

    /// Hands on what a read has staged: one submit for the log, one dispatch for live subscribers, one set of counters.
    fn hand_on(
        &mut self,
        ingest: &mut Ingest,
        batch: ReadBatch,
        waker: &Waker,
        out: &mut Vec<u8>,
    ) -> Option<Outcome> {
        batch.counts.report();
        let sent = ingest.take_live().map(|(live, ways)| {
            let mut dispatcher = self.context.dispatchers.borrow();
            dispatcher.dispatch_on_ways(&live, ways)
        });
        if let Some(pressed) = &batch.pressed {
            pressed.settle(&self.context, &self.claim.seat.client_id, batch.now_ms, &mut self.brake);
            if let (Some(toll), Some(sent)) = (&mut self.toll, &sent) {
                toll.charge_deliveries(&self.context, pressed, sent.routed);
            }
        }
        if let Some(behind) = sent.and_then(|sent| sent.behind)
            && !self.outbox.as_ref().is_some_and(|own| Arc::ptr_eq(&behind, own))
        {
            self.brake.get_or_insert_with(Brake::new).for_subscriber(behind);
        }
        match &mut self.brake {
            Some(brake) => brake.acknowledgements += batch.free,
            None => self.session.handle_durable(batch.free, out),
        }
        let named = ingest.named.take();
        if ingest.stored.is_empty() {
            if let Some(last) = self.owed.back_mut() {
                last.publishes += batch.publishes;
                last.spans.extend(batch.spans);
                match (&mut last.named, named) {
                    (Some(earlier), Some(named)) => earlier.join(*named),
                    (none, named) => *none = none.take().or(named),
                }
            } else {
                if let Some(brake) = &mut self.brake {
                    brake.acknowledgements += batch.publishes;
                }
                batch.spans.into_iter().for_each(OpenSpan::end_as_expected);
            }
            return None;
        }
        let ReadBatch { publishes, replies, spans, .. } = batch;
        let owed = Owed { ticket: None, publishes, replies, named, spans };
        if self.owed.is_empty() {
            self.last_epoch = batch.epoch;
        }
        let refused = self.submit(&mut ingest.stored, owed, waker);
        // What had no room was taken along; what was refused is not to be found by the next connection.
        ingest.stored.clear();
        refused.map(|reason| {
            self.session.close(reason, words::of(reason), out);
            Outcome::Closed(reason)
        })
    }

    /// Submits entries. The reason to close with, when the log takes nothing.
    pub(super) fn submit(
        &mut self,
        staging: &mut Staging,
        mut owed: Owed,
        waker: &Waker,
    ) -> Option<ReasonCode> {
        let events = staging.events();
        let is_first = self.brings_critical() && is_overloaded(&self.context);
        let urgency = if is_first { Urgency::AtOnce } else { Urgency::Now };
        match self.context.engine.submit(staging, urgency, waker, self.last_ticket) {
            Ok(ticket) => {
                self.last_ticket = Some(ticket);
                owed.ticket = Some(ticket);
                if let Some(named) = &mut owed.named {
                    named.submitted(ticket);
                }
                self.owed.push_back(owed);
                None
            }
            Err(SubmitError::Full) => {
                self.held = Some(Box::new((std::mem::take(staging), owed)));
                None
            }
            Err(SubmitError::LogFull) if self.context.settings.holds_when_full && !self.is_leaving => {
                // There will be room again: what is held is neither lost nor refused, and nothing more is read.
                self.held = Some(Box::new((std::mem::take(staging), owed)));
                self.brake.get_or_insert_with(Brake::new).unread(MOMENT);
                None
            }
            Err(SubmitError::LogFull) => {
                self.reject(metrics::NotStored::LogFull, events);
                Some(ReasonCode::QuotaExceeded)
            }
            Err(SubmitError::Unavailable { .. } | SubmitError::Stopped) => {
                self.reject(metrics::NotStored::LogUnavailable, events);
                Some(ReasonCode::ServerBusy)
            }
        }
    }

    fn reject(&self, reason: metrics::NotStored, events: usize) {
        metrics::not_stored(reason, events);
        if events > 0 {
            let count = u32::try_from(events).unwrap_or(u32::MAX);
            self.context.decide(&self.claim.seat.client_id, "", Action::Refused, reason.reason(), count);
        }
    }

    /// Tries again to submit what had no room.
    pub(super) fn submit_held(&mut self, cx: &std::task::Context<'_>) -> Option<ReasonCode> {
        let mut held = self.held.take()?;
        let owed = std::mem::take(&mut held.1);
        self.submit(&mut held.0, owed, cx.waker())
    }

    /// Sends what the newest receipt allows.
    ///
    /// # Errors
    /// The reason to close with, when a receipt will never come: the log failed under these entries, and the client still has them.
    pub(super) fn release_receipts(&mut self, out: &mut Vec<u8>) -> Result<(), ReasonCode> {
        if self.owed.is_empty() {
            return Ok(());
        }
        let receipt = self.context.engine.receipt();
        while let Some(owed) = self.owed.front() {
            let (Some(ticket), Some(receipt)) = (owed.ticket, receipt) else { break };
            if receipt.outlives(ticket) {
                return Err(ReasonCode::ServerBusy);
            }
            if !receipt.covers(ticket) {
                break;
            }
            let Some(owed) = self.owed.pop_front() else { break };
            if owed.named.is_some_and(|named| !named.are_stored()) {
                // A duplicate of what the log has lost in an earlier life: the client still has it, and will say it again.
                return Err(ReasonCode::ServerBusy);
            }
            self.session.handle_durable(owed.publishes, out);
            owed.spans.into_iter().for_each(OpenSpan::end_as_expected);
            for reply in owed.replies {
                self.reply(reply, out);
            }
        }
        if self.owed.is_empty() {
            self.owed.shrink_to(0);
        } else if self.context.engine.is_poisoned() {
            return Err(ReasonCode::ServerBusy);
        }
        Ok(())
    }

    /// Logs which deliveries the client has acknowledged. It is no reason to commit: it rides along with the next group.
    pub(super) fn submit_acknowledgements(&mut self, cx: &std::task::Context<'_>) {
        let Some(durable) = &mut self.durable else { return };
        durable.submit_acknowledgements(&self.context.engine, &self.claim.seat.client_id, cx.waker());
    }
}
