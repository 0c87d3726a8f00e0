//! A log that fills up behind a session that is away, to a part of its limit: the ladder, step by step.

use std::time::Duration;

use gateway_tests::{Client, Ended, Gateway, Hello, ProtocolVersion, wait};

use super::Rig;
use crate::prometheus::Watch;
use crate::{QOS0, QOS1};

const LOG_BYTES: usize = 8 << 20;
const FILLER_BYTES: usize = 50_000;
/// What an event takes in the log beside its payload, about.
const FRAMING_BYTES: usize = 70;
/// Parts of the log at which the ladder is at L3 and at L4.
const L3: f64 = 0.865;
const L4: f64 = 0.94;
/// From L4 to the first who is disconnected, ten seconds by itself.
const ENDS: Duration = Duration::from_secs(40);

/// A small log, nothing that is kept for its own sake, and nothing that presses beside the log, however slow the machine is.
pub(super) fn with_a_small_log() -> Rig {
    Rig::with(&[
        "storage.max_bytes=8MiB",
        "storage.segment_bytes=1MiB",
        "storage.group_bytes_max=1MiB",
        "mqtt.max_packet_bytes=256KiB",
        "stream=[]",
        "admission.max_commit_ms=600000",
        "admission.max_loop_lag_ms=600000",
        "admission.max_unacknowledged_ms=3600000",
        "admission.class=[{class=\"bulk\", topics=[\"debug/#\"]}]",
    ])
}

/// Fills the log; the client that did must stay.
fn fill(gateway: &Gateway, part: f64) -> Client {
    let (mut away, _) = Client::connect(gateway.mqtt(), &Hello::durable(ProtocolVersion::V5, "away"));
    away.subscribe(&[("fill/#", QOS1)]);
    away.leave();
    let mut filler = gateway.connect(ProtocolVersion::V5, "filler");
    let payload = "x".repeat(FILLER_BYTES);
    for _ in 0..(part * LOG_BYTES as f64) as usize / (FILLER_BYTES + FRAMING_BYTES) {
        // Its acknowledgements come late at L2, and not at all at L4.
        filler.send_publish("fill/1", &payload, QOS1);
    }
    filler
}

/// The gateway slows its publishers, and gives up what matters least.
pub(super) fn to_l3(rig: &mut Rig, watch: &Watch<'_>) {
    let _filler = fill(&rig.gateway, L3);
    watch.await_value("gateway_level", 3.0);
    let mut device = rig.gateway.connect(ProtocolVersion::V5, "oven");
    for _ in 0..10 {
        device.send_publish("debug/oven", "chatter", QOS0);
    }
    device.ping();
    watch.await_firing(&["GatewayUnderPressure", "GatewaySheds"]);
    let firing = watch.firing();
    assert!(!firing.contains("GatewayProtectsItself"), "{firing:?}");
}

/// The gateway takes no new sessions, and who brings most has to go.
pub(super) fn to_l4(rig: &mut Rig, watch: &Watch<'_>) {
    let mut hog = rig.gateway.connect(ProtocolVersion::V5, "hog");
    let _filler = fill(&rig.gateway, L4);
    watch.await_firing(&["GatewayProtectsItself"]);
    let payload = "x".repeat(20_000);
    wait::until("the hog is disconnected", ENDS, || {
        for _ in 0..20 {
            hog.send_publish("live/hog", &payload, QOS0);
        }
        matches!(hog.receive(Duration::from_millis(1)), Err(Ended::Closed)).then_some(())
    });
    watch.await_firing(&["GatewayDisconnectsOffenders"]);
}
