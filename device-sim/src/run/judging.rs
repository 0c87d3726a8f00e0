//! What a run came to: everything that is judged is gathered here, and the verdict made of it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::admin::{Decided, Desk};
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

/// The level from which on everybody is read in turns.
const TURNS_FROM: u64 = 1;

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
        hogs: hogs(plan, shared, &desk).await,
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
async fn hogs(plan: &Plan, shared: &Shared, desk: &Desk) -> Vec<HogFact> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let run_began_ms = now.as_millis() as i64 - (shared.clock.now_us() / 1_000) as i64;
    let mut facts = Vec::new();
    for expected in plan.scenario.expect.phases.iter().filter(|expected| expected.hogs_named.is_some()) {
        let Some(phase) = plan.scenario.phases.get(expected.phase) else { continue };
        let Some(Disturbance::Hog { devices, .. }) = phase.disturbance else { continue };
        let began_ms = run_began_ms + phase.start.as_millis() as i64;
        let ended_ms = run_began_ms + phase.end().as_millis() as i64;
        let changes = desk.decisions("action=level_changed").await.unwrap_or_default();
        let pressed_ms = pressed_since(&changes, began_ms, ended_ms);
        for number in 0..devices.min(HOGS_MAX) {
            let Some(identity) = roster::identity(plan, number) else { continue };
            let query = format!("client={}", identity.client_id);
            let own = desk.decisions(&query).await.unwrap_or_default();
            let named_ms = own.iter().map(|decision| decision.at_ms).find(|at_ms| *at_ms >= began_ms);
            let named_after = pressed_ms.zip(named_ms).map(|(pressed_ms, named_ms)| {
                Duration::from_millis(u64::try_from(named_ms - pressed_ms).unwrap_or(0))
            });
            facts.push(HogFact { phase: expected.phase, client: identity.client_id, named_after });
        }
    }
    facts
}

/// When within a phase everybody was first read in turns: from its beginning, if that was so before. `changes` are the ladder's steps, oldest first.
fn pressed_since(changes: &[Decided], began_ms: i64, ended_ms: i64) -> Option<i64> {
    let before = changes.iter().take_while(|change| change.at_ms < began_ms).last();
    if before.is_some_and(|change| change.level >= TURNS_FROM) {
        return Some(began_ms);
    }
    let within = |change: &&Decided| (began_ms..ended_ms).contains(&change.at_ms);
    changes.iter().filter(within).find(|change| change.level >= TURNS_FROM).map(|change| change.at_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hog_is_pressed_from_the_first_step_up_on_or_from_its_beginning() {
        let steps = |steps: &[(i64, u64)]| -> Vec<Decided> {
            steps.iter().map(|&(at_ms, level)| Decided { at_ms, level }).collect()
        };
        let since = |changes: &[(i64, u64)]| pressed_since(&steps(changes), 1_000, 2_000);
        assert_eq!(since(&[]), None);
        assert_eq!(since(&[(500, 1), (900, 0), (1_200, 1), (1_400, 2)]), Some(1_200));
        assert_eq!(since(&[(500, 2), (900, 1), (1_200, 0)]), Some(1_000));
        assert_eq!(since(&[(500, 1), (900, 0), (1_200, 0), (2_000, 3)]), None);
    }
}
