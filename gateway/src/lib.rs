//! An MQTT ingestion gateway: durable before it acknowledges, honest under overload.
//!
//! [`app::Gateway`] is the whole of it; [`config::Config`] is what it is told. The modules stand in the order of the data flow in
//! ARCHITECTURE.md, and import downwards only.

pub mod admin;
pub mod admission;
pub mod app;
pub mod clock;
pub mod config;
pub mod connection;
pub mod consumer;
pub mod decisions;
pub mod delivery;
pub mod engine;
pub mod event_view;
pub mod http_client;
pub mod ingest;
pub mod lens;
pub mod listener;
pub mod pool;
pub mod presence;
pub mod registry;
pub mod router;
pub mod sinks;
pub mod spans;
pub mod stream;
pub mod sys_topics;
pub mod telemetry;
