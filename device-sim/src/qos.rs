//! Quality of Service as far as the simulator publishes it, and pairs of values by QoS.

use std::ops::{Index, IndexMut};

use serde::{Deserialize, Serialize};

/// The QoS levels a device publishes with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum QoS {
    /// QoS 0: loss is counted and breaks no promise.
    AtMostOnce = 0,
    /// QoS 1: what was acknowledged must arrive.
    AtLeastOnce = 1,
}

impl QoS {
    /// Both, in order.
    pub const ALL: [QoS; 2] = [QoS::AtMostOnce, QoS::AtLeastOnce];

    /// The level with this number.
    pub fn from_number(number: u8) -> Option<QoS> {
        QoS::ALL.into_iter().find(|qos| *qos as u8 == number)
    }

    /// The same in the client library's words.
    pub fn of_client_v4(self) -> rumqttc::QoS {
        match self {
            QoS::AtMostOnce => rumqttc::QoS::AtMostOnce,
            QoS::AtLeastOnce => rumqttc::QoS::AtLeastOnce,
        }
    }

    /// The same in the words of the client library's version 5 half.
    pub fn of_client_v5(self) -> rumqttc::v5::mqttbytes::QoS {
        match self {
            QoS::AtMostOnce => rumqttc::v5::mqttbytes::QoS::AtMostOnce,
            QoS::AtLeastOnce => rumqttc::v5::mqttbytes::QoS::AtLeastOnce,
        }
    }
}

/// One value per QoS; serialised as an object with the keys `"0"` and `"1"`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ByQoS<T> {
    /// For QoS 0.
    #[serde(rename = "0")]
    pub qos0: T,
    /// For QoS 1.
    #[serde(rename = "1")]
    pub qos1: T,
}

impl<T> Index<QoS> for ByQoS<T> {
    type Output = T;

    fn index(&self, qos: QoS) -> &T {
        match qos {
            QoS::AtMostOnce => &self.qos0,
            QoS::AtLeastOnce => &self.qos1,
        }
    }
}

impl<T> IndexMut<QoS> for ByQoS<T> {
    fn index_mut(&mut self, qos: QoS) -> &mut T {
        match qos {
            QoS::AtMostOnce => &mut self.qos0,
            QoS::AtLeastOnce => &mut self.qos1,
        }
    }
}
