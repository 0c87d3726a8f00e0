//! The queue in front of one live subscriber, bounded in bytes.

use super::outboxes::Waiting;
use super::shipment::Shipment;
use crate::config::SlowSubscriber;
use gateway_protocol::QoS;
use gateway_storage::{Batch, Staging};
use smallvec::SmallVec;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::{Duration, Instant};

/// Names an outbox in the routing table; never used twice in one run of the gateway.
pub type OutboxId = u64;

/// What a subscriber gets of a batch: consecutive events, and how it gets them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pick {
    /// Position of the first event in the batch.
    pub first: u32,
    /// Position behind the last one.
    pub end: u32,
    /// Highest QoS of these deliveries: what was granted.
    pub granted: QoS,
    /// RETAIN is forwarded as published.
    pub retain_as_published: bool,
    /// Identifiers of the matching subscriptions.
    pub subscription_ids: Option<Arc<[u32]>>,
}

/// Most subscribers get all of a batch, or nothing.
pub type Picks = SmallVec<[Pick; 1]>;

impl Pick {
    /// Whether `next` is the same for the events right behind.
    pub(super) fn goes_on_with(&self, next: &Self) -> bool {
        self.end == next.first
            && self.granted == next.granted
            && self.retain_as_published == next.retain_as_published
            && self.subscription_ids == next.subscription_ids
    }

    fn events(&self) -> usize {
        self.end.saturating_sub(self.first) as usize
    }

    fn positions(&self) -> std::ops::Range<usize> {
        self.first as usize..self.end as usize
    }
}

/// How many events those are.
pub(super) fn events(picks: &[Pick]) -> usize {
    picks.iter().map(Pick::events).sum()
}

/// Events of one batch for one subscriber. The batch is shared by all its subscribers; no payload is copied here.
#[derive(Clone, Debug)]
pub struct Parcel {
    /// The events.
    pub shipment: Arc<Shipment>,
    /// Those that this subscriber gets, in order.
    pub picks: Picks,
}

impl Parcel {
    /// How many events it holds.
    #[must_use]
    pub fn len(&self) -> usize {
        events(&self.picks)
    }

    /// Whether it holds none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What happens to a message for which there is no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenFull {
    /// The message is dropped for this subscriber, and counted.
    Drop,
    /// The subscriber is disconnected (Reason Code 0x97).
    Disconnect,
}

impl From<SlowSubscriber> for WhenFull {
    fn from(configured: SlowSubscriber) -> Self {
        match configured {
            SlowSubscriber::Drop => Self::Drop,
            SlowSubscriber::Disconnect => Self::Disconnect,
        }
    }
}

/// A bounded queue of [`Parcel`]s. Filled by any thread, emptied by one connection.
#[derive(Debug)]
pub struct Outbox {
    /// Its name in the routing table.
    pub id: OutboxId,
    /// The subscriber's Client Identifier, for No Local.
    pub client_id: Arc<str>,
    /// The subscriber has a durable Session: what is stored for it comes from there, only QoS 0 deliveries come through here.
    pub is_durable: bool,
    bytes_max: usize,
    when_full: WhenFull,
    waker: Waker,
    /// Nothing waits, and nothing is to be said. Set and cleared under the lock; its owner looks here first, and far more often than there is
    /// something.
    is_idle: AtomicBool,
    queue: Mutex<Queue>,
}

#[derive(Debug, Default)]
struct Queue {
    parcels: VecDeque<(Parcel, usize)>,
    bytes: usize,
    messages: u64,
    overflowed: bool,
    closed: bool,
    /// Since when it is past its mark.
    behind_since: Option<Instant>,
    /// Publishers that wait for it.
    waiting: Vec<Waker>,
}

/// What became of a push.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pushed {
    /// Messages that had no room.
    pub dropped: usize,
    /// The queue is past its mark, and publishers wait for it.
    pub is_behind: bool,
}

/// A queue is behind when it is fuller than this part of its limit, until it is at half of that.
const MARK: usize = 4;
/// How long publishers wait for a queue that stays behind. Then it is slow for good, until it has caught up.
const PATIENCE: Duration = Duration::from_millis(500);

/// Charged for each parcel and each pick beside the batch.
const PARCEL_OVERHEAD: usize = 64;
const PICK_OVERHEAD: usize = 32;

impl Outbox {
    /// An empty queue for at most `bytes_max` bytes.
    #[must_use]
    pub fn new(
        id: OutboxId,
        client_id: Arc<str>,
        is_durable: bool,
        bytes_max: usize,
        when_full: WhenFull,
        waker: Waker,
    ) -> Self {
        Self {
            id,
            client_id,
            is_durable,
            bytes_max,
            when_full,
            waker,
            is_idle: AtomicBool::new(true),
            queue: Mutex::default(),
        }
    }

