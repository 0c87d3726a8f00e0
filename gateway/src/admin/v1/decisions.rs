//! `/v1/decisions`: what did not go through, and why.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::json;

use super::Api;
use super::channel::{Feed, channel};
use super::fields::{Fields, InQuery};
use super::paths::limit;
use crate::admin::problem::Problem;
use crate::clock;
use crate::decisions::{Action, DecisionPage, DecisionQuery, Follower, Reason, Recorded};
use crate::stream::From;

const LAST_EVENT_ID: &str = "last-event-id";
/// Decisions that are looked at before they are sent.
const TOGETHER: usize = 256;

#[derive(Serialize)]
struct Page {
    decisions: Vec<Recorded>,
    /// As a string, as in other lists.
    next: Option<String>,
}

/// A page, newest first.
pub(super) async fn list(State(api): State<Api>, InQuery(mut fields): InQuery) -> Result<Response, Problem> {
    let mut query = query(&mut fields);
    query.before = fields.integer("after", 0..=u64::MAX);
    query.limit = limit(&mut fields);
    fields.finish()?;
    let DecisionPage { decisions, next } = api.backend.decisions(query).await?;
    Ok(Json(Page { decisions, next: next.map(|next| next.to_string()) }).into_response())
}

/// Server-Sent Events, oldest first: those since a time, or behind the one that was seen last, and then as they are made.
pub(super) async fn watch(
    State(api): State<Api>,
    headers: HeaderMap,
    InQuery(mut fields): InQuery,
) -> Result<Response, Problem> {
    let query = query(&mut fields);
    fields.finish()?;
    // A client that reconnects says which one it saw last.
    let last = headers.get(LAST_EVENT_ID).and_then(|id| id.to_str().ok()?.parse::<u64>().ok());
    let from = match (last, query.since_ms) {
        (Some(last), _) => Some(last.saturating_add(1)),
        (None, Some(_)) => Some(0),
        (None, None) => None,
    };
    let (feed, body) = channel(&api.gates)?;
    tokio::spawn(feed_all(api.backend.follow_decisions(from), query, feed));
    Ok(([(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"))], body).into_response())
}

/// Until the reader has gone.
async fn feed_all(mut follower: Follower, query: DecisionQuery, mut feed: Feed) {
    // What was given up before it began is not missed.
    let mut is_first = true;
    loop {
        let news = tokio::select! {
            () = feed.closed() => return,
            news = follower.next(TOGETHER) => news,
        };
        if news.missed > 0 && !is_first {
            feed.event("missed", None, &json!({ "missed": news.missed }));
        }
        is_first = false;
        for decision in news.decisions.iter().filter(|decision| query.means(decision)) {
            feed.event("decision", Some(decision.id), decision);
        }
        if feed.send().await.is_err() {
            return;
        }
    }
}

fn query(fields: &mut Fields) -> DecisionQuery {
    DecisionQuery {
        client: fields.text("client", 1..=65_535),
        reason: label(fields, "reason", Reason::from_label, Reason::ALL.iter().map(|reason| reason.label())),
        action: label(fields, "action", Action::from_label, Action::ALL.iter().map(|action| action.label())),
        since_ms: fields.read("since", |value| {
            match From::parse(value.as_str().unwrap_or(""), clock::unix_ms()) {
                Some(From::Time(since_ms)) => Ok(since_ms),
                _ => Err("expected an RFC 3339 time, or a time ago like \"-15m\"".to_owned()),
            }
        }),
        ..DecisionQuery::default()
    }
}

/// One of a closed list, whose names stand in the answer if it is none of them.
fn label<T>(
    fields: &mut Fields,
    key: &'static str,
    from_label: impl Fn(&str) -> Option<T>,
    known: impl Iterator<Item = &'static str>,
) -> Option<T> {
    fields.read(key, |value| {
        let found = value.as_str().and_then(from_label);
        found.ok_or_else(|| format!("expected one of {}", known.collect::<Vec<_>>().join(", ")))
    })
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Server, piece};
    use crate::decisions::{Action, Decision, Reason};
    use serde_json::{Value, json};

    const NOW_MS: u64 = 1_700_000_000_000;

    fn refuse(server: &Server, count: u64) {
        for number in 0..count {
            let client = format!("c{}", number % 3);
            let decision = Decision {
                client: &client,
                topic: "",
                action: Action::Refused,
                reason: if number % 2 == 0 { Reason::ConnectRate } else { Reason::Flapping },
                count: 1,
            };
            server.fake.decisions.record(NOW_MS + number, decision);
        }
    }

    fn ids(page: &Value) -> Vec<u64> {
        page["decisions"].as_array().unwrap().iter().map(|one| one["id"].as_u64().unwrap()).collect()
    }

    #[tokio::test]
    async fn decisions_come_in_pages_newest_first() {
        let server = Server::new();
        refuse(&server, 7);
        let (status, page) = server.ask("GET", "/v1/decisions?limit=3", "").await;
        assert_eq!((status, ids(&page), &page["next"]), (200, vec![6, 5, 4], &json!("4")));
        let (_, page) = server.ask("GET", "/v1/decisions?limit=100&after=4", "").await;
        assert_eq!((ids(&page), &page["next"]), (vec![3, 2, 1, 0], &Value::Null));
        let first = &page["decisions"][3];
        let expected = json!({
            "id": 0, "time": "2023-11-14T22:13:20.000Z", "action": "refused", "reason": "connect_rate",
            "client": "c0", "count": 1, "level": 0, "pressure": 0.0,
        });
        assert_eq!(*first, expected);
    }

    #[tokio::test]
    async fn they_are_asked_for_by_client_reason_action_and_time() {
        let server = Server::new();
        refuse(&server, 7);
        for (query, expected) in [
            ("client=c1", vec![4, 1]),
            ("reason=flapping", vec![5, 3, 1]),
            ("reason=flapping&client=c1", vec![1]),
            ("action=refused&since=2023-11-14T22:13:20.005Z", vec![6, 5]),
            ("action=shed", vec![]),
            ("since=-15m", vec![]),
        ] {
            let (_, page) = server.ask("GET", &format!("/v1/decisions?{query}"), "").await;
            assert_eq!(ids(&page), expected, "{query}");
        }
        let path = "/v1/decisions?client=&reason=because&action=x&since=5&after=y&limit=0&topic=t";
        let (status, problem) = server.ask("GET", path, "").await;
        let faults: Vec<_> =
            problem["faults"].as_array().unwrap().iter().map(|fault| fault["at"].as_str().unwrap()).collect();
        assert_eq!(status, 400);
        assert_eq!(faults, ["client", "reason", "action", "since", "after", "limit", "topic"]);
        assert!(problem["faults"][1]["detail"].as_str().unwrap().contains("over_share"), "{problem}");
    }

    #[tokio::test]
    async fn a_watch_tells_those_that_are_meant_as_they_are_made() {
        let server = Server::new();
        refuse(&server, 2);
        let response = server.send("GET", "/v1/decisions/watch?reason=flapping", "").await;
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        let mut body = response.into_body();
        refuse(&server, 2);
        let event = piece(&mut body).await.unwrap();
        let event = std::str::from_utf8(&event).unwrap();
        assert!(event.starts_with("id: 3\nevent: decision\ndata: {\"id\":3,"), "{event}");

        let mut body = server.send("GET", "/v1/decisions/watch?since=-1d", "").await.into_body();
        refuse(&server, 1);
        // Of what there was, nothing is as young as that.
        assert!(server.fake.decisions.follow(Some(0)).take(100).decisions.len() == 5);
        let decision = Decision {
            client: "new",
            topic: "",
            action: Action::Refused,
            reason: Reason::Flapping,
            count: 1,
        };
        server.fake.decisions.record(crate::clock::unix_ms(), decision);
        let event = piece(&mut body).await.unwrap();
        assert!(event.starts_with(b"id: 5\n"), "{event:?}");
    }
}
