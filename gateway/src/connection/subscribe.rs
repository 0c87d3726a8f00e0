//! SUBSCRIBE and UNSUBSCRIBE: which filter goes where, and what is granted.

use super::backlog::DurableFeed;
use super::consumer;
use super::feed::Retained;
use super::receive::{ReadBatch, Reply};
use super::task::Connection;
use crate::admission::reason_code;
use crate::clock;
use crate::decisions::{Action, Reason};
use crate::delivery::Outbox;
use crate::engine::sends_retained;
use crate::router::{Grant, Router, SubscribeError};
use crate::stream::{self, StreamAddress, StreamCursor};
use gateway_protocol::packet::{Subscribe, SubscribeOptions, Unsubscribe};
use gateway_protocol::{QoS, ReasonCode, SharedFilter, TopicFilter};
use gateway_storage::{Entry, Staging};
use std::sync::Arc;

impl Connection {
    pub(super) fn subscribe(
        &mut self,
        subscribe: &Subscribe<'_>,
        stored: &mut Staging,
        batch: &mut ReadBatch,
        out: &mut Vec<u8>,
    ) {
        let subscription_id = subscribe.properties.subscription_identifier().unwrap_or(0);
        let mut codes = Vec::with_capacity(subscribe.filters.len());
        let staged_before = stored.len();
        for (filter, options) in subscribe.filters.iter() {
            let subscribed = self.subscribe_one(filter, options, subscription_id, stored);
            if let Err(code) = subscribed {
                let reason = match code {
                    ReasonCode::QuotaExceeded => Reason::MaxSubscriptions,
                    _ if self.context.admission.check_filter(filter.as_str()).is_err() => {
                        Reason::FilterTooDeep
                    }
                    _ => Reason::FilterRefused,
                };
                self.context.decide(&self.client_id, filter.as_str(), Action::Refused, reason, 1);
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
        let known = self.subscriptions.contains(text)
            || self.cursors.iter().any(|cursor| *cursor.subscription == *text)
            || self.work.as_ref().is_some_and(|work| work.has(text));
        let working = self.work.as_ref().map_or(0, |work| work.count());
        let subscriptions = self.subscriptions.len() + self.cursors.len() + working;
        if !known && let Err(reason) = context.admission.check_subscriptions(subscriptions) {
            return Err(reason_code(reason));
        }
        context.admission.check_filter(text).map_err(reason_code)?;
        if text.starts_with(consumer::PREFIX) {
            return self.join_consumer(text, qos, subscription_id);
        }
        if text.starts_with(stream::PREFIX) {
            // Events come from the log again and again, and each says its offset: QoS 2 would promise what replay takes back.
            return self.open_cursor(text, qos.min(QoS::AtLeastOnce), subscription_id);
        }
        let grant = Grant {
            qos,
            no_local: options.no_local,
            retain_as_published: options.retain_as_published,
            subscription_id,
        };
        let is_new = !self.subscriptions.contains(text);
        context
            .live
            .change(|router| match shared {
                Some(inner) => router.join(text, inner, &self.client_id, self.outbox.clone(), grant),
                None => router.subscribe(self.outbox.id, self.outbox.clone(), filter, grant),
            })
            .map_err(|SubscribeError::TooDeep| ReasonCode::TopicFilterInvalid)?;
        self.subscriptions.insert(text.into());
        // A member of a group gets its messages from a backlog, whether or not its Session outlives the connection.
        self.is_member |= shared.is_some();
        if self.outbox.is_durable || shared.is_some() {
            let options = SubscribeOptions { qos, ..options };
            let entry = Entry::Subscribed {
                client_id: &self.client_id,
                filter: text,
                options: options.to_u8(),
                subscription_id,
            };
            stored.push(&entry).map_err(|_| ReasonCode::QuotaExceeded)?;
        }
        if shared.is_none() && sends_retained(options.retain_handling, is_new) {
            self.feed.retained.push_back(Retained::new(filter, grant));
        }
        Ok(qos)
    }

    fn open_cursor(&mut self, text: &str, qos: QoS, subscription_id: u32) -> Result<QoS, ReasonCode> {
        let address = match StreamAddress::parse(text, clock::unix_ms()) {
            Some(Ok(address)) => address,
            Some(Err(_)) | None => return Err(ReasonCode::TopicFilterInvalid),
        };
        let (engine, reader) = (&self.context.engine, &self.client_id);
        let cursor = StreamCursor::open(engine, reader, text, &address, qos, subscription_id)
            .ok_or(ReasonCode::TopicFilterInvalid)?;
        // The same filter again begins again [MQTT-3.8.4-3].
        self.cursors.retain(|other| other.subscription != cursor.subscription);
        self.cursors.push(cursor);
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
        let cursors = self.cursors.len();
        self.cursors.retain(|cursor| *cursor.subscription != *text);
        if self.cursors.len() < cursors || self.leave_consumer(text) {
            return ReasonCode::Success;
        }
        if !self.subscriptions.remove(text) {
            return ReasonCode::NoSubscriptionExisted;
        }
        self.context.live.change(|router| leave_filter(router, &self.outbox, filter));
        if self.outbox.is_durable || filter.is_shared() {
            let entry = Entry::Unsubscribed { client_id: &self.client_id, filter: text };
            if stored.push(&entry).is_err() {
                return ReasonCode::UnspecifiedError;
            }
        }
        ReasonCode::Success
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
        if let Some(durable) = self.context.engine.session(&self.client_id) {
            let start = durable.attach(self.outbox.waker());
            self.session.resume(start, []);
            self.durable = Some(Box::new(DurableFeed::new(durable, start)));
        }
    }

    /// A durable session that is connected again is in the live table again, for what reaches it at QoS 0.
    pub(super) fn subscribe_live_again(&mut self) {
        let Some(durable) = &self.durable else { return };
        let subscriptions = durable.session.state().subscriptions.clone();
        if subscriptions.is_empty() {
            return;
        }
        self.context.live.change(|router| {
            for (text, grant) in subscriptions {
                if let Ok(filter) = TopicFilter::parse(&text) {
                    // It was not too deep when it was subscribed to.
                    let _ = match SharedFilter::parse(filter) {
                        Some(Ok(shared)) => {
                            router.join(&text, shared.filter, &self.client_id, self.outbox.clone(), grant)
                        }
                        Some(Err(_)) => Ok(false),
                        None => router.subscribe(self.outbox.id, self.outbox.clone(), filter, grant),
                    };
                }
                self.subscriptions.insert(text);
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
