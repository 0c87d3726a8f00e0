//! The time and the bytes before CONNECT is complete: a stranger's, and so bounded.

use std::time::{Duration, Instant};

use gateway_protocol::Property;
use gateway_tests::{Client, Ended, Gateway, Hello, ReasonCode, TIMEOUT};

use crate::bystander::Bystander;
use crate::{V3_1_1, V5};

const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);
/// What a busy machine may add.
const LATE: Duration = Duration::from_millis(1_500);

fn impatient() -> Gateway {
    Gateway::start_set(&["mqtt.connect_timeout_ms=500"])
}

fn assert_closed_in_time(client: &mut Client, began: Instant) {
    client.await_close(CONNECT_TIMEOUT + LATE);
    let after = began.elapsed();
    assert!(after >= CONNECT_TIMEOUT - Duration::from_millis(20), "closed after {after:?}, too early");
}

#[test]
fn silence_and_half_a_connect_are_closed_in_time() {
    let gateway = impatient();
    let bytes = Hello::new(V5, "half").bytes();
    for sent in [0, 1, 2, bytes.len() / 2, bytes.len() - 1] {
        let began = Instant::now();
        let mut client = Client::open(gateway.mqtt(), V5);
        client.send_bytes(&bytes[..sent]);
        assert_closed_in_time(&mut client, began);
    }
    let timed_out = gateway.metrics().get("gateway_connects_total{outcome=\"timed_out\"}");
    assert_eq!(timed_out, 5.0);
}

#[test]
fn a_trickle_of_bytes_does_not_extend_the_time() {
    let gateway = impatient();
    let bystander = Bystander::start(gateway.mqtt());
    let bytes = Hello::new(V5, &"x".repeat(1_000)).bytes();
    let began = Instant::now();
    let mut client = Client::open(gateway.mqtt(), V5);
    for byte in bytes.chunks(1) {
        client.send_bytes(byte);
        // The wait for an answer is what makes it slow.
        if client.receive(Duration::from_millis(20)).err() == Some(Ended::Closed) {
            break;
        }
        assert!(began.elapsed() < CONNECT_TIMEOUT + LATE, "still open");
    }
    assert!(began.elapsed() >= CONNECT_TIMEOUT - Duration::from_millis(20), "closed too early");
    bystander.stop();
}

#[test]
fn a_connect_in_pieces_is_a_connect() {
    let gateway = Gateway::start();
    for version in [V3_1_1, V5] {
        let bytes = Hello::new(version, &format!("piecemeal-{version}")).bytes();
        let mut client = Client::open(gateway.mqtt(), version);
        let (last, first) = bytes.split_last().unwrap();
        for byte in first.chunks(1) {
            client.send_bytes(byte);
        }
        // The last byte together with what comes behind it.
        client.send_bytes(&[*last, 0xC0, 0]);
        client.await_frame("CONNACK", |packet| matches!(packet, gateway_protocol::Packet::ConnAck(_)));
        client.await_frame("PINGRESP", |packet| matches!(packet, gateway_protocol::Packet::PingResp));
    }
}

#[test]
fn what_follows_connect_at_once_is_taken() {
    let gateway = Gateway::start();
    for version in [V3_1_1, V5] {
        let mut bytes = Hello::durable(version, &format!("hasty-{version}")).bytes();
        for _ in 0..100 {
            bytes.extend([0xC0, 0]);
        }
        let mut client = Client::open(gateway.mqtt(), version);
        client.send_bytes(&bytes);
        for _ in 0..100 {
            client.await_frame("PINGRESP", |packet| matches!(packet, gateway_protocol::Packet::PingResp));
        }
    }
}

#[test]
fn a_connect_above_connect_buffer_bytes_is_refused() {
    let gateway = Gateway::start_set(&["admission.connect_buffer_bytes=2KiB"]);
    let with_length = |total: usize| {
        let bare =
            Hello::new(V5, "large").with(Property::UserProperty { name: "a", value: "" }).bytes().len();
        let value = "x".repeat(total - bare);
        let bytes = Hello::new(V5, "large").with(Property::UserProperty { name: "a", value: &value }).bytes();
        // Remaining Length and Property Length take two bytes each now.
        assert_eq!(bytes.len(), total + 2);
        bytes
    };
    let mut client = Client::open(gateway.mqtt(), V5);
    client.send_bytes(&with_length(2_048 - 2));
    assert!(
        matches!(client.next_packet().packet(), gateway_protocol::Packet::ConnAck(ack) if ack.reason_code == ReasonCode::Success)
    );
    let mut client = Client::open(gateway.mqtt(), V5);
    client.send_bytes(&with_length(2_049 - 2));
    let told = client.await_close(TIMEOUT);
    assert!(matches!(told, None | Some(ReasonCode::PacketTooLarge)), "{told:?}");
    // It is refused by what it announces: nothing of it is waited for.
    let mut client = Client::open(gateway.mqtt(), V5);
    client.send_bytes(&[0x10, 0xFF, 0xFF, 0xFF, 0x7F]);
    client.await_close(Duration::from_secs(2));
}

#[test]
fn protocol_levels_that_are_not_spoken_are_told_so() {
    let gateway = Gateway::start();
    for level in [0, 1, 2, 3, 6, 7, 0x84, 255] {
        let mut bytes = Hello::new(V3_1_1, "x").bytes();
        assert_eq!(&bytes[4..9], b"MQTT\x04");
        bytes[8] = level;
        let mut stream = Client::open(gateway.mqtt(), V3_1_1);
        stream.send_bytes(&bytes);
        // Whoever speaks an unknown level gets the CONNACK of 3.1.1 or that of 5; both begin alike.
        let mut answer = Vec::new();
        stream.stream().set_read_timeout(Some(TIMEOUT)).unwrap();
        std::io::Read::read_to_end(stream.stream(), &mut answer).unwrap();
        let is_right = matches!(*answer, [0x20, 2, 0, 1]) || matches!(*answer, [0x20, _, 0, 0x84, ..]);
        assert!(is_right, "level {level}: {answer:02x?}");
    }
}

#[test]
fn a_name_that_is_missing_and_a_session_to_keep_do_not_go_together_in_3_1_1() {
    let gateway = Gateway::start();
    let mut client = Client::open(gateway.mqtt(), V3_1_1);
    client.send_bytes(&Hello::new(V3_1_1, "").clean_start(false).bytes());
    let mut answer = Vec::new();
    client.stream().set_read_timeout(Some(TIMEOUT)).unwrap();
    std::io::Read::read_to_end(client.stream(), &mut answer).unwrap();
    assert_eq!(answer, [0x20, 2, 0, 2]);
}

#[test]
fn connections_above_the_limit_are_told_to_come_back() {
    let gateway = Gateway::start_set(&["admission.max_connections=10"]);
    let clients: Vec<_> = (0..10).map(|number| gateway.connect(V5, &format!("c{number}"))).collect();
    let mut late = Client::open(gateway.mqtt(), V5);
    late.send_bytes(&Hello::new(V5, "late").bytes());
    assert_eq!(late.await_close(TIMEOUT), Some(ReasonCode::ServerBusy));
    let mut late = Client::open(gateway.mqtt(), V3_1_1);
    late.send_bytes(&Hello::new(V3_1_1, "late").bytes());
    // "Server unavailable", return code 3.
    assert_eq!(late.await_close(TIMEOUT), Some(ReasonCode::ServerUnavailable));
    drop(clients);
    gateway.await_connections(0);
    gateway.connect(V5, "late").ping();
}
