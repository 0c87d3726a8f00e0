//! Who speaks MQTT for the devices: `fleet.client` and the keys that belong to it.

use std::net::{IpAddr, Ipv4Addr};
use std::ops::Range;

use super::section::Section;
use super::{Cohort, DEVICES_MAX, Fleet, LEAN_DEVICES_MAX};
use crate::payload::Encoder;

/// The most worker processes.
const WORKERS_MAX: u64 = 64;

/// The most ranges of source addresses.
const SOURCES_MAX: usize = 64;

/// Who speaks MQTT for the devices.
#[derive(Clone, Debug, PartialEq)]
pub enum Clients {
    /// A client library with a task per device, in this process: what most applications would use.
    Honest,
    /// The simulator's own client, in worker processes: for very large fleets and rates.
    Lean(LeanClients),
}

/// The keys of the lean client.
#[derive(Clone, Debug, PartialEq)]
pub struct LeanClients {
    /// Worker processes that share the cohorts without one of their own.
    pub workers: u32,
    /// The first connection of each cohort that has a worker of its own; those cohorts are the last ones. Such a worker stands for machines
    /// elsewhere: it is nice to the others of this one.
    pub own: Vec<u32>,
    /// Connections; fewer than devices where devices share them.
    pub connections: u32,
    /// Where connections come from, in turn; empty: the system chooses.
    pub source_addresses: Vec<SourceRange>,
    /// Whether events are due on a schedule or whenever the broker has room for one.
    pub pace: Pace,
}

impl LeanClients {
    /// All worker processes: first those that share, then one for each cohort that has its own.
    pub fn workers_in_all(&self) -> u32 {
        self.workers + self.own.len() as u32
    }

    /// Whether a worker is a cohort's own.
    pub fn is_own(&self, worker: u32) -> bool {
        worker >= self.workers
    }

    /// The connections of a worker.
    pub fn part(&self, worker: u32) -> Range<u32> {
        let first_of = |place: u32| self.own.get(place as usize).copied().unwrap_or(self.connections);
        if let Some(place) = worker.checked_sub(self.workers) {
            return first_of(place)..first_of(place + 1);
        }
        let share = |worker: u32| {
            let connections = u64::from(first_of(0)) * u64::from(worker) / u64::from(self.workers.max(1));
            u32::try_from(connections).unwrap_or(u32::MAX)
        };
        share(worker)..share(worker + 1)
    }

    /// The connections of the worker that has most.
    pub fn largest_part(&self) -> u32 {
        (0..self.workers_in_all()).map(|worker| self.part(worker).len() as u32).max().unwrap_or(0)
    }
}

/// When the next event is published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// When it is due, whatever the broker does; latencies count from then.
    Open,
    /// When less than a window is unacknowledged; at QoS 0 when the connection takes it.
    Closed,
}

/// A range of addresses of this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SourceRange {
    first: IpAddr,
    count: u32,
}

impl SourceRange {
    /// `127.0.0.0/8` (its first address left out), or one address.
    fn parse(text: &str) -> Option<Self> {
        let Some((network, bits)) = text.split_once('/') else {
            return Some(SourceRange { first: text.parse().ok()?, count: 1 });
        };
        let network: u32 = network.parse::<Ipv4Addr>().ok()?.into();
        let bits: u32 = bits.parse().ok().filter(|bits| (8..=30).contains(bits))?;
        let size = 1 << (32 - bits);
        // Neither the network's own address nor the one that means all of it.
        network
            .is_multiple_of(size)
            .then(|| SourceRange { first: Ipv4Addr::from(network + 1).into(), count: size - 2 })
    }

    /// So many addresses, of which this is the first.
    pub fn starting_at(first: Ipv4Addr, count: u32) -> Self {
        Self { first: first.into(), count: count.max(1) }
    }

    /// How many addresses it has.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// One of them, by its place.
    pub fn address(&self, place: u32) -> IpAddr {
        match self.first {
            IpAddr::V4(first) => Ipv4Addr::from(u32::from(first) + place % self.count).into(),
            one => one,
        }
    }
}

/// The address of one of several ranges that a connection comes from; none: the system chooses.
pub fn source_of(ranges: &[SourceRange], connection: u32) -> Option<IpAddr> {
    let count = u32::try_from(ranges.len()).ok().filter(|count| *count > 0)?;
    let range = ranges.get((connection % count) as usize)?;
    Some(range.address(connection / count))
}

/// The most devices there may be, by who speaks for them.
pub(super) fn devices_max(section: &Section<'_>) -> u64 {
    if is_lean(section) { LEAN_DEVICES_MAX.into() } else { DEVICES_MAX.into() }
}

fn is_lean(section: &Section<'_>) -> bool {
    section.choice("client", &[("honest", false), ("lean", true)], false)
}

