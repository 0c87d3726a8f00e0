//! The name of one hand-out.

use std::fmt;
use std::str::FromStr;

/// One hand-out of one event: the event's offset, which attempt it is, and of which making of the consumer. As text
/// `<offset>-<attempt>`, with `-<generation>` behind it where the consumer was made anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DeliveryId {
    /// The event's offset in the log.
    pub offset: u64,
    /// The attempt, from 1.
    pub attempt: u32,
    /// The consumer's generation, so that what is said about a hand-out before a reset does not settle one after it.
    pub generation: u64,
}

impl fmt::Display for DeliveryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.offset, self.attempt)?;
        if self.generation == 0 { Ok(()) } else { write!(f, "-{}", self.generation) }
    }
}

/// The text is not `<offset>-<attempt>`, nor that with `-<generation>` behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a delivery is named <offset>-<attempt>, or <offset>-<attempt>-<generation>")]
pub struct NoDeliveryId;

impl FromStr for DeliveryId {
    type Err = NoDeliveryId;

    fn from_str(text: &str) -> Result<Self, NoDeliveryId> {
        let mut parts = text.splitn(3, '-');
        let offset = parts.next().and_then(number).ok_or(NoDeliveryId)?;
        let attempt =
            parts.next().and_then(number).and_then(|n| u32::try_from(n).ok()).ok_or(NoDeliveryId)?;
        let generation = parts.next().map_or(Some(0), number).ok_or(NoDeliveryId)?;
        Ok(Self { offset, attempt, generation })
    }
}

fn number(text: &str) -> Option<u64> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_read_as_it_was_written() {
        for (id, text) in [
            (DeliveryId { offset: 17, attempt: 2, generation: 0 }, "17-2"),
            (DeliveryId { offset: u64::MAX, attempt: 1, generation: 3 }, "18446744073709551615-1-3"),
        ] {
            assert_eq!(id.to_string(), text);
            assert_eq!(text.parse(), Ok(id));
        }
        for text in ["", "17", "17-", "-2", "17-2-", "17-2-3-4", "+17-2", "17-4294967296", "a-b", "17 -2"] {
            assert_eq!(text.parse::<DeliveryId>(), Err(NoDeliveryId), "{text}");
        }
    }
}
