//! Reading on while what was read before waits for room: PINGREQ is answered all the same.
//!
//! A connection whose entries found the open group full, or whose client has as much unacknowledged as it may, is served no further
//! until a sync returns. That can take longer than its client's Keep Alive. So a little more is read, into the connection's own buffer;
//! a PINGREQ among it is answered and taken out, since the answer depends on nothing before it. All else stays where it is and is dealt
//! with in its turn.
//!
//! Bounded twice: by [`BYTES_MAX`] for a connection, [`READ_ONLY_BYTES_MAX`] at L5, which may last, and [`ALL_BYTES_MAX`] for all of them. Past
//! that nothing is read, and nothing is answered: a PINGREQ behind it cannot be found without keeping what is before it, since that was not
//! acknowledged and is not to be lost. Such a client sends a lot, and its silence is excused.

use super::metrics;
use super::task::Connection;
use crate::admission::Level;
use crate::clock;
use gateway_protocol::ProtocolVersion;
use gateway_protocol::codec::{Decoded, decode};
use gateway_protocol::packet::Packet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use tokio::io::AsyncRead;

/// What is read on for one connection.
const BYTES_MAX: usize = 64 * 1024;
/// The same at L5: longer than Keep Alive nothing can be stored, and a client may have sent a whole window of large events before it heard
/// nothing.
const READ_ONLY_BYTES_MAX: usize = 1024 * 1024;
/// And for all of them at one time.
const ALL_BYTES_MAX: usize = 64 * 1024 * 1024;
/// What is read at once.
const STEP_BYTES: usize = 16 * 1024;
/// The longest fixed header.
const FIXED_HEADER_BYTES: usize = 5;

static ALL_BYTES: AtomicUsize = AtomicUsize::new(0);

/// How far a connection has read on.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    /// Bytes read on, charged to all.
    bytes: usize,
    /// Where in the buffer the next packet to be looked at begins.
    looked_at: usize,
    /// Nothing more can be learned: the peer has sent its last byte, or something that ends the connection in its turn.
    is_over: bool,
}

impl Ahead {
    /// Bytes that may be read now.
    fn room(&self, level: Level) -> usize {
        let own = if level == Level::ReadOnly { READ_ONLY_BYTES_MAX } else { BYTES_MAX };
        let all = ALL_BYTES_MAX.saturating_sub(ALL_BYTES.load(Ordering::Relaxed));
        if self.is_over { 0 } else { own.saturating_sub(self.bytes).min(all).min(STEP_BYTES) }
    }

    fn charge(&mut self, bytes: usize) {
        ALL_BYTES.fetch_add(bytes, Ordering::Relaxed);
        self.bytes += bytes;
    }

    fn refund(&mut self, bytes: usize) {
        let bytes = bytes.min(self.bytes);
        ALL_BYTES.fetch_sub(bytes, Ordering::Relaxed);
        self.bytes -= bytes;
    }

    /// Looks at the packets that have come whole and takes the PINGREQs out; how many.
    fn take_pings(&mut self, received: &mut Vec<u8>, version: ProtocolVersion, bytes_max: usize) -> usize {
        let mut pings = 0;
        while let Some(rest) = received.get(self.looked_at..)
            && !rest.is_empty()
        {
            // What lies within the others is looked at in its turn: their fixed headers tell where they end.
            let header = rest.get(..FIXED_HEADER_BYTES).unwrap_or(rest);
            let len = match decode(header, version, bytes_max) {
                Ok(Decoded::Packet { packet: Packet::PingReq, consumed }) => {
                    received.drain(self.looked_at..self.looked_at + consumed);
                    self.refund(consumed);
                    pings += 1;
                    continue;
                }
                Ok(Decoded::Packet { packet: Packet::Disconnect(_), .. }) | Err(_) => {
                    self.is_over = true;
                    break;
                }
                Ok(Decoded::Packet { consumed, .. }) => consumed,
                Ok(Decoded::Incomplete { needed }) => needed,
            };
            if len > rest.len() {
                break;
            }
            self.looked_at += len;
        }
        pings
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        self.refund(self.bytes);
    }
}

