//! One connection of a benchmark: what it publishes or counts, on a link of the lean client.

use std::collections::VecDeque;
use std::ops::Range;

use gateway_protocol::codec::{PublishFrame, encode_puback, encode_publish};
use gateway_protocol::packet::{Packet, Subscribe, SubscribeFiltersBuf, SubscribeOptions};
use gateway_protocol::{PacketId, Properties, ProtocolVersion, QoS, ReasonCode, TopicFilter, encode};
use hdrhistogram::Histogram;

use super::{LeanError, NUMBER, Role, Wanted};
use crate::lean::link::{Broken, Introduction, Link, State, WRITE_BYTES, next_packet};
use crate::lean::poller::{Poller, Ready};
use crate::lean::transport::Dial;

/// What a client tells the broker it takes unacknowledged.
const RECEIVE_MAXIMUM: u16 = 1024;
/// Longer than any run, so that nobody has to ping; not every broker takes "never".
const KEEP_ALIVE_SECS: u16 = u16::MAX;
/// The Packet Identifier of the one SUBSCRIBE.
const SUBSCRIBE_ID: u16 = 1;
/// How often a client that is told to come again does so.
const REFUSALS_MAX: u32 = 50;

/// What one read brought.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Progress {
    pub(super) acknowledged: u64,
    pub(super) delivered: u64,
    /// It became ready.
    pub(super) is_ready: bool,
    /// The broker has no room for it now, and says that it may come again.
    pub(super) comes_again: bool,
}

/// See the module documentation.
pub(super) struct Connection {
    link: Link,
    token: u64,
    pub(super) wanted: Wanted,
    template: Template,
    /// When what is unacknowledged was due, oldest first.
    unacknowledged: VecDeque<u64>,
    next_id: u16,
    /// How often it was told to come again.
    refusals: u32,
}

/// Latencies in nanoseconds, recorded while it is time to.
pub(super) struct Recorder {
    pub(super) now: u64,
    pub(super) on: bool,
    pub(super) acknowledgement: Histogram<u64>,
    pub(super) delivery: Histogram<u64>,
}

/// A PUBLISH with room for its Packet Identifier and the time at the front of its payload.
#[derive(Default)]
struct Template {
    bytes: Vec<u8>,
    packet_id_at: Option<usize>,
    payload_at: usize,
    /// Where the number of the topic is, the numbers, and which is next.
    turning: Option<(usize, Range<u32>, u32)>,
}

impl Connection {
    /// Begins to connect, the `token`th of its worker.
    pub(super) fn open(
        dialer: &dyn Dial,
        poller: &Poller,
        token: u64,
        wanted: Wanted,
        payload_bytes: usize,
    ) -> Result<Self, LeanError> {
        let template = match &wanted.role {
            Role::Publisher { topic, topics, qos, .. } => {
                let mut template = Template::new(topic, *qos, wanted.version, payload_bytes)?;
                template.turn(topic, topics);
                template
            }
            _ => Template::default(),
        };
        let mut connection = Self {
            link: Link::new(wanted.version),
            token,
            wanted,
            template,
            unacknowledged: VecDeque::new(),
            next_id: 1,
            refusals: 0,
        };
        connection.connect(dialer, poller)?;
        Ok(connection)
    }

    /// Begins to connect anew, after it was told to come again.
    pub(super) fn connect(&mut self, dialer: &dyn Dial, poller: &Poller) -> Result<(), LeanError> {
        self.link = Link::new(self.wanted.version);
        self.link.open(dialer, 0, poller, self.token).map_err(|source| self.broken(source))
    }

    /// Writes what the socket takes; when it takes no more, the poller says when it does.
    pub(super) fn flush(&mut self, poller: &Poller) -> Result<(), LeanError> {
        self.link.flush(poller, self.token, 0).map_err(|source| self.broken(source))
    }

    /// The poller has nothing more to tell of it: it is read from time to time.
    pub(super) fn unwatch(&mut self, poller: &Poller) -> Result<(), LeanError> {
        self.link.unwatch(poller).map_err(|source| self.broken(source))
    }

    /// Something happened to it: says CONNECT once it is there, and takes in one read of at most `buffer.len()` bytes.
    pub(super) fn take_in(
        &mut self,
        ready: Ready,
        buffer: &mut [u8],
        recorder: &mut Recorder,
    ) -> Result<Progress, LeanError> {
        let mut progress = Progress::default();
        let done = self.try_take_in(ready, buffer, recorder, &mut progress);
        done.map(|()| progress)
    }

