//! What the black-box tests stand on: the real `gateway` program in its own process, and clients to set on it.
//!
//! - [`Gateway`] starts, kills, stops and restarts the program on a directory of its own, and reads its books and
//!   its memory.
//! - [`Client`] is one MQTT connection under full control: it says what it is told to, silence and nonsense
//!   included.
//! - [`Program`] runs somebody else's client (`mosquitto_sub`, `mosquitto_pub`) and watches its lines.
//! - [`Postgres`] is a database server of the test's own.
//! - [`SmallDisk`] is a file system that may be filled, [`SyscallFault`] a disk that fails or is slow, under the real program.
//! - [`wait`] is the only place that waits for something by looking again.
//!
//! Everything here is bounded in time and panics with what it saw, since its only callers are tests. Nothing here
//! knows the gateway's code: what is tested is the program, by its ports, its files and its exit status. Start
//! reading at [`Gateway`].

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "test support: what is not as expected fails the test that called"
)]

pub mod binary;
mod client;
mod frame;
mod gateway;
mod hello;
mod memory;
mod metrics;
mod output;
mod postgres;
mod program;
mod small_disk;
mod syscall_fault;
pub mod wait;

pub use client::{Client, Ended};
pub use frame::{Frame, Message};
pub use gateway::{Gateway, GatewayOptions};
pub use hello::{Hello, Will};
pub use memory::{Memory, memory_of};
pub use metrics::{Metrics, get, readiness};
pub use output::Output;
pub use postgres::Postgres;
pub use program::{Program, Subscriber, publish_with_mosquitto};
pub use small_disk::{SmallDisk, where_mounting_is_allowed};
pub use syscall_fault::SyscallFault;

pub use gateway_protocol::{ProtocolVersion, QoS, ReasonCode};

/// How long anything that is bound to happen may take. Generous: it is only ever waited for when a test is about to
/// fail.
pub const TIMEOUT: std::time::Duration = std::time::Duration::from_secs(20);
