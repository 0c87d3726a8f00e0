//! What a run plays on: the broker it started itself and the network it may spoil, as far as the scenario needs them.

use tokio::sync::watch;

use super::RunError;
use crate::host::{Host, HostError};
use crate::mqtt::Broker;
use crate::network::Proxy;
use crate::plan::Plan;
use crate::scenario::Clients;
use crate::scenario::phase::{BrokerFault, Disturbance, PhaseSpec, Side};
use crate::subscriber::Orders;
use crate::timeline::Change;

/// The broker, the network, and a line to every subscriber. The broker ends with it.
pub(crate) struct Stage {
    pub(super) host: Option<Host>,
    devices: Option<Proxy>,
    uplinks: Option<Proxy>,
    subscribers: Option<Proxy>,
    orders: Vec<watch::Sender<Orders>>,
}

/// Where everybody connects to.
pub(crate) struct Addresses {
    pub(crate) devices: Broker,
    pub(crate) uplinks: Broker,
    pub(crate) subscribers: Broker,
    /// The broker's own, whatever lies before it.
    pub(crate) broker: Broker,
}

impl Stage {
    /// Starts what the scenario needs, and says where it is.
    pub(super) async fn set(plan: &Plan) -> Result<(Self, Addresses), RunError> {
        let scenario = &plan.scenario;
        let host = match &scenario.broker {
            Some(spec) => Some(Host::start(spec, phases(plan).any(fills_disk)).await?),
            None => None,
        };
        let broker = match &host {
            Some(host) => Broker { host: host.address().ip().to_string(), port: host.address().port() },
            None => Broker { host: plan.host.clone(), port: plan.port },
        };
        let devices = proxy(plan, &broker, Side::Devices).await?;
        let subscribers = proxy(plan, &broker, Side::Subscribers).await?;
        let uplinks = match &scenario.edge {
            Some(_) => proxy(plan, &broker, Side::Uplinks).await?,
            None => None,
        };
        let orders = scenario.subscribers.iter().map(|spec| watch::channel(Orders::of(spec)).0).collect();
        let through = |proxy: &Option<Proxy>| match proxy {
            Some(proxy) => Broker { host: proxy.address().ip().to_string(), port: proxy.address().port() },
            None => broker.clone(),
        };
        let addresses = Addresses {
            devices: through(&devices),
            uplinks: through(&uplinks),
            subscribers: through(&subscribers),
            broker,
        };
        Ok((Stage { host, devices, uplinks, subscribers, orders }, addresses))
    }

    /// Where the gateway that it started has its admin listener.
    pub(super) fn admin(&self) -> Option<Broker> {
        let admin = self.host.as_ref()?.admin()?;
        Some(Broker { host: admin.ip().to_string(), port: admin.port() })
    }

    /// The descriptors it needs for so many devices and subscribers, the listeners included.
    pub(crate) fn files(plan: &Plan, devices: u64, subscribers: u64) -> u64 {
        let of = |side, clients| if spoils(plan, side) { 2 * clients + 1 } else { 0 };
        let sites = plan.scenario.edge.map_or(0, |edge| u64::from(edge.sites));
        of(Side::Devices, devices) + of(Side::Uplinks, sites) + of(Side::Subscribers, subscribers)
    }

    /// What each subscriber hears, in the scenario's order.
    pub(crate) fn orders(&self) -> Vec<watch::Receiver<Orders>> {
        self.orders.iter().map(watch::Sender::subscribe).collect()
    }

    /// Makes a change.
    pub(super) async fn make(&mut self, change: Change) -> Result<(), HostError> {
        match change {
            Change::Reset(share) => self.of(Side::Devices).for_each(|proxy| proxy.reset(share)),
            Change::Weather(side, weather) => self.of(side).for_each(|proxy| proxy.set(Some(weather))),
            Change::Clear(side) => self.of(side).for_each(|proxy| proxy.set(None)),
            Change::Delay(place, delay) => self.order(place, |orders| orders.phase_delay = delay),
            Change::Present(place, present) => self.order(place, |orders| orders.present = present),
            Change::Healed => {}
            Change::Broker(step) => {
                if let Some(host) = &mut self.host {
                    host.step(step).await?;
                }
            }
        }
        Ok(())
    }

    fn of(&self, side: Side) -> impl Iterator<Item = &Proxy> {
        let is_of = move |one| side == one || side == Side::Everyone;
        let devices = self.devices.iter().filter(move |_| is_of(Side::Devices));
        let uplinks = self.uplinks.iter().filter(move |_| is_of(Side::Uplinks));
        devices.chain(uplinks).chain(self.subscribers.iter().filter(move |_| is_of(Side::Subscribers)))
    }

    fn order(&self, place: usize, change: impl FnOnce(&mut Orders)) {
        if let Some(orders) = self.orders.get(place) {
            orders.send_modify(change);
        }
    }
}

/// A proxy before the broker, if a phase spoils that side's network.
async fn proxy(plan: &Plan, broker: &Broker, side: Side) -> Result<Option<Proxy>, RunError> {
    if !spoils(plan, side) {
        return Ok(None);
    }
    let proxy = Proxy::start(broker.host.clone(), broker.port, plan.seed(), side as u32).await;
    proxy.map(Some).map_err(RunError::Proxy)
}

fn spoils(plan: &Plan, wanted: Side) -> bool {
    phases(plan).any(|disturbance| match disturbance {
        // Lean clients reset their own.
        Disturbance::ReconnectStorm { .. } => {
            wanted == Side::Devices && matches!(plan.scenario.fleet.clients, Clients::Honest)
        }
        Disturbance::Network { side, .. } => side == wanted || side == Side::Everyone,
        _ => false,
    })
}

fn fills_disk(disturbance: Disturbance) -> bool {
    matches!(disturbance, Disturbance::Broker(BrokerFault::DiskFull))
}

fn phases(plan: &Plan) -> impl Iterator<Item = Disturbance> {
    plan.scenario.phases.iter().filter_map(|phase: &PhaseSpec| phase.disturbance)
}
