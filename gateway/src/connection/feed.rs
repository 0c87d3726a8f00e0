//! What the client gets: from its outbox, from the streams it reads, (`backlog`) from its durable backlog, and (`consumer`) to work on.

use super::gather::Shared;
use super::metrics;
use super::seldom::Seldom;
use super::task::Connection;
use super::words::Why;
use crate::clock;
use crate::decisions::{Action, Reason};
use crate::delivery::{Parcel, Pick, Shipment};
use crate::engine::RetainedMessage;
use crate::router::Grant;
use crate::spans;
use crate::stream::Next;
use crate::sys_topics;
use gateway_protocol::property::{PropertiesBuf, Property};
use gateway_protocol::session::{Delivery, FramesIn, Sent};
use gateway_protocol::{QoS, TopicFilter};
use gateway_storage::{Batch, Event, Offset};
use std::collections::VecDeque;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::task::Context;

/// The feeding of one connection.
#[derive(Default)]
pub(super) struct Feed {
    /// The parcel under way.
    parcel: Option<Box<Unpacking>>,
    pub(super) extra: Seldom<PropertiesBuf>,
    /// Retained Messages for subscriptions just made.
    pub(super) retained: Seldom<VecDeque<Retained>>,
    pub(super) counts: metrics::Sent,
    /// Bytes of the write under way that are not in its buffer, but shared with others.
    pub(super) shared_bytes: usize,
    /// Received bytes that may hold whole packets.
    pub(super) has_unparsed: bool,
    /// The turn in which it last replayed something, under pressure.
    replay_turn: Option<NonZeroU64>,
    /// Others were let run before what has come is sent.
    pub(super) has_waited: bool,
    /// The connection is to be closed, and why.
    pub(super) failure: Option<Why>,
}

/// A parcel of which a part is done.
struct Unpacking {
    parcel: Parcel,
    /// The pick that is under way, how many events of it are done, and how many of the whole parcel.
    pick: usize,
    within: usize,
    done: usize,
}

impl Unpacking {
    const fn of(parcel: Parcel) -> Self {
        Self { parcel, pick: 0, within: 0, done: 0 }
    }

    /// The pick under way, and the positions of its events that are not done.
    fn rest(&self) -> Option<(&Pick, std::ops::Range<usize>)> {
        let pick = self.parcel.picks.get(self.pick)?;
        Some((pick, pick.first as usize + self.within..pick.end as usize))
    }

    fn advance(&mut self, events: usize) {
        self.within += events;
        self.done += events;
        if self.rest().is_some_and(|(_, events)| events.is_empty()) {
            (self.pick, self.within) = (self.pick + 1, 0);
        }
    }
}

/// The Retained Messages of one new subscription. The first in the queue has its list, references into the table; the others have their
/// filters, so that many subscriptions at once do not make many lists.
pub(super) struct Retained {
    filter: Box<str>,
    grant: Grant,
    found: Option<std::vec::IntoIter<Arc<RetainedMessage>>>,
    next: Option<Arc<RetainedMessage>>,
}

impl Retained {
    pub(super) fn new(filter: TopicFilter<'_>, grant: Grant) -> Self {
        Self { filter: filter.as_str().into(), grant, found: None, next: None }
    }

    /// The message to send next; the same one until [`Retained::advance`].
    fn next(&mut self, context: &super::Context) -> Option<Arc<RetainedMessage>> {
        if self.next.is_none() {
            let found = self.found.get_or_insert_with(|| find(context, &self.filter).into_iter());
            self.next = found.next();
        }
        self.next.clone()
    }

    fn advance(&mut self) {
        self.next = None;
    }
}

fn find(context: &super::Context, filter: &str) -> Vec<Arc<RetainedMessage>> {
    let Ok(filter) = TopicFilter::parse(filter) else { return Vec::new() };
    match filter.as_str().starts_with(sys_topics::PREFIX) {
        true => context.sys_topics.matching(filter),
        false => context.engine.retained(filter),
    }
}

impl Feed {
    /// No properties for the message that is next.
    pub(super) fn no_extra(&mut self) {
        if let Some(extra) = self.extra.get_mut() {
            extra.clear();
        }
    }

