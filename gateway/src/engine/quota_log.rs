//! Which sessions have more waiting for them than there is room for, in the gateway's log: each at most once a minute.

use super::apply::AtLimit;
use super::rules::WhenFull;
use crate::decisions::Reason;
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// The time between two lines about one session.
const EVERY: Duration = Duration::from_secs(60);
/// Sessions that are remembered; past it those that were named first may be named again early.
const SESSIONS_MAX: usize = 100_000;

/// Who was named when.
#[derive(Debug)]
pub(super) struct QuotaLog {
    policy: WhenFull,
    named: HashMap<Box<str>, Instant>,
}

impl QuotaLog {
    pub(super) fn new(policy: WhenFull) -> Self {
        Self { policy, named: HashMap::new() }
    }

    pub(super) fn say(&mut self, sessions: &[AtLimit]) {
        for AtLimit { session, pending, reason, .. } in sessions {
            if *reason != Reason::SessionEnded && self.is_to_be_named(&session.client_id, Instant::now()) {
                let (client_id, policy) = (&*session.client_id, self.policy);
                tracing::warn!(
                    client_id,
                    ?policy,
                    pending,
                    "a session has more waiting for it than there is room for"
                );
            }
        }
    }

    fn is_to_be_named(&mut self, client_id: &str, now: Instant) -> bool {
        let is_recent = |named: &Instant| now.saturating_duration_since(*named) < EVERY;
        if self.named.get(client_id).is_some_and(is_recent) {
            return false;
        }
        if self.named.len() >= SESSIONS_MAX {
            self.named.retain(|_, named| is_recent(named));
        }
        if self.named.len() >= SESSIONS_MAX {
            self.named.clear();
        }
        self.named.insert(client_id.into(), now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_named_once_a_minute() {
        let mut log = QuotaLog::new(WhenFull::DropNewest);
        let start = Instant::now();
        assert!(log.is_to_be_named("a", start));
        assert!(log.is_to_be_named("b", start));
        assert!(!log.is_to_be_named("a", start + Duration::from_secs(59)));
        assert!(log.is_to_be_named("a", start + Duration::from_secs(60)));
        assert!(!log.is_to_be_named("b", start + Duration::from_secs(59)));
    }
}
