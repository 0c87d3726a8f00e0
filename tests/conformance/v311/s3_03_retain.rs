//! 3.3.1.3 RETAIN.

use gateway_tests::{Client, Gateway, Message};

use super::wire::{
    CLEAN, PUBLISH_0, PUBLISH_1, PUBLISH_2, RETAIN, WILL, WILL_QOS_1, WILL_RETAIN, client, connect,
    connected, durable, payloads, put, take, take_until_end,
};
use crate::{QOS0, QOS1, QOS2};

/// The Retained Messages that a new subscriber to `filter` is sent.
fn found(gateway: &Gateway, filter: &str) -> Vec<Message> {
    let mut newcomer = client(gateway, "");
    newcomer.subscribe(&[("end/of/what/is/retained", QOS2)]);
    newcomer.subscribe(&[(filter, QOS2)]);
    put(&mut newcomer, PUBLISH_2, "end/of/what/is/retained", "end");
    let mut messages = take_until_end(&mut newcomer);
    newcomer.leave();
    messages.sort_by(|a, b| a.topic.cmp(&b.topic));
    messages
}

/// The same for a Session that is kept; there they are sent in the order in which they were published or of the
/// subscription, which is not said.
fn found_by_durable(gateway: &Gateway, filter: &str, count: usize) -> Vec<Message> {
    let (mut newcomer, _) = durable(gateway, "keeps");
    newcomer.subscribe(&[(filter, QOS2)]);
    let mut messages = take(&mut newcomer, count);
    newcomer.leave();
    client(gateway, "keeps").leave();
    messages.sort_by(|a, b| a.topic.cmp(&b.topic));
    messages
}

#[test]
fn mqtt_3_3_1_5_a_retained_message_is_kept_with_its_qos() {
    let mut gateway = Gateway::start();
    let mut publisher = client(&gateway, "publisher");
    for (qos, first) in [PUBLISH_0, PUBLISH_1, PUBLISH_2].into_iter().enumerate() {
        put(&mut publisher, first | RETAIN, &format!("kept/{qos}"), &format!("at {qos}"));
    }
    for restarted in [false, true] {
        if restarted {
            gateway.terminate();
            gateway.restart();
        }
        for messages in [found(&gateway, "kept/+"), found_by_durable(&gateway, "kept/+", 3)] {
            assert_eq!(payloads(&messages), ["at 0", "at 1", "at 2"]);
            let qos: Vec<_> = messages.iter().map(|message| message.qos).collect();
            assert_eq!(qos, [QOS0, QOS1, QOS2]);
        }
        // Never above what is granted.
        for (granted, expected) in [(QOS0, [QOS0, QOS0, QOS0]), (QOS1, [QOS0, QOS1, QOS1])] {
            let mut newcomer = client(&gateway, "");
            newcomer.subscribe(&[("kept/+", granted)]);
            let mut messages = take(&mut newcomer, 3);
            messages.sort_by(|a, b| a.topic.cmp(&b.topic));
            assert_eq!(messages.iter().map(|message| message.qos).collect::<Vec<_>>(), expected);
        }
    }
}

#[test]
fn mqtt_3_3_1_6_a_new_subscription_is_sent_the_last_retained_message_of_each_topic_it_matches() {
    let gateway = Gateway::start();
    let mut publisher = client(&gateway, "publisher");
    for topic in ["a", "a/b", "a/c", "a/b/c", "b/b", "/a"] {
        for version in ["old", "newer", "last"] {
            put(&mut publisher, PUBLISH_1 | RETAIN, topic, &format!("{topic} {version}"));
        }
    }
    let cases: [(&str, &[&str]); 7] = [
        ("a", &["a last"]),
        ("a/+", &["a/b last", "a/c last"]),
        ("a/#", &["a last", "a/b last", "a/b/c last", "a/c last"]),
        ("+/b", &["a/b last", "b/b last"]),
        ("#", &["/a last", "a last", "a/b last", "a/b/c last", "a/c last", "b/b last"]),
        ("/+", &["/a last"]),
        ("c", &[]),
    ];
    for (filter, expected) in cases {
        assert_eq!(payloads(&found(&gateway, filter)), expected, "{filter}");
        assert_eq!(payloads(&found_by_durable(&gateway, filter, expected.len())), expected, "{filter}");
    }
}

#[test]
fn mqtt_3_3_1_7_a_retained_message_at_qos_0_displaces_the_one_before() {
    let gateway = Gateway::start();
    let mut publisher = client(&gateway, "publisher");
    for before in [PUBLISH_0, PUBLISH_1, PUBLISH_2] {
        put(&mut publisher, before | RETAIN, "a", "old");
        put(&mut publisher, PUBLISH_0 | RETAIN, "a", "new");
        put(&mut publisher, PUBLISH_1 | RETAIN, "b", "so the one before is through");
        let messages = found(&gateway, "a");
        assert_eq!(payloads(&messages), ["new"]);
        assert_eq!(messages[0].qos, QOS0);
    }
}

