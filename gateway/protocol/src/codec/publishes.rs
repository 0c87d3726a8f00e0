//! PUBLISH packets of one read, one after the other.

use super::primitives::read_varint;
use crate::ProtocolVersion;
use crate::packet::{PacketType, Publish};

/// Decodes PUBLISH packets where they are expected, as [`decode`](super::decode()) does, and in less time: nothing is asked that only other packets
/// need, and a Topic Name that is that of the packet before is not examined again. All packets have to lie in one buffer.
#[derive(Debug, Default)]
pub struct Publishes<'a> {
    /// A valid Topic Name, or nothing.
    last: &'a str,
}

impl<'a> Publishes<'a> {
    /// The PUBLISH at the front of `bytes`, and its length. `None` where there is another packet, a part of one, or one with a fault: that is for
    /// [`decode`](super::decode()) to say.
    #[inline]
    pub fn decode(
        &mut self,
        bytes: &'a [u8],
        version: ProtocolVersion,
        max_packet_bytes: usize,
    ) -> Option<(Publish<'a>, usize)> {
        let (&first, after_first) = bytes.split_first()?;
        if first >> 4 != PacketType::Publish as u8 {
            return None;
        }
        let (remaining, length_len) = read_varint(after_first).ok()??;
        let start = 1 + length_len;
        let end = start + remaining;
        if end > max_packet_bytes {
            return None;
        }
        let body = bytes.get(start..end)?;
        let publish = Publish::decode_after(self.last, first & 0x0F, body, version).ok()?;
        self.last = publish.topic;
        Some((publish, end))
    }
}
