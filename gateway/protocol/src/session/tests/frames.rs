//! Frames for many clients against deliveries one by one: the same bytes, the same state.

use super::*;
use crate::session::{FrameOf, Frames};

const MESSAGES: [(QoS, &str, &[u8]); 5] = [
    (QoS::AtMostOnce, "a", b""),
    (QoS::AtLeastOnce, "devices/1", b"one"),
    (QoS::ExactlyOnce, "devices/2", b"at most once more than once"),
    (QoS::AtLeastOnce, "devices/3", &[7; 200]),
    (QoS::AtLeastOnce, "devices/4", b"over the window"),
];
/// A User Property, in wire form.
const PROPERTIES: &[u8] = b"\x26\0\x01k\0\x01v";

fn frames(version: ProtocolVersion, granted: QoS) -> Frames {
    let mut frames = Frames::with_capacity(version, 0, 0);
    for (qos, topic, payload) in MESSAGES {
        let qos = qos.min(granted);
        assert!(frames.push(&FrameOf { qos, retain: false, topic, properties: PROPERTIES, payload }));
    }
    frames
}

fn one_by_one(session: &mut Session, granted: QoS, out: &mut Vec<u8>) -> usize {
    let each = MESSAGES.into_iter().take_while(|(qos, topic, payload)| {
        let qos = (*qos).min(granted);
        let sent = Delivery { qos, topic, payload, properties: PROPERTIES, ..delivery(None) };
        session.handle_delivery(&sent, out) == Sent::Written
    });
    each.count()
}

#[test]
fn frames_are_what_deliveries_one_by_one_would_be() {
    for version in [ProtocolVersion::V3_1_1, ProtocolVersion::V5] {
        for granted in [QoS::AtMostOnce, QoS::AtLeastOnce] {
            let (mut shared, mut single) = (connected(version), connected(version));
            let (mut got, mut expected) = (b"before".to_vec(), b"before".to_vec());
            let frames = frames(version, granted);
            assert!(shared.takes_frames(frames.own()));
            let (taken, in_flight) =
                shared.handle_frames(frames.own(), 0..frames.len(), usize::MAX, &mut got);
            assert_eq!(taken, one_by_one(&mut single, granted, &mut expected));
            assert_eq!(got, expected, "{version:?} {granted:?}");
            assert_eq!(shared.send_quota(), single.send_quota());
            assert_eq!(in_flight, single.live_in_flight());
            // The window of three is used up by the fourth message; an acknowledgement makes room for the rest.
            if granted == QoS::AtLeastOnce {
                assert_eq!((taken, shared.send_quota()), (4, 0));
                assert_eq!(shared.handle_frames(frames.own(), 4..5, usize::MAX, &mut got), (0, 0));
                let first = packet_ids(&got[6..], version)[0];
                shared.handle_packet(Millis(0), puback(first), &mut Vec::new()).unwrap();
                assert_eq!(shared.handle_frames(frames.own(), 4..5, usize::MAX, &mut got), (1, 1));
            }
        }
    }
}

#[test]
fn no_more_is_sent_than_there_is_room_for_but_one_at_least() {
    let version = ProtocolVersion::V5;
    let frames = frames(version, QoS::AtMostOnce);
    let mut session = connected(version);
    let mut out = Vec::new();
    assert_eq!(session.handle_frames(frames.own(), 0..5, 0, &mut out), (1, 0));
    let first = out.len();
    assert_eq!(session.handle_frames(frames.own(), 1..5, 72, &mut out), (2, 0));
    assert!(out.len() - first <= 72);
    assert_eq!(session.handle_frames(frames.own(), 3..5, usize::MAX, &mut out), (2, 0));
    assert_eq!(types(&out, version), [PacketType::Publish; 5]);
}

