//! The books: every event received, and every message routed, ends in exactly one place.

use gateway_protocol::packet::{Ack, Packet};
use gateway_protocol::{PacketId, PropertiesBuf, Property};
use gateway_tests::{Client, Gateway, Hello, Metrics, ProtocolVersion, QoS, ReasonCode, TIMEOUT, wait};

use crate::{QOS0, QOS1};

const V5: ProtocolVersion = ProtocolVersion::V5;

/// What came in, and where it went.
fn publishers_side(metrics: &Metrics) -> (f64, f64) {
    let gone = metrics.sum("gateway_events_accepted_total") + metrics.sum("gateway_events_rejected_total");
    (metrics.sum("gateway_events_received_total"), gone)
}

/// What was put in front of subscribers, and where it went. No live message may be waiting.
fn subscribers_side(metrics: &Metrics) -> (f64, f64) {
    let gone = metrics.sum("gateway_deliveries_acked_total")
        + pending(metrics)
        + metrics.sum("gateway_deliveries_expired_total")
        + metrics.sum("gateway_deliveries_dropped_total");
    (metrics.sum("gateway_deliveries_routed_total"), gone)
}

/// What durable sessions have not acknowledged; no number before the first sample, a moment after the start.
fn pending(metrics: &Metrics) -> f64 {
    metrics.find("gateway_backlog_pending").unwrap_or(f64::NAN)
}

/// Both sides balance once gauges have been sampled and lazy acknowledgements are in the log. `routed` is how many
/// messages were put in front of subscribers.
fn assert_balance(gateway: &Gateway, received: usize, routed: usize) {
    let look = || {
        let metrics = gateway.metrics();
        let books = metrics.with_prefix("gateway_deliveries");
        let books = format!("pending {}, {books:#?}", pending(&metrics));
        (publishers_side(&metrics), subscribers_side(&metrics), books)
    };
    let balance = ((received as f64, received as f64), (routed as f64, routed as f64));
    let limit = std::time::Duration::from_secs(5);
    wait::until_it("the balance", limit, look, |(published, delivered, _)| {
        (*published, *delivered) == balance
    });
}

#[test]
fn live_and_durable_deliveries_balance() {
    let gateway = Gateway::start();
    let mut live = gateway.connect(V5, "live");
    live.subscribe(&[("plant/#", QOS1), ("devices/#", QOS0)]);
    let (mut durable, _) = Client::connect(gateway.mqtt(), &Hello::durable(V5, "durable"));
    durable.subscribe(&[("plant/#", QOS1), ("devices/#", QOS1)]);
    let (mut away, _) = Client::connect(gateway.mqtt(), &Hello::durable(ProtocolVersion::V3_1_1, "away"));
    away.subscribe(&[("devices/#", QOS1)]);
    away.leave();
    let mut publisher = gateway.connect(V5, "p");
    for number in 0..100 {
        let qos = if number % 2 == 0 { QOS0 } else { QOS1 };
        for topic in ["plant/1", "devices/1", "nobody/wants"] {
            publisher.publish(topic, "x", qos);
        }
        publisher.publish("$reserved/1", "x", qos);
    }
    // 200 for each of the two that are there; half of 100 wait for the one that is away.
    live.messages(200);
    durable.messages(200);
    assert_balance(&gateway, 400, 450);
    let (mut away, _) = Client::connect(gateway.mqtt(), &Hello::durable(ProtocolVersion::V3_1_1, "away"));
    away.messages(20);
    away.ping();
    assert_balance(&gateway, 400, 450);
    away.messages(30);
    away.ping();
    assert_balance(&gateway, 400, 450);
}

#[test]
fn a_live_subscriber_that_leaves_with_messages_unacknowledged_is_accounted_for() {
    let gateway = Gateway::start();
    let mut live = gateway.connect(V5, "live");
    live.subscribe(&[("plant/#", QOS1)]);
    let mut publisher = gateway.connect(V5, "p");
    for _ in 0..10 {
        publisher.publish("plant/1", "x", QOS1);
    }
    let messages: Vec<_> = (0..10).map(|_| live.message()).collect();
    live.acknowledge(&messages[0]);
    live.ping();
    drop(live);
    gateway.await_connections(1);
    assert_balance(&gateway, 10, 10);
}

