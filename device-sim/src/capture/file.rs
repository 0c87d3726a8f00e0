//! Capture files, written and read frame by frame.

use std::io::{self, ErrorKind, Read, Write};

use gateway_protocol::packet::{Packet, Publish};
use gateway_protocol::{
    DecodeError, Decoded, EncodeError, PacketId, PropertiesBuf, ProtocolVersion, QoS, decode, encode,
};
use serde::{Deserialize, Serialize};

use super::{FRAME_BYTES_MAX, Message, is_kept};

const MAGIC: &[u8; 8] = b"dsimcap\x01";
const VERSION: ProtocolVersion = ProtocolVersion::V5;
const HEADER: u8 = b'H';
const MESSAGE: u8 = b'M';
const END: u8 = b'E';
/// In front of a body.
const PREFIX_BYTES: usize = 8;

/// Where and when a capture was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Header {
    /// When it began, milliseconds since the Unix epoch.
    pub(crate) began_unix_ms: u64,
    /// The broker.
    pub(crate) broker: String,
    /// What was subscribed to.
    pub(crate) filters: Vec<String>,
    /// Which levels of topics were anonymised, counted from 1.
    #[serde(default)]
    pub(crate) anonymised: Vec<usize>,
}

/// How a capture ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ending {
    /// Messages in the file.
    pub(crate) messages: u64,
    /// Why there are no more.
    pub(crate) ended_by: String,
}

/// What is next in a file.
#[derive(Debug, PartialEq)]
pub(crate) enum Item {
    /// A message.
    Message(Message),
    /// The end, as it was written.
    End(Ending),
    /// The file was cut short, after so many bytes that are good.
    CutShort {
        /// How many.
        good_bytes: u64,
    },
}

/// Why a file cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CaptureError {
    /// The file system refused.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// It does not begin as a capture does.
    #[error("this is no capture, or of a newer version")]
    NotACapture,
    /// A frame is not what was written.
    #[error("the capture is damaged at byte {at}: {what}")]
    Damaged {
        /// Where the frame begins.
        at: u64,
        /// What is wrong.
        what: &'static str,
    },
    /// A message does not fit.
    #[error("a message of {0} bytes is larger than a capture takes")]
    TooLarge(usize),
    /// A message that MQTT has no form for.
    #[error("{0}")]
    Unencodable(#[from] EncodeError),
}

/// Writes a capture.
pub(crate) struct Writer<W> {
    out: W,
    frame: Vec<u8>,
    messages: u64,
    bytes: u64,
}

/// Reads a capture.
pub(crate) struct Reader<R> {
    input: R,
    body: Vec<u8>,
    at: u64,
    ended: bool,
}

impl<W: Write> Writer<W> {
    /// Begins a capture.
    pub(crate) fn new(mut out: W, header: &Header) -> Result<Self, CaptureError> {
        out.write_all(MAGIC)?;
        let mut writer = Writer { out, frame: Vec::new(), messages: 0, bytes: MAGIC.len() as u64 };
        let json = serde_json::to_vec(header).map_err(io::Error::from)?;
        writer.put(HEADER, |body| {
            body.extend_from_slice(&json);
            Ok(())
        })?;
        Ok(writer)
    }

    /// Appends a message.
    pub(crate) fn push(&mut self, message: &Message) -> Result<(), CaptureError> {
        self.put(MESSAGE, |body| {
            body.extend_from_slice(&message.at_us.to_le_bytes());
            let publish = Publish {
                dup: false,
                qos: message.qos,
                retain: message.retain,
                topic: &message.topic,
                packet_id: if message.qos == QoS::AtMostOnce { None } else { PacketId::new(1) },
                properties: message.properties.as_properties(),
                payload: &message.payload,
            };
            Ok(encode(&Packet::Publish(publish), VERSION, body)?)
        })?;
        self.messages += 1;
        Ok(())
    }

    /// How large the file is.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// How many messages are in it.
    pub(crate) fn messages(&self) -> u64 {
        self.messages
    }

    /// Writes the end and hands the file back, flushed.
    pub(crate) fn finish(mut self, ended_by: &str) -> Result<W, CaptureError> {
        let ending = Ending { messages: self.messages, ended_by: ended_by.to_owned() };
        let json = serde_json::to_vec(&ending).map_err(io::Error::from)?;
        self.put(END, |body| {
            body.extend_from_slice(&json);
            Ok(())
        })?;
        self.out.flush()?;
        Ok(self.out)
    }

