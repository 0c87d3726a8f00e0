//! The body of a POST: `{"sink": NAME, "events": [...]}`, each event in the form that the API shows it in ([`EventView`]).

use crate::event_view::EventView;
use crate::sinks::target::Row;
use serde::Serialize;

#[derive(Serialize)]
struct Body<'a> {
    sink: &'a str,
    events: Vec<EventView>,
}

pub(super) fn of(sink: &str, rows: &[Row<'_>]) -> Vec<u8> {
    let shown = |row: &Row<'_>| EventView::shown(row.offset.get(), row.time_ms, &row.event);
    let body = Body { sink, events: rows.iter().map(shown).collect() };
    // Strings and numbers: writing them into memory cannot fail.
    serde_json::to_vec(&body).unwrap_or_default()
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
            received_ms: 1_700_000_000_000,
            expires_at_ms: 0,
            properties: &[0x03, 0, 1, b'j', 0x26, 0, 1, b'k', 0, 1, b'v'],
            payload: br#"{"kwh":1.5}"#,
        };
        let binary = Event { payload: &[0xff, 0], properties: &[], retain: true, ..event };
        let time_ms = 1_700_000_000_123;
        let rows = [
            Row { offset: Offset::new(41), time_ms, event },
            Row { offset: Offset::new(43), time_ms, event: binary },
        ];
        let json: serde_json::Value = serde_json::from_slice(&of("billing", &rows)).unwrap();
        let expected = serde_json::json!({
            "sink": "billing",
            "events": [
                {
                    "offset": 41, "time": "2023-11-14T22:13:20.123Z", "publisher": "meter-7",
                    "topic": "devices/meter-7/energy", "qos": 1, "retain": false,
                    "properties": {"content_type": "j", "user": [["k", "v"]]}, "payload": "{\"kwh\":1.5}",
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
