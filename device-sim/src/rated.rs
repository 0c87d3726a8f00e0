//! What a broker can take: it is asked for all it can, for a while, by the scenario's own fleet.
//!
//! Every event is at QoS 1, a few are open on each connection at any time, and nothing holds the gateway back (its ladder is off), so
//! what is acknowledged and delivered in a second is what it is able to do. That is a rate of 1 in a scenario with `[rated]`.

use tokio::sync::watch;

use crate::plan::Plan;
use crate::process;
use crate::report::Report;
use crate::run::{self, RunError};
use crate::scenario::Variant;
use crate::shared::Shared;
use crate::stop::Stop;

/// Samples at the beginning that are left out: connections warm up.
const FIRST: usize = 1;

/// Asks. Events per second, 1 at least.
///
/// # Errors
/// The run did not take place.
pub async fn find(plan: &Plan, stop: watch::Receiver<Stop>) -> Result<f64, RunError> {
    let asks = Variant { asks: true, ..Variant::default() };
    let plan = Plan {
        scenario: plan.scenario.clone().varied(asks),
        epoch: process::fresh_number() as u32,
        ..plan.clone()
    };
    let report = run::execute(&plan, &Shared::of(&plan), stop, 0).await?;
    Ok(taken(&report).max(1.0))
}

/// Events per second that were both acknowledged and delivered to the subscriber that got most.
fn taken(report: &Report) -> f64 {
    let subscribers = report.subscribers.len().max(1) as f64;
    let samples = report.series.samples.iter().filter(|sample| sample.phase == "publishing").skip(FIRST);
    let (acknowledged, delivered, seconds) = samples.fold((0.0, 0.0, 0.0), |sums, sample| {
        let (acknowledged, delivered, seconds) = sums;
        let span_s = sample.span_s;
        (
            acknowledged + sample.acknowledged_per_s * span_s,
            delivered + sample.delivered_per_s * span_s / subscribers,
            seconds + span_s,
        )
    });
    if seconds > 0.0 { f64::min(acknowledged, delivered) / seconds } else { 0.0 }
}
