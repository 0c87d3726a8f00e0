//! A store of many files: killed under load it is ready again within seconds, however much it holds, and however many
//! messages wait for a session.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use gateway_protocol::codec::{PublishFrame, encode_publish};
use gateway_protocol::packet::Packet;
use gateway_protocol::{PacketId, ProtocolVersion, QoS, ReasonCode};
use gateway_tests::{Gateway, GatewayOptions, Hello};
use tokio::task::{JoinHandle, block_in_place};

use crate::Load;
use crate::consumer::subscribe;
use crate::wire::Wire;

/// Connections that fill the store.
const PUBLISHERS: u16 = 8;
/// Events that each has unacknowledged; the gateway allows 256.
const WINDOW: u16 = 250;
/// Packet Identifiers that each uses, in turn.
const IDENTIFIERS: u16 = 1_000;
/// From start to ready.
const READY: Duration = Duration::from_secs(5);
/// How long anything else may take that is waited for: a delivery, and growth of the store at all.
const STALLED: Duration = Duration::from_secs(60);
/// Between looks at how large the store is.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Bytes of payloads, first where only the stream keeps events, then where a session waits for them, too.
const LARGE: usize = 1_000;
const SMALL: usize = 240;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_store_is_ready_within_seconds_of_a_kill_under_load() {
    let bytes = Load::from_environment().store_bytes;
    let [kept, max] = [bytes + bytes / 2, 2 * bytes + (512 << 20)];
    let sets = [
        format!("stream.0.max_bytes={kept}"),
        format!("storage.max_bytes={max}"),
        "mqtt.max_queued_messages=1000000000".to_owned(),
        format!("mqtt.max_queued_bytes={kept}"),
    ];
    let options =
        GatewayOptions { sets: sets.to_vec(), on_unassigned_ports: true, ..GatewayOptions::default() };
    let mut scene = Scene { gateway: block_in_place(|| Gateway::start_with(options)), acknowledged: 0 };

    scene.fill(LARGE, bytes).await;
    scene.restart("events of a stream").await;

    let behind = Hello::durable(ProtocolVersion::V5, "behind");
    let (mut wire, _) = Wire::connect(scene.gateway.mqtt(), &behind).await.expect("it is up");
    wire.write(&subscribe("devices/#", QoS::AtLeastOnce, wire.version())).await.expect("it is up");
    await_packet(&mut wire, |packet| matches!(packet, Packet::SubAck(_))).await;
    drop(wire);
    scene.fill(SMALL, bytes / 4).await;
    let waiting = scene.restart("and messages that wait for a session").await;
    assert!(waiting as u64 * SMALL as u64 >= bytes / 4, "{waiting} messages wait");

    let (mut wire, session_present) = Wire::connect(scene.gateway.mqtt(), &behind).await.expect("it is up");
    assert!(session_present);
    await_packet(
        &mut wire,
        |packet| matches!(packet, Packet::Publish(publish) if publish.payload.len() == SMALL),
    )
    .await;
    let hello = Hello::new(ProtocolVersion::V5, "reader");
    let (mut wire, _) = Wire::connect(scene.gateway.mqtt(), &hello).await.expect("it is up");
    let earliest = subscribe("$stream/telemetry/earliest/devices/#", QoS::AtMostOnce, wire.version());
    wire.write(&earliest).await.expect("it is up");
    await_packet(
        &mut wire,
        |packet| matches!(packet, Packet::Publish(publish) if publish.payload.len() == LARGE),
    )
    .await;
    block_in_place(|| scene.gateway.terminate());
}

/// A gateway, and what it has acknowledged.
struct Scene {
    gateway: Gateway,
    acknowledged: u64,
}

