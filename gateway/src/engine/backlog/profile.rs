//! How a message is to be delivered.

use gateway_protocol::QoS;
use std::sync::Arc;

/// How a message is to be delivered; fixed when it was routed, whatever happens to the subscription later [MQTT-3.10.4-3].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    /// Highest granted QoS among the matching subscriptions.
    pub qos: QoS,
    /// The RETAIN flag is forwarded as published.
    pub retain_as_published: bool,
    /// It was retained when the subscription was made, and is sent with RETAIN for that reason.
    pub is_retained: bool,
    /// Identifiers of the matching subscriptions.
    pub subscription_ids: Option<Arc<[u32]>>,
    /// It was given to this Session as a member of the group with this name, and may be given to another one.
    pub group: Option<Arc<str>>,
}

impl Profile {
    /// Bytes that it adds to a row of the saved view, at most.
    pub(super) fn row_bytes(&self) -> usize {
        let ids = self.subscription_ids.as_deref().map_or(0, <[u32]>::len);
        16 + 5 * ids + self.group.as_deref().map_or(0, str::len)
    }

    /// Bytes of memory that it owns, besides its own.
    pub(super) fn heap_bytes(&self) -> usize {
        let ids = self.subscription_ids.as_deref().map_or(0, |ids| 16 + 4 * ids.len());
        ids + self.group.as_deref().map_or(0, |group| 16 + group.len())
    }
}
