//! What devices say beside their events, through the real gateway: status and Will Message, retained state, replies to
//! commands, and the births and deaths of Sparkplug.
#![cfg(feature = "demo")]
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "all of this file is a test")]

mod started;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use device_sim::envelope::{Opened, open, open_aside};
use device_sim::plan::Plan;
use device_sim::report::{Report, Verdict, text};
use device_sim::run;
use device_sim::scenario::Scenario;
use device_sim::shared::Shared;
use device_sim::stop::Stop;
use gateway::app::Gateway;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{Packet, PublishProperties};
use rumqttc::v5::{AsyncClient, Event, EventLoop, MqttOptions};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use started::start_gateway;

const PATIENCE: Duration = Duration::from_secs(20);

/// What came in.
#[derive(Clone, Debug)]
struct Heard {
    topic: String,
    payload: Bytes,
    retain: bool,
    correlation: Option<Bytes>,
}

/// A backend service that looks on.
struct Backend {
    client: AsyncClient,
    events: EventLoop,
    heard: Vec<Heard>,
}

impl Backend {
    async fn subscribed(port: u16, filters: &[&str]) -> Self {
        let mut options = MqttOptions::new("backend", "127.0.0.1", port);
        options.set_outgoing_inflight_upper_limit(32);
        let (client, events) = AsyncClient::new(options, 32);
        let mut backend = Backend { client, events, heard: Vec::new() };
        for filter in filters {
            backend.client.subscribe(*filter, QoS::AtLeastOnce).await.unwrap();
        }
        let mut granted = 0;
        while granted < filters.len() {
            granted += usize::from(backend.step().await);
        }
        backend
    }

    /// One event of the connection; whether it was a SUBACK.
    async fn step(&mut self) -> bool {
        match self.events.poll().await.expect("the gateway stays") {
            Event::Incoming(Packet::Publish(publish)) => self.heard.push(Heard {
                topic: String::from_utf8(publish.topic.to_vec()).unwrap(),
                payload: publish.payload,
                retain: publish.retain,
                correlation: publish.properties.and_then(|all| all.correlation_data),
            }),
            Event::Incoming(Packet::SubAck(_)) => return true,
            _ => {}
        }
        false
    }

    /// Until something like this has been heard.
    async fn hear(&mut self, what: &str, is_it: impl Fn(&Heard) -> bool) -> Heard {
        let listening = async {
            loop {
                if let Some(heard) = self.heard.iter().find(|heard| is_it(heard)) {
                    return heard.clone();
                }
                self.step().await;
            }
        };
        tokio::time::timeout(PATIENCE, listening).await.unwrap_or_else(|_| panic!("{what} was not heard"))
    }

    fn topics(&self, part: &str) -> Vec<&str> {
        self.heard.iter().map(|heard| heard.topic.as_str()).filter(|topic| topic.contains(part)).collect()
    }
}

/// A fleet that runs until it is stopped.
fn start_fleet(gateway: &Gateway, fleet: &str) -> (watch::Sender<Stop>, JoinHandle<Report>) {
    let text = format!(
        "{fleet}\n[[subscriber]]\nname = \"archive\"\nfilter = \"+/+/+/telemetry\"\n[run]\nduration = \"60s\""
    );
    let scenario = Scenario::parse(&text).unwrap_or_else(|faults| panic!("{faults}"));
    let address = gateway.mqtt_addr();
    let plan = Plan { scenario, host: address.ip().to_string(), port: address.port(), seed: 7, epoch: 1 };
    let shared: Arc<Shared> = Shared::of(&plan);
    let (stop, stopped) = watch::channel(Stop::No);
    let running =
        async move { run::execute(&plan, &shared, stopped, 100).await.expect("the run takes place") };
    (stop, tokio::spawn(running))
}

