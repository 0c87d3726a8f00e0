//! What the demo shows: a mixed fleet, a live dashboard and a durable backend.

use std::time::Duration;

use crate::model::{ModelSpec, builtin};
use crate::qos::QoS;
use crate::scenario::topic::TopicTemplate;
use crate::scenario::{Clients, Expect, Fleet, Protocol, RunSpec, Scenario, ScenarioText, SubscriberSpec};
use crate::schedule::Arrivals;

/// The demo's scenario.
#[expect(clippy::expect_used, reason = "the model and the template are constants, and a test builds them")]
pub(super) fn scenario(devices: u32, rate: f64, duration: Option<Duration>) -> Scenario {
    let model: ModelSpec = builtin::by_name("cold-room").expect("a built-in model");
    let topic = TopicTemplate::parse("devices/{site}/{device}/telemetry").expect("a valid template");
    let fleet = Fleet {
        devices,
        clients: Clients::Honest,
        sites: 20,
        rate,
        arrivals: Arrivals::Periodic { jitter: 0.3 },
        qos1_share: 0.8,
        v5_share: 0.5,
        durable: true,
        client_id_prefix: "dev-".to_owned(),
        topic,
        model,
        time_scale: 60.0,
        inflight_max: 32,
        queue_max: 128,
        connect_rate: 1_000.0_f64.max(f64::from(devices) / 5.0),
    };
    let dashboard = SubscriberSpec::plain("dashboard", "devices/#", QoS::AtMostOnce, Protocol::V3_1_1);
    let archive = SubscriberSpec::plain("archive", "devices/+/+/telemetry", QoS::AtLeastOnce, Protocol::V5);
    Scenario {
        about: String::new(),
        fleet,
        subscribers: vec![dashboard, SubscriberSpec { durable: true, ..archive }],
        phases: Vec::new(),
        broker: None,
        expect: Expect::default(),
        run: RunSpec {
            duration,
            warm_up: Duration::ZERO,
            drain_timeout: Duration::from_secs(10),
            connect_timeout: Duration::from_secs(30),
            redelivery_window: Duration::from_secs(1),
            seed: None,
        },
        text: ScenarioText::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scene_can_be_built() {
        assert_eq!(scenario(1_000, 6_000.0, None).subscribers.len(), 2);
    }
}
