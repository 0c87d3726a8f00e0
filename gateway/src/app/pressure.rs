//! How pressed each resource is, looked at every 100 ms from a thread of its own, so that a runtime which is late is seen to be.
//!
//! Here is measured; what follows from it is [`crate::admission`]'s. Delays count by their order of magnitude: a tenth of the limit is a pressure
//! of 0.60, a quarter 0.74, half 0.86, so that what is ten times slower than usual is told apart from what is stuck.

use super::measure::{Disk, Probe};
use crate::admission::{
    Controller, DeliveryLag, Fault, Faults, LadderOptions, Level, LevelChange, Pressures, Progress, Resource,
    Stance,
};
use crate::clock;
use crate::config::Config;
use crate::connection::Context;
use crate::decisions::{Action, Decision, Reason};
use crate::delivery;
use crate::engine::DurableSession;
use crate::telemetry::memory;
use gateway_storage::{CommitState, PoisonCause, Ticket};
use metrics::{Gauge, Unit, counter, describe_counter, describe_gauge, gauge};
use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

/// Between two samples.
const EVERY: Duration = Duration::from_millis(100);
/// Between two looks at the disk.
const DISK_EVERY: Duration = Duration::from_millis(500);
/// By which power of its part of the limit a delay counts.
const DELAY_POWER: f64 = 0.22;
/// A commit that is under way for so many times its limit has stalled.
const STALLED_LIMITS: u32 = 2;
/// Of the memory's limit, where there is none for buffers.
const BUFFERS_OF_MEMORY: u64 = 4;
/// Groups whose receipts are waited for at a time: as many as are seen in ten seconds.
const AWAITED_MAX: usize = 128;
/// Samples between two turns of replays that wait for less pressure: they go on slowly.
const REPLAY_EVERY: u32 = 3;
/// With so much left a disk is not about to be full, however large a part of it is used.
const SCARCE_BYTES: u64 = 2 << 30;
/// How long a group waits for company at L1 and above.
const LINGER: Duration = Duration::from_millis(5);

/// Names the families for `/metrics`.
pub(super) fn describe() {
    describe_gauge!("gateway_level", Unit::Count, "The level of the ladder, 0 to 5");
    describe_gauge!("gateway_pressure", Unit::Count, "How pressed a resource is, 0 to 1");
    describe_gauge!("gateway_memory_limit_bytes", Unit::Bytes, "Resident memory at which its pressure is 1");
    describe_gauge!(
        "gateway_outbox_bytes",
        Unit::Bytes,
        "Memory of what waits for live subscribers, once however many wait for it"
    );
    describe_gauge!(
        "gateway_delivery_lag_growth",
        Unit::Count,
        "Of what comes for durable sessions that wait for the gateway, the part by which they fall behind, 0 to 1; looked at from L2 on"
    );
    describe_gauge!(
        "gateway_share_rate",
        Unit::Count,
        "Credits a second that each client has just now; 0 while shares are not limited"
    );
    describe_gauge!(
        "gateway_handshakes",
        Unit::Count,
        "Connections that have no answer to their CONNECT yet"
    );
    describe_counter!(
        "gateway_level_changes_total",
        Unit::Count,
        "Steps of the ladder, by the level they led to"
    );
}

/// The values at which pressures are 1.
#[derive(Clone, Debug)]
pub(super) struct Limits {
    ladder: bool,
    memory_bytes: u64,
    buffer_bytes: u64,
    commit: Duration,
    loop_lag: Duration,
    unacknowledged: Duration,
    disk_high_water: f64,
    data_dir: PathBuf,
    log_bytes_max: u64,
}

impl Limits {
    pub(super) fn of(config: &Config) -> Self {
        let admission = &config.admission;
        let memory_bytes = match admission.max_memory_bytes {
            0 => memory::limit_bytes().unwrap_or(u64::MAX),
            bytes => bytes,
        };
        let buffer_bytes = match admission.max_buffer_bytes {
            0 => memory_bytes / BUFFERS_OF_MEMORY,
            bytes => bytes,
        };
        Self {
            ladder: admission.ladder,
            memory_bytes,
            buffer_bytes,
            commit: admission.max_commit,
            loop_lag: admission.max_loop_lag,
            unacknowledged: admission.max_unacknowledged,
            disk_high_water: f64::from(admission.disk_high_water_percent) / 100.0,
            data_dir: config.storage.data_dir.clone(),
            log_bytes_max: config.storage.max_bytes,
        }
    }
}

