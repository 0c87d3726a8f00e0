//! Events to the backlogs of those who want them.

use super::{Applied, Applier, Routes, Usages, list_unsaved};
use crate::engine::backlog::Profile;
use crate::engine::session::DurableSession;
use gateway_protocol::QoS;
use gateway_storage::{Event, Offset, RawEvent};
use std::sync::Arc;

impl Applier {
    /// What an event is beside a message to somebody: a Retained Message, or a name that is remembered.
    pub(super) fn apply_content(&mut self, offset: Offset, event: Option<Event<'_>>) {
        let Some(event) = event else { return };
        if event.retain {
            self.table.write_retained().publish(offset, &event);
        }
        if let Some(identity) = self.table.dedup.identity(event.client_id, event.properties) {
            self.table.dedup.store(identity, event.received_ms);
        }
    }

    pub(super) fn apply_event(
        &mut self,
        offset: Offset,
        event: &RawEvent<'_>,
        usage: &mut Usages,
        applied: &mut Applied,
    ) {
        applied.events += 1;
        if event.qos == 0 && self.table.streams.is_empty() {
            return;
        }
        let table = &self.table;
        let routes = self.routes.get_or_find(table.router.epoch(), event.topic, || {
            // It was text when it was staged.
            let topic = str::from_utf8(event.topic).unwrap_or_default();
            let streams = table.streams.keeping(topic);
            table.router.read(|router| {
                Arc::new(Routes {
                    streams,
                    direct: router.matches(topic),
                    groups: router.group_matches(topic),
                })
            })
        });
        let bytes = (event.topic.len() + event.properties.len() + event.payload.len()) as u64;
        for &stream in routes.streams.iter() {
            usage.count(stream, offset, bytes + event.client_id.len() as u64);
        }
        if event.qos == 0 {
            return; // A QoS 0 delivery is made now or never: nothing to remember.
        }
        for found in &routes.direct {
            let session = &found.subscriber;
            if found.qos == QoS::AtMostOnce
                || (found.no_local && session.client_id.as_bytes() == event.client_id)
            {
                continue;
            }
            let profile = Profile {
                qos: found.qos,
                retain_as_published: found.retain_as_published,
                is_retained: false,
                subscription_ids: found.subscription_ids.clone(),
                group: None,
            };
            applied.routed += 1;
            self.add_making_room(session, offset, &profile, bytes, applied);
        }
        for group in &routes.groups {
            applied.routed += 1;
            self.add_to_group(group, offset, event, bytes, applied);
        }
    }

    /// Adds a message to a backlog; false when a limit forbids it.
    pub(super) fn add(
        &mut self,
        session: &Arc<DurableSession>,
        offset: Offset,
        profile: &Profile,
        bytes: u64,
    ) -> bool {
        let mut state = session.state();
        let is_first = state.backlog.end() == session.end();
        if !state.backlog.push(offset, profile, bytes, &self.rules.backlog) {
            return false;
        }
        if is_first {
            self.touched.push(session.clone());
        }
        list_unsaved(&mut self.unsaved, session, &mut state);
        true
    }
}
