//! Mosquitto's clients against the gateway: nothing of ours on the client's side.

use gateway_tests::{Gateway, Subscriber, TIMEOUT, publish_with_mosquitto, wait};

const VERSIONS: [&str; 2] = ["mqttv311", "mqttv5"];

#[test]
fn every_version_and_qos_reaches_every_version() {
    let gateway = Gateway::start();
    for subscriber_version in VERSIONS {
        let mut subscriber =
            Subscriber::start(&gateway, subscriber_version, "%t %q %p", &["-q", "1", "-t", "plant/1/state"]);
        for version in VERSIONS {
            for qos in ["0", "1"] {
                let payload = format!("from-{version}-at-{qos}");
                publish_with_mosquitto(&gateway, version, qos, "plant/1/state", &payload);
                assert_eq!(subscriber.message(), format!("plant/1/state {qos} {payload}"));
            }
        }
        assert_eq!(subscriber.stop(), [""; 0], "nothing beside");
    }
    gateway.assert_sound();
}

#[test]
fn a_delivery_has_the_lower_of_both_qos() {
    let gateway = Gateway::start();
    for version in VERSIONS {
        let mut subscriber =
            Subscriber::start(&gateway, version, "%q %p", &["-q", "0", "-t", "devices/1/state"]);
        publish_with_mosquitto(&gateway, version, "1", "devices/1/state", "x");
        assert_eq!(subscriber.message(), "0 x");
        let mut subscriber =
            Subscriber::start(&gateway, version, "%q %p", &["-q", "2", "-t", "devices/1/state"]);
        publish_with_mosquitto(&gateway, version, "1", "devices/1/state", "y");
        assert_eq!(subscriber.message(), "1 y");
    }
}

#[test]
fn wildcards_match_what_they_should_and_nothing_else() {
    // `end` is what every filter matches, so that it shows what came before it.
    let cases: [(&str, &[&str]); 7] = [
        ("site/+/temperature", &["site/a/temperature", "site//temperature"]),
        ("site/#", &["site", "site/a", "site/a/temperature", "site//temperature", "site/a/b/temperature"]),
        ("+/a/#", &["site/a", "site/a/temperature", "site/a/b/temperature", "Site/a"]),
        ("site/a", &["site/a"]),
        (
            "#",
            &[
                "site",
                "site/a",
                "site/a/temperature",
                "site//temperature",
                "site/a/b/temperature",
                "Site/a",
                "/site/a",
            ],
        ),
        ("+", &["site"]),
        ("/+/a", &["/site/a"]),
    ];
    let topics = [
        "site",
        "site/a",
        "site/a/temperature",
        "site//temperature",
        "site/a/b/temperature",
        "Site/a",
        "/site/a",
    ];
    let gateway = Gateway::start();
    let start =
        |filter: &str| Subscriber::start(&gateway, "mqttv5", "%t", &["-q", "1", "-t", filter, "-t", "end"]);
    let subscribers: Vec<_> = cases.iter().map(|(filter, _)| start(filter)).collect();
    for topic in topics.into_iter().chain(["end"]) {
        publish_with_mosquitto(&gateway, "mqttv311", "1", topic, "x");
    }
    for ((filter, expected), mut subscriber) in cases.iter().zip(subscribers) {
        let mut found = Vec::new();
        loop {
            let topic = subscriber.message();
            if topic == "end" {
                break;
            }
            found.push(topic);
        }
        // Of two subscriptions that match, one or two copies may come [MQTT-3.3.4-2]: `#` and `+` match `end` as
        // well.
        assert_eq!(found, *expected, "{filter}");
    }
}

#[test]
fn a_durable_subscriber_gets_what_it_missed() {
    for version in VERSIONS {
        let gateway = Gateway::start();
        let arguments = durable_arguments(version);
        let subscriber = Subscriber::start(&gateway, version, "%t %p", &arguments);
        subscriber.stop();
        let missed = publish_numbered(&gateway, version, 0..3);
        let mut subscriber = Subscriber::start(&gateway, version, "%t %p", &arguments);
        assert_eq!(subscriber.messages(3), missed);
        let live = publish_numbered(&gateway, version, 3..5);
        assert_eq!(subscriber.messages(2), live);
        assert_eq!(subscriber.stop(), [""; 0], "nothing twice");
    }
}

#[test]
fn a_durable_subscriber_gets_what_it_missed_before_and_after_a_restart_by_sigterm() {
    missed_across(Gateway::terminate);
}

#[test]
fn a_durable_subscriber_gets_what_it_missed_before_and_after_a_restart_by_sigkill() {
    missed_across(Gateway::kill);
}

