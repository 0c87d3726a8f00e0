//! A backend service: subscribes, checks every event that arrives and tells the ledger.

use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::envelope::{self, Envelope, Opened};
use crate::ledger::Delivery;
use crate::mqtt::backoff::Backoff;
use crate::mqtt::{self, Broker, Handle, Link, LinkEvent, LinkOptions};
use crate::qos::QoS;
use crate::random::Purpose;
use crate::run::{LateDeliveries, Plan, Shared, SubscriberState};

/// Requests a subscriber has waiting: SUBSCRIBE and DISCONNECT.
const REQUESTS_MAX: usize = 8;

struct Subscriber {
    place: usize,
    handle: Handle,
    shared: Arc<Shared>,
    epoch: u32,
    late: LateDeliveries,
    connected: bool,
    subscribed_before: bool,
}

/// Starts all subscribers of a plan; they run until they hear `goodbye`.
pub(crate) fn spawn_all(
    tasks: &mut JoinSet<()>,
    plan: &Plan,
    broker: &Broker,
    shared: &Arc<Shared>,
    goodbye: &watch::Receiver<bool>,
) {
    for (place, spec) in plan.scenario.subscribers.iter().enumerate() {
        let options = LinkOptions {
            broker: broker.clone(),
            client_id: format!("{}backend-{}", plan.scenario.fleet.client_id_prefix, spec.name),
            protocol: spec.protocol,
            durable: spec.durable,
            inflight_max: REQUESTS_MAX as u16,
            requests_max: REQUESTS_MAX,
        };
        let (handle, link) = mqtt::open(&options);
        let number = u32::MAX - place as u32;
        let backoff = Backoff::new(plan.seed().stream(Purpose::Backoff, number));
        let subscriber = Subscriber {
            place,
            handle,
            shared: Arc::clone(shared),
            epoch: plan.epoch,
            late: LateDeliveries::new(plan.scenario.run.redelivery_window.as_micros() as u64),
            connected: false,
            subscribed_before: false,
        };
        tasks.spawn(subscriber.run(link, backoff, goodbye.clone()));
    }
}

impl Subscriber {
    async fn run(mut self, mut link: Link, mut backoff: Backoff, mut goodbye: watch::Receiver<bool>) {
        let mut leaving = false;
        loop {
            let event = tokio::select! {
                biased;
                event = link.poll() => event,
                // Dropping the poll here may leave acknowledgements unwritten; the DISCONNECT after it writes them.
                heard = goodbye.wait_for(|goodbye| *goodbye), if !leaving => {
                    if heard.is_err() || !self.connected || !self.handle.disconnect() {
                        return;
                    }
                    drop(heard);
                    leaving = true;
                    continue;
                }
            };
            match event {
                Ok(LinkEvent::Disconnected) => return,
                Ok(LinkEvent::Connected { session_present }) => {
                    backoff.reset();
                    self.connected(session_present);
                }
                Ok(LinkEvent::Subscribed(answer)) => self.subscribed(answer),
                Ok(LinkEvent::Delivered { topic, payload }) => self.delivered(&topic, &payload),
                Ok(_) => {}
                Err(error) => {
                    link.recover(&error, |_| 0);
                    if leaving {
                        return;
                    }
                    self.connection_broke();
                    self.shared.note_error(error.to_string());
                    sleep(backoff.next_pause()).await;
                }
            }
        }
    }

    fn connected(&mut self, session_present: bool) {
        self.connected = true;
        let Some(state) = self.shared.subscribers.get(self.place) else { return };
        if self.subscribed_before && state.spec.durable && !session_present {
            state.sessions_lost.add(1);
        }
        // A session that was kept is trusted to have kept the subscription: subscribing again would hide that it did not.
        if !(self.subscribed_before && session_present) {
            let _ = self.handle.subscribe(&state.spec.filter, state.spec.qos);
        }
    }

    fn subscribed(&mut self, answer: Result<QoS, String>) {
        let Some(state) = self.shared.subscribers.get(self.place) else { return };
        match answer {
            Ok(granted) if granted >= state.spec.qos => {
                self.subscribed_before = true;
                state.granted();
            }
            Ok(_) => state.refused("the broker granted QoS 0 instead of 1".to_owned()),
            Err(refusal) => state.refused(format!("the broker refused `{}`: {refusal}", state.spec.filter)),
        }
    }

    fn delivered(&mut self, topic: &[u8], payload: &[u8]) {
        let Some(state) = self.shared.subscribers.get(self.place) else { return };
        match envelope::open(payload, topic) {
            Opened::Event(envelope) if envelope.epoch == self.epoch => {
                if envelope.qos == QoS::AtLeastOnce && state.spec.qos == QoS::AtLeastOnce {
                    self.late.note(self.shared.clock.now_us());
                }
                enter(&self.shared, state, self.place, envelope);
            }
            Opened::Event(_) => state.foreign.add(1),
            Opened::Corrupt => state.corrupt.add(1),
            Opened::Foreign => {
                let ours = std::str::from_utf8(topic).is_ok_and(|topic| self.shared.topics.contains(topic));
                let count = if ours { &state.corrupt } else { &state.foreign };
                count.add(1);
            }
        }
    }

    fn connection_broke(&mut self) {
        let Some(state) = self.shared.subscribers.get(self.place) else { return };
        if self.connected {
            state.disconnects.add(1);
            state.may_come_again.add(self.late.take(self.shared.clock.now_us()));
        }
        self.connected = false;
    }
}

fn enter(shared: &Shared, state: &SubscriberState, place: usize, envelope: Envelope) {
    let Envelope { device, sequence, due_us, qos, .. } = envelope;
    let delivery = shared
        .ledger
        .device(device)
        .map_or(Delivery::Unknown, |mut ledger| ledger.delivered(place, sequence, qos));
    match delivery {
        Delivery::First | Delivery::OutOfOrder => {
            state.delivered[qos].add(1);
            let latency_us = shared.clock.now_us().saturating_sub(due_us);
            state.latencies.record(latency_us, due_us >= shared.warm_up_us);
        }
        Delivery::Duplicate => state.duplicated.add(1),
        Delivery::Unknown => state.corrupt.add(1),
        Delivery::Late => {}
    }
}
