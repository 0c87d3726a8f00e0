//! W3C Trace Context in User Properties: who is traced, and what the span of its publish is called.
//!
//! A `traceparent` of the publisher's goes on to subscribers as it is. MQTT wants User Properties unaltered [MQTT-3.3.2-17], and so do
//! OpenTelemetry's conventions for messaging: what a message was created in belongs to its producer, not to what it passes on its way. A subscriber
//! is thus tied to the publisher, whether or not it knows of the gateway. A publish without one that is sampled here gets one, with the
//! gateway's span as the parent, since there is no other that its subscribers could be tied to.
//!
//! The identifier of a publish's span follows from the event itself (its context, publisher, topic, time and content, by SHA-256). So whoever
//! delivers the event, today or after a restart, knows under which span that belongs, though the property does not say it.

use gateway_protocol::property::{PropertiesBuf, Property, PropertyError};
use gateway_storage::Event;
use sha2::{Digest, Sha256};
use std::fmt::Write;

/// The User Property that names a trace, and the span that caused this message.
pub const TRACEPARENT: &str = "traceparent";
/// The User Property with what tracing systems say beside that.
pub(super) const TRACESTATE: &str = "tracestate";

/// Version, trace, parent and flags: `00-<32>-<16>-<2>`.
const VALUE_BYTES: usize = 55;
/// The property in wire form: its number, and two strings with their lengths.
const PROPERTY_BYTES: usize = 1 + 2 + TRACEPARENT.len() + 2 + VALUE_BYTES;
/// Bytes of a payload that a span's identifier goes by, beside its length.
const PAYLOAD_BYTES: usize = 256;
const SAMPLED: u8 = 1;

/// Names a span within its trace; not all zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SpanId(pub [u8; 8]);

impl SpanId {
    pub(super) fn new(number: u64) -> Self {
        Self(number.max(1).to_be_bytes())
    }
}

/// What a `traceparent` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceContext {
    /// Names the trace; not all zeros.
    pub trace_id: [u8; 16],
    /// The span that caused the message.
    pub parent: SpanId,
    flags: u8,
}

impl TraceContext {
    /// Reads a value; `None` where it is none. Later versions are read as far as this one goes.
    #[must_use]
    pub fn parse(value: &[u8]) -> Option<Self> {
        let (head, rest) = value.split_at_checked(VALUE_BYTES)?;
        let [version] = hex(head.get(..2)?)?;
        let dashes = [2, 35, 52].iter().all(|at| head.get(*at) == Some(&b'-'));
        let is_whole = rest.is_empty() || (version != 0 && rest.first() == Some(&b'-'));
        if version == 0xff || !dashes || !is_whole {
            return None;
        }
        let (trace_id, parent) = (hex::<16>(head.get(3..35)?)?, hex::<8>(head.get(36..52)?)?);
        let [flags] = hex(head.get(53..)?)?;
        (trace_id != [0; 16] && parent != [0; 8]).then_some(Self { trace_id, parent: SpanId(parent), flags })
    }

    /// A trace that begins with the publish of `event`, whose span is its parent.
    pub(super) fn begin(high: u64, low: u64, event: &Event<'_>) -> Self {
        let trace_id = ((u128::from(high) << 64) | u128::from(low)).max(1).to_be_bytes();
        Self { trace_id, parent: span_id(&trace_id, None, event), flags: SAMPLED }
    }

    /// For what is sent on from the span `parent`.
    pub(super) const fn of_span(trace_id: [u8; 16], parent: SpanId) -> Self {
        Self { trace_id, parent, flags: SAMPLED }
    }

    pub(super) const fn is_sampled(&self) -> bool {
        self.flags & SAMPLED != 0
    }

    /// The bits that sampling by ratio goes by: the last seven bytes.
    pub(super) const fn random_bits(&self) -> u64 {
        u128::from_be_bytes(self.trace_id) as u64
    }

    /// The span of the publish of `event`, in which this was found.
    pub(super) fn publish_span(&self, event: &Event<'_>) -> SpanId {
        match self.is_of_the_gateway(event) {
            true => self.parent,
            false => span_id(&self.trace_id, Some(self.parent), event),
        }
    }

    /// It was made here, not by the publisher.
    fn is_of_the_gateway(&self, event: &Event<'_>) -> bool {
        self.parent == span_id(&self.trace_id, None, event)
    }

    /// As it stands in a User Property.
    #[must_use]
    pub fn to_value(self) -> String {
        let mut value = String::with_capacity(VALUE_BYTES);
        value.push_str("00-");
        push_hex(&mut value, &self.trace_id);
        value.push('-');
        push_hex(&mut value, &self.parent.0);
        value.push('-');
        push_hex(&mut value, &[self.flags]);
        value
    }

    /// Puts it behind `properties`.
    ///
    /// # Errors
    /// There is no room in a packet for any more properties.
    pub fn append(self, properties: &mut PropertiesBuf) -> Result<(), PropertyError> {
        properties.push(Property::UserProperty { name: TRACEPARENT, value: &self.to_value() })
    }
}

/// The properties of `event` as its publisher sent them, where the last one was made here: for a client that takes no packet as large as
/// the event has become by it.
#[must_use]
pub fn without_own<'a>(event: &Event<'a>) -> Option<&'a [u8]> {
    let (before, last) =
        event.properties.split_at_checked(event.properties.len().checked_sub(PROPERTY_BYTES)?)?;
    let (head, value) = last.split_at_checked(PROPERTY_BYTES - VALUE_BYTES)?;
    let is_the_property = head.get(3..3 + TRACEPARENT.len()) == Some(TRACEPARENT.as_bytes());
    let context = TraceContext::parse(value).filter(|_| is_the_property)?;
    context.is_of_the_gateway(event).then_some(before)
}

