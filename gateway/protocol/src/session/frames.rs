//! PUBLISH packets encoded once, for all clients that get them in the same form.
//!
//! A fan-out sends the same bytes to every subscriber of the same version at QoS 0; at QoS 1 they differ in the Packet Identifier
//! alone. So frames are put together once. A client's share of them is one copy, into which identifiers are then written
//! ([`Session::handle_frames`]); where there are none to be written, not even that ([`Session::pass_frames`]).

use super::{Session, State};
use crate::codec::primitives::varint_len;
use crate::codec::{PublishFrame, encode_publish};
use crate::{PacketId, ProtocolVersion, QoS};
use std::ops::Range;

/// PUBLISH packets of one version, at most QoS 1, in order.
#[derive(Debug)]
pub struct Frames {
    version: ProtocolVersion,
    bytes: Vec<u8>,
    places: Vec<Place>,
    longest: usize,
    /// Some have a Packet Identifier.
    is_identified: bool,
}

/// Where a frame begins and ends, and where in it the Packet Identifier is to be written; 0: it has none.
#[derive(Clone, Copy, Debug)]
struct Place {
    start: u32,
    end: u32,
    packet_id_at: u32,
}

/// Frames and the bytes that they lie in.
#[derive(Clone, Copy, Debug)]
pub struct FramesIn<'a> {
    frames: &'a Frames,
    bytes: &'a [u8],
}

/// One message for [`Frames::push`].
#[derive(Clone, Copy, Debug)]
pub struct FrameOf<'a> {
    /// Of the deliveries; QoS 2 is encoded as QoS 1.
    pub qos: QoS,
    /// The RETAIN flag to send.
    pub retain: bool,
    /// The Topic Name.
    pub topic: &'a str,
    /// Properties that came with the message, in wire form.
    pub properties: &'a [u8],
    /// The payload.
    pub payload: &'a [u8],
}

impl Frames {
    /// No frames yet, with room for `bytes` of them.
    #[must_use]
    pub fn with_capacity(version: ProtocolVersion, frames: usize, bytes: usize) -> Self {
        Self {
            version,
            bytes: Vec::with_capacity(bytes),
            places: Vec::with_capacity(frames),
            longest: 0,
            is_identified: false,
        }
    }

    /// The frames in their own bytes.
    #[must_use]
    pub fn own(&self) -> FramesIn<'_> {
        FramesIn { frames: self, bytes: &self.bytes }
    }

    /// The frames in the bytes they were located in ([`Frames::locate`]).
    #[must_use]
    pub const fn within<'a>(&'a self, bytes: &'a [u8]) -> FramesIn<'a> {
        FramesIn { frames: self, bytes }
    }

    /// Notes that a whole PUBLISH of this version and of `qos`, without DUP and RETAIN, lies at `place` of somebody else's bytes, right behind
    /// the one before. Its properties and payload take the last `behind_id` bytes of it. False where it cannot be sent like that: at QoS 2.
    #[must_use]
    pub fn locate(&mut self, place: Range<usize>, qos: QoS, behind_id: usize) -> bool {
        let packet_id_at = match qos {
            QoS::AtMostOnce => 0,
            QoS::AtLeastOnce => place.end.saturating_sub(behind_id + 2),
            QoS::ExactlyOnce => return false,
        };
        let is_next = self.places.last().is_none_or(|last| last.end as usize == place.start);
        let (Ok(start), Ok(end), Ok(packet_id_at)) =
            (u32::try_from(place.start), u32::try_from(place.end), u32::try_from(packet_id_at))
        else {
            return false;
        };
        if is_next {
            self.places.push(Place { start, end, packet_id_at });
            self.longest = self.longest.max(place.len());
            self.is_identified |= packet_id_at != 0;
        }
        is_next
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Appends a frame; false, and nothing appended, where it cannot be encoded or 4 GiB are reached.
    #[must_use]
    pub fn push(&mut self, of: &FrameOf<'_>) -> bool {
        let start = self.bytes.len();
        let packet_id = if of.qos == QoS::AtMostOnce { None } else { PacketId::new(1) };
        let frame = PublishFrame {
            dup: false,
            qos: of.qos.min(QoS::AtLeastOnce),
            retain: of.retain,
            topic: of.topic,
            packet_id,
            extra: &[],
            properties: of.properties,
            payload: of.payload,
        };
        if encode_publish(&frame, self.version, &mut self.bytes).is_err() {
            return false;
        }
        // From the end: payload, properties and their length, identifier.
        let properties = match self.version.is_v5() {
            true => varint_len(of.properties.len()) + of.properties.len(),
            false => 0,
        };
        let packet_id_at = match packet_id {
            Some(_) => self.bytes.len() - of.payload.len() - properties - 2,
            None => 0,
        };
        let (Ok(first), Ok(end), Ok(packet_id_at)) =
            (u32::try_from(start), u32::try_from(self.bytes.len()), u32::try_from(packet_id_at))
        else {
            self.bytes.truncate(start);
            return false;
        };
        self.places.push(Place { start: first, end, packet_id_at });
        self.longest = self.longest.max(self.bytes.len() - start);
        self.is_identified |= packet_id_at != 0;
        true
    }

    fn start(&self, frame: usize) -> usize {
        self.places.get(frame).map_or(0, |place| place.start as usize)
    }
}

