//! Consumers as the view has them: durable cursors on streams, each shared by any number of workers.
//!
//! A consumer's durable state is small: where it has read to, and what is **open**, that is, handed out (or failed) and not settled. The
//! apply step does nothing for it when an event comes; whoever runs the consumer reads the log itself, and says what was done by
//! entries of the log. Here is what those entries mean.
//!
//! | entry              | what it does                                                                                     |
//! |--------------------|--------------------------------------------------------------------------------------------------|
//! | ConsumerSet        | makes it, alters it, or makes it anew: another generation begins at `start` with nothing open     |
//! | ConsumerRemoved    | it is no more, and neither are its dead letters                                                   |
//! | ConsumerProgress   | items are opened, and closed; where it reads moves on. Of another generation: nothing             |
//! | DeadLettered       | the item is closed, and a dead letter under the same offset                                       |
//! | DeadLettersChanged | letters are open items again (redriven), or no more                                               |
//!
//! A redriven letter that is acknowledged, or gone, is removed from the table of dead letters by that Progress; one that fails for
//! good is a dead letter again by DeadLettered.
//!
//! It refuses to know time, workers' connections, and the events themselves. A consumer holds no part of the log: its stream's limits
//! are the promise, and what they take away before it was settled is counted as missed by whoever runs the consumer.
//!
//! `spec`, `item` and `progress` are the vocabulary; `state` has the rules for one consumer, `table` those for all; `saving`
//! makes rows of the view of them. Read on in [`super::dead_letters`].

mod access;
mod item;
mod offset_runs;
mod progress;
mod saving;
mod spec;
mod state;
mod table;
mod tally;
#[cfg(test)]
mod tests;
pub(super) mod wire;

pub use item::{Cause, OpenItem, WORKER_BYTES_MAX};
pub use offset_runs::OffsetRuns;
pub use progress::Progress;
pub use spec::{CONSUMER_NAME_BYTES_MAX, ConsumerSpec, Order, is_consumer_name};
pub use state::{ConsumerEntry, ConsumerState};

pub(super) use saving::Loader;
pub(super) use table::{ConsumerTable, SavedConsumers};
pub(super) use tally::describe;
pub(super) use wire::clipped;
