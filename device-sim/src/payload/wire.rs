//! The wire format of Protocol Buffers: tags, variable-length integers, and a reader that trusts nobody.

/// How a field's value is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WireType {
    Varint = 0,
    Fixed64 = 1,
    Delimited = 2,
    Fixed32 = 5,
}

pub(super) fn write_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

pub(super) fn write_tag(out: &mut Vec<u8>, field: u32, wire_type: WireType) {
    write_varint(out, u64::from(field) << 3 | wire_type as u64);
}

pub(super) fn write_bytes(out: &mut Vec<u8>, field: u32, bytes: &[u8]) {
    write_tag(out, field, WireType::Delimited);
    write_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

pub(super) fn write_number(out: &mut Vec<u8>, field: u32, value: u64) {
    write_tag(out, field, WireType::Varint);
    write_varint(out, value);
}

pub(super) fn write_double(out: &mut Vec<u8>, field: u32, value: f64) {
    write_tag(out, field, WireType::Fixed64);
    out.extend_from_slice(&value.to_le_bytes());
}

/// A signed integer so that small ones of either sign are short.
pub(super) fn zigzag(value: i64) -> u64 {
    (value << 1 ^ value >> 63) as u64
}

/// A field as it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wire<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    /// A fixed-width value, of no interest here.
    Fixed,
}

/// The fields of a message up to the first that is malformed.
pub(super) fn fields(mut rest: &[u8]) -> impl Iterator<Item = (u32, Wire<'_>)> {
    std::iter::from_fn(move || {
        let tag = read_varint(&mut rest)?;
        let field = u32::try_from(tag >> 3).ok()?;
        let wire = match tag & 7 {
            0 => Wire::Number(read_varint(&mut rest)?),
            1 => take(&mut rest, 8).map(|_| Wire::Fixed)?,
            2 => {
                let length = usize::try_from(read_varint(&mut rest)?).ok()?;
                Wire::Bytes(take(&mut rest, length)?)
            }
            5 => take(&mut rest, 4).map(|_| Wire::Fixed)?,
            _ => return None,
        };
        Some((field, wire))
    })
}

fn read_varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = *take(rest, 1)?.first()?;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

fn take<'a>(rest: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (taken, left) = rest.split_at_checked(count)?;
    *rest = left;
    Some(taken)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_written_reads_back() {
        let mut out = Vec::new();
        write_number(&mut out, 1, u64::MAX);
        write_bytes(&mut out, 2, b"ab");
        write_double(&mut out, 3, 1.5);
        let read: Vec<_> = fields(&out).collect();
        assert_eq!(read, [(1, Wire::Number(u64::MAX)), (2, Wire::Bytes(b"ab")), (3, Wire::Fixed)]);
        assert_eq!([0, -1, 1, -2].map(zigzag), [0, 1, 2, 3]);
    }

    proptest! {
        #[test]
        fn any_bytes_come_to_an_end(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(fields(&bytes).count() <= bytes.len());
        }
    }
}
