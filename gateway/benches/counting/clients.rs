//! Pairs of a publisher and a subscriber of version 3.1.1, in step with each other.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

use gateway_protocol::packet::{Connect, Publish, Subscribe, SubscribeFiltersBuf, SubscribeOptions};
use gateway_protocol::{Packet, PacketId, Properties, ProtocolVersion, QoS, TopicFilter, encode};

use crate::served::{Mode, Served};

/// Packets of one write.
pub(crate) const BURST: usize = 32;

const PAIRS: usize = 8;
/// Turns before anything is measured.
const WARM_UP: usize = 4;
const VERSION: ProtocolVersion = ProtocolVersion::V3_1_1;
const PAYLOAD: [u8; 256] = [0x5A; 256];
const PUBACK_BYTES: usize = 4;
const PATIENCE: Duration = Duration::from_secs(20);

/// What the gateway is given to do.
pub(crate) struct Load {
    pub(crate) name: &'static str,
    qos: QoS,
    /// The first level of topics: `devices` is kept by a stream.
    root: &'static str,
    /// Of each pair in one turn.
    bursts: usize,
}

pub(crate) const LOADS: [Load; 3] = [
    Load { name: "qos-0", qos: QoS::AtMostOnce, root: "live", bursts: 400 },
    Load { name: "qos-1", qos: QoS::AtLeastOnce, root: "live", bursts: 300 },
    Load { name: "durable", qos: QoS::AtLeastOnce, root: "devices", bursts: 150 },
];

/// A gateway and its clients.
pub(crate) struct Loaded {
    gateway: Served,
    pairs: Vec<Pair>,
    bursts: usize,
}

impl Loaded {
    pub(crate) fn start(mode: Mode, load: &Load) -> Self {
        let gateway = Served::start(mode);
        let pairs = (0..PAIRS).map(|number| Pair::connect(gateway.address, load, number)).collect();
        let mut loaded = Self { gateway, pairs, bursts: load.bursts };
        for _ in 0..WARM_UP {
            loaded.turn();
        }
        loaded
    }

    /// Microseconds of CPU that the gateway takes for each message of a turn.
    pub(crate) fn turn(&mut self) -> f64 {
        let bursts = self.bursts;
        let before = self.gateway.cpu();
        thread::scope(|scope| {
            for pair in &mut self.pairs {
                scope.spawn(move || pair.exchange(bursts));
            }
        });
        let taken = self.gateway.cpu() - before;
        taken.as_secs_f64() * 1e6 / (bursts * BURST * PAIRS) as f64
    }

    pub(crate) fn stop(self) {
        self.gateway.stop();
    }
}

struct Pair {
    publisher: TcpStream,
    subscriber: TcpStream,
    /// One burst.
    packets: Vec<u8>,
    /// Where the Packet Identifier stands in a packet, above QoS 0.
    packet_id_at: Option<usize>,
}

impl Pair {
    fn connect(address: SocketAddr, load: &Load, number: usize) -> Self {
        let topic = format!("{}/site-{number:04}/sensor-0042/telemetry", load.root);
        let publisher = connect(address, &format!("publisher-{number}"));
        let mut subscriber = connect(address, &format!("subscriber-{number}"));
        subscribe(&mut subscriber, &topic, load.qos);
        let packets = (1..=BURST).flat_map(|id| publish(&topic, load.qos, id as u16)).collect();
        // Behind the fixed header of three bytes and the topic.
        let packet_id_at = (load.qos != QoS::AtMostOnce).then_some(3 + 2 + topic.len());
        Self { publisher, subscriber, packets, packet_id_at }
    }

    /// So many bursts; the next one begins when all is done with the last one.
    fn exchange(&mut self, bursts: usize) {
        let mut delivered = vec![0; self.packets.len()];
        let mut acknowledged = vec![0; BURST * PUBACK_BYTES];
        for _ in 0..bursts {
            self.publisher.write_all(&self.packets).expect("the gateway reads");
            self.subscriber.read_exact(&mut delivered).expect("all are delivered");
            let Some(at) = self.packet_id_at else { continue };
            let acknowledgements: Vec<u8> = delivered
                .chunks(self.packets.len() / BURST)
                .flat_map(|packet| [0x40, 2, packet[at], packet[at + 1]])
                .collect();
            self.subscriber.write_all(&acknowledgements).expect("the gateway reads");
            self.publisher.read_exact(&mut acknowledged).expect("all are acknowledged");
        }
    }
}

fn connect(address: SocketAddr, client_id: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).expect("the gateway accepts connections");
    stream.set_nodelay(true).expect("a socket");
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
    let connect = Connect {
        version: VERSION,
        clean_start: true,
        keep_alive_secs: 0,
        properties: Properties::default(),
        client_id,
        will: None,
        user_name: None,
        password: None,
    };
    stream.write_all(&bytes(&Packet::Connect(connect))).expect("the gateway reads");
    stream.read_exact(&mut [0; 4]).expect("CONNACK");
    stream
}

fn subscribe(stream: &mut TcpStream, topic: &str, qos: QoS) {
    let mut filters = SubscribeFiltersBuf::new();
    let filter = TopicFilter::parse(topic).expect("the filter is legal");
    filters.push(filter, SubscribeOptions::at_most(qos));
    let subscribe = Subscribe {
        packet_id: PacketId::new(1).expect("not 0"),
        properties: Properties::default(),
        filters: filters.as_filters(),
    };
    stream.write_all(&bytes(&Packet::Subscribe(subscribe))).expect("the gateway reads");
    stream.read_exact(&mut [0; 5]).expect("SUBACK");
}

fn publish(topic: &str, qos: QoS, id: u16) -> Vec<u8> {
    bytes(&Packet::Publish(Publish {
        dup: false,
        qos,
        retain: false,
        topic,
        packet_id: PacketId::new(id).filter(|_| qos != QoS::AtMostOnce),
        properties: Properties::default(),
        payload: &PAYLOAD,
    }))
}

fn bytes(packet: &Packet<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode(packet, VERSION, &mut bytes).expect("the packet is legal");
    bytes
}
