//! CONNECT, keep alive, and the ways in which a connection ends.

use super::*;

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
fn every_reason_to_close_a_connection_gives_a_legal_disconnect() {
    for reason in (0x80..=0xFF).filter_map(ReasonCode::from_u8) {
        let mut session = connected(ProtocolVersion::V5);
        let mut out = Vec::new();
        let closed = session.close(reason, None, &mut out);
        assert_eq!(disconnect_reason(&out), Some(closed.reason), "{reason:?}");
    }
}

#[test]
fn a_client_of_version_5_is_told_which_server_to_use_instead() {
    for (version, reference, told) in [
        (ProtocolVersion::V5, "other.example:1883", Some(Some("other.example:1883"))),
        (ProtocolVersion::V5, "U+0000: \0", Some(None)),
        (ProtocolVersion::V3_1_1, "other.example:1883", None),
    ] {
        let mut session = connected(version);
        let mut out = Vec::new();
        assert_eq!(session.redirect(reference, &mut out).reason, ReasonCode::UseAnotherServer);
        let found = match decode(&out, version, 1 << 20) {
            Ok(Decoded::Packet { packet: Packet::Disconnect(disconnect), consumed }) => {
                assert_eq!((disconnect.reason_code, consumed), (ReasonCode::UseAnotherServer, out.len()));
                Some(disconnect.properties.server_reference())
            }
            _ => None,
        };
        assert_eq!((found, out.is_empty()), (told, told.is_none()), "{version:?} {reference:?}");
        assert!(session.handle_packet(Millis(1), Packet::PingReq, &mut Vec::new()).is_err(), "it is over");
    }
}

#[test]
fn every_reason_to_close_during_the_handshake_gives_a_legal_connack() {
    for version in BOTH {
        for reason in (0x80..=0xFF).filter_map(ReasonCode::from_u8) {
            let mut session = Session::new(Arc::new(limits()), Millis(0));
            let mut out = Vec::new();
            assert!(session.handle_packet(Millis(0), Packet::Connect(connect(version)), &mut out).is_ok());
            session.close(reason, None, &mut out);
            let untold = matches!(reason, ReasonCode::QosNotSupported | ReasonCode::RetainNotSupported);
            if untold && !version.is_v5() {
                assert!(out.is_empty(), "[MQTT-3.2.2-6] of 3.1.1");
            } else {
                assert_eq!(types(&out, version), [PacketType::ConnAck], "{reason:?}");
            }
        }
    }
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
    assert!(
        session
            .accept(Millis(200), Accepted { session_present: false, assigned_client_id: None }, &mut out)
            .is_ok()
    );
    assert_eq!(session.poll_timeout(), None);
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

/// What `session` says when it closes because of `why`: the Reason String, and how many bytes it takes to say it.
fn told(properties: &[Property<'_>], why: &str) -> (Option<String>, usize) {
    let mut list = PropertiesBuf::new();
    for property in properties {
        list.push(*property).expect("a legal property");
    }
    let mut session = Session::new(Arc::new(limits()), Millis(0));
    let mut out = Vec::new();
    let packet =
        Packet::Connect(Connect { properties: list.as_properties(), ..connect(ProtocolVersion::V5) });
    assert!(session.handle_packet(Millis(0), packet, &mut out).is_ok());
    let accepted = Accepted { session_present: false, assigned_client_id: None };
    assert!(session.accept(Millis(0), accepted, &mut out).is_ok());
    out.clear();
    session.close(ReasonCode::AdministrativeAction, Some(why), &mut out);
    match crate::decode(&out, ProtocolVersion::V5, 1 << 20) {
        Ok(crate::Decoded::Packet { packet: Packet::Disconnect(told), consumed }) => {
            assert_eq!((told.reason_code, consumed), (ReasonCode::AdministrativeAction, out.len()));
            (told.properties.reason_string().map(str::to_owned), consumed)
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn mqtt_3_14_2_3_a_reason_string_goes_along_where_it_fits_and_is_wanted() {
    let why = &*"it hangs, and so on and so forth; ".repeat(4);
    let (text, bytes) = told(&[], why);
    assert_eq!(text.as_deref(), Some(why));
    let most = |bytes: usize| Property::MaximumPacketSize(u32::try_from(bytes).expect("small"));
    assert_eq!(told(&[most(bytes)], why).0.as_deref(), Some(why), "just within the maximum");
    assert_eq!(told(&[most(bytes - 1)], why), (None, 4), "one byte above it");
    assert_eq!(told(&[Property::RequestProblemInformation(0)], why), (None, 4));
    assert_eq!(told(&[], "U+0000: \0"), (None, 4), "what no string may have");
}

#[test]
fn terms_of_its_own_lower_what_one_connection_may_have_and_are_told_to_version_5() {
    for (version, told) in [(ProtocolVersion::V5, true), (ProtocolVersion::V3_1_1, false)] {
        let mut session = Session::new(Arc::new(limits()), Millis(0));
        let mut out = Vec::new();
        let packet = Packet::Connect(Connect { keep_alive_secs: 60, ..connect(version) });
        assert!(session.handle_packet(Millis(0), packet, &mut out).is_ok());
        session.set_terms(2, Some(40));
        assert!(
            session
                .accept(Millis(0), Accepted { session_present: false, assigned_client_id: None }, &mut out)
                .is_ok()
        );
        let secs = if told { 40 } else { 60 };
        assert_eq!(session.poll_timeout(), Some(Millis(secs * 1500)), "{version:?}");
        if let Ok(Decoded::Packet { packet: Packet::ConnAck(connack), .. }) = decode(&out, version, 1 << 20) {
            assert_eq!(connack.properties.server_keep_alive(), told.then_some(40));
            assert_eq!(connack.properties.receive_maximum(), told.then_some(2));
        } else {
            panic!("{out:?}");
        }
        for id in 1..=2 {
            let mut out = Vec::new();
            assert!(session.handle_packet(Millis(1), publish(QoS::AtLeastOnce, id), &mut out).is_ok());
        }
        assert_eq!(session.wants_read(), told, "a 3.1.1 client is held to it by not being read");
        let third = session.handle_packet(Millis(1), publish(QoS::AtLeastOnce, 3), &mut out);
        assert_eq!(third.is_err(), told);
    }
}
