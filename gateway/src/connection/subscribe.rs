//! SUBSCRIBE and UNSUBSCRIBE: which filter goes where, and what is granted.

use super::backlog::DurableFeed;
use super::consumer;
use super::feed::Retained;
use super::receive::{ReadBatch, Reply};
use super::task::Connection;
use crate::admission::reason_code;
use crate::clock;
use crate::config::Pace;
use crate::decisions::{Action, Reason};
use crate::delivery::Outbox;
use crate::engine::sends_retained;
use crate::router::{Grant, Router, SubscribeError};
use crate::stream::{self, StreamAddress, StreamCursor};
use gateway_protocol::packet::{Subscribe, SubscribeOptions, Unsubscribe};
use gateway_protocol::{QoS, ReasonCode, SharedFilter, TopicFilter};
use gateway_storage::{Entry, Staging};
use std::collections::BTreeSet;
use std::sync::Arc;

/// The User Property of a SUBSCRIBE by which a client says how fast it wants streams: `full`, `1000/s`, `10x`.
const PACE_PROPERTY: &str = "pace";

impl Connection {
    pub(super) fn subscribe(
        &mut self,
        subscribe: &Subscribe<'_>,
        stored: &mut Staging,
        batch: &mut ReadBatch,
        out: &mut Vec<u8>,
    ) {
        let subscription_id = subscribe.properties.subscription_identifier().unwrap_or(0);
        let pace = subscribe.properties.user_properties().find(|(name, _)| *name == PACE_PROPERTY);
        let pace = pace.map(|(_, text)| text);
        let mut codes = Vec::with_capacity(subscribe.filters.len());
        let staged_before = stored.len();
        for (filter, options) in subscribe.filters.iter() {
            let subscribed = self.subscribe_one(filter, options, subscription_id, pace, stored);
            if let Err(code) = subscribed {
                let reason = match code {
                    ReasonCode::QuotaExceeded => Reason::MaxSubscriptions,
                    _ if self.context.admission.check_filter(filter.as_str()).is_err() => {
                        Reason::FilterTooDeep
                    }
                    _ => Reason::FilterRefused,
                };
                self.context.decide(&self.claim.seat.client_id, filter.as_str(), Action::Refused, reason, 1);
            }
            let code = match subscribed {
                Ok(QoS::AtMostOnce) => ReasonCode::Success,
                Ok(QoS::AtLeastOnce) => ReasonCode::GrantedQos1,
                Ok(QoS::ExactlyOnce) => ReasonCode::GrantedQos2,
                // [MQTT-3.9.3-2] of 3.1.1: there is one code for every failure.
                Err(_) if !self.session.version().is_v5() => ReasonCode::UnspecifiedError,
                Err(reason) => reason,
            };
            codes.push(code.as_u8());
        }
        let reply = Reply::SubAck(subscribe.packet_id, codes);
        self.reply_when_stored(reply, stored.len() > staged_before, batch, out);
    }