/// Session, subscription and what is pending survive the end that `end` puts to the gateway.
fn missed_across(end: impl Fn(&mut Gateway)) {
    for version in VERSIONS {
        let mut gateway = Gateway::start();
        let arguments = durable_arguments(version);
        Subscriber::start(&gateway, version, "%t %p", &arguments).stop();
        let mut missed = publish_numbered(&gateway, version, 0..3);
        end(&mut gateway);
        gateway.restart();
        missed.extend(publish_numbered(&gateway, version, 3..6));
        end(&mut gateway);
        gateway.restart();
        let mut subscriber = Subscriber::start(&gateway, version, "%t %p", &arguments);
        assert_eq!(subscriber.messages(6), missed);
        assert_eq!(subscriber.stop(), [""; 0], "nothing twice");
        // Its acknowledgements are no reason to write at once: one that is not in the log yet would cost a
        // redelivery.
        gateway.await_gauge("gateway_backlog_pending", 0.0);
        end(&mut gateway);
        gateway.restart();
        let mut subscriber = Subscriber::start(&gateway, version, "%t %p", &arguments);
        let live = publish_numbered(&gateway, version, 6..7);
        assert_eq!(subscriber.messages(1), live, "what was acknowledged does not come again");
        gateway.assert_sound();
    }
}

fn durable_arguments(version: &str) -> Vec<&'static str> {
    let mut arguments =
        vec!["-c", "-i", "backend", "-q", "1", "-t", "plant/+/state", "-t", "devices/+/state"];
    if version == "mqttv5" {
        arguments.extend(["-x", "3600"]);
    }
    arguments
}

/// Publishes on a topic that a stream keeps and on one that only the durable session wants, in turns.
fn publish_numbered(gateway: &Gateway, version: &str, numbers: std::ops::Range<u32>) -> Vec<String> {
    numbers
        .map(|number| {
            let topic = if number % 2 == 0 { "plant/1/state" } else { "devices/1/state" };
            publish_with_mosquitto(gateway, version, "1", topic, &number.to_string());
            format!("{topic} {number}")
        })
        .collect()
}

#[test]
fn a_stream_is_read_with_mosquitto_sub_from_every_kind_of_beginning() {
    let gateway = Gateway::start();
    for (number, qos) in ["0", "1", "0"].into_iter().enumerate() {
        publish_with_mosquitto(&gateway, "mqttv311", qos, "devices/1/state", &number.to_string());
        // At QoS 0 nobody says when it has arrived, and the next one comes on another connection.
        let accepted = || gateway.metrics().sum("gateway_events_accepted_total");
        wait::until_it("events accepted", TIMEOUT, accepted, |&accepted| accepted == number as f64 + 1.0);
    }
    for (from, qos) in
        [("earliest", "0"), ("earliest", "1"), ("0", "1"), ("-15m", "1"), ("2020-01-01T00:00:00Z", "1")]
    {
        for version in VERSIONS {
            let filter = format!("$stream/telemetry/{from}/#");
            let mut reader = Subscriber::start(&gateway, version, "%t %p", &["-q", qos, "-t", &filter]);
            assert_eq!(
                reader.messages(3),
                ["devices/1/state 0", "devices/1/state 1", "devices/1/state 2"],
                "from {from}"
            );
            assert_eq!(reader.stop(), [""; 0], "from {from}");
        }
    }
    let mut reader =
        Subscriber::start(&gateway, "mqttv5", "%p", &["-q", "1", "-t", "$stream/telemetry/latest/#"]);
    publish_with_mosquitto(&gateway, "mqttv5", "1", "devices/1/state", "new");
    assert_eq!(reader.message(), "new");
    assert_eq!(reader.stop(), [""; 0]);
}

#[test]
fn a_stream_says_offset_time_and_publisher_in_version_5() {
    let gateway = Gateway::start();
    let port = gateway.mqtt().port().to_string();
    let arguments = [
        "-h",
        "127.0.0.1",
        "-p",
        &port,
        "-V",
        "mqttv5",
        "-q",
        "1",
        "-i",
        "sensor-7",
        "-t",
        "devices/7/state",
        "-m",
        "on",
        "-D",
        "publish",
        "user-property",
        "unit",
        "celsius",
    ];
    assert!(gateway_tests::Program::start("mosquitto_pub", &arguments).finish().success());
    let mut reader =
        Subscriber::start(&gateway, "mqttv5", "%t %p %P", &["-t", "$stream/telemetry/earliest/#"]);
    let message = reader.message();
    let properties = message.strip_prefix("devices/7/state on ").expect(&message);
    assert!(properties.contains("offset:"), "{message}");
    assert!(properties.contains("time:20"), "{message}");
    assert!(properties.contains("publisher:sensor-7"), "{message}");
    assert!(properties.contains("unit:celsius"), "the publisher's own are still there: {message}");
}
