//! The composition root: builds every part from a [`Config`], connects them, and takes them apart again.
//!
//! Order of the start: metrics, log, view (a restart restores routing before anything is accepted), listeners, admin. Order of the
//! end: listeners, connections (what is being stored is acknowledged first), log, view, admin.

mod build;
mod consumers;
mod measure;
mod observe;
mod pressure;
mod upkeep;

use crate::admin::{About, Admin, Controls, NotReady, Readiness, Standing, Subject};
use crate::admission::{Pressure, Resource};
use crate::config::{Config, Durability};
use crate::connection::Context;
use crate::decisions::{DecisionFile, DecisionFileOptions};
use crate::engine::{Engine, EngineError};
use crate::listener::TcpAcceptor;
use crate::sinks::{SinkStartError, SinkStatus, Sinks};
use crate::spans::{ExporterError, Spans};
use crate::telemetry::{Metrics, TelemetryError};
use gateway_protocol::ReasonCode;
use gateway_storage::CommitState;
use gateway_storage::log::segments::disk::{Disk, RealDisk};
use gateway_storage::recovery::StoreError;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

/// How long connections may take to end after they were asked to.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// The gateway did not start; whatever was begun is undone.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// No metrics recorder.
    #[error(transparent)]
    Telemetry(#[from] TelemetryError),
    /// Log or view cannot be opened.
    #[error("the store in {dir} cannot be opened: {source}")]
    Store {
        /// Where it is.
        dir: String,
        /// Why.
        source: StoreError,
    },
    /// The view cannot be restored.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// An address cannot be listened on.
    #[error("{what} cannot listen on {address}: {source}")]
    Listen {
        /// `mqtt` or `admin`.
        what: &'static str,
        /// The configured address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// A sink cannot be started.
    #[error(transparent)]
    Sink(#[from] SinkStartError),
    /// Traces cannot be sent.
    #[error(transparent)]
    Traces(#[from] ExporterError),
    /// The file of decisions cannot be written.
    #[error("decisions cannot be written to {path}: {source}")]
    Decisions {
        /// The configured path.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// Opening was cut short.
    #[error("opening the log did not finish")]
    Interrupted,
}

/// A running gateway.
pub struct Gateway {
    mqtt: Vec<SocketAddr>,
    admin: Option<SocketAddr>,
    context: Arc<Context>,
    state: Arc<State>,
    stop: watch::Sender<bool>,
    listeners: JoinSet<()>,
    sinks: Sinks,
    sink_tasks: JoinSet<()>,
    decision_file: Option<DecisionFile>,
    /// Upkeep and admin; they go on until the log is closed.
    background: JoinSet<()>,
    /// The thread that samples ends with it.
    sampling: std::sync::mpsc::SyncSender<()>,
    stop_background: watch::Sender<bool>,
}

struct State {
    engine: Engine,
    pressure: Arc<Pressure>,
    draining: AtomicBool,
}

impl Readiness for State {
    fn reasons(&self) -> Vec<NotReady> {
        let mut reasons = Vec::new();
        if self.draining.load(Ordering::Relaxed) {
            reasons.push(NotReady::Draining);
        }
        match self.engine.commit_state() {
            CommitState::Running => {}
            CommitState::Poisoned { reason, .. } => reasons.push(NotReady::StorageFailed { reason }),
            CommitState::Stopped => reasons.push(NotReady::Draining),
        }
        if self.engine.has_lost_view() {
            reasons.push(NotReady::StorageFailed {
                reason: "the view cannot follow the log; a restart rebuilds it".into(),
            });
        }
        if self.engine.is_full() {
            reasons.push(NotReady::StorageFull { held_by: self.engine.retention().holder.to_string() });
        }
        if let Some(error) = self.engine.view_error() {
            reasons.push(NotReady::ViewFailed { reason: error.to_string() });
        }
        if self.engine.view_waits_for_space() {
            reasons.push(NotReady::ViewWaitsForSpace);
        }
        let level = self.pressure.level();
        if level.refuses_sessions() && reasons.is_empty() {
            let (resource, pressure) = self.pressure.pressures().worst();
            let (level, resource) = (level.as_u8(), resource.label());
            reasons.push(NotReady::Overloaded { level, resource, pressure });
        }
        reasons.dedup();
        reasons
    }

    fn standing(&self) -> Standing {
        let pressures = self.pressure.pressures();
        let rounded = |pressure: f64| (pressure * 100.0).round() / 100.0;
        Standing {
            level: self.pressure.level().as_u8(),
            pressures: Resource::ALL
                .map(|resource| (resource.label(), rounded(pressures.get(resource))))
                .into(),
        }
    }
}

impl Gateway {
    /// Builds and starts everything; on return it accepts traffic. To be called inside a tokio runtime.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn start(config: Config) -> Result<Self, StartError> {
        Self::start_in(config, Arc::new(RealDisk), Controls::default()).await
    }

    /// As [`Gateway::start`], in a process that can be asked to reload and to end.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn start_with(config: Config, controls: Controls) -> Result<Self, StartError> {
        Self::start_in(config, Arc::new(RealDisk), controls).await
    }

    /// As [`Gateway::start`], the files of the store on a disk of the caller's: for tests of what a disk may do.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn start_on(config: Config, disk: Arc<dyn Disk>) -> Result<Self, StartError> {
        Self::start_in(config, disk, Controls::default()).await
    }

    async fn start_in(config: Config, disk: Arc<dyn Disk>, controls: Controls) -> Result<Self, StartError> {
        let metrics = Metrics::install()?;
        observe::describe();
        let admin =
            match config.admin.enabled {
                true => Some(Admin::bind(config.admin.address).await.map_err(|source| {
                    StartError::Listen { what: "admin", address: config.admin.address, source }
                })?),
                false => None,
            };
        let mut acceptors = Vec::new();
        for listener in &config.listeners {
            // Bound before the log is restored, so that a taken port is told at once; accepting begins after.
            let acceptor = TcpAcceptor::bind(listener.address);
            acceptors.push(acceptor.map_err(|source| StartError::Listen {
                what: "mqtt",
                address: listener.address,
                source,
            })?);
        }
        let threads = tokio::runtime::Handle::current().metrics().num_workers();
        let config = Arc::new(config);
        let (spans, exporter) = Spans::start(&config.telemetry)?;
        let opening = tokio::task::spawn_blocking({
            let config = config.clone();
            move || build::context(&config, disk, threads, spans)
        });
        let context = Arc::new(opening.await.map_err(|_| StartError::Interrupted)??);
        context.consumers.heed(context.pressure.clone());
        context.consumers.configure(consumers::configured(&config, crate::clock::unix_ms())).await;
        let decision_file = decision_file(&config, &context)?;
        let state = Arc::new(State {
            engine: context.engine.clone(),
            pressure: context.pressure.clone(),
            draining: AtomicBool::new(false),
        });
        let (stop, stopped) = watch::channel(false);
        let (stop_background, background_stopped) = watch::channel(false);
        let mqtt: Vec<_> = acceptors.iter().map(TcpAcceptor::local_addr).collect();
        let mut listeners = JoinSet::new();
        for (number, (acceptor, listener)) in (0..).zip(acceptors.into_iter().zip(&config.listeners)) {
            let door = context.registry.door(number, listener.max_connections);
            listeners.spawn(acceptor.run(door, context.clone(), stopped.clone()));
        }
        let sampling = pressure::start(context.clone(), &config).map_err(EngineError::Thread)?;
        let mut background = JoinSet::new();
        background.spawn(upkeep::ring(context.registry.clone(), background_stopped.clone()));
        background.spawn(upkeep::run(
            context.clone(),
            config.mqtt.sys_interval_secs,
            background_stopped.clone(),
        ));
        if let Some(exporter) = exporter {
            background.spawn(exporter.run(background_stopped.clone()));
        }
        let mut sink_tasks = JoinSet::new();
        let sinks =
            Sinks::start(&context.engine, &config.sinks, &context.spans, &stopped, &mut sink_tasks).await?;
        let admin_address = admin.as_ref().map(Admin::local_addr);
        if let Some(admin) = admin {
            let mut stopped = background_stopped;
            let readiness = state.clone();
            let subject = Subject {
                engine: context.engine.clone(),
                consumers: context.consumers.clone(),
                sinks: Box::new({
                    let (sinks, engine) = (sinks.clone(), context.engine.clone());
                    move || observe::sinks(&sinks, &engine)
                }),
                decisions: context.decisions.clone(),
                context: context.clone(),
                about: about(&config, &mqtt),
                controls,
            };
            background.spawn(async move {
                admin
                    .serve(metrics, readiness, subject, async move {
                        // An error means that the gateway was dropped, which ends it as well.
                        let _ = stopped.changed().await;
                    })
                    .await;
            });
        }
        Ok(Self {
            mqtt,
            admin: admin_address,
            context,
            state,
            stop,
            listeners,
            sinks,
            sink_tasks,
            decision_file,
            background,
            sampling,
            stop_background,
        })
    }

    /// Where the first MQTT listener listens.
    #[must_use]
    pub fn mqtt_addr(&self) -> SocketAddr {
        self.mqtt.first().copied().unwrap_or_else(|| SocketAddr::from(([0, 0, 0, 0], 0)))
    }

    /// Where all MQTT listeners listen, in the order of the configuration.
    #[must_use]
    pub fn mqtt_addrs(&self) -> &[SocketAddr] {
        &self.mqtt
    }

    /// How its sinks are doing.
    #[must_use]
    pub fn sinks(&self) -> Vec<SinkStatus> {
        self.sinks.list()
    }

    /// Where metrics and health are served, if they are.
    #[must_use]
    pub fn admin_addr(&self) -> Option<SocketAddr> {
        self.admin
    }

    /// Drains and stops: no new connections, acknowledgements of what is being stored, DISCONNECT (0x8B) to every client, then the log and
    /// the view are closed.
    pub async fn shutdown(self) {
        self.shutdown_to(None).await;
    }

    /// As [`Gateway::shutdown`]; clients of MQTT 5 are told to use another server instead (0x9C), and which one.
    pub async fn shutdown_to(mut self, server_reference: Option<Box<str>>) {
        self.state.draining.store(true, Ordering::Relaxed);
        let _ = self.stop.send(true);
        while self.listeners.join_next().await.is_some() {}
        let registry = self.context.registry.clone();
        let reason = match server_reference {
            Some(server_reference) => {
                registry.redirect_to(server_reference);
                ReasonCode::UseAnotherServer
            }
            None => ReasonCode::ServerShuttingDown,
        };
        let drained = async {
            loop {
                // Again and again: a connection in its handshake is not seated yet.
                registry.close_all(reason);
                if tokio::time::timeout(Duration::from_millis(50), registry.idle()).await.is_ok() {
                    return;
                }
            }
        };
        if tokio::time::timeout(DRAIN_TIMEOUT, drained).await.is_err() {
            tracing::warn!(left = registry.connections(), "connections did not end in time and are cut");
        }
        if tokio::time::timeout(DRAIN_TIMEOUT, self.context.consumers.shutdown()).await.is_err() {
            tracing::warn!("what consumers had to say did not reach the log in time");
        }
        // What a sink was writing is written again, or known by its target.
        while self.sink_tasks.join_next().await.is_some() {}
        let engine = self.context.engine.clone();
        let decision_file = self.decision_file.take();
        let closing: JoinHandle<()> = tokio::task::spawn_blocking(move || {
            engine.shutdown();
            drop(decision_file);
        });
        if closing.await.is_err() {
            tracing::error!("closing the log ended in a panic");
        }
        // An error means that it has ended.
        let _ = self.sampling.try_send(());
        let _ = self.stop_background.send(true);
        while self.background.join_next().await.is_some() {}
    }
}

/// Begins to write decisions to their file, if they have one.
fn decision_file(config: &Config, context: &Context) -> Result<Option<DecisionFile>, StartError> {
    let Some(path) = config.decisions.file.clone() else { return Ok(None) };
    let options = DecisionFileOptions {
        path: path.clone(),
        bytes_max: config.decisions.file_bytes,
        files: config.decisions.files,
    };
    let started = DecisionFile::start(&context.decisions, options);
    let failed = |source| StartError::Decisions { path: path.display().to_string(), source };
    started.map(Some).map_err(failed)
}

fn about(config: &Config, listeners: &[SocketAddr]) -> About {
    About {
        listeners: listeners.to_vec(),
        data_dir: config.storage.data_dir.display().to_string(),
        durability: match config.storage.durability {
            Durability::Fsync => "fsync",
            Durability::Interval(_) => "interval",
            Durability::Memory => "memory",
        },
        log_bytes_max: config.storage.max_bytes,
    }
}
