//! The uplink of a site: takes what the site's broker has, and publishes it to the broker under test with the QoS it had.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::watch;
use tokio::time::sleep;

use super::buffer::{Buffer, Item};
use crate::envelope::{self, Envelope, Opened};
use crate::mqtt::backoff::Backoff;
use crate::mqtt::inflight::{Handed, Inflight};
use crate::mqtt::{self, Broker, Handle, Link, LinkError, LinkEvent, LinkOptions};
use crate::plan::Plan;
use crate::qos::QoS;
use crate::random::Purpose;
use crate::scenario::{EdgeSpec, KEEP_ALIVE_S, Protocol};
use crate::shared::{EdgeStats, Shared};

/// Where uplinks begin among those who draw their pauses: devices are below, subscribers at the end.
const FIRST_NUMBER: u32 = 1 << 30;

/// Where the site's broker puts what it has.
pub(super) struct Inbox {
    shared: Arc<Shared>,
    buffer: Arc<Buffer>,
    epoch: u32,
}

impl Inbox {
    pub(super) fn new(plan: &Plan, shared: &Arc<Shared>, buffer: &Arc<Buffer>) -> Self {
        Inbox { shared: Arc::clone(shared), buffer: Arc::clone(buffer), epoch: plan.epoch }
    }

    /// A message of the site: it waits, or it is dropped and counted.
    pub(super) fn take(&self, topic: &[u8], payload: Bytes) {
        let (Some(stats), Ok(name)) = (&self.shared.edge, std::str::from_utf8(topic)) else { return };
        let event = match envelope::open(&payload, topic) {
            Opened::Event(envelope) if envelope.epoch == self.epoch => Some(envelope),
            _ => None,
        };
        match self.buffer.push(Item { topic: name.to_owned(), payload, event }) {
            Ok((events, bytes)) => stats.waited(events, bytes),
            Err(item) => item.event.iter().for_each(|event| stats.dropped[event.qos].add(1)),
        }
    }
}

pub(super) struct Uplink {
    link: Link,
    buffer: Arc<Buffer>,
    backoff: Backoff,
    books: Books,
}

/// Everything but the connection itself, so that it can be used while the connection is being polled.
struct Books {
    handle: Handle,
    inflight: Inflight,
    window: usize,
    shared: Arc<Shared>,
    connected: bool,
    /// Events on their way, by the number that each got here.
    on_their_way: HashMap<u32, Envelope>,
    next_number: u32,
}

impl Uplink {
    pub(super) fn new(
        site: u32,
        spec: &EdgeSpec,
        plan: &Plan,
        broker: &Broker,
        shared: &Arc<Shared>,
        buffer: Arc<Buffer>,
    ) -> Self {
        let options = LinkOptions {
            broker: broker.clone(),
            client_id: format!("{}uplink-{site:02}", plan.scenario.fleet.client_id_prefix),
            protocol: Protocol::V5,
            durable: true,
            keep_alive_s: KEEP_ALIVE_S,
            inflight_max: spec.inflight_max,
            requests_max: usize::from(spec.inflight_max) + 1,
            answers_itself: false,
        };
        let (handle, link) = mqtt::open(&options);
        let books = Books {
            handle,
            inflight: Inflight::new(spec.inflight_max),
            window: usize::from(spec.inflight_max),
            shared: Arc::clone(shared),
            connected: false,
            on_their_way: HashMap::new(),
            next_number: 0,
        };
        let backoff = Backoff::new(plan.seed().stream(Purpose::Backoff, FIRST_NUMBER + site));
        Uplink { link, buffer, backoff, books }
    }

    /// Until it hears `goodbye` and has said so itself.
    pub(super) async fn run(mut self, mut goodbye: watch::Receiver<bool>) {
        let mut leaving = false;
        loop {
            match self.next_event(&mut goodbye, &mut leaving).await {
                Some(Ok(LinkEvent::Disconnected)) | None => return,
                Some(Ok(event)) => {
                    if self.books.handle_event(event) {
                        self.backoff.reset();
                    }
                }
                Some(Err(error)) => {
                    self.books.connection_broke(&error, leaving);
                    let inflight = &self.books.inflight;
                    if !self.link.recover(&error, |id| inflight.order_of(id)) {
                        self.books.give_up();
                    }
                    if leaving || *goodbye.borrow() {
                        return;
                    }
                    sleep(self.backoff.next_pause()).await;
                }
            }
        }
    }

