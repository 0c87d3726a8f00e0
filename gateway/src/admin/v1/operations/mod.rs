//! What an operator asks of the whole: who is connected and how others went, what is retained, how it goes, and both of that live.
//!
//! | path | |
//! |---|---|
//! | `GET status` | version, readiness, counts |
//! | `GET clients`, `clients/{client_id}` | connections and sessions; how the last connections of one ended, and why |
//! | `POST clients/{client_id}/kick` | closes its connection with 0x98 Administrative action |
//! | `GET trace?client=&topic=` | Server-Sent Events: what happens to a client or on some topics, packet by packet |
//! | `GET topics?prefix=` | the tree of topics with their rates, counted while somebody asks |
//! | `GET PUT DELETE logging`, `PUT logging/clients/{client_id}` | what is logged, by module and by client |
//! | `POST reload`, `drain` | has the configuration read again; has the process drain and end |
//! | `GET retained` | Retained Messages |
//! | `GET live` | Server-Sent Events: figures of each second |
//! | `GET streams/{name}/watch` | Server-Sent Events: a sample of a stream's events as they come |
//!
//! Read next: `clients`, and `pulse` for where the figures come from.

mod clients;
mod logging;
mod process;
mod pulse;
mod retained;
mod scrape;
mod status;
mod topics;
mod trace;
mod watch;

use std::sync::Arc;

use axum::Router;
use axum::routing::{get, post, put};

use self::logging::ClientLogs;
use self::pulse::Pulse;
use super::gates::Gates;
use super::openapi;
use crate::admin::{About, Controls, Readiness, Subject};
use crate::connection::Context;
use crate::telemetry::Metrics;

pub(super) use self::clients::{ClientDetail, ClientView};
pub(super) use self::logging::Logging;
pub(super) use self::retained::RetainedView;
pub(super) use self::status::Status;
pub(super) use self::topics::TopicsView;

/// What these handlers have.
#[derive(Clone)]
pub(super) struct Operations {
    context: Arc<Context>,
    about: Arc<About>,
    readiness: Arc<dyn Readiness>,
    metrics: Metrics,
    gates: Arc<Gates>,
    pulse: Arc<Pulse>,
    controls: Controls,
    client_logs: Arc<ClientLogs>,
}

impl Operations {
    pub(super) fn new(
        subject: &Subject,
        readiness: Arc<dyn Readiness>,
        metrics: Metrics,
        gates: Gates,
    ) -> Self {
        Self {
            context: subject.context.clone(),
            about: Arc::new(subject.about.clone()),
            readiness,
            metrics,
            gates: Arc::new(gates),
            pulse: Arc::default(),
            controls: subject.controls.clone(),
            client_logs: Arc::default(),
        }
    }

    fn reasons(&self) -> Vec<String> {
        self.readiness.reasons().iter().map(ToString::to_string).collect()
    }
}

/// The routes under `/v1` that are about the whole.
pub(super) fn router(operations: Operations) -> Router {
    Router::new()
        .route("/v1/openapi.json", get(openapi::show))
        .route("/v1/status", get(status::show))
        .route("/v1/clients", get(clients::list))
        .route("/v1/clients/{client_id}", get(clients::show))
        .route("/v1/clients/{client_id}/kick", post(clients::kick))
        .route("/v1/trace", get(trace::watch))
        .route("/v1/topics", get(topics::list))
        .route("/v1/logging", get(logging::show).put(logging::set).delete(logging::reset))
        .route("/v1/logging/clients/{client_id}", put(logging::set_client))
        .route("/v1/reload", post(process::reload))
        .route("/v1/drain", post(process::drain))
        .route("/v1/retained", get(retained::list))
        .route("/v1/live", get(pulse::live))
        .route("/v1/streams/{name}/watch", get(watch::watch))
        .with_state(operations)
}
