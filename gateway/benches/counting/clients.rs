//! Pairs of a publisher and a subscriber of version 3.1.1, in step with each other.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use gateway_protocol::packet::{Connect, Publish, Subscribe, SubscribeFiltersBuf, SubscribeOptions};
use gateway_protocol::{Packet, PacketId, Properties, ProtocolVersion, QoS, TopicFilter, encode};

/// Packets of one write.
pub(crate) const BURST: usize = 32;

const PAIRS: usize = 8;
/// Bursts before anything is measured.
const WARM_UP: usize = 200;
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
    /// Of each pair.
    bursts: usize,
}

pub(crate) const LOADS: [Load; 3] = [
    Load { name: "qos-0", qos: QoS::AtMostOnce, root: "live", bursts: 6_000 },
    Load { name: "qos-1", qos: QoS::AtLeastOnce, root: "live", bursts: 4_000 },
    Load { name: "durable", qos: QoS::AtLeastOnce, root: "devices", bursts: 1_500 },
];

impl Load {
    pub(crate) const fn messages(&self) -> usize {
        self.bursts * BURST * PAIRS
    }
}

/// Runs the load; what `measure` says grows by while it does.
pub(crate) fn run(address: SocketAddr, load: &Load, mut measure: impl FnMut() -> Duration) -> Duration {
    let barrier = Barrier::new(PAIRS + 1);
    thread::scope(|scope| {
        for number in 0..PAIRS {
            let barrier = &barrier;
            scope.spawn(move || {
                let mut pair = Pair::connect(address, load, number);
                pair.exchange(WARM_UP);
                barrier.wait();
                // Between these two the first figure is taken.
                barrier.wait();
                pair.exchange(load.bursts);
                barrier.wait();
            });
        }
        barrier.wait();
        let before = measure();
        barrier.wait();
        barrier.wait();
        measure() - before
    })
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
