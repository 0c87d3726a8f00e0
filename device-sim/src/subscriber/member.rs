//! One member of a subscriber: a connection, and the next one when it breaks or when the timeline wants it back.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;
use tokio::time::sleep;

use super::Orders;
use super::work::Workbench;
use crate::envelope::{self, Envelope, Opened};
use crate::ledger::Delivery;
use crate::mqtt::backoff::Backoff;
use crate::mqtt::{self, Answer, Handle, Link, LinkEvent, LinkOptions};
use crate::plan::Plan;
use crate::qos::QoS;
use crate::random::Purpose;
use crate::scenario::subscriber::Source;
use crate::shared::{LateDeliveries, Shared, SubscriberState};

pub(super) struct Member {
    place: usize,
    options: LinkOptions,
    shared: Arc<Shared>,
    epoch: u32,
    late: LateDeliveries,
    backoff: Backoff,
    workbench: Option<Workbench>,
    connected: bool,
    subscribed_before: bool,
    /// A reader of a stream goes on here.
    next_offset: Option<u64>,
}

/// Why a member does not attend any more.
enum Leaving {
    /// The run is over.
    Goodbye,
    /// The timeline wants it away.
    Ordered,
}

impl Member {
    pub(super) fn new(
        place: usize,
        number: u32,
        options: LinkOptions,
        plan: &Plan,
        shared: Arc<Shared>,
        workbench: Option<Workbench>,
    ) -> Self {
        Member {
            place,
            options,
            shared,
            epoch: plan.epoch,
            late: LateDeliveries::new(plan.scenario.run.redelivery_window.as_micros() as u64),
            backoff: Backoff::new(plan.seed().stream(Purpose::Backoff, number)),
            workbench,
            connected: false,
            subscribed_before: false,
            next_offset: None,
        }
    }

    /// Until it hears `goodbye`. Where it is ordered away its connection just ends, as if its process had died.
    pub(super) async fn run(
        mut self,
        mut orders: watch::Receiver<Orders>,
        mut goodbye: watch::Receiver<bool>,
    ) {
        loop {
            match self.attend(&mut orders, &mut goodbye).await {
                Leaving::Goodbye => return,
                Leaving::Ordered => self.connection_broke(),
            }
            tokio::select! {
                biased;
                _ = goodbye.wait_for(|goodbye| *goodbye) => return,
                wanted = orders.wait_for(|orders| orders.present) => {
                    if wanted.is_err() {
                        return;
                    }
                }
            }
        }
    }

    async fn attend(
        &mut self,
        orders: &mut watch::Receiver<Orders>,
        goodbye: &mut watch::Receiver<bool>,
    ) -> Leaving {
        let (handle, mut link) = mqtt::open(&self.options);
        let mut leaving = false;
        loop {
            let event = tokio::select! {
                biased;
                _ = orders.wait_for(|orders| !orders.present), if !leaving => return Leaving::Ordered,
                event = link.poll() => event,
                // Dropping the poll here may leave acknowledgements unwritten; the DISCONNECT after it writes them.
                heard = goodbye.wait_for(|goodbye| *goodbye), if !leaving => {
                    if heard.is_err() || !self.connected || !handle.disconnect() {
                        return Leaving::Goodbye;
                    }
                    drop(heard);
                    leaving = true;
                    continue;
                }
            };
            match event {
                Ok(LinkEvent::Disconnected) => return Leaving::Goodbye,
                Ok(LinkEvent::Connected { session_present }) => {
                    self.backoff.reset();
                    self.connected(&handle, session_present);
                }
                Ok(LinkEvent::Subscribed(answer)) => self.subscribed(answer),
                Ok(LinkEvent::Delivered { topic, payload }) => {
                    self.delivered(&topic, &payload);
                    let delay = orders.borrow().delay();
                    take_time(delay).await;
                }
                Ok(LinkEvent::Handed { id, offset, topic, payload }) => {
                    // The time is taken before the answer: that is what makes a worker slow.
                    let delay = orders.borrow().delay();
                    take_time(delay).await;
                    self.handed(&mut link, id, offset, &topic, &payload);
                }
                Ok(_) => {}
                Err(error) => {
                    link.recover(&error, |_| 0);
                    if leaving {
                        return Leaving::Goodbye;
                    }
                    self.connection_broke();
                    self.shared.note_error(error.to_string());
                    sleep(self.backoff.next_pause()).await;
                }
            }
        }
    }

