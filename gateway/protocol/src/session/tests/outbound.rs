//! Deliveries to the client.

use super::*;
use proptest::prelude::*;

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
fn a_long_run_of_numbers_passed_over_stops_nothing() {
    let mut session = connected(ProtocolVersion::V5);
    session.resume(5, []);
    let mut out = Vec::new();
    let far = 5 + 2 * u64::from(DURABLE_IDENTIFIERS); // what lies between had expired, or went at QoS 0
    assert_eq!(session.handle_delivery(&delivery(Some(far)), &mut out), Sent::Written);
    let id = packet_ids(&out, ProtocolVersion::V5)[0];
    let too_far = far + u64::from(DURABLE_IDENTIFIERS);
    assert_eq!(session.handle_delivery(&delivery(Some(too_far)), &mut out), Sent::QuotaExhausted);
    assert!(matches!(
        session.handle_packet(Millis(1), puback(id), &mut out),
        Ok(Event::Acknowledged { lane: Lane::Durable, sequence, .. }) if sequence == far
    ));
    assert_eq!(session.handle_delivery(&delivery(Some(too_far)), &mut out), Sent::Written);
}

#[test]
fn mqtt_3_1_2_25_what_is_too_large_for_the_client_is_not_sent_and_not_in_flight() {
    let mut properties = PropertiesBuf::new();
    properties.push(Property::MaximumPacketSize(60)).expect("a number");
    let mut session = Session::new(Arc::new(limits()), Millis(0));
    let mut out = Vec::new();
    let packet =
        Packet::Connect(Connect { properties: properties.as_properties(), ..connect(ProtocolVersion::V5) });
    assert!(session.handle_packet(Millis(0), packet, &mut out).is_ok());
    assert!(
        session
            .accept(Millis(0), Accepted { session_present: false, assigned_client_id: None }, &mut out)
            .is_ok()
    );
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

/// The client keeps the identifier of a message it has, past the end of the connection, until PUBREL: another message under it
/// would be taken for a repetition and dropped. Identifiers of the live lane begin again on each connection.
#[test]
fn mqtt_4_3_3_2_a_client_that_may_resume_gets_nothing_at_qos_2_in_the_live_lane() {
    for (expiry_secs, expected) in [(0, QoS::ExactlyOnce), (60, QoS::AtLeastOnce)] {
        let mut properties = PropertiesBuf::new();
        properties.push(Property::SessionExpiryInterval(expiry_secs)).expect("a number");
        let mut session =
            Session::new(Arc::new(ServerLimits { max_qos: QoS::ExactlyOnce, ..limits() }), Millis(0));
        let mut out = Vec::new();
        let packet = Packet::Connect(Connect {
            properties: properties.as_properties(),
            ..connect(ProtocolVersion::V5)
        });
        assert!(session.handle_packet(Millis(0), packet, &mut out).is_ok());
        let accepted = Accepted { session_present: false, assigned_client_id: None };
        assert!(session.accept(Millis(0), accepted, &mut out).is_ok());
        out.clear();
        let sent = Delivery { qos: QoS::ExactlyOnce, ..delivery(None) };
        assert_eq!(session.handle_delivery(&sent, &mut out), Sent::Written);
        each(&out, ProtocolVersion::V5, |packet| {
            assert!(matches!(packet, Packet::Publish(publish) if publish.qos == expected));
        });
    }
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
        assert!(
            session
                .accept(Millis(0), Accepted { session_present: false, assigned_client_id: None }, &mut out)
                .is_ok()
        );
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
        assert!(session.accept(Millis(0), Accepted { session_present: true, assigned_client_id: None }, &mut out).is_ok());
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

proptest! {
    /// Identifiers in flight, free, 0 and repeated; with and without a Reason Code; whole and cut off.
    #[test]
    fn pubacks_taken_at_once_mean_what_each_of_them_means(
        ids in prop::collection::vec((0..8_u16, 0..16_u8), 0..12),
        cut in 0..4_usize,
    ) {
        let mut bytes = Vec::new();
        for (id, reason) in ids {
            let [high, low] = if id < 4 { id } else { DURABLE_IDENTIFIERS + id - 3 }.to_be_bytes();
            match reason {
                0 => bytes.extend([0x40, 3, high, low, 0x10]),
                1 => bytes.extend([0xC0, 0]),
                _ => bytes.extend([0x40, 2, high, low]),
            }
        }
        bytes.truncate(bytes.len().saturating_sub(cut));
        let run = |at_once: bool| {
            let (mut session, mut out) = (connected(ProtocolVersion::V5), Vec::new());
            for sequence in [Some(0), Some(1), None] {
                assert_eq!(session.handle_delivery(&delivery(sequence), &mut out), Sent::Written);
            }
            let (mut taken, mut rest) = (Vec::new(), &bytes[..]);
            loop {
                if at_once {
                    let count = session.handle_pubacks(Millis(7), rest, |lane, sequence| taken.push((lane, sequence)));
                    rest = &rest[4 * count..];
                }
                let Ok(Decoded::Packet { packet, consumed }) = decode(rest, ProtocolVersion::V5, usize::MAX) else {
                    break;
                };
                if let Ok(Event::Acknowledged { lane, sequence, .. }) =
                    session.handle_packet(Millis(7), packet, &mut out)
                {
                    taken.push((lane, sequence));
                }
                rest = &rest[consumed..];
            }
            (taken, rest.len(), session.send_quota(), session.poll_timeout(), out)
        };
        prop_assert_eq!(run(true), run(false));
    }
}
