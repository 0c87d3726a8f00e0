//! Durable Sessions that a killed program has to restore, with events for each before it is back.

use std::net::SocketAddr;
use std::ops::Range;
use std::time::Instant;

use gateway_protocol::codec::encode_puback;
use gateway_protocol::packet::Packet;
use gateway_protocol::{ProtocolVersion, QoS, ReasonCode};
use gateway_tests::{Gateway, GatewayOptions, Hello};
use tokio::task::block_in_place;

use super::{STALLED, source};
use crate::Load;
use crate::consumer::subscribe;
use crate::event::Event;
use crate::wire::Wire;

/// Connections at a time.
const AT_ONCE: usize = 8;

/// The Session of the subscriber to publisher `number`.
fn hello(number: u32) -> Hello {
    let version = if number.is_multiple_of(2) { ProtocolVersion::V5 } else { ProtocolVersion::V3_1_1 };
    Hello::durable(version, &format!("session-{number}"))
}

/// Subscribes, and is gone.
async fn begin(address: SocketAddr, number: u32) {
    let (mut wire, is_there) = Wire::connect(address, &hello(number)).await.expect("the gateway is up");
    assert!(!is_there);
    let filter = format!("devices/{number}/telemetry");
    wire.write(&subscribe(&filter, QoS::AtLeastOnce, wire.version())).await.expect("the gateway is up");
    let read = wire.read(|packet| match packet {
        Packet::SubAck(ack) => {
            assert!(ack.reason_codes.iter().eq([ReasonCode::GrantedQos1]), "{ack:?}");
            false
        }
        other => panic!("session {number}: {other:?}"),
    });
    read.await.expect("the gateway is up");
}

/// Comes back and takes its events, each once and in order.
async fn receive(address: SocketAddr, number: u32, events: u32) {
    let (mut wire, is_there) = Wire::connect(address, &hello(number)).await.expect("the gateway is up");
    assert!(is_there, "session {number} is lost");
    let (mut next, mut out) = (0, Vec::new());
    let version = wire.version();
    while next < events {
        let read = wire.read(|packet| {
            let Packet::Publish(publish) = packet else { panic!("session {number}: {packet:?}") };
            assert_eq!(Event::read(publish.payload), Event { publisher: number, number: next });
            next += 1;
            encode_puback(publish.packet_id.expect("QoS 1"), ReasonCode::Success, version, &mut out);
            true
        });
        let read = tokio::time::timeout(STALLED, read).await;
        read.unwrap_or_else(|_| panic!("session {number}: {next} of {events}")).expect("the gateway is up");
        wire.write(&out).await.expect("the gateway is up");
        out.clear();
    }
}

/// Does something for each number, some at a time.
async fn for_each<F: Future<Output = ()> + Send>(
    numbers: Range<u32>,
    act: impl Fn(u32) -> F + Clone + Send + 'static,
) {
    let tasks: Vec<_> = (0..AT_ONCE)
        .map(|nth| {
            let (numbers, act) = (numbers.clone().skip(nth).step_by(AT_ONCE), act.clone());
            tokio::spawn(async move {
                for number in numbers {
                    act(number).await;
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("it is done");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn restored_sessions_get_what_is_published_before_they_are_back() {
    let sessions = Load::from_environment().sessions;
    let events = sessions / 10;
    let options = GatewayOptions { on_unassigned_ports: true, ..GatewayOptions::default() };
    let mut gateway = block_in_place(|| Gateway::start_with(options));
    let address = gateway.mqtt();
    for_each(0..sessions, move |number| begin(address, number)).await;
    let ready = block_in_place(|| {
        gateway.kill();
        gateway.restart()
    });
    let began = Instant::now();
    for_each(0..sessions, move |number| source::publish(address, number, 0..events, f64::INFINITY, None))
        .await;
    let published = began.elapsed();
    for_each(0..sessions, move |number| receive(address, number, events)).await;
    eprintln!(
        "restored: {sessions} Sessions after a kill, ready in {ready:.2?}; {events} events for each published in {published:.2?}, and \
         delivered {:.2?} after that",
        began.elapsed() - published,
    );
    block_in_place(|| gateway.assert_alive());
}
