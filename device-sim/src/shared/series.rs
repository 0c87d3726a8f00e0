//! What a run did second by second: rates, latencies, connections, and how the gateway felt.
//!
//! Promise: bounded, whatever the run's length. At [`SAMPLES_MAX`] samples neighbours are merged in pairs and each covers twice
//! the time from then on; a merged sample has the mean of rates and the worst of what is feared, so that a spike is never
//! averaged away. It is the only one that takes latencies "since the last look", so that the live view, the metrics and the
//! report agree; all of them read it here.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;

use super::{LatencySummary, Phase, Shared};

/// The most samples that are kept.
pub const SAMPLES_MAX: usize = 4_096;

/// Rates over less than this say nothing.
const SHORTEST: Duration = Duration::from_millis(500);

/// What was read of the gateway counts for so long.
const FRESH: Duration = Duration::from_millis(2_500);

/// A run's samples, taken about once a second by whoever runs it.
#[derive(Debug)]
pub struct Series {
    began: Instant,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    samples: Vec<Sample>,
    /// What a sample covers before the next one begins, seconds.
    step_s: f64,
    /// When publishing began, seconds after the series did.
    publishing_s: Option<f64>,
    gateway: Option<(Duration, GatewaySample)>,
    last_at: Duration,
    last: Counters,
    latest: Latest,
}

/// Counters at one moment.
#[derive(Clone, Copy, Debug, Default)]
struct Counters {
    due: u64,
    sent: u64,
    acknowledged: u64,
    delivered: u64,
    disconnects: u64,
}

/// One sample: what happened in the time up to `t_s`.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Sample {
    /// When it ends, seconds since publishing began; below zero while everybody connects.
    pub t_s: f64,
    /// How long a time it covers.
    pub span_s: f64,
    /// The phase at its end: that of the timeline, or `connecting`, `publishing`, `draining`, `done`.
    pub phase: String,
    /// Devices connected at its end.
    pub connected: u64,
    /// Connections of devices that broke.
    pub disconnects: u64,
    /// Events that became due.
    pub due_per_s: f64,
    /// Events written to a connection for the first time.
    pub sent_per_s: f64,
    /// PUBACKs with success.
    pub acknowledged_per_s: f64,
    /// First deliveries to all subscribers.
    pub delivered_per_s: f64,
    /// The simulator's own lag.
    pub lag_us: Spread,
    /// From due to PUBACK.
    pub due_to_puback_us: Spread,
    /// From due to delivered, one for each subscriber in the scenario's order.
    pub due_to_delivered_us: Vec<Spread>,
    /// How the gateway was, if it was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gateway: Option<GatewaySample>,
}

/// The latencies of one sample, microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Spread {
    /// How many were measured.
    pub count: u64,
    /// Half are below.
    pub p50: u64,
    /// 99 % are below.
    pub p99: u64,
    /// The greatest.
    pub max: u64,
}

/// What the gateway said of itself.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct GatewaySample {
    /// Its overload level, 0 to 5.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub level: Option<u8>,
    /// Its pressure by resource; 1 is all of it.
    pub pressure: BTreeMap<String, f64>,
    /// How much of one core it took.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cores: Option<f64>,
    /// Its resident memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resident_bytes: Option<u64>,
    /// Connections it has open.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connections: Option<u64>,
}

/// The last sample in full, for those who watch.
#[derive(Clone, Debug, Default)]
pub struct Latest {
    /// The sample.
    pub sample: Sample,
    /// From first writing to PUBACK.
    pub sent_to_puback: LatencySummary,
    /// From due to PUBACK.
    pub due_to_puback: LatencySummary,
    /// From due to delivered, for each subscriber.
    pub due_to_delivered: Vec<LatencySummary>,
}

/// The series as it stands in a report.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct SeriesReport {
    /// What one sample covers, seconds.
    pub step_s: f64,
    /// Oldest first; at most [`SAMPLES_MAX`].
    pub samples: Vec<Sample>,
}

