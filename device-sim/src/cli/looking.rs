//! What looks on while a scenario runs: the live view, the metrics, and the gateway's own counters.

use std::io::{self, IsTerminal, Write};
use std::net::SocketAddr;
use std::sync::Arc;

use clap::Args;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::{BrokerAddress, CommandError, parse_broker};
use crate::admin::{self, Follower};
use crate::live::screen;
use crate::live::view::{View, Words};
use crate::metrics::{self, Server};
use crate::mqtt::Broker;
use crate::report::Report;
use crate::report::gateway::{Tally, compare};
use crate::run::{Plan, Shared};

#[derive(Debug, Args)]
pub(super) struct WatchArgs {
    /// The gateway's admin listener: its level and pressure are shown and reported, its counters compared with the ledger.
    #[arg(long, value_name = "HOST:PORT", value_parser = parse_broker)]
    admin: Option<BrokerAddress>,
    /// Serve the run's own figures to Prometheus here.
    #[arg(long, value_name = "ADDR:PORT")]
    metrics: Option<SocketAddr>,
    /// No live view on standard error.
    #[arg(long, short)]
    quiet: bool,
}

/// Those who look on, until [`Watching::end`].
pub(super) struct Watching {
    end_view: Option<oneshot::Sender<()>>,
    drawing: Option<JoinHandle<()>>,
    follower: Option<Follower>,
    _server: Option<Server>,
}

/// What was seen.
pub(super) struct Watched(Option<Tally>);

impl WatchArgs {
    /// Starts looking.
    pub(super) async fn start(
        &self,
        plan: &Plan,
        shared: &Arc<Shared>,
        scenario: &str,
    ) -> Result<Watching, CommandError> {
        let follower = match &self.admin {
            Some(BrokerAddress { host, port }) => {
                let admin = Broker { host: host.clone(), port: *port };
                let first = admin::read(&admin).await.map_err(|error| {
                    CommandError::CouldNotRun(format!("cannot read the counters at {host}:{port}: {error}"))
                })?;
                Some(admin::follow(admin, first, Arc::clone(shared)))
            }
            None => None,
        };
        let server = match self.metrics {
            Some(address) => Some(metrics::serve(address, Arc::clone(shared)).await.map_err(|error| {
                CommandError::CouldNotRun(format!("cannot serve metrics at {address}: {error}"))
            })?),
            None => None,
        };
        let mut notes = vec![format!("broker    {}:{}", plan.host, plan.port)];
        notes.extend(server.as_ref().map(|server| format!("metrics   http://{}/metrics", server.address)));
        let (end_view, view_ends) = oneshot::channel();
        let drawing = (!self.quiet).then(|| {
            let words = Words { title: scenario.to_owned(), notes, cpu_of: "this process" };
            let view = View::new(Arc::clone(shared), plan, words);
            tokio::spawn(screen::show(view, Box::new(io::stderr()), io::stderr().is_terminal(), view_ends))
        });
        Ok(Watching { end_view: Some(end_view), drawing, follower, _server: server })
    }
}

impl Watching {
    /// Stops looking.
    pub(super) async fn end(mut self) -> Watched {
        drop(self.end_view.take());
        if let Some(drawing) = self.drawing.take() {
            // The view ends when its channel does; it has nothing to report.
            let _ = drawing.await;
        }
        let Some(follower) = self.follower.take() else { return Watched(None) };
        let tally = follower.end().await;
        Watched(tally.map_or_else(
            |error| {
                let _ =
                    writeln!(io::stderr(), "device-sim: the gateway's counters are not compared: {error}");
                None
            },
            Some,
        ))
    }
}

impl Watched {
    /// Adds what was seen to the report.
    pub(super) fn add_to(&self, report: &mut Report) {
        if let Some(tally) = &self.0 {
            report.gateway = Some(compare(report, tally));
            report.judge();
        }
    }
}