    fn try_take_in(
        &mut self,
        ready: Ready,
        buffer: &mut [u8],
        recorder: &mut Recorder,
        progress: &mut Progress,
    ) -> Result<(), LeanError> {
        if ready.writable && self.link.state == State::Opening {
            let who = Introduction {
                client_id: &self.wanted.client_id,
                durable: matches!(self.wanted.role, Role::Subscriber { durable: true, .. }),
                keep_alive_secs: KEEP_ALIVE_SECS,
                receive_maximum: Some(RECEIVE_MAXIMUM),
                will: None,
            };
            let opened = self.link.opened(&who);
            opened.map_err(|source| self.broken(source))?;
        }
        if !ready.readable {
            return Ok(());
        }
        let Some(count) = self.link.read(buffer).map_err(|source| self.broken(source))? else {
            return Ok(());
        };
        let mut bytes = buffer.get(..count).unwrap_or_default();
        while let Some(packet) =
            next_packet(&mut bytes, self.wanted.version).map_err(|source| self.broken(source))?
        {
            self.handle(&packet, progress, recorder)?;
        }
        if progress.comes_again {
            self.link.leave();
            self.link.state = State::Resting;
            return Ok(());
        }
        self.link.keep(bytes);
        Ok(())
    }

    fn handle(
        &mut self,
        packet: &Packet<'_>,
        progress: &mut Progress,
        recorder: &mut Recorder,
    ) -> Result<(), LeanError> {
        match packet {
            Packet::Publish(publish) => {
                progress.delivered += 1;
                if recorder.on
                    && let Some((due, _)) = publish.payload.split_first_chunk::<8>()
                {
                    let latency = recorder.now.saturating_sub(u64::from_le_bytes(*due));
                    recorder.delivery.saturating_record(latency);
                }
                if let Some(packet_id) = publish.packet_id {
                    encode_puback(packet_id, ReasonCode::Success, self.wanted.version, &mut self.link.out);
                }
            }
            Packet::PubAck(ack) => {
                if ack.reason_code.is_error() {
                    return Err(self.refused("a PUBLISH", ack.reason_code));
                }
                progress.acknowledged += 1;
                if let Some(due) = self.unacknowledged.pop_front()
                    && recorder.on
                {
                    recorder.acknowledgement.saturating_record(recorder.now.saturating_sub(due));
                }
            }
            Packet::ConnAck(connack) if is_for_now(connack.reason_code) && self.refusals < REFUSALS_MAX => {
                self.refusals += 1;
                progress.comes_again = true;
            }
            Packet::ConnAck(connack) => {
                if connack.reason_code.is_error() {
                    return Err(self.refused("the CONNECT", connack.reason_code));
                }
                if let Role::Subscriber { filters, qos, .. } = &self.wanted.role {
                    put_subscribe(filters, *qos, self.wanted.version, &mut self.link.out)?;
                    self.link.state = State::Subscribing;
                } else {
                    self.link.state = State::Up;
                    progress.is_ready = true;
                }
            }
            Packet::SubAck(suback) => {
                if let Some(reason) = suback.reason_codes.iter().next()
                    && reason.is_error()
                {
                    return Err(self.refused("the SUBSCRIBE", reason));
                }
                self.link.state = State::Up;
                progress.is_ready = true;
            }
            Packet::Disconnect(disconnect) => {
                return Err(self.refused("to go on with the connection", disconnect.reason_code));
            }
            _ => {}
        }
        Ok(())
    }

    /// How many events the window, and the room for one write, allow now.
    pub(super) fn room(&self) -> u64 {
        let Role::Publisher { qos, window, .. } = &self.wanted.role else { return 0 };
        if self.link.state != State::Up || self.link.is_blocked() {
            return 0;
        }
        let fitting =
            WRITE_BYTES.saturating_sub(self.link.out.len()).div_ceil(self.template.bytes.len().max(1));
        let open = match qos {
            QoS::AtMostOnce => fitting,
            _ => usize::from(*window).saturating_sub(self.unacknowledged.len()),
        };
        open.min(fitting) as u64
    }

