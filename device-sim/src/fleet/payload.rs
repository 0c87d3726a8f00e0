//! A device's payloads: what it measures, as its cohort says it, sealed in the envelope. Pure: due events in, bytes out.

use std::collections::VecDeque;
use std::sync::Arc;

use super::Token;
use crate::envelope::{Envelope, Kind};
use crate::model::changes::{Changes, Fields};
use crate::model::world::{DeviceClock, Site};
use crate::model::{DeviceModel, Surroundings};
use crate::payload::sparkplug::FIRST_DATA_SEQ;
use crate::payload::{Encoder, Reading};
use crate::plan::Plan;
use crate::qos::QoS;
use crate::random::{Purpose, normal};
use crate::roster::Identity;
use crate::scenario::cohort::{ReportMode, ReportSpec};

/// The room a payload starts with.
const PAYLOAD_BYTES: usize = 256;

/// Snapshots that are kept of a device whose readings may come late.
const SNAPSHOTS_MAX: usize = 8;

/// Makes the payloads of one device.
pub(crate) struct Payloads {
    pub(super) model: DeviceModel,
    pub(super) encoder: Arc<Encoder>,
    device: u32,
    epoch: u32,
    time_scale: f64,
    news: News,
    /// The device as it was at its last readings, oldest first, if readings may come late.
    snapshots: Option<VecDeque<DeviceModel>>,
    /// Sparkplug: the number of the node's next message.
    pub(super) seq: u8,
    asides: u32,
}

/// What is worth an event.
enum News {
    Everything,
    Changes { changes: Box<Changes>, spec: ReportSpec, reported_s: f64 },
}

impl Payloads {
    pub(crate) fn new(plan: &Plan, identity: &Identity) -> Self {
        let (fleet, cohort) = (&plan.scenario.fleet, &identity.cohort);
        let mut rng = plan.seed().stream(Purpose::Clock, identity.number);
        let clock = DeviceClock {
            start_unix_ms: fleet.start_unix_ms,
            ahead_s: cohort.clock.skew_s * normal(&mut rng),
            drift: cohort.clock.drift * normal(&mut rng),
        };
        let site = Site::new(plan.seed(), identity.site);
        let surroundings = Surroundings { site, device: &identity.client_id, clock };
        let rng = plan.seed().bookmark(Purpose::Model, identity.number);
        let news = match cohort.report.mode {
            ReportMode::Always => News::Everything,
            ReportMode::OnChange | ReportMode::Changes => News::Changes {
                changes: Box::new(Changes::new(&cohort.model)),
                spec: cohort.report,
                reported_s: f64::NEG_INFINITY,
            },
        };
        let late = cohort.rhythm.uplink.late.is_some();
        let mut model = DeviceModel::new(&cohort.model, rng, surroundings);
        let is_node = matches!(*cohort.payload, Encoder::Sparkplug(_));
        if is_node {
            // A birth has values before there is an event.
            model.advance(0.0);
        }
        Payloads {
            model,
            encoder: Arc::clone(&cohort.payload),
            device: identity.number,
            epoch: plan.epoch,
            time_scale: fleet.time_scale,
            news,
            snapshots: late.then(VecDeque::new),
            seq: if is_node { FIRST_DATA_SEQ } else { 0 },
            asides: 0,
        }
    }

    /// The payload of the next event; none if there is nothing worth one, and then nothing was due. To be called in the
    /// order of due times.
    pub(crate) fn next(&mut self, token: Token, topic: &str) -> Option<Vec<u8>> {
        let measured_s = token.measured_us as f64 / 1e6 * self.time_scale;
        let envelope = Envelope {
            epoch: self.epoch,
            device: self.device,
            sequence: token.sequence,
            due_us: token.due_us,
            qos: token.qos,
        };
        let past = self.past(measured_s);
        let fields = match &past {
            Some(past) => Fields::first(past.fields()),
            None => {
                self.advance(measured_s);
                self.news.of(&self.model)?
            }
        };
        let reading = Reading {
            envelope,
            kind: Kind::Event,
            model: past.as_ref().unwrap_or(&self.model),
            fields,
            seq: self.seq,
            historical: past.is_some(),
        };
        let mut payload = Vec::with_capacity(PAYLOAD_BYTES);
        self.encoder.encode(&mut payload, &reading, topic);
        self.seq = self.seq.wrapping_add(1);
        Some(payload)
    }

