//! A run: connect, publish on schedule, drain, report.
//!
//! Promise: [`execute`] either says why it could not run or returns a report whose numbers add up, also when it was
//! interrupted. It owns every task it starts and ends them all. Progress is read from [`Shared`] while it runs; nothing
//! in here draws on a terminal.
//!
//! ```text
//! Connecting ──all up──► Publishing ──duration or stop──► Draining ──complete, or no progress──► Done
//!      └──────connect_timeout, refusal──► error
//! ```

mod clock;
mod drain;
mod latency;
mod shared;
mod ticker;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

pub use clock::RunClock;
pub use latency::{Latencies, LatencySummary};
pub(crate) use shared::LateDeliveries;
pub use shared::{Count, Phase, Shared, Stats, SubscriberState};

use crate::fleet;
use crate::mqtt::Broker;
use crate::process;
use crate::random::Seed;
use crate::report::Report;
use crate::scenario::Scenario;
use crate::subscriber;

/// How often waiting looks again.
const LOOK: Duration = Duration::from_millis(20);

/// How long devices, and then subscribers, may take to say goodbye.
const FAREWELL: Duration = Duration::from_millis(500);

/// File descriptors beyond those of the connections.
const SPARE_FILES: u64 = 256;

/// What to run, and against whom.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The scenario.
    pub scenario: Scenario,
    /// The broker's host name or address.
    pub host: String,
    /// The broker's TCP port.
    pub port: u16,
    /// The seed of everything random.
    pub seed: u64,
    /// Tells this run's events from those of others.
    pub epoch: u32,
}

/// What the outside wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stop {
    /// Go on.
    No,
    /// Publish no more, drain and report.
    Gently,
    /// Report at once.
    Now,
}

/// Why a run could not take place.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Someone never got a connection.
    #[error(
        "{connected} of {wanted} clients were connected to {broker} after {waited:?}; the last error was: {error}"
    )]
    Unreachable {
        /// The broker's address.
        broker: String,
        /// Devices and subscribers that were connected.
        connected: u64,
        /// Devices and subscribers there should have been.
        wanted: u64,
        /// The time they had.
        waited: Duration,
        /// What the last failed attempt said.
        error: String,
    },
    /// A subscription was refused or granted with a lower QoS.
    #[error("subscriber `{name}`: {reason}")]
    Subscription {
        /// The subscriber.
        name: String,
        /// What the broker answered.
        reason: String,
    },
    /// More connections than the operating system allows this process.
    #[error(
        "{wanted} open files are needed and the limit is {limit}; raise it (`ulimit -n {wanted}`) or use fewer devices"
    )]
    OpenFiles {
        /// Files this run needs.
        wanted: u64,
        /// The hard limit.
        limit: u64,
    },
    /// Stopped before everyone was connected.
    #[error("stopped before everyone was connected")]
    Stopped,
}

/// Builds the state that the tasks of a run share.
pub fn prepare(plan: &Plan) -> Arc<Shared> {
    Arc::new(Shared::new(plan))
}

/// Carries a plan out. `more_files` are the file descriptors this process needs for other things than the fleet.
///
/// # Errors
/// See [`RunError`]. A broken promise is not an error but a verdict.
pub async fn execute(
    plan: &Plan,
    shared: &Arc<Shared>,
    mut stop: watch::Receiver<Stop>,
    more_files: u64,
) -> Result<Report, RunError> {
    let clients = u64::from(plan.scenario.fleet.devices) + plan.scenario.subscribers.len() as u64;
    let wanted = clients + more_files + SPARE_FILES;
    process::allow_open_files(wanted).map_err(|limit| RunError::OpenFiles { wanted, limit })?;
    let broker = Broker { host: plan.host.clone(), port: plan.port };
    let patience = plan.scenario.run.connect_timeout;

    let (goodbye, hear_goodbye) = watch::channel(false);
    let mut subscribers = JoinSet::new();
    subscriber::spawn_all(&mut subscribers, plan, &broker, shared, &hear_goodbye);
    let all_subscribed = || shared.subscribers.iter().all(SubscriberState::is_ready);
    wait_connected(plan, shared, &mut stop, patience, all_subscribed).await?;

    let mut devices = JoinSet::new();
    let senders = fleet::spawn_all(&mut devices, plan, &broker, shared);
    let fleet_size = u64::from(plan.scenario.fleet.devices);
    let ramp = Duration::from_secs_f64(fleet_size as f64 / plan.scenario.fleet.connect_rate);
    let all_connected = || shared.stats.connected.get() >= fleet_size;
    wait_connected(plan, shared, &mut stop, ramp + patience, all_connected).await?;

    shared.clock.start();
    shared.enter(Phase::Publishing);
    let cpu_before = process::cpu_time();
    let published_for = ticker::run(plan, shared, senders, &mut stop).await;

    shared.enter(Phase::Draining);
    drain::run(shared, plan.scenario.run.drain_timeout, &mut stop).await;
    let cpu = process::cpu_time().saturating_sub(cpu_before);
    let report = Report::new(plan, shared, published_for, cpu);
    shared.enter(Phase::Done);

    // A device that is cut off before its DISCONNECT leaves a Will Message behind.
    let leaving = async { while devices.join_next().await.is_some() {} };
    if tokio::time::timeout(FAREWELL, leaving).await.is_err() {
        devices.shutdown().await;
    }
    let _ = goodbye.send(true);
    let farewell = async { while subscribers.join_next().await.is_some() {} };
    if tokio::time::timeout(FAREWELL, farewell).await.is_err() {
        subscribers.shutdown().await;
    }
    Ok(report)
}

async fn wait_connected(
    plan: &Plan,
    shared: &Shared,
    stop: &mut watch::Receiver<Stop>,
    patience: Duration,
    done: impl Fn() -> bool,
) -> Result<(), RunError> {
    let began = Instant::now();
    while !done() {
        if let Some((name, reason)) = shared.refused_subscription() {
            return Err(RunError::Subscription { name, reason });
        }
        if *stop.borrow_and_update() != Stop::No {
            return Err(RunError::Stopped);
        }
        if began.elapsed() >= patience {
            let subscribed =
                shared.subscribers.iter().filter(|subscriber| subscriber.is_ready()).count() as u64;
            return Err(RunError::Unreachable {
                broker: format!("{}:{}", plan.host, plan.port),
                connected: shared.stats.connected.get() + subscribed,
                wanted: u64::from(plan.scenario.fleet.devices) + shared.subscribers.len() as u64,
                waited: patience,
                error: shared.last_error().unwrap_or_else(|| "none yet".to_owned()),
            });
        }
        sleep(LOOK).await;
    }
    Ok(())
}

impl Plan {
    /// The seed as the streams want it.
    pub fn seed(&self) -> Seed {
        Seed(self.seed)
    }
}
