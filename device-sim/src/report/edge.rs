//! What brokers of sites and their uplinks did, kept apart from what the broker under test did.

use serde::Serialize;

use crate::ledger::AtSites;
use crate::qos::ByQoS;
use crate::shared::Shared;

/// The sites with a broker of their own.
#[derive(Clone, Debug, Serialize)]
pub struct EdgeReport {
    /// How many.
    pub sites: u64,
    /// What became of events there, per QoS of publication.
    pub qos: ByQoS<AtSites>,
    /// Of the lost ones: found the site's buffer full, both QoS. What is missing beside was lost by the site's broker.
    pub dropped: u64,
    /// The most events that waited at one site.
    pub waiting_max: u64,
    /// The most bytes that waited at one site.
    pub waiting_bytes_max: u64,
    /// Connections of uplinks that broke.
    pub disconnects: u64,
}

impl EdgeReport {
    pub(super) fn new(shared: &Shared, at_sites: ByQoS<AtSites>) -> Option<Self> {
        let stats = shared.edge.as_ref()?;
        let (waiting_max, waiting_bytes_max) = stats.most_waited();
        Some(EdgeReport {
            sites: stats.sites,
            qos: at_sites,
            dropped: stats.dropped.qos0.get() + stats.dropped.qos1.get(),
            waiting_max,
            waiting_bytes_max,
            disconnects: stats.disconnects.get(),
        })
    }

    /// Events that sites had and never passed on, of both QoS.
    pub fn lost(&self) -> u64 {
        self.qos.qos0.lost + self.qos.qos1.lost
    }
}
