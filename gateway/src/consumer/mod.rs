//! Consumers.
pub mod core;
