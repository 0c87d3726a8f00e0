//! Topic Names and Topic Filters: what is one, and which filter matches which name.
//!
//! Both are views of a string that was checked once. Nothing here knows subscriptions.

mod filter;
mod name;
mod share;

pub use filter::TopicFilter;
pub use name::TopicName;
pub use share::{SHARE_PREFIX, SharedFilter, SharedFilterError};

/// Why a string is no Topic Name, or no Topic Filter.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum TopicError {
    /// At least one character [MQTT-4.7.3-1].
    #[error("the topic is empty")]
    Empty,
    /// At most 65,535 bytes [MQTT-4.7.3-3].
    #[error("the topic is longer than 65,535 bytes")]
    TooLong,
    /// No U+0000 [MQTT-4.7.3-2].
    #[error("the topic contains U+0000")]
    NulCharacter,
    /// Wildcards are for Topic Filters [MQTT-4.7.0-1].
    #[error("a Topic Name contains a wildcard")]
    WildcardInName,
    /// `#` stands for whole levels at the end [MQTT-4.7.1-1], `+` for one whole level [MQTT-4.7.1-2].
    #[error("a wildcard does not fill its level, or `#` is not the last one")]
    MisplacedWildcard,
}
