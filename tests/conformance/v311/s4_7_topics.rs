//! 4.7 Topic Names and Topic Filters.

use gateway_protocol::packet::Packet;
use gateway_tests::Gateway;

use super::wire::{
    CLEAN, PUBLISH_0, PUBLISH_1, PUBLISH_2, RETAIN, WILL, WILL_QOS_1, assert_no_connack, assert_nothing_more,
    assert_offends, client, connect, connected, durable, exchange, payloads, publish, put, subscribe, take,
    take_until_end, unsubscribe,
};
use crate::{QOS1, QOS2};

#[test]
fn mqtt_4_7_1_1_wildcards_are_for_filters_only() {
    let gateway = Gateway::start();
    for topic in ["sport/#", "sport/+/player1", "+", "#", "sport+"] {
        assert_offends(&gateway, topic, &publish(PUBLISH_1, topic, 1, "x"));
        let hello = connect(CLEAN | WILL, 0, &["name", topic, "x"]);
        assert_no_connack(&gateway, topic, &hello);
    }
    let mut subscriber = client(&gateway, "");
    for filter in ["sport/#", "sport/+/player1", "+", "#"] {
        exchange(&mut subscriber, &subscribe(1, &[(filter, 1)]), &[0x90, 3, 0, 1, 1]);
    }
    // Where they may stand in a filter is the client's to know; elsewhere they are no filter.
    for filter in ["sport/tennis#", "sport/tennis/#/ranking", "#/a", "sport+", "+sport/a", "a/b+", "##", "++"]
    {
        assert_offends(&gateway, filter, &subscribe(1, &[(filter, 0)]));
        assert_offends(&gateway, filter, &unsubscribe(1, &[filter]));
    }
}

#[test]
fn mqtt_4_7_2_1_a_filter_that_begins_with_a_wildcard_does_not_match_topics_that_begin_with_a_dollar() {
    let gateway = Gateway::start();
    let (kept, _) = durable(&gateway, "kept");
    for (name, mut watcher) in [("clean", client(&gateway, "clean")), ("kept", kept)] {
        watcher.subscribe(&[("#", QOS1), ("+/#", QOS1), ("+/monitor/+", QOS1), ("+/a", QOS1), ("+", QOS1)]);
        let mut publisher = client(&gateway, "publisher");
        for topic in ["$", "$SYS/a", "$SYS/monitor/clients", "$other/a"] {
            put(&mut publisher, PUBLISH_1, topic, "published");
            // A will may be to such a topic as well.
            let will = connect(CLEAN | WILL | WILL_QOS_1, 0, &["bearer", topic, "a will"]);
            drop(connected(&gateway, &will));
            client(&gateway, "bearer").leave();
        }
        // A dollar further on is a character like any other.
        put(&mut publisher, PUBLISH_1, "a$/$b", "matched");
        put(&mut publisher, PUBLISH_1, "end", "end");
        let found = take_until_end(&mut watcher);
        assert_eq!(payloads(&found), ["matched"], "{name}");
    }
}

#[test]
fn mqtt_4_7_2_1_what_the_gateway_says_of_itself_is_sent_to_those_who_name_it() {
    let gateway = Gateway::start_set(&["mqtt.sys_interval_secs=1"]);
    let mut named = client(&gateway, "named");
    named.subscribe(&[("$SYS/#", QOS1)]);
    let mut watcher = client(&gateway, "watcher");
    watcher.subscribe(&[("#", QOS1), ("+/#", QOS1), ("+/broker/#", QOS1), ("+/+/+/+", QOS1)]);
    // Published while both are subscribed, and twice.
    let first = named.message();
    assert!(first.topic.starts_with("$SYS/"), "{first:?}");
    for _ in 0..2 {
        named.await_frame("the same topic, published again", |packet| {
            matches!(packet, Packet::Publish(publish) if publish.topic == first.topic && !publish.retain)
        });
    }
    put(&mut watcher, PUBLISH_1, "end", "end");
    assert!(take_until_end(&mut watcher).is_empty());
}

#[test]
fn mqtt_4_7_3_1_topics_and_filters_have_at_least_one_character() {
    let gateway = Gateway::start();
    for first in [PUBLISH_0, PUBLISH_1, PUBLISH_2] {
        assert_offends(&gateway, "an empty Topic Name", &publish(first, "", 1, "x"));
    }
    assert_offends(&gateway, "an empty Topic Filter", &subscribe(1, &[("", 0)]));
    assert_offends(&gateway, "an empty Topic Filter at the end", &subscribe(1, &[("a", 0), ("", 0)]));
    assert_offends(&gateway, "an empty Topic Filter", &unsubscribe(1, &[""]));
    assert_no_connack(&gateway, "an empty Will Topic", &connect(CLEAN | WILL, 0, &["name", "", "x"]));
    // One is enough, and empty levels are levels.
    let mut client = client(&gateway, "");
    for topic in ["a", "/", "//", " ", "a//b", "/a", "a/"] {
        exchange(&mut client, &subscribe(1, &[(topic, 0)]), &[0x90, 3, 0, 1, 0]);
        let message = publish(PUBLISH_0, topic, 0, "x");
        exchange(&mut client, &message, &message);
    }
}

