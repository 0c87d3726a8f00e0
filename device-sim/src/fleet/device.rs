//! One device: a task that polls its connection, takes what is due, builds the payload and keeps the books.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::time::sleep;

use super::presence::{Presence, Request};
use super::{Payloads, Token};
use crate::mqtt::backoff::Backoff;
use crate::mqtt::inflight::{Handed, Inflight};
use crate::mqtt::{self, Handle, Link, LinkError, LinkEvent, LinkOptions, Message};
use crate::plan::Plan;
use crate::qos::QoS;
use crate::random::Purpose;
use crate::roster::Identity;
use crate::shared::Shared;

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
    presence: Option<Presence>,
    window: usize,
    /// It publishes to the broker of its site; what the broker under test says to its events, the uplink hears.
    at_site: bool,
    shared: Arc<Shared>,
    connected: bool,
    /// Whether the session has its subscription to commands.
    subscribed: bool,
    /// Since when this device could take an event at once.
    free_since_us: u64,
    nothing_more_due: bool,
    /// Deaths and the last status are on their way.
    said_farewell: bool,
    /// DISCONNECT is.
    said_goodbye: bool,
}

impl Device {
    pub(super) fn new(
        identity: Identity,
        options: &LinkOptions,
        plan: &Plan,
        shared: Arc<Shared>,
        due: mpsc::Receiver<Token>,
        at_site: bool,
    ) -> Self {
        let (handle, mut link) = mqtt::open(options);
        let mut payloads = Payloads::new(plan, &identity);
        let mut presence = Presence::new(&identity);
        if let Some(will) = presence.as_mut().and_then(|presence| presence.will(&mut payloads, 0)) {
            link.set_will(will);
        }
        let backoff = Backoff::new(plan.seed().stream(Purpose::Backoff, identity.number));
        let books = Books {
            identity,
            handle,
            payloads,
            inflight: Inflight::new(options.inflight_max),
            presence,
            window: usize::from(options.inflight_max),
            at_site,
            shared,
            connected: false,
            subscribed: false,
            free_since_us: 0,
            nothing_more_due: false,
            said_farewell: false,
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
                    self.books.prepare_next(&mut self.link);
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
        self.connected && !self.nothing_more_due && self.inflight.may_hand_over(self.window)
    }

    fn say_goodbye_when_done(&mut self) {
        if !self.nothing_more_due || self.said_goodbye || self.inflight.len() > 0 {
            return;
        }
        if !self.said_farewell && self.connected {
            self.said_farewell = true;
            let now_us = self.shared.clock.now_us();
            let farewell =
                self.presence.as_mut().map(|presence| presence.goodbye(&mut self.payloads, now_us));
            for message in farewell.unwrap_or_default() {
                self.say(message);
            }
        }
        if self.inflight.len() == 0 {
            self.said_goodbye = self.handle.disconnect();
        }
    }

    fn hand_over(&mut self, token: Token) {
        let now_us = self.shared.clock.now_us();
        let Token { sequence, due_us, qos, exactly_once, .. } = token;
        // What waited for the broker is the broker's doing; the rest of the delay is this simulator's own.
        let own_lag_us = now_us.saturating_sub(due_us.max(self.free_since_us));
        self.shared.lag.record(own_lag_us, due_us >= self.shared.warm_up_us);

        let Some(payload) = self.payloads.next(token, &self.identity.topic) else {
            // Nothing worth an event: none was due.
            self.shared.stats.due[qos].subtract(1);
            return;
        };
        if let Some(mut ledger) = self.shared.ledger.device(self.identity.number) {
            ledger.issue(sequence, qos);
        }
        // The channel is longer than the window, so this fails only if the connection's half is gone.
        let topic = &self.identity.topic;
        let is_handed = match exactly_once {
            true => self.handle.publish_exactly_once(topic, payload),
            false => self.handle.publish(topic, qos, payload),
        };
        if is_handed {
            let (aside, order) = (false, 0);
            self.inflight.hand_over(Handed {
                sequence,
                due_us,
                sent_us: now_us,
                qos,
                aside,
                exactly_once,
                order,
            });
        }
        let state = self.presence.as_mut().and_then(|presence| presence.state(&mut self.payloads, now_us));
        if let Some(state) = state {
            self.say(state);
        }
    }

    /// Says something beside the schedule; it is not said if the request channel is full.
    fn say(&mut self, message: Message) {
        let now_us = self.shared.clock.now_us();
        let qos = message.qos;
        if self.handle.say(message) {
            self.inflight.hand_over(Handed {
                sequence: 0,
                due_us: now_us,
                sent_us: now_us,
                qos,
                aside: true,
                exactly_once: false,
                order: 0,
            });
        }
    }

    fn introduce(&mut self, session_present: bool) {
        let Some(presence) = &mut self.presence else { return };
        if let Some(filter) = presence.subscription().filter(|_| !(session_present && self.subscribed)) {
            self.subscribed = self.handle.subscribe(&filter, QoS::AtLeastOnce);
        }
        for message in presence.connected(&mut self.payloads, self.shared.clock.now_us()) {
            self.say(message);
        }
    }

    fn requested(
        &mut self,
        topic: &[u8],
        payload: &[u8],
        response_topic: Option<&str>,
        correlation: Option<&Bytes>,
    ) {
        let (Some(presence), Ok(topic)) = (&mut self.presence, std::str::from_utf8(topic)) else { return };
        self.shared.stats.commands.add(1);
        let request = Request { topic, payload, response_topic, correlation };
        let answer = presence.answer(&request, &mut self.payloads, self.shared.clock.now_us());
        if !answer.is_empty() {
            self.shared.stats.replies.add(1);
        }
        for message in answer {
            self.say(message);
        }
    }

    /// After a connection broke: sees to what the next one begins with.
    fn prepare_next(&mut self, link: &mut Link) {
        let Some(presence) = &mut self.presence else { return };
        let anew = presence.starts_anew();
        let keep = |handed: &Handed| !(anew || handed.aside);
        let mut kept = self.inflight.handed().map(keep).collect::<Vec<bool>>().into_iter();
        let dropped = self.inflight.handed().filter(|handed| !handed.aside && !keep(handed)).count() as u64;
        link.keep_unsent(|| kept.next().unwrap_or(true));
        self.inflight.keep_handed(keep);
        self.shared.stats.overflowed.add(dropped);
        self.shared.stats.given_up.add(dropped);
        presence.connection_broke();
        if let Some(will) = presence.will(&mut self.payloads, self.shared.clock.now_us()) {
            link.set_will(will);
        }
        self.said_farewell = false;
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
                self.introduce(session_present);
                return true;
            }
            LinkEvent::Published(id) => self.published(id),
            LinkEvent::Acknowledged { id, accepted } => self.acknowledged(id, accepted),
            LinkEvent::Delivered { topic, payload } => self.requested(&topic, &payload, None, None),
            LinkEvent::Requested { topic, payload, response_topic, correlation } => {
                self.requested(&topic, &payload, Some(&response_topic), correlation.as_ref());
            }
            LinkEvent::Handed { .. }
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
        if event.aside {
            return;
        }
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
        if event.aside {
            return;
        }
        let shared = &self.shared;
        let now_us = shared.clock.now_us();
        if was_full {
            self.free_since_us = now_us;
        }
        let ledger = shared.ledger.device(self.identity.number);
        if self.at_site {
            ledger
                .filter(|_| accepted)
                .into_iter()
                .for_each(|mut it| it.acknowledged_at_site(event.sequence));
            return;
        }
        if let Some(mut ledger) = ledger {
            match accepted {
                true => ledger.acknowledged(event.sequence),
                false => ledger.rejected(event.sequence),
            }
        }
        let count = if accepted { &shared.stats.acknowledged } else { &shared.stats.rejected };
        count.add(1);
        shared.watch(self.identity.number, event.due_us, now_us.saturating_sub(event.due_us));
        let counts = event.due_us >= shared.warm_up_us;
        shared.due_to_puback.record(now_us.saturating_sub(event.due_us), counts);
        shared.sent_to_puback.record(now_us.saturating_sub(event.sent_us), counts);
    }

    fn connection_broke(&mut self, error: &LinkError) {
        let stats = &self.shared.stats;
        if self.connected && !self.said_goodbye {
            stats.disconnects.add(1);
            stats.in_flight_at_disconnect.add(self.inflight.unacknowledged() as u64);
        }
        // Who has said goodbye has left in peace, whichever side closed first.
        if self.connected && !self.said_goodbye {
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
