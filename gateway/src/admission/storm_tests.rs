use super::*;

const HERE: IpAddr = IpAddr::V4(core::net::Ipv4Addr::LOCALHOST);

fn options() -> StormOptions {
    StormOptions {
        connects: Rate::per_second(100),
        address_connects: Rate::per_second(50),
        flap_connects: 10,
        flap_hold_off_ms: 30_000,
    }
}

fn address(number: u32) -> IpAddr {
    IpAddr::V4(core::net::Ipv4Addr::from_bits(0x0a00_0000 + number))
}

#[test]
fn one_address_is_held_to_its_rate_and_all_together_to_theirs() {
    let mut storm = Storm::new(options(), 0);
    for _ in 0..50 {
        assert_eq!(storm.offer(0, HERE, Level::Normal), Ok(()));
    }
    assert_eq!(storm.offer(0, HERE, Level::Normal).unwrap_err().reason, Reason::AddressConnectRate);
    for number in 0..50 {
        assert_eq!(storm.offer(0, address(number), Level::Normal), Ok(()));
    }
    assert_eq!(storm.offer(0, address(99), Level::Normal).unwrap_err().reason, Reason::ConnectRate);
    assert_eq!(storm.offer(10, address(99), Level::Normal), Ok(()));
}

#[test]
fn under_pressure_fewer_are_let_in() {
    let admitted = |level| {
        let mut storm = Storm::new(StormOptions { address_connects: None, ..options() }, 0);
        (0..10_000).step_by(5).filter(|now| storm.offer(*now, HERE, level).is_ok()).count()
    };
    let by_level = Level::ALL.map(admitted);
    // A burst of one second, and ten seconds.
    for (level, (count, expected)) in by_level.into_iter().zip([1100, 1100, 550, 275, 138, 138]).enumerate() {
        assert!(count.abs_diff(expected) <= 60, "L{level}: {count}");
    }
    let mut storm = Storm::new(options(), 0);
    let refused = (0..200).find_map(|number| storm.offer(0, address(number), Level::Throttle).err());
    assert_eq!(refused.map(|later| later.reason), Some(Reason::ConnectsPaced));
}

#[test]
fn those_who_are_refused_at_once_are_told_different_times() {
    let mut storm = Storm::new(options(), 0);
    let told: Vec<u64> = (0..5_000)
        .filter_map(|number| storm.offer(0, address(number), Level::Normal).err())
        .map(|later| later.retry_after_ms)
        .collect();
    assert_eq!(told.len(), 4_900);
    assert!(told.is_sorted() && told.iter().all(|ms| *ms <= 60_000));
    // In each second as many as the gateway takes in a second.
    for second in 1..48 {
        let count = told.iter().filter(|ms| **ms / 1000 == second).count();
        assert!((99..=101).contains(&count), "{second}: {count}");
    }
}

#[test]
fn fifteen_thousand_that_do_as_they_are_told_are_in_within_twenty_seconds() {
    let options = StormOptions {
        connects: Rate::per_second(1_000),
        address_connects: Rate::per_second(1_000),
        ..options()
    };
    let mut storm = Storm::new(options, 0);
    let mut due: std::collections::BTreeSet<(u64, u32)> = (0..15_000).map(|client| (0, client)).collect();
    let mut attempts = 0;
    let mut last = 0;
    while let Some((now, client)) = due.pop_first() {
        attempts += 1;
        match storm.offer(now, HERE, Level::Normal) {
            Ok(()) => last = now,
            Err(later) => {
                due.insert((now + later.retry_after_ms.max(1), client));
            }
        }
    }
    assert!(last <= 20_000, "{last} ms");
    assert!(attempts <= 45_000, "{attempts} attempts");
}

#[test]
fn a_client_that_comes_and_goes_is_held_off_and_not_for_longer_when_it_insists() {
    let mut storm = Storm::new(options(), 0);
    let come = |storm: &mut Storm, now| storm.greet(now, "flapper", true, Level::Normal);
    for now in 0..10 {
        assert_eq!(come(&mut storm, now), Ok(()));
    }
    for now in (10..30_010).step_by(1_000) {
        let later = come(&mut storm, now).unwrap_err();
        assert_eq!((later.reason, later.retry_after_ms), (Reason::Flapping, 30_010 - now));
    }
    assert_eq!(storm.greet(100, "somebody else", true, Level::Normal), Ok(()));
    for now in 30_010..30_015 {
        assert_eq!(come(&mut storm, now), Ok(()), "{now}");
    }
    assert!(come(&mut storm, 30_015).is_err(), "half of what it had");
    // One that comes every seven seconds never meets it.
    for now in (200_000..800_000).step_by(7_000) {
        assert_eq!(come(&mut storm, now), Ok(()));
    }
    let mut unlimited = Storm::new(StormOptions { flap_connects: 0, ..options() }, 0);
    assert!((0..1_000).all(|now| come(&mut unlimited, now).is_ok()));
}

#[test]
fn from_l4_on_those_who_have_a_session_come_back_and_others_do_not() {
    for level in Level::ALL {
        let mut storm = Storm::new(options(), 0);
        assert_eq!(storm.greet(0, "known", true, level), Ok(()));
        let refused = storm.greet(0, "new", false, level).err().map(|later| later.reason);
        assert_eq!(refused, (level >= Level::Protect).then_some(Reason::NoNewSessions), "{level:?}");
    }
}

#[test]
fn what_a_client_is_told_are_seconds() {
    let later = Later { reason: Reason::ConnectRate, retry_after_ms: 6_001 };
    assert_eq!(later.words(), "connect_rate: connect again in 7 s");
    assert_eq!(Later { retry_after_ms: 0, ..later }.words(), "connect_rate: connect again in 1 s");
}

#[test]
fn an_address_of_ipv6_is_its_first_half() {
    let site_of = |text: &str| site(text.parse().unwrap());
    assert_eq!(site_of("2001:db8::1"), site_of("2001:db8::ffff:1:2"));
    assert_ne!(site_of("2001:db8::1"), site_of("2001:db8:0:1::1"));
    assert_eq!(site_of("::ffff:10.0.0.1"), site_of("10.0.0.1"));
    assert_ne!(site_of("10.0.0.1"), site_of("10.0.0.2"));
}

#[test]
fn keep_alives_are_spread_and_stay_in_bounds() {
    let told: Vec<u16> =
        (0..1_000).map(|number| jittered_keep_alive(60, &format!("device-{number}"))).collect();
    assert!(told.iter().all(|secs| (48..=60).contains(secs)));
    for secs in 48..=60 {
        let count = told.iter().filter(|told| **told == secs).count();
        assert!(count >= 20, "{secs}: {count}");
    }
    assert_eq!(jittered_keep_alive(60, "a"), jittered_keep_alive(60, "a"));
    assert_eq!((jittered_keep_alive(0, "a"), jittered_keep_alive(1, "a")), (0, 1));
    assert!(jittered_keep_alive(u16::MAX, "a") >= u16::MAX / 5 * 4);
}
