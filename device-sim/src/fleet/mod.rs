//! The fleet: who the devices are, and one task per device.

mod device;
mod payload;
mod presence;

pub(crate) use payload::Payloads;
pub(crate) use presence::Presence;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::model::world::Site;
use crate::mqtt::{Broker, LinkOptions};
use crate::qos::QoS;
use crate::random::{Purpose, unit};
use crate::run::{Plan, Shared};
use crate::scenario::topic::{Filling, TopicTemplate};
use crate::scenario::{Cohort, Protocol};
use crate::schedule::Due;

/// What a device may have to say beside its schedule at one time.
const ASIDES_MAX: usize = 8;

/// An event that is due, on its way from the ticker to its device.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Token {
    pub sequence: u32,
    pub due_us: u64,
    pub measured_us: u64,
    pub qos: QoS,
    pub exactly_once: bool,
}

impl From<Due> for Token {
    fn from(due: Due) -> Self {
        let Due { sequence, due_us, measured_us, qos, exactly_once, .. } = due;
        Token { sequence, due_us, measured_us, qos, exactly_once }
    }
}

/// Where a device publishes.
pub(crate) enum Place {
    /// To the broker under test, or the network before it.
    Direct(Broker),
    /// To the broker of its site.
    Site(Broker),
}

/// Who a device is.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Identity {
    pub number: u32,
    /// The number of its site.
    pub site: u32,
    pub client_id: String,
    pub topic: String,
    pub protocol: Protocol,
    /// What it has in common with others.
    pub cohort: Arc<Cohort>,
}

impl Identity {
    /// A topic of this device.
    pub(crate) fn fill(&self, template: &TopicTemplate) -> String {
        fill(template, &self.cohort, self.site, &self.client_id)
    }
}

/// The fleet's devices in order: a function of the scenario and the seed.
pub(crate) fn identities(plan: &Plan) -> impl Iterator<Item = Identity> {
    (0..plan.scenario.fleet.devices).filter_map(|number| identity(plan, number))
}

/// One of the fleet's devices; none for a number that it does not have.
pub(crate) fn identity(plan: &Plan, number: u32) -> Option<Identity> {
    let fleet = &plan.scenario.fleet;
    let (_, cohort) = fleet.cohort_of(number)?;
    let client_id = format!("{}{number:05}", cohort.client_id_prefix);
    let site = number % fleet.sites;
    let topic = fill(&cohort.topic, cohort, site, &client_id);
    let modern = unit(&mut plan.seed().stream(Purpose::Fleet, number)) < cohort.v5_share;
    let protocol = if modern { Protocol::V5 } else { Protocol::V3_1_1 };
    Some(Identity { number, site, client_id, topic, protocol, cohort: Arc::clone(cohort) })
}

fn fill(template: &TopicTemplate, cohort: &Cohort, site: u32, device: &str) -> String {
    template.fill(&Filling {
        site: &Site::name_of(site),
        device,
        cohort: &cohort.name,
        model: &cohort.model.name,
        class: cohort.class.as_str(),
    })
}

/// Starts all devices, spaced by the scenario's connect rate, and returns where each takes its due events from. `place` says where
/// a device publishes.
pub(crate) fn spawn_all(
    tasks: &mut JoinSet<()>,
    plan: &Plan,
    place: impl Fn(&Identity) -> Place,
    shared: &Arc<Shared>,
) -> Vec<mpsc::Sender<Token>> {
    let fleet = &plan.scenario.fleet;
    let mut senders = Vec::with_capacity(fleet.devices as usize);
    for identity in identities(plan) {
        let (sender, due) = mpsc::channel(fleet.queue_max);
        senders.push(sender);
        let number = identity.number;
        let (broker, at_site) = match place(&identity) {
            Place::Direct(broker) => (broker, false),
            Place::Site(broker) => (broker, true),
        };
        let options = LinkOptions {
            broker,
            client_id: identity.client_id.clone(),
            protocol: identity.protocol,
            durable: identity.cohort.durable,
            keep_alive_s: fleet.keep_alive_s,
            inflight_max: fleet.inflight_max,
            requests_max: usize::from(fleet.inflight_max) + 1 + ASIDES_MAX,
            answers_itself: false,
        };
        let device = device::Device::new(identity, &options, plan, Arc::clone(shared), due, at_site);
        let start_after = Duration::from_secs_f64(f64::from(number) / fleet.connect_rate);
        match shared.timeline.appears_us(number) {
            None => tasks.spawn(device.run(start_after)),
            Some(appears_us) => {
                let shared = Arc::clone(shared);
                tasks.spawn(async move {
                    shared.clock.wait_until(appears_us).await;
                    device.run(Duration::ZERO).await;
                })
            }
        };
    }
    senders
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::Scenario;

    fn fleet(seed: u64) -> Vec<Identity> {
        let scenario = Scenario::parse(include_str!("../../scenarios/first.toml")).unwrap();
        identities(&Plan { scenario, host: String::new(), port: 0, seed, epoch: 0 }).collect()
    }

    #[test]
    fn the_same_seed_gives_the_same_fleet() {
        assert_eq!(fleet(1), fleet(1));
        assert_ne!(fleet(1), fleet(2));
        let modern = fleet(1).iter().filter(|device| device.protocol == Protocol::V5).count();
        assert!((70..130).contains(&modern), "{modern} of 200");
        let device = &fleet(1)[42];
        assert_eq!(
            (device.client_id.as_str(), device.topic.as_str()),
            ("dev-00042", "devices/site-02/dev-00042/telemetry")
        );
    }
}
