//! Sessions and connections: who is who, what goes on, when it ends.

use std::time::{Duration, Instant};

use gateway_protocol::Property;
use gateway_protocol::packet::{Disconnect, Packet};
use gateway_protocol::{Properties, PropertiesBuf};
use gateway_tests::{Client, Ended, Gateway, Hello, ProtocolVersion, ReasonCode, TIMEOUT};

use crate::{QOS0, QOS1};

const BOTH: [ProtocolVersion; 2] = [ProtocolVersion::V3_1_1, ProtocolVersion::V5];

#[test]
fn a_newcomer_takes_over_and_the_old_connection_is_told() {
    let gateway = Gateway::start();
    for old_version in BOTH {
        for new_version in BOTH {
            for durable in [false, true] {
                let hello = |version| match durable {
                    true => Hello::durable(version, "twin"),
                    false => Hello::new(version, "twin"),
                };
                let (mut old, _) = Client::connect(gateway.mqtt(), &hello(old_version));
                old.subscribe(&[("twin/#", QOS1)]);
                let (mut new, present) = Client::connect(gateway.mqtt(), &hello(new_version));
                let told = old_version.is_v5().then_some(ReasonCode::SessionTakenOver);
                assert_eq!(old.await_close(TIMEOUT), told, "{old_version} taken over by {new_version}");
                assert_eq!(present, durable);
                if durable {
                    new.publish("twin/a", "x", QOS1);
                    assert_eq!(new.messages(1)[0].payload, "x", "the subscription goes on");
                }
                new.leave();
                // The next round is to find nothing.
                Client::connect(gateway.mqtt(), &Hello::new(new_version, "twin")).0.leave();
            }
        }
    }
    gateway.assert_sound();
}

#[test]
fn one_client_id_with_many_takers_is_held_by_one() {
    let gateway = Gateway::start();
    let mut clients: Vec<_> = (0..20).map(|_| Client::open(gateway.mqtt(), ProtocolVersion::V5)).collect();
    let hello = Hello::new(ProtocolVersion::V5, "wanted").bytes();
    for client in &mut clients {
        client.send_bytes(&hello);
    }
    gateway.await_connections(1);
    let mut connected = 0;
    for mut client in clients {
        client.send(&Packet::PingReq);
        let mut taken_over = false;
        loop {
            match client.receive(TIMEOUT).as_ref().map(gateway_tests::Frame::packet) {
                Ok(Packet::PingResp) => break connected += 1,
                Ok(Packet::Disconnect(disconnect)) => {
                    assert_eq!(disconnect.reason_code, ReasonCode::SessionTakenOver);
                    taken_over = true;
                }
                Ok(_) => {}
                Err(_) => break assert!(taken_over, "closed without a word"),
            }
        }
    }
    assert_eq!(connected, 1);
}

#[test]
fn a_silent_client_is_closed_after_one_and_a_half_keep_alive() {
    let gateway = Gateway::start();
    for version in BOTH {
        let (mut client, _) =
            Client::connect(gateway.mqtt(), &Hello::new(version, "silent").keep_alive_secs(1));
        let began = Instant::now();
        let told = client.await_close(Duration::from_secs(4));
        assert!(began.elapsed() >= Duration::from_millis(1_400), "{:?}", began.elapsed());
        assert_eq!(told, version.is_v5().then_some(ReasonCode::KeepAliveTimeout));
    }
}

#[test]
fn any_packet_keeps_a_client_alive() {
    let gateway = Gateway::start();
    let hello = |version| Hello::new(version, &format!("talker-{version}")).keep_alive_secs(1);
    let mut clients = BOTH.map(|version| Client::connect(gateway.mqtt(), &hello(version)).0);
    let end = Instant::now() + Duration::from_secs(3);
    let mut pings = true;
    while Instant::now() < end {
        for client in &mut clients {
            match pings {
                true => client.ping(),
                false => drop(client.publish("a/b", "x", QOS0)),
            }
            assert_eq!(client.receive(Duration::from_millis(300)).err(), Some(Ended::TimedOut));
        }
        pings = !pings;
    }
}

#[test]
fn session_present_says_whether_a_session_goes_on() {
    let gateway = Gateway::start();
    for version in BOTH {
        let id = format!("present-{version}");
        let connect = |hello: &Hello| Client::connect(gateway.mqtt(), hello);
        let (client, present) = connect(&Hello::durable(version, &id));
        assert!(!present, "{version}: the first time there is nothing");
        client.leave();
        let (client, present) = connect(&Hello::durable(version, &id));
        assert!(present, "{version}: it goes on");
        client.leave();
        let (client, present) = connect(&Hello::new(version, &id));
        assert!(!present, "{version}: discarded");
        client.leave();
        let (client, present) = connect(&Hello::durable(version, &id));
        assert!(!present, "{version}: it was discarded before");
        drop(client);
    }
}

