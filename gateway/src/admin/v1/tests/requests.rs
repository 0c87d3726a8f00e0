//! What each request becomes, and what is refused.

use super::super::gates::Gates;
use super::fake::{Server, consumer, letter, piece};
use serde_json::{Value, json};

fn kind(problem: &Value) -> &str {
    problem["type"].as_str().unwrap().strip_prefix("urn:gateway:problem:").unwrap()
}

fn faults(problem: &Value) -> Vec<&str> {
    assert_eq!(kind(problem), "invalid", "{problem}");
    problem["faults"].as_array().unwrap().iter().map(|fault| fault["at"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_consumer_is_made_altered_and_reset() {
    let server = Server::new();
    let body = json!({
        "stream": "telemetry", "filter": "devices/+/energy", "from": "earliest", "ack_wait": "5s", "max_deliver": 3,
        "backoff": ["1s", "500ms"], "max_ack_pending": 10, "order": "key",
    });
    let (status, made) = server.ask("PUT", "/v1/consumers/meter", &body.to_string()).await;
    assert_eq!((status, &made["name"]), (201, &json!("meter")));
    assert_eq!(
        server.last(),
        "set_consumer meter ConsumerOptions { stream: \"telemetry\", filter: \"devices/+/energy\", from: Earliest, \
         ack_wait_ms: 5000, max_deliver: 3, backoff_ms: [1000, 500], max_ack_pending: 10, order: Key, \
         configured: false }"
    );
    let (status, _) = server.ask("PATCH", "/v1/consumers/meter", r#"{"max_deliver": 0}"#).await;
    assert_eq!(status, 200);
    assert!(server.last().contains("max_deliver: Some(0)") && server.last().contains("filter: None"));
    server.ask("POST", "/v1/consumers/meter/pause", "").await;
    assert!(server.last().ends_with("paused: Some(true) }"), "{}", server.last());
    server.ask("POST", "/v1/consumers/meter/resume", "{}").await;
    assert!(server.last().ends_with("paused: Some(false) }"), "{}", server.last());
    server.ask("POST", "/v1/consumers/sink%2Fwarehouse/pause", "").await;
    assert!(server.last().starts_with("alter_consumer sink/warehouse "), "{}", server.last());
    for (to, shown) in
        [("\"latest\"", "Latest"), ("17", "Offset(Offset(17))"), ("\"17\"", "Offset(Offset(17))")]
    {
        server.ask("POST", "/v1/consumers/meter/reset", &format!("{{\"to\": {to}}}")).await;
        assert_eq!(server.last(), format!("reset_consumer meter {shown}"));
    }
}

#[tokio::test]
async fn everything_wrong_with_a_request_is_said_at_once_and_nothing_is_done() {
    let server = Server::new();
    let body = json!({"filter": "a/#/b", "from": "soon", "ack_wait": 5, "backoff": ["x"], "order": "topic", "qos": 1});
    let (status, problem) = server.ask("PUT", "/v1/consumers/No%20name", &body.to_string()).await;
    assert_eq!(status, 400);
    assert_eq!(
        faults(&problem),
        ["name", "stream", "from", "filter", "ack_wait", "backoff", "order", "qos"],
        "{problem}"
    );
    let (_, problem) = server.ask("POST", "/v1/consumers/billing/reset", "{}").await;
    assert_eq!(faults(&problem), ["to"]);
    let (_, problem) =
        server.ask("PUT", "/v1/streams/x", r#"{"topics": ["$SYS/#"], "max_age": "1ms"}"#).await;
    assert_eq!(faults(&problem), ["topics", "max_age", "max_bytes"]);
    let (_, problem) =
        server.ask("GET", "/v1/consumers/billing/next?max=0&wait=2h&worker=&max=1&x", "").await;
    assert_eq!(faults(&problem), ["max", "wait", "worker", "x"]);
    for body in ["{", "[]", "7", "\"x\""] {
        let (status, problem) = server.ask("POST", "/v1/consumers/billing/ack", body).await;
        assert_eq!((status, faults(&problem)), (400, vec!["body"]), "{body}");
    }
    assert_eq!(server.last(), "");
}

#[tokio::test]
async fn each_problem_has_its_status_and_its_type() {
    let server = Server::new();
    let stream = r#"{"topics": ["x/#"], "max_age": "1h", "max_bytes": "1MiB"}"#;
    let too_large = format!("{{\"x\": \"{}\"}}", "x".repeat(256 << 10));
    for (method, path, body, status, expected) in [
        ("GET", "/v1/consumers/nobody", "", 404, "no-such-consumer"),
        ("POST", "/v1/consumers/nobody/ack", r#"{"ids": ["1-1"]}"#, 404, "no-such-consumer"),
        ("GET", "/v1/consumers/nobody/watch", "", 404, "no-such-consumer"),
        (
            "POST",
            "/v1/dead-letters/redrive",
            r#"{"consumer": "nobody", "all": true}"#,
            404,
            "no-such-consumer",
        ),
        ("GET", "/v1/streams/nothing", "", 404, "no-such-stream"),
        ("DELETE", "/v1/streams/nothing", "", 404, "no-such-stream"),
        ("DELETE", "/v1/consumers/billing", "", 409, "conflict"),
        ("PUT", "/v1/streams/plant", &too_large, 413, "too-large"),
        ("PUT", "/v1/streams/plant", stream, 201, ""),
    ] {
        let (found, answer) = server.ask(method, path, body).await;
        assert_eq!(found, status, "{method} {path}: {answer}");
        if status >= 400 {
            assert_eq!((kind(&answer), &answer["status"]), (expected, &json!(status)), "{method} {path}");
        }
    }
}

#[tokio::test]
async fn the_work_on_events_is_told_by_their_ids() {
    let server = Server::new();
    for (verb, body, expected) in [
        ("ack", json!({"ids": ["7-1", "9-12"]}), "Ack"),
        ("nak", json!({"ids": ["7-1", "9-12"]}), "Nak { delay_ms: None }"),
        ("nak", json!({"ids": ["7-1", "9-12"], "delay": "5s"}), "Nak { delay_ms: Some(5000) }"),
        ("reject", json!({"ids": ["7-1", "9-12"]}), "Reject { cause: Rejected(128), note: \"\" }"),
        (
            "reject",
            json!({"ids": ["7-1", "9-12"], "cause": "payload_format_invalid", "note": "torn"}),
            "Reject { cause: Rejected(153), note: \"torn\" }",
        ),
        ("extend", json!({"ids": ["7-1", "9-12"]}), "Extend"),
    ] {
        let path = format!("/v1/consumers/billing/{verb}");
        let answer = server.ask("POST", &path, &body.to_string()).await;
        assert_eq!(answer, (200, json!({"settled": 2, "unknown": []})), "{verb}");
        assert_eq!(server.last(), format!("settle billing {expected}"));
    }
    for ids in
        [json!([]), json!(["7"]), json!(["7-"]), json!(["-1"]), json!(["+7-1"]), json!([7]), json!("7-1")]
    {
        let (_, problem) =
            server.ask("POST", "/v1/consumers/billing/ack", &json!({ "ids": ids }).to_string()).await;
        assert_eq!(faults(&problem), ["ids"], "{ids}");
    }
    let (_, problem) = server
        .ask(
            "POST",
            "/v1/consumers/billing/reject",
            r#"{"ids": ["7-1"], "cause": "bad mood", "delay": "1s"}"#,
        )
        .await;
    assert_eq!(faults(&problem), ["cause", "delay"]);
}

#[tokio::test]
async fn a_worker_without_a_name_has_one() {
    let server = Server::new();
    server.ask("GET", "/v1/consumers/billing/next", "").await;
    assert_eq!(server.last(), "next billing Wanted { worker: \"http\", max: 100, wait: 0ns }");
    let answer = server.ask("GET", "/v1/consumers/billing/next?max=7&wait=0ms&worker=w%201", "").await;
    assert_eq!(answer, (200, json!({"events": []})));
    assert_eq!(server.last(), "next billing Wanted { worker: \"w 1\", max: 7, wait: 0ns }");
}

#[tokio::test]
async fn long_polls_past_the_limit_are_refused_and_places_are_given_back() {
    let server = Server::with_gates(Gates::new(1, 1));
    let waiting = tokio::spawn({
        let server = server.clone();
        async move { server.ask("GET", "/v1/consumers/billing/next?wait=1m", "").await }
    });
    while server.last().is_empty() {
        tokio::task::yield_now().await;
    }
    let response = server.send("GET", "/v1/consumers/billing/next", "").await;
    assert_eq!(response.status(), 503);
    assert_eq!(response.headers()["retry-after"], "1");
    assert_eq!(response.headers()["content-type"], "application/problem+json");
    server.fake.arrival.notify_one();
    assert_eq!(waiting.await.unwrap().0, 200);
    assert_eq!(server.ask("GET", "/v1/consumers/billing/next", "").await.0, 200);

    // One whose client has gone away gives its place back as well.
    let asked = server.fake.asked.lock().unwrap().len();
    let gone = tokio::spawn({
        let server = server.clone();
        async move { server.ask("GET", "/v1/consumers/billing/next?wait=1m", "").await }
    });
    while server.fake.asked.lock().unwrap().len() == asked {
        tokio::task::yield_now().await;
    }
    gone.abort();
    assert!(gone.await.unwrap_err().is_cancelled());
    assert_eq!(server.ask("GET", "/v1/consumers/billing/next", "").await.0, 200);
}

#[tokio::test]
async fn a_watch_is_server_sent_events_and_holds_its_place_until_it_is_dropped() {
    let server = Server::with_gates(Gates::new(1, 1));
    let response = server.send("GET", "/v1/consumers/billing/watch?from=5&pace=10x", "").await;
    assert_eq!(server.last(), "watch billing Some(5) 10x");
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    assert_eq!(response.headers()["cache-control"], "no-store");
    let mut body = response.into_body();
    assert_eq!(piece(&mut body).await.unwrap(), "id: 7\nevent: event\ndata: {\"offset\":7}\n\n");
    let (status, problem) = server.ask("GET", "/v1/consumers/billing/watch", "").await;
    assert_eq!((status, kind(&problem)), (503, "busy"));
    drop(body);
    assert_eq!(server.send("GET", "/v1/consumers/billing/watch", "").await.status(), 200);
    assert_eq!(server.last(), "watch billing None full");
    let (status, problem) = server.ask("GET", "/v1/consumers/billing/watch?pace=fast", "").await;
    assert_eq!((status, faults(&problem)), (400, vec!["pace"]));
}

#[tokio::test]
async fn lists_come_in_pages() {
    let server = Server::new();
    *server.fake.consumers.lock().unwrap() = ["a", "b", "c"].map(consumer).to_vec();
    let (_, page) = server.ask("GET", "/v1/consumers?limit=2", "").await;
    let names = |page: &Value| -> Vec<String> {
        page["consumers"]
            .as_array()
            .unwrap()
            .iter()
            .map(|it| it["name"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!((names(&page), &page["next"]), (vec!["a".to_owned(), "b".to_owned()], &json!("b")));
    let (_, page) = server.ask("GET", "/v1/consumers?limit=2&after=b", "").await;
    assert_eq!((names(&page), &page["next"]), (vec!["c".to_owned()], &Value::Null));

    *server.fake.letters.lock().unwrap() = vec![letter("a", 5), letter("a", 9), letter("sink/x", 1)];
    let mut after = String::new();
    let mut found = Vec::new();
    loop {
        let (_, page) = server.ask("GET", &format!("/v1/dead-letters?limit=1{after}"), "").await;
        for letter in page["dead_letters"].as_array().unwrap() {
            found.push(format!("{} {}", letter["consumer"].as_str().unwrap(), letter["offset"]));
        }
        let Some(next) = page["next"].as_str() else { break };
        after = format!("&after={next}");
    }
    assert_eq!(found, ["a 5", "a 9", "sink/x 1"]);
    let (_, problem) = server.ask("GET", "/v1/dead-letters?after=x&limit=1001&topic=a/%23/b", "").await;
    assert_eq!(faults(&problem), ["topic", "after", "limit"]);
}

#[tokio::test]
async fn an_export_is_every_dead_letter_a_line_each() {
    let server = Server::new();
    *server.fake.letters.lock().unwrap() = (0..150).map(|offset| letter("billing", offset)).collect();
    let response = server.send("GET", "/v1/dead-letters/export?consumer=billing&cause=nak", "").await;
    assert_eq!(response.headers()["content-type"], "application/x-ndjson");
    let body = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
    let offsets: Vec<u64> = body
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice::<Value>(line).unwrap()["offset"].as_u64().unwrap())
        .collect();
    assert_eq!(offsets, (0..150).collect::<Vec<_>>());
    assert!(server.last().contains("consumer: Some(\"billing\"), cause: Some(\"nak\"), topic: None"));
}

#[tokio::test]
async fn which_dead_letters_is_said_in_exactly_one_way() {
    let server = Server::new();
    for (body, expected) in [
        (json!({"all": true}), "All 100"),
        (json!({"offsets": [5, 9], "rate": 7}), "Offsets([5, 9]) 7"),
        (
            json!({"cause": "nak", "topic": "a/#"}),
            "Matching { cause: Some(\"nak\"), filter: Some(\"a/#\") } 100",
        ),
    ] {
        let mut body = body;
        body["consumer"] = json!("billing");
        let answer = server.ask("POST", "/v1/dead-letters/redrive", &body.to_string()).await;
        assert_eq!(answer, (200, json!({"redriven": 3})));
        assert_eq!(server.last(), format!("redrive billing {expected}"));
    }
    let answer =
        server.ask("POST", "/v1/dead-letters/purge", r#"{"consumer": "billing", "all": true}"#).await;
    assert_eq!(answer, (200, json!({"purged": 4})));
    for body in [
        json!({}),
        json!({"all": false}),
        json!({"all": true, "offsets": [1]}),
        json!({"offsets": [1], "cause": "x"}),
    ] {
        let mut body = body;
        body["consumer"] = json!("billing");
        let (status, problem) = server.ask("POST", "/v1/dead-letters/purge", &body.to_string()).await;
        assert_eq!((status, faults(&problem)), (400, vec!["all"]), "{body}");
    }
    let (_, problem) = server.ask("POST", "/v1/dead-letters/purge", r#"{"offsets": []}"#).await;
    assert_eq!(faults(&problem), ["consumer", "offsets"]);
}
