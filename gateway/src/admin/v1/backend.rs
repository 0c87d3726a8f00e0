//! What the API asks of the gateway, and the values that go to and fro.
//!
//! The handlers know HTTP and JSON and this trait; [`super::local`] puts the engine and the consumers behind it. What changes something is
//! on stable storage when its answer comes.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use serde::Serialize;
use utoipa::ToSchema;

use super::channel::Feed;
use crate::admin::SinkStatus;
use crate::admin::problem::Problem;
use crate::config::Pace;
use crate::consumer::{ConsumerChanges, ConsumerOptions, DeliveryId, Letters, Outcome};
use crate::decisions::{DecisionPage, DecisionQuery, Follower};
use crate::event_view::{EventView, Payload, Properties};
use crate::stream::From;

/// What comes when it is done.
pub(super) type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, Problem>> + Send + 'a>>;

/// Whether something was made or was there and is different now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Made {
    New,
    Altered,
}

/// A stream as it is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct StreamSpec {
    pub(super) topics: Vec<String>,
    pub(super) max_age_ms: u64,
    pub(super) max_bytes: u64,
}

/// A stream as it is shown.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(super) struct StreamView {
    pub(super) name: String,
    pub(super) topics: Vec<String>,
    pub(super) max_age: String,
    pub(super) max_bytes: u64,
    /// It is in the configuration file.
    pub(super) configured: bool,
    /// About how much it keeps.
    pub(super) bytes: u64,
    pub(super) events: u64,
    /// Where it begins.
    pub(super) first_offset: u64,
}

/// A consumer as it is shown.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(super) struct ConsumerView {
    pub(super) name: String,
    pub(super) stream: String,
    pub(super) filter: String,
    pub(super) ack_wait: String,
    pub(super) max_deliver: u32,
    pub(super) backoff: Vec<String>,
    pub(super) max_ack_pending: u32,
    pub(super) order: &'static str,
    pub(super) paused: bool,
    /// It is in the configuration file.
    pub(super) configured: bool,
    pub(super) created: String,
    /// How it is just now, in a word.
    pub(super) state: &'static str,
    /// Every event below this offset was looked at.
    pub(super) read_to: u64,
    pub(super) lag_events: u64,
    pub(super) lag_bytes: u64,
    pub(super) oldest_age_ms: u64,
    /// Handed out, or failed, and not settled.
    pub(super) open: u64,
    /// Read ahead.
    pub(super) ready: u64,
    pub(super) handed_out: u64,
    pub(super) redeliveries: u64,
    pub(super) acked: u64,
    pub(super) acked_late: u64,
    pub(super) dead_lettered: u64,
    pub(super) expired: u64,
    pub(super) lost: u64,
    /// Gone from the stream before they were read.
    pub(super) missed: u64,
    /// Dead letters there are now, and what they take.
    pub(super) dead_letters: u64,
    pub(super) dead_letter_bytes: u64,
    pub(super) workers: Vec<WorkerView>,
}

/// Who takes events of a consumer.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(super) struct WorkerView {
    pub(super) name: String,
    pub(super) kind: &'static str,
    pub(super) leased: u32,
    pub(super) acked: u64,
    pub(super) failed: u64,
}

/// A request for events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) worker: String,
    pub(super) max: u32,
    pub(super) wait: Duration,
}

/// What became of a list of hand-outs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub(super) struct Settled {
    /// Done as asked.
    pub(super) settled: u64,
    /// Settled before, or taken back since: there was nothing to do.
    pub(super) unknown: Vec<String>,
}

/// Which dead letters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct LetterQuery {
    pub(super) consumer: Option<String>,
    pub(super) cause: Option<String>,
    /// A Topic Filter.
    pub(super) topic: Option<String>,
}

/// Where a page of dead letters ended: the consumer, and the offset of the last one shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LetterCursor {
    pub(super) consumer: String,
    pub(super) offset: u64,
}

