//! Conformance: each normative statement of MQTT 5 and MQTT 3.1.1 that binds a server, tested on the wire.
//!
//! A test is named after the statement it proves, `mqtt_3_1_2_4_clean_start_discards_the_session`; one module for each
//! section of the text. `ledger/*.tsv` says for every statement which tests prove it, or why it does not apply;
//! [`ledger`] holds the ledger to the code. A test that fails names a statement that the gateway breaks: the gateway
//! is to be changed, not the test.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "what is not as expected fails the test, and totals are printed"
)]

mod ledger;
mod v311;
mod v5;

use gateway_tests::{ProtocolVersion, QoS};

const QOS0: QoS = QoS::AtMostOnce;
const QOS1: QoS = QoS::AtLeastOnce;
const QOS2: QoS = QoS::ExactlyOnce;
const V3_1_1: ProtocolVersion = ProtocolVersion::V3_1_1;
const V5: ProtocolVersion = ProtocolVersion::V5;