    /// The granted QoS, or why the filter is refused.
    fn subscribe_one(
        &mut self,
        filter: TopicFilter<'_>,
        options: SubscribeOptions,
        subscription_id: u32,
        pace: Option<&str>,
        stored: &mut Staging,
    ) -> Result<QoS, ReasonCode> {
        let context = self.context.clone();
        let text = filter.as_str();
        let qos = options.qos.min(context.limits.max_qos);
        if subscription_id != 0 && !context.limits.subscription_identifiers_available {
            return Err(ReasonCode::SubscriptionIdentifiersNotSupported);
        }
        if filter.has_wildcards() && !context.limits.wildcard_subscription_available {
            return Err(ReasonCode::WildcardSubscriptionsNotSupported);
        }
        let shared = match SharedFilter::parse(filter) {
            Some(_) if !context.limits.shared_subscription_available => {
                return Err(ReasonCode::SharedSubscriptionsNotSupported);
            }
            Some(Ok(shared)) => Some(shared.filter),
            Some(Err(_)) => return Err(ReasonCode::TopicFilterInvalid),
            None => None,
        };
        let is_new = !self.has_live(text);
        let cursors = self.cursors.get().map_or(&[][..], Vec::as_slice);
        let known = !is_new
            || cursors.iter().any(|cursor| *cursor.subscription == *text)
            || self.work.as_ref().is_some_and(|work| work.has(text));
        let working = self.work.as_ref().map_or(0, |work| work.count());
        let subscriptions = self.subscriptions.get().map_or(0, BTreeSet::len) + cursors.len() + working;
        if !known && let Err(reason) = context.admission.check_subscriptions(subscriptions) {
            return Err(reason_code(reason));
        }
        context.admission.check_filter(text).map_err(reason_code)?;
        if text.starts_with(consumer::PREFIX) {
            return self.join_consumer(text, qos, subscription_id);
        }
        if text.starts_with(stream::PREFIX) {
            // Events come from the log again and again, and each says its offset: QoS 2 would promise what replay takes back.
            return self.open_cursor(text, qos.min(QoS::AtLeastOnce), subscription_id, pace);
        }
        let grant = Grant {
            qos,
            no_local: options.no_local,
            retain_as_published: options.retain_as_published,
            subscription_id,
        };
        let outbox = self.outbox();
        self.context
            .live
            .change(|router| match shared {
                Some(inner) => router.join(text, inner, &outbox.client_id, outbox.clone(), grant),
                None => router.subscribe(outbox.id, outbox.clone(), filter, grant),
            })
            .map_err(|SubscribeError::TooDeep| ReasonCode::TopicFilterInvalid)?;
        self.subscriptions.make().insert(text.into());
        // A member of a group gets its messages from a backlog, whether or not its Session outlives the connection.
        self.is_member |= shared.is_some();
        if self.is_durable || shared.is_some() {
            let options = SubscribeOptions { qos, ..options };
            let entry = Entry::Subscribed {
                client_id: &self.claim.seat.client_id,
                filter: text,
                options: options.to_u8(),
                subscription_id,
            };
            stored.push(&entry).map_err(|_| ReasonCode::QuotaExceeded)?;
        }
        if shared.is_none() && sends_retained(options.retain_handling, is_new) {
            self.feed.retained.make().push_back(Retained::new(filter, grant));
        }
        Ok(qos)
    }

    fn open_cursor(
        &mut self,
        text: &str,
        qos: QoS,
        subscription_id: u32,
        pace: Option<&str>,
    ) -> Result<QoS, ReasonCode> {
        let address = match StreamAddress::parse(text, clock::unix_ms()) {
            Some(Ok(address)) => address,
            Some(Err(_)) | None => return Err(ReasonCode::TopicFilterInvalid),
        };
        let pace = match pace {
            Some(text) => Pace::parse(text).ok_or(ReasonCode::ImplementationSpecificError)?,
            None => self.context.settings.replay.get(address.name).copied().unwrap_or_default(),
        };
        let (engine, reader) = (&self.context.engine, &self.claim.seat.client_id);
        let cursor = StreamCursor::open(engine, reader, text, &address, qos, subscription_id)
            .ok_or(ReasonCode::TopicFilterInvalid)?
            .paced(pace);
        // The same filter again begins again [MQTT-3.8.4-3].
        let cursors = self.cursors.make();
        cursors.retain(|other| other.subscription != cursor.subscription);
        cursors.push(cursor);
        Ok(qos)
    }

    pub(super) fn unsubscribe(
        &mut self,
        unsubscribe: &Unsubscribe<'_>,
        stored: &mut Staging,
        batch: &mut ReadBatch,
        out: &mut Vec<u8>,
    ) {
        let mut codes = Vec::new();
        let staged_before = stored.len();
        for filter in unsubscribe.filters.iter() {
            codes.push(self.unsubscribe_one(filter, stored).as_u8());
        }
        let reply = Reply::UnsubAck(unsubscribe.packet_id, codes);
        self.reply_when_stored(reply, stored.len() > staged_before, batch, out);
    }

