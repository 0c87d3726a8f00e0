//! A fleet publishes, a sink writes what it publishes into PostgreSQL, and everything between the two dies now and then: the gateway by
//! SIGKILL, the database by an immediate shutdown. What was acknowledged is in the table, each event of the log once.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use gateway_tests::{Gateway, GatewayOptions, Postgres, get, wait};
use tokio::sync::watch;
use tokio::task::block_in_place;

use crate::Load;
use crate::fleet::{Counts, Orders, Publisher, WINDOW};

const PUBLISHERS: u32 = 50;
/// How long the database is away each time, and how long both are up in between.
const AWAY: Duration = Duration::from_secs(2);
const UP: Duration = Duration::from_secs(2);
/// From the moment the database is gone until the sink says so.
const SAYS_SO: Duration = Duration::from_secs(5);
/// For what is left to be written at the end.
const CATCHES_UP: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_has_every_acknowledged_event_once_whoever_dies() {
    let load = Load::from_environment();
    let rounds = load.restarts.min(60);
    let mut database = block_in_place(Postgres::start);
    let url = database.url();
    let sink = format!(
        "sink=[{{name='db', type='postgres', stream='telemetry', from='earliest', url='{url}', table='events'}}]"
    );
    let options = GatewayOptions { sets: vec![sink], on_unassigned_ports: true, ..GatewayOptions::default() };
    let mut gateway = block_in_place(|| Gateway::start_with(options));
    let orders = watch::Sender::new(Orders { gateway_up: true, publish: true });
    let counts = Arc::new(Counts::default());
    let began = Instant::now();
    let events_per_second = f64::from(load.events_per_second.min(5_000)) / f64::from(PUBLISHERS);
    let publishers: Vec<_> = (0..PUBLISHERS)
        .map(|number| {
            let address = gateway.mqtt();
            let publisher = Publisher { number, address, events_per_second, began, acknowledged: None };
            let (orders, counts) = (orders.subscribe(), counts.clone());
            tokio::spawn(async move { publisher.run(orders, &counts).await })
        })
        .collect();

    let mut slowest = Duration::ZERO;
    for round in 0..rounds {
        tokio::time::sleep(UP).await;
        block_in_place(|| database.kill());
        slowest = slowest.max(block_in_place(|| says_so(&gateway)));
        tokio::time::sleep(AWAY / 2).await;
        if round % 2 == 0 {
            orders.send_modify(|orders| orders.gateway_up = false);
            block_in_place(|| {
                gateway.kill();
                gateway.restart()
            });
            orders.send_modify(|orders| orders.gateway_up = true);
        }
        tokio::time::sleep(AWAY / 2).await;
        block_in_place(|| database.restart());
        if round % 2 == 1 {
            // While the sink is at work again.
            orders.send_modify(|orders| orders.gateway_up = false);
            block_in_place(|| {
                gateway.kill();
                gateway.restart()
            });
            orders.send_modify(|orders| orders.gateway_up = true);
        }
    }
    orders.send_modify(|orders| orders.publish = false);
    let mut published = Vec::new();
    for publisher in publishers {
        published.push(publisher.await.expect("no publisher panics"));
    }
    let total: u64 = published.iter().copied().map(u64::from).sum();
    let ending = Instant::now();
    block_in_place(|| has_all(&database, total));
    let caught_up = ending.elapsed();

    // Physical order is the order of insertion in a table that nothing was deleted from.
    let rows = block_in_place(|| {
        database.query(
            "SELECT stream_offset, client_id, encode(substr(payload, 5, 4), 'hex') FROM events ORDER BY ctid",
        )
    });
    let mut next: HashMap<String, u32> = HashMap::new();
    let (mut last, mut twice) = (-1_i64, 0_u64);
    for row in &rows {
        let [offset, client_id, number] = row.split('\t').collect::<Vec<_>>()[..] else { panic!("{row}") };
        let offset: i64 = offset.parse().expect("a number");
        assert!(offset > last, "offset {offset} is behind {last}: written twice, or out of order");
        last = offset;
        let number = u32::from_str_radix(number, 16).expect("a number");
        let next = next.entry(client_id.to_owned()).or_default();
        assert!(number <= *next, "event {number} of {client_id} before event {next}");
        twice += u64::from(number < *next);
        *next = (*next).max(number + 1);
    }
    for (publisher, published) in published.iter().enumerate() {
        assert_eq!(next.get(&format!("publisher-{publisher}")), Some(published), "of publisher {publisher}");
    }
    let retransmitted = counts.retransmitted.load(Ordering::Relaxed);
    eprintln!(
        "database and gateway killed {rounds} times: {total} events acknowledged at {:.0}/s, {} rows, lost 0, in the log twice {twice} \
         ({retransmitted} retransmitted), out of order 0; down is said within {slowest:.1?}; caught up {caught_up:.1?} after the last event",
        total as f64 / (ending - began).as_secs_f64(),
        rows.len(),
    );
    assert!(twice <= retransmitted, "{twice} in the table twice");
    assert!(retransmitted <= u64::from(rounds) * u64::from(PUBLISHERS) * WINDOW as u64);
    block_in_place(|| gateway.terminate());
}

/// How long it takes until the metric and the API say that the sink is down.
fn says_so(gateway: &Gateway) -> Duration {
    let began = Instant::now();
    wait::until_it(
        "the API says down",
        SAYS_SO,
        || get(gateway.admin(), "/v1/sinks"),
        |sinks| sinks.contains(r#""state":"down""#) && sinks.contains(r#""name":"db""#),
    );
    wait::until_it("the sink is down", SAYS_SO, || up(gateway), |up| *up == Some(0.0));
    began.elapsed()
}

fn up(gateway: &Gateway) -> Option<f64> {
    gateway.metrics().find(r#"gateway_sink_up{sink="db"}"#)
}

fn has_all(database: &Postgres, total: u64) {
    let count = || {
        database.query("SELECT count(DISTINCT payload) FROM events").first().and_then(|row| row.parse().ok())
    };
    wait::until_it("all are in the table", CATCHES_UP, count, |found: &Option<u64>| *found == Some(total));
}
