//! `$SYS/...`: what the gateway says of itself over MQTT.

use gateway_tests::{Gateway, ProtocolVersion};

use crate::QOS0;

#[test]
fn a_subscriber_gets_the_newest_figures_at_once_and_their_successors() {
    let gateway = Gateway::start_set(&["mqtt.sys_interval_secs=1"]);
    let mut watcher = gateway.connect(ProtocolVersion::V3_1_1, "watcher");
    watcher.subscribe(&[("$SYS/broker/clients/connected", QOS0), ("$SYS/broker/version", QOS0)]);
    let first = watcher.messages(2);
    let version = first.iter().find(|message| message.topic == "$SYS/broker/version").expect("a version");
    assert!(version.payload.starts_with("gateway "), "{version:?}");

    let _other = gateway.connect(ProtocolVersion::V5, "other");
    loop {
        let message = watcher.message();
        if message.topic == "$SYS/broker/clients/connected" && message.payload == "2" {
            break;
        }
    }
}

#[test]
fn nobody_but_the_gateway_publishes_there() {
    let gateway = Gateway::start();
    let mut watcher = gateway.connect(ProtocolVersion::V5, "watcher");
    watcher.subscribe(&[("$SYS/mine/#", QOS0), ("done", QOS0)]);
    let mut publisher = gateway.connect(ProtocolVersion::V5, "publisher");
    publisher.publish("$SYS/mine/x", "x", QOS0);
    publisher.publish("done", "y", QOS0);
    assert_eq!(watcher.message().topic, "done");
}
