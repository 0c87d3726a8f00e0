//! One MQTT connection that does what it is told.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use gateway_protocol::packet::{
    Ack, Disconnect, Packet, Publish, Subscribe, SubscribeFiltersBuf, SubscribeOptions, Unsubscribe,
    UnsubscribeFiltersBuf,
};
use gateway_protocol::{PacketId, Properties, ProtocolVersion, QoS, ReasonCode, TopicFilter, encode};

use crate::{Frame, Hello, Message, TIMEOUT};

/// Why nothing more was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The peer closed the connection, in an orderly way or not.
    Closed,
    /// Nothing came in time.
    TimedOut,
}

/// A connection. Blocking, with every wait bounded by [`TIMEOUT`] unless said otherwise.
pub struct Client {
    stream: TcpStream,
    version: ProtocolVersion,
    received: Vec<u8>,
    /// Packets that came while another one was waited for.
    passed_over: VecDeque<Frame>,
    last_id: u16,
}

impl Client {
    /// A TCP connection on which nothing has been said.
    ///
    /// # Panics
    /// When nobody listens.
    #[must_use]
    pub fn open(address: SocketAddr, version: ProtocolVersion) -> Self {
        let stream = TcpStream::connect_timeout(&address, TIMEOUT).expect("the gateway accepts connections");
        Self::on(stream, version)
    }

    /// A client on a connection that was made elsewhere.
    ///
    /// # Panics
    /// When the socket takes no options.
    #[must_use]
    pub fn on(stream: TcpStream, version: ProtocolVersion) -> Self {
        stream.set_nodelay(true).unwrap();
        stream.set_write_timeout(Some(TIMEOUT)).unwrap();
        Self { stream, version, received: Vec::new(), passed_over: VecDeque::new(), last_id: 0 }
    }

    /// A connection whose CONNECT was accepted, and Session Present.
    ///
    /// # Panics
    /// When it was refused.
    #[must_use]
    pub fn connect(address: SocketAddr, hello: &Hello) -> (Self, bool) {
        let mut client = Self::open(address, hello.version);
        let session_present = client.greet(hello);
        (client, session_present)
    }

    /// Sends CONNECT and takes the CONNACK; answers Session Present.
    ///
    /// # Panics
    /// When it was refused.
    pub fn greet(&mut self, hello: &Hello) -> bool {
        self.send_bytes(&hello.bytes());
        let frame = self.next_packet();
        match frame.packet() {
            Packet::ConnAck(ack) if ack.reason_code == ReasonCode::Success => ack.session_present,
            other => panic!("{}: not accepted: {other:?}", hello.client_id),
        }
    }

    /// Sends bytes as they are. Whether they arrive, or the peer has closed, shows in what is received.
    pub fn send_bytes(&mut self, bytes: &[u8]) {
        if let Err(error) = self.stream.write_all(bytes) {
            assert!(is_closed(&error), "writing: {error}");
        }
    }

    /// The connection itself.
    pub fn stream(&mut self) -> &mut TcpStream {
        &mut self.stream
    }

    /// Sends a packet.
    ///
    /// # Panics
    /// When it is not legal: use [`Client::send_bytes`] for those.
    pub fn send(&mut self, packet: &Packet<'_>) {
        let mut bytes = Vec::new();
        encode(packet, self.version, &mut bytes).expect("a legal packet");
        self.send_bytes(&bytes);
    }

    /// The next packet, those passed over first.
    ///
    /// # Errors
    /// [`Ended`].
    pub fn receive(&mut self, limit: Duration) -> Result<Frame, Ended> {
        if let Some(frame) = self.passed_over.pop_front() {
            return Ok(frame);
        }
        self.receive_new(Instant::now() + limit)
    }

