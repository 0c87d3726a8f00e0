use super::*;
use crate::config::Config;

fn limits() -> Limits {
    let mut config = Config::default().admission;
    config.max_payload_bytes = 100;
    config.max_filter_levels = 3;
    config.max_subscriptions_per_client = 2;
    Limits::new(&config)
}

#[test]
fn what_is_at_a_limit_is_taken_and_what_is_over_it_is_not() {
    let limits = limits();
    assert_eq!(limits.check_payload(0), Ok(()));
    assert_eq!(limits.check_payload(100), Ok(()));
    assert_eq!(limits.check_payload(101), Err(Reason::PayloadTooLarge));
    assert_eq!(limits.check_filter("a/+/#"), Ok(()));
    assert_eq!(limits.check_filter("//"), Ok(()));
    assert_eq!(limits.check_filter("a/+/b/#"), Err(Reason::FilterTooDeep));
    assert_eq!(limits.check_subscriptions(1), Ok(()));
    assert_eq!(limits.check_subscriptions(2), Err(Reason::MaxSubscriptions));
}

#[test]
fn by_default_there_are_limits_and_no_rates() {
    let limits = Limits::new(&Config::default().admission);
    assert!(limits.client.is_unlimited());
    assert!(limits.storm.connects.is_some() && limits.storm.address_connects.is_some());
    assert_eq!(limits.connections, 100_000);
    assert_eq!(limits.connections_per_address, 50_000);
    assert_eq!(limits.handshakes, 4_096);
    assert!(Rates::of_listener(&Config::default().listeners[0]).is_unlimited());
}

fn throttle(events: u64, bytes: u64, scope: Scope) -> Throttle {
    let rates = Rates { events: Rate::per_second(events), bytes: Rate::per_second(bytes) };
    Throttle::new(rates, scope, 0)
}

#[test]
fn each_rate_has_a_reason_of_its_own() {
    for (scope, events, bytes) in [
        (Scope::Client, Reason::ClientEventRate, Reason::ClientByteRate),
        (Scope::Listener, Reason::ListenerEventRate, Reason::ListenerByteRate),
    ] {
        let mut throttle_events = throttle(10, 0, scope);
        for _ in 0..10 {
            assert_eq!(throttle_events.take(0, 1_000_000), Ok(()));
        }
        assert_eq!(throttle_events.take(0, 1), Err(TooFast { reason: events, wait_ms: 100 }));
        assert_eq!(throttle_events.take(100, 1), Ok(()));

        let mut throttle_bytes = throttle(0, 1_000, scope);
        assert_eq!(throttle_bytes.take(0, 1_000), Ok(()));
        assert_eq!(throttle_bytes.take(0, 1), Err(TooFast { reason: bytes, wait_ms: 1 }));
        assert_eq!(throttle_bytes.take(500, 500), Ok(()));
    }
}

#[test]
fn what_one_rate_refuses_is_not_charged_to_the_other() {
    let mut both = throttle(10, 1_000, Scope::Client);
    assert_eq!(both.take(0, 1_000), Ok(()));
    for _ in 0..100 {
        assert_eq!(both.take(0, 100).unwrap_err().reason, Reason::ClientByteRate);
    }
    for _ in 0..9 {
        assert_eq!(both.take(0, 0), Ok(()));
    }
    assert_eq!(both.take(0, 0).unwrap_err().reason, Reason::ClientEventRate);
}

#[test]
fn what_is_over_a_rate_is_delayed_refused_or_disconnected_as_configured() {
    let judge = |qos, over_rate, can_refuse| {
        let mut throttle = throttle(1, 0, Scope::Client);
        assert_eq!(throttle.judge(0, 1, qos, over_rate, can_refuse), None, "within it");
        throttle.judge(0, 1, qos, over_rate, can_refuse).unwrap()
    };
    let reason = Reason::ClientEventRate;
    let late = Judgement::TakeLate { wait_ms: 1_000, reason };
    for can_refuse in [false, true] {
        assert_eq!(judge(QoS::AtMostOnce, OverRate::Delay, can_refuse), Judgement::Shed(reason));
        assert_eq!(judge(QoS::AtMostOnce, OverRate::Refuse, can_refuse), Judgement::Shed(reason));
        for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
            assert_eq!(judge(qos, OverRate::Delay, can_refuse), late);
            let refused = if can_refuse { Judgement::Refuse(reason) } else { late };
            assert_eq!(judge(qos, OverRate::Refuse, can_refuse), refused);
            assert_eq!(judge(qos, OverRate::Disconnect, can_refuse), Judgement::Disconnect(reason));
        }
        assert_eq!(judge(QoS::AtMostOnce, OverRate::Disconnect, can_refuse), Judgement::Disconnect(reason));
    }
}

#[test]
fn a_client_that_is_held_to_its_rate_gets_that_and_no_more() {
    let mut throttle = throttle(100, 0, Scope::Client);
    let (mut now, mut acknowledged) = (0, 0);
    // It sends the next when the one before is acknowledged.
    while now < 60_000 {
        let wait_ms = match throttle.judge(now, 10, QoS::AtLeastOnce, OverRate::Delay, true) {
            Some(Judgement::TakeLate { wait_ms, .. }) => wait_ms,
            _ => 0,
        };
        assert!(wait_ms <= LATE_MS_MAX);
        now += wait_ms;
        acknowledged += 1;
    }
    assert!((6_000..=6_110).contains(&acknowledged), "{acknowledged}");
}

#[test]
fn what_a_client_can_be_told_is_legal_where_it_is_told() {
    // CONNACK.
    for reason in [
        Reason::MaxConnections,
        Reason::AddressConnections,
        Reason::ListenerConnections,
        Reason::Handshakes,
        Reason::ConnectRate,
        Reason::AddressConnectRate,
        Reason::ConnectsPaced,
        Reason::NoNewSessions,
        Reason::Flapping,
    ] {
        assert!(matches!(reason_code(reason).as_u8(), 0x89 | 0x97 | 0x9f), "{reason:?}");
    }
    // PUBACK and PUBREC.
    for reason in [Reason::PayloadTooLarge, Reason::RetainedFull, Reason::TooLarge, Reason::LogFull] {
        assert_eq!(reason_code(reason).as_u8(), 0x97);
    }
    // SUBACK.
    assert_eq!(reason_code(Reason::FilterTooDeep).as_u8(), 0x8f);
    assert_eq!(reason_code(Reason::MaxSubscriptions).as_u8(), 0x97);
    // DISCONNECT.
    assert_eq!(reason_code(Reason::SlowSubscriber).as_u8(), 0x97);
    assert_eq!(reason_code(Reason::Offender).as_u8(), 0x97);
    assert_eq!(reason_code(Reason::ClientEventRate).as_u8(), 0x96);
}
