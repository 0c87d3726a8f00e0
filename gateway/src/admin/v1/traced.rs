//! Spans of what workers over HTTP were handed: one *deliver* for each traced event and attempt, from when it was stored until its worker says what
//! became of it.
//!
//! A worker that says nothing is done with when its lease is over. That is seen when somebody takes or settles the next time.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::consumer::{Delivery, DeliveryId, Outcome};
use crate::spans::{Delivered, OpenSpan, Spans};

/// Spans of hand-outs. As many as may be open in all.
#[derive(Default)]
pub(super) struct Traced {
    open: Mutex<HashMap<(Box<str>, DeliveryId), HandedOut>>,
}

struct HandedOut {
    span: OpenSpan,
    lease_ms: u64,
    until_ms: u64,
}

impl Traced {
    /// `worker` of `consumer` was handed something.
    pub(super) fn handed(
        &self,
        spans: &Spans,
        consumer: &str,
        worker: &str,
        deliveries: &[Delivery],
        now_ms: u64,
    ) {
        if !spans.is_on() {
            return;
        }
        let begun: Vec<_> = deliveries
            .iter()
            .filter_map(|delivery| {
                let event = delivery.event()?;
                let delivered = Delivered {
                    client_id: worker,
                    qos: event.qos,
                    dup: delivery.attempt > 1,
                    routed_ms: Some(delivery.time_ms()),
                    offset: Some(delivery.offset().get()),
                    consumer: Some(consumer),
                    attempt: Some(delivery.attempt),
                };
                let span = spans.deliver(&event, &delivered)?;
                let lease_ms = delivery.due_ms.saturating_sub(now_ms);
                Some((delivery.id, HandedOut { span, lease_ms, until_ms: delivery.due_ms }))
            })
            .collect();
        let mut open = self.lock();
        open.retain(|_, handed| handed.until_ms > now_ms);
        open.extend(begun.into_iter().map(|(id, handed)| ((consumer.into(), id), handed)));
    }

    /// A worker has said what became of `id`, and that was still to be said.
    pub(super) fn settled(&self, consumer: &str, id: DeliveryId, outcome: &Outcome, now_ms: u64) {
        let mut open = self.lock();
        if open.is_empty() {
            return;
        }
        let key = (consumer.into(), id);
        if *outcome == Outcome::Extend {
            if let Some(handed) = open.get_mut(&key) {
                handed.until_ms = now_ms.saturating_add(handed.lease_ms);
            }
            return;
        }
        let Some(HandedOut { span, .. }) = open.remove(&key) else { return };
        drop(open);
        match outcome {
            Outcome::Ack | Outcome::Extend => span.end("acknowledged"),
            Outcome::Nak { .. } => span.fail("handed_back"),
            Outcome::Reject { .. } => span.fail("refused"),
            Outcome::Expired => span.fail("expired"),
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(Box<str>, DeliveryId), HandedOut>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
