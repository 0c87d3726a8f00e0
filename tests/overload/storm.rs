//! A fleet that connects at once.

use std::time::{Duration, Instant};

use gateway_tests::{Client, Gateway, Hello};

use crate::{V5, number};

const THREADS: u32 = 8;

#[test]
fn a_fleet_that_reconnects_at_once_is_back_soon_and_the_others_do_not_notice() {
    let clients = number("GATEWAY_STORM", 400);
    let gateway = Gateway::start_set(&["admission.max_handshakes=64"]);
    let hello = |client: u32| Hello::new(V5, &format!("device-{client}")).keep_alive_secs(600);
    let connect = |range: std::ops::Range<u32>| -> Vec<Client> {
        range.map(|client| Client::connect(gateway.mqtt(), &hello(client)).0).collect()
    };
    let all = |gateway: &Gateway| {
        let connected: Vec<Client> = std::thread::scope(|scope| {
            let parts: Vec<_> = (0..THREADS)
                .map(|part| {
                    let connect = &connect;
                    scope.spawn(move || connect(part * clients / THREADS..(part + 1) * clients / THREADS))
                })
                .collect();
            parts.into_iter().flat_map(|part| part.join().expect("they are let in")).collect()
        });
        gateway.await_connections(1 + clients as usize);
        connected
    };
    let mut stayed = gateway.connect(V5, "stayed");
    let connected = all(&gateway);
    drop(connected);
    gateway.await_connections(1);
    let began = Instant::now();
    let (took, slowest, connected) = std::thread::scope(|scope| {
        let stayed = scope.spawn(|| {
            let mut slowest = Duration::ZERO;
            for _ in 0..50 {
                let asked = Instant::now();
                stayed.ping();
                slowest = slowest.max(asked.elapsed());
            }
            slowest
        });
        let connected = all(&gateway);
        (began.elapsed(), stayed.join().expect("it is answered"), connected)
    });
    eprintln!("{clients} clients back in {took:.1?}; the one that stayed waited {slowest:.1?} at most");
    assert!(took < Duration::from_secs(20), "{took:?}");
    assert!(slowest < Duration::from_secs(2), "{slowest:?}");
    assert_eq!(connected.len(), clients as usize);
    gateway.assert_sound();
}
