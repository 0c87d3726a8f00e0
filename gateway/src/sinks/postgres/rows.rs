//! Events as rows, by COPY in its binary form.

use super::Row;
use gateway_protocol::property::Properties;
use gateway_storage::Offset;
use serde_json::{Map, Value};
use std::time::{Duration, UNIX_EPOCH};
use tokio_postgres::binary_copy::BinaryCopyInWriter;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Error, Transaction};

const TYPES: [Type; 8] =
    [Type::INT8, Type::TIMESTAMPTZ, Type::TEXT, Type::TEXT, Type::INT2, Type::BOOL, Type::JSONB, Type::BYTEA];

/// Copies `rows` into `table`, in their order.
pub(super) async fn copy(transaction: &Transaction<'_>, table: &str, rows: &[Row<'_>]) -> Result<(), Error> {
    if rows.is_empty() {
        return Ok(());
    }
    let sink = transaction
        .copy_in(&format!(
            "COPY {table} (stream_offset, received_at, client_id, topic, qos, retain, properties, payload)
             FROM STDIN (FORMAT binary)"
        ))
        .await?;
    let mut writer = std::pin::pin!(BinaryCopyInWriter::new(sink, &TYPES));
    for row in rows {
        let event = &row.event;
        let values: [&(dyn ToSql + Sync); 8] = [
            &row.offset.get().cast_signed(),
            &(UNIX_EPOCH + Duration::from_millis(event.received_ms)),
            &event.client_id,
            &event.topic,
            &i16::from(event.qos),
            &event.retain,
            &properties(event.properties),
            &event.payload,
        ];
        writer.as_mut().write(&values).await?;
    }
    writer.finish().await?;
    Ok(())
}

/// Whether the table has the event at `offset`.
pub(super) async fn contains(
    transaction: &Transaction<'_>,
    table: &str,
    offset: Offset,
) -> Result<bool, Error> {
    let sql = format!("SELECT EXISTS (SELECT FROM {table} WHERE stream_offset = $1)");
    transaction.query_one(&sql, &[&offset.get().cast_signed()]).await?.try_get(0)
}

/// What a subscriber would see of the properties; NULL when there are none. A User Property that comes more than once is an array.
fn properties(wire: &[u8]) -> Option<Value> {
    let properties = Properties::from_wire(wire).ok()?;
    let mut object = Map::new();
    if let Some(content_type) = properties.content_type() {
        object.insert("content_type".into(), text(content_type));
    }
    if let Some(topic) = properties.response_topic() {
        object.insert("response_topic".into(), text(topic));
    }
    let mut user = Map::new();
    for (name, value) in properties.user_properties() {
        match user.entry(name.replace('\0', "")) {
            serde_json::map::Entry::Vacant(entry) => {
                entry.insert(text(value));
            }
            serde_json::map::Entry::Occupied(mut entry) => {
                let old = entry.get_mut();
                match old {
                    Value::Array(values) => values.push(text(value)),
                    single => *single = Value::Array(vec![single.take(), text(value)]),
                }
            }
        }
    }
    if !user.is_empty() {
        object.insert("user".into(), Value::Object(user));
    }
    (!object.is_empty()).then_some(Value::Object(object))
}

/// PostgreSQL has no text with a zero character in it, and MQTT should not.
fn text(text: &str) -> Value {
    Value::String(text.replace('\0', ""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use gateway_protocol::property::{PropertiesBuf, Property};

    #[test]
    fn properties_are_an_object_or_nothing() {
        assert_eq!(properties(&[]), None);
        let mut buf = PropertiesBuf::new();
        for property in [
            Property::ContentType("text/plain"),
            Property::UserProperty { name: "unit", value: "kWh" },
            Property::UserProperty { name: "tag", value: "a" },
            Property::UserProperty { name: "tag", value: "b" },
            Property::UserProperty { name: "tag", value: "c" },
        ] {
            buf.push(property).unwrap();
        }
        let expected = serde_json::json!({
            "content_type": "text/plain",
            "user": { "unit": "kWh", "tag": ["a", "b", "c"] },
        });
        assert_eq!(properties(buf.as_properties().raw()), Some(expected));
    }
}
