//! A batch on its way to live subscribers, and its frames, encoded once for all who get them in the same form.
//!
//! Where the batch holds the very packets that were received ([`gateway_storage::Verbatim`]), and a subscriber speaks the same version, those
//! are the frames. Otherwise the first subscriber that wants a form encodes it, the others copy. For a single subscriber that would be one
//! copy more than encoding straight into its output, so a shipment knows whether it has several.

use crate::spans::Spans;
use gateway_protocol::codec::varint_len;
use gateway_protocol::session::{FrameOf, Frames, FramesIn};
use gateway_protocol::{ProtocolVersion, QoS};
use gateway_storage::Batch;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

/// Bytes of a frame beside topic, properties and payload: header, lengths, identifier.
const FRAME_OVERHEAD: usize = 12;

/// Versions that are encoded apart (3.1.1 and 5) times QoS (0, and as published).
const FORMS: usize = 4;

/// Memory of all shipments there are, as [`Shipment::memory_bytes`] counts it.
static HELD_BYTES: AtomicUsize = AtomicUsize::new(0);

/// What waits in outboxes, in bytes: what several subscribers wait for together counts once.
#[must_use]
pub fn held_bytes() -> usize {
    HELD_BYTES.load(Ordering::Relaxed)
}

/// See the module documentation.
#[derive(Debug)]
pub struct Shipment {
    batch: Arc<Batch>,
    is_shared: bool,
    forms: [OnceLock<Option<Encoded>>; FORMS],
    /// Positions of the events that are traced, once somebody has asked.
    traced: OnceLock<Box<[usize]>>,
}

impl Drop for Shipment {
    fn drop(&mut self) {
        HELD_BYTES.fetch_sub(self.memory_bytes(), Ordering::Relaxed);
    }
}

#[derive(Debug)]
enum Encoded {
    /// In bytes of their own.
    Apart(Frames),
    /// Where they were received.
    Verbatim(Frames),
}

impl Shipment {
    /// For several subscribers.
    #[must_use]
    pub fn for_several(batch: Arc<Batch>) -> Self {
        Self::new(batch, true)
    }

    /// For one.
    #[must_use]
    pub fn for_one(batch: Arc<Batch>) -> Self {
        Self::new(batch, false)
    }

    fn new(batch: Arc<Batch>, is_shared: bool) -> Self {
        let shipment = Self { batch, is_shared, forms: Default::default(), traced: OnceLock::new() };
        HELD_BYTES.fetch_add(shipment.memory_bytes(), Ordering::Relaxed);
        shipment
    }

    /// The events.
    #[must_use]
    pub fn batch(&self) -> &Arc<Batch> {
        &self.batch
    }

    /// Memory it takes, in bytes: that of the batch, and as much again for frames where there may be some.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.batch.memory_bytes() * if self.is_shared { 2 } else { 1 }
    }

    /// A frame for every event, without properties of the delivery, as `version` has them at a granted QoS. `None` where each subscriber has
    /// to encode its own: there is only one, an event expires (what is left of its time differs from moment to moment), or it is of QoS 2
    /// and granted as such.
    #[must_use]
    pub fn frames(&self, version: ProtocolVersion, granted: QoS) -> Option<FramesIn<'_>> {
        // Whoever keeps packets names them by the level of their version.
        let is_verbatim = self.batch.form() == version.level();
        if !self.is_shared && !is_verbatim {
            return None;
        }
        let form = usize::from(version.is_v5()) * 2 + usize::from(granted != QoS::AtMostOnce);
        let encoded = self.forms.get(form)?.get_or_init(|| {
            let verbatim = is_verbatim.then(|| self.locate(version, granted)).flatten();
            verbatim.or_else(|| self.is_shared.then(|| self.encode(version, granted)).flatten())
        });
        match encoded.as_ref()? {
            Encoded::Verbatim(frames) => Some(frames.within(self.batch.bytes())),
            Encoded::Apart(frames) => {
                (granted != QoS::ExactlyOnce || !self.has_qos2()).then_some(frames.own())
            }
        }
    }

    /// Where, within `events`, the first one is that is traced; their end, if none is. Looked for once, for all subscribers.
    #[must_use]
    pub fn untraced_to(&self, spans: &Spans, events: &Range<usize>) -> usize {
        let traced = self.traced.get_or_init(|| {
            let is_traced = |at: &usize| {
                let event = self.batch.raw_event(*at);
                event.is_some_and(|event| spans.context_in(event.properties).is_some())
            };
            (0..self.batch.len()).filter(is_traced).collect()
        });
        let next = traced.partition_point(|at| *at < events.start);
        traced.get(next).map_or(events.end, |at| (*at).min(events.end))
    }

    fn has_qos2(&self) -> bool {
        (0..self.batch.len()).any(|at| self.batch.raw_event(at).is_some_and(|event| event.qos == 2))
    }

    /// The packets that were received, if all of them can be sent like that.
    fn locate(&self, version: ProtocolVersion, granted: QoS) -> Option<Encoded> {
        let mut frames = Frames::with_capacity(version, self.batch.len(), 0);
        for outline in self.batch.outlines() {
            let event = outline?;
            if event.expires_at_ms != 0 || event.qos > granted.as_u8() {
                return None;
            }
            let properties = match version.is_v5() {
                true => varint_len(event.properties_len) + event.properties_len,
                false => 0,
            };
            let behind_id = properties + event.payload_len;
            // A packet that is kept as it came is without DUP and RETAIN.
            let qos = QoS::try_from(event.qos).ok()?;
            frames.locate(event.start..event.end, qos, behind_id).then_some(())?;
        }
        Some(Encoded::Verbatim(frames))
    }

    fn encode(&self, version: ProtocolVersion, granted: QoS) -> Option<Encoded> {
        let events = self.batch.len();
        let mut frames =
            Frames::with_capacity(version, events, self.batch.byte_len() + events * FRAME_OVERHEAD);
        for at in 0..events {
            let event = self.batch.event(at)?;
            if event.expires_at_ms != 0 {
                return None;
            }
            let of = FrameOf {
                qos: QoS::try_from(event.qos).ok()?.min(granted),
                retain: false,
                topic: event.topic,
                properties: if version.is_v5() { event.properties } else { &[] },
                payload: event.payload,
            };
            if !frames.push(&of) {
                return None;
            }
        }
        Some(Encoded::Apart(frames))
    }
}
