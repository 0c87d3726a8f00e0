//! 3.1.2.5 to 3.1.2.7 The Will Message: when it is published, and as what.

use gateway_tests::{Client, Gateway, Message, TIMEOUT};

use super::wire::{
    CLEAN, DISCONNECT, PUBLISH_1, PUBLISH_2, RETAIN, WILL, WILL_QOS_1, WILL_QOS_2, WILL_RETAIN,
    assert_closed, client, complete, connect, connected, durable, packet, payloads, publish, put, silent,
    take, take_until_end, text,
};
use crate::{QOS0, QOS1, QOS2};

/// Somebody who sees each will that is published, in the order in which that happened. Its Session is kept so that all
/// it is sent comes the same way.
fn watcher(gateway: &Gateway) -> Client {
    let (mut watcher, _) = durable(gateway, "watcher");
    watcher.subscribe(&[("will/#", QOS2)]);
    watcher
}

/// What wills the watcher was sent up to now.
fn seen(gateway: &Gateway, watcher: &mut Client) -> Vec<Message> {
    put(&mut client(gateway, "marker"), PUBLISH_2, "will/end", "end");
    take_until_end(watcher)
}

fn hello_with_will(flags: u8, name: &str) -> Vec<u8> {
    connect(WILL | WILL_QOS_1 | flags, 1, &[name, &format!("will/{name}"), name])
}

#[test]
fn mqtt_3_1_2_8_the_will_is_published_whenever_the_connection_ends_without_disconnect() {
    let gateway = Gateway::start();
    let mut watcher = watcher(&gateway);
    for flags in [0, CLEAN] {
        for name in ["breaks", "silent", "offends", "again", "replaced", "half"] {
            let hello = hello_with_will(flags, name);
            let mut client = silent(&gateway);
            client.send_bytes(&hello);
            assert_eq!(client.next_packet().bytes()[3], 0);
            match name {
                "breaks" => drop(client),
                // The Keep Alive is one second.
                "silent" => assert_closed(&mut client, name),
                "offends" => {
                    client.send_bytes(&publish(PUBLISH_1, "+", 1, "x"));
                    assert_closed(&mut client, name);
                }
                "again" => {
                    client.send_bytes(&hello);
                    assert_closed(&mut client, name);
                }
                "replaced" => {
                    super::wire::client(&gateway, name).leave();
                    assert_closed(&mut client, name);
                }
                // A part of a DISCONNECT is none.
                _ => {
                    client.send_bytes(&DISCONNECT[..1]);
                    drop(client);
                }
            }
            let will = take(&mut watcher, 1).remove(0);
            assert_eq!((&*will.topic, &*will.payload, will.qos), (&*format!("will/{name}"), name, QOS1));
            assert!(!will.retain && !will.dup);
        }
        assert!(seen(&gateway, &mut watcher).is_empty(), "each once");
    }
}

#[test]
fn mqtt_3_1_2_8_the_will_is_stored() {
    let mut gateway = Gateway::start();
    let mut watcher = watcher(&gateway);
    let bearer =
        connected(&gateway, &connect(WILL | WILL_QOS_1 | CLEAN, 0, &["bearer", "will/bearer", "gone"]));
    gateway.kill();
    assert_closed(&mut watcher, "the gateway is dead");
    drop(bearer);
    gateway.restart();
    let (mut watcher, present) = durable(&gateway, "watcher");
    assert!(present);
    assert_eq!(payloads(&take(&mut watcher, 1)), ["gone"], "its connection ended without DISCONNECT");
}

#[test]
fn mqtt_3_1_2_9_qos_retain_topic_and_message_of_the_will_are_used() {
    let gateway = Gateway::start();
    let mut watcher = watcher(&gateway);
    let binary: Vec<u8> = (0..=255).collect();
    for (bits, qos) in [(0, QOS0), (WILL_QOS_1, QOS1), (WILL_QOS_2, QOS2)] {
        for retain in [0, WILL_RETAIN] {
            for payload in [&binary[..], b"", b"\0", b"\xED\xA0\x80"] {
                let topic = format!("will/{bits}/{retain}/{}", payload.len());
                let head = [b"\0\x04MQTT\x04".as_slice(), &[CLEAN | WILL | bits | retain], b"\0\0"].concat();
                let hello = packet(0x10, &[&head, &text("bearer"), &text(&topic), &text(payload)]);
                drop(connected(&gateway, &hello));
                let frame = watcher.await_frame(
                    "a will",
                    |packet| matches!(packet, gateway_protocol::packet::Packet::Publish(publish) if publish.topic == topic),
                );
                let will = frame.message().unwrap();
                complete(&mut watcher, &will);
                assert_eq!((will.qos, will.retain), (qos, false), "{topic}");
                assert!(frame.bytes().ends_with(payload), "{topic}");
                let kept = retain != 0 && !payload.is_empty();
                let mut newcomer = client(&gateway, "newcomer");
                newcomer.subscribe(&[(&topic, QOS2), ("end", QOS2)]);
                put(&mut newcomer, PUBLISH_2, "end", "end");
                let found = take_until_end(&mut newcomer);
                assert_eq!(found.len(), usize::from(kept), "{topic}");
                assert!(found.iter().all(|found| found.retain && found.qos == qos), "{found:?}");
                newcomer.leave();
            }
        }
    }
}

