//! Streams, consumers and dead letters over HTTP, and by the `gateway` program as a client of that.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;

use gateway_tests::{Gateway, TIMEOUT, binary, publish_with_mosquitto, wait};
use serde_json::{Value, json};

/// Status and JSON of the answer to one request, with `headers` beside those that every program sends.
pub(crate) fn request(
    admin: SocketAddr,
    method: &str,
    path: &str,
    headers: &[&str],
    body: &Value,
) -> (u16, Value) {
    let mut stream = TcpStream::connect(admin).unwrap();
    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let headers: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
    let length = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: {admin}\r\nConnection: close\r\n{headers}Content-Length: {length}\r\n\r\n{body}"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer in time");
    let (head, body) = answer.split_once("\r\n\r\n").expect("an HTTP answer");
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, if body.is_empty() { Value::Null } else { serde_json::from_str(body).expect(body) })
}

pub(crate) fn get(gateway: &Gateway, path: &str) -> Value {
    let (status, answer) = request(gateway.admin(), "GET", path, &[], &Value::Null);
    assert_eq!(status, 200, "{path}: {answer}");
    answer
}

pub(crate) fn send(gateway: &Gateway, method: &str, path: &str, body: Value) -> (u16, Value) {
    request(gateway.admin(), method, path, &["Content-Type: application/json"], &body)
}

/// Takes `count` events, waiting for each as long as it takes.
fn take(gateway: &Gateway, consumer: &str, count: usize) -> Vec<Value> {
    let mut taken = Vec::new();
    wait::until("events of a consumer", TIMEOUT, || {
        let path = format!("/v1/consumers/{consumer}/next?max={}&wait=5s&worker=test", count - taken.len());
        taken.extend(get(gateway, &path)["events"].as_array().unwrap().iter().cloned());
        (taken.len() == count).then_some(())
    });
    taken
}

fn settle(gateway: &Gateway, consumer: &str, verb: &str, events: &[&Value]) {
    let ids: Vec<_> = events.iter().map(|event| event["id"].clone()).collect();
    let (status, answer) =
        send(gateway, "POST", &format!("/v1/consumers/{consumer}/{verb}"), json!({ "ids": ids }));
    assert_eq!((status, answer), (200, json!({"settled": ids.len(), "unknown": []})), "{verb}");
}

fn payloads(events: &[Value]) -> Vec<&str> {
    events.iter().map(|event| event["payload"].as_str().unwrap()).collect()
}