#[test]
fn session_present_across_a_restart() {
    let mut gateway = Gateway::start();
    for end in [Gateway::terminate, Gateway::kill] {
        for version in BOTH {
            drop(Client::connect(gateway.mqtt(), &Hello::durable(version, &format!("kept-{version}"))));
            drop(Client::connect(gateway.mqtt(), &Hello::new(version, &format!("clean-{version}"))));
        }
        end(&mut gateway);
        gateway.restart();
        for version in BOTH {
            let (kept, present) =
                Client::connect(gateway.mqtt(), &Hello::durable(version, &format!("kept-{version}")));
            assert!(present);
            kept.leave();
            let hello = Hello::new(version, &format!("clean-{version}")).clean_start(false);
            assert!(!Client::connect(gateway.mqtt(), &hello).1);
        }
        // The nameless ones of 3.1.1 were durable this time; the next round is to find none.
        drop(Client::connect(gateway.mqtt(), &Hello::new(ProtocolVersion::V3_1_1, "clean-3.1.1")));
    }
}

#[test]
fn an_expiry_of_zero_ends_the_session_with_its_connection() {
    let gateway = Gateway::start();
    let hello = Hello::new(ProtocolVersion::V5, "brief").clean_start(false);
    let (mut client, _) = Client::connect(gateway.mqtt(), &hello);
    client.subscribe(&[("brief/#", QOS1), ("end", QOS1)]);
    drop(client);
    gateway.await_connections(0);
    gateway.connect(ProtocolVersion::V5, "p").publish("brief/1", "missed", QOS1);
    let (mut client, present) = Client::connect(gateway.mqtt(), &hello);
    assert!(!present);
    client.subscribe(&[("end", QOS1)]);
    gateway.connect(ProtocolVersion::V5, "p").publish("end", "end", QOS1);
    assert_eq!(client.messages(1)[0].payload, "end");
}

#[test]
fn a_session_ends_when_its_expiry_has_passed() {
    let gateway = Gateway::start();
    let hello =
        Hello::new(ProtocolVersion::V5, "short").clean_start(false).with(Property::SessionExpiryInterval(1));
    Client::connect(gateway.mqtt(), &hello).0.leave();
    let (client, present) = Client::connect(gateway.mqtt(), &hello);
    assert!(present, "it has not passed yet");
    gateway.await_gauge("gateway_sessions_durable", 1.0);
    let began = Instant::now();
    client.leave();
    gateway.await_gauge("gateway_sessions_durable", 0.0);
    assert!(began.elapsed() >= Duration::from_secs(1));
    assert!(!Client::connect(gateway.mqtt(), &hello).1);
}

#[test]
fn disconnect_may_change_the_expiry_but_not_from_zero() {
    let gateway = Gateway::start();
    let mut expiry = PropertiesBuf::new();
    expiry.push(Property::SessionExpiryInterval(0)).unwrap();
    let (mut client, _) = Client::connect(gateway.mqtt(), &Hello::durable(ProtocolVersion::V5, "changed"));
    let last = |properties| Packet::Disconnect(Disconnect { reason_code: ReasonCode::Success, properties });
    client.send(&last(expiry.as_properties()));
    assert_eq!(client.await_close(TIMEOUT), None);
    assert!(!Client::connect(gateway.mqtt(), &Hello::durable(ProtocolVersion::V5, "changed")).1);

    let mut expiry = PropertiesBuf::new();
    expiry.push(Property::SessionExpiryInterval(60)).unwrap();
    let mut client = gateway.connect(ProtocolVersion::V5, "from-zero");
    client.send(&last(expiry.as_properties()));
    assert_eq!(client.await_close(TIMEOUT), Some(ReasonCode::ProtocolError));
}

#[test]
fn a_clean_start_discards_what_was_pending_and_what_was_subscribed() {
    let gateway = Gateway::start();
    for version in BOTH {
        let (mut client, _) = Client::connect(gateway.mqtt(), &Hello::durable(version, "fickle"));
        client.subscribe(&[("fickle/#", QOS1)]);
        client.leave();
        let mut publisher = gateway.connect(version, "p");
        publisher.publish("fickle/1", "discarded", QOS1);
        let (mut client, _) = Client::connect(gateway.mqtt(), &Hello::new(version, "fickle"));
        client.subscribe(&[("end", QOS1)]);
        publisher.publish("fickle/2", "not subscribed any more", QOS1);
        publisher.publish("end", "end", QOS1);
        assert_eq!(client.messages(1)[0].payload, "end", "{version}");
        client.leave();
    }
}

