//! `[edge]`: sites whose devices publish to a broker of their own, which shares one uplink to the broker under test.

use super::section::Section;
use super::{Clients, Fleet};

/// The most sites with a broker of their own: each costs two threads and some MiB.
pub const EDGE_SITES_MAX: u32 = 64;

/// Sites with a broker of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EdgeSpec {
    /// How many: the first of the fleet's sites.
    pub sites: u32,
    /// Events that one site keeps while its uplink cannot take them.
    pub buffer_events: usize,
    /// The same in bytes of topics and payloads.
    pub buffer_bytes: usize,
    /// QoS 1 events that an uplink keeps unacknowledged.
    pub inflight_max: u16,
}

impl EdgeSpec {
    /// Whether the devices of a site publish to a broker of its own.
    pub fn has(&self, site: u32) -> bool {
        site < self.sites
    }
}

/// Reads `[edge]`, if there is one.
pub(super) fn edge(top: &Section<'_>, fleet: Option<&Fleet>) -> Option<EdgeSpec> {
    let is_there = top.has("edge");
    let section = top.section("edge");
    let most = fleet.map_or(EDGE_SITES_MAX, |fleet| fleet.sites.min(EDGE_SITES_MAX));
    let spec = EdgeSpec {
        sites: section.count("sites", most.into(), 1, most.into()) as u32,
        buffer_events: section.count("buffer_events", 100_000, 1, 10_000_000) as usize,
        buffer_bytes: section.count("buffer_bytes", 64 << 20, 1 << 10, 4 << 30) as usize,
        inflight_max: section.count("inflight_max", 100, 1, 1_000) as u16,
    };
    section.finish();
    if !is_there {
        return None;
    }
    if let Some(fleet) = fleet {
        is_possible(top, fleet);
    }
    Some(spec)
}

/// What the devices of a site with a broker cannot do is a fault.
fn is_possible(top: &Section<'_>, fleet: &Fleet) {
    if fleet.clients != Clients::Honest {
        top.fault("edge", "needs client = \"honest\": lean clients connect to one broker");
    }
    let says_more = fleet.cohorts.iter().any(|cohort| {
        let is_sparkplug = matches!(*cohort.payload, crate::payload::Encoder::Sparkplug(_));
        cohort.status.is_some() || cohort.state.is_some() || cohort.commands.is_some() || is_sparkplug
    });
    if says_more {
        let what = "uplinks carry events alone: no status, state, commands or Sparkplug births";
        top.fault("edge", what);
    }
}
