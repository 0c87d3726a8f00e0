//! A run: connect, publish on schedule, drain, report.
//!
//! Promise: [`execute`] either says why it could not run or returns a report whose numbers add up, also when it was
//! interrupted. It owns every task it starts and ends them all. Progress is read from [`Shared`] while it runs; nothing
//! in here draws on a terminal.
//!
//! What happens besides is the scenario's timeline, carried out by the `conductor` on the `stage`: the broker that the run
//! started itself, the network, the subscribers.
//!
//! ```text
//! Connecting ──all up──► Publishing ──duration or stop──► Draining ──complete, or no progress──► Done
//!      └──────connect_timeout, refusal──► error
//! ```

mod by_workers;
mod conductor;
mod drain;
mod judging;
mod sampling;
mod stage;
mod ticker;
mod told;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use self::conductor::Conducting;
use self::judging::judged;
use self::stage::Stage;
pub use crate::admin::AdminError;
use crate::admin::Desk;
pub use crate::edge::EdgeError;
use crate::edge::Sites;
use crate::fleet::{self, Place};
pub use crate::host::HostError;
use crate::plan::Plan;
use crate::process;
use crate::report::Report;
use crate::roster::Identity;
use crate::scenario::Clients;
use crate::shared::{EdgeStats, Phase, Shared, SubscriberState};
use crate::stop::Stop;
use crate::subscriber;
use crate::workers::team::TeamError;

/// How often waiting looks again.
const LOOK: Duration = Duration::from_millis(20);

/// How long devices, and then subscribers, may take to say goodbye.
const FAREWELL: Duration = Duration::from_millis(500);

/// File descriptors beyond those of the connections.
const SPARE_FILES: u64 = 256;

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
    /// Worker processes could not go on.
    #[error(transparent)]
    Workers(#[from] TeamError),
    /// The broker that the run was to start or to spoil.
    #[error(transparent)]
    Host(#[from] HostError),
    /// The gateway's counters were to be read.
    #[error("cannot read the gateway's counters: {0}")]
    Admin(#[from] AdminError),
    /// Sites with brokers of their own.
    #[error(transparent)]
    Edge(#[from] EdgeError),
    /// No port for the network that is to be spoilt.
    #[error("cannot listen for the fleet: {0}")]
    Proxy(io::Error),
    /// The timeline was not carried out to its end.
    #[error("the conductor of the timeline panicked")]
    Conductor,
    /// Stopped before everyone was connected.
    #[error("stopped before everyone was connected")]
    Stopped,
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
    let (stage, addresses) = Stage::set(plan).await?;
    let just_started = stage.admin().map(|admin| shared.admin_is_at(admin)).is_some();
    let desk = Desk::open(shared, just_started).await?;
    let _sampling = sampling::start(shared);
    if let Clients::Lean(lean) = &plan.scenario.fleet.clients {
        return by_workers::execute(plan, lean, shared, stage, desk, &addresses, stop).await;
    }
    let devices = u64::from(plan.scenario.fleet.devices);
    let members = plan.scenario.subscribers.iter().map(|one| u64::from(one.members)).sum();
    let more_files = more_files + Stage::files(plan, devices, members) + Sites::files(plan) + SPARE_FILES;
    let wanted = devices + members + more_files;
    process::allow_open_files(wanted).map_err(|limit| RunError::OpenFiles { wanted, limit })?;
    let broker = addresses.broker.to_string();
    let patience = plan.scenario.run.connect_timeout;

    let (goodbye, hear_goodbye) = watch::channel(false);
    let mut subscribers = JoinSet::new();
    let orders = stage.orders();
    subscriber::spawn_all(&mut subscribers, plan, &addresses.subscribers, shared, &orders, &hear_goodbye);
    let all_subscribed = || shared.subscribers.iter().all(SubscriberState::is_ready);
    wait_connected(&broker, shared, &mut stop, patience, all_subscribed).await?;

    let mut sites = Sites::start(plan, &addresses.uplinks, shared).await?;
    let all_up = || shared.edge.as_ref().is_none_or(EdgeStats::are_up);
    wait_connected(&broker, shared, &mut stop, patience, all_up).await?;
    let mut devices = JoinSet::new();
    let place = |identity: &Identity| match sites.broker_of(identity) {
        Some(broker) => Place::Site(broker),
        None => Place::Direct(addresses.devices.clone()),
    };
    let senders = fleet::spawn_all(&mut devices, plan, place, shared);
    let fleet_size = u64::from(shared.timeline.devices_at(0));
    let ramp = Duration::from_secs_f64(fleet_size as f64 / plan.scenario.fleet.connect_rate);
    let all_connected = || shared.stats.connected.get() >= fleet_size;
    wait_connected(&broker, shared, &mut stop, ramp + patience, all_connected).await?;

    shared.clock.start();
    shared.enter(Phase::Publishing);
    let cpu_before = process::cpu_time();
    let conducting = Conducting::begin(stage, shared);
    let published_for = ticker::run(plan, shared, senders, &mut stop).await;

    shared.enter(Phase::Draining);
    if plan.scenario.run.duration.is_none_or(|duration| published_for < duration) {
        conducting.cut_short();
    }
    drain::run(shared, plan.scenario.run.drain_timeout, &mut stop).await;
    let (stage, recoveries) = conducting.finish().await?;
    let cpu = process::cpu_time().saturating_sub(cpu_before);
    let report =
        judged(Report::new(plan, shared, published_for, cpu), plan, shared, desk, &broker, recoveries).await;
    shared.enter(Phase::Done);

    // A device that is cut off before its DISCONNECT leaves a Will Message behind.
    let leaving = async { while devices.join_next().await.is_some() {} };
    if tokio::time::timeout(FAREWELL, leaving).await.is_err() {
        devices.shutdown().await;
    }
    let _ = tokio::time::timeout(FAREWELL, sites.leave()).await;
    let _ = goodbye.send(true);
    let farewell = async { while subscribers.join_next().await.is_some() {} };
    if tokio::time::timeout(FAREWELL, farewell).await.is_err() {
        subscribers.shutdown().await;
    }
    drop(stage);
    Ok(report)
}

async fn wait_connected(
    broker: &str,
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
            return Err(unreachable(broker, shared, patience, shared.last_error()));
        }
        sleep(LOOK).await;
    }
    Ok(())
}

/// Someone never got a connection.
pub(crate) fn unreachable(
    broker: &str,
    shared: &Shared,
    waited: Duration,
    error: Option<String>,
) -> RunError {
    let subscribed = shared.subscribers.iter().filter(|subscriber| subscriber.is_ready()).count() as u64;
    RunError::Unreachable {
        broker: broker.to_owned(),
        connected: shared.stats.connected.get() + subscribed,
        wanted: shared.connections_at(0) + shared.subscribers.len() as u64,
        waited,
        error: error.unwrap_or_else(|| "none yet".to_owned()),
    }
}
