//! `/v1/status`: how it goes, in one answer.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use super::Operations;
use super::scrape::Scrape;
use crate::admin::problem::{Kind, Problem};
use crate::admin::v1::fields::InQuery;
use crate::clock;
use crate::clock::rfc_3339;
use crate::connection::metrics;

/// The gateway as a whole.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(in crate::admin) struct Status {
    version: &'static str,
    started: String,
    uptime_secs: u64,
    /// Whether traffic may be sent here; if not, `reasons` say why.
    ready: bool,
    reasons: Vec<String>,
    /// The level of pressure, 0 to 5.
    level: Option<u8>,
    /// Addresses that MQTT clients connect to.
    listeners: Vec<String>,
    /// Open connections, handshakes included.
    connections: u64,
    sessions: Sessions,
    events: Totals,
    log: Log,
    retained: Retained,
    streams: u64,
    consumers: u64,
    dead_letters: u64,
    cpu_secs: f64,
    resident_bytes: u64,
}

/// Sessions that outlive their connection.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(in crate::admin) struct Sessions {
    durable: u64,
    /// Those of them without a connection.
    offline: u64,
    /// Messages that they have not acknowledged.
    pending: u64,
}

/// Sums since the start.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(in crate::admin) struct Totals {
    /// PUBLISH packets received.
    received: u64,
    /// PUBLISH packets sent.
    sent: u64,
    /// Bytes of packets received.
    bytes_received: u64,
}

/// The log.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(in crate::admin) struct Log {
    data_dir: String,
    /// What an acknowledgement means: `fsync`, `interval` or `memory`.
    durability: &'static str,
    bytes: u64,
    max_bytes: u64,
    first_offset: u64,
    end_offset: u64,
}

/// Retained Messages.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(in crate::admin) struct Retained {
    messages: u64,
    bytes: u64,
}

pub(super) async fn show(
    State(operations): State<Operations>,
    InQuery(fields): InQuery,
) -> Result<Response, Problem> {
    fields.finish()?;
    let status = tokio::task::spawn_blocking(move || status(&operations)).await;
    let status = status.map_err(|_| Problem::new(Kind::Internal, "the status was cut short"))?;
    Ok(Json(status).into_response())
}

fn status(operations: &Operations) -> Status {
    let context = &operations.context;
    let (engine, about) = (&context.engine, &*operations.about);
    let scrape = Scrape::new(operations.metrics.render());
    let sessions = engine.sessions();
    let (offline, pending) = sessions
        .iter()
        .map(|session| session.state())
        .fold((0, 0), |sums, state| (sums.0 + u64::from(!state.connected), sums.1 + state.backlog.pending()));
    let consumers = context.consumers.list();
    let (retained, retained_bytes) = engine.retained_size();
    let totals = metrics::totals();
    let reasons = operations.reasons();
    Status {
        version: env!("CARGO_PKG_VERSION"),
        started: rfc_3339(clock::started_unix_ms()),
        uptime_secs: clock::unix_ms().saturating_sub(clock::started_unix_ms()) / 1000,
        ready: reasons.is_empty(),
        reasons,
        level: scrape.value("gateway_level").map(|level| level as u8),
        listeners: about.listeners.iter().map(ToString::to_string).collect(),
        connections: context.registry.connections() as u64,
        sessions: Sessions { durable: sessions.len() as u64, offline, pending },
        events: Totals {
            received: totals.received,
            sent: totals.sent,
            bytes_received: totals.bytes_received,
        },
        log: Log {
            data_dir: about.data_dir.clone(),
            durability: about.durability,
            bytes: engine.commit().stats().log_bytes,
            max_bytes: about.log_bytes_max,
            first_offset: engine.log().bounds().0.get(),
            end_offset: engine.end().get(),
        },
        retained: Retained { messages: retained, bytes: retained_bytes },
        streams: engine.streams().len() as u64,
        consumers: consumers.len() as u64,
        dead_letters: consumers.iter().map(|consumer| consumer.dead_letters).sum(),
        cpu_secs: scrape.sum("process_cpu_seconds_total"),
        resident_bytes: scrape.sum("process_resident_memory_bytes") as u64,
    }
}
