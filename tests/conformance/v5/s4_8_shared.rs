//! Section 4.8.2, Shared Subscriptions. Members take turns: of two messages, each of two members gets one.

use gateway_protocol::Property;
use gateway_protocol::packet::{Ack, Disconnect, Packet};
use gateway_tests::{Client, Gateway, Hello, Message, QoS, ReasonCode, TIMEOUT};

use super::support::{assert_next, assert_quiet, back, list, packet, receive_exactly_once, take, text};
use crate::{QOS0, QOS1, QOS2, V5};

const MEMBERS: [&str; 2] = ["member a", "member b"];

/// Two members of one group, each also subscribed to a topic of its own for what proves that nothing came before.
fn members(gateway: &Gateway, hello: impl Fn(&str) -> Hello) -> [Client; 2] {
    MEMBERS.map(|name| {
        let (mut member, _) = Client::connect(gateway.mqtt(), &hello(name));
        let codes = member.subscribe(&[("$share/group/t", QOS2), ("marker", QOS1)]);
        assert_eq!(codes, [ReasonCode::GrantedQos2, ReasonCode::GrantedQos1]);
        member
    })
}

fn durable(name: &str) -> Hello {
    Hello::durable(V5, name)
}

/// One message for each member; not acknowledged.
fn one_each(publisher: &mut Client, members: &mut [Client; 2], qos: QoS) -> [Message; 2] {
    for payload in ["one", "other"] {
        publisher.send_publish("t", payload, qos);
    }
    let messages = members.each_mut().map(Client::message);
    assert_ne!(messages[0].payload, messages[1].payload, "one copy of each");
    messages
}

/// The member is sent nothing of the group's before what is published now. Earlier markers may come again after a crash.
fn assert_nothing_more(publisher: &mut Client, member: &mut Client, marker: &str) {
    publisher.publish("marker", marker, QOS1);
    loop {
        let message = take(member);
        assert_eq!(message.topic, "marker", "{message:?}");
        if message.payload == marker {
            break;
        }
    }
    assert_quiet(member);
}

#[test]
fn a_shared_filter_has_a_name_and_a_filter() {
    let gateway = Gateway::start();
    for filter in [
        "$share/",
        "$share/g",
        "$share/g/",
        "$share//t",
        "$share/+/t",
        "$share/g+/t",
        "$share/#",
        "$share/g#/t",
    ] {
        let mut client = gateway.connect(V5, "c");
        let body = [&[0, 1, 0][..], &text(filter), &[1]].concat();
        client.send_bytes(&packet(0x82, &[&body]));
        let frame = client.next_packet();
        let refused = match frame.packet() {
            Packet::SubAck(ack) => ack.reason_codes.iter().all(ReasonCode::is_error),
            Packet::Disconnect(disconnect) => disconnect.reason_code.is_error(),
            _ => false,
        };
        assert!(refused, "{filter}: {frame:?}");
    }
}

#[test]
fn mqtt_4_8_2_3_each_member_has_its_own_granted_qos() {
    let gateway = Gateway::start();
    for hello in [durable, |name: &str| Hello::new(V5, name)] {
        let granted = [QOS0, QOS1, QOS2];
        let names = ["at most once", "at least once", "exactly once"];
        let mut members: Vec<_> = granted
            .iter()
            .zip(names)
            .map(|(&qos, name)| {
                let (mut member, _) = Client::connect(gateway.mqtt(), &hello(name));
                member.subscribe(&[("$share/group/t", qos)]);
                member
            })
            .collect();
        let mut publisher = gateway.connect(V5, "publisher");
        for published in granted {
            for number in 0..6 {
                publisher.send_publish("t", &number.to_string(), published);
            }
            let mut came = Vec::new();
            for (member, granted) in members.iter_mut().zip(granted) {
                for _ in 0..2 {
                    let message = take(member);
                    assert_eq!(
                        message.qos,
                        published.min(granted),
                        "{published:?} to a member at {granted:?}"
                    );
                    came.push(message.payload);
                }
            }
            came.sort();
            assert_eq!(came, ["0", "1", "2", "3", "4", "5"]);
        }
        for member in members {
            member.leave();
        }
        for name in names {
            gateway.connect(V5, name).leave();
        }
    }
}

