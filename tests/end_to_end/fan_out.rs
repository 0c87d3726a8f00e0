//! Many subscribers to the same: what they get alike is sent from one place, and each gets exactly what it would get alone.

use gateway_protocol::codec::encode;
use gateway_protocol::packet::{Packet, Publish, SubscribeOptions};
use gateway_protocol::{PacketId, Properties, PropertiesBuf, Property};
use gateway_tests::{Client, Gateway, ProtocolVersion, QoS};

use crate::{QOS0, QOS1};

const BOTH: [ProtocolVersion; 2] = [ProtocolVersion::V3_1_1, ProtocolVersion::V5];
const EACH: usize = 5_000;
/// Of one publisher's PUBLISH packets, so many go out in one write.
const AT_ONCE: usize = 80;

/// The payload of message `number`, of a length of its own; together more than the sockets hold.
fn payload(publisher: &str, number: usize) -> String {
    format!("{publisher} {number} {}", "x".repeat(number * 37 % 1500))
}

/// Writes of many packets, so that the gateway gets them together. Where it `interleaves`, some writes have some at QoS 1.
fn publish(mut client: Client, version: ProtocolVersion, interleaves: bool) {
    let publisher = version.to_string();
    let topic = format!("plant/{publisher}");
    let mut acknowledged = 0;
    for first in (0..EACH).step_by(AT_ONCE) {
        let mut bytes = Vec::new();
        for number in first..(first + AT_ONCE).min(EACH) {
            let at_qos_1 = interleaves && first / AT_ONCE % 10 == 3 && number % 7 == 0;
            let payload = payload(&publisher, number);
            let packet = Publish {
                dup: false,
                qos: if at_qos_1 { QOS1 } else { QOS0 },
                retain: false,
                topic: &topic,
                packet_id: at_qos_1.then(|| PacketId::new(number as u16 + 1)).flatten(),
                properties: Properties::default(),
                payload: payload.as_bytes(),
            };
            acknowledged += usize::from(at_qos_1);
            encode(&Packet::Publish(packet), version, &mut bytes).unwrap();
        }
        client.send_bytes(&bytes);
    }
    for _ in 0..acknowledged {
        client.await_frame("PUBACK", |packet| matches!(packet, Packet::PubAck(_)));
    }
    client.ping();
}

/// Everything of both publishers, each in order, and nothing changed.
fn check(mut client: Client, who: &str) {
    let mut next = [0; 2];
    for message in client.messages(2 * EACH) {
        let from = BOTH.iter().position(|version| message.payload.starts_with(&version.to_string()));
        let from = from.unwrap_or_else(|| panic!("{who}: {:.40}", message.payload));
        let (publisher, number) = (BOTH[from].to_string(), next[from]);
        assert!(message.payload == payload(&publisher, number), "{who}: not {publisher} {number}");
        assert_eq!(message.topic, format!("plant/{publisher}"), "{who}");
        next[from] += 1;
    }
}

fn subscriber(gateway: &Gateway, version: ProtocolVersion, name: &str, qos: QoS, id: Option<u32>) -> Client {
    let mut client = gateway.connect(version, &format!("{name}-{version}"));
    let mut properties = PropertiesBuf::new();
    if let Some(id) = id {
        properties.push(Property::SubscriptionIdentifier(id)).unwrap();
    }
    client.subscribe_with(&[("plant/#", SubscribeOptions::at_most(qos))], properties.as_properties());
    client
}

#[test]
fn subscribers_that_share_what_they_get_all_get_it_whole_and_in_order() {
    for interleaves in [false, true] {
        let gateway = Gateway::start_set(&["delivery.outbox_bytes_max=1GiB"]);
        let mut late = Vec::new();
        std::thread::scope(|scope| {
            for version in BOTH {
                for (name, qos, id) in
                    [("one", QOS0, None), ("other", QOS0, None), ("own", QOS0, Some(7)), ("sure", QOS1, None)]
                {
                    let id = id.filter(|_| version.is_v5());
                    let client = subscriber(&gateway, version, name, qos, id);
                    scope.spawn(move || check(client, &format!("{name} {version}")));
                }
                late.push(subscriber(&gateway, version, "late", QOS0, None));
            }
            let publishers = BOTH.map(|version| {
                let client = gateway.connect(version, &format!("publisher-{version}"));
                scope.spawn(move || publish(client, version, interleaves))
            });
            for publisher in publishers {
                publisher.join().unwrap();
            }
            // Those have read nothing so far: their sockets are full, in the middle of what they share with the others.
            for client in late {
                scope.spawn(move || check(client, "late"));
            }
        });
        let metrics = gateway.metrics();
        assert_eq!(metrics.sum("gateway_deliveries_dropped_total"), 0.0);
        gateway.assert_sound();
    }
}