    fn put(
        &mut self,
        kind: u8,
        fill: impl FnOnce(&mut Vec<u8>) -> Result<(), CaptureError>,
    ) -> Result<(), CaptureError> {
        self.frame.clear();
        self.frame.resize(PREFIX_BYTES, 0);
        self.frame.push(kind);
        fill(&mut self.frame)?;
        let (prefix, body) = self.frame.split_at_mut(PREFIX_BYTES);
        if body.len() > FRAME_BYTES_MAX {
            return Err(CaptureError::TooLarge(body.len()));
        }
        let (length, crc) = prefix.split_at_mut(PREFIX_BYTES / 2);
        length.copy_from_slice(&(body.len() as u32).to_le_bytes());
        crc.copy_from_slice(&crc32c::crc32c(body).to_le_bytes());
        self.out.write_all(&self.frame)?;
        self.bytes += self.frame.len() as u64;
        Ok(())
    }
}

impl<R: Read> Reader<R> {
    /// Opens a capture and reads its header.
    pub(crate) fn new(mut input: R) -> Result<(Self, Header), CaptureError> {
        let mut magic = [0; MAGIC.len()];
        input.read_exact(&mut magic).map_err(|error| match error.kind() {
            ErrorKind::UnexpectedEof => CaptureError::NotACapture,
            _ => CaptureError::Io(error),
        })?;
        if magic != *MAGIC {
            return Err(CaptureError::NotACapture);
        }
        let mut reader = Reader { input, body: Vec::new(), at: MAGIC.len() as u64, ended: false };
        let at = reader.at;
        let damaged = |what| CaptureError::Damaged { at, what };
        match reader.frame()? {
            Some(HEADER) => {}
            _ => return Err(damaged("there is no header")),
        }
        let json = reader.body.get(1..).unwrap_or_default();
        let header = serde_json::from_slice(json).map_err(|_| damaged("the header cannot be read"))?;
        Ok((reader, header))
    }

    /// The next message, or how the file ends; nothing after that.
    pub(crate) fn next(&mut self) -> Result<Option<Item>, CaptureError> {
        if self.ended {
            return Ok(None);
        }
        let at = self.at;
        let damaged = |what| CaptureError::Damaged { at, what };
        let Some(kind) = self.frame()? else {
            self.ended = true;
            return Ok(Some(Item::CutShort { good_bytes: at }));
        };
        let body = self.body.get(1..).unwrap_or_default();
        match kind {
            MESSAGE => message(body)
                .map(|message| Some(Item::Message(message)))
                .ok_or_else(|| damaged("not a message")),
            END => {
                self.ended = true;
                let ending = serde_json::from_slice(body).map_err(|_| damaged("the end cannot be read"))?;
                Ok(Some(Item::End(ending)))
            }
            _ => Err(damaged("a frame of an unknown kind")),
        }
    }

    /// Reads a frame and answers its kind; none if the file ends before the frame does.
    fn frame(&mut self) -> Result<Option<u8>, CaptureError> {
        let damaged = |what| CaptureError::Damaged { at: self.at, what };
        let mut prefix = [0; PREFIX_BYTES];
        if fill(&mut self.input, &mut prefix)? < PREFIX_BYTES {
            return Ok(None);
        }
        let [a, b, c, d, e, f, g, h] = prefix;
        let length = u32::from_le_bytes([a, b, c, d]) as usize;
        if !(1..=FRAME_BYTES_MAX).contains(&length) {
            return Err(damaged("a frame of an impossible length"));
        }
        self.body.resize(length, 0);
        if fill(&mut self.input, &mut self.body)? < length {
            return Ok(None);
        }
        if crc32c::crc32c(&self.body) != u32::from_le_bytes([e, f, g, h]) {
            return Err(damaged("the checksum is another one"));
        }
        self.at += (PREFIX_BYTES + length) as u64;
        Ok(self.body.first().copied())
    }
}

