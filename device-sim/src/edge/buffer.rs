//! What waits at a site for its uplink: a queue, bounded in events and in bytes.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;

use crate::envelope::Envelope;

/// A message on its way through a site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Item {
    pub(super) topic: String,
    pub(super) payload: Bytes,
    /// None if it is no event of this run.
    pub(super) event: Option<Envelope>,
}

impl Item {
    fn bytes(&self) -> usize {
        self.topic.len() + self.payload.len()
    }
}

/// The buffer of one site. What does not fit is handed back: what waits already is older, and goes first.
pub(super) struct Buffer {
    queue: Mutex<Queue>,
    filled: Notify,
    events_max: usize,
    bytes_max: usize,
}

#[derive(Default)]
struct Queue {
    items: VecDeque<Item>,
    bytes: usize,
}

impl Buffer {
    pub(super) fn new(events_max: usize, bytes_max: usize) -> Self {
        Buffer { queue: Mutex::default(), filled: Notify::new(), events_max, bytes_max }
    }

    /// Puts one at the end: how many and how many bytes wait now; the item itself if there is no room.
    pub(super) fn push(&self, item: Item) -> Result<(usize, usize), Item> {
        let mut queue = self.lock();
        let bytes = queue.bytes + item.bytes();
        if queue.items.len() >= self.events_max || bytes > self.bytes_max {
            return Err(item);
        }
        queue.bytes = bytes;
        queue.items.push_back(item);
        let waiting = (queue.items.len(), bytes);
        drop(queue);
        self.filled.notify_one();
        Ok(waiting)
    }

    /// Takes the oldest.
    pub(super) fn pop(&self) -> Option<Item> {
        let mut queue = self.lock();
        let item = queue.items.pop_front()?;
        queue.bytes -= item.bytes();
        Some(item)
    }

    /// Until something was put in since this was last awaited.
    pub(super) async fn filled(&self) {
        self.filled.notified().await;
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(bytes: usize) -> Item {
        Item { topic: "t".to_owned(), payload: vec![0; bytes - 1].into(), event: None }
    }

    #[test]
    fn it_takes_so_many_events_and_so_many_bytes_and_forgets_nothing_it_took() {
        let buffer = Buffer::new(3, 100);
        assert_eq!(buffer.push(item(60)), Ok((1, 60)));
        assert_eq!(buffer.push(item(41)), Err(item(41)), "too many bytes");
        assert_eq!(buffer.push(item(20)), Ok((2, 80)));
        assert_eq!(buffer.push(item(10)), Ok((3, 90)));
        assert_eq!(buffer.push(item(1)), Err(item(1)), "too many events");
        assert_eq!(buffer.pop(), Some(item(60)));
        assert_eq!(buffer.push(item(70)), Ok((3, 100)));
        let left: Vec<usize> = std::iter::from_fn(|| buffer.pop()).map(|item| item.bytes()).collect();
        assert_eq!(left, [20, 10, 70]);
        assert_eq!(buffer.push(item(100)), Ok((1, 100)));
    }
}
