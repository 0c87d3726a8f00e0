//! Overload, on the real program: what each level does, in which order, and that the books balance to the last event.
//!
//! - [`levels`]: a log that fills up behind a session that is away, which is the one pressure that a test can set: every level is seen, what it
//!   does to those who connect and publish, and everything is delivered in the end.
//! - [`fair`]: one that brings far more than the others is slowed, and they are not; the books under many times what is taken.
//! - [`limits`]: each static limit, at the limit.
//! - [`storm`]: a fleet that connects at once.
//! - [`scenarios`]: the scenarios `overload-*` of device-sim, which measure the load in multiples of what the gateway can take.
//!
//! Sizes are for a change; the long form is had by environment variables, best with `cargo nextest run --profile long`:
//!
//! | variable | unless set | long | what |
//! |---|---:|---:|---|
//! | `GATEWAY_STEADY_SECS` | 4 | 600 | of a load that nothing is to be shed under |
//! | `GATEWAY_OVERLOAD_SECS` | 3 | 120 | of each load that is too much |
//! | `GATEWAY_DEVICES` | 40 | 999 | normal ones, beside one that is not |
//! | `GATEWAY_STORM` | 400 | 15000 | clients that connect at once |
//! | `GATEWAY_SCENARIOS` | | 1 | scenarios as they are written, and every gate is to hold; for a quiet machine and release builds |

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "what is not as expected fails the test, and the figures of a run are printed"
)]

mod fair;
mod levels;
mod limits;
mod scenarios;
mod stage;
mod storm;

use gateway_tests::{ProtocolVersion, QoS};

const QOS0: QoS = QoS::AtMostOnce;
const QOS1: QoS = QoS::AtLeastOnce;
const V3_1_1: ProtocolVersion = ProtocolVersion::V3_1_1;
const V5: ProtocolVersion = ProtocolVersion::V5;

/// Whether there is time for what takes half a minute by itself.
fn is_long() -> bool {
    number("GATEWAY_OVERLOAD_SECS", 0) > 0
}

/// A size out of the environment.
fn number(name: &str, default: u32) -> u32 {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name} is {text}, which is no number")),
        Err(_) => default,
    }
}
