//! What is read from the stream and not written yet.

use super::target::Row;
use crate::engine::Engine;
use crate::stream::{Next, StreamCursor};
use gateway_storage::{Batch, Offset};
use std::sync::Arc;
use std::task::{Context, Poll};

/// How large a batch may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BatchLimits {
    /// Events.
    pub(super) events: usize,
    /// Bytes of their payloads and topics; one event is taken however large it is.
    pub(super) bytes: usize,
}

/// The log cannot be read.
#[derive(Debug)]
pub(super) struct Unreadable;

/// Events in the order of the log, held as places in batches that others share.
pub(super) struct Gathered {
    places: Vec<(Arc<Batch>, usize, Offset)>,
    bytes: usize,
    /// Events passed over because they had expired.
    pub(super) expired: u64,
    /// Where the next batch begins.
    pub(super) next: Offset,
}

impl Gathered {
    /// Nothing, at `start`.
    pub(super) fn new(start: Offset) -> Self {
        Self { places: Vec::new(), bytes: 0, expired: 0, next: start }
    }

    /// Reads on until the batch is as large as it may be, or there is something and no more for now. Whatever is interrupted is
    /// not lost: the next call goes on.
    pub(super) fn poll_fill(
        &mut self,
        engine: &Engine,
        cursor: &mut StreamCursor,
        limits: BatchLimits,
        now_ms: u64,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Unreadable>> {
        while self.places.len() < limits.events && self.bytes < limits.bytes {
            match cursor.poll_next(engine, cx) {
                Next::Event(batch, index) => self.take(batch, index, now_ms),
                Next::Wait | Next::Yield if self.has_news() => break,
                Next::Wait => return Poll::Pending,
                Next::Yield => {
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Next::Failed => return Poll::Ready(Err(Unreadable)),
            }
            cursor.advance();
        }
        Poll::Ready(Ok(()))
    }

    fn take(&mut self, batch: Arc<Batch>, index: usize, now_ms: u64) {
        let (Some(event), Some(offset)) = (batch.event(index), batch.offset_of(index)) else { return };
        self.next = offset.next();
        if event.expires_at_ms != 0 && event.expires_at_ms <= now_ms {
            self.expired += 1;
            return;
        }
        self.bytes += event.topic.len() + event.properties.len() + event.payload.len();
        self.places.push((batch, index, offset));
    }

    fn has_news(&self) -> bool {
        !self.places.is_empty() || self.expired > 0
    }

    /// The events.
    pub(super) fn rows(&self) -> Vec<Row<'_>> {
        self.places
            .iter()
            .filter_map(|(batch, index, offset)| {
                let time_ms = batch.time_ms(*index);
                Some(Row { offset: *offset, time_ms, event: batch.event(*index)? })
            })
            .collect()
    }

    /// They are written, or dead letters.
    pub(super) fn clear(&mut self) {
        self.places.clear();
        (self.bytes, self.expired) = (0, 0);
    }
}
