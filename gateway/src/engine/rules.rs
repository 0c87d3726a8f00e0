//! The rules by which entries are applied.
//!
//! They come from the configuration, but a replay has to apply each entry by the rules that were in force when it was applied first:
//! with a smaller limit it would leave out a message, every later one would get another sequence, and the acknowledgements that
//! follow in the log would mean other messages. So the rules are an entry too, and part of the saved view.

use super::backlog::BacklogLimits;
use serde::{Deserialize, Serialize};

/// How a group of a Shared Subscription chooses the member for a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ShareStrategy {
    /// In turn.
    RoundRobin,
    /// By who published it: one publisher's messages stay together and in order, for as long as the members stay the same.
    Publisher,
}

/// All of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rules {
    /// Bounds of every durable session's backlog.
    pub backlog: BacklogLimits,
    /// How groups choose.
    pub share: ShareStrategy,
}

impl Rules {
    /// The form in the log and in the view.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        super::snapshot::pack(self)
    }

    /// Rules from their form in the log; `None` where it is not legible.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        rmp_serde::from_slice(bytes).ok()
    }
}