    fn connected(&mut self, handle: &Handle, session_present: bool) {
        self.connected = true;
        let Some(state) = self.shared.subscribers.get(self.place) else { return };
        state.connected.add(1);
        let spec = &state.spec;
        let in_session = matches!(spec.source, Source::Plain | Source::Shared { .. });
        if in_session && self.subscribed_before && spec.durable && !session_present {
            state.sessions_lost.add(1);
        }
        // A session that was kept is trusted to have kept the subscription: subscribing again would hide that it did not.
        if in_session && self.subscribed_before && session_present {
            return;
        }
        let filter = match (&spec.source, self.next_offset) {
            (Source::Stream { stream, filter, .. }, Some(next)) => {
                format!("$stream/{stream}/{next}/{filter}")
            }
            _ => spec.filter.clone(),
        };
        let _ = handle.subscribe(&filter, spec.qos);
    }

    fn subscribed(&mut self, answer: Result<QoS, String>) {
        let Some(state) = self.shared.subscribers.get(self.place) else { return };
        match answer {
            Ok(granted) if granted >= state.spec.qos => {
                if !self.subscribed_before {
                    state.granted();
                }
                self.subscribed_before = true;
            }
            Ok(_) => state.refused("the broker granted QoS 0 instead of 1".to_owned()),
            Err(refusal) => state.refused(format!("the broker refused `{}`: {refusal}", state.spec.filter)),
        }
    }

    /// A delivery that waits for an answer.
    fn handed(&mut self, link: &mut Link, id: u16, offset: Option<u64>, topic: &Bytes, payload: &Bytes) {
        let event = self.delivered(topic, payload);
        self.next_offset = offset.map(|offset| offset + 1).or(self.next_offset);
        let answer = match (&mut self.workbench, event) {
            (Some(workbench), Some(event)) => workbench.answer(&self.shared, &event),
            _ => Some(Answer::Done),
        };
        if answer != Some(Answer::Done)
            && let Some(state) = self.shared.subscribers.get(self.place)
        {
            state.handed_back.add(1);
        }
        if let Some(answer) = answer.filter(|_| id != 0) {
            link.answer(id, answer);
        }
    }

    /// The event, if it is one of this run.
    fn delivered(&mut self, topic: &[u8], payload: &[u8]) -> Option<Envelope> {
        let state = self.shared.subscribers.get(self.place)?;
        match envelope::open(payload, topic) {
            Opened::Event(envelope) if envelope.epoch == self.epoch => {
                if envelope.qos == QoS::AtLeastOnce && state.spec.qos == QoS::AtLeastOnce {
                    self.late.note(self.shared.clock.now_us());
                }
                enter(&self.shared, state, self.place, envelope);
                return Some(envelope);
            }
            Opened::Event(_) => state.foreign.add(1),
            opened => {
                let topic = std::str::from_utf8(topic).unwrap_or_default();
                match (self.shared.topics.get(topic), opened) {
                    (None, Opened::Foreign) => state.foreign.add(1),
                    (class, _) => state.corrupt(class.copied()),
                }
            }
        }
        None
    }

    fn connection_broke(&mut self) {
        let Some(state) = self.shared.subscribers.get(self.place) else { return };
        if self.connected {
            state.connected.subtract(1);
            state.disconnects.add(1);
            state.may_come_again.add(self.late.take(self.shared.clock.now_us()));
        }
        self.connected = false;
    }
}

async fn take_time(delay: Duration) {
    if !delay.is_zero() {
        sleep(delay).await;
    }
}

fn enter(shared: &Shared, state: &SubscriberState, place: usize, envelope: Envelope) {
    let Envelope { device, sequence, due_us, qos, .. } = envelope;
    match shared.ledger.delivered(device, place, sequence, qos) {
        Delivery::First | Delivery::OutOfOrder => {
            state.delivered[qos].add(1);
            state.delivered_due(due_us);
            let latency_us = shared.clock.now_us().saturating_sub(due_us);
            state.latencies.record(latency_us, due_us >= shared.warm_up_us);
        }
        Delivery::Duplicate => state.duplicated.add(1),
        Delivery::Unknown => state.corrupt(Some(shared.classes.of(device))),
        Delivery::Late => {}
    }
}
