//! What has become of entries that were submitted, for those who do not wait for the receipt.

use super::Engine;
use gateway_storage::{Staging, Ticket, Urgency};
use std::task::Waker;

/// What is known of a submission.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is stored and applied.
    Stored,
    /// The log has failed since and is open again. What of the life before is stored is applied: the view tells whether this is.
    Over,
    /// Neither: it is on its way, or the log has failed and is not open.
    Open,
}

impl Engine {
    /// What has become of the entries with this ticket. Once it was stored it may be `Over` as well, after a later failure.
    #[must_use]
    pub fn fate(&self, ticket: Ticket) -> Fate {
        match self.receipt() {
            Some(receipt) if receipt.covers(ticket) => return Fate::Stored,
            Some(receipt) if receipt.outlives(ticket) => return Fate::Over,
            _ => {}
        }
        // Nobody may have submitted anything since the log was reopened, so no receipt tells of its new life. An empty submission does.
        let now = self.commit.submit(&mut Staging::new(), Urgency::Lazy, Waker::noop(), None);
        let is_over = now.is_ok_and(|now| ticket.is_of_an_earlier_life_than(now));
        match is_over && self.end() >= self.log.bounds().1 {
            true => Fate::Over,
            false => Fate::Open,
        }
    }
}
