//! The state machine, driven packet by packet in virtual time.

use super::*;
use crate::codec::{Decoded, decode};
use crate::packet::PacketType;
use proptest::prelude::*;

fn limits() -> ServerLimits {
    ServerLimits {
        max_qos: QoS::AtLeastOnce,
        retain_available: false,
        wildcard_subscription_available: true,
        shared_subscription_available: false,
        subscription_identifiers_available: true,
        receive_maximum: 4,
        max_inflight: 3,
        max_packet_bytes: 1 << 20,
        server_keep_alive_secs: 0,
        topic_alias_maximum: 2,
        session_expiry_max_secs: 3600,
        allow_empty_client_id: true,
        connect_timeout_ms: 5000,
    }
}

fn connect(version: ProtocolVersion) -> Connect<'static> {
    Connect {
        version,
        clean_start: true,
        keep_alive_secs: 10,
        properties: Properties::default(),
        client_id: "device",
        will: None,
        user_name: None,
        password: None,
    }
}

fn connected(version: ProtocolVersion) -> Session {
    let mut session = Session::new(Arc::new(limits()), Millis(0));
    let mut out = Vec::new();
    let event = session.handle_packet(Millis(0), Packet::Connect(connect(version)), &mut out);
    assert!(matches!(event, Ok(Event::Connect(_))));
    assert!(out.is_empty(), "CONNACK waits for the host");
    session.accept(Millis(0), Accepted { session_present: false, assigned_client_id: None }, &mut out);
    assert_eq!(types(&out, version), [PacketType::ConnAck]);
    session
}

fn publish(qos: QoS, packet_id: u16) -> Packet<'static> {
    Packet::Publish(Publish {
        dup: false,
        qos,
        retain: false,
        topic: "devices/1",
        packet_id: PacketId::new(packet_id),
        properties: Properties::default(),
        payload: b"x",
    })
}

fn puback(packet_id: u16) -> Packet<'static> {
    Packet::PubAck(Ack {
        packet_id: PacketId::new(packet_id).expect("not 0"),
        reason_code: ReasonCode::Success,
        properties: Properties::default(),
    })
}

fn delivery(sequence: Option<u64>) -> Delivery<'static> {
    Delivery {
        qos: QoS::AtLeastOnce,
        retain: false,
        dup: false,
        sequence,
        topic: "devices/1",
        extra: &[],
        properties: &[],
        payload: b"x",
    }
}

