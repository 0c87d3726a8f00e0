//! The ticker: hands events to their devices when they are due, many per tick, whatever became of those before.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, interval};

use crate::fleet::Token;
use crate::plan::Plan;
use crate::schedule::Schedule;
use crate::shared::Shared;
use crate::stop::Stop;

/// Between ticks. Shorter costs wake-ups, longer adds half of itself to every latency.
const TICK: Duration = Duration::from_millis(2);

/// Publishes until the duration is over or someone wants to stop; returns how long that was. Dropping the senders at the
/// end tells the devices that nothing more is due.
pub(super) async fn run(
    plan: &Plan,
    shared: &Arc<Shared>,
    senders: Vec<mpsc::Sender<Token>>,
    stop: &mut watch::Receiver<Stop>,
) -> Duration {
    let fleet = &plan.scenario.fleet;
    let rates = shared.timeline.rates();
    let mut schedule = Schedule::of_devices(plan.seed(), fleet, rates, 0..fleet.devices);
    let end_us = plan.scenario.run.duration.map_or(u64::MAX, |duration| duration.as_micros() as u64);
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    while *stop.borrow_and_update() == Stop::No {
        let now_us = shared.clock.now_us();
        while let Some(due) = schedule.pop_due(now_us.min(end_us)) {
            shared.stats.due[due.qos].add(1);
            let sender = senders.get(due.device as usize);
            if sender.is_none_or(|sender| sender.try_send(due.into()).is_err()) {
                shared.stats.overflowed.add(1);
            }
        }
        if now_us >= end_us {
            break;
        }
        ticks.tick().await;
    }
    Duration::from_micros(shared.clock.now_us().min(end_us))
}
