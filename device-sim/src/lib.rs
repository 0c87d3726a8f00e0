//! The fleet simulator: believable devices on an open-loop schedule, honest MQTT clients, and a ledger that checks every
//! promise a broker makes. It runs against any broker; `demo` brings the gateway along.
//!
//! ```text
//! scenario ─► schedule ─► fleet (one task per device) ─► mqtt ─► broker ─► subscriber
//!               model ─► envelope ──┘        └────────► ledger ◄────────────┘
//!                                                         └─► report (verdict)
//! ```
//!
//! Pure, without clock or socket: [`scenario`], [`timeline`], [`curve`], [`schedule`], [`model`], [`envelope`], [`ledger`],
//! [`gates`], [`report`]. At the edge: `mqtt` (the client library and its traps), `fleet`, `subscriber`, `network` (a proxy
//! that spoils connections), `host` (the broker a scenario starts itself), [`run`] (the parts of a
//! run), [`workers`] (this program started again, each process with many connections of the `lean` client) and `demo`.

pub mod class;
pub mod cli;
pub mod curve;
pub mod envelope;
pub mod fleets;
pub mod gates;
pub mod ledger;
pub mod model;
pub mod payload;
pub mod qos;
pub mod random;
pub mod rated;
pub mod report;
pub mod run;
pub mod scenario;
pub mod schedule;
pub mod timeline;
pub mod workers;

mod admin;
mod bench;
mod capture;
#[cfg(feature = "demo")]
mod demo;
mod edge;
mod fleet;
mod host;
mod lean;
mod live;
mod metrics;
mod mqtt;
mod network;
mod process;
mod record;
mod replay;
mod subscriber;
