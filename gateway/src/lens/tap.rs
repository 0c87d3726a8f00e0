//! What a connection has while it is looked at.

use std::sync::Arc;

use gateway_protocol::codec::{Decoded, decode};
use gateway_protocol::packet::Packet;
use gateway_protocol::{ProtocolVersion, ReasonCode};

use super::line::code;
use super::trace::Trace;
use super::{Direction, Line, Topics};

/// Tells what it is given to everybody who wants it. It is made anew when what is looked at changes.
#[derive(Debug)]
pub struct Tap {
    word: u64,
    client: Box<str>,
    traces: Vec<Arc<Trace>>,
    topics: Option<Arc<Topics>>,
    /// The packet that is being dealt with.
    current: Option<Line>,
}

impl Tap {
    pub(super) fn new(word: u64, client: &str, traces: Vec<Arc<Trace>>, topics: Option<Arc<Topics>>) -> Self {
        Self { word, client: client.into(), traces, topics, current: None }
    }

    /// The [`Lens::word`](super::Lens::word) it was made under.
    #[must_use]
    pub const fn word(&self) -> u64 {
        self.word
    }

    /// Whether anything is told of this client.
    #[must_use]
    pub fn is_traced(&self) -> bool {
        !self.traces.is_empty()
    }

    /// A line of its own.
    pub fn tell(&self, line: &Line) {
        for trace in &self.traces {
            trace.tell(|| line.clone(), line.topic.as_deref());
        }
    }

    /// A packet has come, and is being dealt with.
    pub fn received(&mut self, packet: &Packet<'_>, bytes: usize) {
        if self.is_traced() {
            self.current = Some(Line::of_packet(&self.client, Direction::In, packet, bytes));
        }
    }

    /// PUBACKs have come, without a word more than needed, four bytes each.
    pub fn received_pubacks(&self, bytes: &[u8]) {
        self.packets(Direction::In, bytes, ProtocolVersion::V3_1_1);
    }

    /// A message has come, in a packet of so many bytes, whatever becomes of it.
    pub fn count(&self, topic: &str, bytes: usize, now_ms: u64) {
        if let Some(topics) = &self.topics {
            topics.count(topic, bytes, now_ms);
        }
    }

    /// What became of the packet that is being dealt with. `subscribers` is asked only if somebody wants to know.
    pub fn judged(
        &mut self,
        topic: &str,
        outcome: &'static str,
        reason: Option<&str>,
        subscribers: impl FnOnce() -> Option<usize>,
    ) {
        if let Some(mut line) = self.current.take() {
            line.set_topic(topic);
            line.subscribers = subscribers();
            self.current = Some(line.with_outcome(outcome, reason));
        }
    }

    /// The packet is dealt with; the reason, if the connection is closed for it.
    pub fn done(&mut self, closes: Option<ReasonCode>) {
        if let Some(mut line) = self.current.take() {
            if let Some(reason) = closes {
                line = line.with_outcome("closes", Some(&code(reason)));
            }
            self.tell(&line);
        }
    }

    /// Whole packets are on their way to the client.
    pub fn sent(&self, bytes: &[u8], version: ProtocolVersion) {
        if self.is_traced() {
            self.packets(Direction::Out, bytes, version);
        }
    }

    fn packets(&self, direction: Direction, mut bytes: &[u8], version: ProtocolVersion) {
        if !self.is_traced() {
            return;
        }
        // They are the gateway's own, or were decoded before: all of them are whole.
        while let Ok(Decoded::Packet { packet, consumed }) = decode(bytes, version, usize::MAX) {
            self.tell(&Line::of_packet(&self.client, direction, &packet, consumed));
            bytes = bytes.get(consumed..).unwrap_or_default();
        }
    }
}