impl Scene {
    /// Publishes until so many bytes of payloads are acknowledged, and kills the gateway while that goes on.
    async fn fill(&mut self, payload: usize, bytes: u64) {
        let acknowledged = Arc::new(AtomicU64::new(0));
        let publish = |number| {
            let (address, acknowledged) = (self.gateway.mqtt(), acknowledged.clone());
            tokio::spawn(async move { publish(address, number, payload, &acknowledged).await })
        };
        let publishers: Vec<JoinHandle<()>> = (0..PUBLISHERS).map(publish).collect();
        let (mut last, mut grew) = (0, Instant::now());
        loop {
            let size = acknowledged.load(Ordering::Relaxed) * payload as u64;
            if size > last {
                (last, grew) = (size, Instant::now());
            }
            assert!(grew.elapsed() < STALLED, "the store has stopped to grow at {size} bytes");
            assert!(publishers.iter().all(|publisher| !publisher.is_finished()), "a publisher has ended");
            if size >= bytes {
                break;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        block_in_place(|| self.gateway.kill());
        for publisher in publishers {
            publisher.await.expect("no publisher panics");
        }
        self.acknowledged += acknowledged.load(Ordering::Relaxed);
    }

    /// Starts it again, and holds what it has against what it has acknowledged. How many messages wait.
    async fn restart(&mut self, what: &str) -> f64 {
        let took = block_in_place(|| self.gateway.restart());
        let metrics = tokio::time::timeout(STALLED, async {
            loop {
                let metrics = block_in_place(|| self.gateway.metrics());
                // Gauges are sampled each second.
                if metrics.find("gateway_log_end_offset").is_some_and(|end| end > 0.0) {
                    break metrics;
                }
                tokio::time::sleep(LOOK_EVERY).await;
            }
        });
        let metrics = metrics.await.expect("it says how large its log is");
        let [size, end, waiting] = ["gateway_log_bytes", "gateway_log_end_offset", "gateway_backlog_pending"]
            .map(|name| metrics.get(name));
        eprintln!(
            "large store, {what}: {:.2} GiB, {} events acknowledged, {waiting} messages wait: ready in {took:.2?}, {} MiB resident",
            size / f64::from(1 << 30),
            self.acknowledged,
            block_in_place(|| self.gateway.memory().resident) >> 20,
        );
        assert!(
            end >= self.acknowledged as f64,
            "{end} entries, {} events were acknowledged",
            self.acknowledged
        );
        assert!(took < READY, "{took:?} from start to ready");
        block_in_place(|| self.gateway.assert_sound());
        waiting
    }
}

/// Publishes at QoS 1 until the connection ends.
async fn publish(address: SocketAddr, number: u16, payload: usize, acknowledged: &AtomicU64) {
    let hello = Hello::new(ProtocolVersion::V5, &format!("filler-{number}"));
    let (mut wire, _) = Wire::connect(address, &hello).await.expect("it is up");
    let (topic, payload) = (format!("devices/{number}/telemetry"), vec![b'x'; payload]);
    let (mut out, mut in_flight, mut number_of_next) = (Vec::new(), 0, 0_u16);
    loop {
        while in_flight < WINDOW {
            let frame = PublishFrame {
                dup: false,
                qos: QoS::AtLeastOnce,
                retain: false,
                topic: &topic,
                packet_id: PacketId::new(number_of_next + 1),
                extra: &[],
                properties: &[],
                payload: &payload,
            };
            encode_publish(&frame, wire.version(), &mut out).expect("a legal PUBLISH");
            number_of_next = (number_of_next + 1) % IDENTIFIERS;
            in_flight += 1;
        }
        if wire.write(&out).await.is_err() {
            return;
        }
        out.clear();
        let mut done = 0;
        let answered = wire.read(|packet| match packet {
            Packet::PubAck(ack) => {
                assert_eq!(ack.reason_code, ReasonCode::Success);
                done += 1;
                true
            }
            other => panic!("filler {number}: {other:?}"),
        });
        if answered.await.is_err() {
            return;
        }
        in_flight -= done;
        acknowledged.fetch_add(u64::from(done), Ordering::Relaxed);
    }
}

/// Reads until there is a packet that is `wanted`.
async fn await_packet(wire: &mut Wire, wanted: impl Fn(&Packet<'_>) -> bool) {
    let read = async {
        let mut found = false;
        while !found {
            let read = wire.read(|packet| {
                found |= wanted(&packet);
                !found
            });
            read.await.expect("the connection stands");
        }
    };
    tokio::time::timeout(STALLED, read).await.expect("it comes");
}