/// Samples until `stop` is told, or gone.
pub(super) fn run(context: &Context, limits: Limits, probe: Probe, stop: &Receiver<()>) {
    let mut sampler = Sampler::new(limits, probe);
    loop {
        sampler.sample(context);
        match stop.recv_timeout(EVERY) {
            Err(RecvTimeoutError::Timeout) => {}
            Ok(()) | Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

struct Sampler {
    limits: Limits,
    samples: u32,
    controller: Controller,
    probe: Probe,
    disk: Disk,
    disk_at: Option<Instant>,
    /// Groups that somebody waits for, oldest first, and since when.
    awaited: VecDeque<(Ticket, Instant)>,
    /// While shares are limited.
    lag: Option<DeliveryLag>,
    level: Gauge,
    pressures: Vec<(Resource, Gauge)>,
}

impl Sampler {
    fn new(limits: Limits, probe: Probe) -> Self {
        gauge!("gateway_memory_limit_bytes").set(limits.memory_bytes as f64);
        let options = LadderOptions { enabled: limits.ladder, ..LadderOptions::default() };
        let pressure =
            |resource: Resource| (resource, gauge!("gateway_pressure", "resource" => resource.label()));
        Self {
            samples: 0,
            controller: Controller::new(options),
            probe,
            disk: Disk::default(),
            disk_at: None,
            awaited: VecDeque::new(),
            lag: None,
            level: gauge!("gateway_level"),
            pressures: Resource::ALL.into_iter().map(pressure).collect(),
            limits,
        }
    }

    fn sample(&mut self, context: &Context) {
        let (pressures, faults) = self.measure(context);
        let pressures = pressures.with_lag_growth(self.lag_growth(context));
        let change = self.controller.sample(clock::monotonic().0, &pressures, faults, &context.pressure);
        let stance = context.pressure.stance();
        context.decisions.set_level(stance.level.as_u8(), pressures.worst().1);
        self.level.set(f64::from(stance.level.as_u8()));
        for (resource, gauge) in &self.pressures {
            gauge.set(pressures.get(*resource));
        }
        self.samples += 1;
        if !context.pressure.pauses_replay() || self.samples.is_multiple_of(REPLAY_EVERY) {
            context.replays.resume();
        }
        gauge!("gateway_outbox_bytes").set(delivery::held_bytes() as f64);
        gauge!("gateway_delivery_lag_growth").set(pressures.lag_growth());
        let rate = context.pressure.share_rate();
        gauge!("gateway_share_rate").set(if rate.is_finite() { f64::from(rate) } else { 0.0 });
        gauge!("gateway_handshakes").set(context.registry.handshakes() as f64);
        if let Some(change) = change {
            tell(context, &change, stance);
        }
    }

    /// How the lag of connected durable sessions grows, where that matters.
    fn lag_growth(&mut self, context: &Context) -> f64 {
        if context.pressure.level() < Level::Throttle {
            self.lag = None;
            return 0.0;
        }
        let progress = |session: &DurableSession| {
            let is_starved = session.take_starved();
            let (came, done) = session.came_and_done()?;
            Some(Progress { id: session.id, came, done, is_starved })
        };
        self.lag.get_or_insert_default().growth(clock::monotonic().0, || {
            context.engine.sessions().into_iter().filter_map(move |session| progress(&session))
        })
    }

    fn measure(&mut self, context: &Context) -> (Pressures, Faults) {
        let limits = &self.limits;
        let part = |used: u64, limit: u64| used as f64 / limit.max(1) as f64;
        let commit = context.engine.commit();
        let now = Instant::now();
        if self.disk_at.is_none_or(|at| now.duration_since(at) >= DISK_EVERY) {
            self.disk = Disk::of(&limits.data_dir);
            self.disk_at = Some(now);
        }
        let log_bytes = commit.stats().log_bytes;
        // While there is room for the largest log there may be, or for a while to come, nobody cares how full the disk is otherwise.
        let is_scarce =
            self.disk.available < limits.log_bytes_max.saturating_sub(log_bytes).min(SCARCE_BYTES);
        let disk = if is_scarce { self.disk.pressure(limits.disk_high_water) } else { 0.0 };
        let waiting = commit.waiting();
        let commit_for = Duration::from_nanos(commit.take_longest_sojourn())
            .max(waiting.map_or(Duration::ZERO, |waiting| now.saturating_duration_since(waiting.since)));
        if let Some(waiting) = waiting
            && self.awaited.back().is_none_or(|(ticket, _)| *ticket != waiting.ticket)
            && self.awaited.len() < AWAITED_MAX
        {
            self.awaited.push_back((waiting.ticket, waiting.since));
        }
        let receipt = context.engine.receipt();
        while let Some((ticket, _)) = self.awaited.front()
            && receipt.is_some_and(|receipt| receipt.covers(*ticket) || receipt.outlives(*ticket))
        {
            self.awaited.pop_front();
        }
        let lag = self.probe.lag().max(context.turnstile.longest_wait());
        let oldest =
            self.awaited.front().map_or(Duration::ZERO, |(_, since)| now.saturating_duration_since(*since));
        let state = context.engine.commit_state();
        let has_failed = match &state {
            CommitState::Poisoned { .. } => {
                // Nobody waits for receipts that will not come.
                self.awaited.clear();
                true
            }
            CommitState::Running | CommitState::Stopped => false,
        };
        let is_out_of_space = matches!(state, CommitState::Poisoned { cause: PoisonCause::NoSpace, .. });
        let pressures = Pressures::default()
            .with(Resource::Memory, part(memory::resident_bytes().unwrap_or(0), limits.memory_bytes))
            .with(Resource::Buffer, part(delivery::held_bytes() as u64, limits.buffer_bytes))
            .with(Resource::Disk, disk.max(context.engine.held_fill()))
            .with(Resource::Commit, delayed(commit_for, limits.commit))
            .with(Resource::LoopLag, delayed(lag, limits.loop_lag))
            .with(Resource::Oldest, delayed(oldest, limits.unacknowledged));
        let faults = Faults {
            disk_full: is_out_of_space || commit.refuses_events(),
            log_failed: (has_failed && !is_out_of_space) || context.engine.has_lost_view(),
            commit_stalled: commit_for >= limits.commit * STALLED_LIMITS,
            disk_high_water: is_scarce && self.disk.used >= limits.disk_high_water,
        };
        (pressures, faults)
    }
}

/// The pressure of a delay. See the module documentation.
fn delayed(delay: Duration, limit: Duration) -> f64 {
    (delay.as_secs_f64() / limit.as_secs_f64().max(1e-9)).powf(DELAY_POWER).min(1.0)
}

/// A step of the ladder: on record, in the gateway's log, and for those who do something about it.
fn tell(context: &Context, change: &LevelChange, stance: Stance) {
    let reason = match change.fault {
        Some(Fault::DiskFull) => Reason::DiskFull,
        Some(Fault::LogFailed) => Reason::LogFailed,
        Some(Fault::CommitStalled) => Reason::CommitStalled,
        Some(Fault::DiskHighWater) => Reason::DiskHighWater,
        None => match change.resource {
            Resource::Memory => Reason::Memory,
            Resource::Buffer => Reason::Buffer,
            Resource::Disk => Reason::Disk,
            Resource::Commit => Reason::Commit,
            Resource::LoopLag => Reason::LoopLag,
            Resource::Oldest => Reason::Oldest,
        },
    };
    let steps = format!("l{} to l{}", change.from.as_u8(), change.to.as_u8());
    context.decisions.record(
        clock::unix_ms(),
        Decision { client: "", topic: &steps, action: Action::LevelChanged, reason, count: 1 },
    );
    counter!("gateway_level_changes_total", "to" => change.to.label()).increment(1);
    let (from, to) = (change.from.label(), change.to.label());
    let pressure = (change.pressure * 100.0).round() / 100.0;
    match change.to > change.from {
        true => tracing::warn!(from, to, reason = reason.label(), pressure, "the gateway is under pressure"),
        false => tracing::info!(from, to, pressure, "the pressure is less"),
    }
    context.engine.commit().linger(if stance.level.gathers_groups() { LINGER } else { Duration::ZERO });
}

/// A runtime's probe and the thread that samples.
pub(super) fn start(
    context: Arc<Context>,
    config: &Config,
) -> std::io::Result<std::sync::mpsc::SyncSender<()>> {
    let (stop, stopped) = std::sync::mpsc::sync_channel(1);
    let limits = Limits::of(config);
    let probe = Probe::start()?;
    std::thread::Builder::new()
        .name("pressure".into())
        .spawn(move || run(&context, limits, probe, &stopped))?;
    Ok(stop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delay_counts_by_its_order_of_magnitude() {
        let limit = Duration::from_secs(1);
        let shown = [0, 1, 10, 100, 250, 500, 1_000, 60_000]
            .map(|ms| format!("{ms}: {:.2}", delayed(Duration::from_millis(ms), limit)));
        let expected = [
            "0: 0.00",
            "1: 0.22",
            "10: 0.36",
            "100: 0.60",
            "250: 0.74",
            "500: 0.86",
            "1000: 1.00",
            "60000: 1.00",
        ];
        assert_eq!(shown, expected);
    }
}
