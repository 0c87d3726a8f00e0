//! Who the devices are: a function of the scenario and the seed.

use std::sync::Arc;

use crate::model::world::Site;
use crate::plan::Plan;
use crate::random::{Purpose, unit};
use crate::scenario::topic::{Filling, TopicTemplate};
use crate::scenario::{Cohort, Protocol};

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::Scenario;

    fn fleet(seed: u64) -> Vec<Identity> {
        let scenario = Scenario::parse(include_str!("../scenarios/first.toml")).unwrap();
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
