//! One device: a task that polls its connection, takes what is due, builds the payload and keeps the books.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::sleep;

use super::payload::Payloads;
use super::{Identity, Token};
use crate::mqtt::backoff::Backoff;
use crate::mqtt::inflight::{Handed, Inflight};
use crate::mqtt::{self, Handle, Link, LinkError, LinkEvent, LinkOptions};
use crate::qos::QoS;
use crate::random::Purpose;
use crate::run::{Plan, Shared};

pub(super) struct Device {
    link: Link,
    due: mpsc::Receiver<Token>,
    backoff: Backoff,
    books: Books,
}

/// Everything but the connection itself, so that it can be used while the connection is being polled.
struct Books {
    identity: Identity,
    handle: Handle,
    payloads: Payloads,
    inflight: Inflight,
    window: usize,
    shared: Arc<Shared>,
    connected: bool,
    /// Since when this device could take an event at once.
    free_since_us: u64,
    nothing_more_due: bool,
    said_goodbye: bool,
}

impl Device {
    pub(super) fn new(
        identity: Identity,
        options: &LinkOptions,
        plan: &Plan,
        shared: Arc<Shared>,
        due: mpsc::Receiver<Token>,
    ) -> Self {
        let (handle, link) = mqtt::open(options);
        let payloads = Payloads::new(plan, &identity);
        let backoff = Backoff::new(plan.seed().stream(Purpose::Backoff, identity.number));
        let books = Books {
            identity,
            handle,
            payloads,
            inflight: Inflight::new(options.inflight_max),
            window: usize::from(options.inflight_max),
            shared,
            connected: false,
            free_since_us: 0,
            nothing_more_due: false,
            said_goodbye: false,
        };
        Device { link, due, backoff, books }
    }

    /// Until everything due is sent and acknowledged and DISCONNECT is written, or the task is cancelled.
    pub(super) async fn run(mut self, start_after: Duration) {
        sleep(start_after).await;
        loop {
            match self.next_event().await {
                Ok(LinkEvent::Disconnected) => return,
                Ok(event) => {
                    if self.books.handle_event(event) {
                        self.backoff.reset();
                    }
                }
                Err(error) => {
                    self.books.connection_broke(&error);
                    let inflight = &self.books.inflight;
                    if !self.link.recover(&error, |id| inflight.order_of(id)) {
                        self.books.give_up();
                    }
                    if self.books.said_goodbye {
                        return;
                    }
                    sleep(self.backoff.next_pause()).await;
                }
            }
        }
    }

    /// Polls the connection to its next event. Meanwhile due events are handed over: the poll is never dropped, since a
    /// cancelled one could leave bytes unwritten.
    async fn next_event(&mut self) -> Result<LinkEvent, LinkError> {
        let Device { link, due, books, .. } = self;
        let mut poll = pin!(link.poll());
        loop {
            books.say_goodbye_when_done();
            tokio::select! {
                biased;
                event = &mut poll => return event,
                token = due.recv(), if books.has_room() => match token {
                    Some(token) => books.hand_over(token),
                    None => books.nothing_more_due = true,
                },
            }
        }
    }
}

impl Books {
    fn has_room(&self) -> bool {
        self.connected && !self.nothing_more_due && self.inflight.len() < self.window
    }

    fn say_goodbye_when_done(&mut self) {
        if self.nothing_more_due && !self.said_goodbye && self.inflight.len() == 0 {
            self.said_goodbye = self.handle.disconnect();
        }
    }

    fn hand_over(&mut self, token: Token) {
        let now_us = self.shared.clock.now_us();
        let Token { sequence, due_us, qos } = token;
        // What waited for the broker is the broker's doing; the rest of the delay is this simulator's own.
        let own_lag_us = now_us.saturating_sub(due_us.max(self.free_since_us));
        self.shared.lag.record(own_lag_us, due_us >= self.shared.warm_up_us);

        let payload = self.payloads.next(token, &self.identity.topic);
        if let Some(mut ledger) = self.shared.ledger.device(self.identity.number) {
            ledger.issue(sequence, qos);
        }
        // The channel is longer than the window, so this fails only if the connection's half is gone.
        if self.handle.publish(&self.identity.topic, qos, payload) {
            self.inflight.hand_over(Handed { sequence, due_us, sent_us: now_us, qos });
        }
    }

    /// True if the connection came up.
    fn handle_event(&mut self, event: LinkEvent) -> bool {
        match event {
            LinkEvent::Connected { session_present } => {
                if !session_present {
                    self.give_up();
                }
                self.connected = true;
                self.free_since_us = self.shared.clock.now_us();
                self.shared.stats.connected.add(1);
                return true;
            }
            LinkEvent::Published(id) => self.published(id),
            LinkEvent::Acknowledged { id, accepted } => self.acknowledged(id, accepted),
            LinkEvent::Delivered { .. }
            | LinkEvent::Handed { .. }
            | LinkEvent::Subscribed(_)
            | LinkEvent::Disconnected
            | LinkEvent::Other => {}
        }
        false
    }

    fn published(&mut self, id: u16) {
        let was_full = self.inflight.len() >= self.window;
        let now_us = self.shared.clock.now_us();
        let Some(event) = self.inflight.published(id, now_us) else {
            self.shared.stats.retransmitted.add(1);
            return;
        };
        self.shared.stats.sent[event.qos].add(1);
        if let Some(mut ledger) = self.shared.ledger.device(self.identity.number) {
            ledger.sent(event.sequence);
        }
        if was_full && event.qos == QoS::AtMostOnce {
            self.free_since_us = now_us;
        }
    }

    fn acknowledged(&mut self, id: u16, accepted: bool) {
        let was_full = self.inflight.len() >= self.window;
        let Some(event) = self.inflight.acknowledged(id) else { return };
        let shared = &self.shared;
        let now_us = shared.clock.now_us();
        if let Some(mut ledger) = shared.ledger.device(self.identity.number) {
            match accepted {
                true => ledger.acknowledged(event.sequence),
                false => ledger.rejected(event.sequence),
            }
        }
        let count = if accepted { &shared.stats.acknowledged } else { &shared.stats.rejected };
        count.add(1);
        let counts = event.due_us >= shared.warm_up_us;
        shared.due_to_puback.record(now_us.saturating_sub(event.due_us), counts);
        shared.sent_to_puback.record(now_us.saturating_sub(event.sent_us), counts);
        if was_full {
            self.free_since_us = now_us;
        }
    }

    fn connection_broke(&mut self, error: &LinkError) {
        let stats = &self.shared.stats;
        if self.connected && !self.said_goodbye {
            stats.disconnects.add(1);
            stats.in_flight_at_disconnect.add(self.inflight.unacknowledged() as u64);
        }
        if self.connected {
            stats.connected.subtract(1);
        }
        self.connected = false;
        self.shared.note_error(error.to_string());
    }

    fn give_up(&mut self) {
        self.shared.stats.given_up.add(self.inflight.unacknowledged() as u64);
        self.inflight.give_up();
    }
}
