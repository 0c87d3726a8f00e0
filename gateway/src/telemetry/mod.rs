//! What the gateway says about itself: metric families and log lines.
//!
//! Promises: one recorder for each process, however many gateways run in it; memory that stays bounded whether or not
//! anyone scrapes; nothing on the hot path but an atomic.
//!
//! Families sit beside the code that moves them. A module with families has a `pub fn describe()`, which names each with
//! its unit and meaning (`metrics::describe_counter!` and its kin), and the composition root hands all of them to
//! [`describe_all`]. Names are `gateway_..._total`, `_seconds`, `_bytes`. Labels come from closed sets, enums with a
//! `&'static str` each: a Client Identifier or a topic belongs in a log line, never in a label.
//!
//! Nothing here knows what is counted, nor who asks: `admin` serves [`Metrics::render`].

#[cfg(test)]
mod captured;
mod logs;
pub mod memory;
mod metrics;
mod process;

#[cfg(test)]
pub(crate) use captured::captured;
pub use logs::{CLIENT_TARGET, Directives, LineFormat, LogLevel, LogsError, logs_to_stderr};
pub use metrics::{Metrics, TelemetryError, describe_all};