impl Series {
    /// Empty; its time begins now.
    pub(crate) fn new() -> Self {
        let inner = Inner {
            samples: Vec::new(),
            step_s: 1.0,
            publishing_s: None,
            gateway: None,
            last_at: Duration::ZERO,
            last: Counters::default(),
            latest: Latest::default(),
        };
        Series { began: Instant::now(), inner: Mutex::new(inner) }
    }

    /// Takes a sample; about once a second. Sooner than half a second after the last one nothing happens.
    pub fn sample(&self, shared: &Shared) {
        self.sample_at(shared, self.began.elapsed(), SHORTEST);
    }

    /// Takes the last sample, however little time it covers, so that what is plotted adds up to what is counted.
    pub fn close(&self, shared: &Shared) {
        self.sample_at(shared, self.began.elapsed(), Duration::from_nanos(1));
    }

    /// How the gateway is now.
    pub fn note_gateway(&self, sample: GatewaySample) {
        self.lock().gateway = Some((self.began.elapsed(), sample));
    }

    /// The last sample in full.
    pub fn latest(&self) -> Latest {
        self.lock().latest.clone()
    }

    /// All samples, their times counted from when publishing began.
    pub fn report(&self) -> SeriesReport {
        let inner = self.lock();
        let zero = inner.publishing_s.unwrap_or(0.0);
        let shifted = |sample: &Sample| Sample { t_s: rounded(sample.t_s - zero), ..sample.clone() };
        SeriesReport { step_s: inner.step_s, samples: inner.samples.iter().map(shifted).collect() }
    }

