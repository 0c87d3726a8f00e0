//! `$consumer/<name>`: workers that share a stream, failures that come again and end, and what a crash keeps of that.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use gateway_protocol::PacketType;
use gateway_protocol::packet::{Ack, Packet};
use gateway_protocol::property::Property;
use gateway_tests::{
    Client, Gateway, Hello, Message, ProtocolVersion, ReasonCode, Subscriber, TIMEOUT, get, wait,
};

use crate::{QOS0, QOS1};

const V5: ProtocolVersion = ProtocolVersion::V5;
const V311: ProtocolVersion = ProtocolVersion::V3_1_1;

/// A gateway with a consumer `work` on all of `telemetry`; `more` are further keys of it.
fn gateway(more: &str) -> Gateway {
    let consumer = format!("consumer=[{{name='work', stream='telemetry', from='earliest', {more}}}]");
    Gateway::start_set(&[&consumer])
}

fn publish(gateway: &Gateway, payloads: std::ops::Range<u32>) {
    let mut publisher = gateway.connect(V5, "publisher");
    for number in payloads {
        publisher.publish(&format!("devices/{number}/state"), &number.to_string(), QOS1);
    }
}

fn work(worker: &mut Client) {
    assert_eq!(worker.subscribe(&[("$consumer/work", QOS1)]), [ReasonCode::GrantedQos1]);
}

/// A version 5 client that takes `most` messages at a time.
fn worker(gateway: &Gateway, name: &str, most: u16) -> Client {
    let hello = Hello::new(V5, name).with(Property::ReceiveMaximum(most));
    let (mut worker, _) = Client::connect(gateway.mqtt(), &hello);
    work(&mut worker);
    worker
}

fn answer(worker: &mut Client, message: &Message, reason_code: ReasonCode) {
    let ack = Ack { reason_code, ..Ack::success(message.packet_id.unwrap()) };
    worker.send(&Packet::PubAck(ack));
}

fn attempt(message: &Message) -> u32 {
    message.user_property("attempt").parse().unwrap()
}

fn await_metric(gateway: &Gateway, sample: &str, value: f64) {
    wait::until(&format!("{sample} {value}"), TIMEOUT, || {
        (gateway.metrics().find(sample) == Some(value)).then_some(())
    });
}

#[test]
fn two_workers_share_what_the_stream_has_and_each_event_goes_to_one() {
    let gateway = gateway("");
    publish(&gateway, 0..10);
    let mut workers = [worker(&gateway, "one", 4), worker(&gateway, "two", 4)];
    publish(&gateway, 10..60);
    let mut got: BTreeMap<String, usize> = BTreeMap::new();
    let mut shares = [0, 0];
    while got.len() < 60 {
        for (worker, share) in workers.iter_mut().zip(&mut shares) {
            while let Ok(frame) = worker.receive(Duration::from_millis(20)) {
                let Some(message) = frame.message() else { continue };
                assert_eq!(attempt(&message), 1);
                assert_eq!(message.topic, format!("devices/{}/state", message.payload));
                assert_eq!((message.user_property("publisher"), message.qos), ("publisher", QOS1));
                assert!(!message.user_property("offset").is_empty() && !message.dup && !message.retain);
                worker.acknowledge(&message);
                *share += 1;
                *got.entry(message.payload).or_default() += 1;
                if *share % 4 == 0 {
                    break; // The other one has its turn.
                }
            }
        }
    }
    assert!(got.values().all(|count| *count == 1), "{got:?}");
    assert!(shares.iter().all(|share| *share >= 20), "{shares:?}");
    await_metric(&gateway, "gateway_consumer_acked_total{consumer=\"work\"}", 60.0);
    await_metric(&gateway, "gateway_consumer_open{consumer=\"work\"}", 0.0);
    gateway.assert_sound();
}

#[test]
fn what_fails_comes_again_after_its_backoff_and_ends_as_a_dead_letter() {
    let gateway = gateway("max_deliver=3, backoff=['300ms', '600ms']");
    publish(&gateway, 0..1);
    let mut worker = worker(&gateway, "worker", 10);
    let mut message = worker.message();
    for (next, wait_ms) in [(2, 300), (3, 600)] {
        let failed = Instant::now();
        answer(&mut worker, &message, ReasonCode::UnspecifiedError);
        message = worker.message();
        assert!(failed.elapsed() >= Duration::from_millis(wait_ms), "{:?}", failed.elapsed());
        assert_eq!((attempt(&message), message.dup), (next, false));
    }
    answer(&mut worker, &message, ReasonCode::QuotaExceeded);
    await_metric(&gateway, "gateway_dead_letters_total{consumer=\"work\",cause=\"max_deliver\"}", 1.0);
    assert_eq!(gateway.metrics().get("gateway_dead_letters{consumer=\"work\"}"), 1.0);
    let record = || get(gateway.admin(), "/v1/decisions?client=work&action=dead_lettered&reason=max_deliver");
    wait::until_it("it is on record", TIMEOUT, record, |record| record.contains("\"count\":1"));
    gateway.assert_sound();
}

