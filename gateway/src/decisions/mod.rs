//! Why was this dropped? A record of every refusal, shed, drop, expiry, disconnect and step of the ladder.
//!
//! Promises: bounded in entries and in bytes, and nothing at all is held before something is decided ([`DecisionLog`]); a decision costs its
//! reporter a lock for some hundred nanoseconds, and never waits for a reader, a follower or a file; whoever follows and is too slow is told how
//! many it missed. Every decision is counted by action and reason (`gateway_decisions_total`), also those that the ring has given up since.
//!
//! What happens to one client, on one topic, by one action and for one reason, is one entry with a count, for a second: a hog does not
//! push everybody else out of the log.
//!
//! Refuses to know: who decides, what a level is, HTTP. Read next: `reason` for the closed lists, `ring` for how entries are kept.

mod file;
mod follow;
mod log;
pub mod metrics;
mod query;
mod reason;
mod record;
mod ring;

#[cfg(test)]
mod tests;

pub use file::{DecisionFile, DecisionFileOptions};
pub use follow::{Follower, News};
pub use log::{DecisionLog, DecisionStats};
pub use query::{DecisionPage, DecisionQuery};
pub use reason::{Action, Reason};
pub use record::{Decision, Recorded};
