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

use crate::mqtt::{Broker, LinkOptions};
use crate::plan::Plan;
use crate::qos::QoS;
use crate::roster::{Identity, identities};
use crate::schedule::Due;
use crate::shared::Shared;

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
