//! Edge sites: brokers that stand where the devices are, each with one uplink to the broker under test.
//!
//! ```text
//! devices of a site ──► the site's broker ──► buffer ──► uplink ──(network, may be cut)──► broker under test
//!                            PUBACK              └ bounded, counted        PUBACK
//! ```
//!
//! Promise: what an uplink took from its site it keeps until its broker answered for it, across any number of broken
//! connections, in the order in which it came; what finds the buffer full is dropped and counted. **A PUBACK of a site's broker
//! promises nothing of the broker behind it**: the ledger notes the two apart ([`crate::ledger::AtSites`]), and only what the
//! uplink was acknowledged counts as acknowledged. The site's own broker is not under test; what it loses is named and breaks
//! no promise, unless the scenario asks for it (`[expect] edge_loss`).
//!
//! It does not know scenarios' phases: a cut is made by the network's proxy. `broker` is the only place that knows which broker
//! it is (rumqttd, behind the cargo feature `edge`), `buffer` what waits, `uplink` the client.

#[cfg(feature = "edge")]
mod broker;
#[cfg(feature = "edge")]
mod buffer;
#[cfg(feature = "edge")]
mod uplink;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::mqtt::Broker;
use crate::plan::Plan;
use crate::roster::Identity;
use crate::scenario::{EdgeSpec, Protocol};
use crate::shared::Shared;

/// Why there are no edge sites.
#[derive(Debug, thiserror::Error)]
pub enum EdgeError {
    /// This program cannot.
    #[error("[edge]: this program was built without the cargo feature `edge`")]
    LeftOut,
    /// The embedded broker would end at such a topic.
    #[error("[edge]: the topic `{0}` is not ASCII, which the brokers of sites do not bear")]
    Topic(String),
    /// No port for a site's broker.
    #[error("[edge]: site {site} cannot listen: {source}")]
    Listen {
        /// The site's number.
        site: u32,
        /// What the system said.
        source: io::Error,
    },
    /// The embedded broker did not take its own uplink.
    #[error("[edge]: the broker of site {site} does not answer: {what}")]
    Broker {
        /// The site's number.
        site: u32,
        /// What it said.
        what: String,
    },
}

/// The sites of a run. Their brokers and uplinks end with it.
#[derive(Default)]
pub(crate) struct Sites {
    /// By site: for MQTT 3.1.1, and for 5.
    addresses: Vec<[SocketAddr; 2]>,
    brokers: JoinSet<()>,
    uplinks: JoinSet<()>,
    goodbye: watch::Sender<bool>,
}

impl Sites {
    /// Starts the brokers and uplinks that a plan asks for; `broker` is where uplinks find theirs.
    pub(crate) async fn start(plan: &Plan, broker: &Broker, shared: &Arc<Shared>) -> Result<Self, EdgeError> {
        match plan.scenario.edge {
            None => Ok(Sites::default()),
            Some(spec) => Sites::started(spec, plan, broker, shared).await,
        }
    }

    #[cfg(not(feature = "edge"))]
    async fn started(_: EdgeSpec, _: &Plan, _: &Broker, _: &Arc<Shared>) -> Result<Self, EdgeError> {
        Err(EdgeError::LeftOut)
    }

    #[cfg(feature = "edge")]
    async fn started(
        spec: EdgeSpec,
        plan: &Plan,
        broker: &Broker,
        shared: &Arc<Shared>,
    ) -> Result<Self, EdgeError> {
        let mut devices = vec![0; spec.sites as usize];
        for identity in crate::roster::identities(plan).filter(|one| spec.has(one.site)) {
            if !identity.topic.is_ascii() {
                return Err(EdgeError::Topic(identity.topic));
            }
            if let Some(devices) = devices.get_mut(identity.site as usize) {
                *devices += 1;
            }
        }
        let mut sites = Sites::default();
        for (site, devices) in (0..).zip(devices) {
            let buffer = Arc::new(buffer::Buffer::new(spec.buffer_events, spec.buffer_bytes));
            let inbox = uplink::Inbox::new(plan, shared, &buffer);
            sites.addresses.push(broker::start(site, devices, &mut sites.brokers, inbox).await?);
            let uplink = uplink::Uplink::new(site, &spec, plan, broker, shared, buffer);
            sites.uplinks.spawn(uplink.run(sites.goodbye.subscribe()));
        }
        Ok(sites)
    }

    /// The broker that a device publishes to, if its site has one.
    pub(crate) fn broker_of(&self, identity: &Identity) -> Option<Broker> {
        let [v4, v5] = self.addresses.get(identity.site as usize)?;
        let address = match identity.protocol {
            Protocol::V3_1_1 => v4,
            Protocol::V5 => v5,
        };
        Some(Broker { host: address.ip().to_string(), port: address.port() })
    }

    /// Uplinks say goodbye, and their sites are closed.
    pub(crate) async fn leave(&mut self) {
        self.goodbye.send_replace(true);
        while self.uplinks.join_next().await.is_some() {}
        self.brokers.abort_all();
    }

    /// Files that the sites of a plan need: at most one for each device, and a few for each site.
    pub(crate) fn files(plan: &Plan) -> u64 {
        let each = |spec: EdgeSpec| u64::from(plan.scenario.fleet.devices) + 8 * u64::from(spec.sites);
        plan.scenario.edge.map_or(0, each)
    }
}
