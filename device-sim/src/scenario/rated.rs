//! `[rated]`: rates as multiples of what the broker can take, which is found out first; and phases in less time.
//!
//! How much is too much depends on the machine, so a scenario of overload says no events per second: where it has a `[rated]`, a rate of 1
//! is what the broker took when it was asked for all it can. [`crate::rated`] asks. A [`Variant`] is what becomes of a scenario then; worker
//! processes read the same text and make the same of it.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::broker::Program;
use super::phase::Load;
use super::section::Section;
use super::{Clients, Expect, Pace, Scenario};
use crate::scenario::phase::Disturbance;

/// What the gateway is told when it is asked for all it can: nothing is to hold it back.
const NO_LADDER: &str = "admission.ladder=false";

/// QoS 1 events that a connection has open while the broker is asked, unless the scenario says how many: more would be a queue, and no more
/// events per second.
const OPEN_EACH: u16 = 4;

/// How it is found out what the broker can take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RatedSpec {
    /// For how long it is asked.
    pub during: Duration,
    /// QoS 1 events that each connection has open meanwhile.
    pub open: u16,
}

/// What is changed of a scenario as it is written.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Variant {
    /// Every rate is multiplied by this.
    pub rate: f64,
    /// Every phase is shorter by this factor, but for those in which the broker has to come back to L0.
    pub hasten: f64,
    /// No phases, every event at QoS 1, and always a few open on each connection: to find out what the broker can take.
    pub asks: bool,
}

impl Default for Variant {
    fn default() -> Self {
        Variant { rate: 1.0, hasten: 1.0, asks: false }
    }
}

pub(super) fn rated(top: &Section<'_>) -> Option<RatedSpec> {
    if !top.has("rated") {
        return None;
    }
    let section = top.section("rated");
    let during = section.or("for", Duration::from_secs(10));
    if during < Duration::from_secs(1) {
        section.fault("for", "must be 1s or more");
    }
    let open = section.count("open", u64::from(OPEN_EACH), 1, 1_000) as u16;
    section.finish();
    Some(RatedSpec { during, open })
}

impl Scenario {
    /// The same with every rate, and every duration of a phase, changed; to be done once.
    #[must_use]
    pub fn varied(mut self, variant: Variant) -> Self {
        let Variant { rate, hasten, asks } = variant;
        self.fleet.rate *= rate;
        for cohort in &mut self.fleet.cohorts {
            Arc::make_mut(cohort).rhythm.rate *= rate;
        }
        let keeps = self.keeps_time_from();
        // The broker's levels take their time, however short the load is that led to them.
        let sooner = |at: Duration| at.min(keeps).div_f64(hasten) + at.saturating_sub(keeps);
        for phase in &mut self.phases {
            let end = sooner(phase.end());
            phase.start = sooner(phase.start);
            phase.duration = end - phase.start;
            match &mut phase.load {
                Some(Load::Steady { rate: all }) => *all *= rate,
                Some(Load::Ramp { from, to }) => (*from, *to) = (*from * rate, *to * rate),
                Some(Load::Burst { rate: base, peak, .. }) => (*base, *peak) = (*base * rate, *peak * rate),
                Some(Load::Diurnal { rate: mean, .. }) => *mean *= rate,
                None => {}
            }
            if let Some(Disturbance::Hog { rate: more, .. }) = &mut phase.disturbance {
                *more *= rate;
            }
        }
        self.run.duration.iter_mut().for_each(|duration| *duration = sooner(*duration));
        self.variant = variant;
        if asks {
            self.ask();
        }
        self
    }

    /// From when on phases are as long as they are written: where it is watched how soon the broker is calm.
    fn keeps_time_from(&self) -> Duration {
        let watched = self.expect.phases.iter().filter(|gate| gate.calm_after.is_some());
        let ends = watched.filter_map(|gate| Some(self.phases.get(gate.phase)?.end()));
        ends.min().unwrap_or(Duration::MAX)
    }

    /// What is asked for is all that the broker can take.
    fn ask(&mut self) {
        self.run.duration = self.rated.map(|rated| rated.during);
        self.run.warm_up = Duration::ZERO;
        self.phases.clear();
        self.expect = Expect::default();
        self.fleet.inflight_max = self.rated.map_or(OPEN_EACH, |rated| rated.open);
        if let Clients::Lean(lean) = &mut self.fleet.clients {
            lean.pace = Pace::Closed;
        }
        for cohort in &mut self.fleet.cohorts {
            let rhythm = &mut Arc::make_mut(cohort).rhythm;
            (rhythm.qos1_share, rhythm.qos2_share) = (1.0, 0.0);
        }
        if let Some(Program::Gateway { settings }) = self.broker.as_mut().map(|broker| &mut broker.program) {
            settings.push(NO_LADDER.to_owned());
        }
    }
}
