//! Streams made while the gateway runs: entries of the log, and rows of the view.

use super::{STREAMS_MAX, StreamOptions, Streams, Usages};
use crate::engine::snapshot::{IllegibleRow, chunked, pack};
use gateway_storage::{ChangeError, Changes, Entry, Table};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// What keys of the table Meta begin with that hold a stream which was made.
pub(in crate::engine) const SPEC_PREFIX: &str = "made-stream/";
/// Bytes of an encoded spec at most, so that it is one row.
pub(super) const SPEC_BYTES_MAX: usize = 100 << 10;
/// The longest name of a stream in bytes.
const NAME_BYTES_MAX: usize = 64;

/// What a stream keeps, as it stands in the log: the content of [`Entry::StreamSet`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::engine) struct StreamSpec {
    pub(super) topics: Vec<String>,
    pub(super) max_age_ms: u64,
    pub(super) max_bytes: u64,
}

/// Streams that were made, those that stand behind a configured one included.
#[derive(Debug, Default)]
pub(in crate::engine) struct Made {
    specs: BTreeMap<Box<str>, StreamSpec>,
    unsaved: BTreeSet<Box<str>>,
}

impl StreamSpec {
    pub(super) fn of(options: &StreamOptions) -> Self {
        Self { topics: options.topics.clone(), max_age_ms: options.max_age_ms, max_bytes: options.max_bytes }
    }

    pub(super) fn options(&self, name: &str) -> StreamOptions {
        StreamOptions {
            name: name.into(),
            topics: self.topics.clone(),
            max_age_ms: self.max_age_ms,
            max_bytes: self.max_bytes,
        }
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        pack(self)
    }
}

/// Whether a stream may have this name: 1 to 64 of a-z, 0-9, - and _.
pub(super) fn is_stream_name(name: &str) -> bool {
    let valid = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(&byte);
    (1..=NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(valid)
}

impl Streams {
    /// Applies an entry that makes, alters or removes a stream; answers whether what is kept may have changed.
    pub(in crate::engine) fn apply(&self, entry: &Entry<'_>, usages: &mut Usages) -> bool {
        match *entry {
            Entry::StreamSet { name, spec, .. } => self.make(name, spec, usages),
            Entry::StreamRemoved { name, .. } => self.unmake(name, usages),
            _ => false,
        }
    }

    fn make(&self, name: &str, spec: &[u8], usages: &mut Usages) -> bool {
        if !is_stream_name(name) || spec.len() > SPEC_BYTES_MAX {
            return false;
        }
        let Ok(spec) = rmp_serde::from_slice::<StreamSpec>(spec) else { return false };
        {
            let mut made = self.made();
            if !made.specs.contains_key(name) && made.specs.len() >= STREAMS_MAX {
                return false;
            }
            made.specs.insert(name.into(), spec.clone());
            made.unsaved.insert(name.into());
        }
        if self.is_configured(name) {
            return false;
        }
        self.enforce(spec.options(name), false, usages);
        true
    }

    fn unmake(&self, name: &str, usages: &mut Usages) -> bool {
        {
            let mut made = self.made();
            if made.specs.remove(name).is_none() {
                return false;
            }
            made.unsaved.insert(name.into());
        }
        if self.is_configured(name) {
            return false;
        }
        self.end(name, usages);
        true
    }

    pub(super) fn is_configured(&self, name: &str) -> bool {
        self.id(name).and_then(|id| self.get(id)).is_some_and(|stream| stream.configured)
    }
}

impl Made {
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &StreamSpec)> {
        self.specs.iter().map(|(name, spec)| (&**name, spec))
    }

    pub(super) fn has_unsaved(&self) -> bool {
        !self.unsaved.is_empty()
    }

    pub(super) fn save(&mut self, changes: &mut Changes) -> Result<(), ChangeError> {
        for name in std::mem::take(&mut self.unsaved) {
            let key = [SPEC_PREFIX, &name].concat();
            match self.specs.get(&name) {
                Some(spec) => chunked::put(changes, Table::Meta, &key, spec).map(|_| ())?,
                None => chunked::delete(changes, Table::Meta, &key, 0..1)?,
            }
        }
        Ok(())
    }

    pub(in crate::engine) fn restore(rows: chunked::Loader) -> Result<Self, IllegibleRow> {
        let mut made = Self::default();
        for (key, _, spec) in rows.finish::<StreamSpec>(Table::Meta)? {
            made.specs.insert(key.strip_prefix(SPEC_PREFIX).unwrap_or(&key).into(), spec);
        }
        Ok(made)
    }
}
