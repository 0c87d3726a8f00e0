//! Events as JSON: one form wherever one is shown, handed to a worker over HTTP, or posted to a webhook.

use crate::clock::rfc_3339;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use gateway_protocol::property::{self, Property};
use gateway_storage::Event;
use serde::Serialize;
use utoipa::ToSchema;

/// An event that is handed out, or shown.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct EventView {
    /// What acknowledges it; absent where it is only shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Where it lies in the log.
    pub offset: u64,
    /// When it was stored.
    pub time: String,
    /// The publisher's Client Identifier.
    pub publisher: String,
    /// Its topic.
    pub topic: String,
    /// The QoS it was published at.
    pub qos: u8,
    /// Whether it was to be retained.
    pub retain: bool,
    /// Which hand-out this is; the first is 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
    /// When the lease ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub due: Option<String>,
    /// Those of its properties that are the application's; absent where there are none.
    #[serde(skip_serializing_if = "Properties::is_empty")]
    pub properties: Properties,
    /// `payload` or `payload_base64`.
    #[serde(flatten)]
    pub payload: Payload,
}

impl EventView {
    /// An event that is shown: nobody is to acknowledge it.
    #[must_use]
    pub fn shown(offset: u64, time_ms: u64, event: &Event<'_>) -> Self {
        Self {
            id: None,
            offset,
            time: rfc_3339(time_ms),
            publisher: event.client_id.to_owned(),
            topic: event.topic.to_owned(),
            qos: event.qos,
            retain: event.retain,
            attempt: None,
            due: None,
            properties: Properties::of(event.properties),
            payload: Payload::of(event.payload),
        }
    }

    /// An event that is handed out.
    #[must_use]
    pub fn handed(self, id: String, attempt: u32, due_ms: u64) -> Self {
        Self { id: Some(id), attempt: Some(attempt), due: Some(rfc_3339(due_ms)), ..self }
    }
}

/// An Application Message: text where it is UTF-8.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub enum Payload {
    /// UTF-8.
    #[serde(rename = "payload")]
    Text(String),
    /// Anything else.
    #[serde(rename = "payload_base64")]
    Base64(String),
}

impl Payload {
    /// Of these bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        match str::from_utf8(bytes) {
            Ok(text) => Self::Text(text.to_owned()),
            Err(_) => Self::Base64(STANDARD.encode(bytes)),
        }
    }
}

/// The properties of a PUBLISH that are the application's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct Properties {
    #[serde(skip_serializing_if = "Option::is_none")]
    payload_format_indicator: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_topic: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    correlation_data_base64: Option<String>,
    /// Name and value; a name may occur again.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    user: Vec<(String, String)>,
}

impl Properties {
    /// Those of a list in wire form. One that cannot be read, which no list in the log is, has none.
    #[must_use]
    pub fn of(wire: &[u8]) -> Self {
        let mut shown = Self::default();
        let Ok(properties) = property::Properties::from_wire(wire) else { return shown };
        for property in properties.iter() {
            match property {
                Property::PayloadFormatIndicator(value) => shown.payload_format_indicator = Some(value),
                Property::ContentType(value) => shown.content_type = Some(value.to_owned()),
                Property::ResponseTopic(value) => shown.response_topic = Some(value.to_owned()),
                Property::CorrelationData(value) => {
                    shown.correlation_data_base64 = Some(STANDARD.encode(value));
                }
                Property::UserProperty { name, value } => {
                    shown.user.push((name.to_owned(), value.to_owned()))
                }
                _ => {}
            }
        }
        shown
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gateway_protocol::property::PropertiesBuf;
    use serde_json::json;

    #[test]
    fn text_is_text_and_everything_else_is_base64() {
        let mut properties = PropertiesBuf::default();
        properties.push(Property::ContentType("text/plain")).unwrap();
        properties.push(Property::CorrelationData(&[0xff])).unwrap();
        properties.push(Property::UserProperty { name: "k", value: "1" }).unwrap();
        properties.push(Property::UserProperty { name: "k", value: "2" }).unwrap();
        let mut event = Event {
            client_id: "oven-7",
            topic: "devices/oven-7/t",
            qos: 1,
            retain: false,
            received_ms: 0,
            expires_at_ms: 0,
            properties: properties.as_properties().raw(),
            payload: "181 °C".as_bytes(),
        };
        let shown = serde_json::to_value(EventView::shown(7, 1_700_000_000_250, &event)).unwrap();
        let expected = json!({
            "offset": 7, "time": "2023-11-14T22:13:20.250Z", "publisher": "oven-7", "topic": "devices/oven-7/t",
            "qos": 1, "retain": false, "payload": "181 °C",
            "properties": {
                "content_type": "text/plain", "correlation_data_base64": "/w==", "user": [["k", "1"], ["k", "2"]],
            },
        });
        assert_eq!(shown, expected);

        event.payload = &[0xff, 0];
        event.properties = &[];
        let handed = EventView::shown(7, 0, &event).handed("7-2".to_owned(), 2, 1000);
        let expected = json!({
            "id": "7-2", "offset": 7, "time": "1970-01-01T00:00:00.000Z", "publisher": "oven-7",
            "topic": "devices/oven-7/t", "qos": 1, "retain": false, "attempt": 2, "due": "1970-01-01T00:00:01.000Z",
            "payload_base64": "/wA=",
        });
        assert_eq!(serde_json::to_value(handed).unwrap(), expected);
    }
}