#[test]
fn mqtt_4_7_3_2_topics_and_filters_have_no_u_0000() {
    let gateway = Gateway::start();
    for text in ["\0", "a\0", "\0a", "a/\0/b"] {
        for first in [PUBLISH_0, PUBLISH_1, PUBLISH_2] {
            assert_offends(&gateway, "U+0000 in a Topic Name", &publish(first, text, 1, "x"));
        }
        assert_offends(&gateway, "U+0000 in a Topic Filter", &subscribe(1, &[(text, 0)]));
        assert_offends(&gateway, "U+0000 in a Topic Filter", &unsubscribe(1, &[text]));
        assert_no_connack(
            &gateway,
            "U+0000 in a Will Topic",
            &connect(CLEAN | WILL, 0, &["name", text, "x"]),
        );
    }
}

#[test]
fn mqtt_4_7_3_3_topics_and_filters_may_have_65535_bytes() {
    let gateway = Gateway::start();
    let longest = "a".repeat(65_535);
    let with_levels = format!("{}{}", "level/".repeat(100), "a".repeat(65_535 - 600));
    let mut publisher = client(&gateway, "publisher");
    let (kept, _) = durable(&gateway, "kept");
    for mut subscriber in [client(&gateway, "clean"), kept] {
        for topic in [&longest, &with_levels] {
            subscriber.subscribe(&[(topic, QOS2)]);
            for first in [PUBLISH_0, PUBLISH_1, PUBLISH_2, PUBLISH_1 | RETAIN] {
                put(&mut publisher, first, topic, "x");
                let message = take(&mut subscriber, 1).remove(0);
                assert!(message.topic == **topic, "{} bytes", message.topic.len());
            }
            assert_nothing_more(&mut subscriber);
            subscriber.unsubscribe(&[topic]);
            put(&mut publisher, PUBLISH_1 | RETAIN, topic, "");
        }
        subscriber.leave();
    }
}

#[test]
fn mqtt_4_7_3_4_nothing_is_normalised_or_substituted() {
    let gateway = Gateway::start();
    // No two of these are the same topic: case, composition, compatibility, spaces, slashes, escapes, look-alikes.
    let topics = [
        "finance",
        "/finance",
        "finance/",
        "//finance",
        "Finance",
        "FINANCE",
        "finance ",
        " finance",
        "./finance",
        "../finance",
        "%66inance",
        "\\finance",
        "caf\u{e9}",
        "cafe\u{301}",
        "\u{fb01}nance",
        "\u{212b}",
        "\u{c5}",
        "\u{430}",
        "a",
        "stra\u{df}e",
        "strasse",
        "\u{200d}a",
        "a\u{ad}",
        "*",
        "a*",
        "$a",
    ];
    let topics: Vec<_> = topics.into_iter().filter(|topic| !topic.starts_with('$')).collect();
    let mut publisher = client(&gateway, "publisher");
    for filter in &topics {
        let mut subscriber = client(&gateway, "subscriber");
        subscriber.subscribe(&[(filter, QOS1), ("the/end", QOS1)]);
        for topic in &topics {
            publisher.send_bytes(&publish(PUBLISH_1, topic, 1, topic));
            publisher.await_puback(gateway_protocol::PacketId::new(1).unwrap());
        }
        put(&mut publisher, PUBLISH_1, "the/end", "end");
        let found = take_until_end(&mut subscriber);
        assert_eq!(payloads(&found), [*filter]);
        assert_eq!(found[0].topic, *filter);
        subscriber.leave();
    }
    // One level for each separator, none merged.
    let mut subscriber = client(&gateway, "subscriber");
    subscriber.subscribe(&[("+/+", QOS1), ("the/end/of", QOS1)]);
    for topic in ["a", "a/b", "/a", "a/", "/", "//", "a//b", "/a/"] {
        put(&mut publisher, PUBLISH_1, topic, topic);
    }
    put(&mut publisher, PUBLISH_1, "the/end/of", "end");
    assert_eq!(payloads(&take_until_end(&mut subscriber)), ["a/b", "/a", "a/", "/"]);
}