/// Exit status, standard output and standard error of `gateway ... --admin ADDRESS`.
fn cli(admin: SocketAddr, arguments: &[&str]) -> (i32, String, String) {
    let admin = admin.to_string();
    let mut command = Command::new(binary::gateway());
    let output = command.args(arguments).args(["--admin", &admin]).output().expect("the program can be run");
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

/// Standard output of one that succeeds.
pub(crate) fn done(gateway: &Gateway, arguments: &[&str]) -> String {
    let (status, output, errors) = cli(gateway.admin(), arguments);
    assert_eq!((status, errors.as_str()), (0, ""), "{arguments:?}: {output}");
    output
}

fn done_json(gateway: &Gateway, arguments: &[&str]) -> Value {
    let output = done(gateway, &[arguments, &["--output", "json"]].concat());
    serde_json::from_str(&output).expect(&output)
}

fn plant_consumer(gateway: &Gateway) {
    let stream = json!({"topics": ["plant/#"], "max_age": "1h", "max_bytes": "16MiB"});
    let (status, made) = send(gateway, "PUT", "/v1/streams/plant", stream);
    assert_eq!((status, &made["name"]), (201, &json!("plant")), "{made}");
    let consumer = json!({"stream": "plant", "from": "earliest", "ack_wait": "1h", "max_deliver": 2});
    let (status, made) = send(gateway, "PUT", "/v1/consumers/press", consumer);
    assert_eq!((status, &made["ack_wait"]), (201, &json!("1h")), "{made}");
}

#[test]
fn events_are_taken_settled_and_come_again_over_http_across_a_crash() {
    let mut gateway = Gateway::start();
    plant_consumer(&gateway);
    for number in ["1", "2", "3", "4"] {
        publish_with_mosquitto(&gateway, "mqttv5", "1", "plant/press/t", number);
    }
    let events = take(&gateway, "press", 4);
    assert_eq!(payloads(&events), ["1", "2", "3", "4"]);
    for event in &events {
        assert_eq!((&event["topic"], &event["attempt"]), (&json!("plant/press/t"), &json!(1)), "{event}");
    }
    settle(&gateway, "press", "ack", &[&events[0]]);
    settle(&gateway, "press", "nak", &[&events[1]]);
    let again = take(&gateway, "press", 1);
    assert_eq!((payloads(&again), &again[0]["attempt"]), (vec!["2"], &json!(2)));

    gateway.kill();
    gateway.restart();
    // Leases outlive the crash: nothing is handed out a second time, and what was handed out before is settled now.
    let idle = get(&gateway, "/v1/consumers/press/next?max=10&wait=200ms");
    assert_eq!(idle, json!({"events": []}));
    settle(&gateway, "press", "ack", &[&events[2], &again[0]]);
    settle(&gateway, "press", "reject", &[&events[3]]);
    // A letter is one once the log has it.
    let books = || {
        let consumer = get(&gateway, "/v1/consumers/press");
        ["acked", "dead_lettered", "open"].map(|figure| consumer[figure].as_u64())
    };
    wait::until_it("all to be settled", TIMEOUT, books, |books| *books == [Some(3), Some(1), Some(0)]);

    // Settled is settled.
    let (status, answer) =
        send(&gateway, "POST", "/v1/consumers/press/ack", json!({"ids": [events[0]["id"]]}));
    assert_eq!((status, answer), (200, json!({"settled": 0, "unknown": [events[0]["id"]]})));
    gateway.assert_alive();
}

#[test]
fn a_request_for_events_waits_for_them() {
    let gateway = Gateway::start();
    plant_consumer(&gateway);
    let admin = gateway.admin();
    let waiting = std::thread::spawn(move || {
        request(admin, "GET", "/v1/consumers/press/next?max=10&wait=20s&worker=w", &[], &Value::Null)
    });
    wait::until("the request to wait", TIMEOUT, || {
        (gateway.metrics().find("gateway_admin_long_polls") == Some(1.0)).then_some(())
    });
    wait::until("the worker to be listed", TIMEOUT, || {
        let worker = get(&gateway, "/v1/consumers/press")["workers"][0].take();
        (worker["name"] == "w" && worker["kind"] == "http").then_some(())
    });
    publish_with_mosquitto(&gateway, "mqttv311", "1", "plant/press/t", "at last");
    let (status, answer) = waiting.join().unwrap();
    assert_eq!((status, payloads(answer["events"].as_array().unwrap())), (200, vec!["at last"]));
}

#[test]
fn a_client_that_goes_away_while_it_waits_takes_nothing_with_it() {
    let gateway = Gateway::start();
    plant_consumer(&gateway);
    let waiting = |count: f64| {
        wait::until("requests that wait", TIMEOUT, || {
            (gateway.metrics().find("gateway_admin_long_polls") == Some(count)).then_some(())
        });
    };
    let mut stream = TcpStream::connect(gateway.admin()).unwrap();
    write!(stream, "GET /v1/consumers/press/next?wait=1m HTTP/1.1\r\nHost: {}\r\n\r\n", gateway.admin())
        .unwrap();
    waiting(1.0);
    drop(stream);
    waiting(0.0);
    publish_with_mosquitto(&gateway, "mqttv5", "1", "plant/press/t", "for somebody else");
    let events = take(&gateway, "press", 1);
    assert_eq!((payloads(&events), &events[0]["attempt"]), (vec!["for somebody else"], &json!(1)));
}

#[test]
fn what_is_in_the_configuration_is_changed_there() {
    let gateway = Gateway::start_set(&["consumer=[{name='billing', stream='telemetry', ack_wait='90s'}]"]);
    let put = json!({"stream": "telemetry"});
    for (method, path, body) in [
        ("DELETE", "/v1/consumers/billing", Value::Null),
        ("PATCH", "/v1/consumers/billing", json!({"max_deliver": 1})),
        ("PUT", "/v1/consumers/billing", put),
        ("DELETE", "/v1/streams/telemetry", Value::Null),
    ] {
        let (status, problem) = send(&gateway, method, path, body);
        assert_eq!(
            (status, &problem["type"]),
            (409, &json!("urn:gateway:problem:conflict")),
            "{method} {path}"
        );
    }
    let (status, paused) = send(&gateway, "POST", "/v1/consumers/billing/pause", json!({}));
    assert_eq!(
        (status, &paused["paused"], &paused["ack_wait"]),
        (200, &json!(true), &json!("90s")),
        "{paused}"
    );
}

#[test]
fn dead_letters_are_looked_at_redriven_exported_and_purged_with_the_program() {
    let mut gateway = Gateway::start();
    done(&gateway, &["streams", "set", "plant", "--topic", "plant/#", "--max-bytes", "16MiB"]);
    let made = done(
        &gateway,
        &["consumers", "create", "press", "--stream", "plant", "--from", "earliest", "--ack-wait", "1h"],
    );
    assert!(made.lines().any(|line| line.starts_with("ack_wait") && line.ends_with(" 1h")), "{made}");
    for number in ["1", "2", "3"] {
        publish_with_mosquitto(&gateway, "mqttv5", "1", "plant/press/t", number);
    }
    let mut ids = Vec::new();
    while ids.len() < 3 {
        let next = ["consumers", "next", "press", "--max", "10", "--wait", "20s", "--worker", "operator"];
        for event in done_json(&gateway, &next)["events"].as_array().unwrap() {
            ids.push(event["id"].as_str().unwrap().to_owned());
        }
    }
    let reject = ["consumers", "reject", "press", "--cause", "payload_format_invalid"];
    done(&gateway, &[&reject[..], &ids.iter().map(String::as_str).collect::<Vec<_>>()].concat());

    gateway.terminate();
    gateway.restart();
    let list = done(&gateway, &["dead-letters", "list", "--consumer", "press", "--cause", "rejected"]);
    assert_eq!(list.lines().count(), 4, "{list}");
    let first = done(&gateway, &["dead-letters", "list", "--limit", "2"]);
    let (_, place) = first.split_once("there are more: --after ").expect(&first);
    let rest = done_json(&gateway, &["dead-letters", "list", "--after", place.trim()]);
    assert_eq!((rest["dead_letters"].as_array().unwrap().len(), &rest["next"]), (1, &Value::Null), "{rest}");
    let letters = done_json(&gateway, &["dead-letters"]);
    let letters = letters["dead_letters"].as_array().unwrap();
    let offsets: Vec<String> = letters.iter().map(|letter| letter["offset"].to_string()).collect();
    let shown = done_json(&gateway, &["dead-letters", "show", "press", &offsets[0]]);
    assert_eq!((&shown["event"]["payload"], &shown["worker"]), (&json!("1"), &json!("operator")), "{shown}");
    let export = done(&gateway, &["dead-letters", "export", "--consumer", "press"]);
    assert_eq!(export.lines().count(), 3);

    assert_eq!(done(&gateway, &["dead-letters", "redrive", "press", &offsets[0]]), "1 redriven\n");
    let again = take(&gateway, "press", 1);
    assert_eq!((payloads(&again), &again[0]["attempt"]), (vec!["1"], &json!(1)));
    done(&gateway, &["consumers", "ack", "press", again[0]["id"].as_str().unwrap()]);
    assert_eq!(done(&gateway, &["dead-letters", "purge", "press", "--topic", "plant/+/t"]), "2 purged\n");
    assert_eq!(done_json(&gateway, &["dead-letters", "list"])["dead_letters"], json!([]));
    done(&gateway, &["consumers", "remove", "press"]);
    done(&gateway, &["streams", "remove", "plant"]);
    assert_eq!(done_json(&gateway, &["consumers"])["consumers"], json!([]));
    gateway.assert_alive();
}

#[test]
fn a_watch_shows_events_and_takes_none() {
    let gateway = Gateway::start();
    plant_consumer(&gateway);
    publish_with_mosquitto(&gateway, "mqttv5", "1", "plant/press/t", "181.5");
    let events = done(&gateway, &["consumers", "watch", "press", "--from", "0", "--count", "1"]);
    assert!(events.lines().any(|line| line.ends_with("plant/press/t  181.5")), "{events}");
    assert_eq!(payloads(&take(&gateway, "press", 1)), ["181.5"]);
}

#[test]
fn the_program_says_who_is_not_there_and_what_is_wrong() {
    let mut gateway = Gateway::start();
    let (status, _, errors) = cli(gateway.admin(), &["consumers", "show", "nobody"]);
    assert_eq!(status, 1);
    assert!(errors.contains("there is no consumer named \"nobody\""), "{errors}");
    let create =
        ["consumers", "create", "x", "--stream", "telemetry", "--ack-wait", "soon", "--order", "best"];
    let (status, _, errors) = cli(gateway.admin(), &create);
    assert_eq!((status, errors.lines().count()), (1, 3), "{errors}");
    assert_eq!(cli(gateway.admin(), &["consumers", "next"]).0, 2, "clap says what is missing");
    gateway.terminate();
    let (status, output, errors) = cli(gateway.admin(), &["consumers", "list"]);
    assert_eq!((status, output.as_str()), (3, ""));
    assert!(errors.starts_with(&format!("gateway: no gateway answers at {}", gateway.admin())), "{errors}");
}

#[test]
fn a_page_in_a_browser_can_not_be_talked_into_anything() {
    let gateway = Gateway::start();
    plant_consumer(&gateway);
    let json = "Content-Type: application/json";
    for (method, path, headers, kind) in [
        ("GET", "/v1/consumers/press/next", vec!["Origin: https://evil.example"], "foreign"),
        ("GET", "/v1/consumers/press/next", vec!["Sec-Fetch-Site: cross-site"], "foreign"),
        ("DELETE", "/v1/consumers/press", vec!["Origin: null"], "foreign"),
        ("POST", "/v1/consumers/press/pause", vec![json, "Origin: http://127.0.0.1:1"], "foreign"),
        ("POST", "/v1/consumers/press/pause", vec!["Content-Type: text/plain"], "not-json"),
        ("POST", "/v1/consumers/press/pause", vec![], "not-json"),
    ] {
        let (_, problem) = request(gateway.admin(), method, path, &headers, &Value::Null);
        assert_eq!(problem["type"], format!("urn:gateway:problem:{kind}"), "{method} {path} {headers:?}");
    }
    assert_eq!(get(&gateway, "/v1/consumers/press")["paused"], json!(false));
    let own = format!("Origin: http://{}", gateway.admin());
    let paused = request(gateway.admin(), "POST", "/v1/consumers/press/pause", &[json, &own], &json!({}));
    assert_eq!((paused.0, &paused.1["paused"]), (200, &json!(true)));
}

#[test]
fn the_figures_of_what_is_removed_go_to_zero() {
    let gateway = Gateway::start();
    let (status, _) = send(
        &gateway,
        "PUT",
        "/v1/streams/plant",
        json!({"topics": ["plant/#"], "max_age": "1h", "max_bytes": "1MiB"}),
    );
    assert_eq!(status, 201);
    let (status, _) =
        send(&gateway, "PUT", "/v1/consumers/shift", json!({"stream": "plant", "from": "earliest"}));
    assert_eq!(status, 201);
    publish_with_mosquitto(&gateway, "mqttv5", "1", "plant/1", "x");
    take(&gateway, "shift", 1);
    let (bytes, events) =
        (r#"gateway_stream_bytes{stream="plant"}"#, r#"gateway_stream_events{stream="plant"}"#);
    let gauges =
        [(events, 1.0), (r#"gateway_consumer_open{consumer="shift"}"#, 1.0), (r#"gateway_consumers"#, 1.0)];
    for (gauge, value) in gauges {
        gateway.await_gauge(gauge, value);
    }
    assert!(gateway.metrics().find(bytes).is_some_and(|bytes| bytes > 0.0));
    for path in ["/v1/consumers/shift", "/v1/streams/plant"] {
        assert_eq!(request(gateway.admin(), "DELETE", path, &[], &Value::Null).0, 204, "{path}");
    }
    for (gauge, _) in gauges {
        gateway.await_gauge(gauge, 0.0);
    }
    gateway.await_gauge(bytes, 0.0);
    for gauge in ["lag_events", "lag_bytes", "workers", "oldest_open_seconds"] {
        gateway.await_gauge(&format!("gateway_consumer_{gauge}{{consumer=\"shift\"}}"), 0.0);
    }
    gateway.assert_sound();
}
