//! What is done with a sample: the ladder takes its step, shares get their rate, and everybody can read both.

use super::fair::Fair;
use super::ladder::{Faults, Ladder, LadderOptions, LevelChange};
use super::pressure::{Pressure, Pressures};

/// The one that samples has it.
#[derive(Clone, Debug)]
pub struct Controller {
    ladder: Ladder,
    fair: Fair,
}

impl Controller {
    /// At L0.
    #[must_use]
    pub fn new(options: LadderOptions) -> Self {
        Self { ladder: Ladder::new(options), fair: Fair::default() }
    }

    /// Takes a sample, every 100 ms or so; `now_ms` is of a steady clock. The step that the ladder took, if it did.
    pub fn sample(
        &mut self,
        now_ms: u64,
        pressures: &Pressures,
        faults: Faults,
        pressure: &Pressure,
    ) -> Option<LevelChange> {
        let change = self.ladder.sample(now_ms, pressures, faults);
        pressure.set(self.ladder.stance(), pressures);
        self.fair.sample(now_ms, self.ladder.stance(), pressures, pressure);
        change
    }
}
