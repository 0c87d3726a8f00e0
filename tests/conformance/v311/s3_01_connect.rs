//! 3.1 CONNECT: who may come in, and who is who.

use std::time::{Duration, Instant};

use gateway_tests::{Client, Ended, Gateway, Hello, TIMEOUT};

use super::wire::{
    CLEAN, PASSWORD, PINGREQ, PINGRESP, PUBLISH_0, PUBLISH_1, RETAIN, USER_NAME, WILL, WILL_QOS_2,
    WILL_RETAIN, assert_closed, assert_no_connack, assert_nothing_more, client, connack, connect, connected,
    durable, exchange, expect, packet, payloads, publish, put, silent, subscribe, take, take_until_end, text,
};
use crate::{QOS1, V3_1_1};

#[test]
fn mqtt_3_1_0_2_a_second_connect_closes_the_connection() {
    let mut gateway = Gateway::start();
    let hello = connect(CLEAN, 0, &["twice"]);
    let mut client = connected(&gateway, &hello);
    client.send_bytes(&hello);
    assert_closed(&mut client, "a second CONNECT");
    // Under another name, too, and when both come at once.
    let mut client = silent(&gateway);
    client.send_bytes(&[hello, connect(CLEAN, 0, &["other"])].concat());
    expect(&mut client, &connack(0, 0));
    assert_closed(&mut client, "a second CONNECT in the same read");
    gateway.assert_alive();
}

#[test]
fn mqtt_3_1_2_1_another_protocol_name_is_not_served() {
    let gateway = Gateway::start();
    for name in ["mqtt", "MQTTT", "MQT", "", "MQIsdp", "HTTP", "\u{FEFF}MQTT"] {
        let rest = [4, CLEAN, 0, 60];
        let bytes = packet(0x10, &[&text(name), &rest, &text("name")]);
        let mut client = silent(&gateway);
        client.send_bytes(&[bytes, PINGREQ.to_vec()].concat());
        match client.receive(TIMEOUT) {
            // A known name with a level it never had.
            Ok(frame) if name == "MQIsdp" => {
                assert_eq!(frame.bytes(), connack(0, 1));
                assert_closed(&mut client, name);
            }
            Err(Ended::Closed) => {}
            other => panic!("{name:?} was answered: {other:?}"),
        }
    }
}

#[test]
fn mqtt_3_1_2_2_another_protocol_level_is_refused_with_0x01() {
    let gateway = Gateway::start();
    for level in [0, 1, 2, 3, 6, 7, 0x44, 0x84, 0xFF] {
        let bytes = packet(0x10, &[b"\0\x04MQTT", &[level, CLEAN, 0, 60], &text("name")]);
        let mut client = silent(&gateway);
        exchange(&mut client, &bytes, &connack(0, 1));
        assert_closed(&mut client, &format!("level {level}"));
    }
}

#[test]
fn mqtt_3_1_2_3_the_reserved_connect_flag_closes_the_connection() {
    let gateway = Gateway::start();
    for flags in [0x01, 0x03] {
        assert_no_connack(&gateway, &format!("flags {flags:#010b}"), &connect(flags, 0, &["name"]));
    }
    let flags = CLEAN | WILL | USER_NAME | PASSWORD | 0x01;
    assert_no_connack(&gateway, "all flags", &connect(flags, 0, &["name", "will", "x", "user", "password"]));
}