/// A dead letter as it is shown.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(super) struct LetterView {
    pub(super) consumer: String,
    pub(super) offset: u64,
    /// Why it was given up.
    pub(super) cause: &'static str,
    /// The Reason Code of a rejection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) reason_code: Option<u8>,
    /// Why the last attempt failed, where that is not the cause itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) failure: Option<&'static str>,
    pub(super) attempts: u32,
    /// When it was handed out first; absent if it never was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) first_attempt: Option<String>,
    pub(super) dead_since: String,
    pub(super) worker: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) note: String,
    /// How often it was delivered again as a whole.
    pub(super) redrives: u32,
    /// Since when it is under way again, if it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) redriven: Option<String>,
    pub(super) event: LetterEvent,
}

/// The copy of the event in a dead letter.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(super) struct LetterEvent {
    /// When it was received.
    pub(super) time: String,
    pub(super) publisher: String,
    pub(super) topic: String,
    pub(super) qos: u8,
    pub(super) retain: bool,
    #[serde(skip_serializing_if = "Properties::is_empty")]
    pub(super) properties: Properties,
    #[serde(flatten)]
    pub(super) payload: Payload,
}

/// A page of dead letters, and where the next one begins; `None`: nowhere.
#[derive(Debug, Default)]
pub(super) struct LetterPage {
    pub(super) letters: Vec<LetterView>,
    pub(super) next: Option<LetterCursor>,
}

/// The gateway behind the API.
pub(super) trait Backend: Send + Sync + 'static {
    /// All streams, by name.
    fn streams(&self) -> Vec<StreamView>;
    /// Makes a stream, or makes it different.
    fn set_stream(&self, name: String, spec: StreamSpec) -> Answer<'_, Made>;
    /// Removes a stream. What it kept is gone.
    fn remove_stream(&self, name: String) -> Answer<'_, ()>;

    /// All consumers, by name.
    fn consumers(&self) -> Vec<ConsumerView>;
    /// One of them.
    fn consumer(&self, name: &str) -> Option<ConsumerView>;
    /// Makes a consumer, or makes it different; where it begins is then not looked at.
    fn set_consumer(&self, name: String, options: ConsumerOptions) -> Answer<'_, Made>;
    /// Makes a consumer different.
    fn alter_consumer(&self, name: String, changes: ConsumerChanges) -> Answer<'_, ()>;
    /// Removes a consumer, what is open of it and its dead letters.
    fn remove_consumer(&self, name: String) -> Answer<'_, ()>;
    /// Has a consumer begin anew elsewhere.
    fn reset_consumer(&self, name: String, to: From) -> Answer<'_, ()>;

    /// Events for a worker: as soon as there are some, or none when the wait is over.
    fn next(&self, name: String, wanted: Wanted) -> Answer<'_, Vec<EventView>>;
    /// Says how the work on some events ended.
    fn settle(&self, name: String, ids: Vec<DeliveryId>, outcome: Outcome) -> Answer<'_, Settled>;
    /// Feeds a look at the events of a consumer's stream, from an offset or from now on, and at its state.
    fn watch(&self, name: String, from: Option<u64>, pace: Pace, feed: Feed) -> Result<(), Problem>;

    /// Dead letters after a place in their order, which is by consumer and offset, at most `limit`.
    fn dead_letters(
        &self,
        query: LetterQuery,
        after: Option<LetterCursor>,
        limit: usize,
    ) -> Answer<'_, LetterPage>;
    /// One dead letter.
    fn dead_letter(&self, consumer: String, offset: u64) -> Answer<'_, LetterView>;
    /// Has dead letters delivered again, so many in a second at most. How many there are.
    fn redrive(&self, consumer: String, which: Letters, rate: u32) -> Answer<'_, u64>;
    /// Removes dead letters. How many there were.
    fn purge(&self, consumer: String, which: Letters) -> Answer<'_, u64>;

    /// All sinks, by name.
    fn sinks(&self) -> Vec<SinkStatus>;

    /// A page of decisions, newest first.
    fn decisions(&self, query: DecisionQuery) -> Answer<'_, DecisionPage>;
    /// Follows decisions from the one of this number on, or from now on.
    fn follow_decisions(&self, from: Option<u64>) -> Follower;
}
