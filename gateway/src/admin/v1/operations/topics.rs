//! `/v1/topics`: the tree of topics with their rates, level by level.
//!
//! Topics are counted only while somebody asks: from the first request on, and for half a minute after the last. So the first answer is
//! empty, and rates are right after some seconds. What finds no room in the table is one figure, `other`.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use super::Operations;
use crate::admin::problem::{Kind, Problem};
use crate::admin::v1::fields::InQuery;
use crate::admin::v1::paths::limit;
use crate::clock;
use crate::lens::{Level, Rates};

/// Bytes of a topic.
const TOPIC_MAX: usize = 65_535;
/// Between two looks whether anybody still asks.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// A part of the tree.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(in crate::admin) struct TopicsView {
    /// What it is below; null: the first level.
    prefix: Option<String>,
    /// How long it has been counted.
    counted_ms: u64,
    topics: Vec<TopicLevel>,
    /// What is counted under no topic of its own, wherever it belongs.
    other: TopicRates,
    /// What to say as `after` for the next page; null: there is none.
    next: Option<String>,
}

/// One level below the prefix.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(in crate::admin) struct TopicLevel {
    /// Its name.
    name: String,
    /// The whole topic as far as this level: the `prefix` of what is below it.
    topic: String,
    /// Topics that go through it, itself included.
    topics: usize,
    /// Whether there is more below it.
    has_children: bool,
    #[serde(flatten)]
    rates: TopicRates,
}

/// What has come, of a level with all that is below it.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(in crate::admin) struct TopicRates {
    /// Events since the counting began.
    events: u64,
    /// Events in a second, over the last few.
    events_per_sec: f64,
    /// Bytes of their packets in a second.
    bytes_per_sec: f64,
}

impl From<Rates> for TopicRates {
    fn from(rates: Rates) -> Self {
        let rounded = |rate: f64| (rate * 100.0).round() / 100.0;
        Self {
            events: rates.events,
            events_per_sec: rounded(rates.events_per_sec),
            bytes_per_sec: rounded(rates.bytes_per_sec),
        }
    }
}

pub(super) async fn list(
    State(operations): State<Operations>,
    InQuery(mut fields): InQuery,
) -> Result<Response, Problem> {
    let prefix = fields.text("prefix", 0..=TOPIC_MAX);
    let after = fields.text("after", 0..=TOPIC_MAX);
    let limit = limit(&mut fields);
    fields.finish()?;
    let now_ms = clock::monotonic().0;
    let (topics, is_first) = operations.context.lens.look_at_topics(now_ms);
    if is_first {
        let lens = operations.context.lens.clone();
        tokio::spawn(async move {
            while !lens.end_topics(clock::monotonic().0) {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        });
    }
    // There may be tens of thousands to look at.
    let view = tokio::task::spawn_blocking(move || {
        let (levels, more) = topics.below(prefix.as_deref(), after.as_deref(), limit, now_ms);
        let next = levels.last().filter(|_| more).map(|last| last.name.to_string());
        TopicsView {
            counted_ms: topics.counted_ms(now_ms),
            topics: levels.into_iter().map(|level| shown(prefix.as_deref(), level)).collect(),
            other: topics.other(now_ms).into(),
            next,
            prefix,
        }
    });
    let view = view.await.map_err(|_| Problem::new(Kind::Internal, "the list was cut short"))?;
    Ok(Json(view).into_response())
}

fn shown(prefix: Option<&str>, level: Level) -> TopicLevel {
    TopicLevel {
        topic: match prefix {
            Some(prefix) => format!("{prefix}/{}", level.name),
            None => level.name.to_string(),
        },
        name: level.name.into(),
        topics: level.topics,
        has_children: level.has_children,
        rates: level.rates.into(),
    }
}
