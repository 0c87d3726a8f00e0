//! Faults of the disk, under the real program.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use gateway_tests::{
    Client, Ended, Gateway, Hello, ProtocolVersion, SmallDisk, SyscallFault, TIMEOUT, readiness, wait,
};

use super::Rig;
use crate::QOS1;
use crate::prometheus::Watch;

/// Of the file system that fills up, and what is left of it then: room for the log, and not for the view.
const SIZE: u64 = 96 << 20;
const LEFT: u64 = 12 << 20;
/// Above the 250 ms that the alert is about.
const SLOW_SYNC: &str = "fdatasync:delay_exit=400000";

/// A session that is away, so that the view has something to say about each event.
fn somebody_is_away(gateway: &Gateway) {
    let (mut away, _) = Client::connect(gateway.mqtt(), &Hello::durable(ProtocolVersion::V5, "away"));
    away.subscribe(&[("devices/#", QOS1)]);
    away.leave();
}

/// Every sync of the log fails: nothing is acknowledged, until it is over.
pub(super) fn syncs_fail(rig: &mut Rig, watch: &Watch<'_>) {
    let gateway = &rig.gateway;
    let mut device = gateway.connect(ProtocolVersion::V5, "oven");
    device.publish("devices/oven", "before", QOS1);
    let fault = SyscallFault::begin(gateway.process_id(), None, "fdatasync:error=EIO");
    device.send_publish("devices/oven", "during", QOS1);
    watch.await_firing(&["GatewayLogFailed"]);
    let reasons = readiness(gateway.admin()).expect_err("it is not ready");
    assert!(reasons.contains("storage failed"), "{reasons}");
    fault.end();
    wait::until("it goes on by itself", TIMEOUT, || readiness(gateway.admin()).ok());
    let mut device = gateway.connect(ProtocolVersion::V5, "oven");
    device.publish("devices/oven", "after", QOS1);
    watch.await_end("GatewayLogFailed");
}

/// Every sync takes long.
pub(super) fn syncs_are_slow(rig: &mut Rig, watch: &Watch<'_>) {
    let gateway = &rig.gateway;
    let mut device = gateway.connect(ProtocolVersion::V5, "oven");
    device.publish("devices/oven", "before", QOS1);
    let _fault = SyscallFault::begin(gateway.process_id(), None, SLOW_SYNC);
    wait::until("the alert fires", Duration::from_secs(60), || {
        device.publish("devices/oven", "slowly", QOS1);
        watch.firing().contains("GatewaySlowSync").then_some(())
    });
    watch.await_firing(&["GatewaySlowSync"]);
}

/// The view is saved all the time, and files of the log are small.
pub(super) fn saving_often() -> Rig {
    Rig::with(&[
        "storage.view_save_interval_ms=200",
        "storage.segment_bytes=1MiB",
        "storage.group_bytes_max=1MiB",
        "mqtt.max_packet_bytes=256KiB",
    ])
}

/// The file of the view takes nothing any more; the log does.
pub(super) fn the_view_cannot_be_written(rig: &mut Rig, watch: &Watch<'_>) {
    let gateway = &rig.gateway;
    somebody_is_away(gateway);
    let file = gateway.data_dir().join("view/db");
    let _fault = SyscallFault::begin(gateway.process_id(), Some(&file), "pwrite64:error=EIO");
    let mut device = gateway.connect(ProtocolVersion::V5, "oven");
    for _ in 0..10 {
        device.publish("devices/oven", "much", QOS1);
    }
    watch.await_firing(&["GatewayViewFailed"]);
    device.publish("devices/oven", "acknowledged all the same", QOS1);
}

/// Where the directory of checkpoints was there is a file.
pub(super) fn no_place_for_checkpoints(rig: &mut Rig, watch: &Watch<'_>) {
    let gateway = &rig.gateway;
    let place = gateway.data_dir().join("checkpoint");
    fs::remove_dir_all(&place).unwrap();
    fs::write(&place, "").unwrap();
    somebody_is_away(gateway);
    let mut device = gateway.connect(ProtocolVersion::V5, "oven");
    let payload = "x".repeat(100_000);
    // More than a file of the log, which is when a checkpoint is due.
    for _ in 0..30 {
        device.publish("devices/oven", &payload, QOS1);
    }
    watch.await_firing(&["GatewayCheckpointsFail"]);
}

pub(super) fn on_a_small_disk() -> Rig {
    let disk = SmallDisk::mount(SIZE).expect("one was mounted already");
    let sets = [
        "storage.view_save_interval_ms=200",
        "storage.segment_bytes=1MiB",
        "storage.group_bytes_max=1MiB",
        "mqtt.max_packet_bytes=256KiB",
        "storage.reserve_bytes=0B",
        // It would hold acknowledgements back at this point.
        "admission.ladder=false",
    ];
    Rig::on(disk, &sets)
}

pub(super) fn the_disk_fills_up(rig: &mut Rig, watch: &Watch<'_>) {
    let (gateway, disk) = (&rig.gateway, rig.disk.as_ref().expect("it stands on one"));
    somebody_is_away(gateway);
    let mut device = gateway.connect(ProtocolVersion::V5, "oven");
    let filler: PathBuf = disk.fill(LEFT);
    for _ in 0..10 {
        device.publish("devices/oven", "much", QOS1);
    }
    watch.await_firing(&["GatewayDiskFull"]);
    fs::remove_file(filler).unwrap();
    watch.await_end("GatewayDiskFull");
}

/// Where the file of decisions is, every write ends as on a full disk.
pub(super) fn with_decisions_on_a_full_disk() -> Rig {
    assert!(Path::new("/dev/full").exists(), "Linux has it");
    Rig::with(&["decisions.file=/dev/full", "admission.max_subscriptions_per_client=1"])
}

pub(super) fn something_is_decided(rig: &mut Rig, watch: &Watch<'_>) {
    let mut client = rig.gateway.connect(ProtocolVersion::V5, "oven");
    client.subscribe(&[("a", QOS1)]);
    client.subscribe(&[("b", QOS1)]);
    assert!(!matches!(client.receive(Duration::ZERO), Err(Ended::Closed)), "it stays");
    watch.await_firing(&["GatewayDecisionsNotInTheirFile"]);
}
