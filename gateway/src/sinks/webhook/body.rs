//! The body of a POST: `{"sink": NAME, "events": [...]}`, each event with its offset, time (RFC 3339), publisher, topic, QoS, the
//! properties that a subscriber would see, and its payload: as `payload` where it is UTF-8, otherwise as `payload_base64`.

use crate::sinks::target::Row;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use gateway_protocol::property::Properties;
use serde::Serialize;

#[derive(Serialize)]
struct Body<'a> {
    sink: &'a str,
    events: Vec<EventBody<'a>>,
}

#[derive(Serialize)]
struct EventBody<'a> {
    offset: u64,
    time: String,
    publisher: &'a str,
    topic: &'a str,
    qos: u8,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    retain: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    content_type: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_topic: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    correlation_data_base64: Option<String>,
    /// Pairs, for a name may come more than once.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    user_properties: Vec<(&'a str, &'a str)>,
    #[serde(flatten)]
    payload: Payload<'a>,
}

#[derive(Serialize)]
enum Payload<'a> {
    #[serde(rename = "payload")]
    Text(&'a str),
    #[serde(rename = "payload_base64")]
    Base64(String),
}

pub(super) fn of(sink: &str, rows: &[Row<'_>]) -> Vec<u8> {
    let body = Body { sink, events: rows.iter().map(event).collect() };
    // Strings and numbers: writing them into memory cannot fail.
    serde_json::to_vec(&body).unwrap_or_default()
}

fn event<'a>(row: &Row<'a>) -> EventBody<'a> {
    let event = row.event;
    let properties = Properties::from_wire(event.properties).unwrap_or_default();
    EventBody {
        offset: row.offset.get(),
        time: rfc_3339(event.received_ms),
        publisher: event.client_id,
        topic: event.topic,
        qos: event.qos,
        retain: event.retain,
        content_type: properties.content_type(),
        response_topic: properties.response_topic(),
        correlation_data_base64: properties.correlation_data().map(|data| STANDARD.encode(data)),
        user_properties: properties.user_properties().collect(),
        payload: match std::str::from_utf8(event.payload) {
            Ok(text) => Payload::Text(text),
            Err(_) => Payload::Base64(STANDARD.encode(event.payload)),
        },
    }
}

fn rfc_3339(ms: u64) -> String {
    let ms = i64::try_from(ms).unwrap_or(i64::MAX);
    jiff::Timestamp::from_millisecond(ms).map_or_else(|_| ms.to_string(), |time| format!("{time:.3}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use gateway_storage::{Event, Offset};

    #[test]
    fn an_event_is_an_object_that_a_person_can_read() {
        let event = Event {
            client_id: "meter-7",
            topic: "devices/meter-7/energy",
            qos: 1,
            retain: false,
            received_ms: 1_700_000_000_123,
            expires_at_ms: 0,
            properties: &[0x03, 0, 1, b'j', 0x26, 0, 1, b'k', 0, 1, b'v'],
            payload: br#"{"kwh":1.5}"#,
        };
        let binary = Event { payload: &[0xff, 0], properties: &[], retain: true, ..event };
        let rows = [Row { offset: Offset::new(41), event }, Row { offset: Offset::new(43), event: binary }];
        let json: serde_json::Value = serde_json::from_slice(&of("billing", &rows)).unwrap();
        let expected = serde_json::json!({
            "sink": "billing",
            "events": [
                {
                    "offset": 41, "time": "2023-11-14T22:13:20.123Z", "publisher": "meter-7",
                    "topic": "devices/meter-7/energy", "qos": 1, "content_type": "j",
                    "user_properties": [["k", "v"]], "payload": "{\"kwh\":1.5}",
                },
                {
                    "offset": 43, "time": "2023-11-14T22:13:20.123Z", "publisher": "meter-7",
                    "topic": "devices/meter-7/energy", "qos": 1, "retain": true, "payload_base64": "/wA=",
                },
            ],
        });
        assert_eq!(json, expected);
    }
}
