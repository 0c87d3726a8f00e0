//! How messages travel: order, acknowledgements, what is forwarded and what is not.

use gateway_protocol::packet::{Packet, Publish, SubscribeOptions};
use gateway_protocol::{PacketId, Properties, PropertiesBuf, Property};
use gateway_tests::{Client, Gateway, Hello, ProtocolVersion, ReasonCode};

use crate::{QOS0, QOS1};

const V5: ProtocolVersion = ProtocolVersion::V5;
const BOTH: [ProtocolVersion; 2] = [ProtocolVersion::V3_1_1, V5];
/// Below the default Receive Maximum, so that a publisher may send them all without waiting.
const WINDOW: usize = 250;

#[test]
fn pubacks_come_in_the_order_of_the_publishes() {
    let gateway = Gateway::start();
    for version in BOTH {
        let mut publisher = gateway.connect(version, "p");
        let mut sent = Vec::new();
        for number in 0..WINDOW {
            // Some wait for the disk, some for nothing: the order stands all the same [MQTT-4.6.0-2].
            let topic = ["devices/1/state", "nobody/wants", "devices/2/state"][number % 3];
            sent.extend(publisher.send_publish(topic, "x", QOS1));
        }
        let acknowledged: Vec<PacketId> = (0..WINDOW)
            .map(|_| match publisher.next_packet().packet() {
                Packet::PubAck(ack) => ack.packet_id,
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(acknowledged, sent, "{version}");
    }
}

#[test]
fn every_subscriber_sees_each_publishers_messages_in_order() {
    let gateway = Gateway::start();
    let filters = [("devices/#", QOS1), ("plant/#", QOS1)];
    let mut subscribers: Vec<Client> = Vec::new();
    for version in BOTH {
        let (mut durable, _) =
            Client::connect(gateway.mqtt(), &Hello::durable(version, &format!("durable-{version}")));
        durable.subscribe(&filters);
        let mut live = gateway.connect(version, &format!("live-{version}"));
        live.subscribe(&filters);
        subscribers.extend([durable, live]);
    }
    const PUBLISHERS: usize = 4;
    const EACH: usize = 600;
    std::thread::scope(|scope| {
        for publisher in 0..PUBLISHERS {
            let mut client = gateway.connect(BOTH[publisher % 2], &format!("p{publisher}"));
            scope.spawn(move || {
                let mut ids = std::collections::VecDeque::new();
                for number in 0..EACH {
                    // One topic for each publisher; a stream keeps those of two.
                    let topic = format!("{}/{publisher}", if publisher < 2 { "devices" } else { "plant" });
                    ids.extend(client.send_publish(&topic, &format!("{publisher} {number}"), QOS1));
                    if ids.len() >= 100 {
                        assert_eq!(client.await_puback(ids.pop_front().unwrap()), ReasonCode::Success);
                    }
                }
                for id in ids {
                    assert_eq!(client.await_puback(id), ReasonCode::Success);
                }
            });
        }
        for mut subscriber in subscribers.drain(..) {
            scope.spawn(move || {
                let mut next = [0; PUBLISHERS];
                for message in subscriber.messages(PUBLISHERS * EACH) {
                    let (publisher, number) = message.payload.split_once(' ').expect("two numbers");
                    let next = &mut next[publisher.parse::<usize>().unwrap()];
                    assert_eq!(number.parse::<usize>().unwrap(), *next, "of publisher {publisher}");
                    *next += 1;
                }
            });
        }
    });
    gateway.assert_sound();
}

#[test]
fn order_holds_while_a_durable_subscriber_appears() {
    // The routing of a topic changes from "nobody stores it" to "it is stored" in the middle of a publisher's run.
    let gateway = Gateway::start();
    let mut live = gateway.connect(V5, "live");
    live.subscribe(&[("plant/#", QOS1)]);
    let mut publisher = gateway.connect(V5, "p");
    let mut number = 0_u32;
    for round in 0..10 {
        for _ in 0..20 {
            publisher.send_publish("plant/1", &number.to_string(), QOS1);
            number += 1;
        }
        let (mut durable, _) =
            Client::connect(gateway.mqtt(), &Hello::durable(V5, "come-and-go").clean_start(true));
        durable.subscribe(&[("plant/#", QOS1)]);
        if round % 2 == 0 {
            durable.unsubscribe(&["plant/#"]);
        }
        durable.leave();
    }
    let found: Vec<u32> =
        live.messages(number as usize).iter().map(|message| message.payload.parse().unwrap()).collect();
    assert_eq!(found, (0..number).collect::<Vec<_>>());
}

#[test]
fn what_is_unacknowledged_comes_again_with_dup_and_the_same_packet_identifier() {
    let gateway = Gateway::start();
    for version in BOTH {
        let hello = Hello::durable(version, "slow-to-answer");
        let (mut client, _) = Client::connect(gateway.mqtt(), &hello);
        client.subscribe(&[("plant/#", QOS1)]);
        let mut publisher = gateway.connect(version, "p");
        for number in 0..5 {
            publisher.publish("plant/1", &number.to_string(), QOS1);
        }
        let first: Vec<_> = (0..5).map(|_| client.message()).collect();
        assert!(first.iter().all(|message| !message.dup));
        // Not the oldest: acknowledgements are by message.
        client.acknowledge(&first[1]);
        client.acknowledge(&first[3]);
        client.ping();
        drop(client);
        let (mut client, present) = Client::connect(gateway.mqtt(), &hello);
        assert!(present);
        publisher.publish("plant/1", "new", QOS1);
        let again: Vec<_> = (0..4).map(|_| client.message()).collect();
        for (message, earlier) in again.iter().zip([&first[0], &first[2], &first[4]]) {
            assert!(message.dup);
            assert_eq!(
                (&message.payload, message.packet_id),
                (&earlier.payload, earlier.packet_id),
                "{version}"
            );
        }
        assert_eq!((&*again[3].payload, again[3].dup), ("new", false));
        client.leave();
        Client::connect(gateway.mqtt(), &Hello::new(version, "slow-to-answer")).0.leave();
    }
}

#[test]
fn no_more_is_in_flight_than_the_client_wants() {
    let gateway = Gateway::start();
    for (topic, hello) in [
        ("plant/1", Hello::durable(V5, "durable").with(Property::ReceiveMaximum(3))),
        ("plant/1", Hello::new(V5, "live").with(Property::ReceiveMaximum(3))),
    ] {
        let (mut client, _) = Client::connect(gateway.mqtt(), &hello);
        client.subscribe(&[(topic, QOS1)]);
        let mut publisher = gateway.connect(V5, "p");
        for number in 0..10 {
            publisher.publish(topic, &number.to_string(), QOS1);
        }
        for number in 0..10 {
            if number == 0 {
                let in_flight: Vec<_> = (0..3).map(|_| client.message()).collect();
                client.ping(); // Were there a fourth, it would have come before the answer to this.
                assert_eq!(
                    client.receive(std::time::Duration::from_millis(100)).err(),
                    Some(gateway_tests::Ended::TimedOut)
                );
                in_flight.iter().for_each(|message| client.acknowledge(message));
            } else if number > 2 {
                assert_eq!(client.messages(1)[0].payload, number.to_string());
            }
        }
    }
}

#[test]
fn a_retransmission_of_what_is_acknowledged_is_a_new_message() {
    // DUP is no identity [MQTT-4.3.2-5]: after PUBACK the same Packet Identifier is another message.
    let gateway = Gateway::start();
    let mut subscriber = gateway.connect(V5, "s");
    subscriber.subscribe(&[("devices/#", QOS1)]);
    let mut publisher = gateway.connect(V5, "p");
    let packet_id = PacketId::new(7);
    for payload in ["first", "second"] {
        let publish = Publish {
            dup: payload == "second",
            qos: QOS1,
            retain: false,
            topic: "devices/1",
            packet_id,
            properties: Properties::default(),
            payload: payload.as_bytes(),
        };
        publisher.send(&Packet::Publish(publish));
        publisher.await_puback(packet_id.unwrap());
    }
    let messages = subscriber.messages(2);
    assert_eq!([&*messages[0].payload, &*messages[1].payload], ["first", "second"]);
    assert!(messages.iter().all(|message| !message.dup), "DUP is of one hop [MQTT-3.3.1-3]");
}

#[test]
fn properties_travel_with_the_message_to_version_5_and_stay_behind_for_3_1_1() {
    let gateway = Gateway::start();
    for topic in ["devices/1", "plant/1"] {
        let mut five = gateway.connect(V5, "five");
        let mut ids = PropertiesBuf::new();
        ids.push(Property::SubscriptionIdentifier(42)).unwrap();
        five.subscribe_with(&[(topic, SubscribeOptions::at_most(QOS1))], ids.as_properties());
        let mut four = gateway.connect(ProtocolVersion::V3_1_1, "four");
        four.subscribe(&[(topic, QOS1)]);
        let mut properties = PropertiesBuf::new();
        for property in [
            Property::UserProperty { name: "a", value: "1" },
            Property::MessageExpiryInterval(1000),
            Property::UserProperty { name: "a", value: "2" },
            Property::ContentType("text/plain"),
            Property::ResponseTopic("reply/to"),
            Property::CorrelationData(b"\x00\xff"),
            Property::PayloadFormatIndicator(1),
        ] {
            properties.push(property).unwrap();
        }
        let mut publisher = gateway.connect(V5, "p");
        publisher.send_publish_with(topic, b"x", QOS1, properties.as_properties());
        let frame = five.await_frame("PUBLISH", |packet| matches!(packet, Packet::Publish(_)));
        let Packet::Publish(publish) = frame.packet() else { panic!() };
        let found = publish.properties;
        assert_eq!(found.user_properties().collect::<Vec<_>>(), [("a", "1"), ("a", "2")], "{topic}");
        assert!(found.message_expiry_interval().is_some_and(|secs| (990..=1000).contains(&secs)));
        assert_eq!(found.content_type(), Some("text/plain"));
        assert_eq!(found.response_topic(), Some("reply/to"));
        assert_eq!(found.correlation_data(), Some(&b"\x00\xff"[..]));
        assert_eq!(found.payload_format_indicator(), Some(1));
        assert_eq!(found.subscription_identifiers().collect::<Vec<_>>(), [42]);
        assert_eq!(four.messages(1)[0].payload, "x");
    }
}

#[test]
fn no_local_keeps_a_clients_own_messages_from_it() {
    let gateway = Gateway::start();
    for topic in ["devices/1", "plant/1"] {
        for hello in [Hello::new(V5, "selfish"), Hello::durable(V5, "selfish-durable")] {
            let (mut client, _) = Client::connect(gateway.mqtt(), &hello);
            let options = SubscribeOptions { no_local: true, ..SubscribeOptions::at_most(QOS1) };
            client.subscribe_with(&[(topic, options)], Properties::default());
            client.publish(topic, "own", QOS1);
            gateway.connect(V5, "other").publish(topic, "other's", QOS1);
            assert_eq!(client.messages(1)[0].payload, "other's");
            client.leave();
        }
    }
}

#[test]
fn topics_of_the_server_can_not_be_published_to() {
    let gateway = Gateway::start();
    let mut client = gateway.connect(V5, "five");
    client.subscribe(&[("#", QOS1), ("$other/#", QOS1)]);
    assert_eq!(client.publish("$other/x", "x", QOS1), Some(ReasonCode::TopicNameInvalid));
    assert_eq!(client.publish("$stream/telemetry/x", "x", QOS1), Some(ReasonCode::TopicNameInvalid));
    client.publish("$other/x", "x", QOS0);
    assert_eq!(client.publish("end", "end", QOS1), Some(ReasonCode::Success));
    assert_eq!(client.messages(1)[0].payload, "end");
    assert_eq!(gateway.metrics().get("gateway_events_rejected_total{reason=\"reserved_topic\"}"), 3.0);
}

#[test]
fn large_messages_go_through_and_larger_ones_are_told_so() {
    let gateway = Gateway::start();
    let mut subscriber = gateway.connect(V5, "s");
    subscriber.subscribe(&[("devices/#", QOS1), ("plant/#", QOS1)]);
    let mut publisher = gateway.connect(V5, "p");
    let large = "x".repeat(1024 * 1024 - 64);
    for topic in ["devices/1", "plant/1"] {
        assert_eq!(publisher.publish(topic, &large, QOS1), Some(ReasonCode::Success));
        assert!(subscriber.messages(1)[0].payload == large, "not as it was sent");
    }
    publisher.send_publish("devices/1", &"x".repeat(1024 * 1024), QOS1);
    assert_eq!(publisher.await_close(gateway_tests::TIMEOUT), Some(ReasonCode::PacketTooLarge));
    // A client that takes less is not sent more [MQTT-3.1.2-24].
    let hello = Hello::durable(V5, "small").with(Property::MaximumPacketSize(1000));
    let (mut small, _) = Client::connect(gateway.mqtt(), &hello);
    small.subscribe(&[("devices/#", QOS1)]);
    let mut publisher = gateway.connect(V5, "p");
    publisher.publish("devices/1", &"x".repeat(2000), QOS1);
    publisher.publish("devices/1", "fits", QOS1);
    assert_eq!(small.messages(1)[0].payload, "fits");
}

#[test]
fn a_member_of_a_group_gets_its_other_subscriptions_once() {
    let gateway = Gateway::start();
    for version in BOTH {
        let mut client = gateway.connect(version, "member");
        client.subscribe(&[("$share/g/jobs/#", QOS1)]);
        client.subscribe(&[("plain/#", QOS1)]);
        let mut publisher = gateway.connect(version, "p");
        for topic in ["plain/1", "jobs/1", "plain/2"] {
            publisher.publish(topic, "x", QOS1);
        }
        let mut topics: Vec<String> = Vec::new();
        for _ in 0..3 {
            let message = client.message();
            client.acknowledge(&message);
            topics.push(message.topic);
        }
        topics.sort();
        assert_eq!(topics, ["jobs/1", "plain/1", "plain/2"], "{version}");
        client.unsubscribe(&["$share/g/jobs/#"]);
        publisher.publish("jobs/2", "x", QOS1);
        publisher.publish("plain/3", "x", QOS1);
        assert_eq!(
            client.message().topic,
            "plain/3",
            "{version}: nothing twice, nothing after leaving the group"
        );
        client.leave();
    }
}
