//! From a publish to where it has to go: the log, the live subscribers, or a refusal.
//!
//! A connection borrows an [`Ingest`] for the length of one read, stages every publish of that read into it, and hands on both
//! batches at the end: one submit, one dispatch, whatever the number of messages. Caches and buffers belong to it, and there are as
//! many of them as threads, so that a connection owns none.
//!
//! Refuses to know: sockets, acknowledgements (the caller has the ticket), and who subscribes.

use crate::decisions::Reason;
use crate::engine::{Engine, Interest, NamedEvents, Novelty};
use crate::router::{RouteCache, Ways};
use crate::spans::context::TraceContext;
use gateway_protocol::codec::{topics_ahead, varint_len};
use gateway_protocol::packet::Publish;
use gateway_protocol::property::{PropertiesBuf, PropertyId};
use gateway_protocol::{ProtocolVersion, QoS, ReasonCode};
use gateway_storage::verbatim::{Fields, Traits};
use gateway_storage::{Batch, Event, StageError, Staging, Verbatim};
use std::sync::Arc;

/// The first byte of a PUBLISH at QoS 0.
const PUBLISH: u8 = 0x30;

/// Topics whose takers one worker remembers.
const TOPICS_CACHED: usize = 131_072;

/// Whose publishes are being taken.
#[derive(Clone, Copy, Debug)]
pub struct Publisher<'a> {
    /// The Client Identifier.
    pub client_id: &'a Arc<str>,
    /// The version its packets are of.
    pub version: ProtocolVersion,
    /// Publishes of this client are on their way to the log, under this routing ([`Engine::interest_epoch`]). Where that is not the one in
    /// force, later ones go the same way, whoever wants them, so that no message overtakes another on its topic.
    pub stored_under: Option<u64>,
    /// The trace of the publish at hand, where its publisher does not say it: it travels on with the event.
    pub trace: Option<TraceContext>,
}

/// Where a publish went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Staged for the log: to be acknowledged from a receipt.
    Stored,
    /// Staged for live subscribers: to be acknowledged at once.
    Live,
    /// Nobody wants it: to be acknowledged at once, and forgotten.
    Unwanted,
    /// Stored already, under the name its publisher gave it: to be acknowledged at once, and forgotten.
    Duplicate,
    /// An event of the same name is on its way to the log: to be acknowledged once that one is stored, see [`Ingest::named`].
    DuplicateOnItsWay,
    /// Not taken.
    Refused(Refusal),
}

/// Why a publish is not taken. One closed list, with a Reason Code for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// A topic that clients may not publish to: it begins with `$`.
    ReservedTopic,
    /// Too large for the log.
    TooLarge,
    /// No more Retained Messages are kept.
    RetainedFull,
    /// Its payload is larger than is taken here.
    PayloadTooLarge,
}

impl Refusal {
    /// What the client is told.
    #[must_use]
    pub const fn reason_code(self) -> ReasonCode {
        match self {
            Self::ReservedTopic => ReasonCode::TopicNameInvalid,
            Self::TooLarge | Self::RetainedFull | Self::PayloadTooLarge => ReasonCode::QuotaExceeded,
        }
    }

    /// As the decision log has it.
    #[must_use]
    pub const fn reason(self) -> Reason {
        match self {
            Self::ReservedTopic => Reason::ReservedTopic,
            Self::TooLarge => Reason::TooLarge,
            Self::RetainedFull => Reason::RetainedFull,
            Self::PayloadTooLarge => Reason::PayloadTooLarge,
        }
    }
}

/// Where the live subscribers of a topic are; the router of the delivery side answers it.
pub trait LiveInterest {
    /// To all who want a topic.
    type Way: Clone + PartialEq;
    /// Changes whenever an answer may have changed.
    fn epoch(&self) -> u64;
    /// The way to those who want `topic`; `None` if nobody does.
    fn way(&self, topic: &str) -> Option<Self::Way>;
    /// Whether both are one; it may say no of equal ones.
    fn is_same(one: &Self::Way, other: &Self::Way) -> bool;
}

/// Stages publishes. One for each thread and gateway.
pub struct Ingest<W> {
    takers: RouteCache<Takers<W>>,
    /// For the log. What is left in it after the read belongs to the caller.
    pub stored: Staging,
    /// The named ones among what the read has brought for the log. They belong to the caller, too.
    pub named: Option<Box<NamedEvents>>,
    live: Live,
    /// Where the events in it go.
    ways: Ways<W>,
    properties: PropertiesBuf,
    limits: Limits,
}

