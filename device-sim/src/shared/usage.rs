//! What worker processes cost.

use serde::{Deserialize, Serialize};

/// Connections that it takes to weigh one.
const WEIGHABLE: u64 = 1_000;

/// One worker process, measured by itself.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct WorkerUsage {
    /// CPU time since publishing began, seconds.
    pub cpu_s: f64,
    /// For how long it was ready to run and had no CPU since publishing began, seconds.
    pub waited_for_cpu_s: f64,
    /// How long ago publishing began, seconds.
    pub elapsed_s: f64,
    /// Resident memory before it connected, bytes: the program, the devices and their schedule.
    pub resident_before_bytes: u64,
    /// Resident memory now, bytes.
    pub resident_bytes: u64,
    /// Resident memory when the program had just begun, bytes.
    pub resident_at_first_bytes: u64,
    /// Resident memory when all connections were there, bytes.
    pub resident_connected_bytes: u64,
    /// Memory of its halves of the ledger, bytes.
    pub ledger_bytes: u64,
    /// 99 % of its events were handed over, or taken in, no later than this by its own doing, microseconds.
    pub lag_p99_us: u64,
    /// The latest one, microseconds.
    pub lag_max_us: u64,
    /// Its connections of devices.
    pub connections: u64,
}

impl WorkerUsage {
    /// The share of its time that it worked, 0 to 1.
    pub fn busy(&self) -> f64 {
        self.cpu_s / self.elapsed_s.max(1e-9)
    }

    /// The share of its time that it would have worked and had no CPU, 0 to 1.
    pub fn starved(&self) -> f64 {
        self.waited_for_cpu_s / self.elapsed_s.max(1e-9)
    }

    /// Memory per connection, its device's included, bytes; none if they are so few that the worker's own buffers weigh more.
    pub fn bytes_per_connection(&self) -> Option<f64> {
        let grown = self.resident_connected_bytes.saturating_sub(self.resident_at_first_bytes);
        (self.connections >= WEIGHABLE && grown > 0).then(|| grown as f64 / self.connections as f64)
    }
}