#[test]
fn mqtt_3_1_2_24_silence_of_one_and_a_half_keep_alive_closes_the_connection() {
    let gateway = Gateway::start();
    let began = Instant::now();
    let mut quiet = connected(&gateway, &connect(CLEAN, 1, &["quiet"]));
    let mut slower = connected(&gateway, &connect(CLEAN, 2, &["slower"]));
    let mut forever = connected(&gateway, &connect(CLEAN, 0, &["forever"]));
    // A part of a packet is no packet.
    let mut begins = connected(&gateway, &connect(CLEAN, 1, &["begins"]));
    begins.send_bytes(&publish(PUBLISH_0, "a", 0, "x")[..4]);
    let mut talks = connected(&gateway, &connect(CLEAN, 1, &["talks"]));
    let mut closed = Vec::new();
    while closed.len() < 3 {
        assert!(began.elapsed() < TIMEOUT, "only {closed:?} were closed");
        exchange(&mut talks, &PINGREQ, &PINGRESP);
        for (name, client) in [("quiet", &mut quiet), ("slower", &mut slower), ("begins", &mut begins)] {
            if closed.iter().any(|(closed, _)| *closed == name) {
                continue;
            }
            match client.receive(Duration::from_millis(50)) {
                Err(Ended::Closed) => closed.push((name, began.elapsed())),
                Err(Ended::TimedOut) => {}
                Ok(frame) => panic!("{name} was sent {frame:?}"),
            }
        }
    }
    for (name, after) in closed {
        let (least, most) = if name == "slower" { (2_900, 5_000) } else { (1_400, 3_500) };
        assert!(after >= Duration::from_millis(least), "{name} was closed after {after:?}");
        assert!(after <= Duration::from_millis(most), "{name} was closed after {after:?}");
    }
    exchange(&mut forever, &PINGREQ, &PINGRESP);
}

#[test]
fn mqtt_3_1_3_2_state_belongs_to_the_client_identifier() {
    let gateway = Gateway::start();
    let names = ["device", "Device", "device ", "devic", "device/1", "$device", "+", "\u{e9}", "e\u{301}"];
    for (number, name) in names.iter().enumerate() {
        let (mut client, present) = durable(&gateway, name);
        assert!(!present, "{name:?} finds the state of another");
        client.subscribe(&[(&format!("to/{number}"), QOS1), ("end", QOS1)]);
        client.leave();
    }
    let mut publisher = client(&gateway, "publisher");
    for number in 0..names.len() {
        put(&mut publisher, PUBLISH_1, &format!("to/{number}"), &number.to_string());
    }
    put(&mut publisher, PUBLISH_1, "end", "end");
    for (number, name) in names.iter().enumerate() {
        let (mut client, present) = durable(&gateway, name);
        assert!(present, "{name:?}");
        assert_eq!(payloads(&take_until_end(&mut client)), [number.to_string()], "{name:?}");
    }
}

#[test]
fn mqtt_3_1_3_5_client_identifiers_of_1_to_23_letters_and_digits_are_accepted() {
    let gateway = Gateway::start();
    let allowed = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    for length in 1..=23 {
        for start in [0, 23, 46 - (23 - 7)] {
            let name: String = allowed.chars().cycle().skip(start).take(length).collect();
            connected(&gateway, &connect(CLEAN, 0, &[&name]));
        }
    }
    for character in allowed.chars() {
        connected(&gateway, &connect(0, 0, &[&character.to_string()])).leave();
    }
}

#[test]
fn mqtt_3_1_3_6_clients_without_a_name_are_each_given_their_own() {
    let gateway = Gateway::start();
    let mut clients: Vec<_> = (0..3).map(|_| connected(&gateway, &connect(CLEAN, 0, &[""]))).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        let filter = if number == 0 { "a" } else { "b" };
        exchange(client, &subscribe(1, &[(filter, 1)]), &[0x90, 3, 0, 1, 1]);
    }
    // All of them are connected, and none has what another subscribed to.
    for topic in ["a", "b"] {
        put(&mut clients[0], PUBLISH_1, topic, topic);
    }
    for (number, client) in clients.iter_mut().enumerate() {
        let topic = if number == 0 { "a" } else { "b" };
        assert_eq!(payloads(&take(client, 1)), [topic]);
        assert_nothing_more(client);
    }
}

#[test]
fn mqtt_3_1_3_8_without_a_name_and_without_clean_session_0x02() {
    let gateway = Gateway::start();
    let mut client = silent(&gateway);
    exchange(&mut client, &connect(0, 60, &[""]), &connack(0, 2));
    assert_closed(&mut client, "no name for a Session that is to be kept");
}

