//! The corpus of malformed packets against the decoder: each is refused, with the Reason Code the text gives it.

use std::collections::{BTreeMap, HashSet};

use gateway_protocol::codec::Publishes;
use gateway_protocol::testing::{malformed_packets, valid_packets};
use gateway_protocol::{DecodeError, Decoded, ProtocolVersion, ReasonCode, decode, encode};

const MAX_PACKET_BYTES: usize = 268_435_460;

#[test]
fn every_malformed_packet_is_refused_for_the_right_reason() {
    let mut wrong = Vec::new();
    for packet in malformed_packets() {
        let found = decode(&packet.bytes, packet.version, MAX_PACKET_BYTES).map_err(DecodeError::reason_code);
        assert_eq!(Publishes::default().decode(&packet.bytes, packet.version, MAX_PACKET_BYTES), None);
        if found != Err(packet.expected) {
            wrong.push(format!(
                "{}: {:?}, not {:?}: {:02x?}",
                packet.name, found, packet.expected, packet.bytes
            ));
        }
    }
    assert!(wrong.is_empty(), "{} of the corpus:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn the_corpus_is_large_varied_and_always_the_same() {
    let corpus = malformed_packets();
    assert!(corpus.len() >= 2_000, "{}", corpus.len());
    assert_eq!(corpus, malformed_packets());
    let names: HashSet<_> = corpus.iter().map(|packet| &packet.name).collect();
    assert_eq!(names.len(), corpus.len(), "names are unique");
    let bytes: HashSet<_> = corpus.iter().map(|packet| (packet.version, &packet.bytes)).collect();
    assert!(bytes.len() * 10 > corpus.len() * 9, "{} of {} differ", bytes.len(), corpus.len());

    let mut kinds = BTreeMap::new();
    for packet in &corpus {
        let packet_type = packet.bytes.first().map(|first| first >> 4);
        assert_eq!(packet.before_connect, packet_type == Some(1), "{}", packet.name);
        *kinds.entry((packet.version, packet_type)).or_insert(0_usize) += 1;
    }
    // What a client sends, in each version: CONNECT to PUBCOMP, SUBSCRIBE, UNSUBSCRIBE, PINGREQ, DISCONNECT, and AUTH in 5.
    for version in [ProtocolVersion::V3_1, ProtocolVersion::V3_1_1, ProtocolVersion::V5] {
        for packet_type in [0, 1, 3, 4, 5, 6, 7, 8, 10, 12, 14, 15] {
            assert!(
                kinds.get(&(version, Some(packet_type))).is_some_and(|&count| count > 8),
                "{version} {packet_type}"
            );
        }
    }
}

/// The mutants prove nothing unless what they were made from is accepted.
#[test]
fn every_sample_is_accepted_and_encodes_to_itself() {
    for sample in valid_packets() {
        let decoded = decode(&sample.bytes, sample.version, MAX_PACKET_BYTES);
        let Ok(Decoded::Packet { packet, consumed }) = decoded else {
            panic!("{}: {decoded:?}", sample.name);
        };
        assert_eq!(consumed, sample.bytes.len(), "{}", sample.name);
        let mut out = Vec::new();
        encode(&packet, sample.version, &mut out).unwrap();
        assert_eq!(out, sample.bytes, "{}", sample.name);
    }
}

/// What follows a packet is not looked at, whatever it is.
#[test]
fn a_packet_is_decoded_from_the_front_of_a_longer_buffer() {
    for sample in valid_packets() {
        let alone = decode(&sample.bytes, sample.version, MAX_PACKET_BYTES);
        let mut longer = sample.bytes.clone();
        longer.extend([0xFF; 7]);
        assert_eq!(decode(&longer, sample.version, MAX_PACKET_BYTES), alone, "{}", sample.name);
    }
}

/// A bad header is refused before its body arrives.
#[test]
fn nothing_waits_for_the_body_of_a_bad_header() {
    let v4 = ProtocolVersion::V3_1_1;
    let reason = |bytes: &[u8], max| decode(bytes, v4, max).map(|_| ()).map_err(DecodeError::reason_code);
    for first in [0x00, 0x11, 0x36, 0x38, 0x41, 0x60, 0x80, 0xA0, 0xC1, 0xE1, 0xF0] {
        assert_eq!(reason(&[first], 1000), Err(ReasonCode::MalformedPacket), "{first:#04x}");
    }
    assert_eq!(reason(&[0xC0, 1], 1000), Err(ReasonCode::MalformedPacket), "a PINGREQ has no body");
    assert_eq!(reason(&[0x40, 3], 1000), Err(ReasonCode::MalformedPacket), "a PUBACK of 3.1.1 has two bytes");
    assert_eq!(reason(&[0x30, 0xFF, 0xFF, 0xFF, 0xFF], 1000), Err(ReasonCode::MalformedPacket));
}

#[test]
fn a_packet_is_too_large_as_soon_as_it_says_so() {
    let v5 = ProtocolVersion::V5;
    let too_large = DecodeError::PacketTooLarge { packet_bytes: 131, max_packet_bytes: 130 };
    assert_eq!(decode(&[0x30, 0x80, 0x01], v5, 130), Err(too_large));
    assert_eq!(too_large.reason_code(), ReasonCode::PacketTooLarge);
    assert_eq!(decode(&[0x30, 0x80, 0x01], v5, 131), Ok(Decoded::Incomplete { needed: 131 }));
    assert_eq!(decode(&[0x30, 0x80], v5, 130), Ok(Decoded::Incomplete { needed: 3 }));
    assert_eq!(decode(&[0x30], v5, 130), Ok(Decoded::Incomplete { needed: 2 }));
    assert_eq!(decode(&[], v5, 130), Ok(Decoded::Incomplete { needed: 2 }));
}

/// MQTT 3.1 repeats these three with DUP; the later versions have nothing of the kind.
#[test]
fn dup_on_repeated_requests_is_a_matter_of_version_3_1() {
    let pubrel = [0x6A, 2, 0, 1];
    assert!(decode(&pubrel, ProtocolVersion::V3_1, 100).is_ok());
    for version in [ProtocolVersion::V3_1_1, ProtocolVersion::V5] {
        let refused = decode(&pubrel, version, 100).map_err(DecodeError::reason_code);
        assert_eq!(refused, Err(ReasonCode::MalformedPacket));
    }
}
