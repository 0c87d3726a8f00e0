//! All outboxes there are: who gets which number, and what waits in them together.
//!
//! What waits is summed when somebody asks, once a second or so. An outbox in which nothing waits costs one load then, and a message costs nothing at any time.

use super::outbox::{Outbox, OutboxId};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// Names are given up for dropped outboxes when the list has grown to twice what was left of it the last time, and beyond this.
const LISTED_MIN: usize = 64;

/// The outboxes of one gateway.
#[derive(Debug)]
pub struct Outboxes {
    next: AtomicU64,
    listed: Mutex<Listed>,
}

#[derive(Debug, Default)]
struct Listed {
    all: Vec<Weak<Outbox>>,
    /// Those that were there when the others were given up last.
    kept: usize,
}

/// What waits in outboxes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Waiting {
    /// Messages; one that waits for two subscribers counts twice.
    pub messages: u64,
    /// Bytes that outboxes are charged with; a batch that waits for two subscribers counts twice.
    pub bytes: u64,
}

impl Default for Outboxes {
    fn default() -> Self {
        Self { next: AtomicU64::new(1), listed: Mutex::default() }
    }
}

impl Outboxes {
    /// A number that no other outbox gets.
    pub fn new_id(&self) -> OutboxId {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// Lists an outbox, for as long as somebody has it.
    #[must_use]
    pub fn list(&self, outbox: Outbox) -> Arc<Outbox> {
        let outbox = Arc::new(outbox);
        let mut listed = self.listed.lock().unwrap_or_else(PoisonError::into_inner);
        if listed.all.len() >= LISTED_MIN.max(2 * listed.kept) {
            listed.all.retain(|one| one.strong_count() > 0);
            listed.kept = listed.all.len();
        }
        listed.all.push(Arc::downgrade(&outbox));
        outbox
    }

    /// What waits in all of them at about this moment.
    #[must_use]
    pub fn waiting(&self) -> Waiting {
        let mut waiting = Waiting::default();
        let mut listed = self.listed.lock().unwrap_or_else(PoisonError::into_inner);
        listed.all.retain(|one| {
            let Some(outbox) = one.upgrade() else { return false };
            let own = outbox.waiting();
            waiting.messages += own.messages;
            waiting.bytes += own.bytes;
            true
        });
        listed.kept = listed.all.len();
        waiting
    }
}

#[cfg(test)]
mod tests {
    use super::super::shipment::Shipment;
    use super::super::tests::batch;
    use super::super::{Pick, WhenFull};
    use super::*;
    use gateway_protocol::QoS;
    use std::task::Waker;

    fn outbox(outboxes: &Outboxes) -> Arc<Outbox> {
        let waker = Waker::noop().clone();
        outboxes.list(Outbox::new(outboxes.new_id(), "client".into(), false, 1 << 20, WhenFull::Drop, waker))
    }

    fn push(outbox: &Outbox, events: u32) {
        let all = Pick {
            first: 0,
            end: events,
            granted: QoS::AtMostOnce,
            retain_as_published: false,
            subscription_ids: None,
        };
        let shipment = Arc::new(Shipment::for_one(batch(&vec![("a/b", 0); events as usize])));
        assert_eq!(outbox.push(&shipment, [all].into_iter().collect()).dropped, 0);
    }

    #[test]
    fn what_waits_is_the_sum_of_all_outboxes_until_it_is_taken_or_they_are_gone() {
        let outboxes = Outboxes::default();
        let (one, other) = (outbox(&outboxes), outbox(&outboxes));
        assert_eq!(outboxes.waiting(), Waiting::default());
        push(&one, 3);
        push(&one, 4);
        push(&other, 5);
        let waiting = outboxes.waiting();
        assert_eq!(waiting.messages, 12);
        assert_eq!(waiting.bytes, (one.bytes() + other.bytes()) as u64);
        assert!(waiting.bytes > 12 * 100);
        let _ = one.pop();
        assert_eq!(outboxes.waiting().messages, 9);
        drop(other);
        assert_eq!(outboxes.waiting().messages, 4);
        one.close();
        assert_eq!(outboxes.waiting(), Waiting::default());
    }

    #[test]
    fn outboxes_that_are_gone_are_forgotten_without_being_asked_for() {
        let outboxes = Outboxes::default();
        let kept = outbox(&outboxes);
        for _ in 0..10_000 {
            let _gone = outbox(&outboxes);
        }
        let listed = outboxes.listed.lock().unwrap();
        assert!(listed.all.len() <= LISTED_MIN, "{}", listed.all.len());
        assert_eq!(listed.all.iter().filter(|one| one.strong_count() > 0).count(), 1);
        drop(kept);
    }
}
