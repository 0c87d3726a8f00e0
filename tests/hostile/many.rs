//! Many connections that cost somebody else's memory.

use gateway_tests::{Client, Gateway, Hello};

use crate::bystander::{Bystander, Route};
use crate::{KIB, V5};

const CONNECTIONS: usize = 2_000;
/// What one connection may cost before its CONNECT is complete: one that says nothing, and one that says 1.5 KiB.
const COST_MAX: u64 = 4 * KIB;

/// What each of many connections costs that sends `bytes` and then nothing more.
fn cost_of(bytes: &[u8]) -> u64 {
    let mut gateway = Gateway::start_set(&["mqtt.connect_timeout_ms=60000"]);
    let bystander = Bystander::start_on(gateway.mqtt(), Route::Live);
    let open = |count: usize| -> Vec<Client> {
        (0..count)
            .map(|_| {
                let mut client = Client::open(gateway.mqtt(), V5);
                client.send_bytes(bytes);
                client
            })
            .collect()
    };
    // For tables and buffers that many connections share.
    let first = open(200);
    gateway.await_connections(201);
    drop(first);
    gateway.await_connections(1);
    let before = gateway.memory();
    let clients = open(CONNECTIONS);
    gateway.await_connections(CONNECTIONS + 1);
    let after = gateway.memory();
    let cost = after.anonymous.saturating_sub(before.anonymous) / CONNECTIONS as u64;
    eprintln!(
        "{CONNECTIONS} connections that sent {} bytes: {cost} bytes each of anonymous memory, {} resident",
        bytes.len(),
        after.resident.saturating_sub(before.resident) / CONNECTIONS as u64
    );
    gateway.assert_alive();
    let observed = bystander.stop();
    assert!(observed.messages > 10, "{observed:?}");
    drop(clients);
    gateway.await_connections(0);
    cost
}

#[test]
fn a_connection_that_says_nothing_costs_little() {
    let cost = cost_of(&[]);
    assert!(cost <= COST_MAX, "{cost} bytes each");
}

#[test]
fn a_connection_that_says_half_of_connect_costs_little() {
    let bytes = Hello::new(V5, &"x".repeat(3_000)).bytes();
    let cost = cost_of(&bytes[..1_536]);
    assert!(cost <= COST_MAX, "{cost} bytes each");
}
