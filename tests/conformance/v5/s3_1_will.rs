//! Sections 3.1.2.5 to 3.1.2.7 and 3.1.3.2, the Will Message.

use std::time::{Duration, Instant};

use gateway_protocol::packet::{Disconnect, Packet, SubscribeOptions};
use gateway_protocol::{Properties, Property};
use gateway_tests::{Client, Gateway, Hello, ReasonCode, TIMEOUT, Will};

use super::support::{assert_next, at_most, back, packet, pass, subscribe, take};
use crate::{QOS0, QOS1, QOS2, V5};

/// A client that watches the topic of wills, RETAIN as published.
fn watcher(gateway: &Gateway) -> Client {
    let mut watcher = gateway.connect(V5, "watcher");
    subscribe(&mut watcher, "will/#", SubscribeOptions { retain_as_published: true, ..at_most(QOS2) });
    watcher
}

fn testator() -> Hello {
    Hello::new(V5, "testator").will(Will::new("will/1", "gone"))
}

/// With a Will Delay Interval, and a Session that lasts.
fn delayed(delay_secs: u32, expiry_secs: u32) -> Hello {
    Hello::new(V5, "testator")
        .will(Will::new("will/1", "gone").with(Property::WillDelayInterval(delay_secs)))
        .with(Property::SessionExpiryInterval(expiry_secs))
        .clean_start(false)
}

fn open(gateway: &Gateway, hello: &Hello) -> Client {
    Client::connect(gateway.mqtt(), hello).0
}

/// Nothing was published before this.
fn assert_no_will(gateway: &Gateway, watcher: &mut Client) {
    gateway.connect(V5, "marker").publish("will/marker", "marker", QOS1);
    assert_next(watcher, "marker");
}

fn disconnect(client: &mut Client, reason_code: ReasonCode) {
    client.send(&Packet::Disconnect(Disconnect { reason_code, properties: Properties::default() }));
    assert_eq!(client.await_close(TIMEOUT), None);
}

#[test]
fn mqtt_3_1_2_7_the_will_is_kept_and_published_as_it_was_given() {
    let gateway = Gateway::start();
    let mut watcher = watcher(&gateway);
    for qos in [QOS0, QOS1, QOS2] {
        let topic = format!("will/{qos:?}");
        let will = Will { qos, ..Will::new(&topic, "last words \u{0}") };
        drop(open(&gateway, &Hello::new(V5, "testator").will(will)));
        let message = take(&mut watcher);
        assert_eq!((&*message.topic, &*message.payload), (&*topic, "last words \u{0}"));
        assert_eq!((message.qos, message.retain, message.dup), (qos, false, false));
    }
    // A payload of length 0 is a payload.
    drop(open(&gateway, &Hello::new(V5, "testator").will(Will::new("will/empty", ""))));
    let message = take(&mut watcher);
    assert_eq!((&*message.topic, &*message.payload), ("will/empty", ""));
}

#[test]
fn mqtt_3_1_2_7_the_will_survives_a_restart_of_the_server() {
    let mut gateway = Gateway::start();
    let (mut watcher, _) = Client::connect(gateway.mqtt(), &Hello::durable(V5, "watcher"));
    watcher.subscribe(&[("will/#", QOS1)]);
    let _testator = open(&gateway, &testator());
    gateway.kill();
    gateway.restart();
    let mut watcher = back(&gateway, "watcher");
    assert_next(&mut watcher, "gone");
}

#[test]
fn mqtt_3_1_2_8_the_will_follows_every_end_but_a_disconnect() {
    let gateway = Gateway::start();
    let mut watcher = watcher(&gateway);
    // The connection breaks.
    drop(open(&gateway, &testator()));
    assert_next(&mut watcher, "gone");
    // A Protocol Error, and a Malformed Packet.
    for offence in [packet(0xD0, &[]), packet(0x36, &[b"\0\x01t\0\x01\0"])] {
        let mut client = open(&gateway, &testator());
        client.send_bytes(&offence);
        assert!(client.await_close(TIMEOUT).is_some());
        assert_next(&mut watcher, "gone");
    }
    // Keep Alive.
    let mut client = open(&gateway, &testator().keep_alive_secs(1));
    assert_eq!(client.await_close(TIMEOUT), Some(ReasonCode::KeepAliveTimeout));
    assert_next(&mut watcher, "gone");
    // A newcomer with the same Client Identifier.
    let mut client = open(&gateway, &testator());
    let newcomer = gateway.connect(V5, "testator");
    assert_eq!(client.await_close(TIMEOUT), Some(ReasonCode::SessionTakenOver));
    assert_next(&mut watcher, "gone");
    newcomer.leave();
    // DISCONNECT, but with will.
    let mut client = open(&gateway, &testator());
    disconnect(&mut client, ReasonCode::DisconnectWithWill);
    assert_next(&mut watcher, "gone");
    // DISCONNECT with an error.
    let mut client = open(&gateway, &testator());
    disconnect(&mut client, ReasonCode::UnspecifiedError);
    assert_next(&mut watcher, "gone");
    assert_no_will(&gateway, &mut watcher);
}

#[test]
fn mqtt_3_1_2_8_the_will_waits_for_its_delay() {
    let gateway = Gateway::start();
    let mut watcher = watcher(&gateway);
    let client = open(&gateway, &delayed(2, 60));
    let began = Instant::now();
    drop(client);
    assert_no_will(&gateway, &mut watcher);
    assert_next(&mut watcher, "gone");
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(1_900) && took < Duration::from_secs(8), "{took:?}");
}

