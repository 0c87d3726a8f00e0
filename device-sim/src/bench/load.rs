//! One run: workers are started, taken through the phases, and their counters read while they work.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::broker::Usage;
use super::figures::{Counts, Figures, Percentiles};
use super::lean::shared::{Phase, Shared};
use super::lean::worker::{Measured, Worker};
use super::lean::{LeanError, Pace, Wanted};
use crate::command::CommandError;

/// How long connecting everything may take without any progress.
const CONNECT_PATIENCE: Duration = Duration::from_secs(20);
/// How long a drain goes on without a delivery before it is given up.
const DRAIN_PATIENCE: Duration = Duration::from_secs(2);
/// How long idle connections are left alone before their memory is read.
const SETTLE: Duration = Duration::from_secs(2);
const LOOK: Duration = Duration::from_millis(5);

/// What is put on a broker.
pub(super) struct Load {
    /// Connections are all it is about.
    pub(super) is_connect: bool,
    /// The connections of each worker.
    pub(super) workers: Vec<Vec<Wanted>>,
    /// How many those are.
    pub(super) connections: u64,
    pub(super) pace: Pace,
    /// Deliveries that are expected of one event.
    pub(super) fan_out: u64,
    pub(super) payload_bytes: usize,
    pub(super) warm_up: Duration,
    pub(super) duration: Duration,
    pub(super) until: Until,
}

/// What is measured of a load.
#[derive(Clone, Copy, Debug)]
pub(super) enum Until {
    /// Its duration, after the warm-up.
    Time,
    /// From its first connection on, until so many events were published, or its duration has passed.
    Sent(u64),
    /// The same, until so many deliveries have come.
    Delivered(u64),
}

impl Until {
    fn is_reached(self, counts: Counts) -> bool {
        match self {
            Self::Time => false,
            Self::Sent(events) => counts.sent >= events,
            Self::Delivered(events) => counts.delivered >= events,
        }
    }
}

/// Puts `load` on the broker at `address`, whose process is `pid` if that is known.
pub(super) fn run(load: &Load, address: SocketAddr, pid: Option<u32>) -> Result<Figures, CommandError> {
    let shared = Arc::new(Shared::new());
    let before = Usage::read(pid);
    let began = Instant::now();
    let mut threads = Vec::new();
    for wanted in load.workers.clone() {
        let worker = Worker {
            address,
            shared: Arc::clone(&shared),
            payload_bytes: load.payload_bytes,
            pace: load.pace,
            wanted,
        };
        let thread = thread::Builder::new().name("bench".to_owned()).spawn(move || worker.run());
        threads.push(thread.map_err(|error| CommandError::CouldNotRun(format!("no thread: {error}")))?);
    }
    let outcome = watch(load, &shared, before, began, pid);
    shared.enter(Phase::Stop);
    let measured = join(threads)?;
    let mut figures = outcome?;
    figures.acknowledgement = Percentiles::of(measured.iter().map(|worker| &worker.acknowledgement));
    figures.delivery = Percentiles::of(measured.iter().map(|worker| &worker.delivery));
    figures.lag_max_us = measured.iter().map(|worker| worker.lag_max / 1000).max().unwrap_or(0);
    Ok(figures)
}

/// The error that started it all, if there was one: others only stopped because of it.
fn join(threads: Vec<JoinHandle<Result<Measured, LeanError>>>) -> Result<Vec<Measured>, CommandError> {
    let mut measured = Vec::new();
    let mut failed: Option<LeanError> = None;
    for thread in threads {
        match thread.join() {
            Ok(Ok(worker)) => measured.push(worker),
            Ok(Err(error)) => {
                if !matches!(error, LeanError::Stopped) || failed.is_none() {
                    failed = Some(error);
                }
            }
            Err(_) => return Err(CommandError::CouldNotRun("a worker panicked".to_owned())),
        }
    }
    failed.map_or(Ok(measured), |error| Err(CommandError::CouldNotRun(error.to_string())))
}

