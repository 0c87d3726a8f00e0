//! Events as JSON.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use gateway_protocol::property::{self, Property};
use gateway_storage::Event;
use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

/// An event that is handed out, or shown.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(super) struct EventView {
    /// What acknowledges it; absent where it is only shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) id: Option<String>,
    pub(super) offset: u64,
    /// When it was stored.
    pub(super) time: String,
    pub(super) publisher: String,
    pub(super) topic: String,
    pub(super) qos: u8,
    pub(super) retain: bool,
    /// Which hand-out this is; the first is 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) attempt: Option<u32>,
    /// When the lease ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) due: Option<String>,
    #[serde(skip_serializing_if = "Properties::is_empty")]
    pub(super) properties: Properties,
    #[serde(flatten)]
    pub(super) payload: Payload,
}

impl EventView {
    /// An event that is shown: nobody is to acknowledge it.
    pub(super) fn shown(offset: u64, time_ms: u64, event: &Event<'_>) -> Self {
        Self {
            id: None,
            offset,
            time: time(time_ms),
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
    pub(super) fn handed(self, id: String, attempt: u32, due_ms: u64) -> Self {
        Self { id: Some(id), attempt: Some(attempt), due: Some(time(due_ms)), ..self }
    }
}

/// An Application Message: text where it is UTF-8.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(super) enum Payload {
    #[serde(rename = "payload")]
    Text(String),
    #[serde(rename = "payload_base64")]
    Base64(String),
}

impl Payload {
    pub(super) fn of(bytes: &[u8]) -> Self {
        match str::from_utf8(bytes) {
            Ok(text) => Self::Text(text.to_owned()),
            Err(_) => Self::Base64(STANDARD.encode(bytes)),
        }
    }
}

/// The properties of a PUBLISH that are the application's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub(super) struct Properties {
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
    /// Those of a list in wire form. One that can not be read, which no list in the log is, has none.
    pub(super) fn of(wire: &[u8]) -> Self {
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

    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// RFC 3339 with milliseconds; what no calendar has becomes the first moment of the epoch.
pub(super) fn time(unix_ms: u64) -> String {
    let time = i64::try_from(unix_ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
    format!("{:.3}", time.unwrap_or(Timestamp::UNIX_EPOCH))
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
