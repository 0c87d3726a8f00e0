//! Arbitrary valid packets of every kind and version: what is written is read back, and no part of it is taken for a packet.
//!
//! The seed is fixed, so every run sees the same packets; a failure prints its smallest one.

mod arbitrary;

use arbitrary::{parts, parts_of, version};
use gateway_protocol::codec::{PublishFrame, Publishes, encode_publish, publish_frame_len};
use gateway_protocol::packet::{Connect, Publish};
use gateway_protocol::property::PropertyId;
use gateway_protocol::{
    Decoded, EncodeError, Packet, PacketId, Properties, PropertiesBuf, Property, ProtocolVersion, QoS,
    decode, encode,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::RngSeed;

const MAX_PACKET_BYTES: usize = 268_435_460;

fn config() -> ProptestConfig {
    ProptestConfig {
        cases: 1_500,
        rng_seed: RngSeed::Fixed(0x6d71_7474),
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn a_packet_survives_the_wire(parts in parts()) {
        let (version, packet) = (parts.version, parts.packet());
        let mut out = vec![0xAB; 3];
        encode(&packet, version, &mut out).unwrap();
        prop_assert_eq!(&out[..3], &[0xAB; 3], "encode appends");
        let bytes = &out[3..];
        prop_assert_eq!(
            decode(bytes, version, bytes.len()),
            Ok(Decoded::Packet { packet, consumed: bytes.len() })
        );
        if let Packet::Publish(publish) = packet {
            let frame = frame(&publish, &[], publish.properties.raw());
            prop_assert_eq!(publish_frame_len(&frame, version), bytes.len());
        }
    }

    #[test]
    fn no_strict_prefix_is_a_packet(parts in parts()) {
        let mut bytes = Vec::new();
        encode(&parts.packet(), parts.version, &mut bytes).unwrap();
        for length in 0..bytes.len() {
            let prefix = &bytes[..length];
            match decode(prefix, parts.version, MAX_PACKET_BYTES) {
                Ok(Decoded::Incomplete { needed }) => {
                    prop_assert!(needed > length && needed <= bytes.len(), "{} of {}: {}", length, bytes.len(), needed);
                }
                other => prop_assert!(false, "{} of {}: {:?}", length, bytes.len(), other),
            }
        }
    }

    /// One that follows another, whole, cut short or changed in one byte, is the PUBLISH that it is by itself.
    #[test]
    fn publishes_are_decoded_alike(parts in parts(), at in any::<Index>(), byte in any::<u8>(), most in any::<Index>()) {
        let mut bytes = Vec::new();
        encode(&parts.packet(), parts.version, &mut bytes).unwrap();
        let mut changed = bytes.clone();
        *at.get_mut(&mut changed) = byte;
        for max_packet_bytes in [MAX_PACKET_BYTES, most.index(bytes.len() + 2)] {
            let mut publishes = Publishes::default();
            for bytes in [&bytes[..], &bytes, &changed, &bytes, &bytes[..at.index(bytes.len())]] {
                let expected = match decode(bytes, parts.version, max_packet_bytes) {
                    Ok(Decoded::Packet { packet: Packet::Publish(publish), consumed }) => Some((publish, consumed)),
                    _ => None,
                };
                prop_assert_eq!(publishes.decode(bytes, parts.version, max_packet_bytes), expected);
            }
        }
    }

    /// Bytes that are nearly a packet are refused, or are another packet that the encoder can write as well.
    #[test]
    fn whatever_is_accepted_can_be_written(parts in parts(), at in any::<Index>(), byte in any::<u8>()) {
        let mut bytes = Vec::new();
        encode(&parts.packet(), parts.version, &mut bytes).unwrap();
        *at.get_mut(&mut bytes) = byte;
        if let Ok(Decoded::Packet { packet, consumed }) = decode(&bytes, parts.version, MAX_PACKET_BYTES) {
            let version = version_of(&packet, parts.version);
            let mut again = Vec::new();
            encode(&packet, version, &mut again).unwrap();
            // DISCONNECT is always written with its Property Length, for the clients that miss it.
            let spare = usize::from(matches!(packet, Packet::Disconnect(_)));
            prop_assert!(again.len() <= consumed + spare, "the shortest form is no longer");
            let decoded = decode(&again, version, MAX_PACKET_BYTES);
            prop_assert_eq!(decoded, Ok(Decoded::Packet { packet, consumed: again.len() }));
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in vec(any::<u8>(), 0..80), version in version()) {
        if let Ok(Decoded::Packet { consumed, .. }) = decode(&bytes, version, 64) {
            prop_assert!(consumed <= bytes.len().min(64));
        }
    }

    /// Extra properties go before those of the message, and nothing else changes.
    #[test]
    fn a_delivery_is_a_publish(parts in parts_of(3..=3), alias in 1_u16.., identifier in 1_u32..=268_435_455) {
        let version = parts.version;
        let Packet::Publish(publish) = parts.packet() else {
            unreachable!("a PUBLISH was asked for");
        };
        let keep = |id| !matches!(id, PropertyId::TopicAlias | PropertyId::SubscriptionIdentifier);
        let mut own = PropertiesBuf::new();
        own.extend_filtered(publish.properties, keep).unwrap();
        let mut extra = PropertiesBuf::new();
        extra.push(Property::SubscriptionIdentifier(identifier)).unwrap();
        extra.push(Property::TopicAlias(alias)).unwrap();
        let frame = frame(&publish, extra.as_properties().raw(), own.as_properties().raw());
        let mut out = Vec::new();
        encode_publish(&frame, version, &mut out).unwrap();
        prop_assert_eq!(publish_frame_len(&frame, version), out.len());
        let joined = [extra.as_properties().raw(), own.as_properties().raw()].concat();
        let properties = if version.is_v5() { Properties::from_wire(&joined).unwrap() } else { Properties::default() };
        let packet = Packet::Publish(Publish { properties, ..publish });
        prop_assert_eq!(decode(&out, version, MAX_PACKET_BYTES), Ok(Decoded::Packet { packet, consumed: out.len() }));
    }
}

#[test]
fn a_packet_that_does_not_fit_leaves_no_trace() {
    let payload = vec![0; 268_435_456 - 4];
    let publish = Publish {
        dup: false,
        qos: QoS::AtMostOnce,
        retain: false,
        topic: "a",
        packet_id: None,
        properties: Properties::default(),
        payload: &payload,
    };
    let mut out = vec![1, 2, 3];
    let too_large = Err(EncodeError::PacketTooLarge);
    assert_eq!(encode(&Packet::Publish(publish), ProtocolVersion::V5, &mut out), too_large);
    let long = "x".repeat(65_536);
    let connect = Connect {
        version: ProtocolVersion::V5,
        clean_start: true,
        keep_alive_secs: 0,
        properties: Properties::default(),
        client_id: "a",
        will: None,
        user_name: Some(&long),
        password: None,
    };
    let encoded = encode(&Packet::Connect(connect), ProtocolVersion::V5, &mut out);
    assert_eq!(encoded, Err(EncodeError::FieldTooLong));
    let nul = Packet::Connect(Connect { user_name: Some("\0"), ..connect });
    assert_eq!(encode(&nul, ProtocolVersion::V5, &mut out), Err(EncodeError::NulCharacter));
    let password = Packet::Connect(Connect {
        version: ProtocolVersion::V3_1_1,
        user_name: None,
        password: Some(b"secret"),
        ..connect
    });
    assert_eq!(encode(&password, ProtocolVersion::V5, &mut out), Err(EncodeError::PasswordWithoutUserName));
    for wrong in [
        Publish { topic: "", payload: &[], ..publish },
        Publish { topic: "a/#", payload: &[], ..publish },
        Publish { dup: true, payload: &[], ..publish },
        Publish { qos: QoS::AtLeastOnce, payload: &[], ..publish },
        Publish { packet_id: PacketId::new(1), payload: &[], ..publish },
    ] {
        assert!(encode(&Packet::Publish(wrong), ProtocolVersion::V5, &mut out).is_err(), "{wrong:?}");
    }
    assert_eq!(out, [1, 2, 3]);
}

/// The largest packet there is: one byte less than the last one refused above.
#[test]
fn the_largest_remaining_length_is_written_and_read() {
    let payload = vec![0; 268_435_455 - 4];
    let frame = PublishFrame {
        dup: false,
        qos: QoS::AtMostOnce,
        retain: false,
        topic: "a",
        packet_id: None,
        extra: &[],
        properties: &[],
        payload: &payload,
    };
    let mut out = Vec::new();
    encode_publish(&frame, ProtocolVersion::V5, &mut out).unwrap();
    assert_eq!(out[..5], [0x30, 0xFF, 0xFF, 0xFF, 0x7F]);
    assert_eq!(out.len(), MAX_PACKET_BYTES);
    let decoded = decode(&out, ProtocolVersion::V5, MAX_PACKET_BYTES);
    assert!(matches!(decoded, Ok(Decoded::Packet { consumed, .. }) if consumed == out.len()));
}

fn frame<'a>(publish: &Publish<'a>, extra: &'a [u8], properties: &'a [u8]) -> PublishFrame<'a> {
    let Publish { dup, qos, retain, topic, packet_id, payload, .. } = *publish;
    PublishFrame { dup, qos, retain, topic, packet_id, extra, properties, payload }
}

fn version_of(packet: &Packet<'_>, connection: ProtocolVersion) -> ProtocolVersion {
    if let Packet::Connect(connect) = packet { connect.version } else { connection }
}