#[test]
fn an_acknowledgement_that_comes_with_disconnect_is_counted() {
    let gateway = Gateway::start();
    let mut live = gateway.connect(V5, "live");
    live.subscribe(&[("plant/#", QOS1)]);
    gateway.connect(V5, "p").publish("plant/1", "x", QOS1);
    let message = live.message();
    let mut last_words = vec![0x40, 2];
    last_words.extend(message.packet_id.unwrap().get().to_be_bytes());
    last_words.extend([0xE0, 0]);
    live.send_bytes(&last_words);
    live.await_close(TIMEOUT);
    assert_balance(&gateway, 1, 1);
    assert_eq!(
        gateway.metrics().get("gateway_deliveries_acked_total{kind=\"live\"}"),
        1.0,
        "not lost, acknowledged"
    );
}

#[test]
fn reading_a_stream_keeps_the_balance() {
    let gateway = Gateway::start();
    let mut publisher = gateway.connect(V5, "p");
    for _ in 0..10 {
        publisher.publish("devices/1", "x", QOS1);
    }
    for qos in [QOS0, QOS1] {
        let mut reader = gateway.connect(V5, "reader");
        reader.subscribe(&[("$stream/telemetry/earliest/#", qos)]);
        reader.messages(10);
        reader.ping();
        reader.leave();
    }
    // Whether a replayed message counts as routed is a choice; that both sides say the same is not.
    let look = || subscribers_side(&gateway.metrics());
    wait::until_it("the balance", std::time::Duration::from_secs(5), look, |(routed, gone)| routed == gone);
}

#[test]
fn a_session_that_is_discarded_or_expires_gives_account_of_its_backlog() {
    let gateway = Gateway::start();
    let expiring = Hello::durable(V5, "discarded");
    let (mut client, _) = Client::connect(gateway.mqtt(), &expiring);
    client.subscribe(&[("plant/#", QOS1)]);
    client.leave();
    let expiring = Hello::new(V5, "expiring").with(Property::SessionExpiryInterval(1));
    let (mut client, _) = Client::connect(gateway.mqtt(), &expiring);
    client.subscribe(&[("plant/#", QOS1)]);
    client.leave();
    let mut publisher = gateway.connect(V5, "p");
    for _ in 0..10 {
        publisher.publish("plant/1", "x", QOS1);
    }
    let metrics = gateway.metrics();
    assert_eq!(metrics.sum("gateway_deliveries_routed_total"), 20.0, "before the expiry");
    Client::connect(gateway.mqtt(), &Hello::new(V5, "discarded")).0.leave();
    wait::until_it(
        "sessions",
        TIMEOUT,
        || gateway.metrics().get("gateway_sessions_durable"),
        |&count| count == 0.0,
    );
    assert_balance(&gateway, 10, 20);
}

#[test]
fn expired_and_too_large_messages_are_counted_once() {
    let gateway = Gateway::start();
    let hello = Hello::durable(V5, "away").with(Property::MaximumPacketSize(1000));
    let (mut client, _) = Client::connect(gateway.mqtt(), &hello);
    client.subscribe(&[("plant/#", QOS1)]);
    client.leave();
    let mut publisher = gateway.connect(V5, "p");
    let mut properties = PropertiesBuf::new();
    properties.push(Property::MessageExpiryInterval(1)).unwrap();
    for _ in 0..3 {
        let id = publisher.send_publish_with("plant/1", b"stale", QOS1, properties.as_properties()).unwrap();
        assert_eq!(publisher.await_puback(id), ReasonCode::Success);
    }
    let stale_since = std::time::Instant::now();
    for _ in 0..2 {
        publisher.publish("plant/1", &"x".repeat(2000), QOS1);
    }
    publisher.publish("plant/1", "good", QOS1);
    wait::until("the Message Expiry Interval", TIMEOUT, || {
        (stale_since.elapsed().as_millis() > 1_100).then_some(())
    });
    let (mut client, _) = Client::connect(gateway.mqtt(), &hello);
    assert_eq!(client.messages(1)[0].payload, "good");
    client.ping();
    assert_balance(&gateway, 6, 6);
    let metrics = gateway.metrics();
    assert_eq!(metrics.sum("gateway_deliveries_expired_total"), 3.0);
    assert_eq!(metrics.get("gateway_deliveries_dropped_total{reason=\"too_large\"}"), 2.0);
}

