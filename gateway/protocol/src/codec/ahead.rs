//! A look at what comes next, before it is decoded.

use super::primitives::read_varint;
use crate::packet::PacketType;

/// The Topic Names of the PUBLISH packets at the front of `bytes`, up to the first that is not whole or another packet: what they seem to be,
/// since nothing here is checked and a Topic Alias stands for nothing. For those who want to fetch early what they will need; what a packet
/// says is said by [`decode`](super::decode()).
pub fn topics_ahead(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let (first, after_first) = rest.split_first()?;
        if first >> 4 != PacketType::Publish as u8 {
            return None;
        }
        let (remaining, length_len) = read_varint(after_first).ok()??;
        let body = after_first.get(length_len..)?;
        let (body, next) = body.split_at_checked(remaining)?;
        rest = next;
        let (topic_len, body) = body.split_first_chunk()?;
        body.get(..usize::from(u16::from_be_bytes(*topic_len)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::Publish;
    use crate::{Packet, Properties, ProtocolVersion, QoS, encode};

    fn packets(topics: &[&str]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for topic in topics {
            let publish = Publish {
                dup: false,
                qos: QoS::AtMostOnce,
                retain: false,
                topic,
                packet_id: None,
                properties: Properties::default(),
                payload: &[7; 300],
            };
            encode(&Packet::Publish(publish), ProtocolVersion::V5, &mut bytes).unwrap();
        }
        bytes
    }

    #[test]
    fn topics_are_those_of_whole_publishes_up_to_another_packet() {
        let mut bytes = packets(&["a/b", "ü", "c"]);
        let topics = |bytes: &[u8]| topics_ahead(bytes).map(<[u8]>::to_vec).collect::<Vec<_>>();
        assert_eq!(topics(&bytes), [&b"a/b"[..], "ü".as_bytes(), b"c"]);
        assert_eq!(topics(&bytes[..bytes.len() - 1]).len(), 2);
        bytes.extend([0xC0, 0]);
        bytes.extend(packets(&["d"]));
        assert_eq!(topics(&bytes).len(), 3);
    }

    #[test]
    fn what_is_no_packet_has_no_topics() {
        for bytes in [
            &b""[..],
            &[0x30],
            &[0x30, 1, 0],
            &[0x30, 2, 0, 9],
            &[0x30, 0xFF, 0xFF, 0xFF, 0xFF, 1],
            &[0xF0, 0],
        ] {
            assert_eq!(topics_ahead(bytes).count(), 0, "{bytes:?}");
        }
    }
}
