//! What the demo shows: a mixed fleet, a live dashboard and a durable backend.

use std::time::Duration;

use crate::scenario::Scenario;

/// The demo's scenario.
#[expect(clippy::expect_used, reason = "the text is a constant but for two numbers, and a test reads it")]
pub(super) fn scenario(devices: u32, rate: f64, duration: Option<Duration>) -> Scenario {
    let connect_rate = 1_000.0_f64.max(f64::from(devices) / 5.0);
    let text = format!(
        r#"
        [fleet]
        devices = {devices}
        sites = 20
        rate = {rate:?}
        jitter = 0.3
        time_scale = 60
        connect_rate = {connect_rate:?}

        [[subscriber]]
        name = "dashboard"
        filter = "devices/#"
        qos = 0
        protocol = "3.1.1"

        [[subscriber]]
        name = "archive"
        filter = "devices/+/+/telemetry"
        durable = true

        [run]
        duration = "1s"
        connect_timeout = "30s"
        "#
    );
    let mut scenario = Scenario::parse(&text).expect("the demo's scenario");
    scenario.run.duration = duration;
    scenario
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scene_can_be_built() {
        assert_eq!(scenario(1_000, 6_000.0, None).subscribers.len(), 2);
    }
}
