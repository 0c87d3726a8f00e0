//! `/v1/dead-letters`

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use gateway_protocol::TopicFilter;
use serde::Serialize;
use serde_json::json;

use super::Api;
use super::backend::{LetterCursor, LetterPage, LetterQuery, LetterView};
use super::channel::{Feed, channel};
use super::fields::{Fields, InBody, InQuery, integer};
use super::paths::{NamedAt, limit};
use crate::admin::problem::Problem;
use crate::consumer::Letters;

const NDJSON: HeaderValue = HeaderValue::from_static("application/x-ndjson");
/// Offsets of one request.
const OFFSETS_MAX: usize = 10_000;
/// Dead letters delivered again in a second.
const RATE_MAX: u64 = 100_000;
const RATE_DEFAULT: u32 = 100;
/// Dead letters in one page of an export.
const EXPORT_PAGE: usize = 64;

#[derive(Serialize)]
struct Page {
    dead_letters: Vec<LetterView>,
    next: Option<String>,
}

pub(super) async fn list(State(api): State<Api>, InQuery(mut fields): InQuery) -> Result<Response, Problem> {
    let query = query(&mut fields);
    let after = fields.read("after", |value| {
        let cursor = value.as_str().and_then(read_cursor);
        cursor.ok_or_else(|| "expected what `next` of the page before says".to_owned())
    });
    let limit = limit(&mut fields);
    fields.finish()?;
    let LetterPage { letters, next } = api.backend.dead_letters(query, after, limit).await?;
    Ok(Json(Page { dead_letters: letters, next: next.as_ref().map(write_cursor) }).into_response())
}

pub(super) async fn show(
    State(api): State<Api>,
    NamedAt(consumer, offset): NamedAt,
    InQuery(fields): InQuery,
) -> Result<Response, Problem> {
    fields.finish()?;
    Ok(Json(api.backend.dead_letter(consumer, offset).await?).into_response())
}

pub(super) async fn redrive(State(api): State<Api>, InBody(mut fields): InBody) -> Result<Response, Problem> {
    let rate = fields.integer("rate", 1..=RATE_MAX).and_then(|rate| u32::try_from(rate).ok());
    let (consumer, which) = which(fields)?;
    let redriven = api.backend.redrive(consumer, which, rate.unwrap_or(RATE_DEFAULT)).await?;
    Ok(Json(json!({ "redriven": redriven })).into_response())
}

pub(super) async fn purge(State(api): State<Api>, InBody(fields): InBody) -> Result<Response, Problem> {
    let (consumer, which) = which(fields)?;
    let purged = api.backend.purge(consumer, which).await?;
    Ok(Json(json!({ "purged": purged })).into_response())
}

pub(super) async fn export(
    State(api): State<Api>,
    InQuery(mut fields): InQuery,
) -> Result<Response, Problem> {
    let query = query(&mut fields);
    fields.finish()?;
    let (feed, body) = channel(&api.gates)?;
    tokio::spawn(write_all(api, query, feed));
    Ok(([(header::CONTENT_TYPE, NDJSON)], body).into_response())
}

/// Page by page, as fast as the reader takes them. A page that cannot be read ends the export with a line that says so.
async fn write_all(api: Api, query: LetterQuery, mut feed: Feed) {
    let mut after = None;
    loop {
        let page = match api.backend.dead_letters(query.clone(), after, EXPORT_PAGE).await {
            Ok(page) => page,
            Err(problem) => {
                feed.line(&json!({ "error": problem.detail }));
                LetterPage::default()
            }
        };
        for letter in &page.letters {
            feed.line(letter);
        }
        after = page.next;
        if feed.send().await.is_err() || after.is_none() {
            return;
        }
    }
}

fn query(fields: &mut Fields) -> LetterQuery {
    let consumer = fields.text("consumer", 1..=256);
    let (cause, topic) = cause_and_topic(fields);
    LetterQuery { consumer, cause, topic }
}

fn cause_and_topic(fields: &mut Fields) -> (Option<String>, Option<String>) {
    let cause = fields.text("cause", 1..=64);
    let topic = fields.text("topic", 1..=65_535);
    if let Some(Err(error)) = topic.as_deref().map(TopicFilter::parse) {
        fields.fault("topic", error.to_string());
    }
    (cause, topic)
}

/// The consumer, and which of its dead letters. Exactly one way of saying which, so that no slip of the pen means all.
fn which(mut fields: Fields) -> Result<(String, Letters), Problem> {
    let consumer = fields.text("consumer", 1..=256);
    let consumer = fields.required("consumer", consumer);
    let matching = fields.has("cause") || fields.has("topic");
    let ways = [fields.has("all"), fields.has("offsets"), matching];
    let all = fields.flag("all");
    let offsets = fields.list("offsets", OFFSETS_MAX, "offsets", integer);
    let (cause, topic) = cause_and_topic(&mut fields);
    let which = match ways {
        [true, false, false] => {
            if all == Some(false) {
                fields.fault("all", "expected true, or to be left out");
            }
            Some(Letters::All)
        }
        [false, true, false] => offsets.map(Letters::Offsets),
        [false, false, true] => {
            Some(Letters::Matching { cause: cause.map(Into::into), filter: topic.map(Into::into) })
        }
        _ => {
            fields.fault("all", "expected exactly one of: all; offsets; topic, cause or both");
            None
        }
    };
    fields.finish_with(consumer.zip(which))
}

/// A place as one word. The offset comes first: the name of a consumer may have anything in it.
fn write_cursor(cursor: &LetterCursor) -> String {
    format!("{}/{}", cursor.offset, cursor.consumer)
}

fn read_cursor(text: &str) -> Option<LetterCursor> {
    let (offset, consumer) = text.split_once('/')?;
    Some(LetterCursor { consumer: consumer.to_owned(), offset: offset.parse().ok()? })
}
