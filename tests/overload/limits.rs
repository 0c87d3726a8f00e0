//! Each static limit: what is taken at the limit, what is refused past it, what the client is told, and what is on record.

use std::time::{Duration, Instant};

use gateway_protocol::packet::Packet;
use gateway_tests::{Client, Ended, Gateway, Hello, ReasonCode, TIMEOUT, wait};

use crate::stage::decisions;
use crate::{QOS0, QOS1, V3_1_1, V5};

/// The answer to a CONNECT.
fn connack(gateway: &Gateway, name: &str) -> (ReasonCode, Client) {
    let mut client = Client::open(gateway.mqtt(), V5);
    client.send_bytes(&Hello::new(V5, name).bytes());
    let frame = client.next_packet();
    let Packet::ConnAck(connack) = frame.packet() else { panic!("{frame:?}") };
    (connack.reason_code, client)
}

/// One record for this reason, about this client.
fn assert_on_record(gateway: &Gateway, reason: &str, client: &str) {
    let found = decisions(gateway, &format!("reason={reason}"));
    assert!(found.iter().any(|found| found.client == client), "{reason} of {client}: {found:?}");
    let counted = gateway
        .metrics()
        .with_prefix("gateway_decisions_total")
        .into_iter()
        .any(|(sample, count)| sample.contains(&format!("reason=\"{reason}\"")) && count > 0.0);
    assert!(counted, "{reason} is counted");
}

#[test]
fn connections_are_limited_in_all_on_a_listener_and_from_an_address() {
    for (set, code, reason, outcome) in [
        ("admission.max_connections=2", ReasonCode::ServerBusy, "max_connections", "too_many"),
        (
            "listener.0.max_connections=2",
            ReasonCode::QuotaExceeded,
            "listener_connections",
            "too_many_on_listener",
        ),
        (
            "admission.max_connections_per_address=2",
            ReasonCode::QuotaExceeded,
            "address_connections",
            "too_many_from_address",
        ),
    ] {
        let gateway = Gateway::start_set(&[set]);
        let first = gateway.connect(V5, "first");
        let _second = gateway.connect(V5, "second");
        let (refused, _) = connack(&gateway, "third");
        assert_eq!(refused, code, "{set}");
        let mut old = Client::open(gateway.mqtt(), V3_1_1);
        old.send_bytes(&Hello::new(V3_1_1, "old").bytes());
        assert_eq!(old.next_packet().bytes(), [0x20, 2, 0, 3], "{set}");
        assert_on_record(&gateway, reason, "third");
        assert_eq!(gateway.metrics().get(&format!("gateway_connects_total{{outcome=\"{outcome}\"}}")), 2.0);
        first.leave();
        gateway.await_connections(1);
        assert_eq!(connack(&gateway, "third").0, ReasonCode::Success, "{set}");
    }
}

#[test]
fn connects_have_a_pace_and_clients_that_flap_are_held_off() {
    let gateway = Gateway::start_set(&["admission.connect_rate_per_address=3"]);
    for name in ["a", "b", "c"] {
        assert_eq!(connack(&gateway, name).0, ReasonCode::Success);
    }
    let codes: Vec<_> = ["d", "e"].map(|name| connack(&gateway, name).0).into();
    assert!(codes.contains(&ReasonCode::ConnectionRateExceeded), "{codes:?}");
    let found = decisions(&gateway, "reason=address_connect_rate");
    assert!(found.iter().all(|found| found.client == "d" || found.client == "e") && !found.is_empty());

    let gateway = Gateway::start_set(&["admission.flap_connects=3", "admission.flap_hold_off=1s"]);
    for _ in 0..3 {
        gateway.connect(V5, "flapping").leave();
    }
    assert_eq!(connack(&gateway, "flapping").0, ReasonCode::ConnectionRateExceeded);
    assert_on_record(&gateway, "flapping", "flapping");
    assert_eq!(connack(&gateway, "another").0, ReasonCode::Success, "it is one client that is held off");
    let held = Instant::now();
    while connack(&gateway, "flapping").0 != ReasonCode::Success {
        assert!(held.elapsed() < TIMEOUT, "it is held off for ever");
        std::thread::park_timeout(Duration::from_millis(100));
    }
    assert!(held.elapsed() > Duration::from_millis(500));
}

#[test]
fn payloads_filters_and_subscriptions_are_limited() {
    let gateway = Gateway::start_set(&[
        "admission.max_payload_bytes=1000B",
        "admission.max_filter_levels=3",
        "admission.max_subscriptions_per_client=2",
    ]);
    let mut client = gateway.connect(V5, "client");
    assert_eq!(client.subscribe(&[("a/b/c", QOS0)]), [ReasonCode::Success]);
    assert_eq!(client.subscribe(&[("a/b/c/d", QOS0)]), [ReasonCode::TopicFilterInvalid]);
    assert_on_record(&gateway, "filter_too_deep", "client");
    assert_eq!(client.subscribe(&[("b", QOS0)]), [ReasonCode::Success]);
    assert_eq!(client.subscribe(&[("c", QOS0)]), [ReasonCode::QuotaExceeded]);
    assert_on_record(&gateway, "max_subscriptions", "client");
    assert_eq!(client.publish("x", &"x".repeat(1_000), QOS1), Some(ReasonCode::Success));
    assert_eq!(client.publish("x", &"x".repeat(1_001), QOS1), Some(ReasonCode::QuotaExceeded));
    client.publish("x", &"x".repeat(1_001), QOS0);
    client.ping();
    assert_on_record(&gateway, "payload_too_large", "client");
    let metrics = gateway.metrics();
    assert_eq!(metrics.get("gateway_events_rejected_total{reason=\"payload_too_large\"}"), 2.0);
}

