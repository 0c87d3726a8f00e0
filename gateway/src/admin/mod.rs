//! The admin listener: metrics, liveness and readiness over HTTP/1.1.
//!
//! | path | answer |
//! |---|---|
//! | `/metrics` | every family, Prometheus text format 0.0.4 |
//! | `/healthz` | `200 ok` as long as the process runs |
//! | `/readyz` | `200` or `503`, `{"ready": bool, "reasons": [..]}` |
//!
//! Everything else is a problem document ([RFC 9457]). There is no authentication, so there is nothing here that changes
//! anything, and the default address is loopback.
//!
//! Bounded: 64 connections at once, 16 KiB of request header, 30 s to send it, 10 min to a connection, 5 s to end them all.
//!
//! This is the only place that names an HTTP library. It does not know the engine: what stands in the way of readiness
//! comes in through [`Readiness`], handed over by the composition root. Read next: `routes`, then `server` for the bounds.
//!
//! [RFC 9457]: https://www.rfc-editor.org/rfc/rfc9457

mod routes;
mod server;

#[cfg(test)]
mod tests;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpListener;

use crate::telemetry::Metrics;

/// What stands in the way of accepting traffic, asked at each `/readyz`.
pub trait Readiness: Send + Sync + 'static {
    /// Every reason there is right now; empty when ready. Must not block.
    fn reasons(&self) -> Vec<NotReady>;
}

/// One reason not to send traffic here.
#[derive(Clone, Debug, PartialEq, Eq)]
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
    /// The log is at `storage.max_bytes` and holds nothing that may be trimmed.
    StorageFull,
}

impl fmt::Display for NotReady {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Starting => f.write_str("starting: sessions and routing are being restored"),
            Self::Draining => f.write_str("draining: told to stop"),
            Self::StorageFailed { reason } => write!(f, "storage failed: {reason}"),
            Self::StorageFull => f.write_str("storage full: the log is at its limit"),
        }
    }
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
        shutdown: impl Future<Output = ()> + Send,
    ) {
        server::serve(self.listener, routes::router(metrics, readiness), server::Limits::default(), shutdown)
            .await;
    }
}
