//! What a worker costs, and whether it got the CPU that it wanted.

use std::time::Duration;

use hdrhistogram::Histogram;

use crate::lean::{Times, Timing};
use crate::process;
use crate::shared::{WorkerUsage, histogram};

/// Measures the process that it is in.
pub(super) struct Meter {
    began: Option<(Duration, Duration, Duration)>,
    usage: WorkerUsage,
    /// Its own lag, microseconds.
    lag: Histogram<u64>,
}

impl Meter {
    pub(super) fn new() -> Self {
        let usage =
            WorkerUsage { resident_at_first_bytes: process::resident_bytes(), ..WorkerUsage::default() };
        Meter { began: None, usage, lag: histogram() }
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

    /// What was timed since the last report, its own lag among it.
    pub(super) fn late(&mut self, times: &[Times]) {
        for times in times.iter().filter(|times| times.of == Timing::Lag) {
            for (lag_us, count) in &times.counted {
                self.lag.saturating_record_n(*lag_us, *count);
            }
        }
        self.usage.lag_p99_us = self.lag.value_at_quantile(0.99);
        self.usage.lag_max_us = self.lag.max();
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
