//! What each path answers; those under `/v1` are in [`super::v1`].

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::Serialize;

use super::problem::{Kind, Problem};
use super::{Readiness, Standing};
use crate::telemetry::Metrics;

const PROMETHEUS_TEXT: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");

pub(super) fn router(metrics: Metrics, readiness: Arc<dyn Readiness>, v1: Router) -> Router {
    Router::new()
        .merge(v1)
        .merge(super::page::router())
        .route("/metrics", get(render).with_state(metrics))
        .route("/healthz", get(|| async { "ok" }))
        .route("/readyz", get(ready).with_state(readiness))
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
}

async fn render(State(metrics): State<Metrics>) -> Response {
    // Rendering takes milliseconds and reads /proc; a reactor thread has connections to serve.
    match tokio::task::spawn_blocking(move || metrics.render()).await {
        Ok(text) => ([(header::CONTENT_TYPE, PROMETHEUS_TEXT)], text).into_response(),
        Err(_) => Problem::new(Kind::Internal, "metrics could not be rendered").into_response(),
    }
}

#[derive(Serialize)]
struct Ready {
    ready: bool,
    reasons: Vec<String>,
    #[serde(flatten)]
    standing: Standing,
}

async fn ready(State(readiness): State<Arc<dyn Readiness>>) -> Response {
    let reasons: Vec<String> = readiness.reasons().iter().map(ToString::to_string).collect();
    let ready = reasons.is_empty();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let standing = readiness.standing();
    (status, Json(Ready { ready, reasons, standing })).into_response()
}

async fn not_found(uri: Uri) -> Problem {
    Problem::new(Kind::NotFound, format!("there is nothing at {}", uri.path()))
}

async fn method_not_allowed(method: Method, uri: Uri) -> Problem {
    Problem::new(Kind::MethodNotAllowed, format!("{} does not answer to {method}", uri.path()))
}
