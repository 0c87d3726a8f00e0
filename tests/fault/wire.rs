//! A connection for many-message clients: packets out in one write, packets in by one read.

use std::io;
use std::net::SocketAddr;

use gateway_protocol::packet::Packet;
use gateway_protocol::{Decoded, ProtocolVersion, ReasonCode, decode};
use gateway_tests::Hello;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const PACKET_BYTES_MAX: usize = 1 << 20;

/// A connection whose CONNECT was accepted.
pub(crate) struct Wire {
    stream: TcpStream,
    version: ProtocolVersion,
    received: Vec<u8>,
}

impl Wire {
    /// Connects, and Session Present. A gateway that is about to end may refuse.
    pub(crate) async fn connect(address: SocketAddr, hello: &Hello) -> io::Result<(Self, bool)> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let mut wire = Self { stream, version: hello.version, received: Vec::new() };
        wire.write(&hello.bytes()).await?;
        let mut session_present = None;
        while session_present.is_none() {
            wire.read(|packet| match packet {
                Packet::ConnAck(ack) if ack.reason_code == ReasonCode::Success => {
                    session_present = Some(ack.session_present);
                    false
                }
                // The end of the connection follows.
                Packet::ConnAck(ack) if ends(ack.reason_code) => false,
                Packet::Disconnect(last) if ends(last.reason_code) => false,
                other => panic!("{}: not accepted: {other:?}", hello.client_id),
            })
            .await?;
        }
        Ok((wire, session_present.unwrap_or_default()))
    }

    pub(crate) const fn version(&self) -> ProtocolVersion {
        self.version
    }

    pub(crate) async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await
    }

    /// Reads once and hands every whole packet to `take`, which may say (`false`) that it wants no more of them
    /// now. Cancel safe: what was read is kept.
    pub(crate) async fn read(&mut self, mut take: impl FnMut(Packet<'_>) -> bool) -> io::Result<()> {
        if self.received.is_empty() || !self.has_whole_packet() {
            self.received.reserve(64 * 1024);
            if self.stream.read_buf(&mut self.received).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        let mut used = 0;
        while used < self.received.len() {
            match decode(&self.received[used..], self.version, PACKET_BYTES_MAX) {
                Ok(Decoded::Packet { packet, consumed }) => {
                    used += consumed;
                    if !take(packet) {
                        break;
                    }
                }
                Ok(Decoded::Incomplete { .. }) => break,
                Err(error) => panic!("the gateway sent what is no MQTT: {error}"),
            }
        }
        self.received.drain(..used);
        Ok(())
    }

    fn has_whole_packet(&self) -> bool {
        matches!(decode(&self.received, self.version, PACKET_BYTES_MAX), Ok(Decoded::Packet { .. }))
    }
}

/// The gateway is in its drain, or its store takes nothing.
pub(crate) fn ends(reason: ReasonCode) -> bool {
    matches!(
        reason,
        ReasonCode::ServerShuttingDown
            | ReasonCode::ServerUnavailable
            | ReasonCode::ServerBusy
            | ReasonCode::QuotaExceeded
    )
}