    /// Messages of the parcel under way that are not sent.
    pub(super) fn unfinished(&self) -> usize {
        self.parcel.as_ref().map_or(0, |unpacking| unpacking.parcel.len().saturating_sub(unpacking.done))
    }
}

/// What became of one message.
pub(super) enum Step {
    /// Done with; the next one.
    Done,
    /// The client takes no more now.
    Stop,
}

impl Connection {
    /// Fills `out` and `shared` up to the size of one write. Whether anything was done.
    pub(super) fn feed_client(
        &mut self,
        cx: &mut Context<'_>,
        out: &mut Vec<u8>,
        shared: &mut Shared,
    ) -> bool {
        let before = (out.len(), self.feed.counts);
        self.feed_retained(out);
        self.feed_live(out, shared);
        self.feed_durable(cx, out);
        self.feed_streams(cx, out);
        self.feed_work(cx, out);
        let moved = (out.len(), self.feed.counts) != before;
        self.feed.counts.report();
        self.feed.shared_bytes = 0;
        moved
    }

    pub(super) fn has_room(&self, out: &[u8]) -> bool {
        self.room(out) > 0
    }

    fn room(&self, out: &[u8]) -> usize {
        self.context.settings.write_bytes.saturating_sub(out.len() + self.feed.shared_bytes)
    }

    fn feed_retained(&mut self, out: &mut Vec<u8>) {
        while self.has_room(out)
            && let Some(mut retained) = self.feed.retained.get_mut().and_then(VecDeque::pop_front)
        {
            let Some(message) = retained.next(&self.context) else { continue };
            let grant = retained.grant;
            let published = QoS::try_from(message.event().qos).unwrap_or(QoS::AtMostOnce);
            let qos = published.min(grant.qos);
            // Above QoS 0 a durable session has them in its backlog.
            if !self.is_durable || qos == QoS::AtMostOnce {
                self.feed.no_extra();
                let ids: &[u32] = if grant.subscription_id == 0 { &[] } else { &[grant.subscription_id] };
                let how = How { qos, retain: true, dup: false, sequence: None, ids, origin: None };
                if matches!(self.deliver(&message.event(), &how, out), Step::Stop) {
                    self.feed.retained.make().push_front(retained);
                    return;
                }
                self.feed.counts.routed += 1;
            }
            retained.advance();
            self.feed.retained.make().push_front(retained);
        }
        if self.feed.retained.get().is_some_and(VecDeque::is_empty) {
            self.feed.retained.clear();
        }
    }

    fn feed_live(&mut self, out: &mut Vec<u8>, shared: &mut Shared) {
        while self.has_room(out) {
            let next = match self.feed.parcel.take() {
                Some(begun) => Some(*begun),
                None => self.outbox.as_ref().and_then(|outbox| outbox.pop()).map(Unpacking::of),
            };
            let Some(mut unpacking) = next else { return };
            let takes_more = self.unpack(&mut unpacking, out, shared);
            if unpacking.rest().is_none() {
                shared.hold(|| unpacking.parcel.shipment);
            } else {
                shared.hold(|| unpacking.parcel.shipment.clone());
                self.feed.parcel = Some(Box::new(unpacking));
            }
            if !takes_more {
                return;
            }
        }
    }

    /// Sends what there is room for. Whether the client takes more.
    fn unpack(&mut self, unpacking: &mut Unpacking, out: &mut Vec<u8>, shared: &mut Shared) -> bool {
        while let Some((pick, mut events)) = unpacking.rest() {
            let shipment = &*unpacking.parcel.shipment;
            if self.context.spans.is_on() {
                // What is traced goes by itself.
                events.end = shipment.untraced_to(&self.context.spans, &events);
            }
            let frames = match events.is_empty() {
                true => None,
                false => self.common_frames(shipment, pick),
            };
            let sent = match frames {
                Some(frames) => self.send_frames(frames, pick.granted, events, out, shared),
                None => usize::from(self.send_one(shipment, pick, events.start, out)),
            };
            unpacking.advance(sent);
            if sent == 0 || !self.has_room(out) {
                return false;
            }
        }
        true
    }

