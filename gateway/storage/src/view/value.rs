//! How a value lies in the store: version, checksum, bytes.

use crc32c::{crc32c, crc32c_append};

use super::changes::OWN_TABLE;

/// The view's format.
pub(super) const VIEW_FORMAT: u64 = 1;
/// Key of the format, in the view's own table.
pub(super) const FORMAT_KEY: [u8; 2] = [OWN_TABLE, b'f'];
/// Key of the applied offset, in the view's own table.
pub(super) const APPLIED_KEY: [u8; 2] = [OWN_TABLE, b'a'];
/// Key that is there as long as rows are being filled in from a checkpoint.
pub(super) const UNFINISHED_KEY: [u8; 2] = [OWN_TABLE, b'u'];

/// Bytes in front of every value.
pub(super) const VALUE_HEADER_LEN: usize = 5;
const VALUE_VERSION: u8 = 1;

/// The value as it is stored. The checksum covers the key as well, so that a value that turns up under another key is
/// noticed.
pub(super) fn seal(key: &[u8], value: &[u8]) -> Vec<u8> {
    let mut sealed = Vec::with_capacity(VALUE_HEADER_LEN + value.len());
    sealed.push(VALUE_VERSION);
    sealed.extend_from_slice(&crc32c_append(crc32c(key), value).to_le_bytes());
    sealed.extend_from_slice(value);
    sealed
}

/// The value that was stored, if it is undamaged.
pub(super) fn open<'a>(key: &[u8], sealed: &'a [u8]) -> Option<&'a [u8]> {
    let (&version, rest) = sealed.split_first()?;
    let (crc, value) = rest.split_first_chunk()?;
    let whole = version == VALUE_VERSION && u32::from_le_bytes(*crc) == crc32c_append(crc32c(key), value);
    whole.then_some(value)
}
