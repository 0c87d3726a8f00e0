//! Every level, by a log that fills up.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use gateway_protocol::packet::Packet;
use gateway_tests::{Client, Ended, Gateway, Hello, QoS, ReasonCode, TIMEOUT, readiness, wait};

use crate::stage::{SETS, Stage, assert_balance, decisions, look, pause};
use crate::{QOS0, QOS1, V3_1_1, V5, is_long};

/// From the last of what was held to L0: five levels at five seconds each, and some for the log to be trimmed.
const RECOVERS: Duration = Duration::from_secs(40);

/// A publisher at QoS 1 that does not wait: how many it has sent, and which of them are acknowledged.
struct Open {
    client: Client,
    topic: &'static str,
    sent: u32,
    acknowledged: u32,
}

impl Open {
    fn new(gateway: &Gateway, name: &str, topic: &'static str) -> Self {
        Self { client: gateway.connect(V5, name), topic, sent: 0, acknowledged: 0 }
    }

    /// Sends one more, unless `open_max` are open, and takes what acknowledgements there are.
    fn step(&mut self, payload: &str, open_max: u32) {
        if self.sent - self.acknowledged < open_max {
            self.sent += 1;
            self.client.send_publish(self.topic, payload, QOS1);
        }
        self.take(Duration::from_millis(1));
    }

    fn take(&mut self, limit: Duration) {
        while self.acknowledged < self.sent {
            match self.client.receive(limit) {
                Ok(frame) => match frame.packet() {
                    Packet::PubAck(ack) => {
                        assert_eq!(ack.reason_code, ReasonCode::Success);
                        self.acknowledged += 1;
                    }
                    other => panic!("{other:?}"),
                },
                Err(Ended::TimedOut) => return,
                Err(Ended::Closed) => panic!("{} is closed", self.topic),
            }
        }
    }
}

#[test]
fn a_log_that_fills_up_leads_through_every_level_and_all_of_it_is_delivered_in_the_end() {
    let gateway = Gateway::start_set(&SETS);
    let (mut away, _) = Client::connect(gateway.mqtt(), &Hello::durable(V5, "away"));
    away.subscribe(&[("fill/#", QOS1), ("alarm/#", QOS1)]);
    away.leave();
    let mut normal = Open::new(&gateway, "normal", "fill/1");
    let mut critical = Open::new(&gateway, "critical", "alarm/1");
    // What is sent at L5 before that is seen fits into what is read ahead, so that PINGREQ behind it is found.
    let payload = "x".repeat(10_000);
    let mut seen = vec![0];
    let began = Instant::now();
    let mut acknowledged_at_protect = None;
    while *seen.last().unwrap() < 5 {
        assert!(began.elapsed() < Duration::from_secs(60), "{seen:?}, {:?}", look(&gateway));
        let open_max = if *seen.last().unwrap() < 4 { 100 } else { 5 };
        normal.step(&payload, open_max);
        critical.step(&payload, open_max);
        // A level is entered after two samples, 100 ms apart: faster than that, and one is passed over.
        pause(Duration::from_millis(5));
        let level = look(&gateway).0 as u8;
        if level != *seen.last().unwrap() {
            seen.push(level);
        }
        if level == 4 && acknowledged_at_protect.is_none() {
            acknowledged_at_protect = Some((normal.acknowledged, critical.acknowledged));
        }
        normal.client.ping();
    }
    assert_eq!(seen, [0, 1, 2, 3, 4, 5], "each in its turn");
    let (normal_then, critical_then) = acknowledged_at_protect.expect("L4 was seen");
    assert!(critical.acknowledged > critical_then, "what is critical is acknowledged at L4");
    assert!(normal.acknowledged <= normal_then + 1, "what is not is held");
    assert!(normal.acknowledged < normal.sent);
    let full = readiness(gateway.admin()).expect_err("it is full");
    assert!(full.contains("storage full"), "{full}");
    let steps = decisions(&gateway, "action=level_changed");
    assert_eq!(steps.iter().map(|step| step.level).collect::<BTreeSet<_>>(), (1..=5).collect(), "{steps:?}");
    assert!(steps.iter().any(|step| step.reason == "disk"), "{steps:?}");

    // Those who are not acknowledged keep their connections, and are answered.
    for open in [&mut normal, &mut critical] {
        open.client.ping();
    }
    let (mut away, present) = Client::connect(gateway.mqtt(), &Hello::durable(V5, "away"));
    assert!(present, "who drains is let in");
    let all = (normal.sent + critical.sent) as usize;
    let got = away.messages(all);
    assert_eq!(got.len(), all);
    let relieved = Instant::now();
    // By five seconds a level, which is for the long form.
    let end = if is_long() { 0.0 } else { 3.0 };
    wait::until_it("the way down", RECOVERS, || look(&gateway), |(level, _)| *level <= end);
    for open in [&mut normal, &mut critical] {
        open.take(TIMEOUT);
        assert_eq!(open.acknowledged, open.sent, "{}", open.topic);
    }
    eprintln!(
        "{all} events; L5 after {:.1?}; {:.1?} after the session had all of it the level was {end}",
        began.elapsed(),
        relieved.elapsed()
    );
    assert_balance(&gateway, all as u64);
    assert!(readiness(gateway.admin()).is_ok());
    gateway.assert_sound();
}

