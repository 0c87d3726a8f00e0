//! Counters that worker processes tell: sums since the beginning, of which only what is new is added here.

use crate::class::Class;
use crate::lean::Tally;
use crate::qos::QoS;
use crate::shared::{Count, Shared};

/// Adds what a worker has counted since it told its sums before.
pub(super) fn add_all(shared: &Shared, before: &Tally, now: &Tally) {
    let stats = &shared.stats;
    for qos in QoS::ALL {
        add(&stats.due[qos], before.due[qos], now.due[qos]);
        add(&stats.sent[qos], before.sent[qos], now.sent[qos]);
    }
    add(&stats.overflowed, before.overflowed, now.overflowed);
    add(&stats.acknowledged, before.acknowledged, now.acknowledged);
    add(&stats.rejected, before.rejected, now.rejected);
    add(&stats.retransmitted, before.retransmitted, now.retransmitted);
    add(&stats.connected, before.connected, now.connected);
    add(&stats.disconnects, before.disconnects, now.disconnects);
    add(&stats.in_flight_at_disconnect, before.in_flight_at_disconnect, now.in_flight_at_disconnect);
    add(&stats.given_up, before.given_up, now.given_up);
    for one in &now.subscribers {
        let Some(state) = shared.subscribers.get(one.place) else { continue };
        let known = before.subscribers.iter().find(|known| known.place == one.place);
        let before = known.cloned().unwrap_or_default();
        for qos in QoS::ALL {
            add(&state.delivered[qos], before.delivered[qos], one.delivered[qos]);
        }
        add(&state.duplicated, before.duplicated, one.duplicated);
        add(&state.corrupt, before.corrupt, one.corrupt);
        for class in Class::ALL {
            add(&state.corrupt_of[class], before.corrupt_of[class], one.corrupt_of[class]);
        }
        add(&state.foreign, before.foreign, one.foreign);
        add(&state.disconnects, before.disconnects, one.disconnects);
        add(&state.sessions_lost, before.sessions_lost, one.sessions_lost);
        add(&state.may_come_again, before.may_come_again, one.may_come_again);
        add(&state.connected, before.connected, one.connected);
        state.delivered_due(one.newest_due_us);
        if one.is_ready && !before.is_ready {
            state.granted();
        }
        if let Some(refusal) = &one.refusal {
            state.refused(refusal.clone());
        }
    }
    if now.last_error.is_some() && now.last_error != before.last_error {
        shared.note_error(now.last_error.clone().unwrap_or_default());
    }
}

fn add(count: &Count, before: u64, now: u64) {
    if now >= before {
        count.add(now - before);
    } else {
        count.subtract(before - now);
    }
}
