//! What a worker costs, and whether it got the CPU that it wanted.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::process;

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

/// Measures the process that it is in.
pub(super) struct Meter {
    began: Option<(Duration, Duration, Duration)>,
    usage: WorkerUsage,
}

impl Meter {
    pub(super) fn new() -> Self {
        let usage =
            WorkerUsage { resident_at_first_bytes: process::resident_bytes(), ..WorkerUsage::default() };
        Meter { began: None, usage }
    }

    /// Devices are made, and not connected.
    pub(super) fn made(&mut self) {
        self.usage.resident_before_bytes = process::resident_bytes();
    }

    /// So many connections are there now.
    pub(super) fn connected(&mut self, connections: u64) {
        if connections > self.usage.connections {
            self.usage.connections = connections;
            self.usage.resident_connected_bytes = process::resident_bytes();
        }
    }

    /// Publishing begins.
    pub(super) fn start(&mut self) {
        self.began = Some((process::cpu_time(), process::waited_for_cpu(), process::uptime()));
    }

    /// As it is now.
    pub(super) fn read(&mut self, ledger_bytes: usize) -> WorkerUsage {
        self.usage.resident_bytes = process::resident_bytes();
        self.usage.ledger_bytes = ledger_bytes as u64;
        if let Some((cpu, waited, at)) = self.began {
            self.usage.cpu_s = process::cpu_time().saturating_sub(cpu).as_secs_f64();
            self.usage.waited_for_cpu_s = process::waited_for_cpu().saturating_sub(waited).as_secs_f64();
            self.usage.elapsed_s = process::uptime().saturating_sub(at).as_secs_f64();
        }
        self.usage.clone()
    }
}
