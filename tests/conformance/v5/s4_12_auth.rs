//! Section 4.12, enhanced authentication, which this server does not offer.

use gateway_protocol::packet::Packet;
use gateway_protocol::{PacketType, Property};
use gateway_tests::{Client, Gateway, Hello, ReasonCode, TIMEOUT};

use super::support::{announced, answer_to, connect, packet, properties, text};
use crate::{QOS1, V5};

#[test]
fn mqtt_4_12_0_1_an_authentication_method_is_refused() {
    let gateway = Gateway::start();
    for method in ["SCRAM-SHA-1", "GS2-KRB5", "x", ""] {
        for data in [None, Some(&b"data"[..])] {
            let mut hello = Hello::new(V5, "c").with(Property::AuthenticationMethod(method));
            if let Some(data) = data {
                hello = hello.with(Property::AuthenticationData(data));
            }
            // Even if it goes on as if it were under way.
            let auth = packet(0xF0, &[&[0x18], &properties(&[&[0x15], &text(method)])]);
            for bytes in [hello.bytes(), [hello.bytes(), auth].concat()] {
                let answer = answer_to(&gateway, &bytes);
                let code = ReasonCode::BadAuthenticationMethod.as_u8();
                assert_eq!(answer[..4], [0x20, 3, 0, code], "{method:?}: {answer:02x?}");
                assert_eq!(answer.len(), 5, "{method:?}: closed behind it: {answer:02x?}");
            }
        }
    }
}

#[test]
fn mqtt_4_12_0_6_without_a_method_there_is_no_auth() {
    let gateway = Gateway::start();
    for hello in [Hello::new(V5, "live"), Hello::durable(V5, "durable")] {
        let (mut client, connack) = connect(&gateway, &hello);
        assert_eq!(announced(&connack).authentication_method(), None);
        assert_eq!(announced(&connack).authentication_data(), None);
        client.subscribe(&[("t", QOS1)]);
        client.publish("t", "x", QOS1);
        client.send(&Packet::PingReq);
        loop {
            let frame = client.next_packet();
            assert_ne!(frame.packet().packet_type(), PacketType::Auth);
            if matches!(frame.packet(), Packet::PingResp) {
                break;
            }
        }
    }
}

#[test]
fn mqtt_4_12_1_2_a_re_authentication_fails_and_closes() {
    let gateway = Gateway::start();
    for code in [0x00, 0x18, 0x19] {
        let mut client = Client::connect(gateway.mqtt(), &Hello::new(V5, "c")).0;
        client.send_bytes(&packet(0xF0, &[&[code], &properties(&[&[0x15], &text("SCRAM-SHA-1")])]));
        assert_eq!(client.await_close(TIMEOUT), Some(ReasonCode::ProtocolError), "{code:#04x}");
    }
}
