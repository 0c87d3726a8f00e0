//! What others ask the engine about streams, and how they make and remove them.

use super::made::{SPEC_BYTES_MAX, is_stream_name};
use super::{STREAMS_MAX, StreamOptions, StreamSpec};
use crate::engine::Engine;
use crate::router::{Grant, Router};
use gateway_protocol::{QoS, TopicFilter};
use gateway_storage::{Entry, Offset, Staging, SubmitError, Ticket, Urgency};
use std::task::Waker;

/// A stream in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamInfo {
    /// Its number; not used again for another stream before a restart.
    pub id: u64,
    /// What it keeps.
    pub options: StreamOptions,
    /// It stands in the configuration, and is neither altered nor removed otherwise.
    pub configured: bool,
    /// Where it begins.
    pub floor: Offset,
    /// About how many bytes it keeps.
    pub bytes: u64,
    /// About how many events.
    pub events: u64,
}

/// A stream cannot be made, altered or removed.
#[derive(Debug, thiserror::Error)]
pub enum SetStreamError {
    /// It stands in the configuration.
    #[error("the stream \"{name}\" stands in the configuration, and is changed there")]
    Configured {
        /// Its name.
        name: String,
    },
    /// There is none of this name.
    #[error("there is no stream \"{name}\"")]
    Missing {
        /// The name.
        name: String,
    },
    /// Its name is none.
    #[error("\"{name}\" is no name of a stream, which is 1 to 64 of a-z, 0-9, - and _")]
    Name {
        /// The name.
        name: String,
    },
    /// A Topic Filter is none, begins with `$`, or has too many levels; or there are none or more than 64.
    #[error("a stream keeps 1 to 64 Topic Filters, none of them beginning with $: {problem}")]
    Topics {
        /// What is wrong.
        problem: String,
    },
    /// `max_age` or `max_bytes` is out of range.
    #[error("{key} is out of range: at least {least}")]
    Range {
        /// Which one.
        key: &'static str,
        /// The least that is accepted, in milliseconds or bytes.
        least: u64,
    },
    /// There are as many as there may be.
    #[error("there are {STREAMS_MAX} streams already")]
    TooMany,
    /// All streams together would not leave room for two segments below `storage.max_bytes`.
    #[error("all streams together may keep {left} bytes more")]
    NoRoom {
        /// What is left, in bytes.
        left: u64,
    },
    /// The log does not take it now.
    #[error("the log does not take it: {0}")]
    Submit(#[from] SubmitError),
}

impl Engine {
    /// The number of the stream called `name`.
    #[must_use]
    pub fn stream_id(&self, name: &str) -> Option<u64> {
        self.shared.table.streams.id(name)
    }

    /// Whether stream number `stream` keeps `topic`. The answer is good while [`Engine::stream_epoch`] stands.
    #[must_use]
    pub fn stream_keeps(&self, stream: u64, topic: &str) -> bool {
        self.shared.table.streams.keeping(topic).contains(&stream)
    }

    /// Changes whenever a stream is made, altered or removed.
    #[must_use]
    pub fn stream_epoch(&self) -> u64 {
        self.shared.table.streams.epoch()
    }

    /// Whether there is a stream number `stream`, still.
    #[must_use]
    pub fn has_stream(&self, stream: u64) -> bool {
        self.shared.table.streams.get(stream).is_some()
    }

    /// About how many bytes and events stream number `stream` has had before `offset`, those that are not kept any more included: the
    /// difference between two offsets is what lies between them. Exact to a 512th of `max_bytes`; before the stream's beginning it
    /// is as at its beginning.
    #[must_use]
    pub fn stream_before(&self, stream: u64, offset: Offset) -> (u64, u64) {
        self.shared.table.streams.usage().get(stream).map_or((0, 0), |usage| usage.before(offset))
    }

    /// The streams in force.
    #[must_use]
    pub fn streams(&self) -> Vec<StreamInfo> {
        let streams = self.shared.table.streams.all();
        let earliest = self.log.bounds().0;
        let usages = self.shared.table.streams.usage();
        let info = |stream: &super::Stream| {
            let floor = stream.floor().max(earliest);
            let (bytes, events) = usages.get(stream.id).map_or((0, 0), |usage| usage.kept_from(floor));
            StreamInfo {
                id: stream.id,
                options: stream.options.clone(),
                configured: stream.configured,
                floor,
                bytes,
                events,
            }
        };
        streams.iter().map(|stream| info(stream)).collect()
    }