fn says(heard: &Heard, word: &str) -> bool {
    assert!(open_aside(&heard.payload, heard.topic.as_bytes()).is_some(), "sealed: {heard:?}");
    assert_eq!(open(&heard.payload, heard.topic.as_bytes()), Opened::Foreign, "no event of the ledger");
    std::str::from_utf8(&heard.payload).unwrap().contains(word)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn devices_say_that_they_are_there_answer_and_say_goodbye() {
    let directory = tempfile::tempdir().unwrap();
    let gateway = start_gateway(&directory).await;
    let fleet = r#"
        [fleet]
        devices = 4
        sites = 1
        rate = 40
        protocol = "5"
        status = "devices/{site}/{device}/status"
        state = { topic = "devices/{site}/{device}/state", every = "100ms" }
        commands = { topic = "devices/{site}/{device}/commands", reply = "devices/{site}/{device}/replies" }
    "#;
    let (stop, running) = start_fleet(&gateway, fleet);
    let filters = ["devices/+/+/status", "devices/+/+/replies/#", "backend/replies"];
    let mut backend = Backend::subscribed(gateway.mqtt_addr().port(), &filters).await;
    for device in 0..4 {
        let topic = format!("devices/site-00/dev-0000{device}/status");
        backend.hear("online", |heard| heard.topic == topic && says(heard, "\"status\":\"online\"")).await;
    }

    let command = "devices/site-00/dev-00002/commands";
    let properties = PublishProperties {
        response_topic: Some("backend/replies".to_owned()),
        correlation_data: Some(Bytes::from_static(b"c-1")),
        ..PublishProperties::default()
    };
    let qos = QoS::AtLeastOnce;
    backend.client.publish_with_properties(command, qos, false, "lock", properties).await.unwrap();
    let reply = backend.hear("a reply", |heard| heard.topic == "backend/replies").await;
    assert_eq!(reply.correlation.as_deref(), Some(&b"c-1"[..]));
    assert!(says(&reply, "\"ok\":true,\"command\":\"lock\""), "{reply:?}");

    // As MQTT 3.1.1 does it: the request's name in the topic.
    backend.client.publish(format!("{command}/r-9"), qos, false, "unlock").await.unwrap();
    let reply =
        backend.hear("a reply by topic", |heard| heard.topic.ends_with("dev-00002/replies/r-9")).await;
    assert!(says(&reply, "\"command\":\"unlock\""), "{reply:?}");

    // A state is there for whoever comes later.
    backend.client.subscribe("devices/+/+/state", qos).await.unwrap();
    let state = backend.hear("a state", |heard| heard.topic.ends_with("/state") && heard.retain).await;
    assert!(says(&state, "temperature_c"), "{state:?}");

    stop.send(Stop::Gently).unwrap();
    for device in 0..4 {
        let topic = format!("devices/site-00/dev-0000{device}/status");
        backend.hear("offline", |heard| heard.topic == topic && says(heard, "offline")).await;
    }
    let report = running.await.unwrap();
    gateway.shutdown().await;
    assert_eq!(report.verdict, Verdict::Kept, "{}", text::render(&report));
    assert_eq!(backend.topics("/status").len(), 8, "once there, once gone, and no Will Message");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sparkplug_node_is_born_speaks_is_born_again_and_dies() {
    let directory = tempfile::tempdir().unwrap();
    let gateway = start_gateway(&directory).await;
    let mut backend = Backend::subscribed(gateway.mqtt_addr().port(), &["spBv1.0/#"]).await;
    let fleet = r#"
        [fleet]
        devices = 1
        sites = 1
        rate = 20
        payload = "sparkplug"
        [[subscriber]]
        name = "host"
        filter = "spBv1.0/+/DDATA/#"
    "#;
    let (stop, running) = start_fleet(&gateway, fleet);
    let is_data = |heard: &Heard| heard.topic.contains("DDATA");
    backend.hear("data", is_data).await;
    let before: Vec<&str> = backend.heard.iter().map(|heard| heard.topic.as_str()).take(3).collect();
    let (node, device) = ("dev-00000", "dev-00000/cold-room");
    let births = [format!("spBv1.0/site-00/NBIRTH/{node}"), format!("spBv1.0/site-00/DBIRTH/{device}")];
    assert!(before.starts_with(&births.each_ref().map(String::as_str)), "births come first: {before:?}");
    assert_eq!(backend.heard.iter().filter(|heard| is_data(heard)).map(seq).next(), Some(2));

    // A host that missed the births asks for them: Payload { metrics: [{ name, boolean_value: true }] }.
    let name = device_sim::payload::sparkplug::REBIRTH.as_bytes();
    let metric = [&[0x0a, name.len() as u8], name, &[0x70, 1]].concat();
    let command = [&[0x12, metric.len() as u8][..], &metric].concat();
    let topic = format!("spBv1.0/site-00/NCMD/{node}");
    backend.client.publish(topic, QoS::AtLeastOnce, false, command).await.unwrap();
    backend.heard.clear();
    backend.hear("a second birth", |heard| heard.topic == births[1]).await;
    backend.heard.clear();
    let again = backend.hear("data after it", is_data).await;
    assert_eq!(seq(&again), 2, "numbered anew");

    stop.send(Stop::Gently).unwrap();
    let deaths = [format!("spBv1.0/site-00/DDEATH/{device}"), format!("spBv1.0/site-00/NDEATH/{node}")];
    for death in deaths {
        let heard = backend.hear("a death", |heard| heard.topic == death).await;
        assert!(open_aside(&heard.payload, heard.topic.as_bytes()).is_some());
    }
    let report = running.await.unwrap();
    gateway.shutdown().await;
    let text = text::render(&report);
    assert_eq!(report.corrupt, 0, "{text}");
    assert!(report.qos.qos0.sent >= 2 && report.qos.qos0.lost == 0, "{text}");
}

/// `seq` is the last field of what the simulator writes.
fn seq(heard: &Heard) -> u8 {
    let [.., 0x18, seq] = heard.payload[..] else { panic!("no seq: {heard:?}") };
    seq
}
