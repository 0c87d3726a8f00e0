//! `/v1/consumers/{name}/...`: taking events, settling them, and looking on.

use std::net::SocketAddr;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde::Serialize;

use super::Api;
use super::backend::Wanted;
use super::channel::channel;
use super::fields::{Fields, InBody, InQuery};
use super::paths::Named;
use crate::admin::metrics::Counted;
use crate::admin::problem::Problem;
use crate::config::Pace;
use crate::consumer::{DeliveryId, Outcome};
use crate::engine::{Cause, NOTE_BYTES_MAX};
use crate::event_view::EventView;

/// Events of one answer.
const EVENTS_MAX: u64 = 1000;
const EVENTS_DEFAULT: u32 = 100;
const WAIT_MS_MAX: u64 = 60_000;
/// Identifiers of one request.
const IDS_MAX: usize = 1000;
const NAK_DELAY_MS_MAX: u64 = 86_400_000;
const LAST_EVENT_ID: &str = "last-event-id";

/// Why a worker refuses an event for good, as the Reason Code that an MQTT worker would send.
const CAUSES: [(&str, u8); 3] =
    [("payload_format_invalid", 0x99), ("implementation_specific", 0x83), ("unspecified", 0x80)];

#[derive(Serialize)]
struct Events {
    events: Vec<EventView>,
}

/// Who is at the other end of the connection.
#[derive(Clone, Copy)]
pub(in crate::admin) struct Peer(pub(in crate::admin) SocketAddr);

pub(super) async fn next(
    State(api): State<Api>,
    peer: Option<Extension<Peer>>,
    Named(name): Named,
    InQuery(mut fields): InQuery,
) -> Result<Response, Problem> {
    let max = fields.integer("max", 1..=EVENTS_MAX).and_then(|max| u32::try_from(max).ok());
    let wait_ms = fields.duration_ms("wait", 0..=WAIT_MS_MAX);
    let worker = fields.text("worker", 1..=64);
    fields.finish()?;
    let _place = api.gates.long_poll()?;
    let _counted = Counted::new("gateway_admin_long_polls");
    let wanted = Wanted {
        worker: worker.unwrap_or_else(|| {
            peer.map_or_else(|| "http".to_owned(), |Extension(Peer(peer))| peer.to_string())
        }),
        max: max.unwrap_or(EVENTS_DEFAULT),
        wait: Duration::from_millis(wait_ms.unwrap_or(0)),
    };
    let events = api.backend.next(name, wanted).await?;
    Ok(Json(Events { events }).into_response())
}

pub(super) async fn ack(
    State(api): State<Api>,
    Named(name): Named,
    InBody(fields): InBody,
) -> Result<Response, Problem> {
    settle(&api, name, fields, Some(Outcome::Ack)).await
}

pub(super) async fn nak(
    State(api): State<Api>,
    Named(name): Named,
    InBody(mut fields): InBody,
) -> Result<Response, Problem> {
    let delay_ms = fields.duration_ms("delay", 0..=NAK_DELAY_MS_MAX);
    settle(&api, name, fields, Some(Outcome::Nak { delay_ms })).await
}

pub(super) async fn reject(
    State(api): State<Api>,
    Named(name): Named,
    InBody(mut fields): InBody,
) -> Result<Response, Problem> {
    let reason_code = match fields.has("cause") {
        true => fields.choice("cause", &CAUSES),
        false => Some(0x80),
    };
    let note = fields.text("note", 0..=NOTE_BYTES_MAX).unwrap_or_default();
    let outcome = |code| Outcome::Reject { cause: Cause::Rejected(code), note: note.into() };
    settle(&api, name, fields, reason_code.map(outcome)).await
}

pub(super) async fn extend(
    State(api): State<Api>,
    Named(name): Named,
    InBody(fields): InBody,
) -> Result<Response, Problem> {
    settle(&api, name, fields, Some(Outcome::Extend)).await
}

async fn settle(
    api: &Api,
    name: String,
    mut fields: Fields,
    outcome: Option<Outcome>,
) -> Result<Response, Problem> {
    let ids = fields.list("ids", IDS_MAX, "ids, as `next` gives them", |value| {
        value.as_str()?.parse::<DeliveryId>().ok()
    });
    let ids = fields.required("ids", ids);
    let (ids, outcome) = fields.finish_with(ids.zip(outcome))?;
    Ok(Json(api.backend.settle(name, ids, outcome).await?).into_response())
}

pub(super) async fn watch(
    State(api): State<Api>,
    Named(name): Named,
    headers: HeaderMap,
    InQuery(mut fields): InQuery,
) -> Result<Response, Problem> {
    let from = fields.integer("from", 0..=u64::MAX);
    let pace = fields.read("pace", |value| {
        let pace = value.as_str().and_then(Pace::parse);
        pace.ok_or_else(|| format!("expected {}", Pace::ACCEPTED))
    });
    fields.finish()?;
    // A client that reconnects says which event it saw last.
    let last = headers.get(LAST_EVENT_ID).and_then(|id| id.to_str().ok()?.parse::<u64>().ok());
    let (feed, body) = channel(&api.gates)?;
    api.backend.watch(
        name,
        last.map(|last| last.saturating_add(1)).or(from),
        pace.unwrap_or_default(),
        feed,
    )?;
    Ok(([(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"))], body).into_response())
}
