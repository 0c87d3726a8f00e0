//! What a connection tells those who look at it. While nobody does: one load in a turn, and a branch for each packet.

use super::Context;
use super::task::{Connection, Outcome};
use crate::clock;
use crate::decisions::Reason;
use crate::ingest;
use crate::lens::{Direction, Line};
use crate::presence::Cause;
use gateway_protocol::packet::{Packet, Publish};
use gateway_protocol::session::Session;

/// What became of a publish.
#[derive(Clone, Copy)]
pub(super) enum Fate {
    Went(ingest::Outcome),
    Shed(Reason),
    Refused(Reason),
}

impl Connection {
    /// Sees whether somebody looks at this connection.
    #[inline]
    pub(super) fn see_who_looks(&mut self) {
        let word = self.context.lens.word();
        if word != 0 || self.tap.is_some() {
            self.fit_tap(word);
        }
    }

    #[cold]
    fn fit_tap(&mut self, word: u64) {
        if word == 0 {
            self.tap = None;
        } else if self.tap.as_ref().is_none_or(|tap| tap.word() != word) {
            self.tap = Some(Box::new(self.context.lens.tap(&self.claim.seat.client_id)));
        }
    }

    /// Tells of PUBACKs that came.
    #[inline]
    pub(super) fn tell_pubacks(&self, bytes: Option<&[u8]>) {
        if let (Some(tap), Some(bytes)) = (&self.tap, bytes) {
            tap.received_pubacks(bytes);
        }
    }

    /// A packet has come; what became of it is told with [`Connection::tell_done`].
    #[inline]
    pub(super) fn tell_received<'p>(&mut self, bytes: usize, packet: impl FnOnce() -> Packet<'p>) {
        if let Some(tap) = &mut self.tap {
            tap.received(&packet(), bytes);
        }
    }

    /// The packet that has come is dealt with.
    #[inline]
    pub(super) fn tell_done(&mut self, outcome: Option<Outcome>) {
        if let Some(tap) = &mut self.tap {
            tap.done(match outcome {
                Some(Outcome::Closed(reason)) => Some(reason),
                _ => None,
            });
        }
    }

    /// Counts a message under its topic, if somebody looks at topics.
    #[inline]
    pub(super) fn count_topic(&self, publish: &Publish<'_>, bytes: usize) {
        if let Some(tap) = &self.tap {
            tap.count(self.session.topic_of(publish), bytes, clock::monotonic().0);
        }
    }

    /// Tells what became of a publish.
    #[inline]
    pub(super) fn tell_fate(&mut self, publish: &Publish<'_>, fate: Fate) {
        if self.tap.is_some() {
            self.tell_fate_to_those_who_look(publish, fate);
        }
    }

    #[cold]
    fn tell_fate_to_those_who_look(&mut self, publish: &Publish<'_>, fate: Fate) {
        let Some(tap) = &mut self.tap else { return };
        let topic = self.session.topic_of(publish);
        let (outcome, reason) = match fate {
            Fate::Went(ingest::Outcome::Stored) => ("accepted", None),
            Fate::Went(ingest::Outcome::Live) => ("live", None),
            Fate::Went(ingest::Outcome::Unwanted) => ("unwanted", None),
            Fate::Went(ingest::Outcome::Duplicate | ingest::Outcome::DuplicateOnItsWay) => {
                ("duplicate", None)
            }
            Fate::Went(ingest::Outcome::Refused(refusal)) => ("refused", Some(refusal.reason())),
            Fate::Shed(reason) => ("shed", Some(reason)),
            Fate::Refused(reason) => ("refused", Some(reason)),
        };
        let live = &self.context.live;
        let subscribers = || {
            let goes_on = matches!(fate, Fate::Went(ingest::Outcome::Stored | ingest::Outcome::Live));
            goes_on
                .then(|| live.read(|router| router.matches(topic).len() + router.group_matches(topic).len()))
        };
        tap.judged(topic, outcome, reason.map(Reason::label), subscribers);
    }
}

/// Tells that a client was accepted.
pub(super) fn tell_accepted(context: &Context, client_id: &str, session: &Session, session_present: bool) {
    if context.lens.word() == 0 {
        return;
    }
    let limits = session.client_limits();
    let about = format!(
        "MQTT {}, Keep Alive {} s, session expiry {} s, session {}",
        session.version(),
        limits.keep_alive_secs,
        limits.session_expiry_secs,
        if session_present { "resumed" } else { "new" },
    );
    let line = Line::new(client_id, Direction::In, "CONNECT").with_outcome("accepted", Some(&about));
    context.lens.tap(client_id).tell(&line);
}

/// Tells that a client was not let in.
pub(super) fn tell_refused(context: &Context, client_id: &str, reason: &str) {
    if context.lens.word() != 0 {
        let line = Line::new(client_id, Direction::In, "CONNECT").with_outcome("refused", Some(reason));
        context.lens.tap(client_id).tell(&line);
    }
}

/// Tells how a connection ended.
pub(super) fn tell_end(connection: &Connection, cause: Cause) {
    let context = &connection.context;
    if context.lens.word() == 0 {
        return;
    }
    let outcome = match cause.by() {
        "client" => "by the client",
        "network" => "by the network",
        _ => "by the gateway",
    };
    let reason = match connection.ended_for {
        Some(reason) => format!("{}: {}", cause.reason(), reason.label()),
        None => cause.reason().to_owned(),
    };
    let line =
        Line::new(connection.client_id(), Direction::Connection, "END").with_outcome(outcome, Some(&reason));
    context.lens.tap(connection.client_id()).tell(&line);
}
