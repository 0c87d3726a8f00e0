//! Shared Subscriptions: who gets what, and what becomes of what a member leaves.

use super::*;

fn with_qos<'a>(client_id: &'a str, filter: &'a str, qos: QoS) -> Entry<'a> {
    Entry::Subscribed {
        client_id,
        filter,
        options: SubscribeOptions::at_most(qos).to_u8(),
        subscription_id: 0,
    }
}

fn closed<'a>(client_id: &'a str, expiry_secs: u32, ending: &'a [u8; 9]) -> Entry<'a> {
    Entry::SessionClosed { client_id, at_ms: 9, expiry_secs, state: ending }
}

#[test]
fn each_message_goes_to_one_member_of_a_group_and_a_replay_chooses_the_same() {
    let rig = Rig::new();
    for member in ["a", "b", "c"] {
        rig.commit(&[opened(member), subscribed(member, "$share/g/x/#")]);
    }
    rig.commit(&[opened("d"), subscribed("d", "x/#")]);
    rig.commit(&[event("x/1"), event("x/2"), event("x/3"), event("x/4"), event("x/5"), event("x/6")]);
    let shares = |rig: &Rig| ["a", "b", "c"].map(|member| rig.backlog(member));
    let before = shares(&rig);
    assert_eq!(before.iter().map(Vec::len).collect::<Vec<_>>(), [2, 2, 2]);
    assert_eq!(rig.backlog("d").len(), 6);
    let mut rig = rig;
    for keep_view in [false, true] {
        rig = rig.restart(keep_view);
        // Nobody took over from anybody: all connections ended together.
        rig.wait(|engine| engine.sessions().iter().all(|session| !session.state().connected));
        assert_eq!(shares(&rig), before);
    }
    for topic in ["x/7", "x/8", "x/9"] {
        // What else is logged in between changes nobody's turn.
        rig.commit(&[event(topic), event("elsewhere")]);
    }
    assert_eq!(shares(&rig).iter().map(Vec::len).collect::<Vec<_>>(), [3, 3, 3]);
}

#[test]
fn what_a_member_leaves_behind_goes_to_another_one_but_for_qos_2_that_was_begun() {
    let rig = Rig::new();
    rig.commit(&[opened("a"), with_qos("a", "$share/g/x/+", QoS::ExactlyOnce)]);
    let exactly_once = |topic| match event(topic) {
        Entry::Event(event) => Entry::Event(Event { qos: 2, ..event }),
        other => other,
    };
    rig.commit(&[event("x/1"), exactly_once("x/2"), exactly_once("x/3"), event("x/4")]);
    rig.commit(&[opened("b"), with_qos("b", "$share/g/x/+", QoS::AtLeastOnce)]);
    rig.commit(&[acknowledged("a", &[0], &mut Vec::new())]);
    // The first two were sent; one of them was acknowledged.
    rig.commit(&[closed("a", 60, &Ending { sent_end: 2, with_all: false }.encode())]);
    let topics = |rig: &Rig, member: &str| -> Vec<String> {
        rig.backlog(member).into_iter().map(|(_, topic)| topic).collect()
    };
    assert_eq!(topics(&rig, "a"), ["x/2"], "[MQTT-4.8.2-4]");
    assert_eq!(topics(&rig, "b"), ["x/3", "x/4"]);
    rig.commit(&[Entry::SessionRemoved { client_id: "a", at_ms: 99, cause: 1 }]);
    assert_eq!(topics(&rig, "b"), ["x/3", "x/4"], "[MQTT-4.8.2-5]");
}

#[test]
fn a_member_without_a_durable_session_has_a_backlog_for_as_long_as_it_is_connected() {
    let rig = Rig::new();
    rig.commit(&[subscribed("a", "$share/g/x"), event("x")]);
    assert_eq!(rig.backlog("a").len(), 1);
    rig.commit(&[subscribed("b", "$share/g/x")]);
    rig.commit(&[closed("a", 0, &Ending { sent_end: 1, with_all: false }.encode())]);
    assert!(rig.engine.session("a").is_none());
    assert_eq!(rig.backlog("b").len(), 1);
    let rig = rig.restart(true);
    rig.wait(|engine| engine.session("b").is_none());
}

#[test]
fn a_group_can_keep_the_messages_of_one_publisher_together() {
    let rig = Rig::new().restart_with(true, Rules { share: ShareStrategy::Publisher, ..RULES });
    for member in ["a", "b", "c"] {
        rig.commit(&[opened(member), subscribed(member, "$share/g/#")]);
    }
    for number in 0..20 {
        for publisher in ["p1", "p2", "p3", "p4", "p5"] {
            let topic = format!("{publisher}/{number}");
            let Entry::Event(event) = event(&topic) else { unreachable!() };
            rig.commit(&[Entry::Event(Event { client_id: publisher, ..event })]);
        }
    }
    for publisher in ["p1", "p2", "p3", "p4", "p5"] {
        let counts = ["a", "b", "c"].map(|member| {
            rig.backlog(member).iter().filter(|(_, topic)| topic.starts_with(publisher)).count()
        });
        assert_eq!(counts.iter().filter(|count| **count == 20).count(), 1, "{publisher}: {counts:?}");
    }
}