#[test]
fn at_l4_no_sessions_are_made_and_acknowledgements_wait_until_it_is_over() {
    let stage = Stage::at(4, &[]);
    let gateway = &stage.gateway;
    // Version 5 is told why, and when to come again; 3.1.1 that the server is unavailable.
    let mut client = Client::open(gateway.mqtt(), V5);
    client.send_bytes(&Hello::new(V5, "newcomer").bytes());
    let frame = client.next_packet();
    let Packet::ConnAck(connack) = frame.packet() else { panic!("{frame:?}") };
    assert_eq!(connack.reason_code, ReasonCode::ServerBusy);
    let words = connack.properties.reason_string().expect("a word on when to come again");
    assert!(words.contains("no_new_sessions") && words.contains("again in"), "{words}");
    let mut client = Client::open(gateway.mqtt(), V3_1_1);
    client.send_bytes(&Hello::new(V3_1_1, "newcomer").bytes());
    assert_eq!(client.next_packet().bytes(), [0x20, 2, 0, 3]);
    let refused = decisions(gateway, "reason=no_new_sessions");
    assert_eq!(refused.len(), 2, "{refused:?}");
    assert!(refused.iter().all(|refusal| refusal.client == "newcomer" && refusal.action == "refused"));
    let overloaded = readiness(gateway.admin()).expect_err("it protects itself");
    assert!(overloaded.contains("overloaded: level 4, disk"), "{overloaded}");
    let held = decisions(gateway, "reason=acks_held");
    assert!(held.iter().all(|held| held.client == "filler" && held.action == "throttled"), "{held:?}");
    let _away = stage.relieve();
    wait::until_it("level 3", Duration::from_secs(15), || look(gateway), |(level, _)| *level < 4.0);
    gateway.connect(V5, "newcomer").ping();
}

#[test]
fn at_l3_qos_0_is_shed_by_class_and_never_what_is_critical() {
    // Few enough to be within the smallest share there is, which is 64 at once: an event costs 1 1/8.
    const EACH: usize = 15;
    let stage = Stage::at(3, &[]);
    let gateway = &stage.gateway;
    let mut subscriber = gateway.connect(V5, "subscriber");
    subscriber.subscribe(&[("live/#", QOS0), ("debug/#", QOS0), ("alarm/#", QOS0)]);
    let mut publisher = gateway.connect(V5, "publisher");
    for _ in 0..EACH {
        for topic in ["debug/1", "alarm/1", "live/1"] {
            publisher.send_publish(topic, "x", QOS0);
        }
        publisher.ping();
        pause(Duration::from_millis(10));
    }
    publisher.publish("live/end", "x", QOS1);
    let mut got = std::collections::BTreeMap::<String, usize>::new();
    loop {
        let message = subscriber.message();
        if message.topic == "live/end" {
            break;
        }
        *got.entry(message.topic).or_default() += 1;
    }
    assert_eq!(got.get("debug/1"), None, "bulk goes first");
    assert_eq!(got.get("alarm/1"), Some(&EACH), "{got:?}");
    assert_eq!(got.get("live/1"), Some(&EACH), "normal ones go later in L3: {got:?}");
    let shed = decisions(gateway, "client=publisher&action=shed");
    assert!(shed.iter().all(|shed| shed.reason == "shed_bulk"), "{shed:?}");
    assert_eq!(shed.iter().map(|shed| shed.count).sum::<u64>(), EACH as u64);
    assert_balance(gateway, (stage.held + 3 * EACH + 1) as u64);
}

#[test]
fn at_l1_new_sessions_get_a_smaller_window_and_those_that_are_there_keep_theirs() {
    let stage = Stage::at(1, &[]);
    let window = |name: &str| {
        let mut client = Client::open(stage.gateway.mqtt(), V5);
        client.send_bytes(&Hello::new(V5, name).bytes());
        let frame = client.next_packet();
        let Packet::ConnAck(connack) = frame.packet() else { panic!("{frame:?}") };
        connack.properties.receive_maximum()
    };
    assert_eq!(window("at-l1"), Some(128));
    drop(stage.relieve());
    wait::until_it("level 0", RECOVERS, || look(&stage.gateway), |(level, _)| *level == 0.0);
    assert_eq!(window("at-l0"), Some(256));
}

#[test]
fn the_level_is_told_over_mqtt_and_http() {
    let stage = Stage::at(2, &["mqtt.sys_interval_secs=1"]);
    let mut watcher = stage.gateway.connect(V3_1_1, "watcher");
    watcher
        .subscribe(&[("$SYS/broker/overload/level", QoS::AtMostOnce), ("$SYS/broker/overload/disk", QOS0)]);
    wait::until("the level in $SYS", TIMEOUT, || {
        let message = watcher.message();
        (message.topic.ends_with("/level") && message.payload == "2").then_some(())
    });
    let ready = gateway_tests::get(stage.gateway.admin(), "/readyz");
    assert!(ready.contains(r#""ready":true"#) && ready.contains(r#""level":2"#), "{ready}");
    assert!(ready.contains(r#""disk":0."#), "{ready}");
}