    /// Makes a stream, or alters the one of this name: what it keeps from then on, and how much of what it has. It is in force when the
    /// ticket is covered; `waker` is woken then.
    ///
    /// # Errors
    /// [`SetStreamError`]; nothing has changed.
    pub fn set_stream(
        &self,
        options: &StreamOptions,
        now_ms: u64,
        waker: &Waker,
    ) -> Result<Ticket, SetStreamError> {
        self.check_stream(options)?;
        let spec = StreamSpec::of(options).encode();
        if spec.len() > SPEC_BYTES_MAX {
            return Err(SetStreamError::Topics { problem: "they are too long together".into() });
        }
        self.submit_stream(&Entry::StreamSet { name: &options.name, at_ms: now_ms, spec: &spec }, waker)
    }

    /// Removes a stream that was made. Its events stay in the log for as long as somebody else needs them there.
    ///
    /// # Errors
    /// [`SetStreamError`]; nothing has changed.
    pub fn remove_stream(&self, name: &str, now_ms: u64, waker: &Waker) -> Result<Ticket, SetStreamError> {
        let streams = &self.shared.table.streams;
        if streams.id(name).is_none() {
            return Err(SetStreamError::Missing { name: name.into() });
        }
        if streams.is_configured(name) {
            return Err(SetStreamError::Configured { name: name.into() });
        }
        self.submit_stream(&Entry::StreamRemoved { name, at_ms: now_ms }, waker)
    }

    fn submit_stream(&self, entry: &Entry<'_>, waker: &Waker) -> Result<Ticket, SetStreamError> {
        let mut staging = Staging::new();
        if let Err(error) = staging.push(entry) {
            return Err(SetStreamError::Topics { problem: error.to_string() });
        }
        Ok(self.submit(&mut staging, Urgency::Now, waker, None)?)
    }

    fn check_stream(&self, options: &StreamOptions) -> Result<(), SetStreamError> {
        let streams = &self.shared.table.streams;
        let name = &options.name;
        if !is_stream_name(name) {
            return Err(SetStreamError::Name { name: name.clone() });
        }
        if streams.is_configured(name) {
            return Err(SetStreamError::Configured { name: name.clone() });
        }
        check_topics(&options.topics).map_err(|problem| SetStreamError::Topics { problem })?;
        for (key, value, least) in
            [("max_age", options.max_age_ms, 1000), ("max_bytes", options.max_bytes, 1 << 20)]
        {
            if value < least {
                return Err(SetStreamError::Range { key, least });
            }
        }
        let others: Vec<_> =
            streams.all().into_iter().filter(|stream| stream.options.name != *name).collect();
        if others.len() >= STREAMS_MAX {
            return Err(SetStreamError::TooMany);
        }
        let taken = others.iter().fold(0, |sum: u64, stream| sum.saturating_add(stream.options.max_bytes));
        let room = self.log_bytes_max.saturating_sub(self.segment_bytes.saturating_mul(2));
        let left = room.saturating_sub(taken);
        if options.max_bytes > left {
            return Err(SetStreamError::NoRoom { left });
        }
        Ok(())
    }
}

fn check_topics(topics: &[String]) -> Result<(), String> {
    if topics.is_empty() || topics.len() > 64 {
        return Err(format!("there are {}", topics.len()));
    }
    let mut router = Router::default();
    for topic in topics {
        let filter = TopicFilter::parse(topic).map_err(|error| format!("\"{topic}\": {error}"))?;
        if topic.starts_with('$') {
            return Err(format!("\"{topic}\" begins with $"));
        }
        let grant =
            Grant { qos: QoS::ExactlyOnce, no_local: false, retain_as_published: false, subscription_id: 0 };
        router.subscribe(0, (), filter, grant).map_err(|error| format!("\"{topic}\": {error}"))?;
    }
    Ok(())
}
