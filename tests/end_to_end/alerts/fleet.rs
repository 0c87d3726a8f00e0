//! Faults of devices, workers and targets.

use std::net::TcpListener;
use std::process::Command;

use gateway_tests::{Client, Hello, ProtocolVersion, TIMEOUT, wait};
use serde_json::{Value, json};

use super::Rig;
use crate::QOS1;
use crate::live_page::ask;
use crate::prometheus::Watch;

pub(super) fn plain() -> Rig {
    Rig::with(&[])
}

/// Two streams with a consumer each; one keeps what it has for a second.
pub(super) fn with_consumers() -> Rig {
    let streams = "stream=[{name='telemetry', topics=['devices/#'], max_age='1d', max_bytes='1GiB'}, \
                   {name='brief', topics=['brief/#'], max_age='1s', max_bytes='1GiB'}]";
    let consumers = "consumer=[{name='press', stream='telemetry', from='earliest'}, {name='late', stream='brief', from='earliest'}]";
    Rig::with(&[streams, consumers])
}

/// The first event that is given up fires, and so does what waits while nobody works.
pub(super) fn no_worker_can_use_it(rig: &mut Rig, watch: &Watch<'_>) {
    let gateway = &rig.gateway;
    let mut device = gateway.connect(ProtocolVersion::V5, "oven");
    for payload in ["much", "more"] {
        device.publish("devices/press/force", payload, QOS1);
    }
    let events = ask(gateway, "GET", "/v1/consumers/press/next?max=1&wait=5s", &Value::Null);
    let id = &events["events"][0]["id"];
    ask(gateway, "POST", "/v1/consumers/press/reject", &json!({ "ids": [id] }));
    watch.await_firing(&["GatewayDeadLetters", "GatewayConsumerStalled"]);
    assert!(watch.value("instance:gateway_events_received:rate1m").is_some_and(|rate| rate > 0.0));
}

/// Its stream has given the events up before somebody came to work.
pub(super) fn nobody_worked_in_time(rig: &mut Rig, watch: &Watch<'_>) {
    let gateway = &rig.gateway;
    let mut device = gateway.connect(ProtocolVersion::V5, "oven");
    device.publish("brief/force", "much", QOS1);
    wait::until("the stream gives it up", TIMEOUT, || {
        let streams = ask(gateway, "GET", "/v1/streams/brief", &Value::Null);
        (streams["events"] == 0).then_some(())
    });
    ask(gateway, "GET", "/v1/consumers/late/next?max=1&wait=1s", &Value::Null);
    watch.await_firing(&["GatewayConsumerMissed"]);
}

pub(super) fn with_sink() -> Rig {
    // A port that is nobody's in a moment.
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let sink = format!("sink=[{{name='hook', type='webhook', stream='telemetry', url='http://{gone}/'}}]");
    Rig::with(&[&sink])
}

pub(super) fn the_target_is_gone(rig: &mut Rig, watch: &Watch<'_>) {
    assert_eq!(watch.value("gateway_sink_up"), Some(1.0), "nothing is to be written yet");
    rig.gateway.connect(ProtocolVersion::V5, "oven").publish("devices/oven/force", "much", QOS1);
    watch.await_firing(&["GatewaySinkDown"]);
}

pub(super) fn for_twelve() -> Rig {
    Rig::with(&["admission.max_connections=12"])
}

pub(super) fn one_too_many_then_few_then_none(rig: &mut Rig, watch: &Watch<'_>) {
    let gateway = &mut rig.gateway;
    let mut fleet: Vec<_> =
        (0..12).map(|number| gateway.connect(ProtocolVersion::V5, &format!("oven-{number}"))).collect();
    watch.await_value("gateway_connections", 12.0);
    // A topic that is the gateway's own.
    fleet[0].publish("$SYS/mine", "x", QOS1);
    let mut one_too_many = Client::open(gateway.mqtt(), ProtocolVersion::V5);
    one_too_many.send_bytes(&Hello::new(ProtocolVersion::V5, "oven-12").bytes());
    one_too_many.await_close(TIMEOUT);
    watch.await_firing(&["GatewayEventsRejected", "GatewayConnectsRefused"]);
    let firing = watch.firing();
    assert!(!firing.contains("GatewayDown") && !firing.contains("GatewayFleetGone"), "{firing:?}");
    // Three quarters of the fleet are cut off; then the gateway is.
    fleet.truncate(3);
    watch.await_firing(&["GatewayFleetGone"]);
    gateway.kill();
    watch.await_firing(&["GatewayDown"]);
}

/// The process may open fewer files than it was told to take connections.
pub(super) fn more_than_may_be_open(rig: &mut Rig, watch: &Watch<'_>) {
    let gateway = &rig.gateway;
    const MOST: usize = 150;
    let process = gateway.process_id().to_string();
    let limited = Command::new("prlimit").args(["--pid", &process, &format!("--nofile={MOST}")]).status();
    assert!(limited.is_ok_and(|status| status.success()), "prlimit (util-linux)");
    let open = watch.value("process_open_fds").unwrap() as usize;
    // Some are left for who scrapes.
    let fleet: Vec<_> = (open..MOST - 8)
        .map(|number| gateway.connect(ProtocolVersion::V5, &format!("oven-{number}")))
        .collect();
    watch.await_firing(&["GatewayFileDescriptors"]);
    drop(fleet);
    watch.await_end("GatewayFileDescriptors");
}
