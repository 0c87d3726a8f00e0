//! A client that works for consumers: `$consumer/<name>`.
//!
//! Each such subscription is a worker. Its deliveries go out on the live lane at QoS 1, under the event's own topic, and what the client
//! answers says what became of them: PUBACK with success settles, one with a Reason Code of 0x80 or more fails, and 0x99 and 0x83 mean that
//! nobody can do it. How much the client is handed is what its Receive Maximum leaves free. UNSUBSCRIBE and DISCONNECT give back what is
//! under way; a connection that is lost keeps it until the leases are over, since the client may be working still.

use super::feed::{How, Origin, Step, describe};
use super::task::{Connection, Outcome};
use super::words::Why;
use crate::consumer::{
    Consumer, Delivery, DeliveryId, Ended, Handed, JoinError, Outcome as Became, Worker, WorkerKind,
};
use crate::engine::Cause;
use gateway_protocol::property::Property;
use gateway_protocol::{QoS, ReasonCode};
use std::collections::BTreeMap;
use std::task::{Context, Poll};

/// What a Topic Filter that names a consumer begins with.
pub(super) const PREFIX: &str = "$consumer/";

/// The working side of one connection. Most connections have none.
#[derive(Default)]
pub(super) struct Work {
    taking: Vec<Taking>,
    /// Deliveries in flight, by their number in the live lane.
    sent: BTreeMap<u64, (Consumer, DeliveryId)>,
    /// Those that the client has acknowledged by the packets that are being read.
    acknowledged: Vec<(Consumer, DeliveryId)>,
    /// Whose turn it is to get what is left of an uneven split.
    turn: usize,
}

/// One subscription.
struct Taking {
    filter: Box<str>,
    subscription_id: u32,
    consumer: Consumer,
    worker: Worker,
    /// Handed over, and not taken by the client yet.
    next: Option<Delivery>,
    credit: u32,
}

impl Work {
    pub(super) fn has(&self, filter: &str) -> bool {
        self.taking.iter().any(|taking| *taking.filter == *filter)
    }

    pub(super) const fn count(&self) -> usize {
        self.taking.len()
    }

    /// Splits what the client takes among the consumers.
    fn grant(&mut self, quota: usize) {
        let count = self.taking.len().max(1);
        self.turn = (self.turn + 1) % count;
        for (at, taking) in self.taking.iter_mut().enumerate() {
            let extra = (at + count - self.turn) % count < quota % count;
            let share = quota / count + usize::from(extra);
            let credit =
                u32::try_from(share).unwrap_or(u32::MAX).saturating_sub(u32::from(taking.next.is_some()));
            if credit != taking.credit {
                taking.credit = credit;
                taking.worker.set_credit(credit);
            }
        }
    }

    /// The client is done with the delivery of this number, if it is one to work on.
    pub(super) fn acknowledge(&mut self, sequence: u64) {
        self.acknowledged.extend(self.sent.remove(&sequence));
    }

    /// The connection is over.
    pub(super) fn end(self, outcome: Outcome) {
        let says_so = matches!(outcome, Outcome::Left | Outcome::LeftWithWill);
        for taking in self.taking.into_iter().filter(|_| says_so) {
            taking.worker.leave();
        }
    }
}

impl Connection {
    /// SUBSCRIBE to a consumer. The granted QoS, or why not.
    pub(super) fn join_consumer(
        &mut self,
        filter: &str,
        requested: QoS,
        subscription_id: u32,
    ) -> Result<QoS, ReasonCode> {
        if requested == QoS::AtMostOnce {
            // Nothing would say what became of an event.
            return Err(ReasonCode::ImplementationSpecificError);
        }
        let name = filter.strip_prefix(PREFIX).unwrap_or_default();
        let consumer = self.context.consumers.get(name).ok_or(ReasonCode::TopicFilterInvalid)?;
        let work = self.work.get_or_insert_default();
        if let Some(taking) = work.taking.iter_mut().find(|taking| *taking.filter == *filter) {
            taking.subscription_id = subscription_id;
            return Ok(QoS::AtLeastOnce);
        }
        let waker = self.claim.seat.waker().clone();
        let worker = consumer.join(&self.claim.seat.client_id, WorkerKind::Mqtt, 0, waker).map_err(
            |error| match error {
                JoinError::TooManyWorkers(_) => ReasonCode::QuotaExceeded,
                JoinError::Ended => ReasonCode::TopicFilterInvalid,
            },
        )?;
        work.taking.push(Taking {
            filter: filter.into(),
            subscription_id,
            consumer,
            worker,
            next: None,
            credit: 0,
        });
        Ok(QoS::AtLeastOnce)
    }

    /// UNSUBSCRIBE from a consumer: what the client has not settled goes to others. Whether there was such a subscription.
    pub(super) fn leave_consumer(&mut self, filter: &str) -> bool {
        let Some(work) = &mut self.work else { return false };
        let Some(at) = work.taking.iter().position(|taking| *taking.filter == *filter) else { return false };
        work.taking.swap_remove(at).worker.leave();
        if work.taking.is_empty() && work.sent.is_empty() {
            self.work = None;
        }
        true
    }

