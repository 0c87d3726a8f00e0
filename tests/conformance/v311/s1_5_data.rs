//! 1.5.3 UTF-8 encoded strings.

use gateway_tests::Gateway;

use super::wire::{
    CLEAN, PINGREQ, PINGRESP, PUBLISH_0, PUBLISH_1, USER_NAME, WILL, assert_no_connack, assert_offends,
    client, connack, connect, connected, exchange, expect, packet, publish, silent, subscribe, text,
    unsubscribe,
};

/// What is no UTF-8: surrogates, overlong forms, past U+10FFFF, cut off, and bytes that begin nothing.
const ILL_FORMED: [&[u8]; 13] = [
    b"a\xED\xA0\x80",
    b"\xED\xAF\xBF\xED\xB0\x80",
    b"\xED\xBF\xBFa",
    b"\xC0\x80",
    b"\xC1\xBF",
    b"\xE0\x80\xAF",
    b"\xF0\x80\x80\xAF",
    b"\xF4\x90\x80\x80",
    b"\xF5\x80\x80\x80",
    b"a\xE2\x82",
    b"\xE2a",
    b"a\x80b",
    b"\xFF",
];

/// Every packet of a client that has a string in it, with `string` there. True for those that are a CONNECT.
fn packets_with(string: &[u8]) -> Vec<(&'static str, bool, Vec<u8>)> {
    let string = text(string);
    let head = |flags: u8| [b"\0\x04MQTT\x04".as_slice(), &[flags | CLEAN], b"\0\x3c"].concat();
    let name = text("name");
    vec![
        ("a Client Identifier", true, packet(0x10, &[&head(0), &string])),
        ("a Will Topic", true, packet(0x10, &[&head(WILL), &name, &string, &text("payload")])),
        ("a User Name", true, packet(0x10, &[&head(USER_NAME), &name, &string])),
        ("a Topic Name at QoS 0", false, packet(PUBLISH_0, &[&string, b"payload"])),
        ("a Topic Name at QoS 1", false, packet(PUBLISH_1, &[&string, &[0, 1], b"payload"])),
        ("a Topic Filter", false, packet(0x82, &[&[0, 1], &string, &[0]])),
        ("the last Topic Filter", false, packet(0x82, &[&[0, 1], &text("a"), &[0], &string, &[0]])),
        ("a Topic Filter not wanted any more", false, packet(0xA2, &[&[0, 1], &string])),
    ]
}

fn assert_each_closes(strings: &[&[u8]]) {
    let mut gateway = Gateway::start();
    for string in strings {
        for (place, is_connect, bytes) in packets_with(string) {
            let what = format!("{string:02x?} as {place}");
            match is_connect {
                true => assert_no_connack(&gateway, &what, &bytes),
                false => assert_offends(&gateway, &what, &bytes),
            }
        }
    }
    gateway.assert_alive();
}

#[test]
fn the_packets_of_this_section_are_fine_but_for_the_string() {
    let gateway = Gateway::start();
    for (place, is_connect, bytes) in packets_with("good".as_bytes()) {
        let mut client = if is_connect { silent(&gateway) } else { client(&gateway, "") };
        client.send_bytes(&bytes);
        if is_connect {
            expect(&mut client, &connack(0, 0));
        }
        client.send_bytes(&PINGREQ);
        client.await_frame(place, |packet| matches!(packet, gateway_protocol::packet::Packet::PingResp));
    }
}

#[test]
fn mqtt_1_5_3_1_ill_formed_utf_8_closes_the_connection() {
    assert_each_closes(&ILL_FORMED);
}

#[test]
fn mqtt_1_5_3_1_well_formed_utf_8_of_every_length_comes_out_as_it_went_in() {
    let gateway = Gateway::start();
    // The first and the last code point of one, two, three and four bytes, and both sides of the surrogates.
    let topic = "\u{1}/\u{7F}/\u{80}/\u{7FF}/\u{800}/\u{D7FF}/\u{E000}/\u{FFFD}/\u{10000}/\u{10FFFF}";
    let mut client = client(&gateway, "");
    exchange(&mut client, &subscribe(1, &[(topic, 0)]), &[0x90, 3, 0, 1, 0]);
    let message = publish(PUBLISH_0, topic, 0, "x");
    exchange(&mut client, &message, &message);
}

#[test]
fn mqtt_1_5_3_2_u_0000_closes_the_connection() {
    assert_each_closes(&[b"\0", b"\0a", b"a\0b", b"a/\0"]);
}

#[test]
fn mqtt_1_5_3_3_a_byte_order_mark_is_a_character_like_any_other() {
    let gateway = Gateway::start();
    let mut client = client(&gateway, "");
    let (marked, inside) = ("\u{FEFF}a/b", "a\u{FEFF}/b");
    for filter in ["a/b", marked, inside] {
        exchange(&mut client, &subscribe(7, &[(filter, 1)]), &[0x90, 3, 0, 7, 1]);
    }
    // Each is delivered once, for the one filter that has the same characters, and with its own bytes.
    for topic in ["a/b", marked, inside] {
        let message = publish(PUBLISH_0, topic, 0, "x");
        exchange(&mut client, &message, &message);
    }
    exchange(&mut client, &unsubscribe(8, &["a/b"]), &[0xB0, 2, 0, 8]);
    client.send_bytes(&publish(PUBLISH_0, "a/b", 0, "x"));
    let message = publish(PUBLISH_0, marked, 0, "x");
    exchange(&mut client, &message, &message);
    // In a Client Identifier too: these two are not the same client.
    let mut plain = connected(&gateway, &connect(CLEAN, 0, &["twin"]));
    let mut marked = connected(&gateway, &connect(CLEAN, 0, &["\u{FEFF}twin"]));
    exchange(&mut plain, &PINGREQ, &PINGRESP);
    exchange(&mut marked, &PINGREQ, &PINGRESP);
}
