//! Fair shares: who brings far more than the others is slowed, and nobody else is.

use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use gateway_protocol::codec::{PublishFrame, encode_publish};
use gateway_tests::{Client, Gateway, QoS, ReasonCode};

use crate::stage::{Stage, assert_balance, decisions, look, pause};
use crate::{QOS0, QOS1, V5, is_long, number};

/// Publishes at QoS 0 as fast as the connection takes it. How many it has sent.
fn flood(client: &mut Client, topic: &str, stop: &AtomicBool) -> u64 {
    let publish = PublishFrame {
        dup: false,
        qos: QoS::AtMostOnce,
        retain: false,
        topic,
        packet_id: None,
        extra: &[],
        properties: &[],
        payload: &[b'x'; 200],
    };
    let mut frames = Vec::new();
    for _ in 0..100 {
        encode_publish(&publish, V5, &mut frames).expect("a legal PUBLISH");
    }
    let mut sent = 0;
    client.stream().set_write_timeout(Some(Duration::from_secs(30))).unwrap();
    while !stop.load(Ordering::Relaxed) {
        client.stream().write_all(&frames).expect("it is read, if slowly");
        sent += 100;
    }
    client.ping();
    sent
}

/// The time that the slowest of most answers took.
fn p99(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[(times.len() - 1) * 99 / 100]
}

/// Some devices, each with an event at QoS 1 and one at QoS 0 every 100 ms: how many at QoS 0, and how long acknowledgements took.
fn devices(gateway: &Gateway, count: u32, during: Duration) -> (u64, Vec<Duration>) {
    let mut devices: Vec<_> =
        (0..count).map(|number| gateway.connect(V5, &format!("device-{number}"))).collect();
    let (mut sent, mut times) = (0, Vec::new());
    let began = Instant::now();
    while began.elapsed() < during {
        let round = Instant::now();
        for device in &mut devices {
            let asked = Instant::now();
            device.send_publish("live/device", "x", QOS0);
            assert_eq!(device.publish("live/device", "x", QOS1), Some(ReasonCode::Success));
            times.push(asked.elapsed());
            sent += 1;
        }
        pause(Duration::from_millis(100).saturating_sub(round.elapsed()));
    }
    (sent, times)
}

#[test]
fn a_hog_among_devices_is_slowed_by_name_and_the_devices_lose_nothing() {
    let count = number("GATEWAY_DEVICES", 40);
    let during = Duration::from_secs(number("GATEWAY_OVERLOAD_SECS", 3).into());
    let stage = Stage::at(2, &[]);
    let gateway = &stage.gateway;
    let mut subscriber = gateway.connect(V5, "subscriber");
    subscriber.subscribe(&[("live/device", QOS0)]);
    let stop = AtomicBool::new(false);
    let (alone, beside, flooded, got) = std::thread::scope(|scope| {
        let got = scope.spawn(|| {
            let mut got = 0_u64;
            loop {
                match subscriber.message().payload.as_str() {
                    "end" => return got,
                    _ => got += 1,
                }
            }
        });
        let alone = devices(gateway, count, during / 2);
        let hog = scope.spawn(|| flood(&mut gateway.connect(V5, "hog"), "live/hog", &stop));
        let began = Instant::now();
        let beside = devices(gateway, count, during);
        let told = decisions(gateway, "client=hog");
        assert!(!told.is_empty(), "the hog is named within {:?}", began.elapsed());
        stop.store(true, Ordering::Relaxed);
        let flooded = hog.join().expect("the hog is answered");
        gateway.connect(V5, "last").publish("live/device", "end", QOS1);
        (alone, beside, flooded, got.join().expect("the subscriber gets everything"))
    });
    let metrics = gateway.metrics();
    let over = metrics.find("gateway_events_shed_total{reason=\"over_share\"}").unwrap_or(0.0);
    eprintln!(
        "{count} devices: p99 {:.1?} alone, {:.1?} beside a hog that brought {flooded} events, {over} of which were shed",
        p99(alone.1.clone()),
        p99(beside.1.clone()),
    );
    // Each of their events was at QoS 0 once and at QoS 1 once.
    assert_eq!(got, 2 * (alone.0 + beside.0), "the devices lose nothing");
    assert!(over > 0.0, "the hog is slowed");
    let others: Vec<_> =
        decisions(gateway, "action=shed").into_iter().filter(|shed| shed.client != "hog").collect();
    assert!(others.is_empty(), "{others:?}");
    let (before, with) = (p99(alone.1), p99(beside.1));
    assert!(with <= before * 2 + Duration::from_millis(100), "{before:?} alone, {with:?} beside the hog");
    let events = stage.held as u64 + 2 * (alone.0 + beside.0) + flooded + 1;
    assert_balance(gateway, events);
}