#[test]
fn publishes_that_are_cut_off_by_a_takeover_balance() {
    let gateway = Gateway::start();
    let mut sent = 0;
    for _ in 0..50 {
        let mut publisher = gateway.connect(V5, "p");
        for _ in 0..20 {
            publisher.send_publish("devices/1", "x", QOS1);
            sent += 1;
        }
        // The next round's CONNECT takes over while these are on their way.
    }
    gateway.await_connections(0);
    let look = || publishers_side(&gateway.metrics());
    wait::until_it("the balance", TIMEOUT, look, |(received, gone)| {
        received == gone && *received <= f64::from(sent)
    });
}

/// Publishes 12 messages for a session that is away, and that may have 5 waiting.
fn overfill(policy: &str) -> (Gateway, Client) {
    let policy = format!("mqtt.when_queue_full={policy}");
    let gateway = Gateway::start_set(&["mqtt.max_queued_messages=5", &policy]);
    let (mut away, _) = Client::connect(gateway.mqtt(), &Hello::durable(V5, "away"));
    away.subscribe(&[("plant/#", QOS1)]);
    away.leave();
    let mut publisher = gateway.connect(V5, "p");
    for number in 0..12 {
        publisher.publish("plant/1", &number.to_string(), QOS1);
    }
    (gateway, publisher)
}

fn dropped(gateway: &Gateway, reason: &str) -> f64 {
    gateway.metrics().get(&format!("gateway_deliveries_dropped_total{{reason=\"{reason}\"}}"))
}

#[test]
fn a_full_backlog_gives_account_of_the_newest_it_refuses() {
    let (gateway, _publisher) = overfill("drop_newest");
    assert_balance(&gateway, 12, 12);
    assert_eq!(dropped(&gateway, "backlog_full"), 7.0);
    let (mut away, _) = Client::connect(gateway.mqtt(), &Hello::durable(V5, "away"));
    let payloads: Vec<_> = away.messages(5).into_iter().map(|message| message.payload).collect();
    assert_eq!(payloads, ["0", "1", "2", "3", "4"]);
    away.ping();
    assert_balance(&gateway, 12, 12);
}

#[test]
fn a_full_backlog_gives_account_of_the_oldest_it_gives_up() {
    let (gateway, mut publisher) = overfill("drop_oldest");
    assert_balance(&gateway, 12, 12);
    assert_eq!(dropped(&gateway, "backlog_oldest"), 7.0);
    let (mut away, _) = Client::connect(gateway.mqtt(), &Hello::durable(V5, "away"));
    let in_flight: Vec<_> = (0..5).map(|_| away.message()).collect();
    let payloads: Vec<_> = in_flight.iter().map(|message| &*message.payload).collect();
    assert_eq!(payloads, ["7", "8", "9", "10", "11"]);
    // Two that are in flight are given up; that they are acknowledged then changes nothing.
    publisher.publish("plant/1", "12", QOS1);
    publisher.publish("plant/1", "13", QOS1);
    assert_eq!(away.messages(2)[1].payload, "13");
    for message in &in_flight {
        away.acknowledge(message);
    }
    let acked = || gateway.metrics().get("gateway_deliveries_acked_total{kind=\"durable\"}");
    wait::until_it("the acknowledgements of the others", TIMEOUT, acked, |&acked| acked == 5.0);
    assert_balance(&gateway, 14, 14);
    assert_eq!(dropped(&gateway, "backlog_oldest"), 9.0);
    let (_, present) = Client::connect(gateway.mqtt(), &Hello::durable(V5, "away"));
    assert!(present, "the session goes on");
}

