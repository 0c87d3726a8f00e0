//! The corpus of malformed packets, each on a connection of its own.

use std::io::{ErrorKind, Read};

use gateway_protocol::testing::{MalformedPacket, malformed_packets};
use gateway_tests::{Client, Gateway, Hello, ReasonCode, TIMEOUT};

use crate::MIB;
use crate::bystander::{Bystander, Route};

/// Growth that has an end: caches and buffers of threads that came into use, and the bounded records of how 10,000 connections ended and
/// why.
const SLACK: u64 = 8 * MIB;

/// Sends one packet, after a proper CONNECT if it is not one itself, and says what is wrong with the answer.
fn offend(gateway: &Gateway, number: usize, packet: &MalformedPacket) -> Result<(), String> {
    let mut client = Client::open(gateway.mqtt(), packet.version);
    if !packet.before_connect {
        client.greet(&Hello::new(packet.version, &format!("offender-{number}")));
    }
    client.send_bytes(&packet.bytes);
    let (told, is_right) = if packet.before_connect {
        let answer = rest_of(&mut client);
        (format!("{answer:02x?}"), is_refusal(&answer, packet))
    } else {
        let told = client.await_close(TIMEOUT);
        // A server of 3.1.1 has no DISCONNECT to send.
        (format!("{told:?}"), told == packet.version.is_v5().then_some(packet.expected))
    };
    match is_right {
        true => Ok(()),
        false => {
            Err(format!("{}: told {told}, not {:?}: {:02x?}", packet.name, packet.expected, packet.bytes))
        }
    }
}

/// All that comes until the connection is closed.
fn rest_of(client: &mut Client) -> Vec<u8> {
    let mut answer = Vec::new();
    client.stream().set_read_timeout(Some(TIMEOUT)).unwrap();
    match client.stream().read_to_end(&mut answer) {
        Err(error) if error.kind() != ErrorKind::ConnectionReset => panic!("still open: {error}"),
        _ => answer,
    }
}

/// Before CONNECT is accepted, closing is answer enough (MQTT 5, 4.13). If there is a CONNACK it is to say what is
/// wrong: in version 5 the reason, in 3.1.1 (and for whoever speaks neither) that the level is not spoken, for
/// which alone there is a return code.
fn is_refusal(answer: &[u8], packet: &MalformedPacket) -> bool {
    let is_level = packet.expected == ReasonCode::UnsupportedProtocolVersion;
    match answer {
        [] => true,
        [0x20, 2, 0, 1] => is_level,
        [0x20, _, 0, reason, ..] => packet.version.is_v5() && *reason == packet.expected.as_u8(),
        _ => false,
    }
}

#[test]
fn every_malformed_packet_costs_its_sender_the_connection_and_nobody_else_anything() {
    let mut gateway = Gateway::start();
    let corpus = malformed_packets();
    assert!(corpus.len() >= 2_000);
    let bystander = Bystander::start_on(gateway.mqtt(), Route::Live);
    // One pass over a part, for what comes into use the first time.
    for (number, packet) in corpus.iter().enumerate().step_by(7) {
        let _ = offend(&gateway, number, packet);
    }
    let before = gateway.memory();
    let wrong: Vec<String> = corpus
        .iter()
        .enumerate()
        .filter_map(|(number, packet)| offend(&gateway, number, packet).err())
        .collect();
    gateway.assert_alive();
    gateway.await_connections(1);
    let after = gateway.memory();
    let observed = bystander.stop();
    eprintln!(
        "{} malformed packets; anonymous memory {} KiB before, {} KiB after; {observed:?}",
        corpus.len(),
        before.anonymous / 1024,
        after.anonymous / 1024
    );
    assert!(wrong.is_empty(), "{} answered wrongly:\n{}", wrong.len(), wrong.join("\n"));
    assert!(observed.messages > 100, "the bystander hardly got a turn: {observed:?}");
    assert!(after.anonymous <= before.anonymous + SLACK, "it grew from {before:?} to {after:?}");
    let metrics = gateway.metrics();
    assert_eq!(
        metrics.sum("gateway_events_received_total"),
        metrics.sum("gateway_events_accepted_total") + metrics.sum("gateway_events_rejected_total"),
    );
    gateway.terminate();
}

#[test]
fn random_bytes_close_the_connection_or_wait_for_more() {
    use rand::{RngExt, SeedableRng};
    let mut gateway = Gateway::start_set(&["mqtt.connect_timeout_ms=500"]);
    let bystander = Bystander::start(gateway.mqtt());
    let seed = 20_260_131;
    eprintln!("seed {seed}");
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
    let mut clients = Vec::new();
    for number in 0..1_000 {
        let version = if number % 2 == 0 { crate::V5 } else { crate::V3_1_1 };
        let mut client = Client::open(gateway.mqtt(), version);
        if number % 4 < 2 {
            client.greet(&Hello::new(version, &format!("noise-{number}")).keep_alive_secs(1));
        }
        let mut bytes = vec![0; rng.random_range(1..2_000)];
        rng.fill(&mut bytes[..]);
        client.send_bytes(&bytes);
        clients.push(client);
    }
    // What happened to look like the beginning of a packet is closed by the time that CONNECT, or the next packet,
    // may take.
    for mut client in clients {
        client.await_close(TIMEOUT);
    }
    gateway.assert_alive();
    gateway.await_connections(1);
    bystander.stop();
}
