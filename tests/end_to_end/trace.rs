//! What an operator sees of a device while it happens: its trace, its lines in the log, and the tree of topics.

use std::process::Command;

use gateway_protocol::ProtocolVersion;
use gateway_tests::{Client, Gateway, Hello, Program, ReasonCode, TIMEOUT, binary, wait};
use serde_json::{Value, json};

use crate::operations::{cli, get, request};
use crate::{QOS0, QOS1};

/// `gateway trace`, once it follows.
fn trace(gateway: &Gateway, arguments: &[&str]) -> Program {
    let admin = gateway.admin().to_string();
    let arguments = [&["trace", "--admin", admin.as_str()], arguments].concat();
    let program = Program::start(binary::gateway().to_str().unwrap(), &arguments);
    program.await_line(0, "it follows", |line| {
        line.starts_with("# following") || line.contains("connected_since")
    });
    program
}

/// Waits for a line with all of these, behind line number `from`; the number behind it.
fn tells(program: &mut Program, from: usize, words: &[&str]) -> usize {
    let what = words.join(" ");
    program.await_line(from, &what, |line| words.iter().all(|word| line.contains(word))).0 + 1
}

#[test]
fn a_device_is_followed_through_its_life_and_nobody_else_is() {
    let gateway = Gateway::start();
    let mut watcher = gateway.connect(ProtocolVersion::V5, "watcher");
    watcher.subscribe(&[("devices/#", QOS1)]);
    let mut seen = trace(&gateway, &["--client", "oven-7"]);
    assert_eq!(seen.output.lines(), ["# following client oven-7; not connected"]);

    let mut oven = Client::connect(gateway.mqtt(), &Hello::durable(ProtocolVersion::V5, "oven-7")).0;
    oven.subscribe(&[("commands/oven-7", QOS1)]);
    oven.publish("devices/oven-7/heat", "181", QOS1);
    assert_eq!(oven.publish("$SYS/mine", "x", QOS1), Some(ReasonCode::TopicNameInvalid));
    oven.publish("nobody/wants/this", "x", QOS0);
    watcher.publish("commands/oven-7", "off", QOS1);
    let command = oven.message();
    oven.acknowledge(&command);
    oven.ping();
    oven.leave();

    let at = tells(&mut seen, 0, &["-> CONNECT", "accepted", "MQTT 5", "session new"]);
    let at = tells(&mut seen, at, &["-> SUBSCRIBE", "commands/oven-7 (QoS 1)"]);
    let at = tells(&mut seen, at, &["<- SUBACK", "(0x01)"]);
    let accepted =
        tells(&mut seen, at, &["-> PUBLISH", "QoS 1 devices/oven-7/heat", "accepted for 1 connected"]);
    tells(&mut seen, at, &["== PUBLISH", "devices/oven-7/heat", "stored at "]);
    let at = tells(&mut seen, accepted, &["<- PUBACK", "(0x00 Success)"]);
    let at = tells(&mut seen, at, &["-> PUBLISH", "$SYS/mine", "refused (reserved_topic)"]);
    let at = tells(&mut seen, at, &["<- PUBACK", "(0x90 TopicNameInvalid)"]);
    let at = tells(&mut seen, at, &["-> PUBLISH", "QoS 0 nobody/wants/this", "unwanted"]);
    let at = tells(&mut seen, at, &["<- PUBLISH", "QoS 1 commands/oven-7"]);
    let at = tells(&mut seen, at, &["-> PUBACK"]);
    let at = tells(&mut seen, at, &["-> PINGREQ"]);
    let at = tells(&mut seen, at, &["<- PINGRESP"]);
    let at = tells(&mut seen, at, &["-> DISCONNECT"]);
    tells(&mut seen, at, &["-- END", "by the client (disconnected)"]);
    let lines = seen.output.lines();
    assert!(lines.iter().all(|line| !line.contains("watcher")), "{lines:#?}");

    // A second life, resumed, and one that is cut off.
    let at = lines.len();
    let again = Client::connect(gateway.mqtt(), &Hello::durable(ProtocolVersion::V5, "oven-7")).0;
    let at = tells(&mut seen, at, &["-> CONNECT", "session resumed"]);
    drop(again);
    tells(&mut seen, at, &["-- END", "by the network (connection_lost)"]);
    assert_eq!(gateway.metrics().sum("gateway_traces"), 1.0);
    seen.stop();
    wait::until("nothing is traced any more", TIMEOUT, || {
        (gateway.metrics().sum("gateway_traces") == 0.0).then_some(())
    });
}

#[test]
fn topics_are_followed_whoever_publishes_and_as_json() {
    let gateway = Gateway::start();
    let mut one = gateway.connect(ProtocolVersion::V5, "one");
    let mut two = gateway.connect(ProtocolVersion::V3_1_1, "two");
    let arguments = ["--topic", "devices/+/heat", "--output", "json", "--count", "4"];
    let mut seen = trace(&gateway, &arguments);
    for (client, topic) in [(&mut one, "devices/1/heat"), (&mut two, "devices/2/heat")] {
        client.publish("devices/x/cold", "1", QOS1);
        client.publish(topic, "20", QOS1);
    }
    assert!(seen.finish().success());
    let lines = seen.output.lines();
    let lines: Vec<Value> = lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines[0], json!({ "client": null, "topic": "devices/+/heat", "connected_since": null }));
    let mut told: Vec<_> = lines[1..]
        .iter()
        .map(|line| {
            let text = |key: &str| line[key].as_str().unwrap_or_default();
            assert_eq!(line["qos"], 1);
            assert_eq!(line["offset"].is_u64(), text("direction") == "log", "{line}");
            format!("{} {} {} {}", text("client"), text("direction"), text("topic"), text("outcome"))
        })
        .collect();
    told.sort();
    let expected = [
        "one in devices/1/heat accepted",
        "one log devices/1/heat stored",
        "two in devices/2/heat accepted",
        "two log devices/2/heat stored",
    ];
    assert_eq!(told, expected);

    for arguments in [&["--topic", "a/#/b"][..], &["--client", ""]] {
        let admin = gateway.admin().to_string();
        let mut refused = Command::new(binary::gateway());
        let status = refused.args(["trace", "--admin", &admin]).args(arguments).output().unwrap().status;
        assert_eq!(status.code(), Some(1), "{arguments:?}");
    }
    assert_eq!(request(gateway.admin(), "GET", "/v1/trace").0, 400);
}