#[test]
fn publish_rates_delay_refuse_or_disconnect_as_configured() {
    for (set, reason) in [
        ("admission.client_publish_rate=10", "client_event_rate"),
        ("admission.client_publish_bytes_rate=1KiB", "client_byte_rate"),
        ("listener.0.publish_rate=10", "listener_event_rate"),
        ("listener.0.publish_bytes_rate=1KiB", "listener_byte_rate"),
    ] {
        let payload = "x".repeat(90);
        let gateway = Gateway::start_set(&[set, "admission.over_rate=delay"]);
        let mut client = gateway.connect(V5, "client");
        let began = Instant::now();
        let ids: Vec<_> = (0..15).map(|_| client.send_publish("live/1", &payload, QOS1).unwrap()).collect();
        client.ping();
        assert!(began.elapsed() < Duration::from_secs(2), "PINGREQ is answered");
        for id in ids {
            assert_eq!(client.await_puback(id), ReasonCode::Success);
        }
        assert!(began.elapsed() > Duration::from_millis(300), "{set}: {:?}", began.elapsed());
        assert_on_record(&gateway, reason, "client");

        let gateway = Gateway::start_set(&[set, "admission.over_rate=refuse"]);
        let mut client = gateway.connect(V5, "client");
        let codes: Vec<_> = (0..15).filter_map(|_| client.publish("live/1", &payload, QOS1)).collect();
        assert_eq!(codes[..5], [ReasonCode::Success; 5], "{set}");
        assert!(codes.contains(&ReasonCode::QuotaExceeded), "{set}: {codes:?}");
        assert_on_record(&gateway, reason, "client");

        let gateway = Gateway::start_set(&[set, "admission.over_rate=disconnect"]);
        let mut client = gateway.connect(V5, "client");
        for _ in 0..15 {
            client.send_publish("live/1", &payload, QOS0);
        }
        assert_eq!(client.await_close(TIMEOUT), Some(ReasonCode::MessageRateTooHigh), "{set}");
        assert_on_record(&gateway, reason, "client");
    }
}

#[test]
fn what_is_over_a_rate_at_qos_0_is_shed_and_counted() {
    let gateway = Gateway::start_set(&["admission.client_publish_rate=10"]);
    let mut client = gateway.connect(V5, "client");
    for _ in 0..50 {
        client.send_publish("live/1", "x", QOS0);
    }
    client.ping();
    // A flood is read with pauses, and PINGREQ answered meanwhile.
    let received = || gateway.metrics().sum("gateway_events_received_total");
    wait::until_it("all of it", TIMEOUT, received, |received| *received == 50.0);
    let metrics = gateway.metrics();
    let shed = metrics.get("gateway_events_shed_total{reason=\"client_event_rate\"}");
    assert!((25.0..=40.0).contains(&shed), "{shed} of 50 at 10 a second");
    assert_eq!(shed + metrics.sum("gateway_events_accepted_total"), 50.0);
}

#[test]
fn a_subscriber_that_does_not_read_is_dropped_from_or_disconnected_and_the_reason_is_on_record() {
    let rule =
        "admission.class=[{class=\"normal\", clients=[\"impatient-*\"], slow_subscriber=\"disconnect\"}]";
    for (name, policy) in [("slow", "drop"), ("impatient-1", "drop"), ("slow", "disconnect")] {
        let listener = format!("listener.0.slow_subscriber={policy}");
        let gateway = Gateway::start_set(&["delivery.outbox_bytes_max=2MiB", rule, &listener]);
        let mut slow = gateway.connect(V5, name);
        slow.subscribe(&[("live/#", QOS0)]);
        let mut healthy = gateway.connect(V5, "healthy");
        healthy.subscribe(&[("live/#", QOS0)]);
        let mut publisher = gateway.connect(V5, "publisher");
        let payload = "x".repeat(20_000);
        let before = gateway.memory().anonymous;
        let ends = name != "slow" || policy == "disconnect";
        let mut rounds = 0;
        while decisions(&gateway, &format!("client={name}")).is_empty() {
            rounds += 1;
            assert!(rounds < 400, "{name}, {policy}: nothing is on record");
            for _ in 0..20 {
                publisher.send_publish("live/1", &payload, QOS0);
            }
            assert_eq!(healthy.messages(20).len(), 20, "the other one gets everything");
        }
        let grown = gateway.memory().anonymous.saturating_sub(before);
        assert!(grown < 32 << 20, "{grown} bytes more");
        if ends {
            gateway.await_connections(2);
            let found = decisions(&gateway, &format!("client={name}&action=disconnected"));
            assert_eq!(found[0].reason, "slow_subscriber", "{found:?}");
        } else {
            assert_on_record(&gateway, "outbox_full", name);
            slow.stream().set_read_timeout(Some(TIMEOUT)).unwrap();
            assert!(!matches!(slow.receive(Duration::from_secs(1)), Err(Ended::Closed)), "it stays");
        }
    }
}
