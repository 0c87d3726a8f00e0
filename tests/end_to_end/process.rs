//! `gateway reload` and `gateway drain`: the process of a running gateway, asked over its admin listener.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Output};

use gateway_protocol::ProtocolVersion;
use gateway_protocol::packet::Packet;
use gateway_tests::{Client, Ended, Gateway, Hello, ReasonCode, TIMEOUT, binary, wait};
use serde_json::{Value, json};

use crate::QOS1;
use crate::operations::{get, request};
use crate::service::Service;

/// `gateway ... --admin ADDRESS`.
fn gateway(admin: SocketAddr, arguments: &[&str]) -> Output {
    let admin = admin.to_string();
    Command::new(binary::gateway()).args(arguments).args(["--admin", &admin]).output().unwrap()
}

fn said(output: &Output) -> (i32, String) {
    (output.status.code().unwrap(), String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn reload_says_what_is_in_force_what_takes_a_restart_and_what_is_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let service = Service::start(dir.path(), "[log]\nlevel = \"info\"\n");
    let admin = service.admin();
    let config = |text: &str| fs::write(dir.path().join("gateway.toml"), text).unwrap();
    assert_eq!(
        said(&gateway(admin, &["reload"])),
        (0, "nothing has changed\nlog level      info\n".to_owned())
    );

    config("[log]\nlevel = \"debug\"\n[mqtt]\nmax_qos = 1\n");
    let expected = "applied        log.level\nneeds restart  mqtt.max_qos\nlog level      debug\n";
    assert_eq!(said(&gateway(admin, &["reload"])), (0, expected.to_owned()));
    let (status, json) = said(&gateway(admin, &["reload", "--output", "json"]));
    assert_eq!(status, 0);
    let expected = json!({ "applied": [], "needs_restart": ["mqtt.max_qos"], "log_level": "debug" });
    assert_eq!(serde_json::from_str::<Value>(&json).unwrap(), expected);
    service.says(0, "level=\"debug\" changed=true");

    config("[log]\nlevel = \"loud\"\n[mqtt]\nmax_qos = 9\n");
    let refused = gateway(admin, &["reload"]);
    let error = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(1));
    assert!(error.contains("nothing is changed") && error.contains("- mqtt.max_qos: "), "{error}");
    assert!(error.contains("- log.level: "), "{error}");
}

#[test]
fn drain_tells_clients_where_to_go_and_ends_the_process() {
    let mut running = Gateway::start();
    let mut publisher = running.connect(ProtocolVersion::V5, "publisher");
    let mut newer = running.connect(ProtocolVersion::V5, "newer");
    let mut older = running.connect(ProtocolVersion::V3_1_1, "older");
    let ids: Vec<_> =
        (0..100).map(|number| publisher.send_publish("devices/1", &number.to_string(), QOS1)).collect();
    let last = ids.last().copied().flatten().unwrap();
    publisher.await_puback(last);

    let arguments = ["drain", "--server-reference", "gateway-2.example:1883", "--output", "json"];
    let (status, json) = said(&gateway(running.admin(), &arguments));
    let expected = json!({
        "draining": true, "connections": 3, "server_reference": "gateway-2.example:1883", "ended": true,
    });
    assert_eq!((status, serde_json::from_str::<Value>(&json).unwrap()), (0, expected));
    let frame = newer.next_packet();
    let Packet::Disconnect(disconnect) = frame.packet() else { panic!("{frame:?}") };
    assert_eq!(disconnect.reason_code, ReasonCode::UseAnotherServer);
    assert_eq!(disconnect.properties.server_reference(), Some("gateway-2.example:1883"));
    assert_eq!(older.receive(TIMEOUT).err(), Some(Ended::Closed), "3.1.1 has no word for it");
    running.await_exit();

    running.restart();
    let mut reader = running.connect(ProtocolVersion::V5, "reader");
    reader.subscribe(&[("$stream/telemetry/earliest/devices/1", QOS1)]);
    assert_eq!(reader.messages(100).len(), 100, "what was acknowledged is there");
}

#[test]
fn a_drain_without_another_server_is_told_as_a_shutdown_and_readyz_says_so_meanwhile() {
    let mut running = Gateway::start();
    let admin = running.admin();
    let mut client = running.connect(ProtocolVersion::V5, "client");
    // Connections that do not answer hold it up for long enough to look at it.
    let silent: Vec<_> = (0..20)
        .map(|number| {
            Client::connect(running.mqtt(), &Hello::new(ProtocolVersion::V5, &format!("c{number}"))).0
        })
        .collect();
    let mut watch = TcpStream::connect(admin).unwrap();
    watch.set_read_timeout(Some(TIMEOUT)).unwrap();
    write!(watch, "GET /v1/trace?client=client HTTP/1.1\r\nHost: {admin}\r\n\r\n").unwrap();
    let mut seen = [0; 12];
    watch.read_exact(&mut seen).unwrap();
    assert_eq!(&seen, b"HTTP/1.1 200");
    let (status, text) = said(&gateway(admin, &["drain", "--no-wait"]));
    let expected = "draining: 21 connections are told to go, and the process ends\n";
    assert_eq!((status, text.as_str()), (0, expected));
    wait::until("readyz is told", TIMEOUT, || {
        let (status, ready) = request(admin, "GET", "/readyz");
        (status == 503 && ready["reasons"][0] == "draining: told to stop").then_some(())
    });
    assert_eq!(client.await_close(TIMEOUT), Some(ReasonCode::ServerShuttingDown));
    drop(silent);
    let mut rest = String::new();
    watch.read_to_string(&mut rest).unwrap();
    assert!(rest.contains("server_shutting_down"), "{rest}");
    assert!(rest.ends_with("\r\n0\r\n\r\n"), "it is told the end, not cut: {rest}");
    running.await_exit();
}

#[test]
fn a_drain_is_not_for_web_pages_and_takes_no_nonsense() {
    let mut running = Gateway::start();
    let (status, problem) = request(running.admin(), "DELETE", "/v1/drain");
    assert_eq!((status, problem["type"].as_str()), (405, Some("urn:gateway:problem:method-not-allowed")));
    for (header, status, kind) in [
        ("Origin: http://evil.example\r\nContent-Type: application/json", "403", "foreign"),
        ("Sec-Fetch-Site: cross-site\r\nContent-Type: application/json", "403", "foreign"),
        ("Content-Type: text/plain", "415", "not-json"),
    ] {
        for path in ["drain", "reload"] {
            let mut stream = TcpStream::connect(running.admin()).unwrap();
            stream.set_read_timeout(Some(TIMEOUT)).unwrap();
            let head = format!("POST /v1/{path} HTTP/1.1\r\nHost: {}\r\nConnection: close", running.admin());
            write!(stream, "{head}\r\n{header}\r\nContent-Length: 2\r\n\r\n{{}}").unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
            assert!(answer.contains(&format!("urn:gateway:problem:{kind}")), "{answer}");
        }
    }
    let refused = gateway(running.admin(), &["drain", "--server-reference", "a\u{7}b"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("- server_reference: "));
    assert_eq!(get(&running, "/v1/status")["ready"], json!(true));
    running.assert_alive();
}
