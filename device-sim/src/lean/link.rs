//! One client's connection and what it takes to have one again: bytes in and out, and how far it has come.
//!
//! ```text
//! Resting ──dial──► Opening ──writable──► Connecting ──CONNACK──► (Subscribing ──SUBACK──►) Up
//!    ▲                 │                      │                          │                  │
//!    └──── pause ──────┴──────────────────────┴──────── broken ──────────┴──────────────────┘
//! ```
//!
//! It knows no event and no ledger: what the packets mean is the publisher's and the checker's business. An idle link owns no
//! buffer but the few hundred bytes that its last packet took.

use std::io::{self, ErrorKind, Read, Write};

use gateway_protocol::packet::{Connect, Will};
use gateway_protocol::{
    DecodeError, Decoded, Packet, Properties, PropertiesBuf, Property, ProtocolVersion, ReasonCode, decode,
    encode,
};

use super::poller::Poller;
use super::transport::{Dial, Transport};
use crate::mqtt::backoff::Backoff;
use crate::scenario::LEAN_KEEP_ALIVE_S;

/// The largest packet a broker may send: what one read takes.
pub(crate) const PACKET_BYTES_MAX: usize = 256 << 10;
/// What is gathered for one write.
pub(crate) const WRITE_BYTES: usize = 64 << 10;
/// Session Expiry Interval of durable sessions.
const SESSION_EXPIRY_SECS: u32 = 3_600;
/// Deliveries that may be unacknowledged towards a subscriber: read and answered by the batch.
pub(crate) const RECEIVE_MAXIMUM: u16 = 4_096;
/// A buffer of a busy link that is larger than this is given back.
const KEPT_BYTES: usize = 2 * WRITE_BYTES;

/// How far a link has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// There is no connection; a timer brings the next one.
    Resting,
    /// The transport is being opened.
    Opening,
    /// CONNECT is sent.
    Connecting,
    /// SUBSCRIBE is sent.
    Subscribing,
    /// In use.
    Up,
}

/// Why there is no connection any more.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Broken {
    /// The system said so.
    #[error("could not {doing}: {source}")]
    Io {
        /// A verb.
        doing: &'static str,
        /// What it said.
        source: io::Error,
    },
    /// The broker closed it.
    #[error("the broker closed the connection")]
    Closed,
    /// The scenario wants it broken.
    #[error("the connection was reset")]
    Reset,
    /// The broker sent what is not MQTT.
    #[error("the broker sent something illegal: {0}")]
    Illegal(#[from] DecodeError),
    /// The broker sent a packet that is larger than it was told to send.
    #[error("the broker sent a packet of more than {PACKET_BYTES_MAX} bytes")]
    TooLarge,
    /// The broker refused the CONNECT.
    #[error("the broker refused the connection: {0:?}")]
    Refused(ReasonCode),
    /// The broker said DISCONNECT.
    #[error("the broker disconnected the client: {0:?}")]
    Disconnected(ReasonCode),
    /// No answer to a CONNECT or a PINGREQ in time.
    #[error("the broker did not answer in time")]
    Silent,
    /// What was to be said has no form in MQTT.
    #[error("a packet cannot be encoded: {0}")]
    Encode(#[from] gateway_protocol::EncodeError),
}

/// See the module documentation.
pub(crate) struct Link {
    transport: Option<Box<dyn Transport>>,
    /// What is to be written; appended to by whoever owns the link.
    pub(crate) out: Vec<u8>,
    written: usize,
    /// The beginning of a packet whose rest has not come.
    rest: Vec<u8>,
    pub(crate) state: State,
    pub(crate) version: ProtocolVersion,
    is_watched: bool,
    waits_for_room: bool,
    waits_for_ping: bool,
    keep_alive_secs: u16,
    /// Counts connections: a timer that was set for an earlier one means nothing.
    pub(crate) generation: u32,
    /// When something was written last; the client's half of Keep Alive.
    written_us: u64,
    /// While it is in trouble.
    backoff: Option<Box<Backoff>>,
}

/// How a client introduces itself.
pub(crate) struct Introduction<'a> {
    pub(crate) client_id: &'a str,
    /// Its session outlives its connections.
    pub(crate) durable: bool,
    /// Seconds.
    pub(crate) keep_alive_secs: u16,
    /// Deliveries that may be unacknowledged; none: as many as there are identifiers.
    pub(crate) receive_maximum: Option<u16>,
    /// What the broker is to say for it.
    pub(crate) will: Option<Will<'a>>,
}

