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
//! `roster` (who the devices are). What the tasks of a run share lies in [`shared`], below everything that writes or reads it:
//! `fleet`, `subscriber`, `edge` and the `lean` client write, [`report`], `live` and `metrics` read, [`gates`] judge. At the edge: `mqtt`
//! (the client library and its traps), `network` (a proxy that spoils connections), `host` (the broker a scenario starts itself),
//! [`workers`] (this program started again, each process with many connections of the `lean` client); and [`run`], which puts
//! them together. Imports go down only; `tests/tidy` has the rows.

pub mod class;
pub mod cli;
pub mod curve;
pub mod envelope;
pub mod fleets;
pub mod gates;
pub mod ledger;
pub mod model;
pub mod payload;
pub mod plan;
pub mod qos;
pub mod random;
pub mod rated;
pub mod report;
pub mod run;
pub mod scenario;
pub mod schedule;
pub mod shared;
pub mod stop;
pub mod timeline;
pub mod workers;

mod admin;
mod bench;
mod capture;
mod command;
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
mod roster;
mod subscriber;
