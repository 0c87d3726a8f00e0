//! From what the gateway has to what is shown.

use std::time::Duration;

use gateway_protocol::{TopicFilter, TopicName};

use super::backend::{ConsumerView, LetterEvent, LetterQuery, LetterView, StreamView, WorkerView};

use crate::clock::rfc_3339;
use crate::config::format_duration;
use crate::consumer::ConsumerStatus;
use crate::engine::{Cause, DeadLetter, Order, StreamInfo};
use crate::event_view::{Payload, Properties};

fn duration(ms: u64) -> String {
    format_duration(Duration::from_millis(ms))
}

impl StreamView {
    pub(super) fn of(stream: StreamInfo) -> Self {
        Self {
            name: stream.options.name,
            topics: stream.options.topics,
            max_age: duration(stream.options.max_age_ms),
            max_bytes: stream.options.max_bytes,
            configured: stream.configured,
            bytes: stream.bytes,
            events: stream.events,
            first_offset: stream.floor.get(),
        }
    }
}

impl ConsumerView {
    pub(super) fn of(status: ConsumerStatus) -> Self {
        let spec = status.spec;
        Self {
            name: status.name.into(),
            stream: spec.stream.into(),
            filter: spec.filter.into(),
            ack_wait: duration(spec.ack_wait_ms),
            max_deliver: spec.max_deliver,
            backoff: spec.backoff_ms.into_iter().map(duration).collect(),
            max_ack_pending: spec.max_ack_pending,
            order: match spec.order {
                Order::None => "none",
                Order::Key => "key",
            },
            paused: status.paused,
            configured: spec.configured,
            created: rfc_3339(status.created_ms),
            state: status.state.as_str(),
            read_to: status.read_to,
            lag_events: status.lag_events,
            lag_bytes: status.lag_bytes,
            oldest_age_ms: status.oldest_age_ms,
            open: status.open,
            ready: status.ready,
            handed_out: status.handed_out,
            redeliveries: status.redeliveries,
            acked: status.acked,
            acked_late: status.acked_late,
            dead_lettered: status.dead_lettered,
            expired: status.expired,
            lost: status.lost,
            missed: status.missed,
            dead_letters: status.dead_letters,
            dead_letter_bytes: status.dead_letter_bytes,
            workers: status
                .workers
                .into_iter()
                .map(|worker| WorkerView {
                    name: worker.name.into(),
                    kind: worker.kind.as_str(),
                    leased: worker.leased,
                    acked: worker.acked,
                    failed: worker.failed,
                })
                .collect(),
        }
    }
}

impl LetterView {
    pub(super) fn of(consumer: &str, letter: &DeadLetter) -> Self {
        let event = letter.event();
        let time_of = |ms: u64| (ms > 0).then(|| rfc_3339(ms));
        Self {
            consumer: consumer.to_owned(),
            offset: letter.offset(),
            cause: letter.cause().as_str(),
            reason_code: match letter.cause() {
                Cause::Rejected(code) => Some(code),
                _ => None,
            },
            failure: letter.failure().map(Cause::as_str),
            attempts: letter.attempts,
            first_attempt: time_of(letter.first_ms),
            dead_since: rfc_3339(letter.dead_ms),
            worker: letter.worker.to_string(),
            note: letter.note.to_string(),
            redrives: letter.redrives,
            redriven: time_of(letter.redriven_ms),
            event: LetterEvent {
                time: rfc_3339(event.received_ms),
                publisher: event.client_id.to_owned(),
                topic: event.topic.to_owned(),
                qos: event.qos,
                retain: event.retain,
                properties: Properties::of(event.properties),
                payload: Payload::of(event.payload),
            },
        }
    }
}

impl LetterQuery {
    /// Whether a dead letter of a consumer that is looked at is meant. A cause is also that of the last failure, as where letters are
    /// redriven.
    pub(super) fn means(&self, letter: &DeadLetter) -> bool {
        let has_cause = |word: &String| {
            letter.cause().as_str() == word
                || letter.failure().is_some_and(|failure| failure.as_str() == word)
        };
        let is_under =
            |filter: &String| match (TopicFilter::parse(filter), TopicName::parse(letter.event().topic)) {
                (Ok(filter), Ok(name)) => filter.matches(name),
                _ => false,
            };
        self.cause.as_ref().is_none_or(has_cause) && self.topic.as_ref().is_none_or(is_under)
    }
}
