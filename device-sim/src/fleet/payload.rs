//! A device's payloads: what it measures, sealed in the envelope. Pure: due events in, bytes out.

use super::{Identity, Token};
use crate::envelope::{self, Envelope};
use crate::model::DeviceModel;
use crate::random::Purpose;
use crate::run::Plan;

/// The room a payload starts with.
const PAYLOAD_BYTES: usize = 256;

/// Makes the payloads of one device.
pub(crate) struct Payloads {
    model: DeviceModel,
    device: u32,
    epoch: u32,
    time_scale: f64,
}

impl Payloads {
    pub(crate) fn new(plan: &Plan, identity: &Identity) -> Self {
        let fleet = &plan.scenario.fleet;
        Payloads {
            model: DeviceModel::new(&fleet.model, plan.seed().stream(Purpose::Model, identity.number)),
            device: identity.number,
            epoch: plan.epoch,
            time_scale: fleet.time_scale,
        }
    }

    /// The payload of the next event; to be called in the order of due times.
    pub(crate) fn next(&mut self, token: Token, topic: &str) -> Vec<u8> {
        self.model.advance(token.due_us as f64 / 1e6 * self.time_scale);
        let mut payload = Vec::with_capacity(PAYLOAD_BYTES);
        let envelope = Envelope {
            epoch: self.epoch,
            device: self.device,
            sequence: token.sequence,
            due_us: token.due_us,
            qos: token.qos,
        };
        envelope::begin(&mut payload, envelope);
        self.model.write_members(&mut payload);
        payload.push(b'}');
        envelope::seal(&mut payload, topic.as_bytes());
        payload
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::identities;
    use crate::scenario::Scenario;
    use crate::schedule::Schedule;

    /// Every byte of the first seconds of a run: topics, payloads, QoS, in the order in which they are due.
    fn run(seed: u64) -> Vec<(u64, String, Vec<u8>)> {
        let scenario = Scenario::parse(include_str!("../../scenarios/first.toml")).unwrap();
        let plan = Plan { scenario, host: String::new(), port: 0, seed, epoch: 9 };
        let fleet = &plan.scenario.fleet;
        let mut devices: Vec<(Identity, Payloads)> =
            identities(&plan).map(|identity| (identity.clone(), Payloads::new(&plan, &identity))).collect();
        let mut schedule =
            Schedule::new(plan.seed(), fleet.devices, fleet.rate, fleet.arrivals, fleet.qos1_share);
        let mut events = Vec::new();
        while let Some(due) = schedule.pop_due(3_000_000) {
            let (identity, payloads) = &mut devices[due.device as usize];
            let token = Token { sequence: due.sequence, due_us: due.due_us, qos: due.qos };
            events.push((due.due_us, identity.topic.clone(), payloads.next(token, &identity.topic)));
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
