//! `$stream/<name>/<from>/<filter>`: every `<from>`, and what is refused.

use std::time::{SystemTime, UNIX_EPOCH};

use gateway_tests::{Client, Gateway, Message, ProtocolVersion, ReasonCode, TIMEOUT, wait};

use crate::{QOS0, QOS1};

const V5: ProtocolVersion = ProtocolVersion::V5;

/// A gateway with four events in its stream, and what a reader from the beginning got.
fn four_events() -> (Gateway, Vec<Message>) {
    let gateway = Gateway::start();
    let mut publisher = gateway.connect(V5, "publisher");
    for number in 0..4 {
        // Two on each of two topics, at both QoS; one that no stream keeps in between.
        let topic = format!("devices/{}/state", number % 2);
        publisher.publish(&topic, &number.to_string(), if number < 2 { QOS0 } else { QOS1 });
        publisher.publish("plant/1/state", "not kept", QOS1);
    }
    let mut reader = gateway.connect(V5, "reader-of-all");
    let messages = read(&mut reader, "$stream/telemetry/earliest/#", 4);
    assert_eq!(payloads(&messages), ["0", "1", "2", "3"]);
    (gateway, messages)
}

fn read(reader: &mut Client, filter: &str, count: usize) -> Vec<Message> {
    assert_eq!(reader.subscribe(&[(filter, QOS1)]), [ReasonCode::GrantedQos1], "{filter}");
    reader.messages(count)
}

fn payloads(messages: &[Message]) -> Vec<&str> {
    messages.iter().map(|message| &*message.payload).collect()
}

#[test]
fn earliest_gives_everything_in_order_with_offsets_times_and_publishers() {
    let (_gateway, messages) = four_events();
    let offsets: Vec<u64> =
        messages.iter().map(|message| message.user_property("offset").parse().unwrap()).collect();
    assert!(offsets.is_sorted_by(|a, b| a < b), "{offsets:?}");
    let times: Vec<_> = messages.iter().map(|message| message.user_property("time")).collect();
    assert!(times.is_sorted(), "{times:?}");
    for message in &messages {
        assert_eq!(message.user_property("publisher"), "publisher");
        assert_eq!(message.qos, QOS1, "read at the QoS granted");
        assert!(!message.retain);
    }
}

#[test]
fn an_offset_begins_there() {
    let (gateway, messages) = four_events();
    let filter = format!("$stream/telemetry/{}/#", messages[2].user_property("offset"));
    assert_eq!(payloads(&read(&mut gateway.connect(V5, "r"), &filter, 2)), ["2", "3"]);
    let after = messages[1].user_property("offset").parse::<u64>().unwrap() + 1;
    let filter = format!("$stream/telemetry/{after}/#");
    assert_eq!(payloads(&read(&mut gateway.connect(ProtocolVersion::V3_1_1, "r"), &filter, 2)), ["2", "3"]);
}

#[test]
fn the_filter_within_the_stream_selects() {
    let (gateway, _) = four_events();
    assert_eq!(
        payloads(&read(&mut gateway.connect(V5, "r"), "$stream/telemetry/earliest/devices/1/+", 2)),
        ["1", "3"]
    );
}

#[test]
fn latest_gives_only_what_comes_after() {
    let (gateway, _) = four_events();
    let mut reader = gateway.connect(V5, "r");
    assert_eq!(reader.subscribe(&[("$stream/telemetry/latest/#", QOS1)]), [ReasonCode::GrantedQos1]);
    gateway.connect(V5, "p").publish("devices/9/state", "new", QOS1);
    assert_eq!(payloads(&reader.messages(1)), ["new"]);
}

#[test]
fn a_span_and_a_time_begin_there() {
    let (gateway, messages) = four_events();
    assert_eq!(
        payloads(&read(&mut gateway.connect(V5, "r"), "$stream/telemetry/-15m/#", 4)),
        ["0", "1", "2", "3"]
    );

    // The next event is to be later than the last one by the clock that times have, which counts milliseconds.
    let now_ms = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
    let before = now_ms();
    wait::until("a later millisecond", TIMEOUT, || (now_ms() > before + 1).then_some(()));
    gateway.connect(V5, "p").publish("devices/9/state", "later", QOS1);
    let mut reader = gateway.connect(V5, "r");
    let all = read(&mut reader, "$stream/telemetry/earliest/#", 5);
    let time = all[4].user_property("time");
    assert!(time > messages[3].user_property("time"));
    let filter = format!("$stream/telemetry/{time}/#");
    assert_eq!(payloads(&read(&mut gateway.connect(V5, "r2"), &filter, 1)), ["later"]);
    let filter = format!("$stream/telemetry/{}/#", all[0].user_property("time"));
    assert_eq!(payloads(&read(&mut gateway.connect(V5, "r3"), &filter, 5)), ["0", "1", "2", "3", "later"]);
}

