//! A packet as a list of parts that can be exchanged one by one: what the corpus is made of.

use crate::{ProtocolVersion, ReasonCode};

/// One field of a packet.
#[derive(Clone, Debug)]
pub(super) enum Part {
    /// Bytes as they are.
    Bytes(Vec<u8>),
    /// A Packet Identifier.
    PacketId(u16),
    /// A UTF-8 Encoded String; not necessarily well-formed.
    Text(Vec<u8>),
    /// Binary Data.
    Binary(Vec<u8>),
    /// A Property Length and its list.
    Properties { carrier: u8, list: Vec<Part> },
    /// An application payload: a packet may end anywhere in it.
    Payload(Vec<u8>),
    /// No bytes. A packet that ended here would be fine, or refused with another code than Malformed Packet.
    MayEnd(Option<ReasonCode>),
}

/// A `Part::Properties` names its packet by packet type; the properties of a Will by this.
pub(super) const WILL: u8 = 0;

impl Part {
    pub(super) fn text(text: &str) -> Self {
        Self::Text(text.as_bytes().to_vec())
    }

    pub(super) fn put(&self, out: &mut Vec<u8>) {
        match self {
            Self::Bytes(bytes) | Self::Payload(bytes) => out.extend_from_slice(bytes),
            Self::PacketId(id) => out.extend_from_slice(&id.to_be_bytes()),
            Self::Text(bytes) | Self::Binary(bytes) => {
                out.extend_from_slice(&(bytes.len() as u16).to_be_bytes());
                out.extend_from_slice(bytes);
            }
            Self::Properties { list, .. } => {
                let list = concat(list);
                out.extend(varint(list.len(), 1));
                out.extend(list);
            }
            Self::MayEnd(_) => {}
        }
    }
}

pub(super) fn concat(parts: &[Part]) -> Vec<u8> {
    let mut bytes = Vec::new();
    parts.iter().for_each(|part| part.put(&mut bytes));
    bytes
}

/// A Variable Byte Integer, stretched to `least_len` bytes.
pub(super) fn varint(value: usize, least_len: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = value;
    loop {
        let byte = (rest & 0x7F) as u8;
        rest >>= 7;
        if rest == 0 && bytes.len() + 1 >= least_len {
            bytes.push(byte);
            return bytes;
        }
        bytes.push(byte | 0x80);
    }
}

/// A packet of the kinds that a client sends.
#[derive(Clone, Debug)]
pub(super) struct RawPacket {
    pub(super) name: &'static str,
    pub(super) version: ProtocolVersion,
    pub(super) first: u8,
    pub(super) parts: Vec<Part>,
}

impl RawPacket {
    pub(super) fn title(&self) -> String {
        format!("{} {}", self.version, self.name)
    }

    pub(super) fn packet_type(&self) -> u8 {
        self.first >> 4
    }

    pub(super) fn body(&self) -> Vec<u8> {
        concat(&self.parts)
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        framed(self.first, &self.body())
    }

    /// The packet with one part exchanged.
    pub(super) fn with(&self, index: usize, part: Part) -> Vec<u8> {
        let mut changed = self.clone();
        if let Some(place) = changed.parts.get_mut(index) {
            *place = part;
        }
        changed.bytes()
    }

    /// What has to be said if the body ended after `length` bytes; `None` if that would be a valid packet.
    pub(super) fn verdict_on_cut(&self, length: usize) -> Option<ReasonCode> {
        let mut start = 0;
        for part in &self.parts {
            let end = start + concat(std::slice::from_ref(part)).len();
            match part {
                Part::Payload(_) if (start..=end).contains(&length) => return None,
                Part::MayEnd(verdict) if start == length => return *verdict,
                _ => start = end,
            }
        }
        Some(ReasonCode::MalformedPacket)
    }
}

/// First byte, Remaining Length, body.
pub(super) fn framed(first: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    bytes.extend(varint(body.len(), 1));
    bytes.extend_from_slice(body);
    bytes
}
