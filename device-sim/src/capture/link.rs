//! A client for one connection and one thread: it blocks, and hands every packet to whoever waits for it.
//!
//! Built on the gateway's own codec, so that a message keeps every property it has. It does not reconnect: a recording with a
//! hole in it, or a replay with one, is worth less than an error.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use gateway_protocol::packet::{
    Ack, Connect, Disconnect, Packet, Subscribe, SubscribeFiltersBuf, SubscribeOptions,
};
use gateway_protocol::{
    DecodeError, Decoded, EncodeError, PacketId, Properties, PropertiesBuf, Property, ProtocolVersion, QoS,
    ReasonCode, TopicFilter, decode, encode,
};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::time::Timespec;

use super::FRAME_BYTES_MAX;

/// How long a connection, or an answer that everything waits for, may take.
const PATIENCE: Duration = Duration::from_secs(10);
const KEEP_ALIVE_SECS: u16 = 30;
/// After so long without a word of ours a PINGREQ is due.
const PING_AFTER: Duration = Duration::from_secs(12);
const READ_BYTES: usize = 64 << 10;
/// The largest packet: what a frame of a capture takes, with room for the frame's own.
const PACKET_BYTES_MAX: usize = FRAME_BYTES_MAX - (64 << 10);
/// What a peer may have unacknowledged here.
const RECEIVE_MAXIMUM: u16 = 1_000;
const SUBSCRIBE_ID: u16 = 1;

