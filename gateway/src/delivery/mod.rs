//! From batches to subscribers: who of the live ones gets what, and the bounded queue in front of each.
//!
//! Two sources feed it with the same type: committed groups, once they are applied, and the batches of events that nothing durable
//! wanted. What it promises: a queue never holds more bytes than its limit, a full queue costs its own subscriber and nobody else,
//! and every message that is not queued is counted with its reason. Durable sessions take what is stored from the log by
//! themselves ([`crate::engine::DurableSession`]); here they only get what reaches them at QoS 0.

mod dispatcher;
pub mod metrics;
mod outbox;
mod outboxes;
mod shipment;
#[cfg(test)]
mod tests;

pub use dispatcher::{Dispatched, Dispatcher, LiveRouter, Routes};
pub use outbox::{Outbox, OutboxId, Parcel, Pick, Picks, Pushed, WhenFull};
pub use outboxes::{Outboxes, Waiting};
pub use shipment::{Shipment, held_bytes};
