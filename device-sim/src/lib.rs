//! The fleet simulator: believable devices on an open-loop schedule, honest MQTT clients, and a ledger that checks every
//! promise a broker makes. It runs against any broker; `demo` brings the gateway along.
//!
//! ```text
//! scenario ─► schedule ─► fleet (one task per device) ─► mqtt ─► broker ─► subscriber
//!               model ─► envelope ──┘        └────────► ledger ◄────────────┘
//!                                                         └─► report (verdict)
//! ```
//!
//! Pure, without clock or socket: [`scenario`], [`schedule`], [`model`], [`envelope`], [`ledger`], [`report`]. At the
//! edge: `mqtt` (the client library and its traps), `fleet`, `subscriber`, [`run`] (the phases of a run) and `demo`.

pub mod cli;
pub mod envelope;
pub mod fleets;
pub mod ledger;
pub mod model;
pub mod payload;
pub mod qos;
pub mod random;
pub mod report;
pub mod run;
pub mod scenario;
pub mod schedule;

mod bench;
#[cfg(feature = "demo")]
mod demo;
mod fleet;
mod mqtt;
mod process;
mod subscriber;
