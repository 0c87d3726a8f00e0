//! A gateway that writes down what it is asked, and the requests that are put to it.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{Request, Response};
use hyper::body::Body as _;
use hyper::service::Service as _;
use hyper_util::service::TowerToHyperService;
use serde_json::Value;
use tokio::sync::Notify;

use super::super::backend::*;
use super::super::channel::Feed;
use super::super::gates::Gates;
use super::super::paths::{no_such_consumer, no_such_stream};
use super::super::router;
use crate::admin::SinkStatus;
use crate::admin::problem::{Kind, Problem};
use crate::config::Pace;
use crate::consumer::{ConsumerChanges, ConsumerOptions, DeliveryId, Letters, Outcome};
use crate::decisions::{DecisionLog, DecisionPage, DecisionQuery, Follower};
use crate::event_view::{EventView, Payload, Properties};
use crate::stream::From;

/// What was asked, in words, and what is there.
pub(in crate::admin::v1) struct Fake {
    pub(super) asked: Mutex<Vec<String>>,
    pub(super) streams: Mutex<Vec<StreamView>>,
    pub(super) consumers: Mutex<Vec<ConsumerView>>,
    pub(super) letters: Mutex<Vec<LetterView>>,
    /// `next` waits for this.
    pub(super) arrival: Notify,
    pub(in crate::admin::v1) decisions: DecisionLog,
}

impl Default for Fake {
    fn default() -> Self {
        Self {
            asked: Mutex::default(),
            streams: Mutex::default(),
            consumers: Mutex::default(),
            letters: Mutex::default(),
            arrival: Notify::new(),
            decisions: DecisionLog::new(1000),
        }
    }
}

pub(super) fn consumer(name: &str) -> ConsumerView {
    ConsumerView {
        name: name.to_owned(),
        stream: "telemetry".to_owned(),
        filter: "#".to_owned(),
        ack_wait: "30s".to_owned(),
        max_deliver: 5,
        backoff: Vec::new(),
        max_ack_pending: 1000,
        order: "none",
        paused: false,
        configured: false,
        created: "2023-11-14T22:13:20.000Z".to_owned(),
        state: "running",
        read_to: 0,
        lag_events: 0,
        lag_bytes: 0,
        oldest_age_ms: 0,
        open: 0,
        ready: 0,
        handed_out: 0,
        redeliveries: 0,
        acked: 0,
        acked_late: 0,
        dead_lettered: 0,
        expired: 0,
        lost: 0,
        missed: 0,
        dead_letters: 0,
        dead_letter_bytes: 0,
        workers: Vec::new(),
    }
}

pub(super) fn letter(consumer: &str, offset: u64) -> LetterView {
    LetterView {
        consumer: consumer.to_owned(),
        offset,
        cause: "nak",
        reason_code: None,
        failure: None,
        attempts: 5,
        first_attempt: None,
        dead_since: "2023-11-14T22:13:21.000Z".to_owned(),
        worker: "w".to_owned(),
        note: String::new(),
        redrives: 0,
        redriven: None,
        event: LetterEvent {
            time: "2023-11-14T22:13:20.000Z".to_owned(),
            publisher: "p".to_owned(),
            topic: "devices/1".to_owned(),
            qos: 1,
            retain: false,
            properties: Properties::default(),
            payload: Payload::of(b"x"),
        },
    }
}

impl Fake {
    fn note(&self, what: String) {
        self.asked.lock().unwrap().push(what);
    }

    fn has(&self, name: &str) -> Result<(), Problem> {
        let consumers = self.consumers.lock().unwrap();
        consumers
            .iter()
            .any(|consumer| consumer.name == name)
            .then_some(())
            .ok_or_else(|| no_such_consumer(name))
    }
}

fn done<'a, T: Send + 'a>(result: Result<T, Problem>) -> Answer<'a, T> {
    Box::pin(std::future::ready(result))
}

impl Backend for Fake {
    fn streams(&self) -> Vec<StreamView> {
        self.streams.lock().unwrap().clone()
    }

