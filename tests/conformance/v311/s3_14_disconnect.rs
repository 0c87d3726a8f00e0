//! 3.14 DISCONNECT.

use gateway_tests::Gateway;

use super::wire::{
    CLEAN, DISCONNECT, PINGREQ, PINGRESP, PUBLISH_1, PUBLISH_2, WILL, WILL_QOS_1, WILL_QOS_2, WILL_RETAIN,
    assert_closed, assert_offends, client, connect, connected, durable, exchange, payloads, publish, put,
    take, take_until_end,
};
use crate::QOS2;

#[test]
fn mqtt_3_14_1_1_disconnect_with_reserved_flags_closes_the_connection() {
    let gateway = Gateway::start();
    let (mut watcher, _) = durable(&gateway, "watcher");
    watcher.subscribe(&[("will/#", QOS2)]);
    for flags in 1..16 {
        // It is none, so the will is published.
        let hello = connect(CLEAN | WILL | WILL_QOS_1, 0, &["bearer", "will/bearer", &flags.to_string()]);
        let mut bearer = connected(&gateway, &hello);
        bearer.send_bytes(&[0xE0 | flags, 0]);
        assert_closed(&mut bearer, &format!("DISCONNECT with flags {flags:#06b}"));
        assert_eq!(payloads(&take(&mut watcher, 1)), [flags.to_string()]);
    }
    // Nor may it have a body.
    assert_offends(&gateway, "DISCONNECT with a body", &[0xE0, 1, 0]);
}

#[test]
fn mqtt_3_14_4_3_disconnect_drops_the_will() {
    let mut gateway = Gateway::start();
    let (mut watcher, _) = durable(&gateway, "watcher");
    watcher.subscribe(&[("will/#", QOS2), ("end", QOS2)]);
    for (number, flags) in
        [0, WILL_QOS_1, WILL_QOS_2, WILL_RETAIN, WILL_QOS_1 | WILL_RETAIN].into_iter().enumerate()
    {
        for kind in [CLEAN, 0] {
            let name = format!("bearer-{number}-{kind}");
            let hello = connect(WILL | flags | kind, 0, &[&name, "will/bearer", "published"]);
            let mut bearer = connected(&gateway, &hello);
            if number % 2 == 0 {
                // In one read with what comes before it, and with what is not to come after it.
                let last =
                    [publish(PUBLISH_1, "last", 1, "x"), DISCONNECT.to_vec(), vec![0xFF, 0xFF]].concat();
                bearer.send_bytes(&last);
                bearer.await_close(gateway_tests::TIMEOUT);
            } else {
                exchange(&mut bearer, &PINGREQ, &PINGRESP);
                bearer.leave();
            }
        }
    }
    put(&mut client(&gateway, ""), PUBLISH_2, "end", "end");
    assert!(take_until_end(&mut watcher).is_empty());
    // Nor does it come out of the log.
    gateway.kill();
    gateway.restart();
    let (mut watcher, _) = durable(&gateway, "watcher");
    let mut newcomer = client(&gateway, "");
    newcomer.subscribe(&[("will/#", QOS2), ("end", QOS2)]);
    put(&mut newcomer, PUBLISH_2, "end", "end");
    assert!(take_until_end(&mut newcomer).is_empty());
    assert!(take_until_end(&mut watcher).iter().all(|message| message.dup && message.topic == "end"));
}
