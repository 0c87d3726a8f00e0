//! Well-formed packets that are not allowed here: each gets its own Reason Code.

use gateway_protocol::packet::{Ack, Disconnect, Packet, Publish, SubAck};
use gateway_protocol::{PacketId, Properties, PropertiesBuf, Property};
use gateway_tests::{Client, Gateway, Hello, QoS, ReasonCode, TIMEOUT};

use crate::bystander::Bystander;
use crate::{QOS0, QOS1, V3_1_1, V5};

/// A gateway that offers less than it could: whatever the defaults are, these refusals are to be had.
fn frugal() -> Gateway {
    Gateway::start_set(&[
        "mqtt.max_qos=1",
        "mqtt.retain_available=false",
        "mqtt.topic_alias_maximum=0",
        "mqtt.shared_subscription_available=false",
    ])
}

fn publish(qos: QoS, retain: bool) -> Publish<'static> {
    let packet_id = if qos == QOS0 { None } else { PacketId::new(1) };
    let properties = Properties::default();
    Publish { dup: false, qos, retain, topic: "devices/1", packet_id, properties, payload: b"x" }
}

/// Sends a packet on a fresh connection; what the sender is told before it is closed.
fn told_for(gateway: &Gateway, packet: &Packet<'_>) -> Option<ReasonCode> {
    let mut client = gateway.connect(V5, "offender");
    client.send(packet);
    client.await_close(TIMEOUT)
}

#[test]
fn what_was_not_offered_is_refused_by_its_own_reason_code() {
    let gateway = frugal();
    let bystander = Bystander::start(gateway.mqtt());
    let mut alias = PropertiesBuf::new();
    alias.push(Property::TopicAlias(1)).unwrap();
    let id = PacketId::new(1).unwrap();
    let cases = [
        ("QoS 2", Packet::Publish(publish(QoS::ExactlyOnce, false)), ReasonCode::QosNotSupported),
        ("RETAIN", Packet::Publish(publish(QOS1, true)), ReasonCode::RetainNotSupported),
        ("RETAIN at QoS 0", Packet::Publish(publish(QOS0, true)), ReasonCode::RetainNotSupported),
        (
            "Topic Alias",
            Packet::Publish(Publish { properties: alias.as_properties(), ..publish(QOS1, false) }),
            ReasonCode::TopicAliasInvalid,
        ),
        (
            "Topic Alias alone",
            Packet::Publish(Publish { topic: "", properties: alias.as_properties(), ..publish(QOS0, false) }),
            ReasonCode::TopicAliasInvalid,
        ),
        ("a server's packet", Packet::PingResp, ReasonCode::ProtocolError),
        (
            "a server's acknowledgement",
            Packet::SubAck(SubAck {
                packet_id: id,
                properties: Properties::default(),
                reason_codes: gateway_protocol::packet::ReasonCodes::new(&[0]).unwrap(),
            }),
            ReasonCode::ProtocolError,
        ),
    ];
    for (what, packet, reason) in cases {
        assert_eq!(told_for(&gateway, &packet), Some(reason), "{what}");
    }
    // An AUTH that is legal by itself, on a connection that began without an Authentication Method.
    let mut client = gateway.connect(V5, "offender");
    client.send_bytes(&[0xF0, 7, 0x19, 5, 0x15, 0, 2, b'p', b'w']);
    assert_eq!(client.await_close(TIMEOUT), Some(ReasonCode::ProtocolError));
    bystander.stop();
    gateway.assert_sound();
}

#[test]
fn a_second_connect_closes() {
    let gateway = Gateway::start();
    let mut client = gateway.connect(V5, "twice");
    client.send_bytes(&Hello::new(V5, "twice").bytes());
    assert_eq!(client.await_close(TIMEOUT), Some(ReasonCode::ProtocolError));
    let mut client = gateway.connect(V3_1_1, "twice");
    client.send_bytes(&Hello::new(V3_1_1, "other").bytes());
    assert_eq!(client.await_close(TIMEOUT), None);
}

