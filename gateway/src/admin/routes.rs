//! What each path answers.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::Serialize;

use super::Readiness;
use crate::telemetry::Metrics;

const PROMETHEUS_TEXT: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
const PROBLEM_JSON: HeaderValue = HeaderValue::from_static("application/problem+json");

pub(super) fn router(metrics: Metrics, readiness: Arc<dyn Readiness>) -> Router {
    Router::new()
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
        Err(_) => problem(StatusCode::INTERNAL_SERVER_ERROR, "metrics could not be rendered".to_owned()),
    }
}

#[derive(Serialize)]
struct Ready {
    ready: bool,
    reasons: Vec<String>,
}

async fn ready(State(readiness): State<Arc<dyn Readiness>>) -> Response {
    let reasons: Vec<String> = readiness.reasons().iter().map(ToString::to_string).collect();
    let ready = reasons.is_empty();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(Ready { ready, reasons })).into_response()
}

async fn not_found(uri: Uri) -> Response {
    problem(StatusCode::NOT_FOUND, format!("there is nothing at {}", uri.path()))
}

async fn method_not_allowed(method: Method, uri: Uri) -> Response {
    problem(StatusCode::METHOD_NOT_ALLOWED, format!("{} does not answer to {method}", uri.path()))
}

/// RFC 9457; `type` is left at its default, about:blank, so `title` is the status's own phrase.
#[derive(Serialize)]
struct Problem {
    title: &'static str,
    status: u16,
    detail: String,
}

fn problem(status: StatusCode, detail: String) -> Response {
    let title = status.canonical_reason().unwrap_or("problem");
    let body = Json(Problem { title, status: status.as_u16(), detail });
    (status, [(header::CONTENT_TYPE, PROBLEM_JSON)], body).into_response()
}
