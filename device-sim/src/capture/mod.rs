//! Captures: messages with their times, in a file, to be published again.
//!
//! Promise: what is read back is what was written, or an error that says where the file stops being it; a file that was cut
//! short is good up to there and says so. A reader holds one message at a time, and a length in a damaged file makes it allocate
//! no more than [`FRAME_BYTES_MAX`].
//!
//! # Format
//!
//! Eight bytes `dsimcap` and the version, 1; then frames. All numbers are little-endian.
//!
//! ```text
//! frame    length of the body u32 | CRC32C of the body u32 | body
//! body     'H' JSON               header, the first frame: where and when this was recorded
//!          'M' u64 PUBLISH        message: microseconds since the capture began, and the packet as MQTT 5 has it on the wire;
//!                                 its Packet Identifier means nothing, Topic Alias and Subscription Identifiers are left out
//!          'E' JSON               end, the last frame: how many messages, and why there are no more
//! ```
//!
//! [`mod@file`] reads and writes them, [`anonymise`] takes names out of messages, [`link`] is the MQTT client that both recording and
//! replaying use.

pub(crate) mod anonymise;
pub(crate) mod file;
pub(crate) mod link;

use gateway_protocol::property::PropertyId;
use gateway_protocol::{PropertiesBuf, QoS};

/// The largest frame that is written or read.
pub(crate) const FRAME_BYTES_MAX: usize = 16 << 20;

/// One message of a capture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    /// Microseconds since the capture began.
    pub(crate) at_us: u64,
    /// The QoS it was delivered with.
    pub(crate) qos: QoS,
    /// Whether RETAIN was set.
    pub(crate) retain: bool,
    /// Its Topic Name.
    pub(crate) topic: String,
    /// Its properties, but for those of its transmission.
    pub(crate) properties: PropertiesBuf,
    /// Its payload.
    pub(crate) payload: Vec<u8>,
}

/// Whether a property belongs to the message, rather than to one transmission of it.
pub(crate) fn is_kept(property: PropertyId) -> bool {
    !matches!(property, PropertyId::TopicAlias | PropertyId::SubscriptionIdentifier)
}
