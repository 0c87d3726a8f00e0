//! Worker processes: this program started again as `device-sim worker`, each with its share of the connections, under one
//! coordinator.
//!
//! Promise: a run whose workers all live ends with one report over all of them; a worker that dies, falls silent or cannot go on ends
//! the run at once with an error that says which one and why, never with a hang; and a coordinator that dies takes its workers with it.
//! Nobody shares memory: [`frames`] go over the workers' standard input and output. Clocks need no agreement, because all
//! processes of a machine read the same one.
//!
//! ```text
//! coordinator ──Assign──► worker            every quarter of a second:  worker ──Progress──► coordinator
//!             ──Connect─►        (subscribers are ready)
//!             ──Start───►        (everybody is connected)
//!             ──End─────►        (the time is over, or someone wants out)
//!             ──Page───►  ◄──Page──         the halves of the ledger, a range of devices at a time
//!             ──Leave───►
//! ```
//!
//! [`frames`] is what they say, [`team`] the processes, [`worker`] the other side.

pub(crate) mod frames;
pub(crate) mod team;
mod usage;
pub(crate) mod worker;
