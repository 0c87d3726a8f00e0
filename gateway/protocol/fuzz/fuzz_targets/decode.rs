//! Any bytes, in any version: the decoder does not panic, takes no more than there is, and what it accepts can be written and read
//! back as the same packet, in no more bytes.
#![no_main]

use gateway_protocol::{Decoded, Packet, ProtocolVersion, decode, encode};
use libfuzzer_sys::fuzz_target;

const MAX_PACKET_BYTES: usize = 1 << 20;

fuzz_target!(|input: &[u8]| {
    let Some((choice, bytes)) = input.split_first() else { return };
    let version = match choice % 3 {
        0 => ProtocolVersion::V3_1,
        1 => ProtocolVersion::V3_1_1,
        _ => ProtocolVersion::V5,
    };
    let mut rest = bytes;
    loop {
        match decode(rest, version, MAX_PACKET_BYTES) {
            Ok(Decoded::Packet { packet, consumed }) => {
                assert!(consumed >= 2 && consumed <= rest.len());
                round_trip(packet, version, consumed);
                rest = &rest[consumed..];
            }
            Ok(Decoded::Incomplete { needed }) => {
                assert!(needed > rest.len() && needed <= MAX_PACKET_BYTES, "{needed} of {}", rest.len());
                return;
            }
            Err(error) => {
                assert!(error.reason_code().is_error());
                return;
            }
        }
    }
});

fn round_trip(packet: Packet<'_>, version: ProtocolVersion, consumed: usize) {
    let version = match packet {
        Packet::Connect(connect) => connect.version,
        _ => version,
    };
    let mut written = Vec::new();
    encode(&packet, version, &mut written).expect("what was decoded can be encoded");
    // DISCONNECT is always written with its Property Length, for the clients that miss it.
    let spare = usize::from(matches!(packet, Packet::Disconnect(_)));
    assert!(written.len() <= consumed + spare, "the shortest form is no longer");
    let again = decode(&written, version, MAX_PACKET_BYTES);
    assert_eq!(again, Ok(Decoded::Packet { packet, consumed: written.len() }));
    touch(packet);
}

/// Walks what is decoded on demand.
fn touch(packet: Packet<'_>) {
    match packet {
        Packet::Subscribe(subscribe) => assert!(subscribe.filters.iter().count() > 0),
        Packet::Unsubscribe(unsubscribe) => assert!(unsubscribe.filters.iter().count() > 0),
        Packet::SubAck(suback) => assert!(suback.reason_codes.iter().count() > 0),
        Packet::Publish(publish) => _ = publish.properties.iter().count(),
        Packet::Connect(connect) => _ = connect.properties.iter().count(),
        _ => {}
    }
}
