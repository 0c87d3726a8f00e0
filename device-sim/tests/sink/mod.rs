//! A broker that takes everything and delivers nothing: it answers CONNECT, SUBSCRIBE and PUBLISH, and counts.

use std::collections::HashSet;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;

use gateway_protocol::codec::encode_puback;
use gateway_protocol::packet::{Ack, ConnAck, ReasonCodes, SubAck};
use gateway_protocol::{Decoded, Packet, Properties, ProtocolVersion, QoS, ReasonCode, decode, encode};

/// The largest packet.
const PACKET_BYTES_MAX: usize = 1 << 20;

#[derive(Default)]
struct Seen {
    connections: AtomicU64,
    published: AtomicU64,
    retained: AtomicU64,
    wills: AtomicU64,
    released: AtomicU64,
    topics: Mutex<HashSet<String>>,
    sources: Mutex<HashSet<IpAddr>>,
    /// Nothing is read and nothing answered meanwhile.
    is_held: Mutex<bool>,
    changed: Condvar,
}

/// See the module documentation. It lives as long as the test's process.
pub(crate) struct Sink {
    address: SocketAddr,
    seen: Arc<Seen>,
}

impl Sink {
    /// Acknowledges and counts every event.
    pub(crate) fn answering() -> Self {
        Self::start(false)
    }

    /// Reads on without a look at what comes, once a connection has published.
    pub(crate) fn discarding() -> Self {
        Self::start(true)
    }

    fn start(discards: bool) -> Self {
        // On all addresses of this machine, so that connections may come from any of them.
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let seen = Arc::new(Seen::default());
        let sink = Sink { address: (Ipv4Addr::LOCALHOST, port).into(), seen: Arc::clone(&seen) };
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let seen = Arc::clone(&seen);
                thread::Builder::new()
                    .stack_size(256 << 10)
                    .spawn(move || serve(stream, &seen, discards))
                    .expect("a thread");
            }
        });
        sink
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// It stands still, or goes on.
    pub(crate) fn hold(&self, is_held: bool) {
        *lock(&self.seen.is_held) = is_held;
        self.seen.changed.notify_all();
    }

    /// Clients that said CONNECT.
    pub(crate) fn connections(&self) -> u64 {
        self.seen.connections.load(Relaxed)
    }

    /// PUBLISH packets.
    pub(crate) fn published(&self) -> u64 {
        self.seen.published.load(Relaxed)
    }

    /// PUBREL packets.
    pub(crate) fn released(&self) -> u64 {
        self.seen.released.load(Relaxed)
    }

    /// PUBLISH packets that are to be retained.
    pub(crate) fn retained(&self) -> u64 {
        self.seen.retained.load(Relaxed)
    }

    /// Clients that said CONNECT with a Will Message that is to be retained.
    pub(crate) fn wills(&self) -> u64 {
        self.seen.wills.load(Relaxed)
    }

    /// Different Topic Names.
    pub(crate) fn topics(&self) -> usize {
        lock(&self.seen.topics).len()
    }

    /// Different addresses that connections came from.
    pub(crate) fn sources(&self) -> usize {
        lock(&self.seen.sources).len()
    }
}

fn serve(mut stream: TcpStream, seen: &Seen, discards: bool) {
    stream.set_nodelay(true).expect("a socket");
    if let Ok(peer) = stream.peer_addr() {
        lock(&seen.sources).insert(peer.ip());
    }
    let mut version = ProtocolVersion::V5;
    let (mut buffer, mut bytes, mut out) = (vec![0; 64 << 10], Vec::new(), Vec::new());
    loop {
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => return,
            Ok(count) => bytes.extend_from_slice(&buffer[..count]),
        }
        drop(seen.changed.wait_while(lock(&seen.is_held), |is_held| *is_held));
        let mut done = 0;
        while let Ok(Decoded::Packet { packet, consumed }) = decode(&bytes[done..], version, PACKET_BYTES_MAX)
        {
            done += consumed;
            match packet {
                Packet::Publish(_) if discards => {
                    while matches!(stream.read(&mut buffer), Ok(count) if count > 0) {}
                    return;
                }
                Packet::Publish(publish) => {
                    seen.published.fetch_add(1, Relaxed);
                    seen.retained.fetch_add(publish.retain.into(), Relaxed);
                    lock(&seen.topics).insert(publish.topic.to_owned());
                    if let Some(packet_id) = publish.packet_id
                        && publish.qos == QoS::ExactlyOnce
                    {
                        let ack = Packet::PubRec(Ack::success(packet_id));
                        encode(&ack, version, &mut out).expect("a PUBREC");
                    } else if let Some(packet_id) = publish.packet_id {
                        encode_puback(packet_id, ReasonCode::Success, version, &mut out);
                    }
                }
                Packet::Connect(connect) => {
                    version = connect.version;
                    seen.connections.fetch_add(1, Relaxed);
                    let will = connect.will.as_ref().is_some_and(|will| will.retain);
                    seen.wills.fetch_add(will.into(), Relaxed);
                    let ack = ConnAck {
                        session_present: false,
                        reason_code: ReasonCode::Success,
                        properties: Properties::default(),
                    };
                    encode(&Packet::ConnAck(ack), version, &mut out).expect("a CONNACK");
                }
                Packet::Subscribe(subscribe) => {
                    let ack = SubAck {
                        packet_id: subscribe.packet_id,
                        properties: Properties::default(),
                        reason_codes: ReasonCodes::new(&[1]).expect("a Reason Code"),
                    };
                    encode(&Packet::SubAck(ack), version, &mut out).expect("a SUBACK");
                }
                Packet::PubRel(ack) => {
                    seen.released.fetch_add(1, Relaxed);
                    let ack = Packet::PubComp(Ack::success(ack.packet_id));
                    encode(&ack, version, &mut out).expect("a PUBCOMP");
                }
                _ => {}
            }
        }
        bytes.drain(..done);
        if stream.write_all(&out).is_err() {
            return;
        }
        out.clear();
    }
}

fn lock<T>(guarded: &Mutex<T>) -> MutexGuard<'_, T> {
    guarded.lock().expect("a lock")
}
