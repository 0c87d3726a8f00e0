//! Bad input against the living program: whoever misbehaves is told and closed, and nobody else notices; not even
//! by the memory.
//!
//! Memory is judged by the kernel's count of anonymous pages, which leaves out code that is paged in by being run
//! for the first time.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "what is not as expected fails the test, and figures are printed"
)]

mod bystander;
mod connect;
mod flood;
mod malformed;
mod many;
mod refusals;
mod slow;
mod small_window;

use gateway_tests::{ProtocolVersion, QoS};

const QOS0: QoS = QoS::AtMostOnce;
const QOS1: QoS = QoS::AtLeastOnce;
const V3_1_1: ProtocolVersion = ProtocolVersion::V3_1_1;
const V5: ProtocolVersion = ProtocolVersion::V5;

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;
