use super::*;
use crate::plan::Plan;
use crate::report::gateway::{Reading, Tally};
use crate::shared::Shared;
use crate::shared::series::GatewaySample;

const SCENARIO: &str = r#"
    [fleet]
    devices = 20
    rate = 10
    [[cohort]]
    name = "critical"
    share = 1
    [[cohort]]
    name = "normal"
    share = 1
    [[subscriber]]
    name = "archive"
    filter = "devices/#"
    [[phase]]
    name = "rated"
    kind = "steady"
    duration = "10s"
    [[phase]]
    name = "too much"
    kind = "hog"
    duration = "10s"
    [[phase]]
    name = "over"
    kind = "steady"
    duration = "30s"
    [run]
    [expect]
    given_up = 5
    books = true
    memory = 0.5
    level = 2
    [[expect.phase]]
    phase = "too much"
    of = "rated"
    goodput = 0.9
    cohort = "critical"
    puback_p99 = 2
    calm_after = "5s"
    hogs_named = "1s"
"#;

/// Three seconds of each phase: what is delivered per second, and the level.
fn samples(delivered: [f64; 3], levels: [u8; 3], calm_s: f64) -> Vec<Sample> {
    let phases = ["rated", "too much", "over"];
    let mut samples = Vec::new();
    for place in 0..9 {
        let phase = place / 3;
        let gateway = GatewaySample {
            level: Some(levels[phase]),
            resident_bytes: Some(100 + place as u64),
            ..GatewaySample::default()
        };
        samples.push(Sample {
            t_s: if place == 8 { 20.0 + calm_s } else { (phase * 10) as f64 + 1.0 + (place % 3) as f64 },
            span_s: 1.0,
            phase: phases[phase].to_owned(),
            // The first one of a phase is half the other's.
            delivered_per_s: if place % 3 == 0 { 1e6 } else { delivered[phase] },
            gateway: Some(gateway),
            ..Sample::default()
        });
    }
    if let Some(last) = samples.last_mut().and_then(|last| last.gateway.as_mut()) {
        last.level = Some(0);
    }
    samples
}

fn tally(shed: u64, limit: u64) -> Tally {
    let reading = |accepted: u64, shed: u64| {
        Reading::parse(&format!(
            "gateway_events_received_total {}\ngateway_events_shed_total{{reason=\"over_share\"}} {shed}\n\
             gateway_events_accepted_total {accepted}\ngateway_memory_limit_bytes {limit}\n",
            accepted + shed
        ))
    };
    let mut tally = Tally::new(reading(0, 0));
    tally.note(reading(10, shed));
    tally
}

fn lines(samples: Vec<Sample>, tally: Option<Tally>, p99_us: [u64; 2], named_ms: Option<u64>) -> Vec<String> {
    let scenario = Scenario::parse(SCENARIO).unwrap_or_else(|faults| panic!("{faults}"));
    let plan = Plan { scenario, host: "broker".to_owned(), port: 1_883, seed: 1, epoch: 2 };
    let shared = Shared::of(&plan);
    let mut report = Report::new(&plan, &shared, Duration::from_secs(50), Duration::ZERO);
    report.series.samples = samples;
    let watched = plan.scenario.watched();
    // The phase itself comes first.
    let [of, own] = p99_us;
    let watched = watched.into_iter().zip([own, of]).map(|(of, p99)| WatchedLatency {
        of,
        summary: LatencySummary { count: 10, p99, ..LatencySummary::default() },
    });
    let facts = Facts {
        watched: watched.collect(),
        hogs: vec![HogFact {
            phase: 1,
            client: "dev-00000".to_owned(),
            named_after: named_ms.map(Duration::from_millis),
        }],
        tally,
        ..Facts::default()
    };
    let line = |gate: GateResult| {
        format!("{} {}: {}, got {}", if gate.held { "+" } else { "-" }, gate.name, gate.wanted, gate.got)
    };
    judge(&plan.scenario, &report, &facts).into_iter().map(line).collect()
}

#[test]
fn a_gateway_that_bears_it_holds_every_gate() {
    let samples = samples([100.0, 95.0, 50.0], [0, 2, 1], 4.0);
    assert_eq!(
        lines(samples, Some(tally(5, 1_000)), [10_000, 19_000], Some(900)),
        [
            "+ given up: at most 5, got 5",
            "+ books: to balance, got they do",
            "+ memory: at most 50 % of its limit, got 0 MiB of 0",
            "+ level: at most L2, got L2",
            "+ goodput, too much: at least 90 % of rated, got 95.0 %, 95/s of 100/s",
            "+ critical's PUBACK p99, too much: at most 20.0 ms, 2 times rated, got 19.0 ms",
            "+ back at L0 after too much: within 5.00 s, got 4.00 s",
            "+ hogs named, too much: each within 1.00 s of L1, got dev-00000 after 900 ms",
        ]
    );
}

#[test]
fn one_that_does_not_misses_every_gate() {
    let mut samples = samples([100.0, 80.0, 50.0], [0, 4, 1], 6.0);
    assert_eq!(
        lines(samples.clone(), Some(tally(6, 150)), [10_000, 21_000], Some(1_100)),
        [
            "- given up: at most 5, got 6",
            "+ books: to balance, got they do",
            "- memory: at most 50 % of its limit, got 0 MiB of 0",
            "- level: at most L2, got L4",
            "- goodput, too much: at least 90 % of rated, got 80.0 %, 80/s of 100/s",
            "- critical's PUBACK p99, too much: at most 20.0 ms, 2 times rated, got 21.0 ms",
            "- back at L0 after too much: within 5.00 s, got 6.00 s",
            "- hogs named, too much: each within 1.00 s of L1, got dev-00000 after 1.10 s",
        ]
    );
    samples.pop();
    let unasked = lines(samples, None, [10_000, 10_000], None);
    assert_eq!(
        unasked.iter().filter(|line| line.ends_with("the gateway was not asked")).count(),
        3,
        "{unasked:#?}"
    );
    assert!(unasked.iter().any(|line| line.ends_with("got L1 at the end")), "{unasked:#?}");
    assert!(unasked.iter().any(|line| line.ends_with("got dev-00000 never")), "{unasked:#?}");
}

#[test]
fn it_is_calm_when_it_has_been_at_l0_for_five_seconds_or_until_the_end() {
    let calm =
        |levels: &[u8]| calm_from(&(0..).map(f64::from).zip(levels.iter().copied()).collect::<Vec<_>>());
    assert_eq!(calm(&[4, 3, 0, 0, 0, 0, 0, 0, 1, 0]), Some(2.0), "what comes later is another matter");
    assert_eq!(calm(&[4, 0, 0, 0, 0, 0, 1, 0, 0]), Some(7.0), "that was too short");
    assert_eq!(calm(&[0, 0]), Some(0.0));
    assert_eq!(calm(&[4, 0, 0, 1]), None);
    assert_eq!(calm(&[]), None);
}
