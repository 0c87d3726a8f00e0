//! A gateway at a level of the test's choice: its log is filled, behind a session that is away, to a part of its limit.
//!
//! What is published besides is for live subscribers alone, so the level stays where it is.

use std::time::{Duration, Instant};

use gateway_tests::{Client, Gateway, Hello, Metrics, get, wait};
use serde::Deserialize;

use crate::{QOS1, V5};

const LOG_BYTES: usize = 8 << 20;
const FILLER_BYTES: usize = 50_000;
/// What an event takes in the log beside its payload, about.
const FRAMING_BYTES: usize = 70;
/// How long a level may take to be reached.
const SOON: Duration = Duration::from_secs(10);

/// What every test here sets: a small log, nothing that is kept for its own sake, two classes, and nothing that presses beside the log,
/// however slow the machine is.
pub(crate) const SETS: [&str; 10] = [
    "storage.max_bytes=8MiB",
    "storage.segment_bytes=1MiB",
    "storage.group_bytes_max=1MiB",
    "mqtt.max_packet_bytes=256KiB",
    "delivery.outbox_bytes_max=64MiB",
    "stream=[]",
    "admission.max_commit_ms=600000",
    "admission.max_loop_lag_ms=600000",
    "admission.max_unacknowledged_ms=3600000",
    "admission.class=[{class=\"critical\", topics=[\"alarm/#\"]}, {class=\"bulk\", topics=[\"debug/#\"]}]",
];

/// A gateway whose log is held.
pub(crate) struct Stage {
    pub(crate) gateway: Gateway,
    /// Events in the log, which the session that is away has not got.
    pub(crate) held: usize,
    _filler: Client,
}

impl Stage {
    /// At `level`, with some more keys set.
    pub(crate) fn at(level: u8, sets: &[&str]) -> Self {
        let part = [0.0, 0.66, 0.79, 0.865, 0.94][usize::from(level)];
        let sets: Vec<&str> = SETS.iter().chain(sets).copied().collect();
        let gateway = Gateway::start_set(&sets);
        let (mut away, _) = Client::connect(gateway.mqtt(), &Hello::durable(V5, "away"));
        away.subscribe(&[("fill/#", QOS1)]);
        away.leave();
        let mut filler = gateway.connect(V5, "filler");
        let payload = "x".repeat(FILLER_BYTES);
        let held = (part * LOG_BYTES as f64) as usize / (FILLER_BYTES + FRAMING_BYTES);
        for _ in 0..held {
            // Its acknowledgements come late at L2, and not at all at L4.
            filler.send_publish("fill/1", &payload, QOS1);
        }
        let stage = Self { gateway, held, _filler: filler };
        stage.await_level(level);
        stage
    }

    pub(crate) fn await_level(&self, level: u8) {
        let look = || look(&self.gateway);
        wait::until_it(&format!("level {level}"), SOON, look, |(now, _)| *now == f64::from(level));
    }

    /// The session comes back and takes what waits for it.
    pub(crate) fn relieve(&self) -> Client {
        let (mut away, present) = Client::connect(self.gateway.mqtt(), &Hello::durable(V5, "away"));
        assert!(present, "a session that is resumed drains the log, so it is let in");
        assert_eq!(away.messages(self.held).len(), self.held);
        away.ping();
        away
    }
}

/// The level and what presses, for the message of a test that fails.
pub(crate) fn look(gateway: &Gateway) -> (f64, String) {
    let metrics = gateway.metrics();
    let level = metrics.find("gateway_level").unwrap_or(0.0);
    (level, format!("{:?}", metrics.with_prefix("gateway_pressure")))
}

/// What is on record, as `/v1/decisions` has it.
#[derive(Debug, Deserialize)]
pub(crate) struct Record {
    pub(crate) action: String,
    pub(crate) reason: String,
    #[serde(default)]
    pub(crate) client: String,
    pub(crate) count: u64,
    pub(crate) level: u8,
}

#[derive(Deserialize)]
struct Page {
    decisions: Vec<Record>,
}

/// The newest decisions that a query means.
pub(crate) fn decisions(gateway: &Gateway, query: &str) -> Vec<Record> {
    let page = get(gateway.admin(), &format!("/v1/decisions?{query}"));
    serde_json::from_str::<Page>(&page).unwrap_or_else(|error| panic!("{error}: {page}")).decisions
}

/// What came in, and where it went.
pub(crate) fn publishers_side(metrics: &Metrics) -> (f64, f64) {
    let gone =
        ["accepted", "rejected", "shed"].map(|end| metrics.sum(&format!("gateway_events_{end}_total")));
    (metrics.sum("gateway_events_received_total"), gone.iter().sum())
}

/// Waits until both sides of the publishers' books say `received`, and both sides of the subscribers' books the same.
pub(crate) fn assert_balance(gateway: &Gateway, received: u64) {
    let look = || {
        let metrics = gateway.metrics();
        let gone = metrics.sum("gateway_deliveries_acked_total")
            + metrics.find("gateway_backlog_pending").unwrap_or(f64::NAN)
            + metrics.sum("gateway_deliveries_expired_total")
            + metrics.sum("gateway_deliveries_dropped_total");
        let routed = metrics.sum("gateway_deliveries_routed_total");
        let books = format!(
            "{:#?} {:#?}",
            metrics.with_prefix("gateway_events"),
            metrics.with_prefix("gateway_deliver")
        );
        (publishers_side(&metrics), (routed, gone), books)
    };
    let received = received as f64;
    wait::until_it("the balance", SOON, look, |(published, (routed, gone), _)| {
        *published == (received, received) && routed == gone
    });
}

/// Lets whatever goes on go on.
pub(crate) fn pause(duration: Duration) {
    let end = Instant::now() + duration;
    while let Some(left) = end.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
        std::thread::park_timeout(left);
    }
}