fn span_id(trace_id: &[u8; 16], parent: Option<SpanId>, event: &Event<'_>) -> SpanId {
    let mut hash = Sha256::new();
    hash.update(trace_id);
    hash.update(parent.map_or([0; 8], |parent| parent.0));
    hash.update(event.received_ms.to_le_bytes());
    for (bytes, len) in [
        (event.client_id.as_bytes(), event.client_id.len()),
        (event.topic.as_bytes(), event.topic.len()),
        (event.payload.get(..PAYLOAD_BYTES).unwrap_or(event.payload), event.payload.len()),
    ] {
        // The length sets what follows apart.
        hash.update((len as u64).to_le_bytes());
        hash.update(bytes);
    }
    let digest: [u8; 32] = hash.finalize().into();
    SpanId::new(digest.first_chunk().map_or(1, |bytes| u64::from_be_bytes(*bytes)))
}

/// Hexadecimal digits in lower case, two for each byte.
fn hex<const N: usize>(digits: &[u8]) -> Option<[u8; N]> {
    let digit = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; N];
    let (pairs, rest) = digits.as_chunks::<2>();
    if pairs.len() != N || !rest.is_empty() {
        return None;
    }
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        *byte = digit(*high)? << 4 | digit(*low)?;
    }
    Some(bytes)
}

fn push_hex(text: &mut String, bytes: &[u8]) {
    for byte in bytes {
        // Writing into a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VALID: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn event<'a>(properties: &'a [u8], payload: &'a [u8]) -> Event<'a> {
        Event {
            client_id: "meter",
            topic: "devices/meter/out",
            qos: 1,
            retain: false,
            received_ms: 1_700_000_000_123,
            expires_at_ms: 0,
            properties,
            payload,
        }
    }

    #[test]
    fn a_context_is_read_and_written_back() {
        let context = TraceContext::parse(VALID.as_bytes()).unwrap();
        assert!(context.is_sampled());
        assert_eq!(context.parent, SpanId([0, 0xf0, 0x67, 0xaa, 0x0b, 0xa9, 0x02, 0xb7]));
        assert_eq!(context.to_value(), VALID);
        assert!(!TraceContext::parse(VALID.replace("-01", "-02").as_bytes()).unwrap().is_sampled());
        assert!(TraceContext::parse(VALID.replace("-01", "-03").as_bytes()).unwrap().is_sampled());
    }

    #[test]
    fn a_later_version_is_read_as_far_as_this_one_goes() {
        for later in [VALID.replacen("00", "cc", 1), VALID.replacen("00", "01", 1) + "-what-will-be"] {
            assert!(TraceContext::parse(later.as_bytes()).is_some(), "{later}");
        }
    }

    #[test]
    fn what_is_no_context_is_none() {
        for wrong in [
            String::new(),
            VALID[..54].into(),
            VALID.to_uppercase(),
            VALID.replace('-', "_"),
            VALID.replacen("00", "ff", 1),
            VALID.to_owned() + "-",
            VALID.replacen("00", "01", 1) + "x",
            VALID.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32)),
            VALID.replace("00f067aa0ba902b7", &"0".repeat(16)),
            VALID.replace("4b", "4g"),
            VALID.replace("-01", "-+1"),
        ] {
            assert_eq!(TraceContext::parse(wrong.as_bytes()), None, "{wrong}");
        }
    }

    #[test]
    fn the_span_of_a_publish_follows_from_the_event_alone() {
        let theirs = TraceContext::parse(VALID.as_bytes()).unwrap();
        let span = theirs.publish_span(&event(&[], b"1"));
        assert_eq!(span, theirs.publish_span(&event(b"whatever", b"1")));
        assert_ne!(span, theirs.parent);
        assert_ne!(span, theirs.publish_span(&event(&[], b"2")));
        assert_ne!(span, theirs.publish_span(&Event { received_ms: 1, ..event(&[], b"1") }));
        assert_ne!(span, theirs.publish_span(&Event { topic: "devices/meter", ..event(&[], b"1") }));

        let ours = TraceContext::begin(7, 8, &event(&[], b"1"));
        assert_eq!(ours.publish_span(&event(&[], b"1")), ours.parent);
        let handed_on = Event { client_id: "bridge", ..event(&[], b"1") };
        assert_ne!(ours.publish_span(&handed_on), ours.parent, "another gateway's, or a copy");
    }

    #[test]
    fn what_was_added_here_is_taken_off_again_and_nothing_else() {
        let mut list = PropertiesBuf::new();
        list.push(Property::ContentType("json")).unwrap();
        let bare = list.as_properties().raw().to_vec();
        TraceContext::begin(7, 8, &event(&[], b"1")).append(&mut list).unwrap();
        assert_eq!(list.as_properties().raw().len(), bare.len() + PROPERTY_BYTES);
        assert_eq!(without_own(&event(list.as_properties().raw(), b"1")), Some(&bare[..]));

        let mut list = PropertiesBuf::new();
        list.push(Property::UserProperty { name: TRACEPARENT, value: VALID }).unwrap();
        assert_eq!(without_own(&event(list.as_properties().raw(), b"1")), None, "the publisher's");
        assert_eq!(without_own(&event(&bare, b"1")), None);
        assert_eq!(without_own(&event(&[b'x'; 200], b"1")), None);
    }
}
