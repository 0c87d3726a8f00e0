//! What a packet costs: nanoseconds and allocations, to decode and to encode.
//!
//! The PUBLISH of the design's yardsticks: 256 bytes of payload, an ordinary Topic Name, an acknowledgement for QoS 1.
//! `cargo bench -p gateway-protocol` prints the allocations first, then criterion's times.

#![expect(
    clippy::print_stdout,
    clippy::expect_used,
    reason = "a benchmark reports on standard output and stops on a fault"
)]

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use gateway_protocol::codec::{PublishFrame, encode_puback, encode_publish};
use gateway_protocol::packet::Publish;
use gateway_protocol::{
    Decoded, Packet, PacketId, PropertiesBuf, Property, ProtocolVersion, QoS, ReasonCode, decode, encode,
};

const MAX_PACKET_BYTES: usize = 1 << 20;
const TOPIC: &str = "devices/site-12/sensor-0042/telemetry";
const PAYLOAD: [u8; 256] = [0x5A; 256];

struct Case {
    name: &'static str,
    version: ProtocolVersion,
    qos: QoS,
    properties: PropertiesBuf,
}

fn cases() -> Vec<Case> {
    let mut properties = PropertiesBuf::new();
    for property in [
        Property::PayloadFormatIndicator(1),
        Property::MessageExpiryInterval(3600),
        Property::ContentType("application/json"),
        Property::UserProperty { name: "event-id", value: "0191-7f3a-42" },
    ] {
        properties.push(property).expect("the property is valid");
    }
    let plain = |name, version, qos| Case { name, version, qos, properties: PropertiesBuf::new() };
    vec![
        plain("v3.1.1 QoS 0", ProtocolVersion::V3_1_1, QoS::AtMostOnce),
        plain("v3.1.1 QoS 1", ProtocolVersion::V3_1_1, QoS::AtLeastOnce),
        plain("v5 QoS 0", ProtocolVersion::V5, QoS::AtMostOnce),
        plain("v5 QoS 1", ProtocolVersion::V5, QoS::AtLeastOnce),
        Case {
            name: "v5 QoS 1, 4 properties",
            version: ProtocolVersion::V5,
            qos: QoS::AtLeastOnce,
            properties,
        },
    ]
}

fn publish(case: &Case) -> Publish<'_> {
    Publish {
        dup: false,
        qos: case.qos,
        retain: false,
        topic: TOPIC,
        packet_id: PacketId::new(77).filter(|_| case.qos != QoS::AtMostOnce),
        properties: case.properties.as_properties(),
        payload: &PAYLOAD,
    }
}

fn frame<'a>(publish: &Publish<'a>) -> PublishFrame<'a> {
    PublishFrame {
        dup: publish.dup,
        qos: publish.qos,
        retain: publish.retain,
        topic: publish.topic,
        packet_id: publish.packet_id,
        extra: &[],
        properties: publish.properties.raw(),
        payload: publish.payload,
    }
}

fn encoded(case: &Case) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode(&Packet::Publish(publish(case)), case.version, &mut bytes).expect("the packet is valid");
    bytes
}

fn consumed(bytes: &[u8], version: ProtocolVersion) -> usize {
    match decode(black_box(bytes), version, MAX_PACKET_BYTES) {
        Ok(Decoded::Packet { packet, consumed }) => {
            black_box(&packet);
            consumed
        }
        Ok(Decoded::Incomplete { .. }) | Err(_) => 0,
    }
}

/// Counted, not timed: both must be 0, given room in the output.
fn report_allocations() {
    const ROUNDS: u64 = 1000;
    for case in cases() {
        let bytes = encoded(&case);
        let decoding = allocation_counter::measure(|| {
            for _ in 0..ROUNDS {
                assert_eq!(consumed(&bytes, case.version), bytes.len());
            }
        });
        let packet = publish(&case);
        let mut out = Vec::with_capacity(bytes.len());
        let encoding = allocation_counter::measure(|| {
            for _ in 0..ROUNDS {
                out.clear();
                encode_publish(black_box(&frame(&packet)), case.version, &mut out)
                    .expect("the packet is valid");
            }
        });
        println!(
            "allocations per packet: {:<24} {:>4} bytes   decode {}   encode {}",
            case.name,
            bytes.len(),
            decoding.count_total / ROUNDS,
            encoding.count_total / ROUNDS
        );
    }
}

fn decode_publishes(criterion: &mut Criterion) {
    report_allocations();
    let mut group = criterion.benchmark_group("decode PUBLISH");
    group.throughput(Throughput::Elements(1));
    for case in cases() {
        let bytes = encoded(&case);
        group.bench_function(case.name, |bencher| bencher.iter(|| consumed(&bytes, case.version)));
    }
    group.finish();
}

fn encode_publishes(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("encode PUBLISH");
    group.throughput(Throughput::Elements(1));
    for case in cases() {
        let packet = publish(&case);
        let mut out = Vec::with_capacity(1024);
        group.bench_function(case.name, |bencher| {
            bencher.iter(|| {
                out.clear();
                encode_publish(black_box(&frame(&packet)), case.version, &mut out)
                    .expect("the packet is valid");
                black_box(out.len())
            });
        });
    }
    group.finish();
}

/// The other half of QoS 1, both ways.
fn pubacks(criterion: &mut Criterion) {
    let packet_id = PacketId::new(77).expect("not 0");
    let mut group = criterion.benchmark_group("PUBACK");
    group.throughput(Throughput::Elements(1));
    let mut out = Vec::with_capacity(16);
    group.bench_function("encode", |bencher| {
        bencher.iter(|| {
            out.clear();
            encode_puback(black_box(packet_id), ReasonCode::Success, ProtocolVersion::V5, &mut out);
            black_box(out.len())
        });
    });
    let bytes = [0x40, 2, 0, 77];
    group.bench_function("decode", |bencher| bencher.iter(|| consumed(&bytes, ProtocolVersion::V5)));
    group.finish();
}

criterion_group!(benches, decode_publishes, encode_publishes, pubacks);
criterion_main!(benches);