/// Why a link is of no more use.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LinkError {
    /// No connection, or it broke.
    #[error("the connection to the broker broke: {0}")]
    Io(#[from] io::Error),
    /// The broker hung up.
    #[error("the broker closed the connection")]
    Closed,
    /// The broker said no.
    #[error("the broker refused {what}: {reason:?}")]
    Refused {
        /// What was asked.
        what: &'static str,
        /// Its reason.
        reason: ReasonCode,
    },
    /// What came is no MQTT.
    #[error("the broker sent something illegal: {0}")]
    Illegal(#[from] DecodeError),
    /// What should be said cannot be said.
    #[error("a packet cannot be encoded: {0}")]
    Encode(#[from] EncodeError),
    /// Nothing came.
    #[error("no answer from the broker within {PATIENCE:?}")]
    Late,
}

/// One connection.
pub(crate) struct Link {
    stream: TcpStream,
    version: ProtocolVersion,
    /// What came and is not a whole packet yet.
    rest: Vec<u8>,
    out: Vec<u8>,
    wrote_at: Instant,
    /// What the peer takes unacknowledged.
    receive_maximum: u16,
}

impl Link {
    /// Connects with a clean session and waits for the CONNACK.
    pub(crate) fn connect(
        address: SocketAddr,
        client_id: &str,
        version: ProtocolVersion,
    ) -> Result<Self, LinkError> {
        let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let mut link = Link {
            stream,
            version,
            rest: Vec::new(),
            out: Vec::new(),
            wrote_at: Instant::now(),
            receive_maximum: u16::MAX,
        };
        let mut properties = PropertiesBuf::new();
        if version.is_v5() {
            // Both are legal and new here.
            let _ = properties.push(Property::ReceiveMaximum(RECEIVE_MAXIMUM));
            let _ = properties.push(Property::MaximumPacketSize(PACKET_BYTES_MAX as u32));
        }
        link.put(&Packet::Connect(Connect {
            version,
            clean_start: true,
            keep_alive_secs: KEEP_ALIVE_SECS,
            properties: properties.as_properties(),
            client_id,
            will: None,
            user_name: None,
            password: None,
        }))?;
        let (reason, receive_maximum) = link.wait_for(|packet| match packet {
            Packet::ConnAck(connack) => Some((connack.reason_code, connack.properties.receive_maximum())),
            _ => None,
        })?;
        // Without a word of it there is no limit but that of Packet Identifiers.
        link.receive_maximum = receive_maximum.unwrap_or(u16::MAX);
        if reason.is_error() {
            return Err(LinkError::Refused { what: "the connection", reason });
        }
        Ok(link)
    }

    /// Subscribes to all of these and waits until that is granted. Messages keep their RETAIN flag, where the version can
    /// say so. What comes before the SUBACK goes to `early`.
    pub(crate) fn subscribe(
        &mut self,
        filters: &[String],
        qos: QoS,
        mut early: impl FnMut(&Packet<'_>, &mut Replies<'_>) -> Result<(), LinkError>,
    ) -> Result<(), LinkError> {
        let options =
            SubscribeOptions { retain_as_published: self.version.is_v5(), ..SubscribeOptions::at_most(qos) };
        let mut wanted = SubscribeFiltersBuf::new();
        for filter in filters.iter().filter_map(|filter| TopicFilter::parse(filter).ok()) {
            wanted.push(filter, options);
        }
        let Some(packet_id) = PacketId::new(SUBSCRIBE_ID) else { return Ok(()) };
        let filters = wanted.as_filters();
        self.put(&Packet::Subscribe(Subscribe { packet_id, properties: Properties::default(), filters }))?;
        let began = Instant::now();
        let mut granted = None;
        while granted.is_none() {
            if began.elapsed() > PATIENCE {
                return Err(LinkError::Late);
            }
            self.poll(PATIENCE, |packet, replies| match packet {
                Packet::SubAck(suback) => {
                    let refused = suback.reason_codes.iter().find(|reason| reason.is_error());
                    granted = Some(refused.unwrap_or(ReasonCode::Success));
                    Ok(())
                }
                other => early(other, replies),
            })?;
        }
        match granted.filter(|reason| reason.is_error()) {
            Some(reason) => Err(LinkError::Refused { what: "a subscription", reason }),
            None => Ok(()),
        }
    }

    /// Appends a packet to what is written next.
    pub(crate) fn put(&mut self, packet: &Packet<'_>) -> Result<(), LinkError> {
        Ok(encode(packet, self.version, &mut self.out)?)
    }

    /// How many bytes wait for [`Link::flush`].
    pub(crate) fn unwritten(&self) -> usize {
        self.out.len()
    }

    /// How many publishes at QoS 1 and 2 the broker takes unacknowledged [MQTT-3.3.4-9].
    pub(crate) fn receive_maximum(&self) -> u16 {
        self.receive_maximum
    }

    /// Which version it speaks.
    pub(crate) fn version(&self) -> ProtocolVersion {
        self.version
    }

    /// Writes what is there.
    pub(crate) fn flush(&mut self) -> Result<(), LinkError> {
        if !self.out.is_empty() {
            self.stream.write_all(&self.out)?;
            self.out.clear();
            self.wrote_at = Instant::now();
        }
        Ok(())
    }

    /// Writes, waits so long for something to come, and hands every whole packet to `handle`, whose replies are written.
    pub(crate) fn poll(
        &mut self,
        wait: Duration,
        mut handle: impl FnMut(&Packet<'_>, &mut Replies<'_>) -> Result<(), LinkError>,
    ) -> Result<(), LinkError> {
        if self.wrote_at.elapsed() > PING_AFTER {
            self.put(&Packet::PingReq)?;
        }
        self.flush()?;
        let kept = self.rest.len();
        let mut count = 0;
        if self.is_readable(wait)? {
            self.rest.resize(kept + READ_BYTES, 0);
            count = match self.stream.read(self.rest.get_mut(kept..).unwrap_or_default()) {
                Ok(0) => return Err(LinkError::Closed),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::Interrupted => 0,
                Err(error) => return Err(error.into()),
            };
        }
        self.rest.truncate(kept + count);
        let mut used = 0;
        while let Decoded::Packet { packet, consumed } =
            decode(self.rest.get(used..).unwrap_or_default(), self.version, FRAME_BYTES_MAX)?
        {
            if let Packet::Disconnect(disconnect) = &packet {
                return Err(LinkError::Refused { what: "to go on", reason: disconnect.reason_code });
            }
            handle(&packet, &mut Replies { out: &mut self.out, version: self.version })?;
            used += consumed;
        }
        self.rest.drain(..used);
        self.flush()
    }

    /// Waits at most so long. The timeout of a read would be rounded up to the kernel's ticks, some milliseconds.
    fn is_readable(&self, wait: Duration) -> Result<bool, LinkError> {
        let wait = wait.min(PING_AFTER);
        let timeout = Timespec {
            tv_sec: i64::try_from(wait.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: wait.subsec_nanos().into(),
        };
        let mut waiting = [PollFd::new(&self.stream, PollFlags::IN)];
        match poll(&mut waiting, Some(&timeout)) {
            Ok(ready) => Ok(ready > 0),
            Err(Errno::INTR) => Ok(false),
            Err(error) => Err(LinkError::Io(error.into())),
        }
    }

    /// Says goodbye.
    pub(crate) fn disconnect(mut self) {
        // A peer that is gone already does not mind.
        let goodbye = Disconnect { reason_code: ReasonCode::Success, properties: Properties::default() };
        let _ = self.put(&Packet::Disconnect(goodbye));
        let _ = self.flush();
    }

    fn wait_for<T>(&mut self, pick: impl Fn(&Packet<'_>) -> Option<T>) -> Result<T, LinkError> {
        let began = Instant::now();
        while began.elapsed() < PATIENCE {
            let mut found = None;
            self.poll(PATIENCE, |packet, _| {
                found = found.take().or_else(|| pick(packet));
                Ok(())
            })?;
            if let Some(found) = found {
                return Ok(found);
            }
        }
        Err(LinkError::Late)
    }
}

/// What a packet is answered with.
pub(crate) struct Replies<'a> {
    out: &'a mut Vec<u8>,
    version: ProtocolVersion,
}

impl Replies<'_> {
    /// Answers a PUBLISH, or the PUBREL that follows it at QoS 2.
    pub(crate) fn acknowledge(&mut self, packet: &Packet<'_>) -> Result<(), LinkError> {
        let answer = match packet {
            Packet::Publish(publish) => match (publish.qos, publish.packet_id) {
                (QoS::AtLeastOnce, Some(packet_id)) => Packet::PubAck(Ack::success(packet_id)),
                (QoS::ExactlyOnce, Some(packet_id)) => Packet::PubRec(Ack::success(packet_id)),
                _ => return Ok(()),
            },
            Packet::PubRel(ack) => Packet::PubComp(Ack::success(ack.packet_id)),
            _ => return Ok(()),
        };
        Ok(encode(&answer, self.version, self.out)?)
    }

    /// Answers a PUBREC.
    pub(crate) fn release(&mut self, packet_id: PacketId) -> Result<(), LinkError> {
        Ok(encode(&Packet::PubRel(Ack::success(packet_id)), self.version, self.out)?)
    }
}