#[test]
fn over_its_share_an_acknowledgement_is_late_and_pings_are_answered() {
    let stage = Stage::at(2, &[]);
    let gateway = &stage.gateway;
    // Others, so that there is a share to be over.
    let mut others: Vec<_> = (0..10).map(|number| gateway.connect(V5, &format!("other-{number}"))).collect();
    let mut hog = gateway.connect(V5, "hog");
    let payload = "x".repeat(20_000);
    let (mut slowest, mut slowest_ping) = (Duration::ZERO, Duration::ZERO);
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(3) {
        for other in &mut others {
            other.publish("live/other", "x", QOS1);
        }
        for _ in 0..4 {
            let id = hog.send_publish("live/hog", &payload, QOS1).unwrap();
            let asked = Instant::now();
            hog.ping();
            slowest_ping = slowest_ping.max(asked.elapsed());
            if slowest < Duration::from_millis(500) {
                hog.await_puback(id);
                slowest = slowest.max(asked.elapsed());
            }
        }
    }
    let late = decisions(gateway, "client=hog&action=throttled");
    eprintln!(
        "slowest PUBACK {slowest:.1?}, slowest PINGRESP {slowest_ping:.1?}, {} entries on record",
        late.len()
    );
    assert!(late.iter().any(|late| late.reason == "over_share"), "{late:?}");
    assert!(slowest >= Duration::from_millis(5), "{slowest:?}");
    assert!(slowest_ping < Duration::from_secs(2), "{slowest_ping:?}");
    assert!(decisions(gateway, "client=other-1").is_empty());
}

#[test]
fn nothing_is_shed_under_a_load_that_is_within_what_is_taken() {
    let during = Duration::from_secs(number("GATEWAY_STEADY_SECS", 4).into());
    let gateway = Gateway::start();
    let mut subscriber = gateway.connect(V5, "subscriber");
    subscriber.subscribe(&[("live/#", QOS0)]);
    let (sent, times) = devices(&gateway, 20, during);
    assert_eq!(subscriber.messages(2 * sent as usize).len(), 2 * sent as usize);
    let metrics = gateway.metrics();
    assert_eq!(metrics.sum("gateway_events_shed_total"), 0.0);
    assert_eq!(metrics.sum("gateway_events_rejected_total"), 0.0);
    assert!(look(&gateway).0 < 2.0, "{:?}", look(&gateway));
    assert!(decisions(&gateway, "action=shed").is_empty());
    eprintln!("{} events in {during:?}, p99 {:.1?}", 2 * sent, p99(times));
    assert_balance(&gateway, 2 * sent);
}

#[test]
fn the_books_balance_to_the_last_event_however_much_is_brought() {
    let during = Duration::from_secs(number("GATEWAY_OVERLOAD_SECS", 2).into());
    let loads: &[(u8, u32)] = if is_long() { &[(2, 2), (2, 5), (3, 5), (3, 10)] } else { &[(2, 2), (3, 10)] };
    for &(level, hogs) in loads {
        let stage = Stage::at(level, &[]);
        let gateway = &stage.gateway;
        let mut subscriber = gateway.connect(V5, "subscriber");
        subscriber.subscribe(&[("alarm/#", QOS1)]);
        let before = gateway.memory().anonymous;
        let stop = AtomicBool::new(false);
        let (flooded, alarms) = std::thread::scope(|scope| {
            let hogs: Vec<_> = (0..hogs)
                .map(|number| {
                    let topic = if number % 2 == 0 { "live/hog" } else { "debug/hog" };
                    let (gateway, stop) = (gateway, &stop);
                    scope
                        .spawn(move || flood(&mut gateway.connect(V5, &format!("hog-{number}")), topic, stop))
                })
                .collect();
            let mut critical = gateway.connect(V5, "critical");
            let began = Instant::now();
            let mut alarms = 0;
            // As long as it takes: where others want the processor, too, hogs have to wait before they have more than their share.
            let nothing_shed = || gateway.metrics().sum("gateway_events_shed_total") == 0.0;
            while began.elapsed() < during || (began.elapsed() < during * 10 && nothing_shed()) {
                assert_eq!(critical.publish("alarm/1", "x", QOS1), Some(ReasonCode::Success));
                alarms += 1;
                pause(Duration::from_millis(5));
            }
            stop.store(true, Ordering::Relaxed);
            let flooded: u64 = hogs.into_iter().map(|hog| hog.join().expect("it is answered")).sum();
            (flooded, alarms)
        });
        assert_eq!(subscriber.messages(alarms).len(), alarms, "what is critical loses nothing");
        subscriber.ping();
        assert_balance(gateway, stage.held as u64 + flooded + alarms as u64);
        let grown = gateway.memory().anonymous.saturating_sub(before);
        let shed = gateway.metrics().sum("gateway_events_shed_total");
        eprintln!(
            "L{level}, {hogs} hogs: {flooded} events, {shed} shed; {alarms} critical; {} KiB more",
            grown >> 10
        );
        assert!(shed > 0.0 && grown < 64 << 20, "{shed} shed, {grown} bytes more");
        gateway.assert_sound();
    }
}
