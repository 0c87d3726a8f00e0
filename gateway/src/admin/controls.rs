//! What is asked of the process that a gateway runs in, not of the gateway: to read its configuration again, and to end.
//!
//! The process decides; here it is only asked, and what it answers passed on. A gateway inside another program has no controls: whoever asks
//! is told so. Read next: `v1::operations::process` for the requests, `main` for who answers.

use serde::Serialize;
use tokio::sync::{mpsc, oneshot};
use utoipa::ToSchema;

use super::problem::Fault;
use crate::telemetry::LogLevel;

/// Orders that wait.
const ORDERS_MAX: usize = 8;

/// What a process is asked for.
#[derive(Debug)]
pub enum Order {
    /// To read the configuration again, and put in force what can be.
    Reload(oneshot::Sender<Result<Reloaded, Vec<ConfigFault>>>),
    /// To drain and end.
    Drain(Drain),
}

/// How to drain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Drain {
    /// Where clients are told to go, as MQTT 5 has it in a Server Reference: `host`, `host:port`, several parted by spaces.
    pub server_reference: Option<Box<str>>,
}

/// The configuration was read again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct Reloaded {
    /// Keys that have changed and are in force.
    pub applied: Vec<String>,
    /// Keys that differ from what the process was started with, and take a restart.
    pub needs_restart: Vec<String>,
    /// The log level in force.
    pub log_level: String,
}

/// One thing wrong with the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigFault {
    /// The key.
    pub key: String,
    /// What is wrong, and what would be accepted.
    pub detail: String,
}

impl From<ConfigFault> for Fault {
    fn from(fault: ConfigFault) -> Self {
        Self { at: fault.key, detail: fault.detail }
    }
}

/// By which a process is asked. Without anybody who listens, nothing is done.
#[derive(Clone, Default)]
pub struct Controls {
    orders: Option<mpsc::Sender<Order>>,
    log_level: Option<LogLevel>,
}

/// Why an order was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotTaken {
    /// Nobody listens.
    Nobody,
    /// Too many wait.
    Busy,
}

impl Controls {
    /// Controls, and what the process listens to. What is logged is changed without asking it.
    #[must_use]
    pub fn new(log_level: LogLevel) -> (Self, mpsc::Receiver<Order>) {
        let (orders, receiver) = mpsc::channel(ORDERS_MAX);
        (Self { orders: Some(orders), log_level: Some(log_level) }, receiver)
    }

    pub(super) const fn log_level(&self) -> Option<&LogLevel> {
        self.log_level.as_ref()
    }

    pub(super) fn give(&self, order: Order) -> Result<(), NotTaken> {
        let orders = self.orders.as_ref().ok_or(NotTaken::Nobody)?;
        orders.try_send(order).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => NotTaken::Busy,
            mpsc::error::TrySendError::Closed(_) => NotTaken::Nobody,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn orders_wait_for_the_process_in_bounds_and_without_one_are_not_taken() {
        assert_eq!(Controls::default().give(Order::Drain(Drain::default())), Err(NotTaken::Nobody));
        let (sender, mut orders) = mpsc::channel(ORDERS_MAX);
        let controls = Controls { orders: Some(sender), log_level: None };
        for _ in 0..ORDERS_MAX {
            assert_eq!(controls.give(Order::Drain(Drain::default())), Ok(()));
        }
        assert_eq!(controls.give(Order::Drain(Drain::default())), Err(NotTaken::Busy));
        assert!(matches!(orders.recv().await, Some(Order::Drain(Drain { server_reference: None }))));
        assert_eq!(controls.give(Order::Drain(Drain::default())), Ok(()));
        drop(orders);
        assert_eq!(controls.give(Order::Drain(Drain::default())), Err(NotTaken::Nobody));
    }
}
