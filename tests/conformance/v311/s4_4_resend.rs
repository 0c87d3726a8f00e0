//! 4.4 Message delivery retry.

use gateway_protocol::packet::Packet;
use gateway_tests::{Client, Gateway, Message};

use super::wire::{
    PUBCOMP, PUBLISH_1, PUBLISH_2, ack, assert_nothing_more, client, complete, durable, id_of, put,
    receive_release,
};
use crate::QOS2;

/// Messages by payload and identifier, and identifiers of PUBREL, as they come until `end` does.
fn resent(device: &mut Client, publisher: &mut Client) -> (Vec<Message>, Vec<u16>) {
    put(publisher, PUBLISH_1, "a", "end");
    let (mut messages, mut releases) = (Vec::new(), Vec::new());
    loop {
        let frame = device.next_packet();
        match frame.packet() {
            Packet::Publish(publish) => {
                let message = Message::from(&publish);
                if message.payload == "end" {
                    complete(device, &message);
                    return (messages, releases);
                }
                messages.push(message);
            }
            Packet::PubRel(ack) => releases.push(ack.packet_id.get()),
            other => panic!("neither PUBLISH nor PUBREL: {other:?}"),
        }
    }
}

#[test]
fn mqtt_4_4_0_1_what_is_unacknowledged_is_sent_again_with_its_identifier() {
    let mut gateway = Gateway::start();
    let mut publisher = client(&gateway, "publisher");
    let (mut device, _) = durable(&gateway, "device");
    device.subscribe(&[("a", QOS2)]);
    for number in 0..12 {
        let first = if number % 2 == 0 { PUBLISH_1 } else { PUBLISH_2 };
        put(&mut publisher, first, "a", &number.to_string());
    }
    let sent: Vec<_> = (0..12).map(|_| device.message()).collect();
    // QoS 1: 0 and 8 are acknowledged. QoS 2: 3 is complete, 5 and 11 are received and not complete.
    for at in [0, 8, 3] {
        complete(&mut device, &sent[at]);
    }
    for at in [5, 11] {
        receive_release(&mut device, &sent[at]);
    }
    device.ping();
    let expected: Vec<_> = [1, 2, 4, 6, 7, 9, 10].map(|at: usize| &sent[at]).into_iter().collect();
    let released = [id_of(&sent[5]), id_of(&sent[11])];
    for round in 0..4 {
        drop(device);
        if round == 2 {
            gateway.terminate();
            gateway.restart();
            publisher = client(&gateway, "publisher");
        }
        let present;
        (device, present) = durable(&gateway, "device");
        assert!(present);
        let (messages, releases) = resent(&mut device, &mut publisher);
        assert_eq!(messages.len(), expected.len(), "round {round}: {messages:?}");
        for (again, sent) in messages.iter().zip(&expected) {
            assert_eq!(
                (&again.payload, &again.topic, again.packet_id, again.qos, again.dup),
                (&sent.payload, &sent.topic, sent.packet_id, sent.qos, true)
            );
        }
        assert_eq!(releases, released, "round {round}");
    }
    for message in &expected {
        complete(&mut device, message);
    }
    for id in released {
        device.send_bytes(&ack(PUBCOMP, id));
    }
    device.ping();
    device.leave();
    let (mut device, _) = durable(&gateway, "device");
    assert_eq!(resent(&mut device, &mut publisher), (Vec::new(), Vec::new()));
}

#[test]
fn mqtt_4_4_0_1_nothing_is_sent_again_while_the_connection_stands() {
    let gateway = Gateway::start();
    let mut publisher = client(&gateway, "publisher");
    let (kept, _) = durable(&gateway, "kept");
    for mut subscriber in [client(&gateway, "clean"), kept] {
        subscriber.subscribe(&[("a", QOS2)]);
        put(&mut publisher, PUBLISH_1, "a", "one");
        put(&mut publisher, PUBLISH_2, "a", "two");
        let [one, two] = [subscriber.message(), subscriber.message()];
        let began = std::time::Instant::now();
        while began.elapsed() < std::time::Duration::from_secs(2) {
            let idle = subscriber.receive(std::time::Duration::from_millis(500));
            assert_eq!(idle.err(), Some(gateway_tests::Ended::TimedOut));
        }
        complete(&mut subscriber, &one);
        complete(&mut subscriber, &two);
        assert_nothing_more(&mut subscriber);
        subscriber.leave();
    }
}