#[test]
fn mqtt_3_3_1_8_what_is_sent_because_of_a_new_subscription_has_retain_1() {
    let mut gateway = Gateway::start();
    let mut publisher = client(&gateway, "publisher");
    for (qos, first) in [PUBLISH_0, PUBLISH_1, PUBLISH_2].into_iter().enumerate() {
        put(&mut publisher, first | RETAIN, &format!("a/{qos}"), "x");
    }
    for restarted in [false, true] {
        if restarted {
            gateway.kill();
            gateway.restart();
        }
        for messages in [found(&gateway, "a/#"), found_by_durable(&gateway, "a/#", 3)] {
            assert_eq!(messages.len(), 3);
            assert!(messages.iter().all(|message| message.retain && !message.dup), "{messages:?}");
        }
    }
}

#[test]
fn mqtt_3_3_1_9_an_established_subscription_gets_it_with_retain_0() {
    let gateway = Gateway::start();
    let mut publisher = client(&gateway, "publisher");
    let (kept, _) = durable(&gateway, "kept");
    let (mut away, _) = durable(&gateway, "away");
    away.subscribe(&[("a/#", QOS2)]);
    away.leave();
    let mut subscribers = [client(&gateway, "clean"), kept];
    for subscriber in &mut subscribers {
        subscriber.subscribe(&[("a/#", QOS2)]);
    }
    for first in [PUBLISH_0, PUBLISH_1, PUBLISH_2] {
        // Where nothing was retained before, and where something was.
        for topic in [format!("a/{first}"), "a/same".to_owned()] {
            put(&mut publisher, first | RETAIN, &topic, "x");
            for subscriber in &mut subscribers {
                let message = take(subscriber, 1).remove(0);
                assert_eq!((&message.topic, message.retain), (&topic, false));
            }
        }
    }
    // The subscription stood when it was published, though nobody was there.
    let (mut away, _) = durable(&gateway, "away");
    for message in take(&mut away, 4) {
        assert!(!message.retain && message.qos != QOS0, "{message:?}");
    }
}

#[test]
fn mqtt_3_3_1_10_an_empty_payload_is_delivered_and_removes_the_retained_message() {
    let mut gateway = Gateway::start();
    for (round, first) in [PUBLISH_0, PUBLISH_1, PUBLISH_2].into_iter().enumerate() {
        let mut publisher = client(&gateway, "publisher");
        let mut subscriber = client(&gateway, "subscriber");
        subscriber.subscribe(&[("a", QOS2)]);
        put(&mut publisher, PUBLISH_1 | RETAIN, "a", "x");
        take(&mut subscriber, 1);
        assert_eq!(found(&gateway, "a").len(), 1);
        put(&mut publisher, first | RETAIN, "a", "");
        let message = take(&mut subscriber, 1).remove(0);
        assert_eq!((&*message.payload, message.retain, message.qos as usize), ("", false, round));
        put(&mut publisher, PUBLISH_1, "b", "so the one before is through");
        assert!(found(&gateway, "a").is_empty(), "it was removed at QoS {round}");
        drop((publisher, subscriber));
        gateway.kill();
        gateway.restart();
        assert!(found(&gateway, "a").is_empty(), "it was removed at QoS {round}, before a restart");
    }
}

#[test]
fn mqtt_3_3_1_11_an_empty_payload_is_never_kept() {
    let gateway = Gateway::start();
    let mut publisher = client(&gateway, "publisher");
    for first in [PUBLISH_0, PUBLISH_1, PUBLISH_2] {
        put(&mut publisher, first | RETAIN, "never/there", "");
        put(&mut publisher, PUBLISH_1 | RETAIN, "removed", "x");
        put(&mut publisher, first | RETAIN, "removed", "");
        put(&mut publisher, first | RETAIN, "removed", "");
        put(&mut publisher, PUBLISH_1, "b", "so the one before is through");
        assert!(found(&gateway, "#").is_empty());
    }
    let bearer = connect(CLEAN | WILL | WILL_QOS_1 | WILL_RETAIN, 0, &["bearer", "will", ""]);
    let mut watcher = client(&gateway, "watcher");
    watcher.subscribe(&[("will", QOS1)]);
    drop::<Client>(connected(&gateway, &bearer));
    assert_eq!(payloads(&take(&mut watcher, 1)), [""]);
    assert!(found(&gateway, "#").is_empty());
}

#[test]
fn mqtt_3_3_1_12_without_retain_nothing_retained_is_touched() {
    let gateway = Gateway::start();
    let mut publisher = client(&gateway, "publisher");
    put(&mut publisher, PUBLISH_1 | RETAIN, "a", "retained");
    for first in [PUBLISH_0, PUBLISH_1, PUBLISH_2] {
        for payload in ["x", ""] {
            put(&mut publisher, first, "a", payload);
            put(&mut publisher, first, "b", payload);
        }
    }
    assert_eq!(payloads(&found(&gateway, "#")), ["retained"]);
}
