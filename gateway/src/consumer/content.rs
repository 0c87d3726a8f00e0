//! An event on its way to a worker: a copy of its own, so that a few events do not keep whole pages of the log in memory.

use super::id::DeliveryId;
use gateway_storage::{Event, Offset};
use std::sync::Arc;

/// What an event costs beside its own bytes.
const COST: usize = 160;

/// A copy of an event.
#[derive(Debug)]
pub(super) struct Content {
    /// Client Identifier and Topic Name, one behind the other.
    text: Box<str>,
    client_id_len: usize,
    /// Properties and payload.
    bytes: Box<[u8]>,
    properties_len: usize,
    qos: u8,
    retain: bool,
    received_ms: u64,
    expires_at_ms: u64,
    /// When its group was committed.
    time_ms: u64,
}

impl Content {
    pub(super) fn of(event: &Event<'_>, time_ms: u64) -> Arc<Self> {
        Arc::new(Self {
            text: [event.client_id, event.topic].concat().into(),
            client_id_len: event.client_id.len(),
            bytes: [event.properties, event.payload].concat().into(),
            properties_len: event.properties.len(),
            qos: event.qos,
            retain: event.retain,
            received_ms: event.received_ms,
            expires_at_ms: event.expires_at_ms,
            time_ms,
        })
    }

    /// Bytes of memory.
    pub(super) fn cost(&self) -> u32 {
        u32::try_from(self.text.len() + self.bytes.len() + COST).unwrap_or(u32::MAX)
    }

    pub(super) fn event(&self) -> Option<Event<'_>> {
        let (client_id, topic) = self.text.split_at_checked(self.client_id_len)?;
        let (properties, payload) = self.bytes.split_at_checked(self.properties_len)?;
        Some(Event {
            client_id,
            topic,
            qos: self.qos,
            retain: self.retain,
            received_ms: self.received_ms,
            expires_at_ms: self.expires_at_ms,
            properties,
            payload,
        })
    }
}

/// One hand-out of an event to a worker.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// Its name: what the worker says is about this.
    pub id: DeliveryId,
    /// The how manieth hand-out of the event it is, from 1.
    pub attempt: u32,
    /// When the worker's time for it is over, in milliseconds since the Unix epoch.
    pub due_ms: u64,
    pub(super) content: Arc<Content>,
}

impl Delivery {
    /// The event as it was published.
    #[must_use]
    pub fn event(&self) -> Option<Event<'_>> {
        self.content.event()
    }

    /// Where the event lies in the log.
    #[must_use]
    pub const fn offset(&self) -> Offset {
        Offset::new(self.id.offset)
    }

    /// When the event was stored, in milliseconds since the Unix epoch; of a redriven dead letter when it was received.
    #[must_use]
    pub fn time_ms(&self) -> u64 {
        self.content.time_ms
    }
}
