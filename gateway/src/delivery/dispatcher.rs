//! One pass over a batch: every live subscriber's share of it, one push and one wake-up for each.

use super::metrics::{self, Dropped};
use super::outbox::{Outbox, OutboxId, Pick};
use crate::router::{GroupMatch, Match, RouteCache, SharedRouter};
use gateway_protocol::QoS;
use gateway_storage::Batch;
use std::collections::HashMap;
use std::sync::Arc;

/// Subscriptions of connections, durable sessions' among them while they are connected.
pub type LiveRouter = SharedRouter<Arc<Outbox>>;

/// Topics whose live subscribers are remembered by one dispatcher.
const ROUTES_CACHED: usize = 16_384;

#[derive(Clone)]
struct Routes {
    direct: Arc<[Match<Arc<Outbox>>]>,
    groups: Arc<[GroupMatch<Arc<Outbox>>]>,
}

/// Hands batches to the outboxes of live subscribers. Each thread or connection that has batches has its own.
pub struct Dispatcher {
    router: Arc<LiveRouter>,
    routes: RouteCache<Routes>,
    shares: Vec<(Arc<Outbox>, Vec<Pick>)>,
    share_of: HashMap<OutboxId, usize>,
    /// Whose turn it is in groups.
    turn: usize,
}

impl Dispatcher {
    /// A dispatcher on the table `router`.
    #[must_use]
    pub fn new(router: Arc<LiveRouter>) -> Self {
        Self {
            router,
            routes: RouteCache::new(ROUTES_CACHED),
            shares: Vec::new(),
            share_of: HashMap::new(),
            turn: 0,
        }
    }

    /// Queues every event of `batch` for its live subscribers.
    pub fn dispatch(&mut self, batch: &Arc<Batch>) {
        let epoch = self.router.epoch();
        for index in 0..batch.len() {
            let Some(event) = batch.event(index) else { continue };
            let router = &self.router;
            let routes = self.routes.get_or_find(epoch, event.topic, || {
                router.read(|router| Routes {
                    direct: router.matches(event.topic).into(),
                    groups: router.group_matches(event.topic).into(),
                })
            });
            let Ok(published) = QoS::try_from(event.qos) else { continue };
            for found in routes.direct.iter() {
                let qos = published.min(found.qos);
                let outbox = &found.subscriber;
                if (outbox.is_durable && qos != QoS::AtMostOnce)
                    || (found.no_local && *outbox.client_id == *event.client_id)
                {
                    continue;
                }
                let pick = Pick {
                    index: u32::try_from(index).unwrap_or(u32::MAX),
                    qos,
                    retain_as_published: found.retain_as_published,
                    subscription_ids: found.subscription_ids.clone(),
                };
                self.add(outbox, pick);
            }
            if published == QoS::AtMostOnce {
                self.dispatch_to_groups(index, &routes.groups);
            }
        }
        self.hand_out(batch);
    }

    /// One member of each group gets the event; at QoS 0 only, since above it the members' backlogs have it.
    fn dispatch_to_groups(&mut self, index: usize, groups: &[GroupMatch<Arc<Outbox>>]) {
        for group in groups {
            self.turn = self.turn.wrapping_add(1);
            let Some((outbox, grant)) = group.members.get(self.turn % group.members.len().max(1)) else {
                continue;
            };
            let pick = Pick {
                index: u32::try_from(index).unwrap_or(u32::MAX),
                qos: QoS::AtMostOnce,
                retain_as_published: grant.retain_as_published,
                subscription_ids: (grant.subscription_id != 0).then(|| [grant.subscription_id].into()),
            };
            self.add(outbox, pick);
        }
    }

    fn add(&mut self, outbox: &Arc<Outbox>, pick: Pick) {
        // Most batches have one subscriber, or the same few again and again: look at the last one first.
        if let Some((last, picks)) = self.shares.last_mut()
            && last.id == outbox.id
        {
            picks.push(pick);
            return;
        }
        let at = *self.share_of.entry(outbox.id).or_insert_with(|| {
            self.shares.push((outbox.clone(), Vec::new()));
            self.shares.len() - 1
        });
        if let Some((_, picks)) = self.shares.get_mut(at) {
            picks.push(pick);
        }
    }

    fn hand_out(&mut self, batch: &Arc<Batch>) {
        let mut routed = 0;
        let mut dropped = 0;
        for (outbox, picks) in self.shares.drain(..) {
            routed += picks.len();
            dropped += outbox.push(batch, picks);
        }
        self.share_of.clear();
        metrics::routed(routed as u64);
        if dropped > 0 {
            metrics::dropped(Dropped::OutboxFull, dropped as u64);
        }
    }
}
