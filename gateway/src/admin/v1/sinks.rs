//! `/v1/sinks`

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::Api;
use super::fields::InQuery;
use crate::admin::problem::Problem;

pub(super) async fn list(State(api): State<Api>, InQuery(fields): InQuery) -> Result<Response, Problem> {
    fields.finish()?;
    Ok(Json(json!({ "sinks": api.backend.sinks() })).into_response())
}