/// Bounds of what is taken.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Topics that have a Retained Message.
    pub retained_messages_max: u64,
    /// Bytes that all Retained Messages cost.
    pub retained_bytes_max: u64,
    /// Bytes of a payload.
    pub payload_bytes_max: usize,
}

#[derive(Clone, Debug, PartialEq)]
struct Takers<W> {
    durable: Interest,
    /// Not asked for where the log takes everything.
    live: Option<W>,
}

impl<W: Clone + PartialEq> Ingest<W> {
    /// Empty caches and buffers.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            takers: RouteCache::new(TOPICS_CACHED),
            stored: Staging::new(),
            named: None,
            live: Live::default(),
            ways: Ways::default(),
            properties: PropertiesBuf::new(),
            limits,
        }
    }

    /// Stages one publish, received as `packet`. `now_ms` is the time of the read, since the Unix epoch.
    #[inline]
    pub fn publish<L: LiveInterest<Way = W>>(
        &mut self,
        engine: &Engine,
        live: &L,
        publisher: Publisher<'_>,
        publish: &Publish<'_>,
        packet: &[u8],
        now_ms: u64,
    ) -> Outcome {
        if publish.topic.starts_with('$') {
            return Outcome::Refused(Refusal::ReservedTopic);
        }
        if publish.payload.len() > self.limits.payload_bytes_max {
            return Outcome::Refused(Refusal::PayloadTooLarge);
        }
        let identity = engine.identity(publisher.client_id, publish.properties.raw());
        if let Some(identity) = identity {
            match engine.novelty(identity, now_ms) {
                Novelty::New => {}
                Novelty::Stored => return Outcome::Duplicate,
                Novelty::OnItsWay { received_ms } => {
                    if publish.qos != QoS::AtMostOnce {
                        self.named(engine).wait_for(identity, received_ms);
                    }
                    return Outcome::DuplicateOnItsWay;
                }
            }
        }
        if publish.retain && !self.may_retain(engine, publish) {
            return Outcome::Refused(Refusal::RetainedFull);
        }
        let live_epoch = live.epoch();
        // Both epochs only ever grow, so their sum changes when either does.
        let epoch = engine.interest_epoch().wrapping_add(live_epoch);
        let find = || {
            let durable = engine.interest(publish.topic);
            let goes_by_the_log = durable.is_durable(QoS::AtMostOnce);
            Takers { durable, live: if goes_by_the_log { None } else { live.way(publish.topic) } }
        };
        let ways = &mut self.ways;
        let (is_stored, is_live) = self.takers.with(epoch, publish.topic.as_bytes(), find, |takers| {
            let is_stored = takers.durable.is_durable(publish.qos) || publish.retain || {
                // Asked behind the look into the table, which may have changed while that was looked into.
                publisher.stored_under.is_some_and(|epoch| epoch != engine.interest_epoch())
            };
            if let (Some(way), false) = (&takers.live, is_stored) {
                ways.push(live_epoch, publish.qos, way, L::is_same);
            }
            (is_stored, takers.live.is_some())
        });
        if !is_stored && !is_live {
            return Outcome::Unwanted;
        }
        let expires_at_ms = match publish.properties.message_expiry_interval() {
            Some(secs) => now_ms.saturating_add(u64::from(secs).saturating_mul(1000)).max(1),
            None => 0,
        };
        let goes_on = publisher.trace.is_none() && goes_on(publish);
        if !is_stored && goes_on {
            let traits =
                Traits { qos: publish.qos as u8, retain: publish.retain, received_ms: now_ms, expires_at_ms };
            if self.live.keep_packet(&publisher, publish, traits, packet) {
                return Outcome::Live;
            }
        }
        self.properties.clear();
        let event = Event {
            client_id: publisher.client_id,
            topic: publish.topic,
            qos: publish.qos as u8,
            retain: publish.retain,
            received_ms: now_ms,
            expires_at_ms,
            properties: if goes_on {
                publish.properties.raw()
            } else {
                forwarded(publish, publisher.trace, &mut self.properties)
            },
            payload: publish.payload,
        };
        if is_stored {
            if self.stored.push_event(&event).is_err() {
                return Outcome::Refused(Refusal::TooLarge);
            }
            if let Some(identity) = identity {
                self.named(engine).stage(identity, now_ms);
            }
            return Outcome::Stored;
        }
        if self.live.keep_event(&event).is_err() {
            self.ways.spoil();
            return Outcome::Refused(Refusal::TooLarge);
        }
        Outcome::Live
    }

    /// Bytes of packets that are about to be published, where it is time to look ahead in them.
    #[inline]
    pub fn look_ahead(&mut self, packets: &[u8]) {
        if self.takers.wants_to_look_ahead() {
            self.takers.look_ahead(topics_ahead(packets));
        }
    }

    fn named(&mut self, engine: &Engine) -> &mut NamedEvents {
        self.named.get_or_insert_with(|| Box::new(engine.named_events()))
    }

    /// A topic that has no Retained Message yet needs room for one; replacing and removing need none.
    fn may_retain(&self, engine: &Engine, publish: &Publish<'_>) -> bool {
        let (count, bytes) = engine.retained_size();
        let has_room = count < self.limits.retained_messages_max
            && bytes + ((publish.topic.len() + publish.payload.len()) as u64)
                <= self.limits.retained_bytes_max;
        has_room || publish.payload.is_empty() || engine.is_retained(publish.topic)
    }

    /// What live subscribers get of this read, if anything, and where to.
    pub fn take_live(&mut self) -> Option<(Arc<Batch>, &mut Ways<W>)> {
        let batch = self.live.take()?;
        Some((Arc::new(batch), &mut self.ways))
    }
}

