//! Latencies: histograms of microseconds, since the start and since the last look.

use std::sync::{Mutex, PoisonError};

use hdrhistogram::Histogram;
use serde::Serialize;

/// Above ten minutes everything counts as ten minutes.
const MOST_US: u64 = 600_000_000;

/// Three significant digits: the relative error of a percentile is at most 0.1 %.
const DIGITS: u8 = 3;

/// Where a curve has its points: close where it bends.
const QUANTILES: [f64; 15] =
    [0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.975, 0.99, 0.995, 0.999, 0.999_5, 0.999_9, 0.999_99, 1.0];

/// One kind of latency, recorded by many tasks.
#[derive(Debug)]
pub struct Latencies(Mutex<Pair>);

#[derive(Debug)]
struct Pair {
    total: Histogram<u64>,
    recent: Histogram<u64>,
}

/// Percentiles in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct LatencySummary {
    /// How many were measured.
    pub count: u64,
    /// The mean.
    pub mean: f64,
    /// Half are below.
    pub p50: u64,
    /// 90 % are below.
    pub p90: u64,
    /// 99 % are below.
    pub p99: u64,
    /// 99.9 % are below.
    pub p999: u64,
    /// The greatest.
    pub max: u64,
}

/// One point of a distribution.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct QuantilePoint {
    /// This share of all measurements, 0 to 1,
    pub quantile: f64,
    /// took at most so many microseconds.
    pub us: u64,
}

impl Latencies {
    /// Empty.
    pub(super) fn new() -> Self {
        Latencies(Mutex::new(Pair { total: histogram(), recent: histogram() }))
    }

    /// Records one; in the total only if it `counts` (is not part of the warm-up).
    pub(crate) fn record(&self, latency_us: u64, counts: bool) {
        let mut pair = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        pair.recent.saturating_record(latency_us);
        if counts {
            pair.total.saturating_record(latency_us);
        }
    }

    /// Adds what another process recorded: values and how often each occurred.
    pub(crate) fn merge(&self, occurrences: &[(u64, u64)], counts: bool) {
        let mut pair = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (latency_us, count) in occurrences {
            pair.recent.saturating_record_n(*latency_us, *count);
            if counts {
                pair.total.saturating_record_n(*latency_us, *count);
            }
        }
    }

    /// Everything since the start.
    pub fn total(&self) -> LatencySummary {
        summary(&self.0.lock().unwrap_or_else(PoisonError::into_inner).total)
    }

    /// The distribution of everything since the start; empty without a measurement. It has no points that so few
    /// measurements cannot tell apart from the greatest.
    pub fn curve(&self) -> Vec<QuantilePoint> {
        let pair = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = pair.total.len();
        let told = |quantile: f64| count > 0 && (quantile == 1.0 || (1.0 - quantile) * count as f64 >= 1.0);
        let point = |quantile| QuantilePoint { quantile, us: pair.total.value_at_quantile(quantile) };
        QUANTILES.into_iter().filter(|quantile| told(*quantile)).map(point).collect()
    }

    /// Everything since the last call.
    pub fn take_recent(&self) -> LatencySummary {
        let mut pair = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if pair.recent.is_empty() {
            return LatencySummary::default();
        }
        let recent = summary(&pair.recent);
        pair.recent.reset();
        recent
    }
}

/// An empty histogram; all that are merged have these bounds.
#[expect(clippy::expect_used, reason = "the bounds are constants, and every test that records uses them")]
pub(crate) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, MOST_US, DIGITS).expect("valid bounds")
}

fn summary(histogram: &Histogram<u64>) -> LatencySummary {
    LatencySummary {
        count: histogram.len(),
        mean: histogram.mean(),
        p50: histogram.value_at_quantile(0.5),
        p90: histogram.value_at_quantile(0.9),
        p99: histogram.value_at_quantile(0.99),
        p999: histogram.value_at_quantile(0.999),
        max: histogram.max(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_warm_up_is_seen_live_and_left_out_of_the_total() {
        let latencies = Latencies::new();
        latencies.record(9_000, false);
        latencies.record(100, true);
        latencies.record(u64::MAX, true);
        assert_eq!(latencies.take_recent().count, 3);
        assert_eq!(latencies.take_recent(), LatencySummary::default());
        let total = latencies.total();
        assert_eq!((total.count, total.p50), (2, 100));
        assert!(total.max >= MOST_US);
    }

    #[test]
    fn a_curve_rises_and_ends_where_measurements_do() {
        let latencies = Latencies::new();
        assert_eq!(latencies.curve(), []);
        for latency_us in 1..=1_000 {
            latencies.record(latency_us, true);
        }
        let curve = latencies.curve();
        assert!(curve.is_sorted_by(|a, b| a.quantile < b.quantile && a.us <= b.us), "{curve:?}");
        assert_eq!(curve.last(), Some(&QuantilePoint { quantile: 1.0, us: 1_000 }));
        assert!(curve.iter().all(|point| point.quantile <= 0.999 || point.quantile == 1.0), "{curve:?}");
    }
}