    /// The frames that this client gets like everybody else, if it does.
    fn common_frames<'s>(&self, shipment: &'s Shipment, pick: &Pick) -> Option<FramesIn<'s>> {
        if pick.subscription_ids.is_some() || pick.retain_as_published {
            return None;
        }
        let frames = shipment.frames(self.session.version(), pick.granted)?;
        self.session.takes_frames(frames).then_some(frames)
    }

    fn send_frames(
        &mut self,
        frames: FramesIn<'_>,
        granted: QoS,
        events: std::ops::Range<usize>,
        out: &mut Vec<u8>,
        shared: &mut Shared,
    ) -> usize {
        let room = self.room(out);
        // Whoever looks on sees what is in the buffer.
        if self.tap.is_none()
            && let Some((sent, place)) = self.session.pass_frames(frames, events.clone(), room)
        {
            let bytes = place.len();
            if bytes < Shared::BYTES_MIN {
                out.extend_from_slice(frames.bytes(place));
            } else {
                shared.push(out.len(), self.session.version(), granted, place);
                self.feed.shared_bytes += bytes;
            }
            self.feed.counts.sent_live(QoS::AtMostOnce, sent);
            return sent;
        }
        let (sent, in_flight) = self.session.handle_frames(frames, events, room, out);
        self.feed.counts.sent_live(QoS::AtMostOnce, sent - in_flight);
        self.feed.counts.sent_live(QoS::AtLeastOnce, in_flight);
        sent
    }

    /// Whether the message is dealt with; if not, the client takes no more now.
    fn send_one(&mut self, shipment: &Shipment, pick: &Pick, at: usize, out: &mut Vec<u8>) -> bool {
        let Some(event) = shipment.batch().event(at) else { return true };
        self.feed.no_extra();
        let how = How {
            qos: QoS::try_from(event.qos).unwrap_or(QoS::AtMostOnce).min(pick.granted),
            retain: pick.retain_as_published && event.retain,
            dup: false,
            sequence: None,
            ids: pick.subscription_ids.as_deref().unwrap_or_default(),
            origin: self.origin_in(shipment.batch(), at, &event),
        };
        matches!(self.deliver(&event, &how, out), Step::Done)
    }

    fn feed_streams(&mut self, cx: &mut Context<'_>, out: &mut Vec<u8>) {
        if self.cursors.get().is_none() {
            return;
        }
        let engine = self.context.engine.clone();
        let mut cursors = std::mem::take(&mut self.cursors);
        let (turn, pauses) = (self.context.replays.turn(), self.context.pressure.pauses_replay());
        let had_turn = self.feed.replay_turn == turn;
        let mut waits = false;
        cursors.make().retain_mut(|cursor| {
            if pauses && cursor.is_replaying(&engine) {
                waits = true;
                if had_turn {
                    return true;
                }
            }
            while self.has_room(out) && (cursor.qos == QoS::AtMostOnce || self.session.send_quota() > 0) {
                match cursor.poll_next(&engine, cx) {
                    Next::Wait => return true,
                    Next::Yield => {
                        cx.waker().wake_by_ref();
                        return true;
                    }
                    // The client sees its stream end; it can subscribe again from the offset after its last one.
                    Next::Failed => return false,
                    Next::Event(batch, index) => {
                        if !self.deliver_from_stream(cursor.qos, cursor.subscription_id, &batch, index, out) {
                            return true;
                        }
                        cursor.advance();
                    }
                }
            }
            true
        });
        if !cursors.make().is_empty() {
            self.cursors = cursors;
        }
        if !waits {
            self.feed.replay_turn = None;
        } else if !had_turn {
            self.feed.replay_turn = turn;
            self.context.replays.wait(cx.waker());
        }
    }

    /// False when the client takes no more now.
    fn deliver_from_stream(
        &mut self,
        granted: QoS,
        subscription_id: u32,
        batch: &Arc<Batch>,
        index: usize,
        out: &mut Vec<u8>,
    ) -> bool {
        let Some(event) = batch.event(index) else { return true };
        self.feed.no_extra();
        if self.session.version().is_v5()
            && let Some(offset) = batch.offset_of(index)
        {
            describe(self.feed.extra.make(), &event, offset, batch.time_ms(index));
        }
        let ids: &[u32] = if subscription_id == 0 { &[] } else { &[subscription_id] };
        // A stream is read at the QoS that was granted, whatever the event was published at: it was stored all the same.
        // It is routed by the very act of being sent.
        let origin = self.origin_in(batch, index, &event).map(|origin| Origin { routed_ms: None, ..origin });
        let how = How { qos: granted, retain: false, dup: false, sequence: None, ids, origin };
        let is_done = matches!(self.deliver(&event, &how, out), Step::Done);
        self.feed.counts.routed += u32::from(is_done);
        is_done
    }

    pub(super) fn deliver(&mut self, event: &Event<'_>, how: &How<'_>, out: &mut Vec<u8>) -> Step {
        let is_v5 = self.session.version().is_v5();
        if event.expires_at_ms != 0 {
            let left_ms = event.expires_at_ms.saturating_sub(clock::unix_ms());
            // A QoS 2 message that was sent is finished, however old it is [MQTT-4.3.3-7].
            let is_begun = how.dup && how.qos == QoS::ExactlyOnce;
            if left_ms == 0 && !is_begun {
                self.feed.counts.expired += 1; // [MQTT-3.3.2-5]
                self.context.decide(
                    self.client_id(),
                    event.topic,
                    Action::Expired,
                    Reason::MessageExpired,
                    1,
                );
                return Step::Done;
            }
            if is_v5 {
                let secs = u32::try_from(left_ms.div_ceil(1000)).unwrap_or(u32::MAX).max(1);
                let _ = self.feed.extra.make().push(Property::MessageExpiryInterval(secs)); // [MQTT-3.3.2-6]
            }
        }
        if is_v5 {
            for id in how.ids {
                let _ = self.feed.extra.make().push(Property::SubscriptionIdentifier(*id));
            }
        }
        let delivery = Delivery {
            qos: how.qos,
            retain: how.retain,
            dup: how.dup,
            sequence: how.sequence,
            topic: event.topic,
            extra: self.feed.extra.get().map_or(&[], |extra| extra.as_properties().raw()),
            properties: if is_v5 { event.properties } else { &[] },
            payload: event.payload,
        };
        let sequence = how.sequence.unwrap_or_else(|| self.session.next_live());
        let mut sent = self.session.handle_delivery(&delivery, out);
        if sent == Sent::TooLarge
            && let Some(properties) = spans::without_own(event)
        {
            sent = self.session.handle_delivery(&Delivery { properties, ..delivery }, out);
        }
        match sent {
            Sent::Written => {
                self.feed.counts.sent(how.qos, how.sequence.is_some());
                if let Some(origin) = &how.origin {
                    self.begin_delivery_span(event, how, origin, sequence);
                }
                Step::Done
            }
            Sent::TooLarge => {
                self.feed.counts.too_large += 1;
                self.context.decide(
                    self.client_id(),
                    event.topic,
                    Action::Dropped,
                    Reason::DeliveryTooLarge,
                    1,
                );
                Step::Done
            }
            Sent::QuotaExhausted | Sent::Closed => Step::Stop,
        }
    }
}

/// How one message is delivered.
pub(super) struct How<'a> {
    pub(super) qos: QoS,
    pub(super) retain: bool,
    pub(super) dup: bool,
    pub(super) sequence: Option<u64>,
    pub(super) ids: &'a [u32],
    /// For its span; `None` where nothing is traced, and for what has no span.
    pub(super) origin: Option<Origin<'a>>,
}

/// Where a message comes from, for its span.
#[derive(Clone, Copy, Default)]
pub(super) struct Origin<'a> {
    /// When it was routed to the client, in milliseconds since the Unix epoch; `None`: just now.
    pub(super) routed_ms: Option<u64>,
    pub(super) offset: Option<Offset>,
    /// The consumer, and the number of the attempt.
    pub(super) work: Option<(&'a str, u32)>,
}

/// Offset, time and publisher, for those who read a stream or work on it.
pub(super) fn describe(extra: &mut PropertiesBuf, event: &Event<'_>, offset: Offset, time_ms: u64) {
    let offset = offset.get().to_string();
    let time = clock::rfc_3339(time_ms);
    for (name, value) in [("offset", &*offset), ("time", &*time), ("publisher", event.client_id)] {
        // All three are short and without U+0000.
        let _ = extra.push(Property::UserProperty { name, value });
    }
}
