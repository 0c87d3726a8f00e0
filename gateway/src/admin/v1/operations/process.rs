//! `/v1/reload` and `/v1/drain`: what HUP and TERM do, asked for over HTTP.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::json;
use tokio::sync::oneshot;

use super::Operations;
use crate::admin::controls::{Drain, NotTaken, Order};
use crate::admin::problem::{Kind, Problem};
use crate::admin::v1::fields::InBody;

/// Bytes of a Server Reference.
const SERVER_REFERENCE_MAX: usize = 1024;

/// Has the configuration read again. Answered when it was.
pub(super) async fn reload(
    State(operations): State<Operations>,
    InBody(fields): InBody,
) -> Result<Response, Problem> {
    fields.finish()?;
    let (answer, answered) = oneshot::channel();
    operations.controls.give(Order::Reload(answer)).map_err(not_taken)?;
    let result = answered.await.map_err(|_| Problem::new(Kind::Stopping, "the process is ending"))?;
    let reloaded = result.map_err(|faults| Problem {
        kind: Kind::ConfigInvalid,
        detail: "the configuration has faults: nothing is changed".to_owned(),
        faults: faults.into_iter().map(Into::into).collect(),
    })?;
    Ok(Json(reloaded).into_response())
}

/// Has the process drain and end. Answered at once; the end is when nobody answers any more.
pub(super) async fn drain(
    State(operations): State<Operations>,
    InBody(mut fields): InBody,
) -> Result<Response, Problem> {
    let server_reference = fields.text("server_reference", 1..=SERVER_REFERENCE_MAX);
    if server_reference.as_deref().is_some_and(|text| text.contains(char::is_control)) {
        fields.fault("server_reference", "expected host, host:port or several of them parted by spaces");
    }
    fields.finish()?;
    let order = Drain { server_reference: server_reference.clone().map(String::into_boxed_str) };
    operations.controls.give(Order::Drain(order)).map_err(not_taken)?;
    let connections = operations.context.registry.connections();
    let answer =
        json!({ "draining": true, "connections": connections, "server_reference": server_reference });
    Ok((StatusCode::ACCEPTED, Json(answer)).into_response())
}

fn not_taken(why: NotTaken) -> Problem {
    match why {
        NotTaken::Nobody => Problem::new(
            Kind::Conflict,
            "this gateway runs inside another program, or its process is ending: it is not to be asked for this",
        ),
        NotTaken::Busy => Problem::new(Kind::Busy, "as many orders as may be wait already"),
    }
}