#[test]
fn what_nobody_can_do_is_a_dead_letter_at_once() {
    let gateway = gateway("max_deliver=0");
    publish(&gateway, 0..3);
    let mut worker = worker(&gateway, "worker", 10);
    for reason in
        [ReasonCode::PayloadFormatInvalid, ReasonCode::ImplementationSpecificError, ReasonCode::Success]
    {
        let message = worker.message();
        answer(&mut worker, &message, reason);
    }
    await_metric(&gateway, "gateway_dead_letters_total{consumer=\"work\",cause=\"rejected\"}", 2.0);
    await_metric(&gateway, "gateway_consumer_acked_total{consumer=\"work\"}", 1.0);
    gateway.assert_sound();
}

#[test]
fn a_killed_gateway_counts_attempts_on_and_keeps_leases_and_dead_letters() {
    let mut gateway = gateway("max_deliver=2, ack_wait='2s'");
    publish(&gateway, 0..2);
    let handed_out = Instant::now();
    {
        let mut first = worker(&gateway, "first", 1);
        let message = first.message();
        assert_eq!((&*message.payload, attempt(&message)), ("0", 1));
        answer(&mut first, &message, ReasonCode::Success);
        assert_eq!(first.message().payload, "1");
    }
    gateway.kill();
    gateway.restart();
    let mut second = worker(&gateway, "second", 10);
    // An acknowledgement that the log did not have may be forgotten: then that event comes again as well.
    let again = loop {
        let message = second.message();
        answer(&mut second, &message, ReasonCode::UnspecifiedError);
        assert_eq!(attempt(&message), 2, "{message:?}");
        if message.payload == "1" {
            break message;
        }
    };
    assert!(handed_out.elapsed() >= Duration::from_millis(1900), "the lease was over before: {again:?}");
    await_metric(&gateway, "gateway_dead_letters{consumer=\"work\"}", 1.0);
    gateway.kill();
    gateway.restart();
    await_metric(&gateway, "gateway_dead_letters{consumer=\"work\"}", 1.0);
    let mut third = worker(&gateway, "third", 10);
    publish(&gateway, 2..3);
    assert_eq!(third.message().payload, "2", "nothing else is left");
    gateway.assert_sound();
}

#[test]
fn silence_and_a_lost_connection_give_the_event_to_another_worker_when_the_lease_is_over() {
    let gateway = gateway("ack_wait='1s'");
    let mut lost = worker(&gateway, "lost", 10);
    publish(&gateway, 0..1);
    let first = lost.message();
    let handed_out = Instant::now();
    drop(lost);
    let mut other = worker(&gateway, "other", 10);
    let again = other.message();
    let took = handed_out.elapsed();
    assert!(took >= Duration::from_millis(900) && took < Duration::from_secs(6), "{took:?}");
    assert_eq!((again.payload, attempt(&first)), (first.payload, 1));
    gateway.assert_sound();
}

#[test]
fn a_worker_that_leaves_gives_back_what_it_has_at_once() {
    let gateway = gateway("ack_wait='60s'");
    let mut other = worker(&gateway, "other", 20);
    let mut stays = worker(&gateway, "stays", 20);
    publish(&gateway, 0..8);
    let mine: Vec<Message> = (0..4).map(|_| other.message()).collect();
    assert!((0..4).all(|_| attempt(&stays.message()) == 1));
    assert_eq!(other.unsubscribe(&["$consumer/work"]), [ReasonCode::Success]);
    let mut given: Vec<String> = (0..4)
        .map(|_| {
            let message = stays.message();
            assert_eq!(attempt(&message), 2);
            stays.acknowledge(&message);
            message.payload
        })
        .collect();
    let mut had: Vec<String> = mine.into_iter().map(|message| message.payload).collect();
    had.sort();
    given.sort();
    assert_eq!(given, had);
    assert_eq!(other.unsubscribe(&["$consumer/work"]), [ReasonCode::NoSubscriptionExisted]);
    stays.leave();
    work(&mut other);
    assert!((0..4).all(|_| attempt(&other.message()) == 2), "the others come back with its DISCONNECT");
    gateway.assert_sound();
}