#[test]
fn mqtt_3_1_2_8_the_will_waits_no_longer_than_the_session_lives() {
    let gateway = Gateway::start();
    let mut watcher = watcher(&gateway);
    // It ends with its connection.
    drop(open(&gateway, &delayed(3_600, 0)));
    assert_next(&mut watcher, "gone");
    // It expires before.
    let client = open(&gateway, &delayed(3_600, 1));
    let began = Instant::now();
    drop(client);
    assert_next(&mut watcher, "gone");
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(900) && took < Duration::from_secs(8), "{took:?}");
    // It is discarded by a clean start.
    drop(open(&gateway, &delayed(3_600, 3_600)));
    let client = open(&gateway, &Hello::new(V5, "testator"));
    assert_next(&mut watcher, "gone");
    client.leave();
    assert_no_will(&gateway, &mut watcher);
}

#[test]
fn mqtt_3_1_2_10_a_will_that_was_published_is_gone() {
    let gateway = Gateway::start();
    let mut watcher = watcher(&gateway);
    let hello = Hello { will: testator().will, ..Hello::durable(V5, "testator") };
    drop(open(&gateway, &hello));
    assert_next(&mut watcher, "gone");
    // The Session goes on, and ends without a will this time; and again.
    for _ in 0..2 {
        drop(open(&gateway, &Hello::durable(V5, "testator")));
        open(&gateway, &Hello::durable(V5, "testator")).leave();
    }
    assert_no_will(&gateway, &mut watcher);
    // One that was deleted by DISCONNECT is gone as well.
    open(&gateway, &hello).leave();
    drop(open(&gateway, &Hello::durable(V5, "testator")));
    open(&gateway, &Hello::durable(V5, "testator")).leave();
    assert_no_will(&gateway, &mut watcher);
}

#[test]
fn mqtt_3_1_2_14_without_will_retain_it_is_not_retained() {
    let gateway = Gateway::start();
    let mut watcher = watcher(&gateway);
    drop(open(&gateway, &testator()));
    assert!(!assert_next(&mut watcher, "gone").retain);
    let mut late = gateway.connect(V5, "late");
    late.subscribe(&[("will/#", QOS1)]);
    late.publish("will/1", "nothing was retained", QOS1);
    assert_next(&mut late, "nothing was retained");
}

#[test]
fn mqtt_3_1_2_15_with_will_retain_it_is_retained() {
    let gateway = Gateway::start();
    let mut watcher = watcher(&gateway);
    let will = Will { retain: true, ..Will::new("will/1", "gone") };
    drop(open(&gateway, &Hello::new(V5, "testator").will(will)));
    assert!(assert_next(&mut watcher, "gone").retain, "as it was published");
    let mut late = gateway.connect(V5, "late");
    late.subscribe(&[("will/#", QOS1)]);
    let message = assert_next(&mut late, "gone");
    assert!(message.retain);
    assert_eq!((message.qos, &*message.topic), (QOS1, "will/1"));
}

#[test]
fn mqtt_3_1_3_9_a_client_that_is_back_in_time_leaves_no_will() {
    let gateway = Gateway::start();
    let mut watcher = watcher(&gateway);
    drop(open(&gateway, &delayed(2, 60)));
    let hello = Hello { will: None, ..delayed(2, 60) };
    let (mut client, present) = Client::connect(gateway.mqtt(), &hello);
    assert!(present);
    pass(&mut watcher, Duration::from_millis(3_200));
    client.ping();
    // With another will, the old one is not sent either, and the new one waits for its own delay.
    drop(client);
    drop(open(&gateway, &delayed(3_600, 3_600)));
    let will = Will::new("will/2", "the new will");
    drop(open(&gateway, &Hello { will: Some(will), ..delayed(0, 3_600) }));
    assert_next(&mut watcher, "the new will");
    open(&gateway, &hello).leave();
    assert_no_will(&gateway, &mut watcher);
}

#[test]
fn mqtt_3_1_3_10_user_properties_of_a_will_keep_their_order() {
    let gateway = Gateway::start();
    let mut watcher = watcher(&gateway);
    let pairs = [("b", "1"), ("a", "2"), ("b", "3"), ("", ""), ("b", "1")];
    let mut will = Will::new("will/1", "gone").with(Property::WillDelayInterval(0));
    for (number, (name, value)) in pairs.into_iter().enumerate() {
        will = will.with(Property::UserProperty { name, value });
        if number == 2 {
            will = will.with(Property::ContentType("text")).with(Property::PayloadFormatIndicator(1));
            will = will.with(Property::ResponseTopic("answers")).with(Property::CorrelationData(b"\0\xFF"));
        }
    }
    drop(open(&gateway, &Hello::new(V5, "testator").will(will)));
    let frame = watcher.await_frame("PUBLISH", |packet| matches!(packet, Packet::Publish(_)));
    let Packet::Publish(publish) = frame.packet() else { panic!("{frame:?}") };
    let user_properties: Vec<_> = publish.properties.user_properties().collect();
    assert_eq!(user_properties, pairs);
    // And the rest of it, but for what concerns the server alone.
    let properties = publish.properties;
    assert_eq!((properties.content_type(), properties.payload_format_indicator()), (Some("text"), Some(1)));
    assert_eq!(properties.response_topic(), Some("answers"));
    assert_eq!(properties.correlation_data(), Some(&b"\0\xFF"[..]));
    assert_eq!(properties.will_delay_interval(), None);
}
