//! What a run came to: everything that is judged is gathered here, and the verdict made of it.

use std::time::Duration;

use crate::admin::Desk;
use crate::gates::{self, Facts, HogFact, Recovery, WatchedLatency};
use crate::ledger::Totals;
use crate::plan::Plan;
use crate::report::Report;
use crate::report::gateway::compare;
use crate::roster;
use crate::scenario::phase::Disturbance;
use crate::scenario::topic;
use crate::shared::Shared;

/// Hogs of one phase that are looked for in the decision log.
const HOGS_MAX: u32 = 8;

/// By how much the beginning of a run may be earlier than the report says, which knows whole seconds.
const ROUNDED_MS: i64 = 1_500;

/// The level from which on everybody has a share.
const SHARES_FROM: u64 = 2;

/// The report of a run that was made against `broker`, with its gates, the gateway's counters and its verdict.
pub(crate) async fn judged(
    mut report: Report,
    plan: &Plan,
    shared: &Shared,
    desk: Desk,
    broker: &str,
    recoveries: Vec<Recovery>,
) -> Report {
    broker.clone_into(&mut report.broker);
    let watched = shared.watched.iter();
    let mut facts = Facts {
        recoveries,
        shed_elsewhere: shed_elsewhere(plan, shared),
        watched: watched
            .map(|(of, latencies)| WatchedLatency { of: of.clone(), summary: latencies.total() })
            .collect(),
        hogs: hogs(&report, plan, &desk).await,
        tally: None,
    };
    match desk.close().await {
        Some(Ok(tally)) => {
            report.gateway = Some(compare(&report, &tally));
            facts.tally = Some(tally);
        }
        Some(Err(error)) => report.gateway_unread = Some(error.to_string()),
        None => {}
    }
    report.gates = gates::judge(&plan.scenario, &report, &facts);
    report.judge();
    report
}

/// QoS 0 events missing at subscribers on topics that nothing may be shed of, if the scenario says which may.
fn shed_elsewhere(plan: &Plan, shared: &Shared) -> u64 {
    if let Some(told) = shared.ledger.shed_elsewhere() {
        return told;
    }
    let Some(filters) = &plan.scenario.expect.shed_only else { return 0 };
    let missing = |identity: roster::Identity| {
        let mut totals = Totals::new(shared.subscribers.len());
        if let Some(device) = shared.ledger.device(identity.number) {
            device.add_to(&mut totals);
        }
        totals.received.iter().map(|received| received.qos0.lost).sum::<u64>()
    };
    let may = |name: &str| filters.iter().any(|filter| topic::matches(filter, name));
    roster::identities(plan).filter(|identity| !may(&identity.topic)).map(missing).sum()
}

/// How soon hogs were on record, where a gate asks.
async fn hogs(report: &Report, plan: &Plan, desk: &Desk) -> Vec<HogFact> {
    let mut facts = Vec::new();
    for expected in plan.scenario.expect.phases.iter().filter(|expected| expected.hogs_named.is_some()) {
        let Some(phase) = plan.scenario.phases.get(expected.phase) else { continue };
        let Some(Disturbance::Hog { devices, .. }) = phase.disturbance else { continue };
        let began_ms = report.began_unix_s as i64 * 1_000 + phase.start.as_millis() as i64 - ROUNDED_MS;
        let changes = desk.decisions("action=level_changed").await.unwrap_or_default();
        let mut shares =
            changes.iter().filter(|change| change.level >= SHARES_FROM && change.at_ms >= began_ms);
        let shares_ms = shares.next().map(|change| change.at_ms);
        for number in 0..devices.min(HOGS_MAX) {
            let Some(identity) = roster::identity(plan, number) else { continue };
            let query = format!("client={}", identity.client_id);
            let own = desk.decisions(&query).await.unwrap_or_default();
            let named_ms = own.iter().map(|decision| decision.at_ms).find(|at_ms| *at_ms >= began_ms);
            let named_after = shares_ms.zip(named_ms).map(|(shares_ms, named_ms)| {
                Duration::from_millis(u64::try_from(named_ms - shares_ms).unwrap_or(0))
            });
            facts.push(HogFact { phase: expected.phase, client: identity.client_id, named_after });
        }
    }
    facts
}