fn message(body: &[u8]) -> Option<Message> {
    let (at_us, packet) = body.split_first_chunk::<8>()?;
    let decoded: Result<Decoded<'_>, DecodeError> = decode(packet, VERSION, FRAME_BYTES_MAX);
    let Ok(Decoded::Packet { packet: Packet::Publish(publish), consumed }) = decoded else { return None };
    let mut properties = PropertiesBuf::new();
    properties.extend_filtered(publish.properties, is_kept).ok()?;
    (consumed == packet.len() && !publish.topic.is_empty()).then(|| Message {
        at_us: u64::from_le_bytes(*at_us),
        qos: publish.qos,
        retain: publish.retain,
        topic: publish.topic.to_owned(),
        properties,
        payload: publish.payload.to_vec(),
    })
}

/// Reads as much as there is, up to the buffer's length; answers how much that was.
fn fill(input: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match input.read(rest) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

#[cfg(test)]
pub(super) mod tests {
    use gateway_protocol::Property;
    use proptest::prelude::*;

    use super::*;

    pub(in crate::capture) fn header() -> Header {
        Header {
            began_unix_ms: 1,
            broker: "b:1".to_owned(),
            filters: vec!["#".to_owned()],
            anonymised: vec![2],
        }
    }

    fn any_message() -> impl Strategy<Value = Message> {
        let payload = prop::collection::vec(any::<u8>(), 0..200);
        (any::<u64>(), 0..3_u8, any::<bool>(), "[a-zé/]{1,20}", "[a-z]{0,9}", payload).prop_map(
            |(at_us, qos, retain, topic, value, payload)| {
                let mut properties = PropertiesBuf::new();
                properties.push(Property::UserProperty { name: "site", value: &value }).unwrap();
                properties.push(Property::MessageExpiryInterval(60)).unwrap();
                Message { at_us, qos: QoS::from_u8(qos).unwrap(), retain, topic, properties, payload }
            },
        )
    }

    fn written(messages: &[Message]) -> Vec<u8> {
        let mut writer = Writer::new(Vec::new(), &header()).unwrap();
        for message in messages {
            writer.push(message).unwrap();
        }
        assert_eq!(writer.messages(), messages.len() as u64);
        let bytes = writer.bytes();
        let file = writer.finish("the test").unwrap();
        assert!(file.len() as u64 > bytes);
        file
    }

    /// What can be read, and the end or the error.
    fn read(file: &[u8]) -> (Vec<Message>, Result<Item, CaptureError>) {
        let (mut reader, _) = match Reader::new(file) {
            Ok(opened) => opened,
            Err(error) => return (Vec::new(), Err(error)),
        };
        let mut messages = Vec::new();
        loop {
            match reader.next() {
                Ok(Some(Item::Message(message))) => messages.push(message),
                Ok(Some(end)) => {
                    assert!(matches!(reader.next(), Ok(None)), "nothing after the end");
                    return (messages, Ok(end));
                }
                Ok(None) => unreachable!("there is an end"),
                Err(error) => return (messages, Err(error)),
            }
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(messages in prop::collection::vec(any_message(), 0..20)) {
            let (found, end) = read(&written(&messages));
            prop_assert_eq!(&found, &messages);
            let count = messages.len() as u64;
            prop_assert_eq!(end.unwrap(), Item::End(Ending { messages: count, ended_by: "the test".to_owned() }));
        }

        #[test]
        fn a_file_cut_short_is_good_up_to_there(messages in prop::collection::vec(any_message(), 1..8), cut in any::<prop::sample::Index>()) {
            let file = written(&messages);
            let (found, end) = read(&file[..cut.index(file.len())]);
            prop_assert!(messages.starts_with(&found));
            let is_said = matches!(end, Ok(Item::CutShort { .. }) | Err(CaptureError::NotACapture | CaptureError::Damaged { .. }));
            prop_assert!(is_said, "{:?}", end);
        }

        #[test]
        fn a_flipped_bit_is_never_read_as_a_message(messages in prop::collection::vec(any_message(), 1..8), at in any::<prop::sample::Index>(), bit in 0..8_u8) {
            let mut file = written(&messages);
            let at = at.index(file.len());
            file[at] ^= 1 << bit;
            let (found, end) = read(&file);
            prop_assert!(messages.starts_with(&found));
            prop_assert!(!matches!(end, Ok(Item::End(_))), "{:?}", end);
        }
    }
}