    /// Polls the connection to its next event, and meanwhile hands over what waits. None: it may leave at once.
    async fn next_event(
        &mut self,
        goodbye: &mut watch::Receiver<bool>,
        leaving: &mut bool,
    ) -> Option<Result<LinkEvent, LinkError>> {
        let Uplink { link, buffer, books, .. } = self;
        let mut poll = pin!(link.poll());
        loop {
            while books.has_room()
                && let Some(item) = buffer.pop()
            {
                books.hand_over(item);
            }
            tokio::select! {
                biased;
                event = &mut poll => return Some(event),
                () = buffer.filled(), if books.has_room() => {}
                heard = goodbye.wait_for(|goodbye| *goodbye), if !*leaving => {
                    if heard.is_err() || !books.connected || !books.handle.disconnect() {
                        return None;
                    }
                    *leaving = true;
                }
            }
        }
    }
}

impl Books {
    fn stats(&self) -> Option<&EdgeStats> {
        self.shared.edge.as_ref()
    }

    fn has_room(&self) -> bool {
        self.connected && self.inflight.may_hand_over(self.window)
    }

    fn hand_over(&mut self, item: Item) {
        let Item { topic, payload, event } = item;
        let qos = event.map_or(QoS::AtMostOnce, |event| event.qos);
        // The channel is longer than the window, so this fails only if the connection's half is gone.
        if !self.handle.publish(&topic, qos, payload.to_vec()) {
            return;
        }
        let sequence = self.next_number;
        self.next_number = self.next_number.wrapping_add(1);
        let due_us = event.map_or(0, |event| event.due_us);
        self.on_their_way.extend(event.map(|event| (sequence, event)));
        self.inflight.hand_over(Handed {
            sequence,
            due_us,
            sent_us: self.shared.clock.now_us(),
            qos,
            aside: event.is_none(),
            exactly_once: false,
            order: 0,
        });
    }

    /// True if the connection came up.
    fn handle_event(&mut self, event: LinkEvent) -> bool {
        match event {
            LinkEvent::Connected { session_present } => {
                if !session_present {
                    self.give_up();
                }
                self.connected = true;
                self.stats().into_iter().for_each(|stats| stats.connected.add(1));
                return true;
            }
            LinkEvent::Published(id) => self.published(id),
            LinkEvent::Acknowledged { id, accepted } => self.acknowledged(id, accepted),
            _ => {}
        }
        false
    }

    fn published(&mut self, id: u16) {
        let Some(handed) = self.inflight.published(id, self.shared.clock.now_us()) else {
            self.shared.stats.retransmitted.add(1);
            return;
        };
        let event = match handed.qos {
            QoS::AtMostOnce => self.on_their_way.remove(&handed.sequence),
            QoS::AtLeastOnce => self.on_their_way.get(&handed.sequence).copied(),
        };
        if let Some(event) = event
            && let Some(mut ledger) = self.shared.ledger.device(event.device)
        {
            ledger.forwarded(event.sequence);
        }
    }

    fn acknowledged(&mut self, id: u16, accepted: bool) {
        let Some(handed) = self.inflight.acknowledged(id) else { return };
        let Some(event) = self.on_their_way.remove(&handed.sequence) else { return };
        let shared = &self.shared;
        let now_us = shared.clock.now_us();
        if let Some(mut ledger) = shared.ledger.device(event.device) {
            match accepted {
                true => ledger.acknowledged(event.sequence),
                false => ledger.rejected(event.sequence),
            }
        }
        let count = if accepted { &shared.stats.acknowledged } else { &shared.stats.rejected };
        count.add(1);
        let counts = handed.due_us >= shared.warm_up_us;
        shared.due_to_puback.record(now_us.saturating_sub(handed.due_us), counts);
        shared.sent_to_puback.record(now_us.saturating_sub(handed.sent_us), counts);
    }

    fn connection_broke(&mut self, error: &LinkError, leaving: bool) {
        if self.connected && !leaving {
            self.shared.stats.in_flight_at_disconnect.add(self.inflight.unacknowledged() as u64);
            if let Some(stats) = self.stats() {
                stats.disconnects.add(1);
                stats.connected.subtract(1);
            }
        }
        self.connected = false;
        self.shared.note_error(error.to_string());
    }

    /// The broker forgot the session: what was in flight stays unacknowledged for ever.
    fn give_up(&mut self) {
        self.shared.stats.given_up.add(self.inflight.unacknowledged() as u64);
        self.inflight.give_up();
        let waiting: Vec<u32> = self.inflight.handed().map(|handed| handed.sequence).collect();
        self.on_their_way.retain(|number, _| waiting.contains(number));
    }
}
