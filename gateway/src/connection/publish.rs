//! A publish on its way from the decoder to the batches of its read: judged, staged, and what is owed for it noted.

use super::Ingest;
use super::receive::ReadBatch;
use super::spans;
use super::tap::Fate;
use super::task::{Connection, Outcome};
use super::toll::{self, Passage};
use crate::admission::Level;
use crate::decisions::{Action, Reason};
use crate::ingest::{self, Publisher};
use crate::spans::OpenSpan;
use gateway_protocol::packet::Publish;
use gateway_protocol::session::{Closed, Millis};
use gateway_protocol::{QoS, ReasonCode};
use gateway_storage::Entry;

impl Connection {
    /// Takes a PUBLISH, received as `packet`, where it was decoded.
    #[inline]
    pub(super) fn take_publish(
        &mut self,
        now: Millis,
        publish: &Publish<'_>,
        packet: &[u8],
        ingest: &mut Ingest,
        batch: &mut ReadBatch,
        out: &mut Vec<u8>,
    ) -> Result<Option<Outcome>, Closed> {
        if !self.session.handle_publish(now, publish, out)? {
            return Ok(None);
        }
        let Some(reason) = self.stage(publish, packet, ingest, batch) else { return Ok(None) };
        self.session.close(reason, self.ended_for.map(Reason::label), out);
        Ok(Some(Outcome::Closed(reason)))
    }

    /// The reason to close with, if it ends the connection.
    fn stage(
        &mut self,
        publish: &Publish<'_>,
        packet: &[u8],
        ingest: &mut Ingest,
        batch: &mut ReadBatch,
    ) -> Option<ReasonCode> {
        batch.counts.event(publish.qos);
        self.count_topic(publish, packet.len());
        let passage = self.judge(publish, packet.len(), batch);
        if let Passage::Shed(reason) | Passage::Refused(reason, _) | Passage::Ends(reason, _) = passage
            && self.context.spans.is_on()
        {
            self.trace_refusal(publish, batch.now_ms, reason);
        }
        match passage {
            Passage::Taken => {}
            Passage::Shed(reason) => {
                batch.counts.shed(reason);
                self.tell_fate(publish, Fate::Shed(reason));
                return None;
            }
            Passage::Refused(reason, code) => {
                batch.counts.reject(reason);
                self.tell_fate(publish, Fate::Refused(reason));
                self.session.refuse_publish(code);
                self.count_publish(!ingest.stored.is_empty(), batch);
                return None;
            }
            Passage::Ends(reason, code) => {
                match publish.qos {
                    QoS::AtMostOnce => batch.counts.shed(reason),
                    QoS::AtLeastOnce | QoS::ExactlyOnce => batch.counts.reject(reason),
                }
                self.ended_for = Some(reason);
                return Some(code);
            }
        }
        let resolved;
        let as_meant = if publish.topic.is_empty() || publish.retain {
            let retain = publish.retain && self.context.limits.retain_available;
            resolved = Publish { topic: self.session.topic_of(publish), retain, ..*publish };
            &resolved
        } else {
            publish
        };
        let span = match self.context.spans.is_on() {
            true => self.begin_publish_span(as_meant, batch.now_ms),
            false => None,
        };
        let engine = &self.context.engine;
        let publisher = Publisher {
            client_id: &self.claim.seat.client_id,
            version: self.session.version(),
            stored_under: match self.owed.is_empty() {
                false => Some(self.last_epoch),
                true if !ingest.stored.is_empty() => Some(batch.epoch),
                true => None,
            },
            trace: span.as_ref().and_then(OpenSpan::context_to_add),
        };
        let outcome = ingest.publish(engine, &*self.context.live, publisher, as_meant, packet, batch.now_ms);
        self.tell_fate(publish, Fate::Went(outcome));
        match outcome {
            // Counted when it is stored.
            ingest::Outcome::Stored => {}
            ingest::Outcome::Live => batch.counts.live += 1,
            ingest::Outcome::Unwanted => batch.counts.unwanted += 1,
            ingest::Outcome::Duplicate | ingest::Outcome::DuplicateOnItsWay => {
                batch.counts.duplicates += 1;
                if publish.qos != QoS::AtMostOnce {
                    self.session.mark_duplicate();
                }
            }
            ingest::Outcome::Refused(refusal) => {
                batch.counts.refuse(refusal);
                self.context.decide(
                    &self.claim.seat.client_id,
                    publish.topic,
                    Action::Refused,
                    refusal.reason(),
                    1,
                );
                if publish.qos != QoS::AtMostOnce {
                    self.session.refuse_publish(refusal.reason_code());
                }
            }
        }
        if let Some(span) = span {
            batch.spans.extend(spans::taken(span, outcome));
        }
        if publish.qos == QoS::AtMostOnce {
            return None;
        }
        let is_stored = self.remember_identifier(publish, outcome, &mut ingest.stored);
        // PUBACKs leave in the order of the publishes, and after everything that came before them was applied: whoever sees one finds
        // earlier publishes of any QoS routed.
        let mut waits = is_stored || !ingest.stored.is_empty() || self.has_waiting(batch);
        if outcome == ingest::Outcome::DuplicateOnItsWay && !waits {
            // An earlier connection of this client has submitted it: whoever comes behind it in the log is told when it is stored.
            let behind = Entry::Acknowledged { client_id: &self.claim.seat.client_id, runs: &[] };
            let _ = ingest.stored.push(&behind);
            waits = true;
        }
        self.count_publish(waits, batch);
        None
    }

    /// Judges a publish, where there is anything to judge it by.
    #[inline]
    fn judge(&mut self, publish: &Publish<'_>, bytes: usize, batch: &mut ReadBatch) -> Passage {
        let Some(pressed) = &mut batch.pressed else { return Passage::Taken };
        let of = toll::Publisher {
            context: &self.context,
            listener: self.context.rates_of(self.listener),
            client_id: &self.claim.seat.client_id,
            can_refuse: self.session.version().is_v5(),
        };
        let judged = Publish { topic: self.session.topic_of(publish), ..*publish };
        of.toll(&mut self.toll, pressed).pass(&of, &judged, bytes, pressed)
    }

    /// PUBACKs of earlier publishes wait.
    fn has_waiting(&self, batch: &ReadBatch) -> bool {
        batch.publishes > 0 || !self.owed.is_empty() || self.brake.is_some()
    }

    /// One more PUBACK or PUBREC to come, behind what waits or at once.
    fn count_publish(&self, waits: bool, batch: &mut ReadBatch) {
        if waits || self.has_waiting(batch) {
            batch.publishes += 1;
        } else {
            batch.free += 1;
        }
    }

    /// Whether this publish is left unread because nothing can be stored: not taken and not refused either, as if it had not come yet.
    #[inline]
    pub(super) fn leaves(&self, publish: &Publish<'_>, batch: &mut ReadBatch) -> bool {
        let Some(pressed) = &mut batch.pressed else { return false };
        if pressed.stance.level != Level::ReadOnly {
            return false;
        }
        let topic = self.session.topic_of(publish);
        let interest = self.context.engine.interest(topic);
        let leaves = publish.qos != QoS::AtMostOnce && (publish.retain || interest.is_durable(publish.qos));
        if leaves {
            pressed.leave(topic);
        }
        leaves
    }
}