impl Link {
    pub(crate) fn new(version: ProtocolVersion) -> Self {
        Link {
            transport: None,
            out: Vec::new(),
            written: 0,
            rest: Vec::new(),
            state: State::Resting,
            version,
            is_watched: false,
            waits_for_room: false,
            waits_for_ping: false,
            keep_alive_secs: LEAN_KEEP_ALIVE_S,
            generation: 0,
            written_us: 0,
            backoff: None,
        }
    }

    /// Begins a connection; the poller tells when it is there.
    pub(crate) fn open(
        &mut self,
        dialer: &dyn Dial,
        number: u32,
        poller: &Poller,
        token: u64,
    ) -> Result<(), Broken> {
        let failed = |source| Broken::Io { doing: "connect", source };
        let transport = dialer.dial(number).map_err(failed)?;
        poller.add(&transport, token).map_err(failed)?;
        self.transport = Some(transport);
        self.state = State::Opening;
        (self.is_watched, self.waits_for_room) = (true, true);
        Ok(())
    }

    /// The transport is there, or came to nothing: says CONNECT.
    pub(crate) fn opened(&mut self, who: &Introduction<'_>) -> Result<(), Broken> {
        let Some(transport) = &mut self.transport else { return Ok(()) };
        transport.opened().map_err(|source| Broken::Io { doing: "connect", source })?;
        let mut properties = PropertiesBuf::new();
        if self.version.is_v5() {
            // All are legal, and new here.
            if who.durable {
                let _ = properties.push(Property::SessionExpiryInterval(SESSION_EXPIRY_SECS));
            }
            if let Some(maximum) = who.receive_maximum {
                let _ = properties.push(Property::ReceiveMaximum(maximum));
            }
            let _ = properties.push(Property::MaximumPacketSize(PACKET_BYTES_MAX as u32));
        }
        let connect = Connect {
            version: self.version,
            clean_start: !who.durable,
            keep_alive_secs: who.keep_alive_secs,
            properties: properties.as_properties(),
            client_id: who.client_id,
            will: who.will,
            user_name: None,
            password: None,
        };
        encode(&Packet::Connect(connect), self.version, &mut self.out)?;
        self.keep_alive_secs = who.keep_alive_secs;
        self.state = State::Connecting;
        Ok(())
    }

    /// CONNACK came: it stays, by the broker's Keep Alive if it has one of its own.
    pub(crate) fn accepted(&mut self, announced: &Properties<'_>) {
        let keep_alive = announced.iter().find_map(|property| match property {
            Property::ServerKeepAlive(secs) => Some(secs),
            _ => None,
        });
        self.keep_alive_secs = keep_alive.unwrap_or(self.keep_alive_secs);
        self.backoff = None;
    }

    /// Whether something is left to be written that the transport does not take.
    pub(crate) fn is_blocked(&self) -> bool {
        self.written < self.out.len() && self.waits_for_room
    }