    /// The client has answered a delivery of the live lane.
    pub(super) fn settle_item(&mut self, sequence: u64, reason: ReasonCode) {
        let Some(work) = &mut self.work else { return };
        let Some((consumer, id)) = work.sent.remove(&sequence) else { return };
        let became = match reason {
            ReasonCode::PayloadFormatInvalid | ReasonCode::ImplementationSpecificError => {
                Became::Reject { cause: Cause::Rejected(reason.as_u8()), note: Box::default() }
            }
            reason if reason.is_error() => Became::Nak { delay_ms: None },
            _ => Became::Ack,
        };
        // It may have been settled otherwise, or be another's by now; then this changes nothing.
        let _ = consumer.settle(id, became);
        if work.taking.is_empty() && work.sent.is_empty() {
            self.work = None;
        }
    }

    /// What [`Work::acknowledge`] was told is settled, all of it at once.
    pub(super) fn settle_acknowledged(&mut self) {
        let Some(work) = &mut self.work else { return };
        for of_one in work.acknowledged.chunk_by(|one, other| one.0.is(&other.0)) {
            if let Some((consumer, _)) = of_one.first() {
                consumer.acknowledge(of_one.iter().map(|(_, id)| *id));
            }
        }
        work.acknowledged.clear();
        if work.taking.is_empty() && work.sent.is_empty() {
            self.work = None;
        }
    }

    pub(super) fn feed_work(&mut self, cx: &mut Context<'_>, out: &mut Vec<u8>) {
        let Some(mut work) = self.work.take() else { return };
        work.grant(self.session.send_quota());
        let mut taking = std::mem::take(&mut work.taking);
        taking.retain_mut(|taking| self.feed_taking(taking, &mut work.sent, cx, out));
        work.taking = taking;
        if !work.taking.is_empty() || !work.sent.is_empty() {
            self.work = Some(work);
        }
    }

    /// Whether the subscription goes on. One that has ended takes the connection with it, so that the client knows.
    fn feed_taking(
        &mut self,
        taking: &mut Taking,
        sent: &mut BTreeMap<u64, (Consumer, DeliveryId)>,
        cx: &mut Context<'_>,
        out: &mut Vec<u8>,
    ) -> bool {
        if let Some(ended) = taking.worker.ended() {
            if ended != Ended::ShutDown {
                let consumer = taking.consumer.name();
                tracing::info!(client_id = %self.client_id(), consumer, ?ended, "a worker is disconnected");
                self.feed.failure = Some(Why::WorkerEnded(ended));
            }
            return false;
        }
        while self.has_room(out) && self.session.send_quota() > 0 {
            let delivery = match taking.next.take() {
                Some(delivery) => delivery,
                None => match taking.worker.poll_next(cx) {
                    Poll::Ready(Handed::Item(delivery)) => {
                        taking.credit = taking.credit.saturating_sub(1);
                        delivery
                    }
                    // It ends in the next round, which whoever ended it has woken this task for.
                    Poll::Ready(Handed::Ended(_)) | Poll::Pending => return true,
                },
            };
            if !self.deliver_item(taking, &delivery, sent, out) {
                taking.next = Some(delivery);
                return true;
            }
        }
        true
    }

    /// False when the client takes no more now.
    fn deliver_item(
        &mut self,
        taking: &Taking,
        delivery: &Delivery,
        sent: &mut BTreeMap<u64, (Consumer, DeliveryId)>,
        out: &mut Vec<u8>,
    ) -> bool {
        let Some(event) = delivery.event() else { return true };
        self.feed.no_extra();
        if self.session.version().is_v5() {
            describe(self.feed.extra.make(), &event, delivery.offset(), delivery.time_ms());
            let attempt = delivery.attempt.to_string();
            // It is short and without U+0000.
            let _ = self.feed.extra.make().push(Property::UserProperty { name: "attempt", value: &attempt });
        }
        let ids: &[u32] = if taking.subscription_id == 0 { &[] } else { &[taking.subscription_id] };
        // Another attempt is another message to whoever gets it, so it does not carry DUP.
        let origin = self.context.spans.is_on().then(|| Origin {
            routed_ms: (delivery.attempt == 1).then(|| delivery.time_ms()),
            offset: Some(delivery.offset()),
            work: Some((taking.consumer.name(), delivery.attempt)),
        });
        let how = How { qos: QoS::AtLeastOnce, retain: false, dup: false, sequence: None, ids, origin };
        let before = self.feed.counts;
        let sequence = self.session.next_live();
        if matches!(self.deliver(&event, &how, out), Step::Stop) {
            return false;
        }
        self.feed.counts.routed += 1;
        if self.feed.counts.expired > before.expired {
            taking.consumer.settle(delivery.id, Became::Expired);
        } else if self.feed.counts.too_large > before.too_large {
            let became = Became::Reject { cause: Cause::TooLarge, note: Box::default() };
            taking.consumer.settle(delivery.id, became);
        } else {
            sent.insert(sequence, (taking.consumer.clone(), delivery.id));
        }
        true
    }
}
