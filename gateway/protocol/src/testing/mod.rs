//! Packets for tests, of this crate and of whoever serves MQTT over a socket: valid ones, and a corpus of malformed ones.
//!
//! All are of the kinds a client sends. They are put together byte by byte from tables written from the OASIS texts, without
//! the encoder and without the decoder's tables, so that a mistake in those shows. The same corpus comes out every time.
//! Only built with the feature `testing`.

mod malformed;
mod raw;
mod samples;

use crate::{ProtocolVersion, ReasonCode};

/// A whole packet that a server has to refuse, whatever the state of the connection.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MalformedPacket {
    /// What is wrong with it; unique within the corpus.
    pub name: String,
    /// Of the connection.
    pub version: ProtocolVersion,
    /// The packet.
    pub bytes: Vec<u8>,
    /// What [`crate::DecodeError::reason_code`] has to say.
    pub expected: ReasonCode,
    /// It is a CONNECT, so to be sent first; the others want a connection that has been accepted.
    pub before_connect: bool,
}

/// A whole packet that a decoder has to accept.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ValidPacket {
    /// What it is.
    pub name: String,
    /// Of the connection.
    pub version: ProtocolVersion,
    /// The packet, in its shortest form.
    pub bytes: Vec<u8>,
}

/// The corpus. None of its packets is merely incomplete: each is refused without waiting for another byte.
#[must_use]
pub fn malformed_packets() -> Vec<MalformedPacket> {
    malformed::all(&samples::all())
}

/// One or two packets of each kind that a client sends, in each version.
#[must_use]
pub fn valid_packets() -> Vec<ValidPacket> {
    let valid = |sample: raw::RawPacket| ValidPacket {
        name: sample.title(),
        version: sample.version,
        bytes: sample.bytes(),
    };
    samples::all().into_iter().map(valid).collect()
}
