//! `/v1/streams`

use std::collections::HashSet;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use gateway_protocol::TopicFilter;
use serde_json::json;

use super::Api;
use super::backend::{Made, StreamSpec, StreamView};
use super::fields::{Fields, InBody, InQuery};
use super::paths::{Named, PageOf, check_name, no_such_stream};
use crate::admin::problem::Problem;

const TOPICS_MAX: usize = 64;
const AGE_MS: std::ops::RangeInclusive<u64> = 1_000..=3_650 * 86_400_000;
const BYTES: std::ops::RangeInclusive<u64> = (1 << 20)..=(1024 << 40);

pub(super) async fn list(State(api): State<Api>, InQuery(fields): InQuery) -> Result<Response, Problem> {
    let page = PageOf::read(fields)?;
    let (streams, next) = page.cut(api.backend.streams(), |stream: &StreamView| &stream.name);
    Ok(Json(json!({ "streams": streams, "next": next })).into_response())
}

pub(super) async fn show(
    State(api): State<Api>,
    Named(name): Named,
    InQuery(fields): InQuery,
) -> Result<Response, Problem> {
    fields.finish()?;
    Ok(Json(find(&api, &name)?).into_response())
}

pub(super) async fn put(
    State(api): State<Api>,
    Named(name): Named,
    InBody(fields): InBody,
) -> Result<Response, Problem> {
    let spec = spec(fields, &name)?;
    let made = api.backend.set_stream(name.clone(), spec).await?;
    let status = if made == Made::New { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(find(&api, &name)?)).into_response())
}

pub(super) async fn delete(
    State(api): State<Api>,
    Named(name): Named,
    InQuery(fields): InQuery,
) -> Result<StatusCode, Problem> {
    fields.finish()?;
    api.backend.remove_stream(name).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn find(api: &Api, name: &str) -> Result<StreamView, Problem> {
    let streams = api.backend.streams();
    streams.into_iter().find(|stream| stream.name == name).ok_or_else(|| no_such_stream(name))
}

fn spec(mut fields: Fields, name: &str) -> Result<StreamSpec, Problem> {
    check_name(&mut fields, name);
    let topics = fields.list("topics", TOPICS_MAX, "Topic Filters, none beginning with $", |value| {
        let topic = value.as_str()?;
        (!topic.starts_with('$') && TopicFilter::parse(topic).is_ok()).then(|| topic.to_owned())
    });
    let topics = fields.required("topics", topics);
    if let Some(topics) = &topics
        && topics.iter().collect::<HashSet<_>>().len() < topics.len()
    {
        fields.fault("topics", "no Topic Filter may be there twice");
    }
    let max_age_ms = fields.duration_ms("max_age", AGE_MS);
    let max_age_ms = fields.required("max_age", max_age_ms);
    let max_bytes = fields.size("max_bytes", BYTES);
    let max_bytes = fields.required("max_bytes", max_bytes);
    let spec = (|| Some(StreamSpec { topics: topics?, max_age_ms: max_age_ms?, max_bytes: max_bytes? }))();
    fields.finish_with(spec)
}
