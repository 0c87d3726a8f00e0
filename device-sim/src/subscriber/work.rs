//! How the workers of a consumer answer: by chance, and by what is poison to all of them.

use std::sync::Arc;

use rand_chacha::ChaCha8Rng;

use crate::envelope::Envelope;
use crate::mqtt::Answer;
use crate::plan::Plan;
use crate::random::{Purpose, Seed, unit};
use crate::scenario::subscriber::Work;
use crate::shared::Shared;

/// One worker's answers.
pub(super) struct Workbench {
    seed: Seed,
    work: Work,
    rng: ChaCha8Rng,
}

impl Workbench {
    pub(super) fn new(plan: &Plan, work: Work, number: u32) -> Self {
        Workbench { seed: plan.seed(), work, rng: plan.seed().stream(Purpose::Work, number) }
    }

    /// What to say to an event; none: nothing, as a worker that hangs.
    pub(super) fn answer(&mut self, shared: &Arc<Shared>, event: &Envelope) -> Option<Answer> {
        let drawn = unit(&mut self.rng);
        if self.is_poison(shared, event) || drawn < self.work.nak {
            return Some(Answer::Refused);
        }
        (drawn >= self.work.nak + self.work.hang).then_some(Answer::Done)
    }

    /// A function of the event and the seed, so that every worker comes to the same.
    fn is_poison(&self, shared: &Shared, event: &Envelope) -> bool {
        let share = shared.timeline.poison_at(event.due_us);
        if share <= 0.0 {
            return false;
        }
        let of_event = Seed(self.seed.0 ^ u64::from(event.sequence) << 32);
        unit(&mut of_event.stream(Purpose::Poison, event.device)) < share
    }
}
