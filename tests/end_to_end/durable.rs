//! Durable sessions over long absences: backlogs larger than any window or page, and expiry on the way.

use gateway_protocol::{PropertiesBuf, Property};
use gateway_tests::{Client, Gateway, Hello, ProtocolVersion, TIMEOUT, wait};

use crate::{QOS0, QOS1};

const V5: ProtocolVersion = ProtocolVersion::V5;

/// Publishes `numbers` at QoS 1, many at a time, on topics of which a stream keeps half.
fn publish_numbers(publisher: &mut Client, numbers: std::ops::Range<usize>, padding: &str) {
    let mut ids = std::collections::VecDeque::new();
    for number in numbers {
        let topic = if number % 2 == 0 { "devices/1" } else { "plant/1" };
        ids.extend(publisher.send_publish(topic, &format!("{number} {padding}"), QOS1));
        if ids.len() == 200 {
            publisher.await_puback(ids.pop_front().unwrap());
        }
    }
    for id in ids {
        publisher.await_puback(id);
    }
}

fn numbers(client: &mut Client, count: usize) -> Vec<usize> {
    let number =
        |message: &gateway_tests::Message| message.payload.split_once(' ').unwrap().0.parse().unwrap();
    client.messages(count).iter().map(number).collect()
}

#[test]
fn a_backlog_larger_than_memory_pages_comes_complete_and_in_order_across_restarts() {
    // A view saved in the middle and a log tail over it: both have to give their part.
    let mut gateway =
        Gateway::start_set(&["storage.view_save_interval_ms=100", "storage.segment_bytes=4MiB"]);
    let hello = Hello::durable(V5, "long-away");
    let (mut client, _) = Client::connect(gateway.mqtt(), &hello);
    client.subscribe(&[("devices/#", QOS1), ("plant/#", QOS1)]);
    client.leave();
    let padding = "x".repeat(1000);
    const EACH: usize = 4_000;
    for (round, end) in [Gateway::kill, Gateway::terminate, Gateway::kill].into_iter().enumerate() {
        let mut publisher = gateway.connect(V5, "p");
        publish_numbers(&mut publisher, round * EACH..(round + 1) * EACH, &padding);
        end(&mut gateway);
        gateway.restart();
    }
    let (mut client, present) = Client::connect(gateway.mqtt(), &hello);
    assert!(present);
    assert_eq!(numbers(&mut client, EACH), (0..EACH).collect::<Vec<_>>());
    client.leave();
    gateway.terminate();
    gateway.restart();
    let (mut client, _) = Client::connect(gateway.mqtt(), &hello);
    let rest = numbers(&mut client, 2 * EACH);
    assert_eq!(rest, (EACH..3 * EACH).collect::<Vec<_>>());
    gateway.await_gauge("gateway_backlog_pending", 0.0);
    gateway.assert_sound();
}

#[test]
fn qos_0_waits_for_nobody() {
    let gateway = Gateway::start();
    let hello = Hello::durable(V5, "s");
    let (mut client, _) = Client::connect(gateway.mqtt(), &hello);
    client.subscribe(&[("plant/at-most-once", QOS0), ("plant/#", QOS1), ("devices/#", QOS1)]);
    client.leave();
    let mut publisher = gateway.connect(V5, "p");
    publisher.publish("plant/1", "published at 0", QOS0);
    publisher.publish("devices/1", "published at 0, and kept by a stream", QOS0);
    publisher.publish("plant/1", "waited", QOS1);
    let (mut client, _) = Client::connect(gateway.mqtt(), &hello);
    publisher.publish("devices/1", "live at 0", QOS0);
    let messages = client.messages(2);
    let mut found: Vec<_> = messages.iter().map(|message| (&*message.payload, message.qos)).collect();
    found.sort_unstable();
    assert_eq!(found, [("live at 0", QOS0), ("waited", QOS1)]);
}

#[test]
fn an_expired_message_is_not_delivered() {
    let gateway = Gateway::start();
    let hello = Hello::durable(V5, "late");
    let (mut client, _) = Client::connect(gateway.mqtt(), &hello);
    client.subscribe(&[("plant/#", QOS1)]);
    client.leave();
    let mut publisher = gateway.connect(V5, "p");
    let mut properties = PropertiesBuf::new();
    properties.push(Property::MessageExpiryInterval(1)).unwrap();
    let id = publisher.send_publish_with("plant/1", b"stale", QOS1, properties.as_properties()).unwrap();
    publisher.await_puback(id);
    let stale_since = std::time::Instant::now();
    publisher.publish("plant/1", "good", QOS1);
    wait::until("the Message Expiry Interval", TIMEOUT, || {
        (stale_since.elapsed().as_millis() > 1_100).then_some(())
    });
    let (mut client, _) = Client::connect(gateway.mqtt(), &hello);
    assert_eq!(client.messages(1)[0].payload, "good");
}
