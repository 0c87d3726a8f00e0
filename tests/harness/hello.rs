//! The CONNECT of a [`crate::Client`].

use gateway_protocol::packet::{self, Connect, Packet};
use gateway_protocol::{Properties, PropertiesBuf, Property, ProtocolVersion, QoS, TopicName, encode};

/// What a client says of itself. The default wants a fresh Session that ends with the connection, and no Keep Alive.
#[derive(Clone, Debug)]
pub struct Hello {
    /// The protocol version.
    pub version: ProtocolVersion,
    /// Client Identifier.
    pub client_id: String,
    /// Clean Start, or Clean Session.
    pub clean_start: bool,
    /// Keep Alive in seconds.
    pub keep_alive_secs: u16,
    /// Properties of version 5.
    pub properties: PropertiesBuf,
    /// Will Message.
    pub will: Option<Will>,
}

/// The Will Message of a [`Hello`].
#[derive(Clone, Debug)]
pub struct Will {
    /// Will Topic.
    pub topic: String,
    /// Will Payload.
    pub payload: Vec<u8>,
    /// Will QoS.
    pub qos: QoS,
    /// Will Retain.
    pub retain: bool,
    /// Properties of version 5.
    pub properties: PropertiesBuf,
}

impl Will {
    /// At QoS 1, not retained.
    #[must_use]
    pub fn new(topic: &str, payload: &str) -> Self {
        Self {
            topic: topic.to_owned(),
            payload: payload.as_bytes().to_vec(),
            qos: QoS::AtLeastOnce,
            retain: false,
            properties: PropertiesBuf::new(),
        }
    }

    /// With a property.
    ///
    /// # Panics
    /// When the property is not legal, or there already.
    #[must_use]
    pub fn with(mut self, property: Property<'_>) -> Self {
        self.properties.push(property).expect("a legal property");
        self
    }
}

impl Hello {
    /// A clean start.
    #[must_use]
    pub fn new(version: ProtocolVersion, client_id: &str) -> Self {
        Self {
            version,
            client_id: client_id.to_owned(),
            clean_start: true,
            keep_alive_secs: 0,
            properties: PropertiesBuf::new(),
            will: None,
        }
    }

    /// A Session that goes on, and outlives its connection: for an hour in version 5, as long as the server likes
    /// in 3.1.1.
    #[must_use]
    pub fn durable(version: ProtocolVersion, client_id: &str) -> Self {
        let hello = Self { clean_start: false, ..Self::new(version, client_id) };
        if version.is_v5() { hello.with(Property::SessionExpiryInterval(3600)) } else { hello }
    }

    /// With another Clean Start.
    #[must_use]
    pub fn clean_start(self, clean_start: bool) -> Self {
        Self { clean_start, ..self }
    }

    /// With a Keep Alive.
    #[must_use]
    pub fn keep_alive_secs(self, keep_alive_secs: u16) -> Self {
        Self { keep_alive_secs, ..self }
    }

    /// With a Will Message.
    #[must_use]
    pub fn will(self, will: Will) -> Self {
        Self { will: Some(will), ..self }
    }

    /// With a property.
    ///
    /// # Panics
    /// When the property is not legal, or there already.
    #[must_use]
    pub fn with(mut self, property: Property<'_>) -> Self {
        self.properties.push(property).expect("a legal property");
        self
    }

    /// The packet.
    ///
    /// # Panics
    /// When it cannot be encoded.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let will = self.will.as_ref().map(|will| packet::Will {
            qos: will.qos,
            retain: will.retain,
            topic: TopicName::parse(&will.topic).expect("a Topic Name"),
            properties: match self.version.is_v5() {
                true => will.properties.as_properties(),
                false => Properties::default(),
            },
            payload: &will.payload,
        });
        let connect = Connect {
            version: self.version,
            clean_start: self.clean_start,
            keep_alive_secs: self.keep_alive_secs,
            properties: if self.version.is_v5() {
                self.properties.as_properties()
            } else {
                Properties::default()
            },
            client_id: &self.client_id,
            will,
            user_name: None,
            password: None,
        };
        let mut bytes = Vec::new();
        encode(&Packet::Connect(connect), self.version, &mut bytes).expect("a legal CONNECT");
        bytes
    }
}
