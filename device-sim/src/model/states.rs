//! Words that follow each other: a door, a mode, an alarm. A Markov chain in continuous time.

use std::sync::Arc;

use rand_chacha::ChaCha8Rng;

use crate::random::{exponential, unit};

/// States as a scenario describes them. The first is the initial one.
#[derive(Clone, Debug, PartialEq)]
pub struct StatesSpec {
    /// The states, at least one; shared by all devices of the model.
    pub states: Arc<[StateSpec]>,
}

/// One state.
#[derive(Clone, Debug, PartialEq)]
pub struct StateSpec {
    /// The word in the payload.
    pub word: String,
    /// How long it lasts on average, seconds.
    pub dwell_s: f64,
    /// Where it leads: the state's place in the list, and its weight. Empty: it lasts for ever.
    pub to: Vec<(usize, f64)>,
}

/// The state of one device.
#[derive(Clone, Debug)]
pub(super) struct States {
    states: Arc<[StateSpec]>,
    current: usize,
    left_s: f64,
}

impl States {
    pub(super) fn new(spec: &StatesSpec, rng: &mut ChaCha8Rng) -> Self {
        let states = Arc::clone(&spec.states);
        let left_s = states.first().map_or(0.0, |state| state.dwell_s * exponential(rng));
        States { states, current: 0, left_s }
    }

    /// Lets time pass. At most one change per step: a device samples, and does not see what came and went in between.
    pub(super) fn step(&mut self, elapsed_s: f64, rng: &mut ChaCha8Rng) {
        self.left_s -= elapsed_s;
        if self.left_s > 0.0 {
            return;
        }
        let Some(state) = self.states.get(self.current) else { return };
        let mut pick = unit(rng) * state.to.iter().map(|(_, weight)| weight).sum::<f64>();
        for (next, weight) in &state.to {
            pick -= weight;
            if pick < 0.0 {
                self.current = *next;
                break;
            }
        }
        self.left_s = self.states.get(self.current).map_or(0.0, |state| state.dwell_s * exponential(rng));
    }

    /// The current state's place in the list.
    pub(super) fn place(&self) -> usize {
        self.current
    }

    /// The current word.
    pub(super) fn current(&self) -> &str {
        self.states.get(self.current).map_or("", |state| &state.word)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Purpose, Seed};

    #[test]
    fn states_are_visited_in_proportion_to_their_dwell_times() {
        let door = StatesSpec {
            states: [
                StateSpec { word: "closed".into(), dwell_s: 300.0, to: vec![(1, 1.0)] },
                StateSpec { word: "open".into(), dwell_s: 100.0, to: vec![(0, 1.0)] },
            ]
            .into(),
        };
        let mut rng = Seed(2).stream(Purpose::Model, 0);
        let mut states = States::new(&door, &mut rng);
        let mut open = 0;
        for _ in 0..50_000 {
            states.step(5.0, &mut rng);
            open += u32::from(states.current() == "open");
        }
        let share = f64::from(open) / 50_000.0;
        assert!((share - 0.25).abs() < 0.04, "{share}");
    }

    #[test]
    fn a_state_that_leads_nowhere_lasts() {
        let states = [StateSpec { word: "on".into(), dwell_s: 1.0, to: vec![] }];
        let spec = StatesSpec { states: states.into() };
        let mut rng = Seed(2).stream(Purpose::Model, 0);
        let mut states = States::new(&spec, &mut rng);
        states.step(1e6, &mut rng);
        assert_eq!(states.current(), "on");
    }
}
