//! 3.9 SUBACK.

use gateway_tests::Gateway;

use super::wire::{client, durable, exchange, packet, subscribe};

/// Filters that are granted, refused, and repeated.
const FILTERS: [(&str, u8); 9] = [
    ("a", 2),
    ("b", 0),
    ("$consumer/none", 2),
    ("c/#", 1),
    ("b", 1),
    ("$stream/none/earliest/#", 1),
    ("+", 0),
    ("d/+/e", 2),
    ("$stream/telemetry/nonsense/#", 0),
];
const CODES: [u8; 9] = [2, 0, 0x80, 1, 1, 0x80, 0, 2, 0x80];

#[test]
fn mqtt_3_9_3_1_return_codes_are_in_the_order_of_the_filters() {
    let gateway = Gateway::start();
    let (kept, _) = durable(&gateway, "kept");
    for mut subscriber in [client(&gateway, "clean"), kept] {
        for turn in 0..FILTERS.len() {
            let (mut filters, mut codes) = (FILTERS, CODES);
            filters.rotate_left(turn);
            codes.rotate_left(turn);
            let expected = packet(0x90, &[&[0, 9], &codes]);
            exchange(&mut subscriber, &subscribe(9, &filters), &expected);
        }
    }
}

#[test]
fn mqtt_3_8_4_5_there_is_one_return_code_for_each_filter() {
    let gateway = Gateway::start();
    let mut subscriber = client(&gateway, "");
    let names: Vec<String> = (0..300).map(|number| format!("filter/{number}")).collect();
    for count in [1, 2, 127, 128, 300] {
        let filters: Vec<_> = names[..count].iter().zip([0, 1, 2].into_iter().cycle()).collect();
        let filters: Vec<_> = filters.into_iter().map(|(name, qos)| (&**name, qos)).collect();
        let codes: Vec<_> = filters.iter().map(|(_, qos)| *qos).collect();
        exchange(&mut subscriber, &subscribe(9, &filters), &packet(0x90, &[&[0, 9], &codes]));
    }
    // Past the limit of what one client may subscribe to, and with a QoS that is not offered.
    let gateway = Gateway::start_set(&["admission.max_subscriptions_per_client=2", "mqtt.max_qos=1"]);
    let mut subscriber = client(&gateway, "");
    let filters = subscribe(9, &[("a", 2), ("b", 0), ("c", 1), ("a", 1), ("d", 0)]);
    exchange(&mut subscriber, &filters, &[0x90, 7, 0, 9, 1, 0, 0x80, 1, 0x80]);
}

#[test]
fn mqtt_3_9_3_2_no_other_return_codes_are_used() {
    // Everything that a filter can be refused for, each with a Reason Code of its own in MQTT 5.
    let gateway = Gateway::start_set(&[
        "mqtt.wildcard_subscription_available=false",
        "mqtt.shared_subscription_available=false",
        "admission.max_subscriptions_per_client=2",
    ]);
    let mut subscriber = client(&gateway, "");
    let deep = "a/".repeat(100) + "a";
    let refused =
        ["#", "$share/group/a", "$consumer/none", "$stream/none/earliest/#", "$stream/telemetry/nonsense/a"];
    for filter in refused {
        exchange(&mut subscriber, &subscribe(9, &[(filter, 2)]), &[0x90, 3, 0, 9, 0x80]);
    }
    exchange(&mut subscriber, &subscribe(9, &[("a", 0), (&deep, 1)]), &[0x90, 4, 0, 9, 0, 1]);
    exchange(&mut subscriber, &subscribe(9, &[("c", 0), ("a", 2)]), &[0x90, 4, 0, 9, 0x80, 2]);
    // Levels past what matching goes down to.
    let deep = "a/".repeat(200) + "a";
    let gateway = Gateway::start();
    let mut subscriber = client(&gateway, "");
    let answer = |subscriber: &mut gateway_tests::Client, filter: &str| {
        subscriber.send_bytes(&subscribe(9, &[(filter, 1)]));
        subscriber.next_packet().bytes()[4]
    };
    for filter in
        ["a", "a/#", "$share/group/a", "$share/group/#", "$stream/telemetry/latest/#", &(deep + "/#")]
    {
        let code = answer(&mut subscriber, filter);
        assert!(matches!(code, 0 | 1 | 2 | 0x80), "{filter}: {code:#04x}");
    }
}
