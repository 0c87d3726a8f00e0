//! Consumers: durable, named cursors on streams, each shared by any number of workers.
//!
//! ```text
//!  log --> driver: reads what the filter wants --> core: whose turn, whose lease --> worker's seat --> connection, HTTP, sink
//!            ^  |                                    ^                                                   |
//!            |  +--- claims, acknowledgements, dead letters, into the log <--- ack, nak, reject ---------+
//! ```
//!
//! What it promises: an event is handed out at most `max_deliver` times, also across crashes, because a hand-out is in the log before it
//! leaves; no worker waits for another; what failed comes again after its backoff, or becomes a dead letter with its cause. What is in
//! memory is bounded: events read ahead in bytes, events under way in number.
//!
//! It does not know who its workers are: they poll a [`Worker`] and say what became of each [`Delivery`]. Read [`core`] for the rules,
//! `driver` for how they meet the log, [`Consumers`] for all of them together.

mod content;
pub mod core;
mod driver;
mod handle;
mod id;
mod letters;
mod manage;
mod reader;
mod shared;
mod status;
#[cfg(test)]
mod tests;
mod worker;

pub use self::core::Settled;
pub use content::Delivery;
pub use handle::{Consumer, JoinError, Outcome};
pub use id::{DeliveryId, NoDeliveryId};
pub use letters::Letters;
pub use manage::{ConsumerChanges, ConsumerError, ConsumerLimits, ConsumerOptions, Consumers, SINK_PREFIX};
pub use status::{ConsumerCondition, ConsumerStatus, WorkerStatus};
pub use worker::{Ended, Handed, Worker, WorkerKind};
