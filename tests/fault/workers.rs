//! What consumers promise, with workers that are killed, that fail, that stand still, and with the program killed between: each event is
//! settled once, comes again when its lease is over and neither earlier nor much later, and is a dead letter when its attempts are used up.
//!
//! The workers ([`hand`]) are as lean as can be, so that the gateway is what is measured. They know for each hand-out the moment before
//! which it cannot have been made, which is what "never early" is held against.

mod dying;
mod hand;
mod killed;
mod neighbour;
mod poison;
mod restored;
mod source;

use std::time::{Duration, Instant};

use gateway_tests::{Gateway, GatewayOptions};
use tokio::task::block_in_place;

/// The consumer of most of these tests.
const WORK: &str = "work";
/// How late an event may come again, while workers are free.
const LATE_MAX: Duration = Duration::from_secs(1);
/// The gateway's clock has whole milliseconds.
const CLOCK: Duration = Duration::from_millis(2);
/// How long anything that goes on may stand still.
const STALLED: Duration = Duration::from_secs(20);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(10);

/// A gateway with consumers of `telemetry` from its beginning; `rules` are their further keys.
fn gateway(names: &[String], rules: &str) -> Gateway {
    let consumer = |name| format!("{{name='{name}', stream='telemetry', from='earliest', {rules}}}");
    let consumers: Vec<String> = names.iter().map(consumer).collect();
    let sets = vec![format!("consumer=[{}]", consumers.join(", "))];
    block_in_place(|| {
        Gateway::start_with(GatewayOptions { sets, on_unassigned_ports: true, ..GatewayOptions::default() })
    })
}

/// The value of a consumer's sample: `acked_total`.
fn figure(gateway: &Gateway, consumer: &str, what: &str) -> u64 {
    let sample = format!("gateway_consumer_{what}{{consumer=\"{consumer}\"}}");
    block_in_place(|| gateway.metrics()).find(&sample).unwrap_or_default() as u64
}

/// Waits until the consumer's book says so many acknowledged, and nothing open.
async fn await_acked(gateway: &Gateway, consumer: &str, events: u64) {
    let mut last = (0, Instant::now());
    loop {
        let (acked, open) = (figure(gateway, consumer, "acked_total"), figure(gateway, consumer, "open"));
        if (acked, open) == (events, 0) {
            return;
        }
        if acked != last.0 {
            last = (acked, Instant::now());
        }
        assert!(last.1.elapsed() < STALLED, "{consumer}: {acked} of {events} acknowledged, {open} open");
        tokio::time::sleep(LOOK).await;
    }
}

/// The value at a share of them, from 0 to 1.
fn quantile(sorted: &[Duration], share: f64) -> Duration {
    let at = (sorted.len() as f64 * share) as usize;
    sorted.get(at.min(sorted.len().saturating_sub(1))).copied().unwrap_or_default()
}
