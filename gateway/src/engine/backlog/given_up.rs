//! What was given up while its delivery at QoS 2 may have been under way: the client may keep its Packet Identifier until it gets a PUBREL.
//!
//! Up to where a connection has sent is not in the log while it lasts, so everything given up meanwhile is remembered, at QoS 2, and the
//! connection says which of it was never sent: by acknowledging it as it passes it over. What is acknowledged is forgotten. What
//! is left when the connection ends gets its PUBREL on the next one, and is forgotten with its PUBCOMP. A client that has no use for one
//! answers it all the same (0x92), so remembering one too many costs a round trip.
//!
//! It spans no more numbers than there are identifiers, since nothing further on is sent before the first of them is free; and has little more
//! ranges than a connection may have messages in flight.

use super::Backlog;
use gateway_protocol::session::DURABLE_IDENTIFIERS;

/// Messages that were given up, with consecutive sequences.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GivenUp {
    /// The first one's sequence.
    pub first: u64,
    /// Behind the last one's.
    pub end: u64,
    /// They were sent on an earlier connection, as far as is known: their identifiers are to be released. Otherwise they were not.
    pub was_sent: bool,
}

impl Backlog {
    /// The oldest sequence that is not done with: not acknowledged, or given up and perhaps not released yet.
    #[must_use]
    pub fn identifiers_from(&self) -> u64 {
        self.given_up.first().unwrap_or(self.low)
    }

    /// What of the messages from `from` on was given up and comes next, where messages below `sent_end` were sent.
    #[must_use]
    pub fn given_up(&self, from: u64, sent_end: u64) -> Option<GivenUp> {
        let (first, end) = match self.given_up.end_of(from) {
            Some(end) => (from, end),
            None => {
                let first = self.given_up.start_after(from)?;
                (first, self.given_up.end_of(first)?)
            }
        };
        let was_sent = first < sent_end;
        Some(GivenUp { first, end: if was_sent { end.min(sent_end) } else { end }, was_sent })
    }

    /// Gives up what is pending below `end`. Returns how much that was. What is below `sent_end` may have been sent.
    pub(super) fn give_up(&mut self, end: u64, sent_end: u64) -> u64 {
        let identifiers_end = self.identifiers_from().saturating_add(u64::from(DURABLE_IDENTIFIERS));
        let noted_end = end.min(sent_end).min(identifiers_end).min(self.next_sequence);
        let mut at = self.low;
        while at < noted_end {
            let Some(chunk) = self.chunk_of(at) else { break };
            let (until, is_meant) = (chunk.end().min(noted_end), chunk.has_exactly_once);
            while is_meant && at < until {
                let acknowledged = self.acknowledged.end_of(at);
                let pending_end = self.acknowledged.start_after(at).unwrap_or(until).min(until);
                if acknowledged.is_none() {
                    self.given_up.insert(at, pending_end);
                }
                at = acknowledged.unwrap_or(pending_end);
            }
            at = at.max(until);
        }
        self.complete(self.low, end.saturating_sub(self.low))
    }
}
