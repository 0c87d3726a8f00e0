//! What publishers have in common, whatever their QoS: who they are, how they come back, and what an event looks like on
//! the wire.

use std::net::SocketAddr;
use std::time::Duration;

use gateway_protocol::codec::{PublishFrame, encode_publish};
use gateway_protocol::{PacketId, ProtocolVersion, QoS};
use gateway_tests::Hello;
use tokio::sync::watch;

use crate::event::Event;
use crate::fleet::{Orders, gateway_up};
use crate::wire::Wire;

/// Before another attempt to connect to a gateway that is said to be up.
const RETRY: Duration = Duration::from_millis(20);

/// Publisher number `publisher`, whose Session the gateway has to keep: every other one of the older version.
pub(crate) fn hello(publisher: u32) -> Hello {
    let version = if publisher.is_multiple_of(2) { ProtocolVersion::V5 } else { ProtocolVersion::V3_1_1 };
    Hello::durable(version, &format!("publisher-{publisher}"))
}

/// Connects, however long that takes, and Session Present.
pub(crate) async fn connect(
    address: SocketAddr,
    hello: &Hello,
    orders: &mut watch::Receiver<Orders>,
) -> (Wire, bool) {
    loop {
        gateway_up(orders).await;
        match Wire::connect(address, hello).await {
            Ok(connected) => return connected,
            Err(_) => tokio::time::sleep(RETRY).await,
        }
    }
}

/// Appends the PUBLISH of an event to what is to be sent.
pub(crate) fn put_publish(event: Event, qos: QoS, dup: bool, version: ProtocolVersion, out: &mut Vec<u8>) {
    let frame = PublishFrame {
        dup,
        qos,
        retain: false,
        topic: &format!("devices/{}/telemetry", event.publisher),
        packet_id: Some(packet_id(event.number)),
        extra: &[],
        properties: &[],
        payload: &event.payload(),
    };
    encode_publish(&frame, version, out).expect("a legal PUBLISH");
}

/// The Packet Identifier of a publisher's event: in turn.
pub(crate) fn packet_id(number: u32) -> PacketId {
    PacketId::new((number % 65_535) as u16 + 1).expect("not 0")
}
