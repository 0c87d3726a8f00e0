//! SIGTERM: an orderly end, in which nothing acknowledged is lost and everybody is told.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};

use gateway_protocol::packet::Packet;
use gateway_tests::{Ended, Gateway, ProtocolVersion, ReasonCode, TIMEOUT, wait};

use crate::QOS1;

#[test]
fn everybody_is_told_and_what_was_acknowledged_is_in_the_stream() {
    const PUBLISHERS: usize = 8;
    let mut gateway = Gateway::start();
    let acknowledged = AtomicUsize::new(0);
    let mut idle = gateway.connect(ProtocolVersion::V5, "idle");
    let counts: Vec<usize> = std::thread::scope(|scope| {
        let publishers: Vec<_> = (0..PUBLISHERS)
            .map(|publisher| {
                let version = if publisher % 2 == 0 { ProtocolVersion::V5 } else { ProtocolVersion::V3_1_1 };
                let mut client = gateway.connect(version, &format!("p{publisher}"));
                let acknowledged = &acknowledged;
                scope.spawn(move || {
                    let mut ids = VecDeque::new();
                    let mut count = 0;
                    let topic = format!("devices/{publisher}");
                    let mut told = None;
                    for number in 0.. {
                        ids.extend(client.send_publish(&topic, &number.to_string(), QOS1));
                        while ids.len() >= 64 {
                            match client.receive(TIMEOUT).as_ref().map(gateway_tests::Frame::packet) {
                                Ok(Packet::PubAck(ack)) => {
                                    assert_eq!(ids.pop_front(), Some(ack.packet_id));
                                    count += 1;
                                    acknowledged.fetch_add(1, Ordering::Relaxed);
                                }
                                Ok(Packet::Disconnect(disconnect)) => told = Some(disconnect.reason_code),
                                Ok(other) => panic!("{other:?}"),
                                Err(Ended::TimedOut) => panic!("neither acknowledged nor told to go"),
                                Err(Ended::Closed) => {
                                    assert_eq!(
                                        told,
                                        version.is_v5().then_some(ReasonCode::ServerShuttingDown),
                                        "{version}"
                                    );
                                    return count;
                                }
                            }
                        }
                    }
                    count
                })
            })
            .collect();
        wait::until("load", TIMEOUT, || (acknowledged.load(Ordering::Relaxed) > 1_000).then_some(()));
        gateway.begin_terminate();
        publishers.into_iter().map(|publisher| publisher.join().unwrap()).collect()
    });
    assert_eq!(idle.await_close(TIMEOUT), Some(ReasonCode::ServerShuttingDown));
    gateway.await_exit();

    gateway.restart();
    for (publisher, count) in counts.into_iter().enumerate() {
        let mut reader = gateway.connect(ProtocolVersion::V5, "reader");
        reader.subscribe(&[(&format!("$stream/telemetry/earliest/devices/{publisher}"), QOS1)]);
        for (number, message) in reader.messages(count).iter().enumerate() {
            assert_eq!(message.payload, number.to_string(), "of publisher {publisher}");
        }
    }
}

#[test]
fn the_drain_does_not_wait_for_clients_that_do_not_listen() {
    let mut gateway = Gateway::start();
    let silent: Vec<_> =
        (0..50).map(|number| gateway.connect(ProtocolVersion::V5, &format!("c{number}"))).collect();
    let half_open = gateway_tests::Client::open(gateway.mqtt(), ProtocolVersion::V5);
    gateway.await_connections(51);
    let began = std::time::Instant::now();
    gateway.terminate();
    // Five seconds for connections to go, one for last words, and the log to be closed.
    assert!(began.elapsed().as_secs() < 10, "{:?}", began.elapsed());
    drop((silent, half_open));
}

#[test]
fn an_idle_gateway_starts_and_ends_again_and_again() {
    let mut gateway = Gateway::start();
    for _ in 0..5 {
        gateway.terminate();
        gateway.restart();
    }
    gateway.assert_alive();
}