#[test]
fn the_first_packet_is_connect_or_nothing() {
    let gateway = Gateway::start();
    for packet in [
        Packet::PingReq,
        Packet::Publish(publish(QOS1, false)),
        Packet::Disconnect(Disconnect {
            reason_code: ReasonCode::Success,
            properties: Properties::default(),
        }),
    ] {
        let mut client = Client::open(gateway.mqtt(), V3_1_1);
        client.send(&packet);
        assert_eq!(client.await_close(TIMEOUT), None, "{packet:?}");
    }
    // Somebody who takes it for a web server.
    let mut client = Client::open(gateway.mqtt(), V3_1_1);
    client.send_bytes(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(client.await_close(TIMEOUT), None);
}

#[test]
fn qos_2_from_3_1_1_is_not_acknowledged_as_something_else() {
    let gateway = frugal();
    let mut reader = gateway.connect(V5, "reader");
    reader.subscribe(&[("devices/#", QOS1)]);
    let mut client = gateway.connect(V3_1_1, "offender");
    client.send(&Packet::Publish(publish(QoS::ExactlyOnce, false)));
    assert_eq!(client.await_close(TIMEOUT), None);
    gateway.connect(V5, "p").publish("devices/2", "end", QOS1);
    assert_eq!(reader.messages(1)[0].payload, "end");
}

#[test]
fn a_will_that_can_not_be_kept_is_refused_at_connect() {
    use gateway_protocol::packet::{Connect, Will};
    use gateway_protocol::{TopicName, encode};
    let gateway = frugal();
    for (qos, retain, reason) in
        [(QoS::ExactlyOnce, false, ReasonCode::QosNotSupported), (QOS1, true, ReasonCode::RetainNotSupported)]
    {
        let will = Will {
            qos,
            retain,
            topic: TopicName::parse("a").unwrap(),
            properties: Properties::default(),
            payload: b"",
        };
        let connect = Connect {
            version: V5,
            clean_start: true,
            keep_alive_secs: 0,
            properties: Properties::default(),
            client_id: "testator",
            will: Some(will),
            user_name: None,
            password: None,
        };
        let mut bytes = Vec::new();
        encode(&Packet::Connect(connect), V5, &mut bytes).unwrap();
        let mut client = Client::open(gateway.mqtt(), V5);
        client.send_bytes(&bytes);
        assert_eq!(client.await_close(TIMEOUT), Some(reason));
    }
}

#[test]
fn shared_subscriptions_are_refused_and_the_connection_stays() {
    let gateway = frugal();
    let mut client = gateway.connect(V5, "five");
    let refused = ReasonCode::SharedSubscriptionsNotSupported;
    assert_eq!(client.subscribe(&[("$share/group/a/#", QOS1)]), [refused]);
    client.ping();
    let mut client = gateway.connect(V3_1_1, "four");
    assert_eq!(client.subscribe(&[("$share/group/a/#", QOS1)]), [ReasonCode::UnspecifiedError]);
    client.ping();
}

#[test]
fn more_than_receive_maximum_is_too_much() {
    let gateway = Gateway::start_set(&["mqtt.receive_maximum=10"]);
    let bystander = Bystander::start(gateway.mqtt());
    // All in one write: none can be acknowledged before the last has come.
    let frames = |count: u16| {
        let mut bytes = Vec::new();
        for id in 1..=count {
            let publish = Publish { packet_id: PacketId::new(id), ..publish(QOS1, false) };
            gateway_protocol::encode(&Packet::Publish(publish), V5, &mut bytes).unwrap();
        }
        bytes
    };
    let mut client = gateway.connect(V5, "just-right");
    client.send_bytes(&frames(10));
    for id in 1..=10 {
        assert_eq!(client.await_puback(PacketId::new(id).unwrap()), ReasonCode::Success);
    }
    let mut client = gateway.connect(V5, "too-much");
    client.send_bytes(&frames(11));
    assert_eq!(client.await_close(TIMEOUT), Some(ReasonCode::ReceiveMaximumExceeded));
    // 3.1.1 knows no such thing: the gateway reads no faster than it acknowledges.
    let mut client = gateway.connect(V3_1_1, "patient");
    let mut bytes = Vec::new();
    for id in 1..=500 {
        let publish = Publish { packet_id: PacketId::new(id), ..publish(QOS1, false) };
        gateway_protocol::encode(&Packet::Publish(publish), V3_1_1, &mut bytes).unwrap();
    }
    client.send_bytes(&bytes);
    for id in 1..=500 {
        client.await_puback(PacketId::new(id).unwrap());
    }
    bystander.stop();
}

#[test]
fn acknowledgements_of_nothing_are_taken_without_harm() {
    let gateway = Gateway::start();
    let mut client = gateway.connect(V5, "confused");
    client.subscribe(&[("plant/#", QOS1)]);
    for id in [1, 2, 49_151, 49_152, 65_535] {
        client.send(&Packet::PubAck(Ack::success(PacketId::new(id).unwrap())));
    }
    client.publish("plant/1", "x", QOS1);
    let message = client.message();
    // Twice for one.
    client.acknowledge(&message);
    client.acknowledge(&message);
    client.publish("plant/1", "y", QOS1);
    assert_eq!(client.messages(1)[0].payload, "y");
}

#[test]
fn more_subscriptions_than_allowed_are_refused_one_by_one() {
    let gateway = Gateway::start();
    let mut client = gateway.connect(V5, "greedy");
    let mut refused = 0;
    for number in 0..1_100 {
        let codes = client.subscribe(&[(&format!("a/{number}"), QOS0)]);
        match codes[0] {
            ReasonCode::Success => assert_eq!(refused, 0),
            code => {
                assert_eq!(code, ReasonCode::QuotaExceeded);
                refused += 1;
            }
        }
    }
    assert_eq!(refused, 1_100 - 1_024);
    // What it has may be asked for again, and given back.
    assert_eq!(client.subscribe(&[("a/0", QOS1)]), [ReasonCode::GrantedQos1]);
    assert_eq!(client.unsubscribe(&["a/0"]), [ReasonCode::Success]);
    assert_eq!(client.subscribe(&[("b", QOS0)]), [ReasonCode::Success]);
    // A filter of very many levels is refused or granted, but nothing breaks.
    let deep = "a/".repeat(30_000);
    client.subscribe(&[(&deep[..deep.len() - 1], QOS0)]);
    client.ping();
    gateway.assert_sound();
}
