//! `$stream/...` at a chosen pace. What is asserted is that nothing comes too early: how late it may be is the machine's affair.

use std::time::{Duration, Instant};

use gateway_protocol::packet::SubscribeOptions;
use gateway_protocol::property::{PropertiesBuf, Property};
use gateway_tests::{Client, Gateway, ProtocolVersion, ReasonCode, wait};

use crate::{QOS0, QOS1};

const V5: ProtocolVersion = ProtocolVersion::V5;
const ALL: &str = "$stream/telemetry/earliest/#";

fn publish(gateway: &Gateway, payloads: std::ops::Range<u32>) {
    let mut publisher = gateway.connect(V5, "publisher");
    for number in payloads {
        publisher.publish("devices/1/state", &number.to_string(), QOS1);
    }
}

fn subscribe(reader: &mut Client, filters: &[&str], pace: &str) -> Vec<ReasonCode> {
    let mut properties = PropertiesBuf::new();
    properties.push(Property::UserProperty { name: "pace", value: pace }).unwrap();
    let filters: Vec<_> = filters.iter().map(|filter| (*filter, SubscribeOptions::at_most(QOS1))).collect();
    reader.subscribe_with(&filters, properties.as_properties())
}

/// How long `count` events take to come to who has subscribed at `begin`.
fn time_of(reader: &mut Client, begin: Instant, count: u32) -> Duration {
    let payloads: Vec<String> =
        reader.messages(count as usize).into_iter().map(|message| message.payload).collect();
    assert_eq!(payloads, (0..count).map(|number| number.to_string()).collect::<Vec<_>>());
    begin.elapsed()
}

#[test]
fn a_reader_gets_no_more_events_in_a_second_than_it_asks_for() {
    let gateway = Gateway::start();
    publish(&gateway, 0..61);
    for (pace, at_least_ms) in [("100/s", 560), ("60/s", 960), ("full", 0)] {
        let mut reader = gateway.connect(V5, "reader");
        let begin = Instant::now();
        assert_eq!(subscribe(&mut reader, &[ALL], pace), [ReasonCode::GrantedQos1], "{pace}");
        let time = time_of(&mut reader, begin, 61);
        assert!(time >= Duration::from_millis(at_least_ms), "{pace}: {time:?}");
    }
    gateway.assert_sound();
}

#[test]
fn a_multiple_keeps_the_distances_between_events() {
    let gateway = Gateway::start();
    let begin = Instant::now();
    publish(&gateway, 0..1);
    wait::until("two thirds of a second", Duration::from_secs(5), || {
        (begin.elapsed() > Duration::from_millis(667)).then_some(())
    });
    publish(&gateway, 1..3);
    for (pace, at_least_ms) in [("1x", 600), ("2x", 300), ("0.5x", 1_200)] {
        let mut reader = gateway.connect(V5, "reader");
        let begin = Instant::now();
        subscribe(&mut reader, &[ALL], pace);
        let time = time_of(&mut reader, begin, 3);
        assert!(time >= Duration::from_millis(at_least_ms), "{pace}: {time:?}");
    }
    gateway.assert_sound();
}

#[test]
fn a_stream_has_a_pace_of_its_own_for_those_who_ask_for_none() {
    let stream =
        "{name='telemetry', topics=['devices/#'], max_age='1h', max_bytes='1MiB', replay_rate='50/s'}";
    let gateway = Gateway::start_set(&[&format!("stream=[{stream}]")]);
    publish(&gateway, 0..41);
    for version in [ProtocolVersion::V3_1_1, V5] {
        let mut reader = gateway.connect(version, "reader");
        let begin = Instant::now();
        reader.subscribe(&[(ALL, QOS0)]);
        let time = time_of(&mut reader, begin, 41);
        assert!(time >= Duration::from_millis(760), "{version:?}: {time:?}");
    }
    gateway.assert_sound();
}

#[test]
fn what_is_no_pace_is_refused_for_streams_alone() {
    let gateway = Gateway::start();
    let mut reader = gateway.connect(V5, "reader");
    assert_eq!(
        subscribe(&mut reader, &["plain/#", ALL], "fast"),
        [ReasonCode::GrantedQos1, ReasonCode::ImplementationSpecificError]
    );
}
