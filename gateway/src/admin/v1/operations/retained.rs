//! `/v1/retained`: Retained Messages.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use gateway_protocol::TopicFilter;
use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;

use super::Operations;
use crate::admin::problem::{Kind, Problem};
use crate::admin::v1::fields::InQuery;
use crate::admin::v1::paths::limit;
use crate::clock::rfc_3339;
use crate::engine::RetainedMessage;
use crate::event_view::{Payload, Properties};

/// Bytes of payloads in one page, the last one aside.
const PAGE_BYTES: usize = 4 << 20;

/// A Retained Message.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(in crate::admin) struct RetainedView {
    topic: String,
    /// Where in the log it is.
    offset: u64,
    /// When it was received.
    time: String,
    publisher: String,
    qos: u8,
    /// When it expires, if it does.
    expires: Option<String>,
    /// Bytes of its payload.
    bytes: u64,
    #[serde(skip_serializing_if = "Properties::is_empty")]
    properties: Properties,
    #[serde(flatten)]
    payload: Payload,
}

impl From<&RetainedMessage> for RetainedView {
    fn from(message: &RetainedMessage) -> Self {
        let event = message.event();
        Self {
            topic: event.topic.to_owned(),
            offset: message.offset().get(),
            time: rfc_3339(event.received_ms),
            publisher: event.client_id.to_owned(),
            qos: event.qos,
            expires: (event.expires_at_ms > 0).then(|| rfc_3339(event.expires_at_ms)),
            bytes: event.payload.len() as u64,
            properties: Properties::of(event.properties),
            payload: Payload::of(event.payload),
        }
    }
}

pub(super) async fn list(
    State(operations): State<Operations>,
    InQuery(mut fields): InQuery,
) -> Result<Response, Problem> {
    let topic = fields.text("topic", 1..=65_535).unwrap_or_else(|| "#".to_owned());
    if let Err(error) = TopicFilter::parse(&topic) {
        fields.fault("topic", error.to_string());
    }
    let after = fields.text("after", 0..=65_535);
    let limit = limit(&mut fields);
    fields.finish()?;
    // There may be a great many to look at.
    let page = tokio::task::spawn_blocking(move || page(&operations, &topic, after.as_deref(), limit));
    let (retained, next) = page.await.map_err(|_| Problem::new(Kind::Internal, "the list was cut short"))?;
    Ok(Json(json!({ "retained": retained, "next": next })).into_response())
}

fn page(
    operations: &Operations,
    topic: &str,
    after: Option<&str>,
    limit: usize,
) -> (Vec<RetainedView>, Option<String>) {
    let Ok(filter) = TopicFilter::parse(topic) else { return (Vec::new(), None) };
    let mut all = operations.context.engine.retained(filter);
    all.retain(|message| after.is_none_or(|after| message.event().topic > after));
    all.sort_by(|one, other| one.event().topic.cmp(other.event().topic));
    let (mut bytes, mut count) = (0, 0);
    for message in all.iter().take(limit) {
        if bytes >= PAGE_BYTES {
            break;
        }
        bytes += message.event().payload.len();
        count += 1;
    }
    let more = all.len() > count;
    let retained: Vec<_> = all.iter().take(count).map(|message| RetainedView::from(&**message)).collect();
    let next = retained.last().filter(|_| more).map(|last| last.topic.clone());
    (retained, next)
}
