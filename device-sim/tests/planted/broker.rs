//! A small broker that is honest but for what is planted: QoS 0 and 1, one subscription per client, sessions that keep the
//! subscription and nothing else. One thread per connection; deliveries are written by the publisher's.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use gateway_protocol::codec::encode_puback;
use gateway_protocol::packet::{Ack, ConnAck, Publish, ReasonCodes, SubAck};
use gateway_protocol::{
    Decoded, Packet, PacketId, Properties, ProtocolVersion, QoS, ReasonCode, decode, encode,
};

/// The largest packet.
const PACKET_BYTES_MAX: usize = 1 << 20;

/// How late a stalled answer is.
const STALL: Duration = Duration::from_millis(2_200);

/// What is done to an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing.
    None,
    /// Acknowledged and not delivered.
    Lose,
    /// Delivered twice.
    Repeat,
    /// Delivered behind the next event of its topic.
    Reorder,
    /// Delivered with one bit changed.
    Corrupt,
    /// Delivered without its last byte.
    Cut,
    /// Delivered on another topic.
    Move,
    /// Delivered and never acknowledged.
    Mute,
    /// Refused with a Reason Code, and not delivered.
    Refuse,
    /// Delivered, and acknowledged late.
    Stall,
    /// Delivered; then the subscriber's connection ends and its session is gone.
    Forget,
}

/// Which events are spoilt, counted from 1 over all publishers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plant {
    pub(crate) fault: Fault,
    pub(crate) first: u64,
    pub(crate) every: u64,
    pub(crate) times: u64,
}

/// See the module documentation. It lives as long as the test's process.
pub(crate) struct Broker {
    port: u16,
    state: Arc<State>,
}

struct State {
    plant: Plant,
    events: AtomicU64,
    spoilt: AtomicU64,
    sessions: Mutex<HashMap<String, Arc<Session>>>,
    /// Events that are delivered behind the next one of their topic.
    held: Mutex<HashMap<String, Event>>,
}

/// A client that has subscribed.
struct Session {
    version: ProtocolVersion,
    qos: QoS,
    stream: Mutex<TcpStream>,
    next_id: AtomicU16,
}

#[derive(Clone)]
struct Event {
    topic: String,
    qos: QoS,
    payload: Vec<u8>,
}

impl Broker {
    pub(crate) fn start(plant: Plant) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let state = Arc::new(State {
            plant,
            events: AtomicU64::new(0),
            spoilt: AtomicU64::new(0),
            sessions: Mutex::default(),
            held: Mutex::default(),
        });
        let broker = Broker { port, state: Arc::clone(&state) };
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = Arc::clone(&state);
                thread::spawn(move || Connection::new(stream, state).serve());
            }
        });
        broker
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// How many events it has spoilt.
    pub(crate) fn spoilt(&self) -> u64 {
        self.state.spoilt.load(Relaxed)
    }
}

impl State {
    /// What is done to the next event.
    fn next(&self) -> Fault {
        let number = self.events.fetch_add(1, Relaxed) + 1;
        let Plant { fault, first, every, times } = self.plant;
        let is_it =
            number >= first && (number - first).is_multiple_of(every) && (number - first) / every < times;
        if !is_it || fault == Fault::None {
            return Fault::None;
        }
        self.spoilt.fetch_add(1, Relaxed);
        fault
    }

    /// Delivers an event, and the one that it overtook.
    fn deliver(&self, event: &Event) {
        self.hand_out(event);
        let overtaken = lock(&self.held).remove(&event.topic);
        if let Some(overtaken) = overtaken {
            self.hand_out(&overtaken);
        }
    }

    fn hand_out(&self, event: &Event) {
        let sessions: Vec<Arc<Session>> = lock(&self.sessions).values().cloned().collect();
        sessions.iter().for_each(|session| session.deliver(event));
    }

    /// Ends every subscriber's connection and forgets that it was there.
    fn forget(&self) {
        for (_, session) in lock(&self.sessions).drain() {
            let _ = lock(&session.stream).shutdown(Shutdown::Both);
        }
    }
}

impl Session {
    fn deliver(&self, event: &Event) {
        let qos = event.qos.min(self.qos);
        let packet_id = (qos != QoS::AtMostOnce).then(|| {
            let id = self.next_id.fetch_add(1, Relaxed) % 50_000 + 1;
            PacketId::new(id).expect("not zero")
        });
        let publish = Publish {
            dup: false,
            qos,
            retain: false,
            topic: &event.topic,
            packet_id,
            properties: Properties::default(),
            payload: &event.payload,
        };
        let mut out = Vec::new();
        encode(&Packet::Publish(publish), self.version, &mut out).expect("a PUBLISH");
        // Who has gone finds out by itself.
        let _ = lock(&self.stream).write_all(&out);
    }
}

