//! One pass over a batch: every live subscriber's share of it, one push and one wake-up for each.
//!
//! What is done for each event is a comparison with the one before: consecutive events of one publisher on one topic go the same way, and
//! are routed once.

use super::metrics::{self, Dropped};
use super::outbox::{Outbox, OutboxId, Pick, Picks, events};
use super::shipment::Shipment;
use crate::clock;
use crate::decisions::{Action, Decision, DecisionLog, Reason};
use crate::router::{GroupMatch, Match, RouteCache, SharedRouter, Ways};
use gateway_protocol::QoS;
use gateway_storage::{Batch, RawEvent};
use std::collections::HashMap;
use std::sync::Arc;

/// Subscriptions of connections, durable sessions' among them while they are connected.
pub type LiveRouter = SharedRouter<Arc<Outbox>>;

/// Topics whose live subscribers are remembered by one dispatcher.
const ROUTES_CACHED: usize = 131_072;

/// To all live subscribers of a topic.
#[derive(PartialEq)]
pub struct Routes {
    direct: Vec<Match<Arc<Outbox>>>,
    groups: Vec<GroupMatch<Arc<Outbox>>>,
}

impl Routes {
    /// As the table `router` has them now.
    #[must_use]
    pub fn of(router: &LiveRouter, topic: &str) -> Self {
        router.read(|router| Self { direct: router.matches(topic), groups: router.group_matches(topic) })
    }

    /// Whether there are no subscribers.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.direct.is_empty() && self.groups.is_empty()
    }
}

/// Hands batches to the outboxes of live subscribers. Each thread or connection that has batches has its own.
pub struct Dispatcher {
    router: Arc<LiveRouter>,
    routes: RouteCache<Arc<Routes>>,
    shares: Vec<(Arc<Outbox>, Picks)>,
    share_of: HashMap<OutboxId, usize, foldhash::fast::RandomState>,
    /// Whose turn it is in groups.
    turn: usize,
    /// Where it is told what found no room.
    decisions: Option<DecisionLog>,
}

/// What became of a batch.
#[derive(Debug, Default)]
pub struct Dispatched {
    /// Messages put in front of subscribers.
    pub routed: usize,
    /// A subscriber that is behind, if there is one: whoever published waits for it.
    pub behind: Option<Arc<Outbox>>,
}

/// Events `first..end` of a batch, of one publisher and one QoS, which go the same way. `event` is the first of them.
struct Run<'a> {
    first: u32,
    end: u32,
    event: RawEvent<'a>,
    published: QoS,
}

impl Dispatcher {
    /// A dispatcher on the table `router`.
    #[must_use]
    pub fn new(router: Arc<LiveRouter>) -> Self {
        Self {
            router,
            routes: RouteCache::new(ROUTES_CACHED),
            shares: Vec::new(),
            share_of: HashMap::default(),
            turn: 0,
            decisions: None,
        }
    }

    /// The same, and what finds no room goes on record.
    #[must_use]
    pub fn reporting_to(self, decisions: DecisionLog) -> Self {
        Self { decisions: Some(decisions), ..self }
    }

    /// Queues every event of `batch` for its live subscribers.
    pub fn dispatch(&mut self, batch: &Arc<Batch>) -> Dispatched {
        let epoch = self.router.epoch();
        let mut at = 0;
        while at < batch.len() {
            let Some(run) = run_at(batch, at) else {
                at += 1;
                continue;
            };
            at = run.end as usize;
            self.dispatch_run(epoch, &run);
        }
        self.hand_out(batch)
    }

    /// The same for a batch of one publisher, where it is known already which way its events go; unless that is true no longer.
    pub fn dispatch_on_ways(&mut self, batch: &Arc<Batch>, ways: &mut Ways<Arc<Routes>>) -> Dispatched {
        let Some(ways) = ways.take(self.router.epoch(), batch.len()) else { return self.dispatch(batch) };
        let mut first = 0;
        for way in ways {
            let end = first + way.events;
            if let Some(event) = batch.raw_event(first as usize) {
                self.add_run(&Run { first, end, event, published: way.published }, &way.way);
            }
            first = end;
        }
        self.hand_out(batch)
    }

    fn dispatch_run(&mut self, epoch: u64, run: &Run<'_>) {
        let router = &self.router;
        let routes = self.routes.get_or_find(epoch, run.event.topic, || {
            // It was text when it was staged.
            Arc::new(Routes::of(router, std::str::from_utf8(run.event.topic).unwrap_or_default()))
        });
        self.add_run(run, &routes);
    }

