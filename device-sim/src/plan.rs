//! What to run: a scenario, a broker, a seed.

use crate::random::Seed;
use crate::scenario::Scenario;

/// What to run, and against whom.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The scenario.
    pub scenario: Scenario,
    /// The broker's host name or address.
    pub host: String,
    /// The broker's TCP port.
    pub port: u16,
    /// The seed of everything random.
    pub seed: u64,
    /// Tells this run's events from those of others.
    pub epoch: u32,
}

impl Plan {
    /// The seed as the streams want it.
    pub fn seed(&self) -> Seed {
        Seed(self.seed)
    }
}