#[test]
fn mqtt_4_8_2_4_a_member_that_went_away_gets_its_qos_2_message_when_it_is_back() {
    let mut gateway = Gateway::start();
    let mut both = members(&gateway, durable);
    let mut publisher = gateway.connect(V5, "publisher");
    let messages = one_each(&mut publisher, &mut both, QOS2);
    let [gone, mut other] = both;
    receive_exactly_once(&mut other, &messages[1]);
    drop(gone);
    // Before it is back, and after a crash, nobody else is given it.
    for crash in [false, true] {
        assert_nothing_more(&mut publisher, &mut other, if crash { "second" } else { "first" });
        if crash {
            gateway.kill();
            gateway.restart();
            publisher = gateway.connect(V5, "publisher");
            other = back(&gateway, MEMBERS[1]);
        }
        let mut gone = back(&gateway, MEMBERS[0]);
        let again = gone.message();
        assert_eq!((&again.payload, again.packet_id), (&messages[0].payload, messages[0].packet_id));
        assert_eq!((again.qos, again.dup), (QOS2, true));
        drop(gone);
    }
    let mut gone = back(&gateway, MEMBERS[0]);
    let again = gone.message();
    receive_exactly_once(&mut gone, &again);
    assert_nothing_more(&mut publisher, &mut other, "third");
}

#[test]
fn mqtt_4_8_2_5_when_its_session_ends_first_nobody_else_gets_the_message() {
    let gateway = Gateway::start();
    let mut publisher = gateway.connect(V5, "publisher");
    let by_disconnect = |mut member: Client| {
        let interval = list(&[Property::SessionExpiryInterval(0)]);
        let properties = interval.as_properties();
        member.send(&Packet::Disconnect(Disconnect { reason_code: ReasonCode::Success, properties }));
        assert_eq!(member.await_close(TIMEOUT), None);
    };
    let by_clean_start = |member: Client| {
        drop(member);
        gateway.connect(V5, MEMBERS[0]).leave();
    };
    let ends: [&dyn Fn(Client); 2] = [&by_disconnect, &by_clean_start];
    for end in ends {
        let mut both = members(&gateway, durable);
        let messages = one_each(&mut publisher, &mut both, QOS2);
        let [gone, mut other] = both;
        receive_exactly_once(&mut other, &messages[1]);
        end(gone);
        assert_nothing_more(&mut publisher, &mut other, "marker");
        // What comes now is the other's, all of it.
        publisher.publish("t", "new", QOS1);
        assert_next(&mut other, "new");
        other.leave();
        gateway.connect(V5, MEMBERS[1]).leave();
    }
}

#[test]
fn mqtt_4_8_2_6_what_a_member_refuses_is_given_to_nobody_else() {
    let gateway = Gateway::start();
    let mut publisher = gateway.connect(V5, "publisher");
    for hello in [durable, |name: &str| Hello::new(V5, name)] {
        let mut both = members(&gateway, hello);
        for qos in [QOS1, QOS2] {
            let messages = one_each(&mut publisher, &mut both, qos);
            let [refuser, other] = &mut both;
            let refusal = |message: &Message| Ack {
                reason_code: ReasonCode::ImplementationSpecificError,
                ..Ack::success(message.packet_id.unwrap())
            };
            match qos {
                QoS::ExactlyOnce => {
                    refuser.send(&Packet::PubRec(refusal(&messages[0])));
                    receive_exactly_once(other, &messages[1]);
                }
                _ => {
                    refuser.send(&Packet::PubAck(refusal(&messages[0])));
                    other.acknowledge(&messages[1]);
                }
            }
            refuser.ping();
            publisher.publish("marker", "marker", QOS1);
            for member in [refuser, other] {
                assert_next(member, "marker");
                assert_quiet(member);
            }
        }
        // Nor to the member itself, later.
        for (member, name) in both.into_iter().zip(MEMBERS) {
            member.leave();
            let (mut member, _) = Client::connect(gateway.mqtt(), &hello(name));
            assert_quiet(&mut member);
            member.leave();
            gateway.connect(V5, name).leave();
        }
    }
}
