//! Quality of Service.

/// Quality of Service of a message or a subscription. Ordered, so the delivery QoS is `published.min(granted)`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
#[repr(u8)]
pub enum QoS {
    /// QoS 0: not acknowledged.
    #[default]
    AtMostOnce = 0,
    /// QoS 1: acknowledged by PUBACK.
    AtLeastOnce = 1,
    /// QoS 2: acknowledged by the PUBREC, PUBREL, PUBCOMP handshake.
    ExactlyOnce = 2,
}

impl QoS {
    /// The QoS with this number; there is no 3 [MQTT-3.3.1-4].
    #[must_use]
    pub const fn from_u8(value: u8) -> Option<Self> {
        match value {
            0 => Some(Self::AtMostOnce),
            1 => Some(Self::AtLeastOnce),
            2 => Some(Self::ExactlyOnce),
            _ => None,
        }
    }

    /// The number on the wire.
    #[must_use]
    pub const fn as_u8(self) -> u8 {
        self as u8
    }
}

/// A number that is no QoS.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0} is no QoS: it is 0, 1 or 2")]
pub struct InvalidQoS(pub u8);

impl TryFrom<u8> for QoS {
    type Error = InvalidQoS;

    fn try_from(value: u8) -> Result<Self, InvalidQoS> {
        Self::from_u8(value).ok_or(InvalidQoS(value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_levels_and_no_other() {
        for number in 0..=u8::MAX {
            match QoS::try_from(number) {
                Ok(qos) => assert_eq!((qos.as_u8(), number < 3), (number, true)),
                Err(InvalidQoS(refused)) => assert_eq!((refused, number >= 3), (number, true)),
            }
        }
        assert_eq!(QoS::ExactlyOnce.min(QoS::AtLeastOnce), QoS::AtLeastOnce);
    }
}
