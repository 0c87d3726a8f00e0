//! `/v1/trace`: what happens to one client, or to some topics, line by line as it happens.
//!
//! Server-Sent Events: `begin`, then `line` for each packet and `missed` where there was no room. Of the decision log it tells what no packet
//! shows: what was dropped, expired and slowed.

use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use gateway_protocol::TopicFilter;
use serde_json::json;

use super::Operations;
use crate::admin::problem::{Kind, Problem};
use crate::admin::v1::channel::{Feed, channel};
use crate::admin::v1::fields::{Fields, InQuery};
use crate::clock::rfc_3339;
use crate::decisions::{Action, Follower, Recorded};
use crate::lens::{Direction, Following, Line, Seen, Wanted};

const EVENT_STREAM: HeaderValue = HeaderValue::from_static("text/event-stream");
/// Bytes of a Client Identifier and of a Topic Filter.
const NAME_MAX: usize = 65_535;
/// Lines sent together.
const TOGETHER: usize = 64;

pub(super) async fn watch(
    State(operations): State<Operations>,
    InQuery(fields): InQuery,
) -> Result<Response, Problem> {
    let wanted = wanted(fields)?;
    let (mut feed, body) = channel(&operations.gates)?;
    let context = &operations.context;
    let following =
        context.lens.follow(wanted).map_err(|error| Problem::new(Kind::Busy, error.to_string()))?;
    let decisions = context.decisions.follow(None);
    let present = following.wanted().client.as_deref().and_then(|client| context.presence.get(client));
    let begin = json!({
        "client": following.wanted().client,
        "topic": following.wanted().filter,
        "connected_since": present.map(|present| rfc_3339(present.since_ms)),
    });
    feed.event("begin", None, &begin);
    tokio::spawn(run(following, decisions, feed));
    Ok(([(header::CONTENT_TYPE, EVENT_STREAM)], body).into_response())
}

fn wanted(mut fields: Fields) -> Result<Wanted, Problem> {
    let client = fields.text("client", 1..=NAME_MAX);
    let filter = fields.text("topic", 1..=NAME_MAX);
    if let Some(Err(error)) = filter.as_deref().map(TopicFilter::parse) {
        fields.fault("topic", error.to_string());
    }
    if client.is_none() && filter.is_none() {
        fields.required::<()>("client", None);
    }
    fields.finish()?;
    Ok(Wanted { client: client.map(Into::into), filter: filter.map(Into::into) })
}

async fn run(mut following: Following, mut decisions: Follower, mut feed: Feed) {
    loop {
        if feed.send().await.is_err() {
            return;
        }
        tokio::select! {
            () = feed.closed() => return,
            Seen { missed, lines } = following.next(TOGETHER) => {
                for line in &lines {
                    feed.event("line", None, line);
                }
                if missed > 0 {
                    feed.event("missed", None, &json!({ "missed": missed }));
                }
            }
            news = decisions.next(TOGETHER) => {
                for decision in news.decisions.iter().filter(|decision| is_meant(following.wanted(), decision)) {
                    feed.event("line", None, &line(decision));
                }
            }
        }
    }
}

/// Refusals, sheds and ends are lines of their packets already.
fn is_meant(wanted: &Wanted, decision: &Recorded) -> bool {
    matches!(decision.action, Action::Dropped | Action::Expired | Action::Throttled)
        && wanted.client.as_deref().is_none_or(|client| client == &*decision.client)
        && wanted.wants_topic(Some(&decision.topic))
}

fn line(decision: &Recorded) -> Line {
    let mut line = Line::new(&decision.client, Direction::Connection, "DECISION");
    line.time_ms = decision.time_ms;
    let reason = match decision.count {
        1 => decision.reason.label().to_owned(),
        count => format!("{} x{count}", decision.reason.label()),
    };
    if !decision.topic.is_empty() {
        line.set_topic(&decision.topic);
    }
    line.with_outcome(decision.action.label(), Some(&reason))
}