impl<'a> FramesIn<'a> {
    /// The bytes at `place`, as [`Session::pass_frames`] answers it.
    #[must_use]
    pub fn bytes(&self, place: Range<usize>) -> &'a [u8] {
        self.bytes.get(place).unwrap_or_default()
    }
}

impl Session {
    /// Whether this client can be sent these frames as they are: they are of its version, none is too large for it, and it has
    /// allowed no Topic Aliases that would make them shorter.
    #[must_use]
    pub fn takes_frames(&self, frames: FramesIn<'_>) -> bool {
        let frames = frames.frames;
        frames.version == self.version
            && frames.longest <= self.client.maximum_packet_bytes as usize
            && !self.outbound.has_aliases()
    }

    /// Frames `range` without a copy, as many as `room` bytes allow (one at least, if any): how many those are, and where they lie
    /// ([`FramesIn::bytes`]). Sent from there, they are what [`Session::handle_frames`] would have written. `None` where something would be changed by
    /// sending them, or written into them: they have Packet Identifiers. Only after [`Session::takes_frames`] has said that they are taken.
    #[must_use]
    pub fn pass_frames(
        &self,
        frames: FramesIn<'_>,
        range: Range<usize>,
        room: usize,
    ) -> Option<(usize, Range<usize>)> {
        if self.state != State::Connected || !self.takes_frames(frames) || frames.frames.is_identified {
            return None;
        }
        let places = frames.frames.places.get(range)?;
        let start = places.first()?.start as usize;
        let count = places.partition_point(|place| place.end as usize - start <= room).max(1);
        let end = places.get(count - 1)?.end as usize;
        Some((count, start..end))
    }

    /// Sends frames `range` in the live lane, as many as the client's Receive Maximum and `room` bytes allow (one at least, if any): how many
    /// that were, and how many of them are in flight now. Only after [`Session::takes_frames`] has said so.
    pub fn handle_frames(
        &mut self,
        frames: FramesIn<'_>,
        range: Range<usize>,
        room: usize,
        out: &mut Vec<u8>,
    ) -> (usize, usize) {
        if self.state != State::Connected || !self.takes_frames(frames) {
            return (0, 0);
        }
        let FramesIn { frames, bytes } = frames;
        let (start, base) = (range.start, out.len());
        let bytes_start = frames.start(start);
        let quota = self.send_quota();
        let mut end = bytes_start;
        let (mut taken, mut in_flight) = (0, 0);
        for place in frames.places.get(range).unwrap_or_default() {
            let place_end = place.end as usize;
            if taken > 0 && place_end - bytes_start > room {
                break;
            }
            if place.packet_id_at != 0 && in_flight >= quota {
                break;
            }
            in_flight += usize::from(place.packet_id_at != 0);
            end = place_end;
            taken += 1;
        }
        out.extend_from_slice(bytes.get(bytes_start..end).unwrap_or_default());
        if in_flight == 0 {
            return (taken, 0);
        }
        let mut written = 0;
        for place in frames.places.get(start..start + taken).unwrap_or_default() {
            if place.packet_id_at == 0 {
                written += 1;
                continue;
            }
            let Some(packet_id) = self.outbound.begin_live() else { break };
            let at = base + place.packet_id_at as usize - bytes_start;
            if let Some(field) = out.get_mut(at..at + 2) {
                field.copy_from_slice(&packet_id.get().to_be_bytes());
            }
            written += 1;
        }
        if written < taken {
            // Identifiers have run out before the quota did: what has none is not sent.
            out.truncate(base + frames.start(start + written) - bytes_start);
            let unsent = frames.places.get(start + written..start + taken).unwrap_or_default();
            in_flight -= unsent.iter().filter(|place| place.packet_id_at != 0).count();
        }
        (written, in_flight)
    }
}
