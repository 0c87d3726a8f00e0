//! Traces and topics on their own: what is told, what is bounded, and that nothing is done while nobody looks.

use super::*;
use gateway_protocol::packet::{Ack, Packet, Publish};
use gateway_protocol::{PacketId, Properties, ProtocolVersion, QoS, ReasonCode};

fn wanted(client: Option<&str>, filter: Option<&str>) -> Wanted {
    Wanted { client: client.map(Into::into), filter: filter.map(Into::into) }
}

fn publish(topic: &str) -> Packet<'_> {
    Packet::Publish(Publish {
        dup: false,
        qos: QoS::AtLeastOnce,
        retain: true,
        topic,
        packet_id: PacketId::new(7),
        properties: Properties::default(),
        payload: b"21",
    })
}

#[tokio::test]
async fn a_trace_tells_of_its_client_and_its_topics_alone() {
    let lens = Arc::new(Lens::default());
    assert_eq!(lens.word(), 0);
    let mut one = lens.follow(wanted(Some("oven"), None)).unwrap();
    let mut topics = lens.follow(wanted(None, Some("a/+"))).unwrap();
    let mut tap = lens.tap("oven");
    assert_eq!(tap.word(), lens.word());
    for topic in ["a/b", "a/b/c"] {
        tap.received(&publish(topic), 9);
        tap.judged(topic, "accepted", None, || Some(2));
        tap.done(None);
    }
    tap.received_pubacks(&[0x40, 2, 0, 9]);
    let other = lens.tap("press");
    other.tell(&Line::new("press", Direction::Connection, "END"));

    let seen = one.next(10).await;
    let told: Vec<_> = seen.lines.iter().map(|line| (line.packet, line.topic.as_deref(), line.id)).collect();
    assert_eq!(
        told,
        [("PUBLISH", Some("a/b"), Some(7)), ("PUBLISH", Some("a/b/c"), Some(7)), ("PUBACK", None, Some(9))]
    );
    let json = serde_json::to_value(&seen.lines[0]).unwrap();
    assert_eq!(json["direction"], "in");
    assert_eq!(
        (json["qos"].as_u64(), json["retain"].as_bool(), json.get("dup")),
        (Some(1), Some(true), None)
    );
    assert_eq!((json["outcome"].as_str(), json["subscribers"].as_u64()), (Some("accepted"), Some(2)));
    let seen = topics.next(10).await;
    assert_eq!(seen.lines.len(), 1, "{seen:?}");

    let before = lens.word();
    drop(one);
    assert_ne!(lens.word(), before);
    assert!(lens.tap("oven").is_traced(), "for its topics");
    drop(topics);
    assert_eq!(lens.word(), 0);
    assert!(!lens.tap("oven").is_traced());
}

#[tokio::test]
async fn what_is_not_taken_in_time_is_counted_and_nothing_waits() {
    let lens = Arc::new(Lens::default());
    let mut slow = lens.follow(wanted(Some("oven"), None)).unwrap();
    let tap = lens.tap("oven");
    for _ in 0..1_500 {
        tap.tell(&Line::new("oven", Direction::In, "PINGREQ"));
    }
    let seen = slow.next(10_000).await;
    assert_eq!((seen.missed, seen.lines.len()), (1_500 - 1_024, 1_024));
    tap.tell(&Line::new("oven", Direction::In, "PINGREQ"));
    assert_eq!(slow.next(1).await.missed, 0, "it is told once");
    let others: Vec<_> = (1..TRACES_MAX).map(|_| lens.follow(wanted(None, None)).unwrap()).collect();
    assert_eq!(lens.follow(wanted(None, None)).err(), Some(TooMany));
    drop(others);
    assert!(lens.follow(wanted(None, None)).is_ok());
}

#[tokio::test]
async fn packets_on_their_way_out_are_told_one_by_one() {
    let lens = Arc::new(Lens::default());
    let mut trace = lens.follow(wanted(Some("oven"), None)).unwrap();
    let ack = Packet::PubAck(Ack {
        packet_id: PacketId::new(5).unwrap(),
        reason_code: ReasonCode::QuotaExceeded,
        properties: Properties::default(),
    });
    let mut out = Vec::new();
    for packet in [&publish("a"), &ack, &Packet::PingResp] {
        gateway_protocol::codec::encode(packet, ProtocolVersion::V5, &mut out).unwrap();
    }
    lens.tap("oven").sent(&out, ProtocolVersion::V5);
    let seen = trace.next(10).await;
    let told: Vec<_> = seen.lines.iter().map(|line| (line.direction, line.packet)).collect();
    let expected = ["PUBLISH", "PUBACK", "PINGRESP"].map(|packet| (Direction::Out, packet));
    assert_eq!(told, expected);
    assert_eq!(seen.lines[1].reason.as_deref(), Some("0x97 QuotaExceeded"));
    assert_eq!(seen.lines.iter().filter_map(|line| line.bytes).sum::<usize>(), out.len());
    let importance: Vec<_> = seen.lines.iter().map(Line::importance).collect();
    assert_eq!(importance, [Importance::Middle, Importance::Low, Importance::Low]);
}

#[test]
fn topics_are_a_tree_with_rates_of_all_that_is_below() {
    let lens = Lens::default();
    assert!(lens.look_at_topics(1_000).1);
    assert!(!lens.look_at_topics(1_000).1, "it is counted already");
    let tap = lens.tap("oven");
    // Ten a second for thirty seconds, of 100 bytes each.
    for at in 0..300 {
        tap.count(if at % 2 == 0 { "site/1/heat" } else { "site/2" }, 100, 1_000 + at * 100);
    }
    tap.count("/odd", 1, 31_000);
    let (topics, _) = lens.look_at_topics(31_000);
    let (levels, more) = topics.below(None, None, 10, 31_000);
    let names: Vec<_> = levels.iter().map(|level| (&*level.name, level.topics, level.has_children)).collect();
    assert_eq!((names, more), (vec![("", 1, true), ("site", 2, true)], false));
    let rates = levels[1].rates;
    assert_eq!(rates.events, 300);
    assert!((rates.events_per_sec - 10.0).abs() < 0.5, "{rates:?}");
    assert!((rates.bytes_per_sec - 1_000.0).abs() < 50.0, "{rates:?}");
    let (levels, more) = topics.below(Some("site"), None, 1, 31_000);
    assert_eq!((&*levels[0].name, levels[0].has_children, more), ("1", true, true));
    let (levels, more) = topics.below(Some("site"), Some("1"), 1, 31_000);
    assert_eq!((&*levels[0].name, levels[0].has_children, more), ("2", false, false));
    assert_eq!(topics.below(Some("sit"), None, 10, 31_000).0, []);
    // A minute of silence.
    let (levels, _) = topics.below(Some("site"), None, 10, 91_000);
    assert!(levels[0].rates.events_per_sec < 0.001);

    assert!(!lens.end_topics(60_000));
    assert!(lens.end_topics(61_000));
    assert_eq!(lens.word(), 0);
    assert_eq!(topics.below(None, None, 10, 61_000).0, []);
}

#[test]
fn topics_without_room_are_counted_together() {
    let topics = Topics::default();
    for number in 0..100_000 {
        topics.count(&format!("device/{number}"), 10, 1_000);
    }
    topics.count(&"x".repeat(2_000), 10, 1_000);
    let (levels, _) = topics.below(None, None, 10, 2_000);
    let other = topics.other(2_000);
    assert_eq!(levels[0].rates.events + other.events, 100_001, "nothing is lost");
    assert!(levels[0].topics <= 16 * 2_048 && other.events > 60_000, "{} {other:?}", levels[0].topics);
}