impl Connection {
    /// Reads on and answers what can be answered. Whether something came.
    pub(super) fn look_ahead<S>(&mut self, stream: &mut S, cx: &mut Context<'_>, out: &mut Vec<u8>) -> bool
    where
        S: AsyncRead + Unpin,
    {
        // What is left of the last read is looked at once, too: there may be a PINGREQ behind what is left unread.
        let is_first = self.ahead.is_none() && !self.received.is_empty();
        let mut ahead = self.ahead.take().unwrap_or_default();
        let room = ahead.room(self.context.pressure.level());
        let mut has_come = false;
        if room > 0 {
            let before = self.received.len();
            match super::io::poll_read_more(stream, cx, &mut self.received, room) {
                Poll::Pending => {}
                // Found again, and told, when what came before has had its turn.
                Poll::Ready(Ok(0) | Err(_)) => ahead.is_over = true,
                Poll::Ready(Ok(count)) => {
                    has_come = true;
                    self.feed.has_unparsed = true;
                    ahead.charge(count);
                    if before == 0 {
                        ahead.looked_at = 0;
                    }
                }
            }
        }
        if has_come || is_first {
            let bytes_max = self.context.limits.max_packet_bytes as usize;
            let pings = ahead.take_pings(&mut self.received, self.session.version(), bytes_max);
            for _ in 0..pings {
                // It is connected, so this can only be answered.
                let _ = self.session.handle_packet(clock::monotonic(), Packet::PingReq, out);
            }
            metrics::pings(pings as u64);
        }
        self.ahead = Some(ahead);
        has_come
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PING: [u8; 2] = [0xC0, 0];
    /// QoS 0, topic "a", and eight bytes that look like PINGREQs.
    const PUBLISH: [u8; 13] = [0x30, 11, 0, 1, b'a', 0xC0, 0, 0xC0, 0, 0xC0, 0, 0xC0, 0];

    #[test]
    fn pings_are_taken_out_wherever_a_packet_begins_and_nowhere_else() {
        let all: Vec<u8> = [&PING[..], &PUBLISH, &PING, &PING, &PUBLISH, &PING].concat();
        for chunk in 1..=all.len() {
            let (mut ahead, mut received, mut pings) = (Ahead::default(), Vec::new(), 0);
            for bytes in all.chunks(chunk) {
                received.extend_from_slice(bytes);
                ahead.charge(bytes.len());
                pings += ahead.take_pings(&mut received, ProtocolVersion::V3_1_1, 1024);
            }
            assert_eq!((pings, received), (4, [PUBLISH, PUBLISH].concat()), "{chunk} bytes at once");
            assert_eq!(ahead.bytes, 2 * PUBLISH.len());
        }
    }

    #[test]
    fn nothing_is_looked_at_behind_what_ends_the_connection() {
        for end in [[0xE0, 0], [0xF0, 0]] {
            let mut received = [PUBLISH.as_slice(), &end, &PING].concat();
            let (mut ahead, before) = (Ahead::default(), received.clone());
            assert_eq!(ahead.take_pings(&mut received, ProtocolVersion::V3_1_1, 1024), 0);
            assert_eq!((received, ahead.room(Level::Normal)), (before, 0));
        }
    }
    #[test]
    fn at_l5_more_is_read_on_and_what_was_is_not_given_back_when_it_is_over() {
        let mut ahead = Ahead::default();
        let read = |ahead: &mut Ahead, level| {
            while ahead.room(level) > 0 {
                ahead.charge(ahead.room(level));
            }
            ahead.bytes
        };
        assert_eq!(read(&mut ahead, Level::Protect), BYTES_MAX);
        assert_eq!(read(&mut ahead, Level::ReadOnly), READ_ONLY_BYTES_MAX);
        assert_eq!(ahead.room(Level::Protect), 0);
    }
}