    fn add_run(&mut self, run: &Run<'_>, routes: &Routes) {
        for found in &routes.direct {
            let outbox = &found.subscriber;
            // What is above QoS 0 a durable session gets from its backlog.
            if (outbox.is_durable && run.published.min(found.qos) != QoS::AtMostOnce)
                || (found.no_local && outbox.client_id.as_bytes() == run.event.client_id)
            {
                continue;
            }
            let pick = Pick {
                first: run.first,
                end: run.end,
                granted: if outbox.is_durable { QoS::AtMostOnce } else { found.qos },
                retain_as_published: found.retain_as_published,
                subscription_ids: found.subscription_ids.clone(),
            };
            self.add(outbox, pick);
        }
        if run.published == QoS::AtMostOnce && !routes.groups.is_empty() {
            for at in run.first..run.end {
                self.dispatch_to_groups(at, &routes.groups);
            }
        }
    }

    /// One member of each group gets the event; at QoS 0 only, since above it the members' backlogs have it.
    fn dispatch_to_groups(&mut self, at: u32, groups: &[GroupMatch<Arc<Outbox>>]) {
        for group in groups {
            self.turn = self.turn.wrapping_add(1);
            let Some((outbox, grant)) = group.members.get(self.turn % group.members.len().max(1)) else {
                continue;
            };
            let pick = Pick {
                first: at,
                end: at + 1,
                granted: QoS::AtMostOnce,
                retain_as_published: grant.retain_as_published,
                subscription_ids: (grant.subscription_id != 0).then(|| [grant.subscription_id].into()),
            };
            self.add(outbox, pick);
        }
    }

    fn add(&mut self, outbox: &Arc<Outbox>, pick: Pick) {
        // Most batches have one subscriber, or the same few again and again: look at the last one first.
        let at = match self.shares.last() {
            Some((last, _)) if last.id == outbox.id => self.shares.len() - 1,
            _ => *self.share_of.entry(outbox.id).or_insert_with(|| {
                self.shares.push((outbox.clone(), Picks::new()));
                self.shares.len() - 1
            }),
        };
        let Some((_, picks)) = self.shares.get_mut(at) else { return };
        match picks.last_mut() {
            Some(last) if last.goes_on_with(&pick) => last.end = pick.end,
            _ => picks.push(pick),
        }
    }

    fn hand_out(&mut self, batch: &Arc<Batch>) -> Dispatched {
        let mut routed = 0;
        let mut dropped = 0;
        let mut behind = None;
        let shipment = Arc::new(match self.shares.len() {
            0 => return Dispatched::default(),
            1 => Shipment::for_one(batch.clone()),
            _ => Shipment::for_several(batch.clone()),
        });
        for (outbox, picks) in self.shares.drain(..) {
            routed += events(&picks);
            let first = picks.first().map_or(0, |pick| pick.first as usize);
            let pushed = outbox.push(&shipment, picks);
            if pushed.dropped > 0 {
                dropped += pushed.dropped;
                tell(self.decisions.as_ref(), &outbox, batch, first, pushed.dropped);
            }
            if pushed.is_behind {
                behind = Some(outbox);
            }
        }
        self.share_of.clear();
        metrics::routed(routed as u64);
        if dropped > 0 {
            metrics::dropped(Dropped::OutboxFull, dropped as u64);
        }
        Dispatched { routed, behind }
    }
}

/// Messages that found no room in an outbox, under the topic of the first of them.
fn tell(decisions: Option<&DecisionLog>, outbox: &Outbox, batch: &Batch, first: usize, count: usize) {
    let Some(decisions) = decisions else { return };
    let topic =
        batch.raw_event(first).and_then(|event| std::str::from_utf8(event.topic).ok()).unwrap_or_default();
    let decision = Decision {
        client: &outbox.client_id,
        topic,
        action: Action::Dropped,
        reason: Reason::OutboxFull,
        count: u32::try_from(count).unwrap_or(u32::MAX),
    };
    decisions.record(clock::unix_ms(), decision);
}

/// The events from `at` on that have one topic, one publisher and one QoS.
fn run_at(batch: &Batch, at: usize) -> Option<Run<'_>> {
    let event = batch.raw_event(at)?;
    let published = QoS::try_from(event.qos).ok()?;
    let mut end = at + 1;
    while let Some(next) = batch.raw_event(end)
        && next.qos == event.qos
        && next.topic == event.topic
        && (std::ptr::eq(next.client_id, event.client_id) || next.client_id == event.client_id)
    {
        end += 1;
    }
    Some(Run { first: u32::try_from(at).ok()?, end: u32::try_from(end).ok()?, event, published })
}