    fn sample_at(&self, shared: &Shared, now: Duration, shortest: Duration) {
        let mut inner = self.lock();
        let span = now.saturating_sub(inner.last_at);
        if span < shortest {
            return;
        }
        let published_us = shared.clock.now_us();
        if inner.publishing_s.is_none() && published_us > 0 {
            inner.publishing_s = Some(now.as_secs_f64() - published_us as f64 / 1e6);
        }
        let before = inner.last;
        let counters = Counters::read(shared);
        let seconds = span.as_secs_f64();
        let per_second = |now: u64, before: u64| rounded(now.saturating_sub(before) as f64 / seconds);
        let fresh = inner.gateway.as_ref().filter(|(at, _)| now.saturating_sub(*at) <= FRESH);
        let due_to_puback = shared.due_to_puback.take_recent();
        let due_to_delivered: Vec<LatencySummary> =
            shared.subscribers.iter().map(|one| one.latencies.take_recent()).collect();
        let sample = Sample {
            t_s: now.as_secs_f64(),
            span_s: rounded(seconds),
            phase: phase_name(shared, published_us),
            connected: shared.stats.connected.get(),
            disconnects: counters.disconnects.saturating_sub(before.disconnects),
            due_per_s: per_second(counters.due, before.due),
            sent_per_s: per_second(counters.sent, before.sent),
            acknowledged_per_s: per_second(counters.acknowledged, before.acknowledged),
            delivered_per_s: per_second(counters.delivered, before.delivered),
            lag_us: Spread::of(&shared.lag.take_recent()),
            due_to_puback_us: Spread::of(&due_to_puback),
            due_to_delivered_us: due_to_delivered.iter().map(Spread::of).collect(),
            gateway: fresh.map(|(_, sample)| sample.clone()),
        };
        inner.latest = Latest {
            sample: sample.clone(),
            sent_to_puback: shared.sent_to_puback.take_recent(),
            due_to_puback,
            due_to_delivered,
        };
        (inner.last_at, inner.last) = (now, counters);
        inner.keep(sample);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn keep(&mut self, sample: Sample) {
        let step_s = self.step_s;
        match self.samples.last_mut() {
            // A last sample that covers next to no time would be a spike or a hole in every plot.
            Some(last) if last.span_s + 0.1 < step_s || sample.span_s < SHORTEST.as_secs_f64() => {
                last.merge(sample);
            }
            _ => self.samples.push(sample),
        }
        if self.samples.len() > SAMPLES_MAX {
            self.halve();
        }
    }

    fn halve(&mut self) {
        let mut halved: Vec<Sample> = Vec::with_capacity(SAMPLES_MAX);
        for (place, sample) in self.samples.drain(..).enumerate() {
            match halved.last_mut().filter(|_| place % 2 == 1) {
                Some(last) => last.merge(sample),
                None => halved.push(sample),
            }
        }
        self.samples = halved;
        self.step_s *= 2.0;
    }
}

/// The phase's name: that of the timeline while it has one.
fn phase_name(shared: &Shared, now_us: u64) -> String {
    let named = shared.timeline.phase_at(now_us).filter(|_| shared.phase() == Phase::Publishing);
    named.unwrap_or_else(|| shared.phase().name()).to_owned()
}

impl Counters {
    fn read(shared: &Shared) -> Self {
        let stats = &shared.stats;
        let delivered = |one: &super::SubscriberState| one.delivered.qos0.get() + one.delivered.qos1.get();
        Counters {
            due: stats.due.qos0.get() + stats.due.qos1.get(),
            sent: stats.sent.qos0.get() + stats.sent.qos1.get(),
            acknowledged: stats.acknowledged.get(),
            delivered: shared.subscribers.iter().map(delivered).sum(),
            disconnects: stats.disconnects.get(),
        }
    }
}

impl Sample {
    /// Adds the sample that follows.
    fn merge(&mut self, next: Sample) {
        let (own, other) = (self.span_s, next.span_s);
        let mean = |a: f64, b: f64| rounded((a * own + b * other) / (own + other).max(1e-9));
        self.due_per_s = mean(self.due_per_s, next.due_per_s);
        self.sent_per_s = mean(self.sent_per_s, next.sent_per_s);
        self.acknowledged_per_s = mean(self.acknowledged_per_s, next.acknowledged_per_s);
        self.delivered_per_s = mean(self.delivered_per_s, next.delivered_per_s);
        self.t_s = next.t_s;
        self.span_s = rounded(own + other);
        self.phase = next.phase;
        self.connected = next.connected;
        self.disconnects += next.disconnects;
        self.lag_us.merge(next.lag_us);
        self.due_to_puback_us.merge(next.due_to_puback_us);
        for (spread, more) in self.due_to_delivered_us.iter_mut().zip(next.due_to_delivered_us) {
            spread.merge(more);
        }
        match (&mut self.gateway, next.gateway) {
            (Some(gateway), Some(more)) => gateway.merge(more),
            (gateway @ None, more) => *gateway = more,
            (Some(_), None) => {}
        }
    }
}

impl Spread {
    fn of(summary: &LatencySummary) -> Self {
        Spread { count: summary.count, p50: summary.p50, p99: summary.p99, max: summary.max }
    }

