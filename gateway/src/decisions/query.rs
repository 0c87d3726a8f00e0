//! Pages of decisions: which ones, newest first.

use super::reason::{Action, Reason};
use super::record::{Recorded, View};
use super::ring::Chunk;
use std::sync::Arc;

/// Which decisions; what is `None` is not asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DecisionQuery {
    /// Of this client.
    pub client: Option<String>,
    /// For this reason.
    pub reason: Option<Reason>,
    /// Of this kind.
    pub action: Option<Action>,
    /// Made at this time or later, in milliseconds since the Unix epoch.
    pub since_ms: Option<u64>,
    /// Of a number below this one: what the page before ended with.
    pub before: Option<u64>,
    /// How many at most.
    pub limit: usize,
}

/// A page of decisions.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DecisionPage {
    /// Newest first.
    pub decisions: Vec<Recorded>,
    /// The `before` of the next page, if there is one.
    pub next: Option<u64>,
}

impl DecisionQuery {
    /// Whether this one is meant. Numbers are not looked at.
    #[must_use]
    pub fn means(&self, decision: &Recorded) -> bool {
        self.fits(&decision.client, decision.reason, decision.action, decision.time_ms)
    }

    fn fits(&self, client: &str, reason: Reason, action: Action, time_ms: u64) -> bool {
        self.client.as_deref().is_none_or(|wanted| wanted == client)
            && self.reason.is_none_or(|wanted| wanted == reason)
            && self.action.is_none_or(|wanted| wanted == action)
            && self.since_ms.is_none_or(|since_ms| time_ms >= since_ms)
    }
}

pub(super) fn page(chunks: &[Arc<Chunk>], query: &DecisionQuery) -> DecisionPage {
    let mut decisions: Vec<Recorded> = Vec::new();
    let before = query.before.unwrap_or(u64::MAX);
    for chunk in chunks.iter().rev() {
        if chunk.first() >= before || query.since_ms.is_some_and(|since_ms| chunk.newest_ms() < since_ms) {
            continue;
        }
        let is_meant = |(id, view): &(u64, View<'_>)| {
            *id < before && query.fits(view.client, view.reason, view.action, view.time_ms)
        };
        let found: Vec<_> = chunk.records().filter(is_meant).collect();
        for (id, view) in found.into_iter().rev() {
            if decisions.len() == query.limit {
                // One more than is wanted: then there is another page.
                let next = decisions.last().map(|last| last.id);
                return DecisionPage { decisions, next };
            }
            decisions.push(view.recorded(id));
        }
    }
    DecisionPage { decisions, next: None }
}
