//! `/v1/live`: the figures of each second, for the live page.
//!
//! One task takes them for everybody who looks, and only while somebody does: figures that nobody sees cost nothing. Each is the
//! difference of two renderings of the metrics, or what the API shows of streams, consumers and sinks.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::{Map, Value, json};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::Operations;
use super::scrape::{Scrape, quantile};
use crate::admin::problem::Problem;
use crate::admin::v1::backend::{ConsumerView, StreamView};
use crate::admin::v1::channel::channel;
use crate::admin::v1::fields::InQuery;
use crate::clock;

const EVERY: Duration = Duration::from_secs(1);
const EVENT_STREAM: HeaderValue = HeaderValue::from_static("text/event-stream");

/// Counters, and what their rate is called.
const RATES: [(&str, &str); 9] = [
    ("gateway_events_received_total", "received"),
    ("gateway_bytes_received_total", "bytes_received"),
    ("gateway_events_rejected_total", "rejected"),
    ("gateway_events_shed_total", "shed"),
    ("gateway_deliveries_sent_total", "delivered"),
    ("gateway_deliveries_acked_total", "acked"),
    ("gateway_deliveries_dropped_total", "dropped"),
    ("gateway_commit_groups_total", "commits"),
    ("gateway_log_written_bytes_total", "log_written"),
];
const SYNC: &str = "gateway_commit_sync_seconds";

/// The task, if one runs, and what it saw last.
#[derive(Default)]
pub(super) struct Pulse(Mutex<Option<watch::Receiver<Arc<Value>>>>);

impl Pulse {
    /// What is seen from now on; begins to look if nobody did.
    fn subscribe(&self, operations: &Operations) -> watch::Receiver<Arc<Value>> {
        let mut running = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // A task that has ended has dropped its sender.
        if let Some(receiver) = running.as_ref().filter(|receiver| receiver.has_changed().is_ok()) {
            return receiver.clone();
        }
        let (sender, receiver) = watch::channel(Arc::new(Value::Null));
        *running = Some(receiver.clone());
        tokio::spawn(look(operations.clone(), sender));
        receiver
    }

    /// Whether nobody looks any more; the task is then forgotten, and ends.
    fn is_over(&self, sender: &watch::Sender<Arc<Value>>) -> bool {
        let mut running = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // One receiver is this table's own.
        let is_over = sender.receiver_count() <= 1;
        if is_over {
            *running = None;
        }
        is_over
    }
}

async fn look(operations: Operations, sender: watch::Sender<Arc<Value>>) {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut before: Option<(Instant, Scrape)> = None;
    loop {
        ticks.tick().await;
        if before.is_some() && operations.pulse.is_over(&sender) {
            return;
        }
        let metrics = operations.metrics.clone();
        let Ok(text) = tokio::task::spawn_blocking(move || metrics.render()).await else { return };
        let (now, scrape) = (Instant::now(), Scrape::new(text));
        if let Some((then, earlier)) = &before {
            let seen = second(&operations, now.duration_since(*then).as_secs_f64(), earlier, &scrape);
            sender.send_replace(Arc::new(seen));
        }
        before = Some((now, scrape));
    }
}

/// What one second looked like.
#[derive(Serialize)]
struct Second {
    time_ms: u64,
    ready: bool,
    reasons: Vec<String>,
    /// Per second.
    rates: Map<String, Value>,
    /// Of one sync of the log, in milliseconds.
    sync_ms: Option<[f64; 2]>,
    connections: f64,
    sessions: f64,
    pending: f64,
    log_bytes: f64,
    resident_bytes: f64,
    /// Processors kept busy.
    cpu: f64,
    level: Option<f64>,
    pressure: Vec<(String, f64)>,
    streams: Vec<StreamView>,
    consumers: Vec<ConsumerView>,
}

fn second(operations: &Operations, secs: f64, before: &Scrape, now: &Scrape) -> Value {
    let rate = |family: &str| ((now.sum(family) - before.sum(family)) / secs).max(0.0);
    let (old, new) = (before.buckets(SYNC), now.buckets(SYNC));
    let sync_ms = quantile(0.5, &old, &new).zip(quantile(0.99, &old, &new));
    let reasons = operations.reasons();
    let mut streams: Vec<_> = operations.context.engine.streams().into_iter().map(StreamView::of).collect();
    streams.sort_by(|one, other| one.name.cmp(&other.name));
    let second = Second {
        time_ms: clock::unix_ms(),
        ready: reasons.is_empty(),
        reasons,
        rates: RATES.iter().map(|(family, name)| ((*name).to_owned(), json!(rate(family)))).collect(),
        sync_ms: sync_ms.map(|(median, high)| [median * 1000.0, high * 1000.0]),
        connections: now.sum("gateway_connections"),
        sessions: now.sum("gateway_sessions_durable"),
        pending: now.sum("gateway_backlog_pending"),
        log_bytes: now.sum("gateway_log_bytes"),
        resident_bytes: now.sum("process_resident_memory_bytes"),
        cpu: rate("process_cpu_seconds_total"),
        level: now.value("gateway_level"),
        pressure: now.by_label("gateway_pressure"),
        streams,
        consumers: operations.context.consumers.list().into_iter().map(ConsumerView::of).collect(),
    };
    serde_json::to_value(second).unwrap_or_default()
}

pub(super) async fn live(
    State(operations): State<Operations>,
    InQuery(fields): InQuery,
) -> Result<Response, Problem> {
    fields.finish()?;
    let (mut feed, body) = channel(&operations.gates)?;
    let mut seen = operations.pulse.subscribe(&operations);
    tokio::spawn(async move {
        loop {
            let second = seen.borrow_and_update().clone();
            if !second.is_null() {
                feed.event("second", None, &*second);
            }
            if feed.send().await.is_err() {
                return;
            }
            tokio::select! {
                () = feed.closed() => return,
                changed = seen.changed() => if changed.is_err() { return },
            }
        }
    });
    Ok(([(header::CONTENT_TYPE, EVENT_STREAM)], body).into_response())
}
