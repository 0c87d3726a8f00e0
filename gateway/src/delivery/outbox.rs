//! The queue in front of one live subscriber, bounded in bytes.

use gateway_protocol::QoS;
use gateway_storage::Batch;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

/// Names an outbox in the routing table; never used twice in one run of the gateway.
pub type OutboxId = u64;

/// What a subscriber gets of a batch: which event, and how.
#[derive(Clone, Debug)]
pub struct Pick {
    /// Position in the batch.
    pub index: u32,
    /// QoS of this delivery.
    pub qos: QoS,
    /// RETAIN is forwarded as published.
    pub retain_as_published: bool,
    /// Identifiers of the matching subscriptions.
    pub subscription_ids: Option<Arc<[u32]>>,
}

/// Events of one batch for one subscriber. The batch is shared by all its subscribers; no payload is copied here.
#[derive(Clone, Debug)]
pub struct Parcel {
    /// The events.
    pub batch: Arc<Batch>,
    /// Those that this subscriber gets, in order.
    pub picks: Vec<Pick>,
}

/// What happens to a message for which there is no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenFull {
    /// The message is dropped for this subscriber, and counted.
    Drop,
    /// The subscriber is disconnected (Reason Code 0x97).
    Disconnect,
}

/// A bounded queue of [`Parcel`]s. Filled by any thread, emptied by one connection.
#[derive(Debug)]
pub struct Outbox {
    /// Its name in the routing table.
    pub id: OutboxId,
    /// The subscriber's Client Identifier, for No Local.
    pub client_id: Box<str>,
    /// The subscriber has a durable Session: what is stored for it comes from there, only QoS 0 deliveries come through here.
    pub is_durable: bool,
    bytes_max: usize,
    when_full: WhenFull,
    queue: Mutex<Queue>,
}

#[derive(Debug, Default)]
struct Queue {
    parcels: VecDeque<Parcel>,
    bytes: usize,
    waker: Option<Waker>,
    overflowed: bool,
    closed: bool,
}

/// Charged for each parcel and each pick beside the bytes of its events, so that a queue of empty messages is bounded as well.
const PARCEL_OVERHEAD: usize = 64;
const PICK_OVERHEAD: usize = 32;

impl Outbox {
    /// An empty queue for at most `bytes_max` bytes.
    #[must_use]
    pub fn new(
        id: OutboxId,
        client_id: &str,
        is_durable: bool,
        bytes_max: usize,
        when_full: WhenFull,
        waker: Waker,
    ) -> Self {
        Self {
            id,
            client_id: client_id.into(),
            is_durable,
            bytes_max,
            when_full,
            queue: Mutex::new(Queue { waker: Some(waker), ..Queue::default() }),
        }
    }

    /// Queues what there is room for and wakes the subscriber. Returns how many messages were dropped.
    pub fn push(&self, batch: &Arc<Batch>, mut picks: Vec<Pick>) -> usize {
        let mut queue = self.lock();
        if queue.closed {
            return picks.len();
        }
        let mut room = self.bytes_max.saturating_sub(queue.bytes).saturating_sub(PARCEL_OVERHEAD);
        let mut bytes = PARCEL_OVERHEAD;
        let mut fits = 0;
        for pick in &picks {
            let cost = cost(batch, pick);
            if cost > room {
                break;
            }
            room -= cost;
            bytes += cost;
            fits += 1;
        }
        let dropped = picks.len() - fits;
        picks.truncate(fits);
        if dropped > 0 && self.when_full == WhenFull::Disconnect {
            queue.overflowed = true;
        }
        if !picks.is_empty() {
            queue.bytes += bytes;
            queue.parcels.push_back(Parcel { batch: batch.clone(), picks });
        }
        if let Some(waker) = &queue.waker {
            waker.wake_by_ref();
        }
        dropped
    }

    /// The oldest parcel.
    pub fn pop(&self) -> Option<Parcel> {
        let mut queue = self.lock();
        let parcel = queue.parcels.pop_front()?;
        let picked: usize = parcel.picks.iter().map(|pick| cost(&parcel.batch, pick)).sum();
        queue.bytes = queue.bytes.saturating_sub(PARCEL_OVERHEAD + picked);
        if queue.parcels.is_empty() {
            queue.parcels = VecDeque::new();
        }
        Some(parcel)
    }

    /// Bytes waiting.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.lock().bytes
    }

    /// A message had no room, and the subscriber is to be disconnected for it.
    #[must_use]
    pub fn has_overflowed(&self) -> bool {
        self.lock().overflowed
    }

    /// The subscriber is gone: nothing is queued any more. Returns how many messages were left.
    pub fn close(&self) -> usize {
        let mut queue = self.lock();
        let left = queue.parcels.iter().map(|parcel| parcel.picks.len()).sum();
        *queue = Queue { closed: true, ..Queue::default() };
        left
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn cost(batch: &Batch, pick: &Pick) -> usize {
    let event = batch.event(pick.index as usize);
    PICK_OVERHEAD + event.map_or(0, |event| event.topic.len() + event.properties.len() + event.payload.len())
}