/// The keys `client`, `workers`, `connections`, `source_addresses` and `loop` of `[fleet]`: how many devices, and who
/// speaks for them.
pub(super) fn clients(section: &Section<'_>, devices: u32, cohorts: &[Cohort]) -> Clients {
    let workers = section.count("workers", 1, 1, WORKERS_MAX) as u32;
    let connections = section.count("connections", u64::from(devices), 1, u64::from(devices).max(1)) as u32;
    let sources = section.or("source_addresses", Vec::<String>::new());
    let pace = section.choice("loop", &[("open", Pace::Open), ("closed", Pace::Closed)], Pace::Open);
    if sources.len() > SOURCES_MAX {
        section.fault("source_addresses", &format!("at most {SOURCES_MAX} are possible"));
    }
    let mut source_addresses = Vec::with_capacity(sources.len());
    for source in &sources {
        match SourceRange::parse(source) {
            Some(range) => source_addresses.push(range),
            None => section.fault(
                "source_addresses",
                &format!(
                    "`{source}` is neither an address nor a range such as 127.0.0.0/8 (IPv4, /8 to /30)"
                ),
            ),
        }
    }
    let own: Vec<u32> = cohorts.iter().filter(|one| one.own_worker).map(|one| one.first).collect();
    if is_lean(section) {
        if cohorts.iter().skip_while(|one| !one.own_worker).any(|one| !one.own_worker) {
            section.fault("client", "the cohorts with worker = \"own\" have to be the last ones");
        }
        if !own.is_empty() && connections < devices {
            section.fault("connections", "worker = \"own\" needs a connection for each device");
        }
        if u64::from(workers) + own.len() as u64 > WORKERS_MAX {
            section.fault("workers", &format!("with those of cohorts there are more than {WORKERS_MAX}"));
        }
        return Clients::Lean(LeanClients { workers, own, connections, source_addresses, pace });
    }
    if !own.is_empty() {
        section.fault("client", "a cohort with worker = \"own\" needs \"lean\"");
    }
    let lean_only = [
        ("workers", workers > 1),
        ("connections", connections < devices),
        ("source_addresses", !source_addresses.is_empty()),
        ("loop", pace == Pace::Closed),
    ];
    for (key, _) in lean_only.iter().filter(|(_, is_set)| *is_set) {
        section.fault(key, "needs client = \"lean\"");
    }
    Clients::Honest
}

/// What lean clients cannot do is a fault: they publish, and hear nothing; and a status is a connection's.
pub(super) fn lean_suffices(section: &Section<'_>, fleet: &Fleet) {
    let any = |of: fn(&Cohort) -> bool| fleet.cohorts.iter().any(|cohort| of(cohort));
    let takes_more =
        |cohort: &Cohort| cohort.commands.is_some() || matches!(*cohort.payload, Encoder::Sparkplug(_));
    if any(takes_more) {
        let what = "\"lean\" has no commands or Sparkplug births; use \"honest\"";
        section.fault("client", what);
    }
    let is_shared = matches!(&fleet.clients, Clients::Lean(lean) if lean.connections < fleet.devices);
    if is_shared && any(|cohort| cohort.status.is_some() || cohort.state.is_some()) {
        section.fault("connections", "status and state need a connection for each device");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lean(workers: u32, own: &[u32]) -> LeanClients {
        LeanClients {
            workers,
            own: own.to_vec(),
            connections: 100,
            source_addresses: Vec::new(),
            pace: Pace::Open,
        }
    }

    #[test]
    fn each_connection_is_one_worker_s_and_a_cohort_s_own_worker_has_its_own_alone() {
        let parts = |lean: &LeanClients| -> Vec<_> {
            (0..lean.workers_in_all()).map(|worker| lean.part(worker)).collect()
        };
        assert_eq!(parts(&lean(3, &[])), [0..33, 33..66, 66..100]);
        assert_eq!(parts(&lean(2, &[10, 40])), [0..5, 5..10, 10..40, 40..100]);
        assert_eq!(parts(&lean(1, &[0])), [0..0, 0..100], "who is left has subscribers");
        assert_eq!(lean(2, &[10, 40]).largest_part(), 60);
        assert!(!lean(2, &[10]).is_own(1) && lean(2, &[10]).is_own(2));
    }

    #[test]
    fn sources_take_turns_and_stay_within_their_ranges() {
        let ranges = [SourceRange::parse("127.1.0.0/30").unwrap(), SourceRange::parse("10.0.0.9").unwrap()];
        let addresses: Vec<String> =
            (0..6).map(|number| source_of(&ranges, number).unwrap().to_string()).collect();
        assert_eq!(addresses, ["127.1.0.1", "10.0.0.9", "127.1.0.2", "10.0.0.9", "127.1.0.1", "10.0.0.9"]);
        assert_eq!(source_of(&[], 3), None);
        assert_eq!(SourceRange::parse("127.0.0.0/8").unwrap().count(), (1 << 24) - 2);
        assert_eq!(SourceRange::parse("::1").unwrap().address(7).to_string(), "::1");
        for wrong in ["127.0.0.1/8", "127.0.0.0/31", "127.0.0.0/7", "lo", "::1/64", "127.0.0.0/"] {
            assert_eq!(SourceRange::parse(wrong), None, "{wrong}");
        }
    }
}
