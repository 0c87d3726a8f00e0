//! What is there before subscribers come: Retained Messages, published once.

use std::net::SocketAddr;
use std::time::Duration;

use gateway_protocol::packet::{Packet, Publish};
use gateway_protocol::{PacketId, Properties, ProtocolVersion, QoS};

use super::scenario::Sizes;
use crate::capture::link::{Link, LinkError};
use crate::command::CommandError;

/// What may be unacknowledged.
const WINDOW: u16 = 500;
const LOOK: Duration = Duration::from_millis(100);

/// Publishes so many, one on each topic below `root`, and waits until all of them are acknowledged.
pub(super) fn fill(address: SocketAddr, root: &str, count: u64, sizes: &Sizes) -> Result<(), CommandError> {
    publish(address, root, count, sizes)
        .map_err(|error| CommandError::CouldNotRun(format!("cannot publish what is to be retained: {error}")))
}

fn publish(address: SocketAddr, root: &str, count: u64, sizes: &Sizes) -> Result<(), LinkError> {
    let version = if sizes.is_v3 { ProtocolVersion::V3_1_1 } else { ProtocolVersion::V5 };
    let mut link = Link::connect(address, "retainer", version)?;
    let payload = vec![b'.'; sizes.payload_bytes];
    let window = u64::from(WINDOW.min(link.receive_maximum()));
    let (mut sent, mut acknowledged) = (0, 0);
    while acknowledged < count {
        while sent < count && sent - acknowledged < window {
            sent += 1;
            let packet_id = PacketId::new((sent % u64::from(u16::MAX)) as u16 + 1);
            link.put(&Packet::Publish(Publish {
                dup: false,
                qos: QoS::AtLeastOnce,
                retain: true,
                topic: &format!("{root}/{sent}/state"),
                packet_id,
                properties: Properties::default(),
                payload: &payload,
            }))?;
        }
        link.poll(LOOK, |packet, _| match packet {
            Packet::PubAck(ack) if ack.reason_code.is_error() => {
                Err(LinkError::Refused { what: "a Retained Message", reason: ack.reason_code })
            }
            Packet::PubAck(_) => {
                acknowledged += 1;
                Ok(())
            }
            _ => Ok(()),
        })?;
    }
    link.disconnect();
    Ok(())
}