#[test]
fn mqtt_3_1_2_10_a_will_is_gone_when_it_was_published_or_disconnect_came() {
    let gateway = Gateway::start();
    let mut watcher = watcher(&gateway);
    for flags in [0, CLEAN] {
        // Published once: the connections after it have no will.
        drop(silent_with(&gateway, &hello_with_will(flags, "once")));
        assert_eq!(payloads(&take(&mut watcher, 1)), ["once"]);
        for _ in 0..2 {
            drop(silent_with(&gateway, &connect(flags, 0, &["once"])));
            client(&gateway, "once").leave();
        }
        assert!(seen(&gateway, &mut watcher).is_empty(), "published again");
        // Deleted by DISCONNECT: neither then, nor when a later connection breaks.
        silent_with(&gateway, &hello_with_will(flags, "left")).leave();
        assert!(seen(&gateway, &mut watcher).is_empty(), "published though it was deleted");
        drop(silent_with(&gateway, &connect(flags, 0, &["left"])));
        client(&gateway, "left").leave();
        let found = seen(&gateway, &mut watcher);
        assert!(found.is_empty(), "published though it was deleted: {found:?}");
    }
}

#[test]
fn mqtt_3_1_2_10_a_will_deleted_by_disconnect_is_not_published_for_a_successor() {
    let gateway = Gateway::start();
    let mut watcher = watcher(&gateway);
    // The next connection of that name comes as soon as the last one is closed.
    for flags in [0, CLEAN] {
        for successor in [0, CLEAN] {
            for _ in 0..10 {
                silent_with(&gateway, &hello_with_will(flags, "left")).leave();
                silent_with(&gateway, &connect(successor, 0, &["left"])).leave();
            }
            let found = seen(&gateway, &mut watcher);
            assert!(found.is_empty(), "successor {successor:#04x}: {found:?}");
        }
    }
}

/// A connection that was accepted, with or without a Session from before.
fn silent_with(gateway: &Gateway, hello: &[u8]) -> Client {
    let mut client = silent(gateway);
    client.send_bytes(hello);
    let answer = client.next_packet();
    assert_eq!((answer.bytes()[0], answer.bytes()[3]), (0x20, 0), "{answer:?}");
    client
}

#[test]
fn mqtt_3_1_2_12_without_the_will_flag_no_will_is_published() {
    let gateway = Gateway::start();
    let (mut watcher, _) = durable(&gateway, "watcher");
    watcher.subscribe(&[("#", QOS2)]);
    for flags in [0, CLEAN] {
        for end in 0..3 {
            let mut bearer = silent_with(&gateway, &connect(flags, 1, &["bearer"]));
            match end {
                0 => drop(bearer),
                1 => assert_closed(&mut bearer, "silent"),
                _ => {
                    bearer.send_bytes(&[0xC1, 0]);
                    assert_closed(&mut bearer, "offends");
                }
            }
            // Its end is over when the name is free.
            client(&gateway, "bearer").leave();
        }
    }
    assert!(seen(&gateway, &mut watcher).is_empty());
}

#[test]
fn mqtt_3_1_2_16_a_will_without_will_retain_is_not_retained() {
    let gateway = Gateway::start();
    let mut watcher = watcher(&gateway);
    put(&mut client(&gateway, ""), PUBLISH_1 | RETAIN, "will/old", "retained before");
    take(&mut watcher, 1);
    for name in ["old", "new"] {
        drop(connected(&gateway, &hello_with_will(CLEAN, name)));
        let will = take(&mut watcher, 1).remove(0);
        assert_eq!((&*will.payload, will.retain), (name, false));
    }
    let mut newcomer = client(&gateway, "");
    newcomer.subscribe(&[("will/old", QOS1), ("will/new", QOS1)]);
    put(&mut newcomer, PUBLISH_1, "will/new", "end");
    assert_eq!(payloads(&take_until_end(&mut newcomer)), ["retained before"]);
}

#[test]
fn mqtt_3_1_2_17_a_will_with_will_retain_is_retained() {
    let mut gateway = Gateway::start();
    let mut watcher = watcher(&gateway);
    put(&mut client(&gateway, ""), PUBLISH_1 | RETAIN, "will/bearer", "retained before");
    take(&mut watcher, 1);
    drop(connected(&gateway, &hello_with_will(CLEAN | WILL_RETAIN, "bearer")));
    let will = take(&mut watcher, 1).remove(0);
    assert_eq!((&*will.payload, will.retain), ("bearer", false));
    for restarted in [false, true] {
        if restarted {
            gateway.kill();
            gateway.restart();
        }
        let mut newcomer = client(&gateway, "");
        newcomer.subscribe(&[("will/bearer", QOS2)]);
        let will = take(&mut newcomer, 1).remove(0);
        assert_eq!((&*will.payload, will.retain, will.qos), ("bearer", true, QOS1));
        newcomer.send_bytes(&DISCONNECT);
        newcomer.await_close(TIMEOUT);
    }
}