    fn receive_new(&mut self, end: Instant) -> Result<Frame, Ended> {
        let mut bytes = [0; 16 * 1024];
        loop {
            if let Some(frame) = Frame::take(&mut self.received, self.version) {
                return Ok(frame);
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Ended::TimedOut);
            }
            self.stream.set_read_timeout(Some(left)).unwrap();
            match self.stream.read(&mut bytes) {
                Ok(0) => return Err(Ended::Closed),
                Ok(count) => self.received.extend_from_slice(&bytes[..count]),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    return Err(Ended::TimedOut);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if is_closed(&error) => return Err(Ended::Closed),
                Err(error) => panic!("reading: {error}"),
            }
        }
    }

    /// The next packet.
    ///
    /// # Panics
    /// When there is none.
    pub fn next_packet(&mut self) -> Frame {
        self.receive(TIMEOUT).unwrap_or_else(|ended| panic!("a packet was expected: {ended:?}"))
    }

    /// The next packet that is `wanted`; others stay to be received.
    ///
    /// # Panics
    /// When it does not come. `what` is for the message.
    pub fn await_frame(&mut self, what: &str, wanted: impl Fn(&Packet<'_>) -> bool) -> Frame {
        if let Some(at) = self.passed_over.iter().position(|frame| wanted(&frame.packet())) {
            return self.passed_over.remove(at).unwrap();
        }
        let end = Instant::now() + TIMEOUT;
        loop {
            match self.receive_new(end) {
                Ok(frame) if wanted(&frame.packet()) => return frame,
                Ok(frame) => self.passed_over.push_back(frame),
                Err(ended) => panic!("{what} was expected: {ended:?}; there was {:?}", self.passed_over),
            }
        }
    }

    /// The connection was closed, or will be within `limit`: the Reason Code of the last CONNACK or DISCONNECT
    /// before that, if one came.
    ///
    /// # Panics
    /// When it stays open.
    pub fn await_close(&mut self, limit: Duration) -> Option<ReasonCode> {
        let end = Instant::now() + limit;
        let mut reason = None;
        loop {
            let frame = match self.passed_over.pop_front() {
                Some(frame) => Ok(frame),
                None => self.receive_new(end),
            };
            match frame.as_ref().map(Frame::packet) {
                Ok(Packet::Disconnect(disconnect)) => reason = Some(disconnect.reason_code),
                Ok(Packet::ConnAck(ack)) => reason = Some(ack.reason_code),
                Ok(_) => {}
                Err(Ended::Closed) => return reason,
                Err(Ended::TimedOut) => panic!("the connection is still open after {limit:?}"),
            }
        }
    }

    /// A Packet Identifier that was not used for the last 65,534 packets.
    pub fn new_id(&mut self) -> PacketId {
        self.last_id = self.last_id.checked_add(1).unwrap_or(1);
        PacketId::new(self.last_id).expect("not 0")
    }

    /// SUBSCRIBE with one filter or more; answers the Reason Codes of SUBACK.
    pub fn subscribe(&mut self, filters: &[(&str, QoS)]) -> Vec<ReasonCode> {
        let options: Vec<_> =
            filters.iter().map(|&(filter, qos)| (filter, SubscribeOptions::at_most(qos))).collect();
        self.subscribe_with(&options, Properties::default())
    }

    /// SUBSCRIBE with options and properties; answers the Reason Codes of SUBACK.
    ///
    /// # Panics
    /// When there is no SUBACK.
    pub fn subscribe_with(
        &mut self,
        filters: &[(&str, SubscribeOptions)],
        properties: Properties<'_>,
    ) -> Vec<ReasonCode> {
        let mut list = SubscribeFiltersBuf::new();
        for (filter, options) in filters {
            list.push(TopicFilter::parse(filter).expect("a Topic Filter"), *options);
        }
        let packet_id = self.new_id();
        self.send(&Packet::Subscribe(Subscribe { packet_id, properties, filters: list.as_filters() }));
        let frame = self.await_frame(
            "SUBACK",
            |packet| matches!(packet, Packet::SubAck(ack) if ack.packet_id == packet_id),
        );
        match frame.packet() {
            Packet::SubAck(ack) => ack.reason_codes.iter().collect(),
            _ => Vec::new(),
        }
    }

    /// UNSUBSCRIBE; answers the Reason Codes of UNSUBACK (none before version 5).
    ///
    /// # Panics
    /// When there is no UNSUBACK.
    pub fn unsubscribe(&mut self, filters: &[&str]) -> Vec<ReasonCode> {
        let mut list = UnsubscribeFiltersBuf::new();
        for filter in filters {
            list.push(TopicFilter::parse(filter).expect("a Topic Filter"));
        }
        let packet_id = self.new_id();
        self.send(&Packet::Unsubscribe(Unsubscribe {
            packet_id,
            properties: Properties::default(),
            filters: list.as_filters(),
        }));
        let frame = self.await_frame(
            "UNSUBACK",
            |packet| matches!(packet, Packet::UnsubAck(ack) if ack.packet_id == packet_id),
        );
        match frame.packet() {
            Packet::UnsubAck(ack) => ack.reason_codes.iter().collect(),
            _ => Vec::new(),
        }
    }

    /// Sends a PUBLISH and does not wait. At QoS 1, its Packet Identifier.
    pub fn send_publish(&mut self, topic: &str, payload: &str, qos: QoS) -> Option<PacketId> {
        self.send_publish_with(topic, payload.as_bytes(), qos, Properties::default())
    }

    /// Sends a PUBLISH with properties and does not wait. At QoS 1, its Packet Identifier.
    pub fn send_publish_with(
        &mut self,
        topic: &str,
        payload: &[u8],
        qos: QoS,
        properties: Properties<'_>,
    ) -> Option<PacketId> {
        let packet_id = (qos != QoS::AtMostOnce).then(|| self.new_id());
        let publish = Publish { dup: false, qos, retain: false, topic, packet_id, properties, payload };
        self.send(&Packet::Publish(publish));
        packet_id
    }

    /// Publishes; at QoS 1 waits for PUBACK and answers its Reason Code.
    pub fn publish(&mut self, topic: &str, payload: &str, qos: QoS) -> Option<ReasonCode> {
        let packet_id = self.send_publish(topic, payload, qos)?;
        Some(self.await_puback(packet_id))
    }

    /// The Reason Code of the PUBACK for `packet_id`.
    ///
    /// # Panics
    /// When it does not come.
    pub fn await_puback(&mut self, packet_id: PacketId) -> ReasonCode {
        let frame = self.await_frame(
            "PUBACK",
            |packet| matches!(packet, Packet::PubAck(ack) if ack.packet_id == packet_id),
        );
        match frame.packet() {
            Packet::PubAck(ack) => ack.reason_code,
            _ => ReasonCode::UnspecifiedError,
        }
    }

    /// The next message, not acknowledged.
    pub fn message(&mut self) -> Message {
        let frame = self.await_frame("PUBLISH", |packet| matches!(packet, Packet::Publish(_)));
        frame.message().expect("a PUBLISH")
    }

    /// The next `count` messages, acknowledged.
    pub fn messages(&mut self, count: usize) -> Vec<Message> {
        (0..count)
            .map(|_| {
                let message = self.message();
                self.acknowledge(&message);
                message
            })
            .collect()
    }

    /// PUBACK, if the message asks for one.
    pub fn acknowledge(&mut self, message: &Message) {
        if let Some(packet_id) = message.packet_id {
            self.send(&Packet::PubAck(Ack::success(packet_id)));
        }
    }

    /// A round trip: all that was sent before has been read by the gateway when this returns.
    pub fn ping(&mut self) {
        self.send(&Packet::PingReq);
        self.await_frame("PINGRESP", |packet| matches!(packet, Packet::PingResp));
    }

    /// DISCONNECT with Reason Code 0, and the wait for the other side to close.
    pub fn leave(mut self) {
        self.send(&Packet::Disconnect(Disconnect {
            reason_code: ReasonCode::Success,
            properties: Properties::default(),
        }));
        self.await_close(TIMEOUT);
    }
}

/// The peer is gone, however it went.
fn is_closed(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ConnectionReset
            | ErrorKind::BrokenPipe
            | ErrorKind::ConnectionAborted
            | ErrorKind::NotConnected
    )
}
