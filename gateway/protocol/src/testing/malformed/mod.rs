//! The corpus, by what is wrong: the frame, strings and identifiers, properties, or what one packet kind forbids.

mod fields;
mod framing;
mod packets;
mod properties;

use super::MalformedPacket;
use super::raw::RawPacket;
use crate::{ProtocolVersion, ReasonCode};

pub(super) fn all(samples: &[RawPacket]) -> Vec<MalformedPacket> {
    let mut corpus = Corpus(Vec::new());
    for sample in samples {
        framing::of(sample, &mut corpus);
        fields::of(sample, &mut corpus);
        properties::of(sample, &mut corpus);
        packets::of(sample, &mut corpus);
    }
    framing::reserved_types(&mut corpus);
    corpus.0
}

struct Corpus(Vec<MalformedPacket>);

impl Corpus {
    /// A variant of `sample` that has to be refused.
    fn add(&mut self, sample: &RawPacket, fault: impl AsRef<str>, bytes: Vec<u8>, expected: ReasonCode) {
        self.add_named(format!("{}: {}", sample.title(), fault.as_ref()), sample.version, bytes, expected);
    }

    fn add_named(&mut self, name: String, version: ProtocolVersion, bytes: Vec<u8>, expected: ReasonCode) {
        let before_connect = bytes.first().is_some_and(|first| first >> 4 == 1);
        self.0.push(MalformedPacket { name, version, bytes, expected, before_connect });
    }
}
