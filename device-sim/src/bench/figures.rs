//! What a run brought, in numbers.

use std::ops::Sub;
use std::sync::atomic::Ordering;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use super::lean::shared::Shared;

/// The counters at one moment.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    pub(super) sent: u64,
    acknowledged: u64,
    pub(super) delivered: u64,
}

impl Counts {
    pub(super) fn read(shared: &Shared) -> Self {
        Self {
            sent: shared.sent.load(Ordering::Acquire),
            acknowledged: shared.acknowledged.load(Ordering::Acquire),
            delivered: shared.delivered.load(Ordering::Acquire),
        }
    }
}

impl Sub for Counts {
    type Output = Self;

    fn sub(self, from: Self) -> Self {
        Self {
            sent: self.sent - from.sent,
            acknowledged: self.acknowledged - from.acknowledged,
            delivered: self.delivered - from.delivered,
        }
    }
}

/// Everything measured; what a scenario does not measure is absent.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Figures {
    /// Events published in a second.
    pub(super) sent_per_second: Option<f64>,
    /// PUBACKs in a second.
    pub(super) acknowledged_per_second: Option<f64>,
    /// Deliveries in a second.
    pub(super) delivered_per_second: Option<f64>,
    /// CPU of the broker in µs for each event published.
    pub(super) cpu_us_per_event: Option<f64>,
    /// The same for each delivery.
    pub(super) cpu_us_per_delivery: Option<f64>,
    /// How much of one core the broker took.
    pub(super) cores: Option<f64>,
    /// Resident memory of the broker, the most that was seen.
    pub(super) resident_bytes: Option<u64>,
    /// Due to PUBACK.
    pub(super) acknowledgement: Option<Percentiles>,
    /// Due to delivery.
    pub(super) delivery: Option<Percentiles>,
    /// Open loop: the furthest that publishing was behind its schedule.
    pub(super) lag_max_us: u64,
    /// Deliveries that never came.
    pub(super) undelivered: u64,
    /// Connections made in a second.
    pub(super) connects_per_second: Option<f64>,
    /// Resident memory of an idle connection.
    pub(super) bytes_per_connection: Option<f64>,
    /// CPU of the broker for each connection made.
    pub(super) cpu_us_per_connect: Option<f64>,
}

impl Figures {
    pub(super) fn rates(&mut self, counts: &Counts, seconds: f64) {
        let rate = |count: u64| (count > 0).then_some(count as f64 / seconds);
        self.sent_per_second = rate(counts.sent);
        self.acknowledged_per_second = rate(counts.acknowledged);
        self.delivered_per_second = rate(counts.delivered);
    }

    pub(super) fn cost(&mut self, cpu: Duration, seconds: f64) {
        let cores = cpu.as_secs_f64() / seconds;
        self.cores = Some(cores);
        self.cpu_us_per_event = self.sent_per_second.map(|rate| cores * 1e6 / rate);
        self.cpu_us_per_delivery = self.delivered_per_second.map(|rate| cores * 1e6 / rate);
    }
}

/// A distribution of latencies in µs.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Percentiles {
    pub(super) p50_us: f64,
    pub(super) p99_us: f64,
    pub(super) p999_us: f64,
    pub(super) max_us: f64,
}

impl Percentiles {
    pub(super) fn of<'a>(histograms: impl Iterator<Item = &'a Histogram<u64>>) -> Option<Self> {
        let all = histograms.cloned().reduce(|mut all, one| {
            // All have the same bounds, so nothing is out of range.
            let _ = all.add(one);
            all
        })?;
        let us = |quantile| all.value_at_quantile(quantile) as f64 / 1000.0;
        (!all.is_empty()).then(|| Self {
            p50_us: us(0.5),
            p99_us: us(0.99),
            p999_us: us(0.999),
            max_us: all.max() as f64 / 1000.0,
        })
    }
}

/// The median; of an even number the upper of the two in the middle.
pub(super) fn middle(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}