    /// The median is the mean of both medians, the rest the worse of both.
    fn merge(&mut self, more: Spread) {
        let count = self.count + more.count;
        if count > 0 {
            let sum =
                u128::from(self.p50) * u128::from(self.count) + u128::from(more.p50) * u128::from(more.count);
            self.p50 = u64::try_from(sum / u128::from(count)).unwrap_or(u64::MAX);
        }
        (self.count, self.p99, self.max) = (count, self.p99.max(more.p99), self.max.max(more.max));
    }
}

impl GatewaySample {
    fn merge(&mut self, more: GatewaySample) {
        self.level = self.level.max(more.level);
        for (resource, pressure) in more.pressure {
            let own = self.pressure.entry(resource).or_insert(pressure);
            *own = own.max(pressure);
        }
        self.cores = match (self.cores, more.cores) {
            (Some(a), Some(b)) => Some(rounded((a + b) / 2.0)),
            (a, b) => a.or(b),
        };
        self.resident_bytes = self.resident_bytes.max(more.resident_bytes);
        self.connections = more.connections.or(self.connections);
    }
}

/// Thousandths are enough for a plot, and a third of the document.
fn rounded(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Plan;
    use crate::scenario::Scenario;

    fn shared() -> std::sync::Arc<Shared> {
        let scenario = Scenario::parse(include_str!("../../scenarios/first.toml")).unwrap();
        Shared::of(&Plan { scenario, host: "broker".to_owned(), port: 1_883, seed: 1, epoch: 2 })
    }

    fn at(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    #[test]
    fn a_second_has_its_rates_and_its_latencies_alone() {
        let shared = shared();
        let series = Series::new();
        shared.stats.sent.qos1.add(500);
        shared.due_to_puback.record(1_000, true);
        series.sample_at(&shared, at(1.0), SHORTEST);
        series.sample_at(&shared, at(1.2), SHORTEST);
        shared.stats.sent.qos0.add(100);
        shared.due_to_puback.record(9_000, true);
        series.sample_at(&shared, at(3.0), SHORTEST);
        let samples = series.report().samples;
        let sent: Vec<f64> = samples.iter().map(|sample| sample.sent_per_s).collect();
        assert_eq!(sent, [500.0, 50.0], "and nothing too soon after the first");
        let most: Vec<u64> = samples.iter().map(|sample| sample.due_to_puback_us.max / 1_000).collect();
        assert_eq!(most, [1, 9]);
        assert_eq!(samples.first().map(|sample| sample.phase.as_str()), Some("connecting"));
        assert_eq!(series.latest().due_to_puback.count, 1);
    }

    #[test]
    fn a_long_run_is_kept_within_its_bound_and_loses_neither_events_nor_spikes() {
        let series = Series::new();
        for second in 1..=20_000_u32 {
            let most = if second == 7_777 { 5_000_000 } else { 1_000 };
            series.lock().keep(Sample {
                t_s: f64::from(second),
                span_s: 1.0,
                sent_per_s: 10.0,
                due_to_puback_us: Spread { count: 10, p50: 500, p99: most, max: most },
                ..Sample::default()
            });
        }
        let report = series.report();
        assert!(report.samples.len() <= SAMPLES_MAX, "{}", report.samples.len());
        assert_eq!(report.step_s, 8.0);
        let sent: f64 = report.samples.iter().map(|sample| sample.sent_per_s * sample.span_s).sum();
        assert!((sent - 200_000.0).abs() < 1.0, "{sent}");
        assert!(report.samples.iter().any(|sample| sample.due_to_puback_us.max == 5_000_000));
        assert!(report.samples.iter().all(|sample| sample.due_to_puback_us.p50 == 500));
    }

    #[test]
    fn the_last_moments_belong_to_the_last_sample() {
        let shared = shared();
        let series = Series::new();
        series.sample_at(&shared, at(1.0), SHORTEST);
        shared.stats.sent.qos1.add(7);
        series.sample_at(&shared, at(1.1), Duration::from_millis(1));
        let samples = series.report().samples;
        assert_eq!(samples.len(), 1);
        let sent: f64 = samples.iter().map(|sample| sample.sent_per_s * sample.span_s).sum();
        assert!((sent - 7.0).abs() < 0.1, "{sent}");
    }

    #[test]
    fn what_the_gateway_said_gets_old() {
        let shared = shared();
        let series = Series::new();
        series.note_gateway(GatewaySample { level: Some(2), ..GatewaySample::default() });
        series.sample_at(&shared, at(1.0), SHORTEST);
        series.sample_at(&shared, at(9.0), SHORTEST);
        let levels: Vec<Option<u8>> =
            series.report().samples.iter().map(|sample| sample.gateway.as_ref()?.level).collect();
        assert_eq!(levels, [Some(2), None]);
    }
}
