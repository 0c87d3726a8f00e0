//! JSON by hand: numbers in fixed point and member names escaped once, so that a payload costs no formatting machinery.

use super::Reading;
use crate::envelope::{self, Kind};
use crate::model::{DECIMALS_MAX, ModelSpec, Value};

/// `,"name":` for every field.
#[derive(Debug, PartialEq)]
pub struct Keys(Box<[Box<[u8]>]>);

impl Keys {
    pub(super) fn new(model: &ModelSpec) -> Self {
        let key = |name: &str| {
            let mut key = vec![b','];
            write_text(&mut key, name);
            key.push(b':');
            key.into()
        };
        Keys(model.fields.iter().map(|field| key(&field.name)).collect())
    }

    pub(super) fn write(&self, out: &mut Vec<u8>, reading: &Reading<'_>) {
        match reading.kind {
            Kind::Event => envelope::begin(out, reading.envelope),
            Kind::Aside => envelope::begin_aside(out, reading.envelope),
        }
        for (place, value) in reading.values() {
            out.extend_from_slice(self.0.get(place).map_or(&[][..], |key| key));
            write_value(out, value);
        }
        out.push(b'}');
    }
}

fn write_value(out: &mut Vec<u8>, value: Value<'_>) {
    match value {
        Value::Number { value, decimals } => write_number(out, value, decimals),
        Value::Text(text) => write_text(out, text),
        Value::Flag(true) => out.extend_from_slice(b"true"),
        Value::Flag(false) => out.extend_from_slice(b"false"),
        Value::Time(time) => {
            if time < 0 {
                out.push(b'-');
            }
            write_digits(out, time.unsigned_abs(), 1);
        }
    }
}

/// Appends a string, quoted and escaped.
pub fn write_text(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    for byte in text.bytes() {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            0..0x20 => {
                out.extend_from_slice(b"\\u00");
                out.extend([byte >> 4, byte & 0xf].map(|digit| match digit {
                    0..=9 => b'0' + digit,
                    _ => b'a' - 10 + digit,
                }));
            }
            _ => out.push(byte),
        }
    }
    out.push(b'"');
}

/// Appends a number rounded to so many decimals. What JSON cannot say (NaN, infinity) and what leaves the range of
/// fixed point is written as `null`.
pub fn write_number(out: &mut Vec<u8>, value: f64, decimals: u8) {
    let scale = 10_u64.pow(u32::from(decimals.min(DECIMALS_MAX)));
    let scaled = (value * scale as f64).round();
    if !scaled.is_finite() || scaled.abs() >= 9e15 {
        out.extend_from_slice(b"null");
        return;
    }
    if scaled < 0.0 {
        out.push(b'-');
    }
    let magnitude = scaled.abs() as u64;
    write_digits(out, magnitude / scale, 1);
    if decimals > 0 {
        out.push(b'.');
        write_digits(out, magnitude % scale, usize::from(decimals.min(DECIMALS_MAX)));
    }
}

/// Appends a number in decimal with at least `width` digits.
fn write_digits(out: &mut Vec<u8>, mut value: u64, width: usize) {
    let start = out.len();
    while value > 0 || out.len() < start + width {
        out.push(b'0' + (value % 10) as u8);
        value /= 10;
    }
    if let Some(digits) = out.get_mut(start..) {
        digits.reverse();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn number(value: f64, decimals: u8) -> String {
        let mut out = Vec::new();
        write_number(&mut out, value, decimals);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn numbers_are_rounded_and_padded() {
        assert_eq!(number(4.256, 2), "4.26");
        assert_eq!(number(-0.05, 1), "-0.1");
        assert_eq!(number(-0.001, 2), "0.00");
        assert_eq!(number(7.0, 0), "7");
        assert_eq!(number(12.000_04, 4), "12.0000");
        assert_eq!(number(f64::NAN, 2), "null");
        assert_eq!(number(1e300, 2), "null");
    }

    proptest! {
        #[test]
        fn any_text_reads_back(text in any::<String>()) {
            let mut out = Vec::new();
            write_text(&mut out, &text);
            prop_assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), text);
        }

        #[test]
        fn a_written_number_reads_back_within_half_a_unit(value in -1e6..1e6_f64, decimals in 0..=DECIMALS_MAX) {
            let parsed: f64 = serde_json::from_str(&number(value, decimals)).unwrap();
            prop_assert!((parsed - value).abs() <= 0.5 / 10_f64.powi(i32::from(decimals)) + 1e-9);
        }
    }
}