/// Every packet in `out`, through the real decoder.
fn each(out: &[u8], version: ProtocolVersion, mut seen: impl FnMut(Packet<'_>)) {
    let mut rest = out;
    while !rest.is_empty() {
        match decode(rest, version, usize::MAX) {
            Ok(Decoded::Packet { packet, consumed }) => {
                seen(packet);
                rest = &rest[consumed..];
            }
            other => panic!("the session wrote something that is no packet: {other:?}"),
        }
    }
}

fn types(out: &[u8], version: ProtocolVersion) -> Vec<PacketType> {
    let mut types = Vec::new();
    each(out, version, |packet| types.push(packet.packet_type()));
    types
}

fn packet_ids(out: &[u8], version: ProtocolVersion) -> Vec<u16> {
    let mut ids = Vec::new();
    each(out, version, |packet| match packet {
        Packet::PubAck(ack) => ids.push(ack.packet_id.get()),
        Packet::Publish(publish) => ids.extend(publish.packet_id.map(PacketId::get)),
        _ => {}
    });
    ids
}

fn disconnect_reason(out: &[u8]) -> Option<ReasonCode> {
    let mut reason = None;
    each(out, ProtocolVersion::V5, |packet| {
        if let Packet::Disconnect(disconnect) = packet {
            reason = Some(disconnect.reason_code);
        }
    });
    reason
}

const BOTH: [ProtocolVersion; 2] = [ProtocolVersion::V3_1_1, ProtocolVersion::V5];

#[test]
fn mqtt_4_3_2_4_a_puback_leaves_only_after_the_host_took_ownership_and_in_order() {
    for version in BOTH {
        let mut session = connected(version);
        let mut out = Vec::new();
        for id in [7, 3, 9] {
            let event = session.handle_packet(Millis(1), publish(QoS::AtLeastOnce, id), &mut out);
            assert!(matches!(event, Ok(Event::Publish(_))));
        }
        assert!(out.is_empty(), "nothing is acknowledged before it is durable");
        session.handle_durable(2, &mut out);
        assert_eq!(packet_ids(&out, version), [7, 3]);
        session.handle_durable(5, &mut out);
        assert_eq!(packet_ids(&out, version), [7, 3, 9], "no more acknowledgements than publishes");
    }
}

#[test]
fn a_retransmission_of_what_is_still_pending_is_absorbed() {
    let mut session = connected(ProtocolVersion::V5);
    let mut out = Vec::new();
    assert!(matches!(
        session.handle_packet(Millis(1), publish(QoS::AtLeastOnce, 7), &mut out),
        Ok(Event::Publish(_))
    ));
    assert!(matches!(
        session.handle_packet(Millis(1), publish(QoS::AtLeastOnce, 7), &mut out),
        Ok(Event::Handled)
    ));
    session.handle_durable(1, &mut out);
    assert_eq!(packet_ids(&out, ProtocolVersion::V5), [7]);
}

#[test]
fn mqtt_4_3_2_5_the_same_identifier_after_its_puback_is_a_new_message() {
    let mut session = connected(ProtocolVersion::V5);
    let mut out = Vec::new();
    for _ in 0..3 {
        let event = session.handle_packet(Millis(1), publish(QoS::AtLeastOnce, 7), &mut out);
        assert!(matches!(event, Ok(Event::Publish(_))));
        session.handle_durable(1, &mut out);
    }
    assert_eq!(packet_ids(&out, ProtocolVersion::V5), [7, 7, 7]);
}

#[test]
fn a_publish_past_receive_maximum_ends_a_version_5_connection_and_stops_the_reading_of_an_older_one() {
    let mut out = Vec::new();
    let mut session = connected(ProtocolVersion::V5);
    for id in 1..=4 {
        assert!(session.handle_packet(Millis(1), publish(QoS::AtLeastOnce, id), &mut out).is_ok());
    }
    assert!(session.handle_packet(Millis(1), publish(QoS::AtLeastOnce, 5), &mut out).is_err());
    assert_eq!(disconnect_reason(&out), Some(ReasonCode::ReceiveMaximumExceeded));

    out.clear();
    let mut session = connected(ProtocolVersion::V3_1_1);
    for id in 1..=4 {
        assert!(session.wants_read());
        assert!(session.handle_packet(Millis(1), publish(QoS::AtLeastOnce, id), &mut out).is_ok());
    }
    assert!(!session.wants_read());
    session.handle_durable(1, &mut out);
    assert!(session.wants_read());
}

#[test]
fn a_refused_publish_is_told_so_in_its_turn() {
    let mut session = connected(ProtocolVersion::V5);
    let mut out = Vec::new();
    for id in [1, 2] {
        assert!(session.handle_packet(Millis(1), publish(QoS::AtLeastOnce, id), &mut out).is_ok());
    }
    session.refuse_publish(ReasonCode::NotAuthorized);
    session.handle_durable(2, &mut out);
    let mut reasons = Vec::new();
    each(&out, ProtocolVersion::V5, |packet| {
        if let Packet::PubAck(ack) = packet {
            reasons.push(ack.reason_code);
        }
    });
    assert_eq!(reasons, [ReasonCode::Success, ReasonCode::NotAuthorized]);
}

#[test]
fn mqtt_3_1_0_2_a_second_connect_closes() {
    let mut session = connected(ProtocolVersion::V5);
    let mut out = Vec::new();
    assert!(
        session.handle_packet(Millis(1), Packet::Connect(connect(ProtocolVersion::V5)), &mut out).is_err()
    );
    assert_eq!(disconnect_reason(&out), Some(ReasonCode::ProtocolError));
    out.clear();
    assert!(session.handle_packet(Millis(1), Packet::PingReq, &mut out).is_err());
    assert!(out.is_empty(), "[MQTT-3.14.4-1] nothing is sent after DISCONNECT");
}

#[test]
fn mqtt_3_1_0_1_anything_but_connect_first_closes_without_a_word() {
    for packet in [Packet::PingReq, publish(QoS::AtMostOnce, 0), puback(1)] {
        let mut session = Session::new(Arc::new(limits()), Millis(0));
        let mut out = Vec::new();
        assert!(session.handle_packet(Millis(1), packet, &mut out).is_err());
        assert!(out.is_empty());
    }
}

#[test]
fn every_reason_to_close_during_the_handshake_gives_a_legal_connack() {
    for version in BOTH {
        for reason in (0x80..=0xFF).filter_map(ReasonCode::from_u8) {
            let mut session = Session::new(Arc::new(limits()), Millis(0));
            let mut out = Vec::new();
            assert!(session.handle_packet(Millis(0), Packet::Connect(connect(version)), &mut out).is_ok());
            session.close(reason, &mut out);
            assert_eq!(types(&out, version), [PacketType::ConnAck], "{reason:?}");
        }
    }
}

#[test]
fn mqtt_3_3_4_6_a_client_may_not_publish_with_a_subscription_identifier() {
    let mut properties = PropertiesBuf::new();
    properties.push(Property::SubscriptionIdentifier(1)).expect("a number");
    let mut session = connected(ProtocolVersion::V5);
    let mut out = Vec::new();
    let Packet::Publish(publish) = publish(QoS::AtMostOnce, 0) else { unreachable!() };
    let packet = Packet::Publish(Publish { properties: properties.as_properties(), ..publish });
    assert!(session.handle_packet(Millis(1), packet, &mut out).is_err());
    assert_eq!(disconnect_reason(&out), Some(ReasonCode::ProtocolError));
}

#[test]
fn mqtt_3_1_2_22_silence_of_one_and_a_half_keep_alive_closes() {
    let mut session = connected(ProtocolVersion::V5);
    let mut out = Vec::new();
    assert_eq!(session.poll_timeout(), Some(Millis(15_000)));
    assert!(session.handle_packet(Millis(9_000), Packet::PingReq, &mut out).is_ok());
    assert_eq!(session.poll_timeout(), Some(Millis(24_000)));
    assert_eq!(session.handle_timeout(Millis(23_999), &mut out), Ok(()));
    out.clear();
    assert!(session.handle_timeout(Millis(24_000), &mut out).is_err());
    assert_eq!(disconnect_reason(&out), Some(ReasonCode::KeepAliveTimeout));
    assert_eq!(session.poll_timeout(), None);
}

#[test]
fn keep_alive_0_waits_for_ever_and_a_missing_connect_does_not() {
    let mut session = Session::new(Arc::new(limits()), Millis(100));
    let mut out = Vec::new();
    assert_eq!(session.poll_timeout(), Some(Millis(5_100)));
    let packet = Packet::Connect(Connect { keep_alive_secs: 0, ..connect(ProtocolVersion::V3_1_1) });
    assert!(session.handle_packet(Millis(200), packet, &mut out).is_ok());
    session.accept(Millis(200), Accepted { session_present: false, assigned_client_id: None }, &mut out);
    assert_eq!(session.poll_timeout(), None);
}

#[test]
fn mqtt_3_3_4_9_no_more_is_in_flight_than_receive_maximum() {
    let mut session = connected(ProtocolVersion::V5);
    let mut out = Vec::new();
    for _ in 0..3 {
        assert_eq!(session.handle_delivery(&delivery(None), &mut out), Sent::Written);
    }
    assert_eq!(session.handle_delivery(&delivery(None), &mut out), Sent::QuotaExhausted);
    let at_most_once = Delivery { qos: QoS::AtMostOnce, ..delivery(None) };
    assert_eq!(session.handle_delivery(&at_most_once, &mut out), Sent::Written, "[MQTT-3.3.4-10]");
    let ids = packet_ids(&out, ProtocolVersion::V5);
    assert!(matches!(
        session.handle_packet(Millis(1), puback(ids[1]), &mut out),
        Ok(Event::Acknowledged { lane: Lane::Live, sequence: 1, .. })
    ));
    assert_eq!(session.handle_delivery(&delivery(None), &mut out), Sent::Written);
}

#[test]
fn mqtt_4_4_0_1_a_message_keeps_its_identifier_across_connections() {
    let mut first = connected(ProtocolVersion::V3_1_1);
    let mut out = Vec::new();
    for sequence in 49_150..49_153 {
        assert_eq!(first.handle_delivery(&delivery(Some(sequence)), &mut out), Sent::Written);
    }
    let before = packet_ids(&out, ProtocolVersion::V3_1_1);
    assert_eq!(before, [49_151, 1, 2], "identifiers wrap round within their lane");

    let mut second = connected(ProtocolVersion::V3_1_1);
    second.resume(49_150, []);
    out.clear();
    for sequence in 49_150..49_153 {
        let again = Delivery { dup: true, ..delivery(Some(sequence)) };
        assert_eq!(second.handle_delivery(&again, &mut out), Sent::Written);
    }
    assert_eq!(packet_ids(&out, ProtocolVersion::V3_1_1), before);
    each(&out, ProtocolVersion::V3_1_1, |packet| {
        assert!(matches!(packet, Packet::Publish(Publish { dup: true, .. })));
    });
}

#[test]
fn mqtt_3_1_2_25_what_is_too_large_for_the_client_is_not_sent_and_not_in_flight() {
    let mut properties = PropertiesBuf::new();
    properties.push(Property::MaximumPacketSize(20)).expect("a number");
    let mut session = Session::new(Arc::new(limits()), Millis(0));
    let mut out = Vec::new();
    let packet =
        Packet::Connect(Connect { properties: properties.as_properties(), ..connect(ProtocolVersion::V5) });
    assert!(session.handle_packet(Millis(0), packet, &mut out).is_ok());
    session.accept(Millis(0), Accepted { session_present: false, assigned_client_id: None }, &mut out);
    out.clear();
    let large = Delivery { payload: &[0; 64], ..delivery(None) };
    assert_eq!(session.handle_delivery(&large, &mut out), Sent::TooLarge);
    assert!(out.is_empty());
    assert_eq!(session.send_quota(), 3);
}

#[test]
fn an_acknowledgement_of_what_is_not_in_flight_changes_nothing() {
    let mut session = connected(ProtocolVersion::V5);
    let mut out = Vec::new();
    for id in [1, 49_151, 49_152, 65_535] {
        assert!(matches!(session.handle_packet(Millis(1), puback(id), &mut out), Ok(Event::Handled)));
    }
    assert_eq!(session.send_quota(), 3);
}

#[test]
fn mqtt_3_1_3_8_a_nameless_3_1_1_client_must_want_a_clean_session() {
    let mut session = Session::new(Arc::new(limits()), Millis(0));
    let mut out = Vec::new();
    let nameless = Connect { client_id: "", clean_start: false, ..connect(ProtocolVersion::V3_1_1) };
    assert!(session.handle_packet(Millis(0), Packet::Connect(nameless), &mut out).is_err());
    assert_eq!(out, [0x20, 2, 0, 2], "CONNACK with return code 2");
}

#[test]
fn a_session_that_ends_with_its_connection_can_not_be_kept_by_disconnect() {
    let mut session = connected(ProtocolVersion::V5);
    let mut properties = PropertiesBuf::new();
    properties.push(Property::SessionExpiryInterval(60)).expect("a number");
    let mut out = Vec::new();
    let packet = Packet::Disconnect(Disconnect {
        reason_code: ReasonCode::Success,
        properties: properties.as_properties(),
    });
    assert!(session.handle_packet(Millis(1), packet, &mut out).is_err());
    assert_eq!(disconnect_reason(&out), Some(ReasonCode::ProtocolError));
}

fn acknowledgement(packet: fn(Ack<'static>) -> Packet<'static>, id: u16) -> Packet<'static> {
    packet(Ack {
        packet_id: PacketId::new(id).expect("not 0"),
        reason_code: ReasonCode::Success,
        properties: Properties::default(),
    })
}

fn exactly_once(version: ProtocolVersion) -> Session {
    let mut session =
        Session::new(Arc::new(ServerLimits { max_qos: QoS::ExactlyOnce, ..limits() }), Millis(0));
    let mut out = Vec::new();
    assert!(session.handle_packet(Millis(0), Packet::Connect(connect(version)), &mut out).is_ok());
    session.accept(Millis(0), Accepted { session_present: false, assigned_client_id: None }, &mut out);
    session
}

#[test]
fn mqtt_4_3_3_10_a_repeated_qos_2_publish_gets_its_pubrec_again_and_is_no_new_message() {
    for version in BOTH {
        let mut session = exactly_once(version);
        let mut out = Vec::new();
        let event = session.handle_packet(Millis(1), publish(QoS::ExactlyOnce, 9), &mut out);
        assert!(matches!(event, Ok(Event::Publish(_))));
        assert!(out.is_empty(), "PUBREC is a receipt too");
        session.handle_durable(1, &mut out);
        assert_eq!(types(&out, version), [PacketType::PubRec]);
        let event = session.handle_packet(Millis(1), publish(QoS::ExactlyOnce, 9), &mut out);
        assert!(matches!(event, Ok(Event::Handled)));
        assert_eq!(types(&out, version), [PacketType::PubRec; 2]);
        out.clear();
        let event = session.handle_packet(Millis(1), acknowledgement(Packet::PubRel, 9), &mut out);
        assert!(matches!(event, Ok(Event::Released { packet_id }) if packet_id.get() == 9));
        assert!(out.is_empty(), "PUBCOMP waits until the identifier is forgotten durably");
        session.handle_released(PacketId::new(9).expect("not 0"), &mut out);
        assert_eq!(types(&out, version), [PacketType::PubComp]);
        let event = session.handle_packet(Millis(1), publish(QoS::ExactlyOnce, 9), &mut out);
        assert!(matches!(event, Ok(Event::Publish(_))), "[MQTT-4.3.3-12]");
    }
}

#[test]
fn a_qos_2_publish_of_an_earlier_connection_is_not_taken_twice() {
    let mut session = exactly_once(ProtocolVersion::V3_1_1);
    session.resume(0, PacketId::new(9));
    let mut out = Vec::new();
    let event = session.handle_packet(Millis(1), publish(QoS::ExactlyOnce, 9), &mut out);
    assert!(matches!(event, Ok(Event::Handled)));
    assert_eq!(types(&out, ProtocolVersion::V3_1_1), [PacketType::PubRec]);
}

#[test]
fn mqtt_4_3_3_4_pubrel_follows_pubrec_once_that_is_remembered() {
    for version in BOTH {
        let mut session = exactly_once(version);
        let mut out = Vec::new();
        let sent = Delivery { qos: QoS::ExactlyOnce, ..delivery(Some(0)) };
        assert_eq!(session.handle_delivery(&sent, &mut out), Sent::Written);
        out.clear();
        for _ in 0..2 {
            let event = session.handle_packet(Millis(1), acknowledgement(Packet::PubRec, 1), &mut out);
            assert!(matches!(event, Ok(Event::Received { sequence: 0 } | Event::Handled)));
            assert!(out.is_empty());
        }
        session.handle_remembered(0, &mut out);
        assert_eq!(types(&out, version), [PacketType::PubRel]);
        assert_eq!(session.send_quota(), 2, "until PUBCOMP");
        let event = session.handle_packet(Millis(1), acknowledgement(Packet::PubComp, 1), &mut out);
        assert!(matches!(event, Ok(Event::Acknowledged { lane: Lane::Durable, sequence: 0, .. })));
        assert_eq!(session.send_quota(), 3);
    }
}

#[test]
fn mqtt_4_4_0_1_a_resumed_release_repeats_pubrel_and_not_the_message() {
    let mut session = exactly_once(ProtocolVersion::V5);
    session.resume(5, []);
    let mut out = Vec::new();
    assert!(session.resume_release(5, &mut out));
    let sent = Delivery { qos: QoS::ExactlyOnce, dup: true, ..delivery(Some(6)) };
    assert_eq!(session.handle_delivery(&sent, &mut out), Sent::Written);
    assert_eq!(types(&out, ProtocolVersion::V5), [PacketType::PubRel, PacketType::Publish]);
    let event = session.handle_packet(Millis(1), acknowledgement(Packet::PubComp, 6), &mut out);
    assert!(matches!(event, Ok(Event::Acknowledged { sequence: 5, .. })));
}

#[test]
fn a_live_qos_2_delivery_needs_no_storage_between_pubrec_and_pubrel() {
    let mut session = exactly_once(ProtocolVersion::V5);
    let mut out = Vec::new();
    let sent = Delivery { qos: QoS::ExactlyOnce, ..delivery(None) };
    assert_eq!(session.handle_delivery(&sent, &mut out), Sent::Written);
    let id = packet_ids(&out, ProtocolVersion::V5)[0];
    out.clear();
    assert!(session.handle_packet(Millis(1), acknowledgement(Packet::PubRec, id), &mut out).is_ok());
    assert_eq!(types(&out, ProtocolVersion::V5), [PacketType::PubRel]);
    let event = session.handle_packet(Millis(1), acknowledgement(Packet::PubComp, id), &mut out);
    assert!(matches!(event, Ok(Event::Acknowledged { lane: Lane::Live, .. })));
}

fn aliased(topic: &'static str, alias: u16) -> Result<String, ReasonCode> {
    let mut session = connected(ProtocolVersion::V5);
    let mut out = Vec::new();
    let mut topics = Vec::new();
    for (topic, alias) in [("devices/1", 1), ("devices/2", 2), ("devices/3", 1), (topic, alias)] {
        let mut properties = PropertiesBuf::new();
        properties.push(Property::TopicAlias(alias)).expect("a number");
        let Packet::Publish(publish) = publish(QoS::AtMostOnce, 0) else { unreachable!() };
        let packet = Packet::Publish(Publish { topic, properties: properties.as_properties(), ..publish });
        match session.handle_packet(Millis(1), packet, &mut out) {
            Ok(Event::Publish(publish)) => topics.push(session.topic_of(&publish).to_owned()),
            Ok(_) => {}
            Err(closed) => return Err(closed.reason),
        }
    }
    Ok(topics.pop().expect("the last one"))
}

#[test]
fn mqtt_3_3_2_10_every_alias_up_to_the_announced_maximum_is_taken_and_no_other() {
    assert_eq!(aliased("", 1), Ok("devices/3".to_owned()), "an alias may be given anew");
    assert_eq!(aliased("", 2), Ok("devices/2".to_owned()));
    assert_eq!(aliased("devices/4", 2), Ok("devices/4".to_owned()));
    assert_eq!(aliased("devices/4", 3), Err(ReasonCode::TopicAliasInvalid));
    let mut fresh = connected(ProtocolVersion::V5);
    let mut properties = PropertiesBuf::new();
    properties.push(Property::TopicAlias(1)).expect("a number");
    let Packet::Publish(publish) = publish(QoS::AtMostOnce, 0) else { unreachable!() };
    let packet = Packet::Publish(Publish { topic: "", properties: properties.as_properties(), ..publish });
    assert!(fresh.handle_packet(Millis(1), packet, &mut Vec::new()).is_err(), "an alias nobody gave");
}

#[test]
fn mqtt_3_1_2_26_aliases_towards_the_client_stay_within_its_maximum() {
    for maximum in [0u16, 1, 2] {
        let mut properties = PropertiesBuf::new();
        properties.push(Property::TopicAliasMaximum(maximum)).expect("a number");
        let mut session = Session::new(Arc::new(limits()), Millis(0));
        let mut out = Vec::new();
        let packet = Packet::Connect(Connect {
            properties: properties.as_properties(),
            ..connect(ProtocolVersion::V5)
        });
        assert!(session.handle_packet(Millis(0), packet, &mut out).is_ok());
        session.accept(Millis(0), Accepted { session_present: false, assigned_client_id: None }, &mut out);
        out.clear();
        for topic in ["a", "b", "c", "a", "b", "c"] {
            let sent = Delivery { qos: QoS::AtMostOnce, topic, ..delivery(None) };
            assert_eq!(session.handle_delivery(&sent, &mut out), Sent::Written);
        }
        let mut seen = Vec::new();
        each(&out, ProtocolVersion::V5, |packet| {
            let Packet::Publish(publish) = packet else { panic!("only publishes were sent") };
            seen.push((publish.topic.to_owned(), publish.properties.topic_alias().unwrap_or(0)));
        });
        let expected: &[(&str, u16)] = match maximum {
            0 => &[("a", 0), ("b", 0), ("c", 0), ("a", 0), ("b", 0), ("c", 0)],
            1 => &[("a", 1), ("b", 0), ("c", 0), ("", 1), ("b", 0), ("c", 0)],
            _ => &[("a", 1), ("b", 2), ("c", 0), ("", 1), ("", 2), ("c", 0)],
        };
        let expected: Vec<_> = expected.iter().map(|(topic, alias)| ((*topic).to_owned(), *alias)).collect();
        assert_eq!(seen, expected);
    }
}

proptest! {
    /// Whatever is sent and acknowledged in whatever order: no identifier is in flight twice, each acknowledgement finds its own
    /// message, and the quota comes back.
    #[test]
    fn identifiers_in_flight_are_distinct(
        start in prop_oneof![Just(0u64), 49_000u64..49_400, any::<u32>().prop_map(u64::from)],
        steps in proptest::collection::vec((0u8..4, any::<prop::sample::Index>(), 1u64..3), 1..300),
    ) {
        let mut session = Session::new(
            Arc::new(ServerLimits { max_inflight: 200, ..limits() }), Millis(0));
        let mut out = Vec::new();
        let packet = Packet::Connect(connect(ProtocolVersion::V5));
        prop_assert!(session.handle_packet(Millis(0), packet, &mut out).is_ok());
        session.accept(Millis(0), Accepted { session_present: true, assigned_client_id: None }, &mut out);
        session.resume(start, []);
        let (mut next, mut live) = (start, 0);
        let mut in_flight: Vec<(u16, Lane, u64)> = Vec::new();
        for (kind, which, skip) in steps {
            out.clear();
            match kind {
                0 | 1 => {
                    let sequence = (kind == 0).then_some(next);
                    let sent = session.handle_delivery(&delivery(sequence), &mut out);
                    if in_flight.len() == 200 {
                        prop_assert_eq!(sent, Sent::QuotaExhausted);
                        continue;
                    }
                    prop_assert_eq!(sent, Sent::Written);
                    let id = packet_ids(&out, ProtocolVersion::V5)[0];
                    prop_assert!(in_flight.iter().all(|(other, ..)| *other != id));
                    if kind == 0 {
                        in_flight.push((id, Lane::Durable, next));
                        next += skip; // sequences may be passed over
                    } else {
                        in_flight.push((id, Lane::Live, live));
                        live += 1;
                    }
                }
                _ if in_flight.is_empty() => {}
                _ => {
                    let (id, expected_lane, expected) = in_flight.swap_remove(which.index(in_flight.len()));
                    match session.handle_packet(Millis(1), puback(id), &mut out) {
                        Ok(Event::Acknowledged { lane, sequence, .. }) => {
                            prop_assert_eq!((lane, sequence), (expected_lane, expected));
                        }
                        other => prop_assert!(false, "{:?}", other),
                    }
                }
            }
            prop_assert_eq!(session.send_quota(), 200 - in_flight.len());
        }
    }
}
