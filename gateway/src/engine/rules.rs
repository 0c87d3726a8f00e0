//! The rules by which entries are applied.
//!
//! They come from the configuration, but a replay has to apply each entry by the rules that were in force when it was applied first:
//! with a smaller limit it would leave out a message, every later one would get another sequence, and the acknowledgements that
//! follow in the log would mean other messages. So the rules are an entry too, and part of the saved view.

use super::backlog::BacklogLimits;
use super::dead_letters::LetterLimits;
use serde::{Deserialize, Serialize};

/// How a group of a Shared Subscription chooses the member for a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ShareStrategy {
    /// In turn.
    RoundRobin,
    /// By who published it: one publisher's messages stay together and in order, for as long as the members stay the same.
    Publisher,
}

/// What gives way when a message finds its backlog at a limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum WhenFull {
    /// The message.
    #[default]
    DropNewest,
    /// The oldest ones of the backlog.
    DropOldest,
    /// The session.
    EndSession,
}

/// All of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rules {
    /// Bounds of every durable session's backlog.
    pub backlog: BacklogLimits,
    /// How groups choose.
    pub share: ShareStrategy,
    /// What gives way in a full backlog. Logs of before there was a choice do not say it.
    #[serde(default)]
    pub when_full: WhenFull,
    /// How often a replay has passed over a part of the log that cannot be read. What follows in the log was said under other numbers than
    /// those the replay gave, until the entry that says one more of these.
    #[serde(default)]
    pub losses: u32,
    /// How many consumers there may be.
    #[serde(default = "consumers_max")]
    pub consumers_max: u32,
    /// Bounds of dead letters.
    #[serde(default)]
    pub letters: LetterLimits,
}

/// What holds in logs of before there were consumers.
const fn consumers_max() -> u32 {
    1000
}

impl Rules {
    /// The form in the log and in the view.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        super::snapshot::pack(self)
    }

    /// Rules from their form in the log; `None` where it is not legible.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        rmp_serde::from_slice(bytes).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_of_before_there_was_a_choice_drop_the_newest() {
        #[derive(Serialize)]
        struct Before {
            backlog: BacklogLimits,
            share: ShareStrategy,
        }
        let backlog = BacklogLimits { messages_max: 7, bytes_max: 9 };
        let before = super::super::snapshot::pack(&Before { backlog, share: ShareStrategy::Publisher });
        let rules = Rules::decode(&before).expect("they are legible");
        assert_eq!(
            rules,
            Rules {
                backlog,
                share: ShareStrategy::Publisher,
                when_full: WhenFull::DropNewest,
                losses: 0,
                consumers_max: 1000,
                letters: LetterLimits::default(),
            }
        );
        let now = Rules { when_full: WhenFull::EndSession, ..rules };
        assert_eq!(Rules::decode(&now.encode()), Some(now));
    }
}
