//! A publisher and a subscriber of version 3.1.1, in step with each other.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use gateway_protocol::packet::{Connect, Publish, Subscribe, SubscribeFiltersBuf, SubscribeOptions};
use gateway_protocol::{Packet, PacketId, Properties, ProtocolVersion, QoS, TopicFilter, encode};

const VERSION: ProtocolVersion = ProtocolVersion::V3_1_1;
const TOPIC: &str = "devices/site-0012/sensor-0042/telemetry";
const PAYLOAD: [u8; 256] = [0x5A; 256];
const PUBACK_BYTES: usize = 4;
/// A gateway under cachegrind on a busy machine is slow, but not that slow.
const PATIENCE: Duration = Duration::from_secs(120);

/// So many bursts of so many messages, each of which is acknowledged on both sides before the next one begins.
pub(crate) fn run(address: SocketAddr, burst: usize, bursts: usize) {
    let (mut publisher, mut subscriber) = (connect(address, "publisher"), connect(address, "subscriber"));
    subscribe(&mut subscriber);
    let packets: Vec<u8> = (1..=burst).flat_map(|id| publish(id as u16)).collect();
    let size = packets.len() / burst;
    let mut delivered = vec![0; packets.len()];
    let mut acknowledged = vec![0; burst * PUBACK_BYTES];
    for _ in 0..bursts {
        publisher.write_all(&packets).expect("the gateway reads");
        subscriber.read_exact(&mut delivered).expect("all are delivered");
        let acknowledgements: Vec<u8> = delivered
            .chunks(size)
            .flat_map(|packet| {
                // Behind the fixed header of three bytes and the topic.
                let id_at = 3 + 2 + TOPIC.len();
                [0x40, 2, packet[id_at], packet[id_at + 1]]
            })
            .collect();
        subscriber.write_all(&acknowledgements).expect("the gateway reads");
        publisher.read_exact(&mut acknowledged).expect("all are acknowledged");
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

fn subscribe(stream: &mut TcpStream) {
    let mut filters = SubscribeFiltersBuf::new();
    let filter = TopicFilter::parse("devices/#").expect("the filter is legal");
    filters.push(filter, SubscribeOptions::at_most(QoS::AtLeastOnce));
    let subscribe = Subscribe {
        packet_id: PacketId::new(1).expect("not 0"),
        properties: Properties::default(),
        filters: filters.as_filters(),
    };
    stream.write_all(&bytes(&Packet::Subscribe(subscribe))).expect("the gateway reads");
    stream.read_exact(&mut [0; 5]).expect("SUBACK");
}

fn publish(id: u16) -> Vec<u8> {
    bytes(&Packet::Publish(Publish {
        dup: false,
        qos: QoS::AtLeastOnce,
        retain: false,
        topic: TOPIC,
        packet_id: PacketId::new(id),
        properties: Properties::default(),
        payload: &PAYLOAD,
    }))
}

fn bytes(packet: &Packet<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode(packet, VERSION, &mut bytes).expect("the packet is legal");
    bytes
}
