//! MessagePack: a map from names to values, the envelope first.

use rmp::encode::{write_bool, write_f64, write_map_len, write_nil, write_sint, write_str};

use super::{Reading, rounded};
use crate::envelope::{self, MESSAGE_PACK_MEMBER};
use crate::model::{ModelSpec, Value};

/// Every field's name, written.
#[derive(Debug, PartialEq)]
pub struct Keys(Box<[Box<[u8]>]>);

// Writing into memory cannot fail, so the results below are of no use.
impl Keys {
    pub(super) fn new(model: &ModelSpec) -> Self {
        let key = |name: &str| {
            let mut key = Vec::new();
            let _ = write_str(&mut key, name);
            key.into()
        };
        Keys(model.fields.iter().map(|field| key(&field.name)).collect())
    }

    pub(super) fn write(&self, out: &mut Vec<u8>, reading: &Reading<'_>) {
        let _ = write_map_len(out, reading.fields.len() as u32 + 1);
        out.extend_from_slice(MESSAGE_PACK_MEMBER);
        envelope::append_binary(out, reading.envelope, reading.kind);
        for (place, value) in reading.values() {
            out.extend_from_slice(self.0.get(place).map_or(&[][..], |key| key));
            let _written = match value {
                Value::Number { value, decimals } => match rounded(value, decimals) {
                    Some(whole) if decimals == 0 => write_sint(out, whole as i64).is_ok(),
                    Some(number) => write_f64(out, number).is_ok(),
                    None => write_nil(out).is_ok(),
                },
                Value::Text(text) => write_str(out, text).is_ok(),
                Value::Flag(flag) => write_bool(out, flag).is_ok(),
                Value::Time(time) => write_sint(out, time).is_ok(),
            };
        }
    }
}