/// What a read brings for live subscribers: packets as they came, or, from the first on that cannot go on like that, events.
#[derive(Default)]
struct Live {
    packets: Verbatim,
    events: Staging,
}

impl Live {
    /// Keeps a packet for live subscribers as it came, without DUP and RETAIN; false where that is not possible.
    #[inline]
    fn keep_packet(
        &mut self,
        publisher: &Publisher<'_>,
        publish: &Publish<'_>,
        traits: Traits,
        packet: &[u8],
    ) -> bool {
        if !self.events.is_empty() {
            return false;
        }
        let properties_len = publish.properties.raw().len();
        let identifier = if traits.qos == 0 { 0 } else { 2 };
        let length = if publisher.version.is_v5() { varint_len(properties_len) } else { 0 };
        let Some(properties_at) = packet.len().checked_sub(publish.payload.len() + properties_len) else {
            return false;
        };
        let Some(topic_at) = properties_at.checked_sub(length + identifier + publish.topic.len()) else {
            return false;
        };
        let fields = Fields {
            topic_at,
            topic_len: publish.topic.len(),
            properties_at,
            properties_len,
            payload_len: publish.payload.len(),
        };
        if self.packets.is_empty() {
            self.packets.begin(publisher.client_id.clone(), publisher.version.level());
        }
        self.packets.push(packet, PUBLISH | (traits.qos << 1), &fields, &traits)
    }

    /// Keeps an event for live subscribers. What was kept as packets goes before it, in the same form: a read is one batch, in order.
    fn keep_event(&mut self, event: &Event<'_>) -> Result<(), StageError> {
        if !self.packets.is_empty() {
            let packets = self.packets.take_batch();
            for event in (0..packets.len()).filter_map(|at| packets.event(at)) {
                self.events.push_event(&event)?;
            }
        }
        self.events.push_event(event)
    }

    fn take(&mut self) -> Option<Batch> {
        if !self.packets.is_empty() {
            return Some(self.packets.take_batch());
        }
        (!self.events.is_empty()).then(|| self.events.take_batch())
    }
}

/// Whether a property belongs to this connection, or, as the expiry, has to be computed anew for each delivery.
const fn ends_here(id: PropertyId) -> bool {
    matches!(
        id,
        PropertyId::MessageExpiryInterval | PropertyId::TopicAlias | PropertyId::SubscriptionIdentifier
    )
}

/// Whether all properties travel on with the message.
#[inline]
fn goes_on(publish: &Publish<'_>) -> bool {
    publish.properties.is_empty() || !publish.properties.encoded().any(|property| ends_here(property.id))
}

/// The properties that travel on with the message, in wire form, and the trace that it is on, where it is on one that it does not name.
fn forwarded<'a>(
    publish: &Publish<'_>,
    trace: Option<TraceContext>,
    scratch: &'a mut PropertiesBuf,
) -> &'a [u8] {
    // They were decoded from a legal packet, so they can be written again; were they not, the message travels without.
    let _ = scratch.extend_filtered(publish.properties, |id| !ends_here(id));
    if let Some(trace) = trace {
        // Where there is no room for more properties, the trace ends here.
        let _ = trace.append(scratch);
    }
    scratch.as_properties().raw()
}