    /// The newest reading with all its fields, as an aside.
    pub(super) fn state(&mut self, due_us: u64, topic: &str) -> Vec<u8> {
        let envelope = self.aside(due_us, QoS::AtLeastOnce);
        let fields = Fields::first(self.model.fields());
        let reading =
            Reading { envelope, kind: Kind::Aside, model: &self.model, fields, seq: 0, historical: false };
        let mut payload = Vec::with_capacity(PAYLOAD_BYTES);
        self.encoder.encode(&mut payload, &reading, topic);
        payload
    }

    /// The envelope of the next thing said beside the schedule.
    pub(super) fn aside(&mut self, due_us: u64, qos: QoS) -> Envelope {
        let sequence = self.asides;
        self.asides = sequence.wrapping_add(1);
        Envelope { epoch: self.epoch, device: self.device, sequence, due_us, qos }
    }

    fn advance(&mut self, now_s: f64) {
        self.model.advance(now_s);
        if let Some(snapshots) = &mut self.snapshots {
            if snapshots.len() == SNAPSHOTS_MAX {
                snapshots.pop_front();
            }
            snapshots.push_back(self.model.clone());
        }
    }

    /// The device as it was at a moment before its newest reading: moved on from the last snapshot before that moment, or
    /// from the oldest there is.
    fn past(&self, at_s: f64) -> Option<DeviceModel> {
        let snapshots = self.snapshots.as_ref().filter(|_| at_s < self.model.now_s())?;
        let before = snapshots.iter().rev().find(|snapshot| snapshot.now_s() <= at_s);
        let mut past = before.or(snapshots.front())?.clone();
        past.advance(at_s);
        Some(past)
    }
}

impl News {
    /// What of the newest reading is to be sent; none if nothing is.
    fn of(&mut self, model: &DeviceModel) -> Option<Fields> {
        let all = Fields::first(model.fields());
        let News::Changes { changes, spec, reported_s } = self else { return Some(all) };
        let changed = changes.since_last(model);
        let overdue = model.now_s() - *reported_s >= spec.heartbeat_s;
        let fields = match spec.mode {
            _ if overdue => all,
            _ if changed.is_empty() => return None,
            ReportMode::Changes => changed,
            ReportMode::Always | ReportMode::OnChange => all,
        };
        changes.reported(fields, model);
        *reported_s = model.now_s();
        Some(fields)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::envelope;
    use crate::roster::identities;
    use crate::scenario::Scenario;
    use crate::schedule::Schedule;

    /// Every byte of the first seconds of a run: topics, payloads, QoS, in the order in which they are due.
    fn run(seed: u64) -> Vec<(u64, String, Vec<u8>)> {
        let scenario = Scenario::parse(include_str!("../../scenarios/first.toml")).unwrap();
        let plan = Plan { scenario, host: String::new(), port: 0, seed, epoch: 9 };
        let mut devices: Vec<(Identity, Payloads)> =
            identities(&plan).map(|identity| (identity.clone(), Payloads::new(&plan, &identity))).collect();
        let mut schedule = Schedule::of_fleet(plan.seed(), &plan.scenario.fleet);
        let mut events = Vec::new();
        while let Some(due) = schedule.pop_due(3_000_000) {
            let (identity, payloads) = &mut devices[due.device as usize];
            let payload = payloads.next(due.into(), &identity.topic).unwrap();
            events.push((due.due_us, identity.topic.clone(), payload));
        }
        events
    }

    #[test]
    fn the_same_seed_gives_the_same_bytes() {
        let events = run(42);
        assert!(events.len() > 2_900);
        assert_eq!(events, run(42));
        assert_ne!(events, run(43));
    }

    #[test]
    fn payloads_are_json_and_open_on_their_topic() {
        for (_, topic, payload) in run(1) {
            serde_json::from_slice::<serde_json::Value>(&payload).unwrap();
            assert!(matches!(envelope::open(&payload, topic.as_bytes()), envelope::Opened::Event(_)));
            assert!(payload.len() <= PAYLOAD_BYTES, "{}", payload.len());
        }
    }
}
