//! The state machine, driven packet by packet in virtual time.

mod connection;
mod frames;
mod inbound;
mod outbound;

use super::*;
use crate::codec::{Decoded, decode};
use crate::packet::{Ack, PacketType};

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
    assert!(
        session
            .accept(Millis(0), Accepted { session_present: false, assigned_client_id: None }, &mut out)
            .is_ok()
    );
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
    assert!(
        session
            .accept(Millis(0), Accepted { session_present: false, assigned_client_id: None }, &mut out)
            .is_ok()
    );
    session
}
