//! rumqttc, both of its halves, publishing and receiving at QoS 1.

use std::time::Duration;

use gateway_tests::{Gateway, ProtocolVersion, TIMEOUT};
use tokio::time::timeout;

use crate::QOS1;

const MESSAGES: usize = 500;

/// On one of them an event is stored, on the other it is not: two ways through the gateway. Order is a promise for
/// each topic.
const TOPICS: [&str; 2] = ["devices/1", "plant/1"];

/// What is received: the numbers of each topic in their order.
#[derive(Default)]
struct Received {
    next: [usize; 2],
}

impl Received {
    fn take(&mut self, topic: &str, payload: &[u8]) {
        let at = TOPICS.iter().position(|known| *known == topic).unwrap();
        let number: usize = std::str::from_utf8(payload).unwrap().parse().unwrap();
        assert_eq!(number, self.next[at], "on {topic}");
        self.next[at] += 1;
    }

    fn is_complete(&self) -> bool {
        self.next == [MESSAGES; 2]
    }
}

#[tokio::test]
async fn version_4_publishes_and_receives_at_qos_1() {
    use rumqttc::{AsyncClient, Event, MqttOptions, Packet, QoS};
    let gateway = Gateway::start();
    let mut options = MqttOptions::new("rumqttc", "127.0.0.1", gateway.mqtt().port());
    options.set_keep_alive(Duration::from_secs(5)).set_inflight(100);
    let (client, mut events) = AsyncClient::new(options, 10);
    client
        .subscribe_many(
            ["devices/#", "plant/#"]
                .map(|filter| rumqttc::SubscribeFilter::new(filter.into(), QoS::AtLeastOnce)),
        )
        .await
        .unwrap();
    let (mut received, mut acknowledged) = (Received::default(), 0);
    let mut publishing = None;
    while !received.is_complete() || acknowledged < 2 * MESSAGES {
        match timeout(TIMEOUT, events.poll()).await.expect("in time").expect("the connection stands") {
            Event::Incoming(Packet::SubAck(_)) => {
                let client = client.clone();
                publishing = Some(tokio::spawn(async move {
                    for number in 0..MESSAGES {
                        for topic in TOPICS {
                            client.publish(topic, QoS::AtLeastOnce, false, number.to_string()).await.unwrap();
                        }
                    }
                }));
            }
            Event::Incoming(Packet::PubAck(_)) => acknowledged += 1,
            Event::Incoming(Packet::Publish(publish)) => {
                received.take(&publish.topic, &publish.payload);
            }
            _ => {}
        }
    }
    publishing.unwrap().await.unwrap();
}

#[tokio::test]
async fn version_5_publishes_and_receives_at_qos_1_and_understands_the_farewell() {
    use rumqttc::v5::mqttbytes::QoS;
    use rumqttc::v5::mqttbytes::v5::{DisconnectReasonCode, Filter, Packet};
    use rumqttc::v5::{AsyncClient, Event, MqttOptions, StateError};
    let gateway = Gateway::start();
    let mut options = MqttOptions::new("rumqttc", "127.0.0.1", gateway.mqtt().port());
    options.set_keep_alive(Duration::from_secs(5)).set_outgoing_inflight_upper_limit(100);
    let (client, mut events) = AsyncClient::new(options, 10);
    client
        .subscribe_many(["devices/#", "plant/#"].map(|filter| Filter::new(filter, QoS::AtLeastOnce)))
        .await
        .unwrap();
    let (mut received, mut acknowledged) = (Received::default(), 0);
    let mut publishing = None;
    while !received.is_complete() || acknowledged < 2 * MESSAGES {
        match timeout(TIMEOUT, events.poll()).await.expect("in time").expect("the connection stands") {
            Event::Incoming(Packet::SubAck(_)) => {
                let client = client.clone();
                publishing = Some(tokio::spawn(async move {
                    for number in 0..MESSAGES {
                        for topic in TOPICS {
                            client.publish(topic, QoS::AtLeastOnce, false, number.to_string()).await.unwrap();
                        }
                    }
                }));
            }
            Event::Incoming(Packet::PubAck(_)) => acknowledged += 1,
            Event::Incoming(Packet::Publish(publish)) => {
                received.take(std::str::from_utf8(&publish.topic).unwrap(), &publish.payload);
            }
            _ => {}
        }
    }
    publishing.unwrap().await.unwrap();
    // Its decoder fails on a DISCONNECT without a Property Length, so the gateway is to send one.
    gateway.begin_terminate();
    let farewell = async {
        loop {
            match events.poll().await {
                Ok(Event::Incoming(Packet::Disconnect(disconnect))) => return disconnect.reason_code,
                Ok(_) => {}
                Err(rumqttc::v5::ConnectionError::MqttState(StateError::ServerDisconnect {
                    reason_code,
                    ..
                })) => return reason_code,
                Err(error) => panic!("{error}"),
            }
        }
    };
    assert_eq!(timeout(TIMEOUT, farewell).await.expect("in time"), DisconnectReasonCode::ServerShuttingDown);
}

#[tokio::test]
async fn a_durable_subscriber_that_was_away_gets_what_it_missed() {
    use rumqttc::{AsyncClient, Event, MqttOptions, Packet, QoS};
    let mut gateway = Gateway::start();
    let options = |gateway: &Gateway| {
        let mut options = MqttOptions::new("rumqttc", "127.0.0.1", gateway.mqtt().port());
        options.set_keep_alive(Duration::from_secs(5)).set_clean_session(false);
        options
    };
    let (client, mut events) = AsyncClient::new(options(&gateway), 10);
    client.subscribe("plant/#", QoS::AtLeastOnce).await.unwrap();
    while !matches!(
        timeout(TIMEOUT, events.poll()).await.unwrap().unwrap(),
        Event::Incoming(Packet::SubAck(_))
    ) {}
    drop((client, events));
    let mut publisher = gateway.connect(ProtocolVersion::V3_1_1, "p");
    for number in 0..200 {
        publisher.publish("plant/1", &number.to_string(), QOS1);
    }
    gateway.kill();
    gateway.restart();
    let (_client, mut events) = AsyncClient::new(options(&gateway), 10);
    let mut next = 0;
    while next < 200 {
        match timeout(TIMEOUT, events.poll()).await.unwrap().unwrap() {
            Event::Incoming(Packet::ConnAck(ack)) => assert!(ack.session_present),
            Event::Incoming(Packet::Publish(publish)) => {
                assert_eq!(&*publish.payload, next.to_string().as_bytes());
                next += 1;
            }
            _ => {}
        }
    }
}
