use super::*;
use crate::registry::{Limits, Registry};
use gateway_protocol::ReasonCode;

fn at(ended_ms: u64, cause: Cause) -> Past {
    Past { since_ms: 1, first_ms: ended_ms, ended_ms, count: 1, address: None.into(), cause }
}

#[test]
fn an_address_survives_being_made_small() {
    for text in ["127.0.0.1:1883", "[2001:db8::1]:9", "10.255.0.1:65535"] {
        let address: SocketAddr = text.parse().unwrap();
        assert_eq!(Address::from(Some(address)).get(), Some(address));
    }
    assert_eq!(Address::from(None).get(), None);
    assert_eq!(size_of::<Present>(), 32, "it is paid for each connection");
}

#[test]
fn a_client_that_flaps_keeps_its_past_and_that_of_others() {
    let mut history = History::new(1 << 20);
    history.record("calm", at(0, Cause::Left));
    history.record("flapping", at(1, Cause::Closed(ReasonCode::KeepAliveTimeout)));
    for number in 0..10_000 {
        history.record("flapping", at(100_000 + number * 1000, Cause::Lost));
    }
    let pasts: Vec<_> = history.of("flapping").copied().collect();
    assert_eq!(pasts.len(), 2, "what follows closely is one");
    assert_eq!(pasts[0].cause, Cause::Closed(ReasonCode::KeepAliveTimeout));
    assert_eq!((pasts[1].first_ms, pasts[1].ended_ms, pasts[1].count), (100_000, 10_099_000, 10_000));
    assert_eq!(history.of("calm").count(), 1);
    for number in 0..100 {
        history.record("flapping", at(20_000_000 + number * 60_000, Cause::Lost));
    }
    assert_eq!(history.of("flapping").count(), 8);
}

#[test]
fn it_is_bounded_in_bytes_and_forgets_who_went_longest_ago() {
    let mut history = History::new(64 << 10);
    for number in 0..10_000_u64 {
        history.record(&format!("device-{number}"), at(number, Cause::Lost));
        history.record("returning", at(number * 61_000, Cause::Lost));
    }
    assert!(history.bytes() <= 64 << 10);
    assert!((100..400).contains(&history.clients().count()), "{}", history.clients().count());
    assert_eq!(history.of("device-0").count(), 0);
    assert_eq!(history.of("device-9999").count(), 1);
    assert_eq!(history.of("returning").count(), 8);
    history.record(&"x".repeat(70 << 10), at(0, Cause::Lost));
    assert_eq!(history.clients().count(), 0, "what is larger than all that may be is not kept");
    assert_eq!(history.bytes(), 0);
}

#[tokio::test]
async fn who_is_here_is_listed_in_order_and_who_left_is_remembered() {
    let (registry, presence) = (Registry::new(Limits::total(10)), Presence::default());
    let mut claims = Vec::new();
    for name in ["b", "a", "c", "B2"] {
        let claim = registry.claim(name).await.unwrap();
        let present = Present { since_ms: 5, address: None.into(), keep_alive_secs: 60, version: 5 };
        presence.arrived(claim.seat.clone(), present);
        claims.push(claim);
    }
    let names = |page: Vec<(Arc<str>, Present)>| -> Vec<String> {
        page.iter().map(|(name, _)| name.to_string()).collect()
    };
    assert_eq!(names(presence.page(None, 9, |_| true)), ["B2", "a", "b", "c"]);
    assert_eq!(names(presence.page(Some("a"), 1, |_| true)), ["b"]);
    assert_eq!(names(presence.page(None, 9, |name| name.contains('2'))), ["B2"]);
    presence.departed("b", Cause::Closed(ReasonCode::AdministrativeAction), 9);
    presence.refused("b", Cause::Refused(ReasonCode::ServerBusy), None, 12);
    assert!(presence.get("b").is_none() && presence.seat("b").is_none());
    let history = presence.history("b");
    assert_eq!(
        history.iter().map(|past| past.cause.reason()).collect::<Vec<_>>(),
        ["server_busy", "administrative_action"]
    );
    assert_eq!((history[1].since_ms, history[1].ended_ms), (5, 9));
    assert_eq!(presence.last_end("b").unwrap().cause.by(), "gateway");
    presence.seat("a").unwrap().ask_to_close(ReasonCode::AdministrativeAction);
    assert_eq!(claims[1].seat.close_asked(), Some(ReasonCode::AdministrativeAction));
}