    /// Writes what the transport takes. When it takes no more the poller says when it does.
    pub(crate) fn flush(&mut self, poller: &Poller, token: u64, now_us: u64) -> Result<(), Broken> {
        if self.state == State::Opening {
            return Ok(());
        }
        let Some(transport) = &mut self.transport else { return Ok(()) };
        while let Some(rest) = self.out.get(self.written..).filter(|rest| !rest.is_empty()) {
            match transport.write(rest) {
                Ok(0) => return Err(Broken::Closed),
                Ok(count) => {
                    self.written += count;
                    self.written_us = now_us;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    return self.wait_for_room(true, poller, token);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(source) => return Err(Broken::Io { doing: "write to a connection", source }),
            }
        }
        self.written = 0;
        self.out.clear();
        if self.out.capacity() > KEPT_BYTES {
            self.out = Vec::new();
        }
        self.wait_for_room(false, poller, token)
    }

    fn wait_for_room(&mut self, wanted: bool, poller: &Poller, token: u64) -> Result<(), Broken> {
        if self.is_watched
            && self.waits_for_room != wanted
            && let Some(transport) = &self.transport
        {
            poller
                .watch(transport, token, wanted)
                .map_err(|source| Broken::Io { doing: "watch a connection", source })?;
            self.waits_for_room = wanted;
        }
        Ok(())
    }

    /// The poller has nothing more to tell of it; its owner reads and flushes when it likes.
    pub(crate) fn unwatch(&mut self, poller: &Poller) -> Result<(), Broken> {
        let Some(transport) = &self.transport else { return Ok(()) };
        self.is_watched = false;
        poller.remove(transport).map_err(|source| Broken::Io { doing: "unwatch a connection", source })
    }

    /// One read into `buffer`, behind what came in pieces before: how many bytes of it hold packets now. None: nothing new.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> Result<Option<usize>, Broken> {
        let Some(transport) = &mut self.transport else { return Ok(None) };
        let kept = self.rest.len();
        let Some(room) = buffer.get_mut(kept..).filter(|room| !room.is_empty()) else {
            return Err(Broken::TooLarge);
        };
        let count = loop {
            match transport.read(room) {
                Ok(0) => return Err(Broken::Closed),
                Ok(count) => break count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(source) => return Err(Broken::Io { doing: "read from a connection", source }),
            }
        };
        // Whatever comes proves that there is somebody: the answer to a PINGREQ may be behind a great many deliveries.
        self.waits_for_ping = false;
        if let Some(front) = buffer.get_mut(..kept) {
            front.copy_from_slice(&self.rest);
        }
        Ok(Some(kept + count))
    }

    /// What is left of a read once its packets are taken off.
    pub(crate) fn keep(&mut self, rest: &[u8]) {
        self.rest.clear();
        if rest.is_empty() {
            // An idle connection owns no buffer.
            self.rest = Vec::new();
        } else {
            self.rest.extend_from_slice(rest);
        }
    }

    /// Looks at Keep Alive: says PINGREQ if it was quiet for half of it, and gives up if nothing came after the last one.
    pub(crate) fn ping_if_quiet(&mut self, now_us: u64) -> Result<bool, Broken> {
        let half_us = u64::from(self.keep_alive_secs) * 500_000;
        if !matches!(self.state, State::Up | State::Subscribing)
            || half_us == 0
            || now_us.saturating_sub(self.written_us) < half_us
        {
            return Ok(false);
        }
        if self.waits_for_ping {
            return Err(Broken::Silent);
        }
        self.waits_for_ping = true;
        self.written_us = now_us;
        encode(&Packet::PingReq, self.version, &mut self.out)?;
        Ok(true)
    }

    /// Forgets the connection; answers after which pause the next one is due.
    pub(crate) fn rest(&mut self, new_backoff: impl FnOnce() -> Backoff) -> std::time::Duration {
        self.transport = None;
        self.out = Vec::new();
        self.written = 0;
        self.rest = Vec::new();
        self.state = State::Resting;
        self.waits_for_room = false;
        self.waits_for_ping = false;
        self.generation = self.generation.wrapping_add(1);
        self.backoff.get_or_insert_with(|| Box::new(new_backoff())).next_pause()
    }

    /// Says DISCONNECT and closes, as far as the transport takes it at once.
    pub(crate) fn leave(&mut self) {
        let Some(transport) = &mut self.transport else { return };
        if self.state == State::Up && self.written == self.out.len() {
            let goodbye = gateway_protocol::packet::Disconnect {
                reason_code: ReasonCode::Success,
                properties: Properties::default(),
            };
            self.out.clear();
            if encode(&Packet::Disconnect(goodbye), self.version, &mut self.out).is_ok() {
                let _ = transport.write(&self.out);
            }
        }
        self.transport = None;
    }
}

/// Takes the next whole packet off the front of `bytes`.
pub(crate) fn next_packet<'a>(
    bytes: &mut &'a [u8],
    version: ProtocolVersion,
) -> Result<Option<Packet<'a>>, Broken> {
    match decode(bytes, version, PACKET_BYTES_MAX)? {
        Decoded::Packet { packet, consumed } => {
            *bytes = bytes.get(consumed..).unwrap_or_default();
            Ok(Some(packet))
        }
        Decoded::Incomplete { .. } => Ok(None),
    }
}
