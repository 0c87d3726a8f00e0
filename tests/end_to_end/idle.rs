//! What a connection costs that is connected and silent.

use gateway_tests::{Client, Gateway, Hello, ProtocolVersion};

/// Threads, buffers and tables that all of them share are there by then.
const BEFORE: usize = 750;
/// Eight times as many: what grows by doubling has done so three times and is as full as it was, so it counts for what it costs, neither more
/// nor less. And what a thread keeps for itself, about 64 KiB, hardly counts, however many threads have their first connection in between.
const AFTER: usize = 8 * BEFORE;
/// What is promised of one, with its Client Identifier and what the runtime keeps for its socket. It is some 1,400 to 1,560.
const BYTES_MAX: u64 = 2048;

#[test]
fn an_idle_connection_costs_two_kib_at_most() {
    std::thread::scope(|scope| {
        for version in [ProtocolVersion::V3_1_1, ProtocolVersion::V5] {
            scope.spawn(move || {
                let cost = cost(version);
                assert!(cost <= BYTES_MAX, "{version}: {cost} bytes each");
            });
        }
    });
}

fn cost(version: ProtocolVersion) -> u64 {
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
    let before = grow(BEFORE);
    let after = grow(AFTER);
    after.saturating_sub(before) / (AFTER - BEFORE) as u64
}
