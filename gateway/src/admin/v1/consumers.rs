//! `/v1/consumers`, but for the work itself.

use std::ops::RangeInclusive;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use gateway_protocol::TopicFilter;
use serde_json::{Value, json};

use super::Api;
use super::backend::{ConsumerView, Made};
use super::fields::{Fields, InBody, InQuery};
use super::paths::{Named, PageOf, check_name, no_such_consumer};
use crate::admin::problem::Problem;
use crate::clock;
use crate::consumer::{ConsumerChanges, ConsumerOptions};
use crate::engine::Order;
use crate::stream::From;

const ACK_WAIT_MS: RangeInclusive<u64> = 100..=86_400_000;
const BACKOFF_MS: RangeInclusive<u64> = 0..=7 * 86_400_000;
const BACKOFF_STEPS_MAX: usize = 32;
const MAX_DELIVER: RangeInclusive<u64> = 0..=1000;
const MAX_ACK_PENDING: RangeInclusive<u64> = 1..=100_000;
/// What a new consumer has that nothing is said about; the same as in the configuration file.
const ACK_WAIT_MS_DEFAULT: u64 = 30_000;
const MAX_DELIVER_DEFAULT: u32 = 5;
const MAX_ACK_PENDING_DEFAULT: u32 = 1000;
const FILTER_DEFAULT: &str = "#";
const FILTER_BYTES: RangeInclusive<usize> = 1..=65_535;

pub(super) async fn list(State(api): State<Api>, InQuery(fields): InQuery) -> Result<Response, Problem> {
    let page = PageOf::read(fields)?;
    let (consumers, next) = page.cut(api.backend.consumers(), |consumer: &ConsumerView| &consumer.name);
    Ok(Json(json!({ "consumers": consumers, "next": next })).into_response())
}

pub(super) async fn show(
    State(api): State<Api>,
    Named(name): Named,
    InQuery(fields): InQuery,
) -> Result<Response, Problem> {
    fields.finish()?;
    shown(&api, &name)
}

pub(super) async fn put(
    State(api): State<Api>,
    Named(name): Named,
    InBody(mut fields): InBody,
) -> Result<Response, Problem> {
    check_name(&mut fields, &name);
    let stream = fields.text("stream", 1..=64);
    let stream = fields.required("stream", stream);
    let from = match fields.has("from") {
        true => from(&mut fields, "from"),
        false => Some(From::Latest),
    };
    let changes = changes(&mut fields);
    let options = stream.zip(from).map(|(stream, from)| ConsumerOptions {
        stream: stream.into(),
        filter: changes.filter.unwrap_or_else(|| FILTER_DEFAULT.into()),
        from,
        ack_wait_ms: changes.ack_wait_ms.unwrap_or(ACK_WAIT_MS_DEFAULT),
        max_deliver: changes.max_deliver.unwrap_or(MAX_DELIVER_DEFAULT),
        backoff_ms: changes.backoff_ms.unwrap_or_default(),
        max_ack_pending: changes.max_ack_pending.unwrap_or(MAX_ACK_PENDING_DEFAULT),
        order: changes.order.unwrap_or_default(),
        configured: false,
    });
    let options = fields.finish_with(options)?;
    let made = api.backend.set_consumer(name.clone(), options).await?;
    let status = if made == Made::New { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, shown(&api, &name)?).into_response())
}

pub(super) async fn patch(
    State(api): State<Api>,
    Named(name): Named,
    InBody(mut fields): InBody,
) -> Result<Response, Problem> {
    let mut changes = changes(&mut fields);
    changes.paused = fields.flag("paused");
    fields.finish()?;
    api.backend.alter_consumer(name.clone(), changes).await?;
    shown(&api, &name)
}

pub(super) async fn delete(
    State(api): State<Api>,
    Named(name): Named,
    InQuery(fields): InQuery,
) -> Result<StatusCode, Problem> {
    fields.finish()?;
    api.backend.remove_consumer(name).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn pause(
    State(api): State<Api>,
    Named(name): Named,
    InBody(fields): InBody,
) -> Result<Response, Problem> {
    set_paused(&api, name, fields, true).await
}

pub(super) async fn resume(
    State(api): State<Api>,
    Named(name): Named,
    InBody(fields): InBody,
) -> Result<Response, Problem> {
    set_paused(&api, name, fields, false).await
}

async fn set_paused(api: &Api, name: String, fields: Fields, paused: bool) -> Result<Response, Problem> {
    fields.finish()?;
    let changes = ConsumerChanges { paused: Some(paused), ..ConsumerChanges::default() };
    api.backend.alter_consumer(name.clone(), changes).await?;
    shown(api, &name)
}

pub(super) async fn reset(
    State(api): State<Api>,
    Named(name): Named,
    InBody(mut fields): InBody,
) -> Result<Response, Problem> {
    let to = from(&mut fields, "to");
    let to = fields.required("to", to);
    let to = fields.finish_with(to)?;
    api.backend.reset_consumer(name.clone(), to).await?;
    shown(&api, &name)
}

fn shown(api: &Api, name: &str) -> Result<Response, Problem> {
    let consumer = api.backend.consumer(name).ok_or_else(|| no_such_consumer(name))?;
    Ok(Json(consumer).into_response())
}

/// A place in a stream: as `$stream/<name>/<from>/...` has it, or an offset as a number.
fn from(fields: &mut Fields, key: &'static str) -> Option<From> {
    fields.read(key, |value| {
        let text = match value {
            Value::String(text) => text.clone(),
            value => value.to_string(),
        };
        From::parse(&text, clock::unix_ms()).ok_or_else(|| {
            "expected \"earliest\", \"latest\", an offset, an RFC 3339 time, or a time ago as \"-15m\""
                .to_owned()
        })
    })
}

fn changes(fields: &mut Fields) -> ConsumerChanges {
    let filter = fields.text("filter", FILTER_BYTES);
    if let Some(Err(error)) = filter.as_deref().map(TopicFilter::parse) {
        fields.fault("filter", error.to_string());
    }
    let ack_wait_ms = fields.duration_ms("ack_wait", ACK_WAIT_MS);
    let max_deliver = fields.integer("max_deliver", MAX_DELIVER);
    let backoff_ms = fields.durations_ms("backoff", BACKOFF_MS, BACKOFF_STEPS_MAX);
    let max_ack_pending = fields.integer("max_ack_pending", MAX_ACK_PENDING);
    let order = fields.choice("order", &[("none", Order::None), ("key", Order::Key)]);
    ConsumerChanges {
        filter: filter.map(Into::into),
        ack_wait_ms,
        max_deliver: max_deliver.and_then(|count| u32::try_from(count).ok()),
        backoff_ms,
        max_ack_pending: max_ack_pending.and_then(|count| u32::try_from(count).ok()),
        order,
        ..ConsumerChanges::default()
    }
}
