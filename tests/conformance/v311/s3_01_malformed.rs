//! 3.1.4 CONNECT packets that break the format.

use gateway_tests::Gateway;

use super::wire::{
    CLEAN, PASSWORD, USER_NAME, WILL, WILL_QOS_1, WILL_QOS_2, WILL_RETAIN, assert_no_connack, connect,
    connected, packet, text,
};

fn head(flags: u8) -> Vec<u8> {
    [b"\0\x04MQTT\x04".as_slice(), &[flags], b"\0\x3c"].concat()
}

#[test]
fn mqtt_3_1_4_1_a_connect_that_breaks_the_format_is_answered_by_closing_alone() {
    let mut gateway = Gateway::start();
    let name = text("name");
    let malformed: Vec<(&str, Vec<u8>)> = vec![
        ("nothing in it", packet(0x10, &[])),
        ("it ends in the protocol name", packet(0x10, &[b"\0\x04MQ"])),
        ("no level", packet(0x10, &[b"\0\x04MQTT"])),
        ("no flags", packet(0x10, &[b"\0\x04MQTT\x04"])),
        ("half a Keep Alive", packet(0x10, &[b"\0\x04MQTT\x04\x02\0"])),
        ("no Client Identifier", packet(0x10, &[&head(CLEAN)])),
        ("it ends in the Client Identifier", packet(0x10, &[&head(CLEAN), b"\0\x05name"])),
        ("something behind its end", packet(0x10, &[&head(CLEAN), &name, b"\0"])),
        ("a will without the flag", packet(0x10, &[&head(CLEAN), &name, &text("will"), &text("x")])),
        ("Will Flag and no will", packet(0x10, &[&head(CLEAN | WILL), &name])),
        ("Will Flag and no Will Message", packet(0x10, &[&head(CLEAN | WILL), &name, &text("will")])),
        ("User Name Flag and no User Name", packet(0x10, &[&head(CLEAN | USER_NAME), &name])),
        ("a User Name without the flag", packet(0x10, &[&head(CLEAN), &name, &text("user")])),
        (
            "Password Flag and no password",
            packet(0x10, &[&head(CLEAN | USER_NAME | PASSWORD), &name, &text("user")]),
        ),
        (
            "a password without the flag",
            packet(0x10, &[&head(CLEAN | USER_NAME), &name, &text("user"), &text("password")]),
        ),
        ("a password and no User Name", packet(0x10, &[&head(CLEAN | PASSWORD), &name, &text("password")])),
        (
            "a password and no User Name Flag",
            packet(0x10, &[&head(CLEAN | PASSWORD), &name, &text("user"), &text("password")]),
        ),
        ("Will QoS 1 without a will", packet(0x10, &[&head(CLEAN | WILL_QOS_1), &name])),
        ("Will QoS 2 without a will", packet(0x10, &[&head(CLEAN | WILL_QOS_2), &name])),
        ("Will Retain without a will", packet(0x10, &[&head(CLEAN | WILL_RETAIN), &name])),
        (
            "Will QoS 3",
            packet(0x10, &[&head(CLEAN | WILL | WILL_QOS_1 | WILL_QOS_2), &name, &text("will"), &text("x")]),
        ),
        ("a Will Topic with a wildcard", connect(CLEAN | WILL, 60, &["name", "will/+", "x"])),
        ("an empty Will Topic", connect(CLEAN | WILL, 60, &["name", "", "x"])),
    ];
    for (what, bytes) in malformed {
        assert_no_connack(&gateway, what, &bytes);
    }
    gateway.assert_alive();
}

#[test]
fn mqtt_3_1_4_1_every_connect_that_is_cut_short_is_answered_by_closing_alone() {
    let mut gateway = Gateway::start();
    let flags = CLEAN | WILL | WILL_QOS_1 | USER_NAME | PASSWORD;
    let whole = connect(flags, 60, &["name", "will", "gone", "user", "password"]);
    for length in 0..whole.len() - 2 {
        let bytes = packet(0x10, &[&whole[2..2 + length]]);
        assert_no_connack(&gateway, &format!("cut to {length} bytes"), &bytes);
    }
    connected(&gateway, &whole);
    gateway.assert_alive();
}
