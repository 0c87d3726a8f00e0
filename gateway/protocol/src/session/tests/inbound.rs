//! Publishes from the client.

use super::*;

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

/// The acknowledgements of three publishes of which the second was there already, as Reason Code and User Properties.
fn acknowledge_second_as_duplicate(
    qos: QoS,
    version: ProtocolVersion,
    properties: &PropertiesBuf,
) -> Vec<(ReasonCode, Vec<(String, String)>)> {
    let mut session =
        Session::new(Arc::new(ServerLimits { max_qos: QoS::ExactlyOnce, ..limits() }), Millis(0));
    let mut out = Vec::new();
    let connect = Connect { properties: properties.as_properties(), ..connect(version) };
    assert!(session.handle_packet(Millis(0), Packet::Connect(connect), &mut out).is_ok());
    let accepted = Accepted { session_present: false, assigned_client_id: None };
    assert!(session.accept(Millis(0), accepted, &mut out).is_ok());
    out.clear();
    for id in 1..=3 {
        assert!(session.handle_packet(Millis(1), publish(qos, id), &mut out).is_ok());
        if id == 2 {
            session.mark_duplicate();
        }
    }
    session.handle_durable(3, &mut out);
    let mut acks = Vec::new();
    each(&out, version, |packet| {
        let (Packet::PubAck(ack) | Packet::PubRec(ack)) = packet else { panic!("{packet:?}") };
        let properties = ack.properties.user_properties();
        let properties = properties.map(|(name, value)| (name.to_owned(), value.to_owned()));
        acks.push((ack.reason_code, properties.collect()));
    });
    acks
}

#[test]
fn a_duplicate_is_acknowledged_in_its_turn_and_told_so_where_that_is_legal() {
    let told = vec![(DUPLICATE_PROPERTY.0.to_owned(), DUPLICATE_PROPERTY.1.to_owned())];
    for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
        let acks = acknowledge_second_as_duplicate(qos, ProtocolVersion::V5, &PropertiesBuf::new());
        let properties: Vec<_> = acks.iter().map(|(_, properties)| properties.clone()).collect();
        assert_eq!(properties, [vec![], told.clone(), vec![]], "{qos:?}");
        let mut refuses = PropertiesBuf::new();
        refuses.push(Property::RequestProblemInformation(0)).unwrap();
        let mut small = PropertiesBuf::new();
        small.push(Property::MaximumPacketSize(29)).unwrap();
        for (version, properties) in [
            (ProtocolVersion::V5, &refuses),
            (ProtocolVersion::V5, &small),
            (ProtocolVersion::V3_1_1, &refuses),
        ] {
            let properties = if version.is_v5() { properties.clone() } else { PropertiesBuf::new() };
            let acks = acknowledge_second_as_duplicate(qos, version, &properties);
            assert_eq!(acks, vec![(ReasonCode::Success, vec![]); 3], "{qos:?} {version:?} {properties:?}");
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
