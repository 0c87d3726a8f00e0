//! What a connection costs that is connected and silent.

use gateway_tests::{Client, Gateway, Hello, ProtocolVersion};

const CONNECTIONS: usize = 2_000;
/// What one may cost, with its Client Identifier, its timer and what the runtime keeps for its socket.
const BYTES_MAX: u64 = 2048;

#[test]
fn an_idle_connection_costs_two_kib_at_most() {
    for version in [ProtocolVersion::V3_1_1, ProtocolVersion::V5] {
        let gateway = Gateway::start();
        let mut clients: Vec<Client> = Vec::new();
        let mut grow = |to: usize| {
            for number in clients.len()..to {
                let hello = Hello::new(version, &format!("device-{number:08}")).keep_alive_secs(600);
                clients.push(Client::connect(gateway.mqtt(), &hello).0);
            }
            gateway.await_connections(to);
            gateway.memory().anonymous
        };
        // For tables and buffers that all of them share.
        let before = grow(500);
        let after = grow(500 + CONNECTIONS);
        let cost = after.saturating_sub(before) / CONNECTIONS as u64;
        assert!(cost <= BYTES_MAX, "{version}: {cost} bytes each");
    }
}