#[test]
fn frames_that_are_passed_on_are_those_that_would_be_copied() {
    for version in [ProtocolVersion::V3_1_1, ProtocolVersion::V5] {
        let frames = frames(version, QoS::AtMostOnce);
        let mut session = connected(version);
        for start in 0..frames.len() {
            for end in start + 1..=frames.len() {
                for room in 0..400 {
                    let mut copied = Vec::new();
                    let (sent, _) = session.handle_frames(frames.own(), start..end, room, &mut copied);
                    let (passed, place) = session.pass_frames(frames.own(), start..end, room).unwrap();
                    assert_eq!(passed, sent, "{start}..{end} in {room} bytes");
                    assert_eq!(frames.own().bytes(place), copied);
                }
            }
        }
        assert_eq!(session.pass_frames(frames.own(), 0..0, usize::MAX), None);
        assert_eq!(session.pass_frames(frames.own(), 4..6, usize::MAX), None, "there are five");
        session.close(ReasonCode::ServerBusy, None, &mut Vec::new());
        assert_eq!(session.pass_frames(frames.own(), 0..5, usize::MAX), None);
    }
}

#[test]
fn frames_with_identifiers_are_not_passed_on() {
    let version = ProtocolVersion::V5;
    let session = connected(version);
    let mixed = frames(version, QoS::AtLeastOnce);
    assert!(session.takes_frames(mixed.own()));
    assert_eq!(session.pass_frames(mixed.own(), 0..1, usize::MAX), None);
    let mut located = Frames::with_capacity(version, 0, 0);
    assert!(located.locate(0..9, QoS::AtMostOnce, 3));
    let bytes = [0; 20];
    assert_eq!(session.pass_frames(located.within(&bytes), 0..1, 0), Some((1, 0..9)));
    assert!(located.locate(9..20, QoS::AtLeastOnce, 3));
    assert_eq!(session.pass_frames(located.within(&bytes), 0..1, 0), None);
    assert_eq!(connected(ProtocolVersion::V3_1_1).pass_frames(mixed.own(), 0..1, 0), None);
}

#[test]
fn frames_are_for_clients_of_their_version_without_aliases_and_large_enough() {
    let frames = frames(ProtocolVersion::V5, QoS::AtMostOnce);
    assert!(!connected(ProtocolVersion::V3_1_1).takes_frames(frames.own()));
    for property in [Property::TopicAliasMaximum(1), Property::MaximumPacketSize(64)] {
        let mut properties = PropertiesBuf::new();
        properties.push(property).unwrap();
        let mut session = Session::new(Arc::new(limits()), Millis(0));
        let mut out = Vec::new();
        let connect = Connect { properties: properties.as_properties(), ..connect(ProtocolVersion::V5) };
        assert!(session.handle_packet(Millis(0), Packet::Connect(connect), &mut out).is_ok());
        let accepted = Accepted { session_present: false, assigned_client_id: None };
        assert!(session.accept(Millis(0), accepted, &mut out).is_ok());
        assert!(!session.takes_frames(frames.own()), "{property:?}");
    }
}

#[test]
fn packets_as_they_were_received_are_frames_but_for_their_identifiers() {
    let version = ProtocolVersion::V5;
    let granted = QoS::AtLeastOnce;
    let messages = MESSAGES.iter().filter(|(qos, ..)| *qos != QoS::ExactlyOnce);
    let (mut received, mut frames) = (b"elsewhere".to_vec(), Frames::with_capacity(version, 0, 0));
    let (mut single, mut expected) = (connected(version), Vec::new());
    for (qos, topic, payload) in messages {
        let start = received.len();
        let packet = Publish {
            dup: false,
            qos: *qos,
            retain: false,
            topic,
            packet_id: (*qos != QoS::AtMostOnce).then(|| PacketId::new(77)).flatten(),
            properties: Properties::default(),
            payload,
        };
        encode(&Packet::Publish(packet), version, &mut received).unwrap();
        assert!(frames.locate(start..received.len(), *qos, 1 + payload.len()));
        let sent = Delivery { qos: (*qos).min(granted), topic, payload, ..delivery(None) };
        assert_eq!(single.handle_delivery(&sent, &mut expected), Sent::Written);
    }
    let mut session = connected(version);
    let mut out = Vec::new();
    let there = frames.within(&received);
    assert!(session.takes_frames(there));
    assert_eq!(session.handle_frames(there, 0..1, usize::MAX, &mut out), (1, 0));
    assert_eq!(session.handle_frames(there, 1..4, usize::MAX, &mut out), (3, 3));
    assert_eq!(out, expected);
    assert!(!Frames::with_capacity(version, 0, 0).locate(0..9, QoS::ExactlyOnce, 0));
}
