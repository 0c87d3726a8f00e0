//! What sites with a broker of their own count.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::stats::Count;
use crate::qos::ByQoS;
use crate::scenario::EdgeSpec;

/// What all sites count.
#[derive(Debug, Default)]
pub(crate) struct EdgeStats {
    /// How many sites there are.
    pub(crate) sites: u64,
    /// Uplinks that are connected now.
    pub(crate) connected: Count,
    /// Connections of uplinks that broke.
    pub(crate) disconnects: Count,
    /// Events of the run that found their site's buffer full, by the QoS they were published with.
    pub(crate) dropped: ByQoS<Count>,
    /// The most events that waited at one site.
    pub(crate) waiting_max: AtomicU64,
    /// The most bytes that waited at one site.
    pub(crate) waiting_bytes_max: AtomicU64,
}

impl EdgeStats {
    pub(crate) fn new(spec: EdgeSpec) -> Self {
        EdgeStats { sites: spec.sites.into(), ..EdgeStats::default() }
    }

    /// Whether every uplink is connected.
    pub(crate) fn are_up(&self) -> bool {
        self.connected.get() >= self.sites
    }

    #[cfg(feature = "edge")]
    pub(crate) fn waited(&self, events: usize, bytes: usize) {
        self.waiting_max.fetch_max(events as u64, Relaxed);
        self.waiting_bytes_max.fetch_max(bytes as u64, Relaxed);
    }

    /// The most events, and the most bytes, that waited at one site.
    pub(crate) fn most_waited(&self) -> (u64, u64) {
        (self.waiting_max.load(Relaxed), self.waiting_bytes_max.load(Relaxed))
    }
}
