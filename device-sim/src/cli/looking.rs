//! What looks on while a scenario runs: the live view and the metrics; and which gateway is asked for its counters.

use std::io::{self, IsTerminal};
use std::net::SocketAddr;
use std::sync::Arc;

use clap::Args;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::command::{BrokerAddress, CommandError, parse_broker};
use crate::live::screen;
use crate::live::view::{View, Words};
use crate::metrics::{self, Server};
use crate::mqtt::Broker;
use crate::plan::Plan;
use crate::shared::Shared;

#[derive(Debug, Args)]
pub(super) struct WatchArgs {
    /// The gateway's admin listener: its level and pressure are shown and reported, its counters compared with the ledger. A
    /// gateway that the scenario starts is asked anyway.
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
    _server: Option<Server>,
}

impl WatchArgs {
    /// Starts looking.
    pub(super) async fn start(
        &self,
        plan: &Plan,
        shared: &Arc<Shared>,
        scenario: &str,
    ) -> Result<Watching, CommandError> {
        if let Some(BrokerAddress { host, port }) = &self.admin {
            shared.admin_is_at(Broker { host: host.clone(), port: *port });
        }
        let server = match self.metrics {
            Some(address) => Some(metrics::serve(address, Arc::clone(shared)).await.map_err(|error| {
                CommandError::CouldNotRun(format!("cannot serve metrics at {address}: {error}"))
            })?),
            None => None,
        };
        let broker = match plan.scenario.broker {
            Some(_) => "started for the run".to_owned(),
            None => format!("{}:{}", plan.host, plan.port),
        };
        let mut notes = vec![format!("broker    {broker}")];
        notes.extend(server.as_ref().map(|server| format!("metrics   http://{}/metrics", server.address)));
        let (end_view, view_ends) = oneshot::channel();
        let drawing = (!self.quiet).then(|| {
            let words = Words { title: scenario.to_owned(), notes, cpu_of: "this process" };
            let view = View::new(Arc::clone(shared), plan, words);
            tokio::spawn(screen::show(view, Box::new(io::stderr()), io::stderr().is_terminal(), view_ends))
        });
        Ok(Watching { end_view: Some(end_view), drawing, _server: server })
    }
}

impl Watching {
    /// Stops looking.
    pub(super) async fn end(mut self) {
        drop(self.end_view.take());
        if let Some(drawing) = self.drawing.take() {
            // The view ends when its channel does; it has nothing to report.
            let _ = drawing.await;
        }
    }
}
