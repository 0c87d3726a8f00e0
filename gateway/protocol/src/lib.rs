//! The MQTT protocol, 3.1, 3.1.1 and 5, as plain values: bytes to packets ([`codec`], [`packet`]) and packets to decisions.
//!
//! Nothing here does I/O, looks at a clock or knows a runtime: a connection hands in bytes and the time, and takes out packets
//! and bytes. Statement ids such as [MQTT-3.3.1-4] are those of the OASIS texts; where nothing else is said, of MQTT 5.
//!
//! Start reading at [`codec::decode`].

pub mod client_id;
pub mod codec;
pub mod packet;
pub mod property;
pub mod session;
#[cfg(feature = "testing")]
pub mod testing;
pub mod topic;

mod packet_id;
mod qos;
mod reason_code;
mod version;

pub use client_id::{ClientId, ClientIdError};
pub use codec::{DecodeError, Decoded, EncodeError, decode, encode};
pub use packet::{Packet, PacketType};
pub use packet_id::PacketId;
pub use property::{Properties, PropertiesBuf, Property};
pub use qos::{InvalidQoS, QoS};
pub use reason_code::ReasonCode;
pub use topic::{SHARE_PREFIX, SharedFilter, SharedFilterError, TopicError, TopicFilter, TopicName};
pub use version::ProtocolVersion;
