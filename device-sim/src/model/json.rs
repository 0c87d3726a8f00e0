//! JSON by hand: numbers in fixed point and member names escaped once, so that a payload costs no formatting machinery.

/// The most decimals a number may have.
pub const DECIMALS_MAX: u8 = 6;

/// A member's name as it stands in the object: quoted, escaped, with the colon.
pub fn member_key(name: &str) -> Box<[u8]> {
    let mut key = quoted(name);
    key.push(b':');
    key.into()
}

/// A string, quoted and escaped.
pub fn quoted(text: &str) -> Vec<u8> {
    serde_json::Value::from(text).to_string().into_bytes()
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

    #[test]
    fn names_are_escaped() {
        assert_eq!(&*member_key("a\"b"), b"\"a\\\"b\":");
    }

    proptest! {
        #[test]
        fn a_written_number_reads_back_within_half_a_unit(value in -1e6..1e6_f64, decimals in 0..=DECIMALS_MAX) {
            let parsed: f64 = serde_json::from_str(&number(value, decimals)).unwrap();
            prop_assert!((parsed - value).abs() <= 0.5 / 10_f64.powi(i32::from(decimals)) + 1e-9);
        }
    }
}
