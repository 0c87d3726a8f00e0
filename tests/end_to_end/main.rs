//! The whole gateway, from outside: real clients, real sockets, real files, real signals.
//!
//! `mosquitto_pub` and its like (Debian: mosquitto-clients), Python, Node and the libraries that `clients/install`
//! brings have to be there; `tests/run` sees to that.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "what is not as expected fails the test"
)]

mod admin_api;
mod alerts;
mod bench;
mod books;
mod captures;
mod client_libraries;
mod consumers;
mod dashboards;
mod database_tls;
mod decisions;
mod dedup;
mod delivery;
mod drain;
mod durable;
mod fan_out;
mod http_receiver;
mod idle;
mod live_page;
mod mosquitto;
mod operations;
mod process;
mod prometheus;
mod replay;
mod reports;
mod rumqttc_clients;
mod service;
mod sessions;
mod streams;
mod sys;
mod trace;
mod traces;
mod webhook;

use gateway_tests::QoS;

const QOS0: QoS = QoS::AtMostOnce;
const QOS1: QoS = QoS::AtLeastOnce;
