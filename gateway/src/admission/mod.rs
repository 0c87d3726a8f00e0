//! Overload, on purpose: who and what is admitted, what is slowed, and what is given up, in which order.
//!
//! ```text
//!   pressures ─ every 100 ms ─> Controller ──> Pressure ──> everybody asks level() once for each read
//!   (of the edge)               Ladder, shares     (atomics)      └─ above L0: judge(stance, class, QoS, share) for each publish
//! ```
//!
//! Promises: pure values and state machines, time is an argument, everything is bounded; what a level does to a publish is one table
//! (`judge`), what it does to everything else is [`Level`]'s; levels rise after two samples and fall one at a time (`ladder`); while there
//! is enough nothing here costs more than one relaxed load for each read, and no client has an account.
//!
//! Static limits stand in front of the ladder: [`Limits`] for what there may be, [`Storm`] for connects, [`Throttle`] for publishes.
//!
//! Refuses to know: sockets, the runtime, how a pressure is measured, and what a decision looks like on record (`decisions`).
//! Read next: `judge`, then `ladder`, `share`, `fair` and `lag`.

mod appetite;
mod bucket;
mod class;
mod controller;
mod fair;
mod judge;
mod ladder;
mod lag;
mod level;
mod limits;
mod pressure;
mod recent;
mod share;
mod storm;

#[cfg(test)]
mod simulation;

pub use appetite::Appetite;
pub use bucket::{Bucket, Rate};
pub use class::{Class, Classes, Membership, matches};
pub use controller::Controller;
pub use judge::{Judgement, judge};
pub use ladder::{Fault, Faults, Ladder, LadderOptions, LevelChange};
pub use lag::{DeliveryLag, Progress};
pub use level::{Level, Resource};
pub use limits::{Limits, Rates, Scope, Throttle, TooFast, reason_code};
pub use pressure::{Pressure, Pressures, Stance};
pub use share::{Charge, LATE_MS_MAX, Share, Verdict, cost};
pub use storm::{Later, Storm, StormOptions, jittered_keep_alive, site};
