//! `/v1/...`: streams, consumers, dead letters and sinks, as JSON.
//!
//! | path | |
//! |---|---|
//! | `GET streams`, `GET PUT DELETE streams/{name}` | what is kept, and for how long |
//! | `GET consumers`, `GET PUT PATCH DELETE consumers/{name}` | who reads it; lists have `after` and `limit` |
//! | `POST consumers/{name}/pause`, `resume`, `reset` | `reset` takes `{"to": "earliest"}`, an offset, a time, `-15m` |
//! | `GET consumers/{name}/next?max=&wait=&worker=` | takes events; waits for the first of them |
//! | `POST consumers/{name}/ack`, `nak`, `reject`, `extend` | `{"ids": [..]}` of events taken; any connection will do |
//! | `GET consumers/{name}/watch` | Server-Sent Events: looks on, takes nothing |
//! | `GET dead-letters`, `dead-letters/{consumer}/{offset}`, `dead-letters/export` | pages, one, all as NDJSON |
//! | `POST dead-letters/redrive`, `purge` | `{"consumer": .., "all": true}`, or `offsets`, or `topic` and `cause` |
//! | `GET sinks` | what writes elsewhere |
//! | `GET decisions?client=&reason=&action=&since=` | what did not go through and why, newest first |
//! | `GET trace`, `topics`, `GET PUT DELETE logging` | one client live, topics with rates, the log level |
//! | `POST reload`, `drain` | what HUP and TERM do |
//! | `GET decisions/watch` | the same as Server-Sent Events, as it is decided |
//!
//! What changes something is on stable storage before it is answered. All that is wrong with a request is said at once. Durations are
//! strings with a unit, times RFC 3339, payloads `payload` where they are UTF-8 and `payload_base64` where they are not.
//!
//! Bounded: [`fields::BODY_BYTES_MAX`] of a body, the items of an answer, its bytes, how many may wait or watch at once (`gates`).
//!
//! A worker is known by `?worker=`, else by its address. Its leases outlive the response and the connection. If the connection is
//! lost while it waits, what it was about to get is given back; once the answer is on its way nobody can tell whether it arrives, and leases
//! that are not settled end by themselves. Where there is nothing, an answer takes a quarter of a second at least: what is there has to
//! be claimed in the log before it is handed out.
//!
//! The handlers know HTTP, JSON and [`backend::Backend`]. Read next: `fields` for how a request is read, `guard` for which ones are refused unread.

mod backend;
mod channel;
mod consumers;
mod dead_letters;
mod decisions;
mod fields;
mod gates;
mod guard;
mod letters;
mod local;
mod openapi;
mod operations;
mod paths;
mod sinks;
mod streams;
#[cfg(test)]
mod tests;
mod traced;
mod view;
mod watch;
mod work;

pub(super) use work::Peer;

use std::sync::Arc;

use axum::Router;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use tokio::sync::watch::Receiver;

use self::backend::Backend;
use self::gates::Gates;
use self::local::Local;
use self::operations::Operations;
use super::{Readiness, Subject};
use crate::telemetry::Metrics;

/// What every handler has.
#[derive(Clone)]
struct Api {
    backend: Arc<dyn Backend>,
    gates: Arc<Gates>,
}

/// The routes under `/v1` of this gateway.
/// What is watched ends when `stopped` becomes true.
pub(super) fn routes(
    subject: Subject,
    readiness: Arc<dyn Readiness>,
    metrics: Metrics,
    stopped: Receiver<bool>,
) -> Router {
    let gates = || Gates::until(stopped.clone());
    let operations = operations::router(Operations::new(&subject, readiness, metrics, gates()));
    router(Arc::new(Local::new(subject)), gates()).merge(guarded(operations))
}

fn router(backend: Arc<dyn Backend>, gates: Gates) -> Router {
    let routes = Router::new()
        .route("/v1/streams", get(streams::list))
        .route("/v1/streams/{name}", get(streams::show).put(streams::put).delete(streams::delete))
        .route("/v1/consumers", get(consumers::list))
        .route(
            "/v1/consumers/{name}",
            get(consumers::show).put(consumers::put).patch(consumers::patch).delete(consumers::delete),
        )
        .route("/v1/consumers/{name}/pause", post(consumers::pause))
        .route("/v1/consumers/{name}/resume", post(consumers::resume))
        .route("/v1/consumers/{name}/reset", post(consumers::reset))
        .route("/v1/consumers/{name}/next", get(work::next))
        .route("/v1/consumers/{name}/ack", post(work::ack))
        .route("/v1/consumers/{name}/nak", post(work::nak))
        .route("/v1/consumers/{name}/reject", post(work::reject))
        .route("/v1/consumers/{name}/extend", post(work::extend))
        .route("/v1/consumers/{name}/watch", get(work::watch))
        .route("/v1/dead-letters", get(dead_letters::list))
        .route("/v1/dead-letters/export", get(dead_letters::export))
        .route("/v1/dead-letters/redrive", post(dead_letters::redrive))
        .route("/v1/dead-letters/purge", post(dead_letters::purge))
        .route("/v1/dead-letters/{consumer}/{offset}", get(dead_letters::show))
        .route("/v1/sinks", get(sinks::list))
        .route("/v1/decisions", get(decisions::list))
        .route("/v1/decisions/watch", get(decisions::watch))
        .with_state(Api { backend, gates: Arc::new(gates) });
    guarded(routes)
}

/// What is common to all of them.
fn guarded(routes: Router) -> Router {
    routes.layer(axum::middleware::map_response(no_store)).layer(axum::middleware::from_fn(guard::guard))
}

/// Answers are about this moment; nothing on the way may keep one.
async fn no_store(response: Response) -> Response {
    ([(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))], response).into_response()
}