#[test]
fn mqtt_3_1_3_9_a_name_that_is_not_taken_is_refused_with_0x02() {
    let gateway = Gateway::start_set(&["mqtt.allow_empty_client_id=false"]);
    let mut client = silent(&gateway);
    exchange(&mut client, &connect(CLEAN, 60, &[""]), &connack(0, 2));
    assert_closed(&mut client, "no name where one is demanded");
}

#[test]
fn mqtt_3_1_4_2_the_older_connection_of_a_client_identifier_is_closed() {
    let gateway = Gateway::start();
    for (old, new) in [(CLEAN, CLEAN), (0, 0), (CLEAN, 0), (0, CLEAN)] {
        let mut first = connected(&gateway, &connect(old, 0, &["same"]));
        exchange(&mut first, &subscribe(1, &[("a", 0)]), &[0x90, 3, 0, 1, 0]);
        let mut second = silent(&gateway);
        let present = u8::from(old == 0 && new == 0);
        exchange(&mut second, &connect(new, 0, &["same"]), &connack(present, 0));
        assert_closed(&mut first, "taken over");
        exchange(&mut second, &PINGREQ, &PINGRESP);
        second.leave();
        client(&gateway, "same").leave();
    }
}

#[test]
fn mqtt_3_1_4_3_clean_session_is_carried_out() {
    let gateway = Gateway::start();
    let mut publisher = client(&gateway, "publisher");
    // What Session there is at each CONNECT: of the one before it, and only if neither was clean.
    let steps = [(false, false), (false, true), (true, false), (false, false), (false, true), (true, false)];
    for (step, (clean, expected)) in steps.into_iter().enumerate() {
        let hello = Hello::durable(V3_1_1, "device").clean_start(clean);
        let (mut device, present) = Client::connect(gateway.mqtt(), &hello);
        assert_eq!(present, expected, "step {step}");
        if !present {
            device.subscribe(&[("end", QOS1)]);
        }
        put(&mut publisher, PUBLISH_1, "kept", "kept");
        put(&mut publisher, PUBLISH_1, "end", "end");
        assert_eq!(take_until_end(&mut device).len(), usize::from(present), "step {step}");
        device.subscribe(&[("kept", QOS1)]);
        device.leave();
    }
}

#[test]
fn mqtt_3_1_4_4_an_accepted_connect_is_answered_with_connack_0() {
    let gateway = Gateway::start();
    let accepted: [(u8, &[&str]); 6] = [
        (CLEAN, &["a"]),
        (0, &["b"]),
        (CLEAN | WILL | WILL_QOS_2 | WILL_RETAIN, &["c", "will", ""]),
        (CLEAN | USER_NAME, &["d", "user"]),
        (CLEAN | USER_NAME | PASSWORD, &["e", "user", "password"]),
        (CLEAN | WILL | USER_NAME | PASSWORD, &["f", "will", "gone", "", ""]),
    ];
    for (flags, fields) in accepted {
        let mut client = connected(&gateway, &connect(flags, 0xFFFF, fields));
        exchange(&mut client, &PINGREQ, &PINGRESP);
        client.leave();
    }
}

#[test]
fn mqtt_3_1_4_5_what_follows_a_refused_connect_is_not_looked_at() {
    let gateway = Gateway::start();
    let refused = [
        (connect(0, 60, &[""]), connack(0, 2)),
        (packet(0x10, &[b"\0\x04MQTT\x06", &[CLEAN, 0, 60], &text("name")]), connack(0, 1)),
    ];
    for (hello, answer) in refused {
        let mut client = silent(&gateway);
        let retained = publish(PUBLISH_1 | RETAIN, "refused", 1, "x");
        let follows = [hello, retained, connect(CLEAN, 60, &["second"]), PINGREQ.to_vec()].concat();
        exchange(&mut client, &follows, &answer);
        assert_closed(&mut client, "refused");
    }
    let mut client = client(&gateway, "");
    client.subscribe(&[("refused", QOS1), ("end", QOS1)]);
    put(&mut client, PUBLISH_1, "end", "end");
    assert!(take_until_end(&mut client).is_empty());
}
