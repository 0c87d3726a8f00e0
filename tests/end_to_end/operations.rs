//! What an operator asks: who is connected, why a device is not any more, what is retained, how it goes.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;

use gateway_protocol::packet::{Packet, Publish};
use gateway_protocol::{Properties, ProtocolVersion, ReasonCode};
use gateway_tests::{Client, Gateway, Hello, TIMEOUT, binary, publish_with_mosquitto, wait};
use serde_json::{Value, json};

use crate::QOS1;

/// Status and JSON of the answer to one request.
pub(crate) fn request(admin: SocketAddr, method: &str, path: &str) -> (u16, Value) {
    let mut stream = TcpStream::connect(admin).unwrap();
    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
    let head = format!("{method} {path} HTTP/1.1\r\nHost: {admin}\r\nConnection: close\r\n");
    write!(stream, "{head}Content-Type: application/json\r\nContent-Length: 0\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer in time");
    let (head, body) = answer.split_once("\r\n\r\n").expect("an HTTP answer");
    (head.split(' ').nth(1).unwrap().parse().unwrap(), serde_json::from_str(body).expect(body))
}

pub(crate) fn get(gateway: &Gateway, path: &str) -> Value {
    let (status, answer) = request(gateway.admin(), "GET", path);
    assert_eq!(status, 200, "{path}: {answer}");
    answer
}

/// Exit status and standard output of `gateway ... --admin ADDRESS`.
pub(crate) fn cli(gateway: &Gateway, arguments: &[&str]) -> (i32, String) {
    let admin = gateway.admin().to_string();
    let output = Command::new(binary::gateway()).args(arguments).args(["--admin", &admin]).output().unwrap();
    (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap())
}

fn names(list: &Value, key: &str, name: &str) -> Vec<String> {
    list[key].as_array().unwrap().iter().map(|item| item[name].as_str().unwrap().to_owned()).collect()
}

fn history(gateway: &Gateway, client: &str) -> Vec<Value> {
    get(gateway, &format!("/v1/clients/{client}"))["history"].as_array().unwrap().clone()
}

/// Waits until so many records are there of how connections of a client ended.
fn ended(gateway: &Gateway, client: &str, records: usize) -> Value {
    wait::until("the end is recorded", TIMEOUT, || {
        let history = history(gateway, client);
        (history.len() == records).then(|| history[0].clone())
    })
}

#[test]
fn why_was_my_device_disconnected() {
    let gateway = Gateway::start_set(&["mqtt.receive_maximum=5"]);
    // Taken over, and said goodbye.
    let first = gateway.connect(ProtocolVersion::V5, "oven-7");
    let second = gateway.connect(ProtocolVersion::V5, "oven-7");
    let end = ended(&gateway, "oven-7", 1);
    assert_eq!(
        (&end["by"], &end["reason"], &end["reason_code"]),
        (&json!("gateway"), &json!("session_taken_over"), &json!(0x8E))
    );
    drop(first);
    let shown = get(&gateway, "/v1/clients/oven-7");
    assert_eq!(
        (&shown["state"], &shown["protocol"], &shown["session"]),
        (&json!("connected"), &json!("5"), &json!("connection"))
    );
    assert!(shown["address"].as_str().unwrap().starts_with("127.0.0.1:"), "{shown}");
    second.leave();
    assert_eq!(ended(&gateway, "oven-7", 2)["reason"], "disconnected");
    // Lost.
    drop(gateway.connect(ProtocolVersion::V3_1_1, "oven-7"));
    let end = ended(&gateway, "oven-7", 3);
    assert_eq!(
        (&end["by"], &end["reason"], &end["reason_code"]),
        (&json!("network"), &json!("connection_lost"), &Value::Null)
    );
    // Kept silent for longer than it said it would.
    let hello = Hello::new(ProtocolVersion::V5, "oven-7").keep_alive_secs(1);
    let silent = Client::connect(gateway.mqtt(), &hello).0;
    let end = ended(&gateway, "oven-7", 4);
    assert_eq!((&end["reason"], &end["reason_code"]), (&json!("keep_alive_timeout"), &json!(0x8D)));
    drop(silent);
    // Kicked.
    let mut kicked = gateway.connect(ProtocolVersion::V5, "oven-7");
    let (status, printed) = cli(&gateway, &["clients", "kick", "oven-7"]);
    assert_eq!((status, printed.trim()), (0, "kicked  oven-7"));
    assert_eq!(kicked.await_close(TIMEOUT), Some(ReasonCode::AdministrativeAction));
    let decisions = get(&gateway, "/v1/decisions?client=oven-7&action=disconnected&limit=1");
    assert_eq!(decisions["decisions"][0]["reason"], "kicked");
    let end = ended(&gateway, "oven-7", 5);
    assert_eq!((&end["reason"], &end["reason_code"]), (&json!("administrative_action"), &json!(0x98)));

    let (status, printed) = cli(&gateway, &["clients", "show", "oven-7"]);
    assert_eq!(status, 0);
    for words in [
        "state",
        "gone",
        "by the gateway: administrative_action",
        "session_taken_over",
        "keep_alive_timeout",
        "141",
    ] {
        assert!(printed.contains(words), "{words}\n{printed}");
    }
    assert_eq!(request(gateway.admin(), "GET", "/v1/clients/nobody").0, 404);
    assert_eq!(request(gateway.admin(), "POST", "/v1/clients/oven-7/kick").0, 404, "it is not connected");
}

