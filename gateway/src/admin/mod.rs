//! The admin listener: metrics, liveness and readiness over HTTP/1.1.
//!
//! | path | answer |
//! |---|---|
//! | `/` | the live page |
//! | `/metrics` | every family, Prometheus text format 0.0.4 |
//! | `/healthz` | `200 ok` as long as the process runs |
//! | `/readyz` | `200` or `503`, `{"ready": bool, "reasons": [..], "level": 0, "pressures": {..}}` |
//! | `/v1/...` | clients, streams, consumers, dead letters, sinks and decisions: `v1` |
//!
//! Everything else is a problem document ([RFC 9457]). There is no authentication: who reaches the listener may do everything, so the default
//! address is loopback. What a foreign web page could be made to ask for is refused.
//!
//! Bounded: 256 connections at once, 16 KiB of request header, 30 s to send it, 10 min to a connection (what is being answered then
//! has 65 s more), 5 s to end them all.
//!
//! This is the only place that names an HTTP server. What stands in the way of readiness comes in through [`Readiness`], handed over by the
//! composition root. Read next: `routes`, then `server` for the bounds, then `v1`.
//!
//! [RFC 9457]: https://www.rfc-editor.org/rfc/rfc9457

mod controls;
pub mod metrics;
mod page;
mod problem;
mod routes;
mod server;
mod v1;

#[cfg(test)]
mod tests;

pub use controls::{ConfigFault, Controls, Drain, Order, Reloaded};

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use serde::Serialize;
use tokio::net::TcpListener;
use tokio::sync::watch;
use utoipa::ToSchema;

use crate::connection::Context;
use crate::consumer::Consumers;
use crate::decisions::DecisionLog;
use crate::engine::Engine;
use crate::telemetry::Metrics;

/// What stands in the way of accepting traffic, asked at each `/readyz`.
pub trait Readiness: Send + Sync + 'static {
    /// Every reason there is right now; empty when ready. Must not block.
    fn reasons(&self) -> Vec<NotReady>;

    /// How pressed it is, ready or not. Must not block.
    fn standing(&self) -> Standing {
        Standing::default()
    }
}

/// The level of the ladder and what leads to it.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Standing {
    /// 0 to 5.
    pub level: u8,
    /// The pressure of each resource, 0 to 1.
    pub pressures: BTreeMap<&'static str, f64>,
}

/// One reason not to send traffic here.
#[derive(Clone, Debug, PartialEq)]
pub enum NotReady {
    /// Still restoring sessions and routing.
    Starting,
    /// Told to stop; connections are being closed.
    Draining,
    /// An append or a sync failed; nothing is acknowledged until the log is open again.
    StorageFailed {
        /// What the storage said.
        reason: Arc<str>,
    },
    /// The log is at `storage.max_bytes` and cannot be trimmed.
    StorageFull {
        /// Who needs the oldest part of it.
        held_by: String,
    },
    /// The view is saved no more: the log is kept and not trimmed, until a restart makes the view anew.
    ViewFailed {
        /// What its store said.
        reason: String,
    },
    /// The view waits for space on the disk: the log is kept and not trimmed meanwhile.
    ViewWaitsForSpace,
    /// The gateway protects itself: no sessions are made.
    Overloaded {
        /// The level of the ladder.
        level: u8,
        /// What is pressed hardest.
        resource: &'static str,
        /// How hard, 0 to 1.
        pressure: f64,
    },
}

impl fmt::Display for NotReady {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Starting => f.write_str("starting: sessions and routing are being restored"),
            Self::Draining => f.write_str("draining: told to stop"),
            Self::StorageFailed { reason } => write!(f, "storage failed: {reason}"),
            Self::StorageFull { held_by } => write!(
                f,
                "storage full: the log has reached storage.max_bytes, so events are refused; it cannot be trimmed, since \
                 its oldest part is needed by {held_by}"
            ),
            Self::ViewFailed { reason } => write!(
                f,
                "view failed: {reason}; nothing is lost, but the log cannot be trimmed any more, and a restart is needed \
                 to make the view anew"
            ),
            Self::Overloaded { level, resource, pressure } => write!(
                f,
                "overloaded: level {level}, {resource} at {pressure:.2}; no sessions are made, and acknowledgements are held"
            ),
            Self::ViewWaitsForSpace => f.write_str(
                "disk full: the view cannot be saved, so the log cannot be trimmed; it goes on by itself once there is \
                 space",
            ),
        }
    }
}

/// What the API under `/v1` is about.
pub struct Subject {
    /// The streams, and what is in them.
    pub engine: Engine,
    /// The consumers.
    pub consumers: Consumers,
    /// Asked at each `/v1/sinks`. Must not block.
    pub sinks: Box<dyn Fn() -> Vec<SinkStatus> + Send + Sync>,
    /// What did not go through, and why.
    pub decisions: DecisionLog,
    /// Who is connected, and what connections share.
    pub context: Arc<Context>,
    /// What does not change while it runs.
    pub about: About,
    /// The process it runs in.
    pub controls: Controls,
}

/// What `/v1/status` says that does not change while the gateway runs.
#[derive(Clone, Debug)]
pub struct About {
    /// Addresses that MQTT clients connect to.
    pub listeners: Vec<SocketAddr>,
    /// Where the log and the view are.
    pub data_dir: String,
    /// What an acknowledgement means: `fsync`, `interval` or `memory`.
    pub durability: &'static str,
    /// Bytes the log may take.
    pub log_bytes_max: u64,
}

/// A sink as `/v1/sinks` shows it.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct SinkStatus {
    /// Its name.
    pub name: String,
    /// What it writes to, as in the configuration.
    pub r#type: &'static str,
    /// The consumer it is a worker of.
    pub consumer: String,
    /// How it is just now, in a word.
    pub state: &'static str,
    /// Events written since the start.
    pub written: u64,
    /// Events refused by the target since the start, which became dead letters.
    pub rejected: u64,
    /// Writes that failed since the start.
    pub failures: u64,
    /// The log offset it writes next.
    pub next_offset: u64,
    /// About how many events of its stream lie behind that, those that its filter does not want included.
    pub lag_events: u64,
    /// About how many bytes they take.
    pub lag_bytes: u64,
    /// What the last failure was, if none has succeeded since.
    pub last_error: Option<String>,
}

/// The admin listener, bound and not yet serving.
pub struct Admin {
    listener: TcpListener,
    address: SocketAddr,
}

impl Admin {
    /// Binds `address`; port 0 lets the kernel choose.
    ///
    /// # Errors
    ///
    /// Those of `bind`.
    pub async fn bind(address: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address })
    }

    /// Where it listens.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `shutdown` is done and connections have ended, which takes 5 s at most.
    pub async fn serve(
        self,
        metrics: Metrics,
        readiness: Arc<dyn Readiness>,
        subject: Subject,
        shutdown: impl Future<Output = ()> + Send,
    ) {
        let (stop, stopped) = watch::channel(false);
        let v1 = v1::routes(subject, readiness.clone(), metrics.clone(), stopped);
        let router = routes::router(metrics, readiness, v1);
        let ending = async move {
            shutdown.await;
            // Whoever watches is told the end rather than cut off after a while.
            let _ = stop.send(true);
        };
        server::serve(self.listener, router, server::Limits::default(), ending).await;
    }
}