    /// Queues what there is room for and wakes the subscriber.
    pub fn push(&self, shipment: &Arc<Shipment>, picks: Picks) -> Pushed {
        let count = events(&picks);
        let (parcel, bytes) = pack(shipment, picks);
        let mut queue = self.lock();
        if queue.closed {
            return Pushed { dropped: count, is_behind: false };
        }
        let has_room = bytes <= self.bytes_max.saturating_sub(queue.bytes);
        if has_room {
            queue.bytes += bytes;
            queue.messages += count as u64;
            queue.parcels.push_back((parcel, bytes));
        } else {
            queue.overflowed |= self.when_full == WhenFull::Disconnect;
        }
        if queue.bytes > self.bytes_max / MARK {
            queue.behind_since.get_or_insert_with(Instant::now);
        }
        let is_behind = queue.brakes();
        self.is_idle.store(false, Ordering::Release);
        drop(queue);
        self.waker.wake_by_ref();
        Pushed { dropped: if has_room { 0 } else { count }, is_behind }
    }

    /// Whether those who publish into it wait; then `waker` is woken when that is over, but for patience that runs out.
    #[must_use]
    pub fn brakes(&self, waker: &Waker) -> bool {
        let mut queue = self.lock();
        let brakes = queue.brakes();
        if brakes && !queue.waiting.iter().any(|waiting| waiting.will_wake(waker)) {
            queue.waiting.push(waker.clone());
        }
        brakes
    }

    /// The oldest parcel.
    pub fn pop(&self) -> Option<Parcel> {
        if self.is_idle() {
            return None;
        }
        let mut queue = self.lock();
        let first = queue.parcels.pop_front();
        if queue.parcels.is_empty() {
            queue.parcels = VecDeque::new();
            self.is_idle.store(!queue.overflowed, Ordering::Release);
        }
        let (parcel, bytes) = first?;
        queue.bytes = queue.bytes.saturating_sub(bytes);
        queue.messages = queue.messages.saturating_sub(parcel.len() as u64);
        if queue.behind_since.is_some() && queue.bytes <= self.bytes_max / MARK / 2 {
            queue.behind_since = None;
            let waiting = std::mem::take(&mut queue.waiting);
            drop(queue);
            wake(waiting);
        }
        Some(parcel)
    }

    /// Who is woken when something is queued: the subscriber's task.
    #[must_use]
    pub fn waker(&self) -> &Waker {
        &self.waker
    }

    /// Bytes waiting.
    #[must_use]
    pub fn bytes(&self) -> usize {
        if self.is_idle() { 0 } else { self.lock().bytes }
    }

    /// What waits.
    #[must_use]
    pub fn waiting(&self) -> Waiting {
        if self.is_idle() {
            return Waiting::default();
        }
        let queue = self.lock();
        Waiting { messages: queue.messages, bytes: queue.bytes as u64 }
    }

    /// A message had no room, and the subscriber is to be disconnected for it.
    #[must_use]
    pub fn has_overflowed(&self) -> bool {
        !self.is_idle() && self.lock().overflowed
    }

    /// The subscriber is gone: nothing is queued any more. Returns how many messages were left.
    pub fn close(&self) -> usize {
        let mut queue = self.lock();
        let left = queue.parcels.iter().map(|(parcel, _)| parcel.len()).sum();
        let waiting = std::mem::take(&mut queue.waiting);
        *queue = Queue { closed: true, ..Queue::default() };
        drop(queue);
        wake(waiting);
        left
    }

    fn is_idle(&self) -> bool {
        self.is_idle.load(Ordering::Acquire)
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    fn brakes(&self) -> bool {
        self.behind_since.is_some_and(|since| since.elapsed() < PATIENCE)
    }
}

fn wake(waiting: Vec<Waker>) {
    for waker in waiting {
        waker.wake();
    }
}

/// A parcel and the bytes of memory it holds on to. A subscriber that gets little of a batch gets a copy of that little: otherwise one
/// small message would keep a whole group in memory, and the limit of the outbox would say nothing.
fn pack(shipment: &Arc<Shipment>, picks: Picks) -> (Parcel, usize) {
    let held = PARCEL_OVERHEAD + picks.len() * PICK_OVERHEAD;
    let batch = shipment.batch();
    let shared = shipment.memory_bytes();
    let whole = |picks| (Parcel { shipment: shipment.clone(), picks }, held + shared);
    if events(&picks) * 2 >= batch.len() {
        return whole(picks);
    }
    let size = |at| {
        let event = batch.raw_event(at)?;
        Some(event.topic.len() + event.client_id.len() + event.properties.len() + event.payload.len())
    };
    let picked: usize = picks.iter().flat_map(Pick::positions).filter_map(size).sum();
    if picked * 4 >= shared {
        return whole(picks);
    }
    match copy(batch, &picks) {
        Some((copy, picks)) => {
            let own = copy.memory_bytes();
            (Parcel { shipment: Arc::new(Shipment::for_one(Arc::new(copy))), picks }, held + own)
        }
        None => whole(picks),
    }
}

/// The picked events in a batch of their own.
fn copy(batch: &Batch, picks: &[Pick]) -> Option<(Batch, Picks)> {
    let mut staging = Staging::new();
    let mut moved = Picks::with_capacity(picks.len());
    let mut first = 0;
    for pick in picks {
        for at in pick.positions() {
            staging.push_event(&batch.event(at)?).ok()?;
        }
        let end = first + (pick.end - pick.first);
        moved.push(Pick { first, end, ..pick.clone() });
        first = end;
    }
    Some((staging.into_batch(), moved))
}