    fn unsubscribe_one(&mut self, filter: TopicFilter<'_>, stored: &mut Staging) -> ReasonCode {
        let text = filter.as_str();
        if self.close_cursor(text) || self.leave_consumer(text) {
            return ReasonCode::Success;
        }
        if !self.subscriptions.get_mut().is_some_and(|subscriptions| subscriptions.remove(text)) {
            return ReasonCode::NoSubscriptionExisted;
        }
        if let Some(outbox) = &self.outbox {
            self.context.live.change(|router| leave_filter(router, outbox, filter));
        }
        if self.is_durable || filter.is_shared() {
            let entry = Entry::Unsubscribed { client_id: &self.claim.seat.client_id, filter: text };
            if stored.push(&entry).is_err() {
                return ReasonCode::UnspecifiedError;
            }
        }
        ReasonCode::Success
    }

    /// Whether there was one.
    fn close_cursor(&mut self, text: &str) -> bool {
        let Some(cursors) = self.cursors.get_mut() else { return false };
        let before = cursors.len();
        cursors.retain(|cursor| *cursor.subscription != *text);
        cursors.len() < before
    }

    /// Whether the filter is in the live table for it.
    fn has_live(&self, text: &str) -> bool {
        self.subscriptions.get().is_some_and(|subscriptions| subscriptions.contains(text))
    }

    fn reply_when_stored(&mut self, reply: Reply, waits: bool, batch: &mut ReadBatch, out: &mut Vec<u8>) {
        if waits {
            batch.replies.push(reply);
        } else {
            self.reply(reply, out);
        }
    }

    pub(super) fn reply(&mut self, reply: Reply, out: &mut Vec<u8>) {
        match reply {
            Reply::SubAck(packet_id, codes) => {
                self.attach_member();
                self.session.suback(packet_id, &codes, out);
            }
            Reply::UnsubAck(packet_id, codes) => self.session.unsuback(packet_id, &codes, out),
            Reply::PubComp(packet_id) => self.session.handle_released(packet_id, out),
            Reply::PubRel(sequence) => self.session.handle_remembered(sequence, out),
        }
    }

    /// A connection whose Session is not durable has a backlog from its first membership of a group on.
    fn attach_member(&mut self) {
        if !self.is_member || self.durable.is_some() {
            return;
        }
        if let Some(durable) = self.context.engine.session(&self.claim.seat.client_id) {
            let start = durable.attach(self.claim.seat.waker());
            self.session.resume(start, []);
            self.durable = Some(Box::new(DurableFeed::new(durable, start)));
        }
    }

    /// Where live messages wait for it; there is none before it subscribes to any.
    fn outbox(&mut self) -> Arc<Outbox> {
        let (context, client_id) = (&self.context, &self.claim.seat.client_id);
        let outbox = self.outbox.get_or_insert_with(|| {
            context.outboxes.list(Outbox::new(
                context.outboxes.new_id(),
                client_id.clone(),
                self.is_durable,
                context.settings.outbox_bytes_max,
                context.when_full(self.listener, client_id),
                self.claim.seat.waker().clone(),
            ))
        });
        outbox.clone()
    }

    /// A durable session that is connected again is in the live table again, for what reaches it at QoS 0.
    pub(super) fn subscribe_live_again(&mut self) {
        let Some(durable) = &self.durable else { return };
        let subscriptions = durable.session.state().subscriptions.clone();
        if subscriptions.is_empty() {
            return;
        }
        let outbox = self.outbox();
        let known = self.subscriptions.make();
        self.context.live.change(|router| {
            for (text, grant) in subscriptions {
                if let Ok(filter) = TopicFilter::parse(&text) {
                    // It was not too deep when it was subscribed to.
                    let _ = match SharedFilter::parse(filter) {
                        Some(Ok(shared)) => {
                            router.join(&text, shared.filter, &outbox.client_id, outbox.clone(), grant)
                        }
                        Some(Err(_)) => Ok(false),
                        None => router.subscribe(outbox.id, outbox.clone(), filter, grant),
                    };
                }
                known.insert(text);
            }
        });
    }
}

/// Takes a connection's subscription out of the live table.
pub(super) fn leave_filter(
    router: &mut Router<Arc<Outbox>>,
    outbox: &Outbox,
    filter: TopicFilter<'_>,
) -> bool {
    match SharedFilter::parse(filter) {
        Some(Ok(shared)) => router.leave(filter.as_str(), shared.filter, &outbox.client_id),
        Some(Err(_)) => false,
        None => router.unsubscribe(outbox.id, filter),
    }
}