#[test]
fn suback_grants_and_refuses_filter_by_filter() {
    let gateway = Gateway::start_set(&["mqtt.max_qos=1", "mqtt.shared_subscription_available=false"]);
    let filters = [
        ("a", QOS0),
        ("b/+", QOS1),
        ("c/#", gateway_tests::QoS::ExactlyOnce),
        ("$share/group/a", QOS1),
        ("d", QOS1),
        ("$consumer/x", QOS1),
    ];
    let granted = |refusals: [ReasonCode; 2]| {
        let [share, consumer] = refusals;
        [
            ReasonCode::Success,
            ReasonCode::GrantedQos1,
            ReasonCode::GrantedQos1,
            share,
            ReasonCode::GrantedQos1,
            consumer,
        ]
    };
    let mut client = gateway.connect(ProtocolVersion::V5, "s5");
    let refusals = [ReasonCode::SharedSubscriptionsNotSupported, ReasonCode::TopicFilterInvalid];
    assert_eq!(client.subscribe(&filters), granted(refusals));
    let mut client = gateway.connect(ProtocolVersion::V3_1_1, "s4");
    assert_eq!(client.subscribe(&filters), granted([ReasonCode::UnspecifiedError; 2]));
}

#[test]
fn unsubscribe_stops_delivery_at_once_and_for_good() {
    let mut gateway = Gateway::start();
    for version in BOTH {
        for durable in [false, true] {
            let id = format!("leaver-{durable}");
            let hello = if durable { Hello::durable(version, &id) } else { Hello::new(version, &id) };
            let (mut client, _) = Client::connect(gateway.mqtt(), &hello);
            client.subscribe(&[("devices/#", QOS1), ("plant/#", QOS0), ("end", QOS1)]);
            let codes = client.unsubscribe(&["devices/#", "plant/#", "never/subscribed"]);
            if version.is_v5() {
                assert_eq!(
                    codes,
                    [ReasonCode::Success, ReasonCode::Success, ReasonCode::NoSubscriptionExisted]
                );
            }
            let mut publisher = gateway.connect(version, "p");
            for topic in ["devices/1/a", "plant/1", "end"] {
                publisher.publish(topic, topic, QOS1);
            }
            assert_eq!(client.messages(1)[0].payload, "end", "{version} {durable}");
            if !durable {
                continue;
            }
            drop((client, publisher));
            gateway.kill();
            gateway.restart();
            let (mut client, present) = Client::connect(gateway.mqtt(), &hello);
            assert!(present);
            let mut publisher = gateway.connect(version, "p");
            for topic in ["devices/1/a", "plant/1", "end"] {
                publisher.publish(topic, topic, QOS1);
            }
            let message = loop {
                // The last PUBACK may not have been logged before the kill: `end` may come again.
                let message = client.messages(1).remove(0);
                if !message.dup {
                    break message;
                }
                assert_eq!(message.payload, "end");
            };
            assert_eq!(message.payload, "end", "{version} after a restart");
            client.leave();
            Client::connect(gateway.mqtt(), &Hello::new(version, &id)).0.leave();
        }
    }
}

#[test]
fn a_client_without_a_name_is_given_one() {
    let gateway = Gateway::start();
    let mut client = Client::open(gateway.mqtt(), ProtocolVersion::V5);
    client.send_bytes(&Hello::new(ProtocolVersion::V5, "").bytes());
    let frame = client.next_packet();
    let Packet::ConnAck(ack) = frame.packet() else { panic!("{frame:?}") };
    assert_eq!((ack.reason_code, ack.session_present), (ReasonCode::Success, false));
    let name = ack.properties.assigned_client_identifier().expect("an Assigned Client Identifier").to_owned();
    // The name is good for coming back.
    let (_again, _) = Client::connect(gateway.mqtt(), &Hello::new(ProtocolVersion::V5, &name));
    assert_eq!(client.await_close(TIMEOUT), Some(ReasonCode::SessionTakenOver));
    // In 3.1.1 nobody can tell it, so it must not want its state kept.
    gateway.connect(ProtocolVersion::V3_1_1, "").ping();
}

#[test]
fn connack_announces_the_limits() {
    let gateway = Gateway::start_set(&[
        "mqtt.receive_maximum=17",
        "mqtt.max_packet_bytes=128KiB",
        "mqtt.server_keep_alive_secs=30",
        "mqtt.max_qos=1",
        "mqtt.retain_available=false",
        "mqtt.shared_subscription_available=false",
        "mqtt.topic_alias_maximum=0",
    ]);
    let mut client = Client::open(gateway.mqtt(), ProtocolVersion::V5);
    client.send_bytes(
        &Hello::new(ProtocolVersion::V5, "x").with(Property::SessionExpiryInterval(u32::MAX)).bytes(),
    );
    let frame = client.next_packet();
    let Packet::ConnAck(ack) = frame.packet() else { panic!("{frame:?}") };
    let properties: Properties<'_> = ack.properties;
    assert_eq!(properties.receive_maximum(), Some(17));
    assert_eq!(properties.maximum_packet_size(), Some(128 * 1024));
    assert_eq!(properties.server_keep_alive(), Some(30));
    assert_eq!(properties.maximum_qos(), Some(QOS1));
    assert_eq!(properties.retain_available(), Some(false));
    assert_eq!(properties.shared_subscription_available(), Some(false));
    assert_eq!(
        properties.session_expiry_interval(),
        Some(604_800),
        "never is cut to session_expiry_max_secs"
    );
}
