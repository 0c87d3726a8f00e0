//! What worker processes cost, and whether they were held up.

use serde::Serialize;

use crate::shared::WorkerUsage;

/// A worker that works for more of its time than this has nothing to spare.
const BUSY_MAX: f64 = 0.95;

/// A worker that waits for a CPU for more of its time than this is starved.
const STARVED_MAX: f64 = 0.5;

/// One worker process.
#[derive(Clone, Debug, Serialize)]
pub struct WorkerReport {
    /// Its connections of devices.
    pub connections: u64,
    /// Memory per connection with everything that belongs to it, bytes; none if that could not be measured.
    pub bytes_per_connection: Option<u64>,
    /// Resident memory at the end, bytes.
    pub resident_bytes: u64,
    /// Memory of its halves of the ledger, bytes.
    pub ledger_bytes: u64,
    /// 99 % of its events were late by its own doing no more than this, microseconds.
    pub lag_p99_us: u64,
    /// The latest one, microseconds.
    pub lag_max_us: u64,
    /// The share of its time that it worked, 0 to 1.
    pub busy: f64,
    /// The share of its time that it would have worked and had no CPU, 0 to 1.
    pub starved: f64,
}

impl WorkerReport {
    pub(super) fn of(usage: &WorkerUsage) -> Self {
        WorkerReport {
            connections: usage.connections,
            bytes_per_connection: usage.bytes_per_connection().map(|bytes| bytes as u64),
            resident_bytes: usage.resident_bytes,
            ledger_bytes: usage.ledger_bytes,
            lag_p99_us: usage.lag_p99_us,
            lag_max_us: usage.lag_max_us,
            busy: usage.busy(),
            starved: usage.starved(),
        }
    }

    /// Why the run says more about this worker than about the broker, if it does.
    pub fn held_up_by(&self) -> Option<&'static str> {
        match self {
            worker if worker.starved > STARVED_MAX => Some("waited for a CPU most of the time"),
            worker if worker.busy > BUSY_MAX => Some("had no time to spare"),
            _ => None,
        }
    }
}