#[test]
fn a_worker_that_takes_nothing_keeps_no_other_waiting() {
    let gateway = gateway("ack_wait='60s'");
    let mut slow = worker(&gateway, "slow", 2);
    let mut fast = worker(&gateway, "fast", 50);
    publish(&gateway, 0..100);
    let messages = fast.messages(98);
    assert!(messages.iter().all(|message| attempt(message) == 1));
    assert_eq!((0..2).map(|_| slow.message()).filter(|message| attempt(message) == 1).count(), 2);
    gateway.assert_sound();
}

#[test]
fn a_worker_that_hangs_is_disconnected_and_its_events_go_on() {
    let gateway = gateway("ack_wait='500ms', max_deliver=0");
    let mut hangs = worker(&gateway, "hangs", 2);
    publish(&gateway, 0..2);
    let _ = (hangs.message(), hangs.message());
    let told = hangs.await_frame("DISCONNECT", |packet| packet.packet_type() == PacketType::Disconnect);
    let Packet::Disconnect(disconnect) = told.packet() else { panic!("{told:?}") };
    assert_eq!(disconnect.reason_code, ReasonCode::AdministrativeAction);
    assert!(disconnect.properties.reason_string().is_some_and(|why| why.contains("hangs")), "{told:?}");
    assert_eq!(hangs.await_close(TIMEOUT), None);
    let mut works = worker(&gateway, "works", 10);
    assert!(works.messages(2).iter().all(|message| attempt(message) > 1));
    gateway.assert_sound();
}

#[test]
fn a_3_1_1_worker_settles_with_puback_and_mosquitto_is_one() {
    let gateway = gateway("");
    publish(&gateway, 0..2);
    let mut worker = gateway.connect(V311, "old");
    work(&mut worker);
    let payloads: Vec<String> = worker.messages(2).into_iter().map(|message| message.payload).collect();
    assert_eq!(payloads, ["0", "1"]);
    worker.ping();
    worker.leave();
    for (version, number) in [("mqttv311", 2), ("mqttv5", 3)] {
        let mut worker = Subscriber::start(&gateway, version, "%t %p", &["-q", "1", "-t", "$consumer/work"]);
        publish(&gateway, number..number + 1);
        assert_eq!(worker.message(), format!("devices/{number}/state {number}"));
        await_metric(&gateway, "gateway_consumer_acked_total{consumer=\"work\"}", f64::from(number + 1));
        assert_eq!(worker.stop(), [""; 0]);
    }
    gateway.assert_sound();
}

#[test]
fn events_of_one_topic_come_one_at_a_time_where_order_is_kept() {
    let gateway = gateway("order='key'");
    let mut publisher = gateway.connect(V5, "publisher");
    for number in 0..4 {
        publisher.publish("devices/a/state", &format!("a{number}"), QOS1);
    }
    publisher.publish("devices/b/state", "b0", QOS1);
    let mut workers = [worker(&gateway, "one", 10), worker(&gateway, "two", 10)];
    let mut of_a = Vec::new();
    let mut others = Vec::new();
    while of_a.len() < 4 || others.is_empty() {
        for worker in &mut workers {
            let Ok(frame) = worker.receive(Duration::from_millis(50)) else { continue };
            let Some(message) = frame.message() else { continue };
            if message.topic == "devices/a/state" {
                // While it is not settled no other comes.
                let all = of_a.len();
                assert_eq!(message.payload, format!("a{all}"));
                of_a.push(message.payload.clone());
            } else {
                others.push(message.payload.clone());
            }
            worker.acknowledge(&message);
        }
    }
    assert_eq!(others, ["b0"]);
    gateway.assert_sound();
}

#[test]
fn what_can_not_be_is_refused() {
    let gateway = gateway("");
    let mut client = gateway.connect(V5, "client");
    let codes = client.subscribe(&[("$consumer/none", QOS1), ("$consumer/work", QOS0), ("$consumer/", QOS1)]);
    let expected = [
        ReasonCode::TopicFilterInvalid,
        ReasonCode::ImplementationSpecificError,
        ReasonCode::TopicFilterInvalid,
    ];
    assert_eq!(codes, expected);
    let mut old = gateway.connect(V311, "old");
    assert_eq!(old.subscribe(&[("$consumer/none", QOS1)]), [ReasonCode::UnspecifiedError]);
    gateway.assert_sound();
}