    fn set_stream(&self, name: String, spec: StreamSpec) -> Answer<'_, Made> {
        self.note(format!("set_stream {name} {spec:?}"));
        let StreamSpec { topics, max_age_ms: _, max_bytes } = spec;
        self.streams.lock().unwrap().push(StreamView {
            name,
            topics,
            max_age: "7d".to_owned(),
            max_bytes,
            configured: false,
            bytes: 0,
            events: 0,
            first_offset: 0,
        });
        done(Ok(Made::New))
    }

    fn remove_stream(&self, name: String) -> Answer<'_, ()> {
        done(Err(no_such_stream(&name)))
    }

    fn consumers(&self) -> Vec<ConsumerView> {
        self.consumers.lock().unwrap().clone()
    }

    fn consumer(&self, name: &str) -> Option<ConsumerView> {
        self.consumers().into_iter().find(|consumer| consumer.name == name)
    }

    fn set_consumer(&self, name: String, options: ConsumerOptions) -> Answer<'_, Made> {
        self.note(format!("set_consumer {name} {options:?}"));
        self.consumers.lock().unwrap().push(consumer(&name));
        done(Ok(Made::New))
    }

    fn alter_consumer(&self, name: String, changes: ConsumerChanges) -> Answer<'_, ()> {
        self.note(format!("alter_consumer {name} {changes:?}"));
        done(self.has(&name))
    }

    fn remove_consumer(&self, name: String) -> Answer<'_, ()> {
        done(Err(Problem::new(Kind::Conflict, format!("{name} is configured"))))
    }

    fn reset_consumer(&self, name: String, to: From) -> Answer<'_, ()> {
        self.note(format!("reset_consumer {name} {to:?}"));
        done(self.has(&name))
    }

    fn next(&self, name: String, wanted: Wanted) -> Answer<'_, Vec<EventView>> {
        self.note(format!("next {name} {wanted:?}"));
        if let Err(problem) = self.has(&name) {
            return done(Err(problem));
        }
        Box::pin(async move {
            if !wanted.wait.is_zero() {
                self.arrival.notified().await;
            }
            Ok(Vec::new())
        })
    }

    fn settle(&self, name: String, ids: Vec<DeliveryId>, outcome: Outcome) -> Answer<'_, Settled> {
        self.note(format!("settle {name} {outcome:?}"));
        done(self.has(&name).map(|()| Settled { settled: ids.len() as u64, unknown: Vec::new() }))
    }

    fn watch(&self, name: String, from: Option<u64>, pace: Pace, mut feed: Feed) -> Result<(), Problem> {
        self.has(&name)?;
        self.note(format!("watch {name} {from:?} {pace}"));
        tokio::spawn(async move {
            feed.event("event", Some(7), &serde_json::json!({ "offset": 7 }));
            let _ = feed.send().await;
            feed.closed().await;
        });
        Ok(())
    }

    fn dead_letters(
        &self,
        query: LetterQuery,
        after: Option<LetterCursor>,
        limit: usize,
    ) -> Answer<'_, LetterPage> {
        self.note(format!("dead_letters {query:?} {after:?} {limit}"));
        let all = self.letters.lock().unwrap().clone();
        let after = after.map(|after| (after.consumer, after.offset));
        let mut letters: Vec<_> =
            all.into_iter().filter(|letter| after < Some((letter.consumer.clone(), letter.offset))).collect();
        let more = letters.len() > limit;
        letters.truncate(limit);
        let next = letters.last().filter(|_| more);
        let next = next.map(|last| LetterCursor { consumer: last.consumer.clone(), offset: last.offset });
        done(Ok(LetterPage { letters, next }))
    }

    fn dead_letter(&self, consumer: String, offset: u64) -> Answer<'_, LetterView> {
        done(Ok(letter(&consumer, offset)))
    }

    fn redrive(&self, consumer: String, which: Letters, rate: u32) -> Answer<'_, u64> {
        self.note(format!("redrive {consumer} {which:?} {rate}"));
        done(self.has(&consumer).map(|()| 3))
    }

    fn purge(&self, consumer: String, which: Letters) -> Answer<'_, u64> {
        self.note(format!("purge {consumer} {which:?}"));
        done(Ok(4))
    }

    fn sinks(&self) -> Vec<SinkStatus> {
        Vec::new()
    }

    fn decisions(&self, query: DecisionQuery) -> Answer<'_, DecisionPage> {
        done(Ok(self.decisions.page(&query)))
    }

    fn follow_decisions(&self, from: Option<u64>) -> Follower {
        self.decisions.follow(from)
    }
}

/// The routes, and what is behind them.
#[derive(Clone)]
pub(in crate::admin::v1) struct Server {
    pub(in crate::admin::v1) fake: Arc<Fake>,
    router: Router,
}

impl Server {
    pub(in crate::admin::v1) fn new() -> Self {
        Self::with_gates(Gates::default())
    }

    pub(super) fn with_gates(gates: Gates) -> Self {
        let fake = Arc::new(Fake::default());
        fake.consumers.lock().unwrap().push(consumer("billing"));
        let router = router(fake.clone(), gates);
        Self { fake, router }
    }

    pub(in crate::admin::v1) async fn send(&self, method: &str, path: &str, body: &str) -> Response<Body> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "127.0.0.1:9464")
            .header("content-type", "application/json");
        let request = request.body(Body::from(body.to_owned())).unwrap();
        TowerToHyperService::new(self.router.clone()).call(request).await.unwrap()
    }

    /// Status and JSON of the answer.
    pub(in crate::admin::v1) async fn ask(&self, method: &str, path: &str, body: &str) -> (u16, Value) {
        let response = self.send(method, path, body).await;
        let status = response.status().as_u16();
        let text = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
        let value = if text.is_empty() { Value::Null } else { serde_json::from_slice(&text).unwrap() };
        (status, value)
    }

    /// What the gateway behind it was asked last.
    pub(super) fn last(&self) -> String {
        self.fake.asked.lock().unwrap().last().cloned().unwrap_or_default()
    }
}

/// The next piece of a body.
pub(in crate::admin::v1) async fn piece(body: &mut Body) -> Option<Bytes> {
    let frame = std::future::poll_fn(|cx| std::pin::Pin::new(&mut *body).poll_frame(cx)).await?;
    frame.unwrap().into_data().ok()
}
