//! The search for the highest rate, against a broker whose limit is known: it serves so many events in a second and no more.
#![expect(clippy::expect_used, reason = "test helpers; a failure fails the test")]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use gateway_protocol::packet::{ConnAck, Packet, Publish, ReasonCodes, SubAck};
use gateway_protocol::{Decoded, Properties, ProtocolVersion, QoS, ReasonCode, decode, encode};

const V5: ProtocolVersion = ProtocolVersion::V5;

/// What the broker serves in a second.
const LIMIT: f64 = 3_000.0;

/// What connections hand to the one who serves.
enum Work {
    Subscriber(TcpStream),
    Event { publisher: TcpStream, packet_id: gateway_protocol::PacketId, payload: Vec<u8> },
}

fn packet(packet: &Packet<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    encode(packet, V5, &mut out).expect("a legal packet");
    out
}

/// Serves events in the order in which they come, each taking its share of a second; a serving thread that was held up makes good for
/// it, so that the limit is the same on a busy machine.
fn serve(work: &Receiver<Work>) {
    let mut subscribers: Vec<TcpStream> = Vec::new();
    let mut done = Instant::now();
    while let Ok(next) = work.recv() {
        match next {
            Work::Subscriber(stream) => {
                subscribers.clear();
                subscribers.push(stream);
            }
            Work::Event { mut publisher, packet_id, payload } => {
                let now = Instant::now();
                done = done.max(now.checked_sub(Duration::from_millis(20)).unwrap_or(now))
                    + Duration::from_secs_f64(1.0 / LIMIT);
                while Instant::now() < done {
                    thread::park_timeout(done.saturating_duration_since(Instant::now()));
                }
                let mut ack = Vec::new();
                gateway_protocol::codec::encode_puback(packet_id, ReasonCode::Success, V5, &mut ack);
                let _ = publisher.write_all(&ack);
                let event = packet(&Packet::Publish(Publish {
                    dup: false,
                    qos: QoS::AtMostOnce,
                    retain: false,
                    topic: "served",
                    packet_id: None,
                    properties: Properties::default(),
                    payload: &payload,
                }));
                for subscriber in &mut subscribers {
                    let _ = subscriber.write_all(&event);
                }
            }
        }
    }
}

/// One connection, until it ends.
fn attend(mut stream: TcpStream, work: &SyncSender<Work>) {
    let mut rest = Vec::new();
    let mut buffer = vec![0; 64 << 10];
    while let Ok(count @ 1..) = stream.read(&mut buffer) {
        rest.extend_from_slice(buffer.get(..count).unwrap_or_default());
        let mut used = 0;
        while let Ok(Decoded::Packet { packet: found, consumed }) =
            decode(rest.get(used..).unwrap_or_default(), V5, 1 << 20)
        {
            used += consumed;
            let sent = match found {
                Packet::Connect(_) => {
                    let connack = ConnAck {
                        session_present: false,
                        reason_code: ReasonCode::Success,
                        properties: Properties::default(),
                    };
                    stream.write_all(&packet(&Packet::ConnAck(connack))).is_ok()
                }
                Packet::Subscribe(subscribe) => {
                    let subscriber = Work::Subscriber(stream.try_clone().expect("a second handle"));
                    let _ = work.send(subscriber);
                    let suback = SubAck {
                        packet_id: subscribe.packet_id,
                        properties: Properties::default(),
                        reason_codes: ReasonCodes::new(&[1]).expect("QoS 1 is granted"),
                    };
                    stream.write_all(&packet(&Packet::SubAck(suback))).is_ok()
                }
                Packet::Publish(publish) => {
                    let packet_id = publish.packet_id.expect("QoS 1");
                    let publisher = stream.try_clone().expect("a second handle");
                    work.send(Work::Event { publisher, packet_id, payload: publish.payload.to_vec() }).is_ok()
                }
                _ => true,
            };
            if !sent {
                return;
            }
        }
        rest.drain(..used);
    }
}

#[test]
fn the_search_finds_the_limit_of_a_broker_that_has_one() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("an address").to_string();
    let (work, served) = sync_channel(100_000);
    thread::spawn(move || serve(&served));
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let work = work.clone();
            thread::spawn(move || attend(stream, &work));
        }
    });
    let output = Command::new(env!("CARGO_BIN_EXE_device-sim"))
        .args(["bench", "fan-in", "--qos", "1", "--publishers", "4", "--window", "50", "--broker", &address])
        .args(["--find-max", "--slo", "p99<2s,loss=0", "--rate", "1000", "--json"])
        .args(["--duration", "600ms", "--warm-up", "300ms"])
        .output()
        .expect("the binary runs");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let found: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let found = &found[0][1];
    let rate = found["rate"].as_f64().expect("a rate");
    assert!(rate > LIMIT * 0.8 && rate < LIMIT * 1.1, "{rate} of {LIMIT}\n{errors}");
    assert!(found["probes"].as_array().expect("runs").len() >= 5, "{found}");
    assert_eq!(found["slo"], "p99<2s,loss=0");
}

#[test]
fn a_bound_that_cannot_be_read_is_a_usage_error() {
    let bench = |arguments: &[&str]| {
        Command::new(env!("CARGO_BIN_EXE_device-sim"))
            .arg("bench")
            .args(arguments)
            .output()
            .expect("the binary runs")
    };
    let output = bench(&["fan-in", "--find-max", "--slo", "p98<1ms"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("`p98<1ms` is not a bound"), "{output:?}");
    assert_eq!(bench(&["fan-in", "--find-max"]).status.code(), Some(2), "there has to be something to keep");
    assert_eq!(bench(&["connect", "--find-max", "--slo", "p99<1s"]).status.code(), Some(2));
}
