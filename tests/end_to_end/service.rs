//! The gateway as a service: what its manager is told, SIGHUP, and a backup while it runs.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::thread;
use std::time::Duration;

use gateway_protocol::packet::{Packet, Publish};
use gateway_protocol::{Properties, ProtocolVersion};
use gateway_tests::{Client, Gateway, GatewayOptions, Hello, Output, TIMEOUT, binary, wait};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::QOS1;

/// The program with a configuration file, and what its manager hears.
pub(crate) struct Service {
    child: Child,
    ear: UnixDatagram,
    said: Output,
    ready: Output,
}

impl Service {
    pub(crate) fn start(dir: &Path, config: &str) -> Self {
        let socket = dir.join("notify");
        let ear = UnixDatagram::bind(&socket).unwrap();
        ear.set_read_timeout(Some(TIMEOUT)).unwrap();
        fs::write(dir.join("gateway.toml"), config).unwrap();
        let mut child = Command::new(binary::gateway())
            .args(["run", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--data-dir"])
            .arg(dir.join("data"))
            .arg("--config")
            .arg(dir.join("gateway.toml"))
            .env("NOTIFY_SOCKET", &socket)
            .env("WATCHDOG_USEC", "100000")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (ready, said) =
            (Output::of(child.stdout.take().unwrap()), Output::of(child.stderr.take().unwrap()));
        Self { child, ear, said, ready }
    }

    fn hears(&self, wanted: &str) -> String {
        wait::until(wanted, TIMEOUT, || {
            let mut words = [0; 1024];
            let length = self.ear.recv(&mut words).expect("the manager is told something");
            let words = String::from_utf8_lossy(&words[..length]).into_owned();
            words.contains(wanted).then_some(words)
        })
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Where its admin listener is.
    pub(crate) fn admin(&self) -> SocketAddr {
        let line = self.ready.wait_for(0, TIMEOUT, |line| line.starts_with("ready ")).expect("it is ready").1;
        line.split("admin=").nth(1).unwrap().trim().parse().unwrap()
    }

    pub(crate) fn says(&self, from: usize, words: &str) -> usize {
        let found = self.said.wait_for(from, TIMEOUT, |line| line.contains(words));
        found.unwrap_or_else(|| panic!("not said: {words}\n{:#?}", self.said.lines())).0
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn its_manager_is_told_that_it_is_ready_alive_and_draining() {
    let dir = tempfile::tempdir().unwrap();
    let mut service = Service::start(dir.path(), "");
    let words = service.hears("READY=1");
    assert!(words.contains("STATUS=mqtt=127.0.0.1:"), "{words}");
    assert!(service.ready.wait_for(0, TIMEOUT, |line| line.starts_with("ready ")).is_some());
    for _ in 0..3 {
        assert_eq!(service.hears("WATCHDOG"), "WATCHDOG=1");
    }
    service.signal(Signal::TERM);
    assert!(service.hears("STOPPING=1").contains("EXTEND_TIMEOUT_USEC="));
    let status = wait::until("the end", TIMEOUT, || service.child.try_wait().unwrap());
    assert_eq!(status.code(), Some(0));
}

#[test]
fn sighup_changes_the_log_level_and_names_what_takes_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let service = Service::start(dir.path(), "[log]\nlevel = \"info\"\n");
    service.hears("READY=1");
    let config = |text: &str| fs::write(dir.path().join("gateway.toml"), text).unwrap();
    config("[log]\nlevel = \"debug\"\n[mqtt]\nmax_qos = 1\n");
    service.signal(Signal::HUP);
    let at = service.says(0, "in force after a restart keys=\"mqtt.max_qos\"");
    let at = service.says(at, "the configuration was read again level=\"debug\" changed=true");
    // With this level the gateway says more than without.
    let at = {
        service.signal(Signal::HUP);
        service.says(at + 1, "changed=false")
    };
    config("[log]\nlevel = \"loud\"\n[mqtt]\nmax_qos = 9\n");
    service.signal(Signal::HUP);
    let at = service.says(at, "the configuration has faults");
    config("[log]\nlevel = \"warn\"\n");
    service.signal(Signal::HUP);
    config("[log]\nlevel = \"info\"\n");
    service.signal(Signal::HUP);
    // At level warn that it was read again is not said; then it is.
    service.says(at, "level=\"info\" changed=true");
    assert!(service.said.lines_with(|line| line.contains("level=\"warn\"")).is_empty());
}

fn events_in(store: &Path) -> Vec<u64> {
    let output = Command::new(binary::gateway())
        .args(["storage", "export", "--data-dir"])
        .arg(store)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = String::from_utf8(output.stdout).unwrap();
    let events = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    events
        .filter(|event| event["topic"] == "devices/counter")
        .map(|event| event["payload"].as_str().unwrap().trim_end().parse().unwrap())
        .collect()
}

#[test]
fn a_backup_of_a_running_gateway_has_all_that_was_acknowledged_and_starts() {
    let mut gateway = Gateway::start_set(&[
        "storage.segment_bytes=1MiB",
        "storage.group_bytes_max=1MiB",
        "mqtt.max_packet_bytes=64KiB",
        "storage.max_bytes=64MiB",
        "storage.view_save_interval_ms=200",
        "stream=[{name='telemetry', topics=['devices/#'], max_age='7d', max_bytes='4MiB'}]",
    ]);
    let mut back_end = Client::connect(gateway.mqtt(), &Hello::durable(ProtocolVersion::V5, "billing")).0;
    back_end.subscribe(&[("orders/#", QOS1)]);
    back_end.leave();
    let mut setter = gateway.connect(ProtocolVersion::V5, "setter");
    let packet_id = setter.new_id();
    setter.send(&Packet::Publish(Publish {
        dup: false,
        qos: QOS1,
        retain: true,
        topic: "state/setter",
        packet_id: Some(packet_id),
        properties: Properties::default(),
        payload: b"on",
    }));
    setter.await_puback(packet_id);

    let acknowledged = AtomicU64::new(0);
    let (done, is_done) = sync_channel::<()>(0);
    let backups = gateway.scratch().join("backups");
    fs::create_dir(&backups).unwrap();
    thread::scope(|scope| {
        let (gateway, acknowledged) = (&gateway, &acknowledged);
        scope.spawn(move || {
            let mut counter = gateway.connect(ProtocolVersion::V3_1_1, "counter");
            let mut number = 0;
            // Not so fast that the log fills up while the machine is busy with the copy.
            while is_done.recv_timeout(Duration::from_millis(20)) == Err(RecvTimeoutError::Timeout) {
                let ids: Vec<_> = (0..50)
                    .map(|_| {
                        number += 1;
                        // Large enough for the log to be trimmed while it is copied.
                        counter.send_publish("devices/counter", &format!("{number:<1000}"), QOS1).unwrap()
                    })
                    .collect();
                for id in ids {
                    counter.await_puback(id);
                }
                acknowledged.store(number, Ordering::Relaxed);
            }
        });
        for round in 0..3 {
            // So that each of them meets a log that has been trimmed further.
            let begun = acknowledged.load(Ordering::Relaxed);
            wait::until("more is published", Duration::from_secs(60), || {
                let trimmed = round < 2 || gateway.metrics().sum("gateway_log_trimmed_segments_total") > 0.0;
                (trimmed && acknowledged.load(Ordering::Relaxed) >= begun + 2_000).then_some(())
            });
            let before = acknowledged.load(Ordering::Relaxed);
            let to = backups.join(round.to_string());
            let output = Command::new(binary::gateway())
                .args(["storage", "backup", "--data-dir"])
                .arg(gateway.data_dir())
                .arg("--to")
                .arg(&to)
                .output()
                .unwrap();
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
            assert!(said.contains("the store is whole"), "{said}");
            let events = events_in(&to);
            let last = *events.last().unwrap();
            assert!(last >= before, "{before} were acknowledged, and {last} is the last one in the copy");
            assert!(round < 2 || events[0] > 1, "the log was trimmed before");
            assert!(events.windows(2).all(|pair| pair[1] == pair[0] + 1), "nothing is missing in between");
        }
        drop(done);
    });
    gateway.kill();
    let mut restored = Gateway::start_with(GatewayOptions {
        data_dir: Some(backups.join("2")),
        ..GatewayOptions::default()
    });
    let (mut back_end, present) =
        Client::connect(restored.mqtt(), &Hello::durable(ProtocolVersion::V5, "billing"));
    assert!(present, "its session is restored");
    restored.connect(ProtocolVersion::V5, "setter").publish("orders/1", "one", QOS1);
    assert_eq!(back_end.message().payload, "one");
    let mut reader = restored.connect(ProtocolVersion::V5, "reader");
    reader.subscribe(&[("state/#", QOS1)]);
    assert_eq!(reader.message().payload, "on");
    restored.assert_alive();
}