#[test]
fn a_reader_goes_on_into_the_present_and_stops_at_unsubscribe() {
    let (gateway, _) = four_events();
    let mut reader = gateway.connect(V5, "r");
    read(&mut reader, "$stream/telemetry/earliest/#", 4);
    let mut publisher = gateway.connect(V5, "p");
    for number in 0..500 {
        publisher.send_publish("devices/9/state", &number.to_string(), QOS0);
    }
    let live = reader.messages(500);
    assert!(live.iter().enumerate().all(|(number, message)| message.payload == number.to_string()));
    assert_eq!(reader.unsubscribe(&["$stream/telemetry/earliest/#"]), [ReasonCode::Success]);
    assert_eq!(reader.unsubscribe(&["$stream/telemetry/earliest/#"]), [ReasonCode::NoSubscriptionExisted]);
    reader.subscribe(&[("end", QOS1)]);
    publisher.publish("devices/9/state", "unwanted", QOS1);
    publisher.publish("end", "end", QOS1);
    assert_eq!(payloads(&reader.messages(1)), ["end"]);
}

#[test]
fn what_was_published_before_a_restart_is_still_there() {
    let (mut gateway, messages) = four_events();
    let messages = content(messages);
    gateway.kill();
    gateway.restart();
    assert_eq!(read_again(&gateway), messages);
    gateway.terminate();
    gateway.restart();
    assert_eq!(read_again(&gateway), messages);
}

/// What has to be the same in every reading: all but the Packet Identifier.
fn content(mut messages: Vec<Message>) -> Vec<Message> {
    for message in &mut messages {
        message.packet_id = None;
    }
    messages
}

fn read_again(gateway: &Gateway) -> Vec<Message> {
    content(read(&mut gateway.connect(V5, "r"), "$stream/telemetry/earliest/#", 4))
}

#[test]
fn what_names_no_stream_is_refused() {
    let gateway = Gateway::start();
    let refused = [
        "$stream/nosuch/earliest/#",
        "$stream/telemetry/whenever/#",
        "$stream/telemetry/earliest",
        "$stream/telemetry",
        "$stream/+/earliest/#",
        "$stream/#",
    ];
    for (version, code) in
        [(V5, ReasonCode::TopicFilterInvalid), (ProtocolVersion::V3_1_1, ReasonCode::UnspecifiedError)]
    {
        let mut client = gateway.connect(version, "r");
        for filter in refused {
            assert_eq!(client.subscribe(&[(filter, QOS1)]), [code], "{version} {filter}");
        }
        // The others of one SUBSCRIBE are granted all the same.
        let codes = client.subscribe(&[("a", QOS0), (refused[0], QOS1), ("b", QOS1)]);
        assert_eq!(codes, [ReasonCode::Success, code, ReasonCode::GrantedQos1]);
        client.ping();
    }
}

#[test]
fn what_is_older_than_the_stream_keeps_is_not_read_any_more() {
    let gateway = Gateway::start_set(&["stream.0.max_age=2s"]);
    let mut publisher = gateway.connect(V5, "publisher");
    publisher.publish("devices/1", "old", QOS1);
    let events = || gateway.metrics().find("gateway_stream_events{stream=\"telemetry\"}");
    wait::until_it("the event", TIMEOUT, events, |&events| events == Some(1.0));
    wait::until_it("its age", TIMEOUT, events, |&events| events == Some(0.0));
    publisher.publish("devices/1", "new", QOS1);
    for from in ["earliest", "0", "-1h"] {
        let mut reader = gateway.connect(V5, from);
        let messages = read(&mut reader, &format!("$stream/telemetry/{from}/#"), 1);
        assert_eq!(payloads(&messages), ["new"], "{from}");
    }
}
