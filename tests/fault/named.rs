//! Events with a User Property `event-id` on a disk that stalls or fails: a duplicate is acknowledged only when the first one is on
//! stable storage, whichever connection brought it, and what the log has lost is stored when it is said again.

use std::sync::Arc;
use std::time::Duration;

use gateway_protocol::packet::Packet;
use gateway_protocol::{PropertiesBuf, Property};
use gateway_tests::{Client, Ended, Hello, ProtocolVersion, QoS, TIMEOUT, wait};

use crate::lab::disk::{Errno, Fault, LabDisk};
use crate::lab::{InProcess, config, logs, pause, try_connect};

/// A sync that takes this long does not return before the test lets it.
const FOR_LONG: Duration = Duration::from_secs(60);
/// Long enough for an acknowledgement that is not held back.
const MOMENT: Duration = Duration::from_millis(500);

/// Publishes an event that is called as its payload, and does not wait.
fn send(client: &mut Client, name: &str) {
    let mut properties = PropertiesBuf::new();
    properties.push(Property::UserProperty { name: "event-id", value: name }).unwrap();
    client.send_publish_with("devices/1", name.as_bytes(), QoS::AtLeastOnce, properties.as_properties());
}

/// Whether the next PUBACK says that the event was there already.
fn acknowledgement(client: &mut Client, limit: Duration) -> Result<bool, Ended> {
    let frame = client.receive(limit)?;
    match frame.packet() {
        Packet::PubAck(ack) => {
            Ok(ack.properties.user_properties().any(|(name, _)| name == "event-id-duplicate"))
        }
        Packet::Disconnect(_) => Err(Ended::Closed),
        other => panic!("{other:?}"),
    }
}

fn connect(gateway: &InProcess) -> Client {
    let hello = Hello::new(ProtocolVersion::V5, "publisher");
    wait::until("a connection", TIMEOUT, || try_connect(gateway.mqtt, &hello)).0
}

/// Payloads of everything that the stream has, up to an event that is published now.
fn stream(gateway: &InProcess) -> Vec<String> {
    let mut client = connect(gateway);
    client.publish("devices/1", "end", QoS::AtLeastOnce);
    client.subscribe(&[("$stream/telemetry/earliest/#", QoS::AtLeastOnce)]);
    let mut payloads = Vec::new();
    while payloads.last().is_none_or(|last| last != "end") {
        payloads.push(client.messages(1).remove(0).payload);
    }
    payloads.pop();
    payloads
}

#[test]
fn a_duplicate_of_what_is_being_synced_waits_for_the_sync_on_any_connection() {
    let _shown = logs::ShownOnFailure;
    let dir = tempfile::tempdir().unwrap();
    let disk = LabDisk::default();
    let gateway = InProcess::start(config(&dir.path().join("data"), &[]), Arc::new(disk.clone())).unwrap();
    let names = ["on the same connection", "on another one", "on another one, as the first was lost"];
    for (round, name) in names.into_iter().enumerate() {
        let mut first = connect(&gateway);
        disk.set_sync_time(FOR_LONG);
        send(&mut first, name);
        assert!(disk.wait_for_sync(TIMEOUT));
        let mut second = match round {
            0 => first,
            1 => {
                let second = connect(&gateway);
                drop(first);
                second
            }
            _ => {
                drop(first);
                connect(&gateway)
            }
        };
        send(&mut second, name);
        assert_eq!(acknowledgement(&mut second, MOMENT), Err(Ended::TimedOut), "{name}");
        assert!(!disk.has_synced(name.as_bytes()), "or this shows nothing");
        disk.set_sync_time(Duration::ZERO);
        if round == 0 {
            assert_eq!(acknowledgement(&mut second, TIMEOUT), Ok(false));
        }
        assert_eq!(acknowledgement(&mut second, TIMEOUT), Ok(true), "{name}");
        assert!(disk.has_synced(name.as_bytes()));
    }
    assert_eq!(stream(&gateway), names);
    gateway.stop();
}

#[test]
fn a_named_event_that_a_failing_log_has_lost_is_stored_when_it_is_said_again() {
    let _shown = logs::ShownOnFailure;
    let sets = ["storage.view_save_interval_ms=600000"];
    for round in 0..4 {
        let dir = tempfile::tempdir().unwrap();
        let disk = LabDisk::default();
        let gateway =
            InProcess::start(config(&dir.path().join("data"), &sets), Arc::new(disk.clone())).unwrap();
        connect(&gateway).publish("devices/1", "begin", QoS::AtLeastOnce);
        let name = format!("event {round}");
        let mut client = connect(&gateway);
        // The write fails, or the sync; that operation alone, or all from then on.
        let fault = Fault { at: disk.operations() + 1 + round % 2, errno: Errno::Io, lasting: round >= 2 };
        disk.fail(fault);
        send(&mut client, &name);
        send(&mut client, &name);
        assert_eq!(acknowledgement(&mut client, TIMEOUT), Err(Ended::Closed), "{name}");
        if fault.lasting {
            for _ in 0..3 {
                let mut client = connect(&gateway);
                send(&mut client, &name);
                assert_eq!(acknowledgement(&mut client, TIMEOUT), Err(Ended::Closed), "{name}");
            }
        }
        disk.lift();
        let acknowledged = wait::until("an acknowledgement", TIMEOUT, || {
            let mut client = connect(&gateway);
            send(&mut client, &name);
            let acknowledged = acknowledgement(&mut client, TIMEOUT).ok();
            if acknowledged.is_none() {
                pause(MOMENT / 10);
            }
            acknowledged
        });
        assert!(!acknowledged, "{name}: there was nothing to be a duplicate of");
        let mut client = connect(&gateway);
        send(&mut client, &name);
        assert_eq!(acknowledgement(&mut client, TIMEOUT), Ok(true), "{name}");
        assert_eq!(stream(&gateway), ["begin".to_owned(), name]);
        gateway.stop();
    }
}
