//! What an operator asks of the whole: who is connected and how others went, what is retained, how it goes, and both of that live.
//!
//! | path | |
//! |---|---|
//! | `GET status` | version, readiness, counts |
//! | `GET clients`, `clients/{client_id}` | connections and sessions; how the last connections of one ended, and why |
//! | `POST clients/{client_id}/kick` | closes its connection with 0x98 Administrative action |
//! | `POST reload`, `drain` | has the configuration read again; has the process drain and end |
//! | `GET retained` | Retained Messages |
//! | `GET live` | Server-Sent Events: figures of each second |
//! | `GET streams/{name}/watch` | Server-Sent Events: a sample of a stream's events as they come |
//!
//! Read next: `clients`, and `pulse` for where the figures come from.

mod clients;
mod process;
mod pulse;
mod retained;
mod scrape;
mod status;
mod watch;

use std::sync::Arc;

use axum::Router;
use axum::routing::{get, post};

use self::pulse::Pulse;
use super::gates::Gates;
use super::openapi;
use crate::admin::{About, Controls, Readiness, Subject};
use crate::connection::Context;
use crate::telemetry::Metrics;

pub(super) use self::clients::{ClientDetail, ClientView};
pub(super) use self::retained::RetainedView;
pub(super) use self::status::Status;

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
}

impl Operations {
    pub(super) fn new(subject: &Subject, readiness: Arc<dyn Readiness>, metrics: Metrics) -> Self {
        Self {
            context: subject.context.clone(),
            about: Arc::new(subject.about.clone()),
            readiness,
            metrics,
            gates: Arc::default(),
            pulse: Arc::default(),
            controls: subject.controls.clone(),
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
        .route("/v1/reload", post(process::reload))
        .route("/v1/drain", post(process::drain))
        .route("/v1/retained", get(retained::list))
        .route("/v1/live", get(pulse::live))
        .route("/v1/streams/{name}/watch", get(watch::watch))
        .with_state(operations)
}
