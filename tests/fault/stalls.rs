//! The disk takes its time. Nothing is acknowledged before its sync has returned, who only keeps a connection alive is
//! answered all the while, and what waits is bounded: publishers are read no further.

use std::io::{ErrorKind, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use gateway_protocol::codec::{PublishFrame, encode_publish};
use gateway_protocol::packet::Packet;
use gateway_protocol::{PacketId, Properties};
use gateway_storage::log::segments::disk::RealDisk;
use gateway_tests::{Client, Hello, ProtocolVersion, QoS, ReasonCode, memory_of};

use crate::Load;
use crate::event::Event;
use crate::lab::disk::LabDisk;
use crate::lab::{InProcess, config, logs, pause};
use crate::traffic::{Traffic, slots};

const PUBLISHERS: u32 = 20;
const EVENTS_PER_SECOND: u32 = 1_000;
/// Publishers that take no notice of anything.
const FLOODERS: u32 = 2;
/// The publisher whose every acknowledgement is checked.
const WITNESS: u32 = PUBLISHERS + FLOODERS;
/// Events that the witness has unacknowledged at once.
const WITNESS_WINDOW: u32 = 5;

/// Events of a flooder at most: what the protocol allows to be unacknowledged.
const FLOOD_MAX: u32 = 65_000;

const SLOW_SYNC: Duration = Duration::from_millis(500);
/// How long every sync takes that long.
const SLOW_FOR: Duration = Duration::from_secs(4);
/// The Keep Alive of those who are watched, and how soon a PINGREQ is to be answered.
const KEEP_ALIVE_SECS: u16 = 2;
const PING_EVERY: Duration = Duration::from_millis(500);
/// How much the process may grow while nothing can be stored: two groups of 256 KiB, and buffers for connections.
const GROWTH_MAX: u64 = 16 << 20;

#[test]
fn a_stalled_disk_delays_acknowledgements_and_nothing_else() {
    let _shown = logs::ShownOnFailure;
    let load = Load::from_environment();
    let stall = Duration::from_secs(u64::from(load.stall_secs));
    let dir = tempfile::tempdir().expect("a directory");
    let disk = LabDisk::default();
    let sets =
        ["storage.group_bytes_max=256KiB", "mqtt.max_packet_bytes=64KiB", "mqtt.receive_maximum=65535"];
    let lab = config(&dir.path().join("data"), &sets);
    let gateway = InProcess::start(lab.clone(), Arc::new(disk.clone())).expect("it starts");
    let mut traffic = Traffic::begin(gateway.mqtt, PUBLISHERS, EVENTS_PER_SECOND);
    let (stop, flood) = (AtomicBool::new(false), AtomicBool::new(false));
    let mqtt = gateway.mqtt;

    let (mut published, summary) = std::thread::scope(|scope| {
        let idle = scope.spawn(|| keep_alive(mqtt, &stop));
        let witness = scope.spawn(|| witness(mqtt, &disk, &stop));
        let flooders: Vec<_> = (0..FLOODERS)
            .map(|number| {
                scope.spawn({
                    let (stop, flood) = (&stop, &flood);
                    move || flooder(mqtt, PUBLISHERS + number, flood, stop)
                })
            })
            .collect();

        disk.set_sync_time(SLOW_SYNC);
        pause(SLOW_FOR);
        let acknowledged_slowly = traffic.counts.acknowledged.load(Ordering::Relaxed);
        assert!(acknowledged_slowly > 0, "slow is not never");

        // Under way is now a sync that does not return for long.
        disk.set_sync_time(stall);
        assert!(disk.wait_for_sync(Duration::from_secs(5)), "a sync is under way");
        let began = Instant::now();
        pause(SLOW_SYNC);
        let acknowledged = traffic.counts.acknowledged.load(Ordering::Relaxed);
        let memory = memory_of(std::process::id()).anonymous;
        flood.store(true, Ordering::Relaxed);
        pause((stall * 4 / 5).saturating_sub(began.elapsed()));
        let growth = memory_of(std::process::id()).anonymous.saturating_sub(memory);
        assert_eq!(
            traffic.counts.acknowledged.load(Ordering::Relaxed),
            acknowledged,
            "acknowledged although no sync has returned"
        );
        assert!(growth < GROWTH_MAX, "{} KiB more in memory while nothing can be stored", growth >> 10);
        flood.store(false, Ordering::Relaxed);
        pause(stall.saturating_sub(began.elapsed()));
        disk.set_sync_time(Duration::ZERO);

        stop.store(true, Ordering::Relaxed);
        let slowest = idle.join().expect("the idle client is answered");
        let (witnessed, slowest_of_witness) = witness.join().expect("the witness is answered");
        let mut published = vec![witnessed];
        let mut blocked = 0;
        for flooder in flooders.into_iter().rev() {
            let (sent, times_blocked) = flooder.join().expect("a flooder sends all it began");
            published.insert(0, sent);
            blocked += times_blocked;
        }
        assert!(blocked > 0, "whoever floods is read without end");
        let summary = format!(
            "slowest PINGRESP {slowest:.1?} (idle), {slowest_of_witness:.1?} (with acknowledgements owed), {} KiB more in memory, \
             flooders sent {} and were blocked",
            growth >> 10,
            published[0] + published[1],
        );
        (published, summary)
    });
    traffic.finish(Duration::from_secs(60));
    gateway.stop();
    let mut all = traffic.abort();
    all.truncate(PUBLISHERS as usize);
    all.append(&mut published);
    all.resize(slots(PUBLISHERS), 0);

    let gateway = InProcess::start(lab, Arc::new(RealDisk)).expect("it starts again");
    let books = traffic.read_back(gateway.mqtt, false);
    eprintln!("stalls of {SLOW_SYNC:?} and {stall:?}: {} events, {summary}", all.iter().sum::<u32>());
    books.assert_complete(&all);
    gateway.stop();
}

/// A client that only keeps its connection alive. How long it waited for its answers at worst.
fn keep_alive(address: SocketAddr, stop: &AtomicBool) -> Duration {
    let hello = Hello::new(ProtocolVersion::V3_1_1, "idle").keep_alive_secs(KEEP_ALIVE_SECS);
    let (mut client, _) = Client::connect(address, &hello);
    let mut slowest = Duration::ZERO;
    while !stop.load(Ordering::Relaxed) {
        slowest = slowest.max(ping(&mut client));
        pause(PING_EVERY);
    }
    client.leave();
    slowest
}

fn ping(client: &mut Client) -> Duration {
    let began = Instant::now();
    client.ping();
    let took = began.elapsed();
    assert!(took < Duration::from_secs(KEEP_ALIVE_SECS.into()), "PINGRESP took {took:?}");
    took
}

/// A publisher that holds each acknowledgement against the disk. How many it had, and its slowest PINGRESP.
fn witness(address: SocketAddr, disk: &LabDisk, stop: &AtomicBool) -> (u32, Duration) {
    let hello = Hello::new(ProtocolVersion::V5, "witness").keep_alive_secs(KEEP_ALIVE_SECS);
    let (mut client, _) = Client::connect(address, &hello);
    let (mut sent, mut acknowledged, mut slowest) = (0, 0, Duration::ZERO);
    while !stop.load(Ordering::Relaxed) || acknowledged < sent {
        if !stop.load(Ordering::Relaxed) {
            while sent < acknowledged + WITNESS_WINDOW {
                let event = Event { publisher: WITNESS, number: sent };
                let (topic, properties) = (topic(WITNESS), Properties::default());
                client.send_publish_with(&topic, &event.payload(), QoS::AtLeastOnce, properties);
                sent += 1;
            }
        }
        // Acknowledgements that come first are looked at below, with what the disk had at that time or later.
        slowest = slowest.max(ping(&mut client));
        while let Ok(frame) = client.receive(PING_EVERY / 5) {
            let Packet::PubAck(ack) = frame.packet() else { panic!("{frame:?}") };
            assert_eq!(ack.reason_code, ReasonCode::Success);
            let event = Event { publisher: WITNESS, number: acknowledged };
            assert!(disk.has_synced(&event.payload()), "{event:?} is acknowledged and not on stable storage");
            acknowledged += 1;
        }
    }
    client.leave();
    (acknowledged, slowest)
}

/// Publishes as fast as the connection takes it, when it is told to, and takes no notice of answers before the end. How
/// many events, all acknowledged, and how often the connection took no more.
fn flooder(address: SocketAddr, number: u32, flood: &AtomicBool, stop: &AtomicBool) -> (u32, u32) {
    let (mut client, _) =
        Client::connect(address, &Hello::new(ProtocolVersion::V5, &format!("flood-{number}")));
    client.stream().set_nonblocking(true).unwrap();
    let (mut sent, mut blocked, mut frame) = (0, 0, Vec::new());
    while !stop.load(Ordering::Relaxed) || !frame.is_empty() {
        if frame.is_empty() {
            if !flood.load(Ordering::Relaxed) || sent >= FLOOD_MAX {
                pause(Duration::from_millis(10));
                continue;
            }
            let payload = Event { publisher: number, number: sent }.payload();
            let publish = PublishFrame {
                dup: false,
                qos: QoS::AtLeastOnce,
                retain: false,
                topic: &topic(number),
                packet_id: PacketId::new(sent as u16 + 1),
                extra: &[],
                properties: &[],
                payload: &payload,
            };
            encode_publish(&publish, ProtocolVersion::V5, &mut frame).expect("a legal PUBLISH");
            sent += 1;
        }
        match client.stream().write(&frame) {
            Ok(written) => drop(frame.drain(..written)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                blocked += 1;
                pause(Duration::from_millis(10));
            }
            Err(error) => panic!("the gateway closes the connection of a flooder: {error}"),
        }
    }
    client.stream().set_nonblocking(false).unwrap();
    for number in 0..sent {
        let frame = client.next_packet();
        let Packet::PubAck(ack) = frame.packet() else { panic!("{frame:?}") };
        assert_eq!(ack.packet_id.get(), number as u16 + 1);
    }
    (sent, blocked)
}

fn topic(publisher: u32) -> String {
    format!("devices/{publisher}/telemetry")
}

/// Events of a client that goes on publishing while nothing is stored: more than the open group takes, by less than is read on.
const EVENTS_HELD: u32 = 36;
const EVENT_BYTES: usize = 8 << 10;

#[test]
fn a_client_whose_events_find_no_room_has_its_pings_answered() {
    let _shown = logs::ShownOnFailure;
    let dir = tempfile::tempdir().expect("a directory");
    let disk = LabDisk::default();
    let sets = ["storage.group_bytes_max=256KiB", "mqtt.max_packet_bytes=64KiB", "mqtt.receive_maximum=40"];
    let gateway =
        InProcess::start(config(&dir.path().join("data"), &sets), Arc::new(disk.clone())).expect("it starts");
    let connect = |version, name| Client::connect(gateway.mqtt, &Hello::new(version, name)).0;
    let mut first = connect(ProtocolVersion::V5, "first");
    let mut full = connect(ProtocolVersion::V5, "full");
    let mut windowed = connect(ProtocolVersion::V3_1_1, "windowed");
    disk.set_sync_time(Duration::from_secs(60));
    first.send_publish("devices/1", "1", QoS::AtLeastOnce);
    assert!(disk.wait_for_sync(Duration::from_secs(5)), "a sync is under way");

    // One has as much unacknowledged as it may and sends on, the other fills the open group and sends on.
    for _ in 0..50 {
        windowed.send_publish("devices/2", "1", QoS::AtLeastOnce);
        answered_soon(&mut windowed);
    }
    let payload = vec![b'x'; EVENT_BYTES];
    for _ in 0..EVENTS_HELD {
        full.send_publish_with("devices/3", &payload, QoS::AtLeastOnce, Properties::default());
        answered_soon(&mut full);
    }
    disk.set_sync_time(Duration::ZERO);
    for (client, count) in [(&mut first, 1), (&mut windowed, 50), (&mut full, EVENTS_HELD as u16)] {
        for number in 1..=count {
            let frame = client.next_packet();
            let Packet::PubAck(ack) = frame.packet() else { panic!("{frame:?}") };
            assert_eq!((ack.packet_id.get(), ack.reason_code), (number, ReasonCode::Success));
        }
    }
    gateway.stop();
}

fn answered_soon(client: &mut Client) {
    let began = Instant::now();
    client.ping();
    let took = began.elapsed();
    assert!(took < Duration::from_secs(1), "PINGRESP took {took:?}");
}