struct Connection {
    stream: TcpStream,
    state: Arc<State>,
    version: ProtocolVersion,
    client_id: String,
    out: Vec<u8>,
}

impl Connection {
    fn new(stream: TcpStream, state: Arc<State>) -> Self {
        stream.set_nodelay(true).expect("a socket");
        Connection { stream, state, version: ProtocolVersion::V5, client_id: String::new(), out: Vec::new() }
    }

    fn serve(mut self) {
        let (mut buffer, mut bytes) = (vec![0; 64 << 10], Vec::new());
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) | Err(_) => return,
                Ok(count) => bytes.extend_from_slice(&buffer[..count]),
            }
            let mut done = 0;
            while let Ok(Decoded::Packet { packet, consumed }) =
                decode(&bytes[done..], self.version, PACKET_BYTES_MAX)
            {
                done += consumed;
                self.take(packet);
            }
            bytes.drain(..done);
            if !self.flush() {
                return;
            }
        }
    }

    /// Through the session's lock, if there is one: its deliveries go over the same socket.
    fn flush(&mut self) -> bool {
        let session = lock(&self.state.sessions).get(&self.client_id).cloned();
        let written = match session {
            Some(session) => lock(&session.stream).write_all(&self.out),
            None => self.stream.write_all(&self.out),
        };
        self.out.clear();
        written.is_ok()
    }

    fn take(&mut self, packet: Packet<'_>) {
        match packet {
            Packet::Connect(connect) => {
                self.version = connect.version;
                connect.client_id.clone_into(&mut self.client_id);
                let sessions = lock(&self.state.sessions);
                let session = sessions.get(&self.client_id).filter(|_| !connect.clean_start);
                let session_present = session.is_some();
                if let Some(session) = session {
                    *lock(&session.stream) = self.stream.try_clone().expect("a socket");
                }
                drop(sessions);
                let ack = ConnAck {
                    session_present,
                    reason_code: ReasonCode::Success,
                    properties: Properties::default(),
                };
                self.put(&Packet::ConnAck(ack));
            }
            Packet::Subscribe(subscribe) => {
                let (_, options) = subscribe.filters.iter().next().expect("a filter");
                let ack = SubAck {
                    packet_id: subscribe.packet_id,
                    properties: Properties::default(),
                    reason_codes: ReasonCodes::new(&[1]).expect("a Reason Code"),
                };
                self.put(&Packet::SubAck(ack));
                self.flush();
                let session = Session {
                    version: self.version,
                    qos: options.qos,
                    stream: Mutex::new(self.stream.try_clone().expect("a socket")),
                    next_id: AtomicU16::new(0),
                };
                lock(&self.state.sessions).insert(self.client_id.clone(), Arc::new(session));
            }
            Packet::Publish(publish) => self.publish(&publish),
            Packet::PingReq => self.put(&Packet::PingResp),
            _ => {}
        }
    }

    fn publish(&mut self, publish: &Publish<'_>) {
        let fault = self.state.next();
        let mut event =
            Event { topic: publish.topic.to_owned(), qos: publish.qos, payload: publish.payload.to_vec() };
        match fault {
            Fault::Lose | Fault::Refuse => {}
            Fault::Reorder => {
                lock(&self.state.held).insert(event.topic.clone(), event);
            }
            Fault::Repeat => {
                self.state.deliver(&event);
                self.state.deliver(&event);
            }
            Fault::Corrupt => {
                let middle = event.payload.len() / 2;
                event.payload[middle] ^= 1;
                self.state.deliver(&event);
            }
            Fault::Cut => {
                event.payload.pop();
                self.state.deliver(&event);
            }
            Fault::Move => {
                event.topic.push_str("/elsewhere");
                self.state.deliver(&event);
            }
            Fault::Forget => {
                self.state.deliver(&event);
                self.state.forget();
            }
            Fault::Stall => {
                self.state.deliver(&event);
                thread::park_timeout(STALL);
            }
            Fault::None | Fault::Mute => self.state.deliver(&event),
        }
        let answer = match fault {
            Fault::Mute => None,
            Fault::Refuse => Some(ReasonCode::QuotaExceeded),
            _ => Some(ReasonCode::Success),
        };
        match (publish.packet_id, answer) {
            (Some(packet_id), Some(ReasonCode::Success)) => {
                encode_puback(packet_id, ReasonCode::Success, self.version, &mut self.out);
            }
            (Some(packet_id), Some(reason_code)) => {
                self.put(&Packet::PubAck(Ack { packet_id, reason_code, properties: Properties::default() }));
            }
            _ => {}
        }
    }

    fn put(&mut self, packet: &Packet<'_>) {
        encode(packet, self.version, &mut self.out).expect("a packet");
    }
}

fn lock<T>(guarded: &Mutex<T>) -> MutexGuard<'_, T> {
    guarded.lock().expect("a lock")
}