fn watch(
    load: &Load,
    shared: &Shared,
    before: Option<Usage>,
    began: Instant,
    pid: Option<u32>,
) -> Result<Figures, CommandError> {
    wait_until_ready(load, shared)?;
    let connecting = began.elapsed();
    let mut figures = Figures::default();
    if load.is_connect {
        let connected = Usage::read(pid);
        shared.rest(SETTLE);
        let settled = Usage::read(pid);
        figures.connects_per_second = Some(load.connections as f64 / connecting.as_secs_f64());
        if let (Some(before), Some(connected), Some(settled)) = (before, connected, settled) {
            let grown = settled.resident_bytes.saturating_sub(before.resident_bytes);
            figures.bytes_per_connection = Some(grown as f64 / load.connections as f64);
            figures.cpu_us_per_connect =
                Some((connected.cpu - before.cpu).as_secs_f64() * 1e6 / load.connections as f64);
            figures.resident_bytes = Some(settled.resident_bytes);
        }
        return Ok(figures);
    }
    let (from, used_from, at, look) = if matches!(load.until, Until::Time) {
        shared.enter(Phase::WarmUp);
        shared.rest(load.warm_up);
        shared.enter(Phase::Measure);
        (Counts::read(shared), Usage::read(pid), Instant::now(), LOOK.max(load.duration / 50))
    } else {
        shared.enter(Phase::Measure);
        (Counts::default(), before, began, LOOK)
    };
    let mut resident_max = 0;
    while at.elapsed() < load.duration
        && shared.phase() == Phase::Measure
        && !load.until.is_reached(Counts::read(shared))
    {
        shared.rest(look.min(load.duration.saturating_sub(at.elapsed())));
        resident_max = resident_max.max(Usage::read(pid).map_or(0, |usage| usage.resident_bytes));
    }
    let (to, used_to, seconds) = (Counts::read(shared), Usage::read(pid), at.elapsed().as_secs_f64());
    shared.enter(Phase::Drain);
    figures.rates(&(to - from), seconds);
    if let (Some(from), Some(to)) = (used_from, used_to) {
        figures.cost(to.cpu - from.cpu, seconds);
        figures.resident_bytes = Some(resident_max);
    }
    figures.undelivered = match load.until {
        Until::Delivered(wanted) => wanted.saturating_sub(Counts::read(shared).delivered),
        _ => drain(load, shared),
    };
    Ok(figures)
}

fn wait_until_ready(load: &Load, shared: &Shared) -> Result<(), CommandError> {
    let (mut seen, mut since) = (0, Instant::now());
    loop {
        let ready = shared.ready.load(Ordering::Acquire);
        if ready >= load.connections {
            return Ok(());
        }
        if shared.phase() == Phase::Stop {
            return Ok(()); // The worker that failed says why.
        }
        if ready > seen {
            (seen, since) = (ready, Instant::now());
        }
        if since.elapsed() > CONNECT_PATIENCE {
            return Err(CommandError::CouldNotRun(format!(
                "of {} connections {ready} are ready, and for {CONNECT_PATIENCE:?} no other one was",
                load.connections
            )));
        }
        shared.rest(LOOK);
    }
}

/// Waits for what is on its way; answers what never came.
fn drain(load: &Load, shared: &Shared) -> u64 {
    let (mut seen, mut since) = (0, Instant::now());
    loop {
        let expected = shared.sent.load(Ordering::Acquire) * load.fan_out;
        let delivered = shared.delivered.load(Ordering::Acquire);
        if delivered >= expected || since.elapsed() > DRAIN_PATIENCE || shared.phase() == Phase::Stop {
            return expected.saturating_sub(delivered);
        }
        if delivered > seen {
            (seen, since) = (delivered, Instant::now());
        }
        shared.rest(LOOK);
    }
}