#[test]
fn what_is_logged_is_changed_by_module_and_by_client_while_it_runs() {
    let gateway = Gateway::start();
    let clients_lines = |wanted: &'static str| {
        gateway
            .said(|line| line.contains("gateway::client"))
            .into_iter()
            .filter(|line| line.contains(wanted))
            .count()
    };
    let (status, text) = cli(&gateway, &["log-level"]);
    assert_eq!((status, text.as_str()), (0, "level       info\nconfigured  info\n"));
    let (status, text) = cli(&gateway, &["log-level", "warn,gateway::connection=debug"]);
    assert_eq!(
        (status, text.as_str()),
        (0, "level       warn,gateway::connection=debug\nconfigured  info\n")
    );
    assert_eq!(cli(&gateway, &["log-level", "loud"]).0, 1);
    // One client, in spite of the level of all.
    let (status, text) = cli(&gateway, &["log-level", "debug", "--client", "oven-7"]);
    assert_eq!(status, 0);
    assert!(text.contains("client      oven-7  debug"), "{text}");
    let mut oven = gateway.connect(ProtocolVersion::V5, "oven-7");
    let mut press = gateway.connect(ProtocolVersion::V5, "press");
    for client in [&mut press, &mut oven] {
        client.publish("devices/x/heat", "20", QOS1);
    }
    wait::until("its message is logged", TIMEOUT, || (clients_lines("stored") == 1).then_some(()));
    assert_eq!((clients_lines("accepted"), clients_lines("PUBACK"), clients_lines("press")), (2, 0, 0));
    let (_, text) = cli(&gateway, &["log-level", "off", "--client", "oven-7"]);
    assert!(!text.contains("oven-7"), "{text}");
    oven.publish("devices/x/heat", "21", QOS1);
    let (status, json) = cli(&gateway, &["log-level", "--reset", "--output", "json"]);
    let expected = json!({ "level": "info", "configured": "info", "clients": {} });
    assert_eq!((status, serde_json::from_str::<Value>(&json).unwrap()), (0, expected));
    let changed = "the log level was changed by an operator";
    wait::until("the end of it is said", TIMEOUT, || {
        (!gateway.said(|line| line.contains(changed)).is_empty()).then_some(())
    });
    assert_eq!(clients_lines("stored"), 1, "it was not logged any more");
}

#[test]
fn the_tree_of_topics_has_rates_of_what_comes_while_somebody_looks() {
    let gateway = Gateway::start();
    let mut device = gateway.connect(ProtocolVersion::V5, "device");
    device.publish("before/anybody/looked", "1", QOS1);
    let topics = |query: &str| get(&gateway, &format!("/v1/topics{query}"));
    assert_eq!(topics("")["topics"], json!([]));
    let mut number = 0;
    let tree = wait::until("a rate", TIMEOUT, || {
        for _ in 0..20 {
            number += 1;
            device.publish(
                &format!("site/{}/heat", number % 3),
                "20",
                if number % 2 == 0 { QOS0 } else { QOS1 },
            );
        }
        device.ping();
        let tree = topics("");
        (tree["topics"][0]["events"].as_u64() >= Some(60)).then_some(tree)
    });
    let site = &tree["topics"][0];
    assert_eq!(tree["topics"].as_array().unwrap().len(), 1, "what came before was not counted: {tree}");
    assert_eq!(
        (&site["name"], &site["topics"], &site["has_children"]),
        (&json!("site"), &json!(3), &json!(true))
    );
    assert!(
        site["events_per_sec"].as_f64() > Some(1.0) && site["bytes_per_sec"].as_f64() > Some(10.0),
        "{site}"
    );
    assert_eq!(tree["other"]["events"], 0);
    let below = topics("?prefix=site&limit=2");
    assert_eq!((&below["topics"][0]["topic"], &below["next"]), (&json!("site/0"), &json!("1")));
    let rest = topics("?prefix=site&limit=2&after=1");
    assert_eq!((&rest["topics"][0]["topic"], &rest["next"]), (&json!("site/2"), &Value::Null));
    let leaf = topics("?prefix=site/2");
    assert_eq!(
        (&leaf["topics"][0]["topic"], &leaf["topics"][0]["has_children"]),
        (&json!("site/2/heat"), &json!(false))
    );
    assert_eq!(gateway.metrics().sum("gateway_topics_counted"), 3.0);
    // It has been counted, so there is nothing to wait for.
    let (status, text) = cli(&gateway, &["topics", "site", "--over", "0s", "--limit", "2"]);
    let lines: Vec<_> = text.lines().map(|line| line.split_whitespace().next().unwrap_or_default()).collect();
    assert_eq!((status, &lines[..]), (0, &["TOPIC", "site/0", "site/1", "counted", "there"][..]), "{text}");
    let (status, json) = cli(&gateway, &["topics", "site/2", "--over", "0s", "--output", "json"]);
    let leaf = serde_json::from_str::<Value>(&json).unwrap();
    assert_eq!((status, &leaf["topics"][0]["topic"]), (0, &json!("site/2/heat")));
}
