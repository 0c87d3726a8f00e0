//! CBOR [RFC 8949]: a map from names to values, the envelope first. Lengths are definite and as short as they can be.

use super::{Reading, rounded};
use crate::envelope::{self, CBOR_MEMBER};
use crate::model::{ModelSpec, Value};

const UNSIGNED: u8 = 0 << 5;
const NEGATIVE: u8 = 1 << 5;
const TEXT: u8 = 3 << 5;
const MAP: u8 = 5 << 5;
const FALSE: u8 = 0xf4;
const TRUE: u8 = 0xf5;
const NULL: u8 = 0xf6;
const DOUBLE: u8 = 0xfb;

/// Every field's name, written.
#[derive(Debug, PartialEq)]
pub struct Keys(Box<[Box<[u8]>]>);

impl Keys {
    pub(super) fn new(model: &ModelSpec) -> Self {
        let key = |name: &str| {
            let mut key = Vec::new();
            write_text(&mut key, name);
            key.into()
        };
        Keys(model.fields.iter().map(|field| key(&field.name)).collect())
    }

    pub(super) fn write(&self, out: &mut Vec<u8>, reading: &Reading<'_>) {
        write_head(out, MAP, reading.fields.len() as u64 + 1);
        out.extend_from_slice(CBOR_MEMBER);
        envelope::append_binary(out, reading.envelope, reading.kind);
        for (place, value) in reading.values() {
            out.extend_from_slice(self.0.get(place).map_or(&[][..], |key| key));
            match value {
                Value::Number { value, decimals } => match rounded(value, decimals) {
                    Some(whole) if decimals == 0 => write_integer(out, whole as i64),
                    Some(number) => {
                        out.push(DOUBLE);
                        out.extend_from_slice(&number.to_be_bytes());
                    }
                    None => out.push(NULL),
                },
                Value::Text(text) => write_text(out, text),
                Value::Flag(flag) => out.push(if flag { TRUE } else { FALSE }),
                Value::Time(time) => write_integer(out, time),
            }
        }
    }
}

fn write_text(out: &mut Vec<u8>, text: &str) {
    write_head(out, TEXT, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

fn write_integer(out: &mut Vec<u8>, value: i64) {
    match u64::try_from(value) {
        Ok(value) => write_head(out, UNSIGNED, value),
        Err(_) => write_head(out, NEGATIVE, !value as u64),
    }
}

fn write_head(out: &mut Vec<u8>, major: u8, argument: u64) {
    match argument {
        0..24 => out.push(major | argument as u8),
        24..0x100 => out.extend_from_slice(&[major | 24, argument as u8]),
        0x100..0x1_0000 => {
            out.push(major | 25);
            out.extend_from_slice(&(argument as u16).to_be_bytes());
        }
        0x1_0000..0x1_0000_0000 => {
            out.push(major | 26);
            out.extend_from_slice(&(argument as u32).to_be_bytes());
        }
        _ => {
            out.push(major | 27);
            out.extend_from_slice(&argument.to_be_bytes());
        }
    }
}