/// The next packet: PUBREL and its identifier, or PUBLISH with its identifier and payload.
fn released_or_published(client: &mut Client) -> (bool, PacketId, Vec<u8>) {
    match client.next_packet().packet() {
        Packet::PubRel(ack) => (true, ack.packet_id, Vec::new()),
        Packet::Publish(publish) => (false, publish.packet_id.unwrap(), publish.payload.to_vec()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_was_given_up_under_way_at_qos_2_has_its_identifier_released_on_the_next_connection() {
    let gateway = Gateway::start_set(&["mqtt.max_queued_messages=5", "mqtt.when_queue_full=drop_oldest"]);
    let (mut slow, _) = Client::connect(gateway.mqtt(), &Hello::durable(V5, "slow"));
    slow.subscribe(&[("plant/#", QoS::ExactlyOnce)]);
    let mut publisher = gateway.connect(V5, "p");
    let published = (0..8).map(|number: u8| {
        let id = publisher.send_publish("plant/1", &number.to_string(), QoS::ExactlyOnce).unwrap();
        publisher.await_frame("PUBREC", |packet| matches!(packet, Packet::PubRec(_)));
        publisher.send(&Packet::PubRel(Ack::success(id)));
        publisher.await_frame("PUBCOMP", |packet| matches!(packet, Packet::PubComp(_)));
        released_or_published(&mut slow)
    });
    let ids: Vec<_> = published.map(|(_, id, _)| id).collect();
    assert_eq!(dropped(&gateway, "backlog_oldest"), 3.0);
    // The first is finished on this connection, the second comes as far as PUBREL, the third is not answered at all.
    for id in &ids[..2] {
        slow.send(&Packet::PubRec(Ack::success(*id)));
        assert_eq!(released_or_published(&mut slow), (true, *id, Vec::new()));
    }
    slow.send(&Packet::PubComp(Ack::success(ids[0])));
    slow.ping();
    drop(slow);

    let (mut slow, present) = Client::connect(gateway.mqtt(), &Hello::durable(V5, "slow"));
    assert!(present);
    let found: Vec<_> = (0..7).map(|_| released_or_published(&mut slow)).collect();
    let released: Vec<_> =
        found.iter().filter(|(is_released, ..)| *is_released).map(|(_, id, _)| *id).collect();
    assert_eq!(released, ids[1..3]);
    let again: Vec<_> = found.iter().filter(|(is_released, ..)| !is_released).map(|(_, id, _)| *id).collect();
    assert_eq!(again, ids[3..8]);
    slow.send(&Packet::PubComp(Ack::success(ids[1])));
    // One that has not got it says so.
    let unknown = Ack { reason_code: ReasonCode::PacketIdentifierNotFound, ..Ack::success(ids[2]) };
    slow.send(&Packet::PubComp(unknown));
    slow.ping();
    drop(slow);

    let (mut slow, _) = Client::connect(gateway.mqtt(), &Hello::durable(V5, "slow"));
    assert_eq!(released_or_published(&mut slow), (false, ids[3], b"3".to_vec()));
}

#[test]
fn a_full_backlog_that_ends_its_session_gives_account_of_all_of_it() {
    let (gateway, mut publisher) = overfill("end_session");
    assert_balance(&gateway, 12, 6);
    assert_eq!(dropped(&gateway, "session_over_quota"), 6.0);
    let (mut away, present) = Client::connect(gateway.mqtt(), &Hello::durable(V5, "away"));
    assert!(!present, "it starts over, and knows it");
    away.subscribe(&[("plant/#", QOS1)]);
    for number in 0..6 {
        publisher.publish("plant/1", &number.to_string(), QOS1);
    }
    assert_eq!(away.await_close(TIMEOUT), Some(ReasonCode::QuotaExceeded));
    assert_balance(&gateway, 18, 12);
}