    /// Adds one PUBLISH that was due at `due`; [`Connection::flush`] sends it.
    pub(super) fn publish(&mut self, due: u64) {
        let out = &mut self.link.out;
        let start = out.len();
        out.extend_from_slice(&self.template.bytes);
        if let Some(at) = self.template.packet_id_at {
            patch(out, start + at, &self.next_id.to_be_bytes());
            self.next_id = self.next_id.checked_add(1).unwrap_or(1);
            self.unacknowledged.push_back(due);
        }
        patch(out, start + self.template.payload_at, &due.to_le_bytes());
        if let Some((at, topics, next)) = &mut self.template.turning {
            patch(out, start + *at, &digits(*next));
            *next = if *next + 1 < topics.end { *next + 1 } else { topics.start };
        }
    }

    fn broken(&self, source: Broken) -> LeanError {
        LeanError::Broken { client_id: self.wanted.client_id.clone(), source }
    }

    fn refused(&self, what: &'static str, reason: ReasonCode) -> LeanError {
        LeanError::Refused { what, client_id: self.wanted.client_id.clone(), reason }
    }
}

/// Whether a refusal is one of the moment.
const fn is_for_now(reason: ReasonCode) -> bool {
    matches!(
        reason,
        ReasonCode::ServerUnavailable | ReasonCode::ServerBusy | ReasonCode::ConnectionRateExceeded
    )
}

fn put_subscribe(
    wanted: &[String],
    qos: QoS,
    version: ProtocolVersion,
    out: &mut Vec<u8>,
) -> Result<(), LeanError> {
    let mut filters = SubscribeFiltersBuf::default();
    for filter in wanted.iter().filter_map(|filter| TopicFilter::parse(filter).ok()) {
        filters.push(filter, SubscribeOptions::at_most(qos));
    }
    let Some(packet_id) = PacketId::new(SUBSCRIBE_ID) else { return Ok(()) };
    let subscribe = Subscribe { packet_id, properties: Properties::default(), filters: filters.as_filters() };
    Ok(encode(&Packet::Subscribe(subscribe), version, out)?)
}

impl Template {
    fn new(topic: &str, qos: QoS, version: ProtocolVersion, payload_bytes: usize) -> Result<Self, LeanError> {
        let payload = vec![b'.'; payload_bytes.max(8)];
        let frame = PublishFrame {
            dup: false,
            qos,
            retain: false,
            topic,
            packet_id: if qos == QoS::AtMostOnce { None } else { PacketId::new(1) },
            extra: &[],
            properties: &[],
            payload: &payload,
        };
        let mut bytes = Vec::new();
        encode_publish(&frame, version, &mut bytes)?;
        let payload_at = bytes.len() - payload.len();
        // Before the payload come the properties, of which there are none but their length (version 5), and before them the identifier.
        let packet_id_at =
            frame.packet_id.map(|_| payload_at.saturating_sub(if version.is_v5() { 3 } else { 2 }));
        Ok(Self { bytes, packet_id_at, payload_at, turning: None })
    }

    /// From now on the topics of these numbers are published to in turn.
    fn turn(&mut self, topic: &str, topics: &Range<u32>) {
        let place = topic.find(NUMBER).filter(|_| !topics.is_empty());
        self.turning = place.and_then(|place| {
            let at = self.bytes.windows(topic.len()).position(|window| window == topic.as_bytes())?;
            Some((at + place, topics.clone(), topics.start))
        });
    }
}

/// A number as it stands in place of [`NUMBER`].
fn digits(mut number: u32) -> [u8; NUMBER.len()] {
    let mut digits = [b'0'; NUMBER.len()];
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
    digits
}

fn patch(out: &mut [u8], at: usize, field: &[u8]) {
    if let Some(place) = out.get_mut(at..at + field.len()) {
        place.copy_from_slice(field);
    }
}

impl Recorder {
    /// Latencies from 1 µs to a minute, to three digits.
    pub(super) fn new() -> Result<Self, hdrhistogram::CreationError> {
        Ok(Self {
            now: 0,
            on: false,
            acknowledgement: Histogram::new_with_bounds(1_000, 60_000_000_000, 3)?,
            delivery: Histogram::new_with_bounds(1_000, 60_000_000_000, 3)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_publisher_takes_its_topics_in_turn() {
        let topic = format!("bench/{NUMBER}/telemetry");
        let mut template = Template::new(&topic, QoS::AtLeastOnce, ProtocolVersion::V5, 64).unwrap();
        template.turn(&topic, &(7..9));
        let (at, topics, next) = template.turning.unwrap();
        assert_eq!(&template.bytes[at..at + 6], b"000000");
        assert_eq!((topics, next), (7..9, 7));
        assert_eq!(&digits(98_765), b"098765");
    }
}
