//! A dead letter: an event that a consumer gave up, copied with what became of it.

use crate::engine::consumers::{Cause, WORKER_BYTES_MAX, clipped};
use crate::engine::snapshot;
use gateway_storage::Event;
use serde::{Deserialize, Serialize};

/// Bytes of a note that are kept.
pub const NOTE_BYTES_MAX: usize = 256;
/// What keeping a letter costs beside its own bytes.
const COST: u64 = 200;

/// How the attempts at an event ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LetterFacts<'a> {
    /// Why it was given up: [`Cause::MaxDeliver`], or a cause that allows no other attempt.
    pub cause: Cause,
    /// Why the last attempt failed.
    pub failure: Option<Cause>,
    /// Attempts made.
    pub attempts: u32,
    /// When it was handed out first, in milliseconds since the Unix epoch; 0: never.
    pub first_ms: u64,
    /// Who had it last.
    pub worker: &'a str,
    /// What the worker said about it, if anything. [`NOTE_BYTES_MAX`] bytes are kept.
    pub note: &'a str,
}

/// An event that a consumer gave up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetter {
    offset: u64,
    cause: [u8; 2],
    failure: Option<[u8; 2]>,
    /// Attempts made before it was given up.
    pub attempts: u32,
    /// When it was handed out first, in milliseconds since the Unix epoch; 0: never.
    pub first_ms: u64,
    /// When it was given up, in milliseconds since the Unix epoch.
    pub dead_ms: u64,
    /// Who had it last.
    pub worker: Box<str>,
    /// What the worker said about it; empty as a rule.
    pub note: Box<str>,
    /// How often it was handed to its consumer again as a whole.
    pub redrives: u32,
    /// When it was last handed to its consumer again, if it is under way there, in milliseconds since the Unix epoch; 0: it is not.
    pub redriven_ms: u64,
    client_id: Box<str>,
    topic: Box<str>,
    qos: u8,
    retain: bool,
    received_ms: u64,
    expires_at_ms: u64,
    #[serde(with = "serde_bytes")]
    properties: Box<[u8]>,
    #[serde(with = "serde_bytes")]
    payload: Box<[u8]>,
}

impl DeadLetter {
    /// The letter of the event at `offset`.
    #[must_use]
    pub fn new(offset: u64, facts: &LetterFacts<'_>, event: &Event<'_>) -> Self {
        Self {
            offset,
            cause: facts.cause.to_bytes(),
            failure: facts.failure.map(Cause::to_bytes),
            attempts: facts.attempts,
            first_ms: facts.first_ms,
            dead_ms: 0,
            worker: clipped(facts.worker, WORKER_BYTES_MAX).into(),
            note: clipped(facts.note, NOTE_BYTES_MAX).into(),
            redrives: 0,
            redriven_ms: 0,
            client_id: event.client_id.into(),
            topic: event.topic.into(),
            qos: event.qos,
            retain: event.retain,
            received_ms: event.received_ms,
            expires_at_ms: event.expires_at_ms,
            properties: event.properties.into(),
            payload: event.payload.into(),
        }
    }

    /// The form in the log, as the content of [`gateway_storage::Entry::DeadLettered`].
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        snapshot::pack(self)
    }

    /// A letter from its form in the log; `None` where it is not legible.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let letter: Self = rmp_serde::from_slice(bytes).ok()?;
        let legible = |bytes: [u8; 2]| Cause::from_bytes(bytes).is_some();
        (legible(letter.cause) && letter.failure.is_none_or(legible) && letter.qos <= 2).then_some(letter)
    }

    /// The log offset of the event; its name within the consumer.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Why it was given up.
    #[must_use]
    pub fn cause(&self) -> Cause {
        // Letters are decoded only with causes that are known.
        Cause::from_bytes(self.cause).unwrap_or(Cause::MaxDeliver)
    }

    /// Why the last attempt failed, where that is not the cause itself.
    #[must_use]
    pub fn failure(&self) -> Option<Cause> {
        self.failure.and_then(Cause::from_bytes)
    }

    /// Whether it was handed to its consumer again and is under way there.
    #[must_use]
    pub fn is_redriven(&self) -> bool {
        self.redriven_ms != 0
    }

    /// The event as it was published.
    #[must_use]
    pub fn event(&self) -> Event<'_> {
        Event {
            client_id: &self.client_id,
            topic: &self.topic,
            qos: self.qos,
            retain: self.retain,
            received_ms: self.received_ms,
            expires_at_ms: self.expires_at_ms,
            properties: &self.properties,
            payload: &self.payload,
        }
    }

    /// Bytes it is charged with.
    #[must_use]
    pub fn cost(&self) -> u64 {
        let texts = self.client_id.len() + self.topic.len() + self.worker.len() + self.note.len();
        (texts + self.properties.len() + self.payload.len()) as u64 + COST
    }
}
