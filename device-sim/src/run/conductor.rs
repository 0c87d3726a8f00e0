//! The conductor: makes the timeline's changes at their moments, and watches how the run comes back from each.
//!
//! ```text
//! Running ──all steps made──► watching ──Ending::Over──► Outcome
//!    └──Ending::CutShort──► what has begun is ended now ──► watching
//! ```

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use super::RunError;
use super::stage::Stage;
use crate::gates::Recovery;
use crate::host::HostError;
use crate::shared::{EdgeStats, Shared};
use crate::timeline::{Change, Step};

/// How often it looks.
const LOOK: Duration = Duration::from_millis(5);

/// Between looks at what runs have to come back to, which costs a walk over the ledger.
const LOOK_BACK_US: u64 = 50_000;

/// How long after the drain a run is still given to come back: a client's longest pause before it connects again, twice.
const LAST_PATIENCE: Duration = Duration::from_secs(10);

/// What waits for longer has not been worked off.
const BEHIND_US: u64 = 1_000_000;

/// What the run tells its conductor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    /// Go on.
    No,
    /// No more events: end what has begun, and begin nothing.
    CutShort,
    /// Nothing more will happen.
    Over,
}

/// A conductor at work.
pub(crate) struct Conducting {
    end: watch::Sender<Ending>,
    task: JoinHandle<Result<(Stage, Vec<Recovery>), HostError>>,
}

impl Conducting {
    /// Begins with the timeline.
    pub(crate) fn begin(stage: Stage, shared: &Arc<Shared>) -> Self {
        let (end, hear_end) = watch::channel(Ending::No);
        Conducting { end, task: tokio::spawn(conduct(stage, Arc::clone(shared), hear_end, LAST_PATIENCE)) }
    }

    /// No more events come, sooner than planned.
    pub(crate) fn cut_short(&self) {
        self.end.send_replace(Ending::CutShort);
    }

    /// Nothing more will happen: the stage, to be cleared when everybody has left it, and how the run came back.
    pub(crate) async fn finish(self) -> Result<(Stage, Vec<Recovery>), RunError> {
        self.end.send_replace(Ending::Over);
        Ok(self.task.await.map_err(|_| RunError::Conductor)??)
    }
}

/// Carries the timeline out; returns the stage, to be cleared when everybody has left it.
async fn conduct(
    mut stage: Stage,
    shared: Arc<Shared>,
    mut ending: watch::Receiver<Ending>,
    mut patience: Duration,
) -> Result<(Stage, Vec<Recovery>), HostError> {
    let mut steps = VecDeque::from(shared.timeline.steps());
    let mut begun = Vec::new();
    let mut watch = Watch::default();
    let mut over_since = None;
    loop {
        let now_us = shared.clock.now_us();
        let told = *ending.borrow_and_update();
        if told != Ending::No {
            // What was to happen by now has begun, too.
            steps.retain(|step| step.at_us <= now_us || begun.contains(&step.phase));
        }
        while let Some(step) = steps.pop_front_if(|step| told != Ending::No || step.at_us <= now_us) {
            let Step { phase, change, .. } = step;
            begun.push(phase);
            if change == Change::Healed {
                watch.healed(&shared, phase);
            }
            stage.make(change).await?;
        }
        watch.look(&shared, told == Ending::Over);
        let over =
            told == Ending::Over && *over_since.get_or_insert_with(Instant::now) + patience <= Instant::now();
        if over || (told == Ending::Over && watch.pending.is_empty()) {
            return Ok((stage, watch.recoveries));
        }
        if told == Ending::CutShort {
            // Somebody wants out: what has not come back by the end of the drain is not waited for.
            patience = Duration::ZERO;
        }
        sleep(LOOK).await;
    }
}

/// Waits for the run to come back.
#[derive(Default)]
struct Watch {
    recoveries: Vec<Recovery>,
    /// Places among these, and since when.
    pending: Vec<(usize, u64)>,
    past: VecDeque<Past>,
}

/// What had happened by a moment.
#[derive(Clone, Copy)]
struct Past {
    at_us: u64,
    due: u64,
    sent_qos1: u64,
    answered: u64,
}

impl Watch {
    fn healed(&mut self, shared: &Shared, phase: usize) {
        let Some(name) = shared.timeline.name_of(phase) else { return };
        self.pending.push((self.recoveries.len(), shared.clock.now_us()));
        self.recoveries.push(Recovery { phase: name.to_owned(), took: None });
    }

    /// Nothing but connections can still come back once the run is `over`.
    fn look(&mut self, shared: &Shared, over: bool) {
        let now_us = shared.clock.now_us();
        if !over && self.past.back().is_some_and(|last| now_us < last.at_us + LOOK_BACK_US) {
            return;
        }
        let now = Past::of(shared, now_us);
        self.past.push_back(now);
        // The newest one that is old enough stays at the front.
        while self.past.get(1).is_some_and(|next| next.at_us + BEHIND_US <= now_us) {
            self.past.pop_front();
        }
        let before = self.past.front().copied().filter(|past| past.at_us + BEHIND_US <= now_us);
        if self.pending.is_empty() || !is_back(shared, now, before) {
            return;
        }
        for (place, since_us) in std::mem::take(&mut self.pending) {
            match self.recoveries.get_mut(place) {
                Some(recovery) if over || now_us >= since_us + shared.settle_us => {
                    recovery.took = Some(Duration::from_micros(now_us - since_us));
                }
                _ => self.pending.push((place, since_us)),
            }
        }
    }
}

impl Past {
    fn of(shared: &Shared, at_us: u64) -> Self {
        let stats = &shared.stats;
        Past {
            at_us,
            due: stats.due.qos0.get() + stats.due.qos1.get(),
            sent_qos1: stats.sent.qos1.get(),
            answered: stats.acknowledged.get() + stats.rejected.get() + stats.given_up.get(),
        }
    }
}

/// Whether everybody is connected, and whatever is older than [`BEHIND_US`] is sent, answered and delivered.
fn is_back(shared: &Shared, now: Past, before: Option<Past>) -> bool {
    let stats = &shared.stats;
    let connected = stats.connected.get() >= shared.connections_at(now.at_us)
        && shared.edge.as_ref().is_none_or(EdgeStats::are_up)
        && shared.subscribers.iter().all(|one| one.connected.get() >= u64::from(one.spec.members));
    let Some(before) = before else { return connected };
    let taken = stats.sent.qos0.get() + now.sent_qos1 + stats.overflowed.get();
    if !connected || taken < before.due || now.answered < before.sent_qos1 {
        return false;
    }
    let caught_up = |newest_us: u64| newest_us + BEHIND_US >= now.at_us;
    let behind =
        shared.subscribers.iter().filter(|one| one.is_assured()).any(|one| !caught_up(one.newest_due_us()));
    !behind || shared.ledger.outstanding().promised <= now.answered.saturating_sub(before.answered)
}
