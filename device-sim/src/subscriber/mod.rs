//! Backend services: they subscribe, check every event that arrives and tell the ledger.
//!
//! A subscriber is one member or several that are complete together (`$share/...`, `$consumer/...`); each is a task with a
//! connection of its own. `member` is that task, `work` how workers answer.

mod member;
mod work;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::mqtt::{Broker, LinkOptions};
use crate::plan::Plan;
use crate::scenario::subscriber::{MEMBERS_MAX, Source};
use crate::scenario::{KEEP_ALIVE_S, SubscriberSpec};
use crate::shared::Shared;
use member::Member;
use work::Workbench;

/// Requests a subscriber has waiting: SUBSCRIBE and DISCONNECT.
const REQUESTS_MAX: usize = 8;

/// What the timeline wants of a subscriber.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Orders {
    /// Whether it is there at all.
    pub(crate) present: bool,
    /// How long it takes for each event in the current phase, if that says so.
    pub(crate) phase_delay: Option<Duration>,
    own_delay: Duration,
}

impl Orders {
    /// Before the timeline begins.
    pub(crate) fn of(spec: &SubscriberSpec) -> Self {
        Orders { present: true, phase_delay: None, own_delay: spec.delay }
    }

    fn delay(&self) -> Duration {
        self.phase_delay.unwrap_or(self.own_delay)
    }
}

/// Starts all subscribers of a plan that are not in workers, each with its orders; they run until they hear `goodbye`.
pub(crate) fn spawn_all(
    tasks: &mut JoinSet<()>,
    plan: &Plan,
    broker: &Broker,
    shared: &Arc<Shared>,
    orders: &[watch::Receiver<Orders>],
    goodbye: &watch::Receiver<bool>,
) {
    let subscribers = plan.scenario.subscribers.iter().zip(orders).enumerate();
    for (place, (spec, orders)) in subscribers.filter(|(place, _)| !plan.scenario.is_in_worker(*place)) {
        for member in 0..spec.members {
            let options = LinkOptions {
                broker: broker.clone(),
                client_id: spec.client_id(&plan.scenario.fleet.client_id_prefix, member),
                protocol: spec.protocol,
                durable: spec.durable,
                keep_alive_s: KEEP_ALIVE_S,
                inflight_max: REQUESTS_MAX as u16,
                requests_max: REQUESTS_MAX,
                answers_itself: matches!(spec.source, Source::Consumer { .. } | Source::Stream { .. }),
            };
            let number = u32::MAX - (place as u32 * MEMBERS_MAX + member);
            let workbench = spec.source.is_consumer().then(|| Workbench::new(plan, spec.work, number));
            let member = Member::new(place, number, options, plan, Arc::clone(shared), workbench);
            tasks.spawn(member.run(orders.clone(), goodbye.clone()));
        }
    }
}
