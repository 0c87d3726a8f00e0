//! Connections that end while the log takes nothing. Their sessions are closed and their wills published once it does,
//! without a restart; and a session that somebody has come back to by then stays open.

use std::sync::Arc;
use std::time::Duration;

use gateway::config::Config;
use gateway_protocol::Property;
use gateway_protocol::packet::Packet;
use gateway_storage::log::segments::disk::RealDisk;
use gateway_tests::{Client, Ended, Hello, Metrics, ProtocolVersion, QoS, Will, readiness, wait};

use crate::lab::disk::{Errno, Fault, LabDisk};
use crate::lab::{InProcess, config, logs, try_connect};

/// The session of the one who leaves outlives it for so long.
const EXPIRY_SECS: u32 = 2;
const STEP: Duration = Duration::from_secs(15);

struct Scene {
    disk: LabDisk,
    config: Config,
    gateway: InProcess,
    watcher: Client,
    leaver: Client,
    _dir: tempfile::TempDir,
}

/// Someone with a session and a will, and someone who watches for the will.
fn scene() -> Scene {
    let dir = tempfile::tempdir().expect("a directory");
    let disk = LabDisk::default();
    let config = config(&dir.path().join("data"), &[]);
    let gateway = InProcess::start(config.clone(), Arc::new(disk.clone())).expect("it starts");
    let (mut watcher, _) = Client::connect(gateway.mqtt, &Hello::new(ProtocolVersion::V5, "watcher"));
    watcher.subscribe(&[("wills/#", QoS::AtMostOnce)]);
    let (mut leaver, _) = Client::connect(gateway.mqtt, &hello());
    leaver.subscribe(&[("devices/#", QoS::AtLeastOnce)]);
    Scene { disk, config, gateway, watcher, leaver, _dir: dir }
}

fn hello() -> Hello {
    let hello = Hello::new(ProtocolVersion::V5, "leaver").clean_start(false);
    hello.with(Property::SessionExpiryInterval(EXPIRY_SECS)).will(Will::new("wills/leaver", "gone"))
}

impl Scene {
    /// From the next operation on the disk fails.
    fn break_disk(&self) {
        self.disk.fail(Fault { at: 0, errno: Errno::Io, lasting: true });
    }

    /// A publisher brings the log down.
    fn fail_log(&self) {
        self.break_disk();
        let (mut publisher, _) =
            Client::connect(self.gateway.mqtt, &Hello::new(ProtocolVersion::V5, "publisher"));
        publisher.send_publish("devices/1", "lost", QoS::AtLeastOnce);
        publisher.await_close(STEP);
        wait::until("the log has failed", STEP, || readiness(self.gateway.admin).err());
    }

    fn await_gauge(&self, name: &str, value: f64) {
        wait::until_it(name, STEP, || Metrics::read(self.gateway.admin).get(name), |found| *found == value);
    }

    /// The will is published, and after that nobody comes back in time: the session is gone.
    fn await_end(mut self) {
        let will = self.watcher.message();
        assert_eq!((will.topic.as_str(), will.payload.as_str()), ("wills/leaver", "gone"));
        self.await_gauge("gateway_sessions_durable", 0.0);
        assert_eq!(self.watcher.receive(Duration::from_millis(1500)).err(), Some(Ended::TimedOut), "once");
        self.gateway.stop();
        let gateway = InProcess::start(self.config, Arc::new(RealDisk)).expect("it starts again");
        let (_, session_present) = Client::connect(gateway.mqtt, &hello());
        assert!(!session_present, "and gone it is after a restart");
        gateway.stop();
    }
}

#[test]
fn a_connection_that_ends_while_the_log_has_failed_is_logged_as_ended_later() {
    let _shown = logs::ShownOnFailure;
    let mut scene = scene();
    scene.fail_log();
    scene.leaver = Client::open(scene.gateway.mqtt, ProtocolVersion::V5);
    scene.await_gauge("gateway_sessions_left_open_total", 1.0);
    scene.disk.lift();
    scene.await_end();
}

#[test]
fn a_connection_whose_end_fails_the_log_is_logged_as_ended_later() {
    let _shown = logs::ShownOnFailure;
    let mut scene = scene();
    scene.break_disk();
    scene.leaver = Client::open(scene.gateway.mqtt, ProtocolVersion::V5);
    wait::until("the log has failed", STEP, || readiness(scene.gateway.admin).err());
    scene.disk.lift();
    scene.await_end();
}

#[test]
fn a_session_that_its_client_has_come_back_to_is_not_closed_by_an_end_that_the_log_had_not_taken() {
    let _shown = logs::ShownOnFailure;
    let mut scene = scene();
    scene.fail_log();
    scene.leaver = Client::open(scene.gateway.mqtt, ProtocolVersion::V5);
    scene.await_gauge("gateway_sessions_left_open_total", 1.0);
    scene.disk.lift();
    // From the first moment on, so that it comes before the old end is logged by itself, or right behind it.
    let (mut again, session_present) =
        wait::until("the log takes entries", STEP, || try_connect(scene.gateway.mqtt, &hello()));
    assert!(session_present);
    let will = scene.watcher.message();
    assert_eq!(will.topic, "wills/leaver", "of the connection that ended");
    // Longer than the session outlives its connection: were it closed, it would be gone.
    assert_eq!(again.receive(Duration::from_secs(u64::from(EXPIRY_SECS) + 3)).err(), Some(Ended::TimedOut));
    let (mut publisher, _) =
        Client::connect(scene.gateway.mqtt, &Hello::new(ProtocolVersion::V5, "publisher"));
    publisher.publish("devices/1", "kept", QoS::AtLeastOnce);
    let frame = again.await_frame("PUBLISH", |packet| matches!(packet, Packet::Publish(_)));
    assert_eq!(frame.message().expect("a PUBLISH").payload, "kept");
    assert_eq!(scene.watcher.receive(Duration::from_millis(200)).err(), Some(Ended::TimedOut), "one will");
    again.leave();
    scene.gateway.stop();
}