#[test]
fn who_is_refused_is_told_of_too() {
    let gateway = Gateway::start_set(&["admission.max_connections=1"]);
    let _only = gateway.connect(ProtocolVersion::V5, "first");
    let mut second = Client::open(gateway.mqtt(), ProtocolVersion::V5);
    second.send_bytes(&Hello::new(ProtocolVersion::V5, "second").bytes());
    assert_eq!(second.await_close(TIMEOUT), Some(ReasonCode::ServerBusy));
    let end = ended(&gateway, "second", 1);
    assert_eq!((&end["kind"], &end["reason_code"]), (&json!("refused"), &json!(0x89)));
    assert!(end["meaning"].as_str().unwrap().contains("admission.max_connections"), "{end}");
    assert_eq!(names(&get(&gateway, "/v1/clients?state=gone"), "clients", "client_id"), ["second"]);
}

#[test]
fn clients_are_searched_and_paged_whether_they_are_connected_or_not() {
    let gateway = Gateway::start();
    let hello = Hello::durable(ProtocolVersion::V5, "pump-2");
    let mut away = Client::connect(gateway.mqtt(), &hello).0;
    away.subscribe(&[("devices/+/valve", QOS1)]);
    away.leave();
    let connected: Vec<_> = ["pump-1", "PUMP-3", "valve/4"]
        .iter()
        .map(|name| gateway.connect(ProtocolVersion::V5, name))
        .collect();
    ended(&gateway, "pump-2", 1);
    publish_with_mosquitto(&gateway, "mqttv5", "1", "devices/1/valve", "open");

    let all = get(&gateway, "/v1/clients");
    assert_eq!(names(&all, "clients", "client_id"), ["PUMP-3", "pump-1", "pump-2", "valve/4"]);
    assert_eq!(
        names(&get(&gateway, "/v1/clients?search=PUMP"), "clients", "client_id"),
        ["PUMP-3", "pump-1", "pump-2"]
    );
    assert_eq!(names(&get(&gateway, "/v1/clients?state=offline"), "clients", "client_id"), ["pump-2"]);
    let page = get(&gateway, "/v1/clients?limit=2");
    assert_eq!(
        (names(&page, "clients", "client_id"), &page["next"]),
        (vec!["PUMP-3".to_owned(), "pump-1".to_owned()], &json!("pump-1"))
    );
    let page = get(&gateway, "/v1/clients?limit=2&after=pump-1");
    assert_eq!(
        (names(&page, "clients", "client_id"), &page["next"]),
        (vec!["pump-2".to_owned(), "valve/4".to_owned()], &Value::Null)
    );
    let away = get(&gateway, "/v1/clients/pump-2");
    assert_eq!(
        (&away["state"], &away["session_expiry_secs"], &away["pending"]),
        (&json!("offline"), &json!(3600), &json!(1))
    );
    assert_eq!(away["subscriptions"], json!([{"filter": "devices/+/valve", "qos": 1, "no_local": false}]));
    let (status, printed) = cli(&gateway, &["clients", "show", "valve/4"]);
    assert!(status == 0 && printed.contains("no connection of it has ended"), "{printed}");
    let (status, printed) =
        cli(&gateway, &["clients", "list", "--search", "pump", "--state", "connected", "--output", "json"]);
    let listed: Value = serde_json::from_str(&printed).unwrap();
    assert_eq!(
        (status, names(&listed, "clients", "client_id")),
        (0, vec!["PUMP-3".to_owned(), "pump-1".to_owned()])
    );
    drop(connected);
}

#[test]
fn retained_messages_are_shown_and_the_status_counts_them() {
    let gateway = Gateway::start();
    let mut device = gateway.connect(ProtocolVersion::V5, "meter");
    for (topic, payload) in [("a/2", "two"), ("a/1", "one"), ("b", "three")] {
        let packet_id = device.new_id();
        device.send(&Packet::Publish(Publish {
            dup: false,
            qos: QOS1,
            retain: true,
            topic,
            packet_id: Some(packet_id),
            properties: Properties::default(),
            payload: payload.as_bytes(),
        }));
        assert_eq!(device.await_puback(packet_id), ReasonCode::Success);
    }
    let retained = get(&gateway, "/v1/retained?topic=a/%23");
    assert_eq!(names(&retained, "retained", "topic"), ["a/1", "a/2"]);
    assert_eq!(
        (&retained["retained"][0]["payload"], &retained["retained"][0]["publisher"]),
        (&json!("one"), &json!("meter"))
    );
    let page = get(&gateway, "/v1/retained?limit=1&after=a/1");
    assert_eq!((names(&page, "retained", "topic"), &page["next"]), (vec!["a/2".to_owned()], &json!("a/2")));
    assert_eq!(request(gateway.admin(), "GET", "/v1/retained?topic=a%23").0, 400);
    let (status, printed) = cli(&gateway, &["retained", "show", "b"]);
    assert!(status == 0 && printed.contains("three"), "{printed}");
    assert_eq!(cli(&gateway, &["retained", "show", "a"]).0, 1);
    let (_, printed) = cli(&gateway, &["retained"]);
    assert_eq!(printed.lines().count(), 4, "{printed}");

    let status = get(&gateway, "/v1/status");
    assert_eq!(
        (&status["ready"], &status["connections"], &status["retained"]["messages"]),
        (&json!(true), &json!(1), &json!(3))
    );
    assert_eq!(status["listeners"], json!([gateway.mqtt().to_string()]));
    let (code, printed) = cli(&gateway, &["status"]);
    assert!(code == 0 && printed.contains("log.durability") && printed.contains("fsync"), "{printed}");
}
