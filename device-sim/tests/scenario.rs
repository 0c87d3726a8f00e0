//! Scenario files: the documented one is valid, and what is wrong is said, all of it, in sentences.
#![expect(clippy::unwrap_used, reason = "a test helper; a missing error fails the test")]

use std::time::Duration;

use device_sim::qos::QoS;
use device_sim::scenario::subscriber::Source;
use device_sim::scenario::{Clients, Fault, Protocol, Scenario};

const FIRST: &str = include_str!("../scenarios/first.toml");

fn faults(text: &str) -> Vec<String> {
    Scenario::parse(text).unwrap_err().0.into_iter().map(|fault| fault.text).collect()
}

/// What a fault's place says stands there.
fn placed(text: &str) -> Vec<(String, String)> {
    let faults = Scenario::parse(text).unwrap_err().0.into_iter();
    let place = |fault: Fault| {
        let line = text.lines().nth(fault.line - 1).unwrap();
        let rest: String = line.chars().skip(fault.column - 1).collect();
        let word = rest.split([' ', '=', '\n']).next().unwrap().to_owned();
        (word, fault.text)
    };
    faults.map(place).collect()
}

#[test]
fn the_documented_scenario_is_valid_and_means_what_it_says() {
    let scenario = Scenario::parse(FIRST).unwrap();
    assert_eq!(scenario.fleet.devices, 200);
    let [cohort] = scenario.fleet.cohorts.as_slice() else { panic!("a fleet without cohorts is one") };
    assert_eq!(cohort.rhythm.qos1_share, 0.8);
    assert_eq!(cohort.v5_share, 0.5);
    assert_eq!(cohort.model.fields.len(), 7);
    assert_eq!(scenario.run.duration, Some(Duration::from_secs(10)));
    assert_eq!(scenario.run.seed, Some(42));
    let [dashboard, archive] = scenario.subscribers.as_slice() else { panic!("two subscribers") };
    assert_eq!(
        (dashboard.qos, dashboard.durable, dashboard.protocol),
        (QoS::AtMostOnce, false, Protocol::V3_1_1)
    );
    assert_eq!((archive.qos, archive.durable, archive.protocol), (QoS::AtLeastOnce, true, Protocol::V5));
}

/// The keys that are commented out in the documented scenario show their defaults: uncommenting them changes nothing.
#[test]
fn the_documented_defaults_are_the_defaults() {
    let uncommented: String = FIRST
        .lines()
        .map(|line| match line.strip_prefix("# ") {
            Some(rest) if rest.split_once(" = ").is_some_and(|(key, _)| !key.contains(' ')) => rest,
            _ => line,
        })
        .flat_map(|line| [line, "\n"])
        .collect();
    assert!(uncommented.contains("\nqueue_max = 128"), "nothing was uncommented");
    assert_eq!(Scenario::parse(&uncommented), Scenario::parse(FIRST));
}

#[test]
fn all_faults_are_reported_at_once() {
    let faults = faults(
        r#"
        sed = 1
        [fleet]
        devices = 0
        rat = 100
        protocol = "4"
        topic = "devices/{room}"
        [[subscriber]]
        name = "a"
        filter = "devices/#/x"
        durabel = true
        [[subscriber]]
        name = "a"
        filter = "$SYS/#"
        qos = 2
        [run]
        duration = "10"
        "#,
    );
    for expected in [
        "sed: there is no such key",
        "fleet.devices: 0 is not between 1 and 50000",
        "fleet.rat: there is no such key; did you mean `rate`?",
        "fleet.rate: is missing",
        "fleet.protocol: must be `3.1.1`, `5`, or a table with a weight for each",
        "fleet.topic: unknown placeholder at `{room}`; there are {site} {device} {cohort} {model} {class}",
        "subscriber[1].filter: `devices/#/x` is not a Topic Filter",
        "subscriber[1].durabel: there is no such key; did you mean `durable`?",
        "subscriber[2].name: there is already a subscriber `a`",
        "subscriber[2].filter: of those that start with $ there are $share/GROUP/FILTER, $stream/NAME/FROM/FILTER and \
         $consumer/NAME",
        "subscriber[2].qos: 2 is not between 0 and 1",
        "run.duration: `10` is not a duration: write a number and ms, s, m or h, such as 500ms or 30s",
    ] {
        assert!(faults.iter().any(|fault| fault == expected), "missing: {expected}\nfound: {faults:#?}");
    }
    assert_eq!(faults.len(), 12, "{faults:#?}");
}

#[test]
fn faults_inside_models_name_their_place() {
    let model = r#"
        [[model]]
        name = "m"
        [[model.field]]
        name = "t"
        signal = { kind = "sum", of = [{ kind = "wlk" }, { kind = "uniform", min = 2.0, max = 1.0, spread_by = 3.0 }] }
        [[model.field]]
        name = "door"
        states = [{ word = "open", dwell = "0s", to = { shut = 1.0 } }]
    "#;
    let faults = faults(&format!("{FIRST}\n{model}"));
    assert_eq!(
        faults,
        [
            "model[2].field[1].signal.of[1].kind: `wlk` is not one of constant, uniform, gaussian, walk, diurnal, \
             sine, battery, fault, counter, per-device, weather, route, field, total, stuck, sum, clamp; did you mean `walk`?",
            "model[2].field[1].signal.of[2].min: must not be above `max`",
            "model[2].field[1].signal.of[2].spread_by: there is no such key",
            "model[2].field[2].states[1].dwell: must be above zero",
            "model[2].field[2].states[1].to: there is no state `shut`",
        ]
    );
}

#[test]
fn what_is_not_toml_is_refused_with_every_place() {
    let faults = Scenario::parse("[fleet]\ndevices = \nrate = 1 1\n[run\n").unwrap_err();
    let lines: Vec<usize> = faults.0.iter().map(|fault| fault.line).collect();
    assert_eq!(lines, [2, 3, 4], "{faults}");
    assert!(faults.0.iter().all(|fault| fault.text.starts_with("this is not TOML: ")), "{faults}");
}

#[test]
fn a_fault_stands_where_its_key_stands_or_where_it_is_missing() {
    let placed = placed(
        r#"[fleet]
devices = 0
rate = 10
     rat = 100

[[subscriber]]
name = "a"
filter = "a/#/b"

[[subscriber]]
name = "é" ; filter = "b"
"#
        .replace(" ; ", "\n")
        .as_str(),
    );
    let expected = [
        ("[run]", "run.duration: is missing"),
        ("devices", "fleet.devices: 0 is not between 1 and 50000"),
        ("rat", "fleet.rat: there is no such key; did you mean `rate`?"),
        ("filter", "subscriber[1].filter: `a/#/b` is not a Topic Filter"),
    ];
    let found: Vec<&str> = placed.iter().map(|(_, text)| text.as_str()).collect();
    assert_eq!(found, expected.map(|(_, text)| text));
    for ((word, text), (expected, _)) in placed.iter().zip(expected).skip(1) {
        assert_eq!(word, expected, "{text}");
    }
    let (line, column) = {
        let missing = &Scenario::parse("[[subscriber]]\n  name = 1\n").unwrap_err().0;
        let fault = missing.iter().find(|fault| fault.text == "subscriber[1].filter: is missing").unwrap();
        (fault.line, fault.column)
    };
    assert_eq!((line, column), (1, 1), "the table it is missing in");
}

#[test]
fn faults_of_timelines_and_gates_are_named() {
    let faults = faults(
        r#"
        [fleet]
        devices = 200
        rate = 1000
        [[subscriber]]
        name = "dashboard"
        filter = "devices/#"
        [[subscriber]]
        name = "archive"
        filter = "devices/#"
        [run]
        duration = "10s"
        [[phase]]
        kind = "stedy"
        duration = "10s"
        [[phase]]
        name = "a"
        kind = "burst"
        duration = "10s"
        every = "1s"
        length = "2s"
        [[phase]]
        name = "a"
        kind = "slow-consumer"
        duration = "0s"
        [[phase]]
        kind = "consumer-outage"
        duration = "1s"
        subscriber = "archiv"
        [[phase]]
        kind = "broker-kill"
        at = "40s"
        duration = "1s"
        down = "2s"
        [[phase]]
        kind = "ramp"
        at = "1s"
        duration = "1s"
        [[phase]]
        kind = "poison"
        duration = "1s"
        share = 2
        [broker]
        command = []
        settings = ["a=b"]
        [expect]
        los = 0
        puback = { p98 = "1s" }
        recovery = "soon"
        shed_only = ["a/#/b"]
        "#,
    );
    for expected in [
        "phase[1].kind: `stedy` is not one of steady, ramp, burst, diurnal, reconnect-storm, flash-crowd, hog, \
         slow-consumer, consumer-outage, poison, network-cut, half-open, network-delay, network-loss, broker-kill, \
         broker-restart, broker-pause, disk-full; did you mean `steady`?",
        "phase[2].length: must be above zero and not above `every`",
        "phase[3].name: there is already a phase `a`",
        "phase[3].duration: must be above zero",
        "phase[3].subscriber: is missing, and there are several",
        "phase[4].subscriber: there is no subscriber `archiv`; there are dashboard, archive",
        "phase[5].down: must not be longer than the phase",
        "phase[5].at: it would end after the phases that follow each other",
        "phase[6].at: what has a load of its own follows the phase before it",
        "phase[7].kind: poison is refused by workers, and no subscriber is a $consumer/...",
        "phase[7].share: 2 is not between 0 and 1",
        "run.duration: the phases last 22s together; leave it out",
        "broker.command: names no program",
        "broker.settings: goes with a named program, and `command` is another one",
        "expect.los: there is no such key; did you mean `loss`?",
        "expect.puback.p98: there is no such key; did you mean `p90`?",
        "expect.recovery: `soon` is not a duration: write a number and ms, s, m or h, such as 500ms or 30s",
        "expect.shed_only: `a/#/b` is not a Topic Filter",
    ] {
        assert!(faults.iter().any(|fault| fault == expected), "missing: {expected}\nfound: {faults:#?}");
    }
    assert_eq!(faults.len(), 18, "{faults:#?}");
}

#[test]
fn gates_that_nothing_could_miss_or_meet_are_faults() {
    let text = r#"
        [fleet]
        devices = 1
        rate = 1
        [[subscriber]]
        name = "a"
        filter = "devices/#"
        delay = "1ms"
        [run]
        duration = "1s"
        [expect]
        recovery = "1s"
        delivery = { p99 = "1s" }
    "#;
    assert_eq!(
        faults(text),
        [
            "expect.recovery: no phase disturbs anything",
            "expect.delivery: every subscriber is slowed down or taken away, by itself or by a phase",
        ]
    );
}

#[test]
fn subscriptions_of_every_kind_are_understood() {
    let text = r#"
        [fleet]
        devices = 1
        rate = 1
        [[subscriber]]
        name = "pool"
        filter = "$share/pool/devices/+/x"
        members = 4
        [[subscriber]]
        name = "reader"
        filter = "$stream/telemetry/earliest/devices/#"
        [[subscriber]]
        name = "workers"
        filter = "$consumer/sink/billing"
        matching = "devices/#"
        members = 3
        nak = 0.1
        hang = 0.01
        [run]
        duration = "1s"
    "#;
    let scenario = Scenario::parse(text).unwrap();
    let [pool, reader, workers] = scenario.subscribers.as_slice() else { panic!("three subscribers") };
    assert_eq!(
        (pool.matching(), pool.members, pool.is_ordered(), pool.is_kept()),
        ("devices/+/x", 4, false, false)
    );
    let stream = Source::Stream {
        stream: "telemetry".to_owned(),
        from: "earliest".to_owned(),
        filter: "devices/#".to_owned(),
    };
    assert_eq!((&reader.source, reader.is_ordered(), reader.is_kept()), (&stream, true, true));
    assert_eq!((workers.matching(), workers.is_ordered(), workers.is_kept()), ("devices/#", false, true));
    let wrong = text
        .replace("$share/pool/", "")
        .replace("earliest\"", "earliest\"\nprotocol = \"3.1.1\"")
        .replace("$consumer/sink/", "");
    assert_eq!(
        faults(&wrong),
        [
            "subscriber[1].members: only those of a $share/... or $consumer/... are complete together",
            "subscriber[3].matching: there is no such key",
            "subscriber[3].members: only those of a $share/... or $consumer/... are complete together",
            "subscriber[3].nak: only the workers of a $consumer/... answer for themselves",
        ]
    );
}

#[test]
fn sites_with_brokers_need_honest_devices_that_say_events_alone() {
    const END: &str = "[[subscriber]]\nname = \"a\"\nfilter = \"#\"\n[run]\nduration = \"1s\"\n";
    let faults = |text: &str| Scenario::parse(&format!("{text}\n{END}")).unwrap_err().to_string();
    let lean = faults("[edge]\n[fleet]\nclient = \"lean\"\ndevices = 9\nrate = 1");
    assert!(lean.contains("1:2: edge: needs client = \"honest\""), "{lean}");
    let status = faults("[edge]\n[fleet]\nstatus = \"s/{device}\"\ndevices = 9\nrate = 1");
    assert!(status.contains("edge: uplinks carry events alone"), "{status}");
    let sites = faults("[edge]\nsites = 4\n[fleet]\nsites = 3\ndevices = 9\nrate = 1");
    assert!(sites.contains("2:1: edge.sites: 4 is not between 1 and 3"), "{sites}");
    let cut = "[[phase]]\nkind = \"network-cut\"\nduration = \"1s\"\nside = \"uplinks\"";
    let none = faults(&format!("[fleet]\ndevices = 9\nrate = 1\n{cut}\n[expect]\nedge_loss = 0"));
    assert!(none.contains("there are no uplinks without [edge]"), "{none}");
    assert!(none.contains("edge_loss"), "{none}");
}

#[test]
fn what_lean_clients_cannot_do_is_refused_at_its_place() {
    const END: &str = "[[subscriber]]\nname = \"a\"\nfilter = \"#\"\n[run]\nduration = \"1s\"\n";
    let parse = |keys: &str| {
        let text =
            format!("[fleet]\nclient = \"lean\"\nconnections = 9\ndevices = 9\nrate = 1\n{keys}\n{END}");
        Scenario::parse(&text).map_err(|faults| faults.to_string())
    };
    for keys in ["payload = \"sparkplug\"", "commands = { topic = \"c/{device}\", reply = \"r/{device}\" }"] {
        let refused = parse(keys).unwrap_err();
        assert!(refused.contains("2:1: fleet.client: \"lean\" has no commands"), "{keys}: {refused}");
    }
    parse("qos = 2").unwrap_or_else(|faults| panic!("{faults}"));
    let status = "status = \"s/{device}\"\nstate = { topic = \"t/{device}\" }";
    parse(status).unwrap_or_else(|faults| panic!("{faults}"));
    let shared = parse(&format!("{status}\nsites = 2")).map(|scenario| scenario.fleet.keep_alive_s);
    assert_eq!(shared, Ok(60), "what lean clients have by themselves");
    let text = format!("[fleet]\nclient = \"lean\"\ndevices = 9\nconnections = 3\nrate = 1\n{status}\n{END}");
    let shared = Scenario::parse(&text).unwrap_err().to_string();
    assert!(shared.contains("4:1: fleet.connections: status and state need a connection"), "{shared}");
}

#[test]
fn a_cohort_has_a_worker_of_its_own_where_that_can_be() {
    const END: &str = "[[subscriber]]\nname = \"a\"\nfilter = \"#\"\n[run]\nduration = \"1s\"\n";
    let parse = |keys: &str, first: &str, last: &str| {
        let cohort = |name: &str, worker: &str| format!("[[cohort]]\nname = \"{name}\"\n{worker}\n");
        let text = format!(
            "[fleet]\n{keys}\ndevices = 9\nrate = 1\n{}{}{END}",
            cohort("a", first),
            cohort("b", last)
        );
        Scenario::parse(&text).map_err(|faults| faults.to_string())
    };
    const OWN: &str = "worker = \"own\"";
    let lean = |scenario: Scenario| match scenario.fleet.clients {
        Clients::Lean(lean) => (lean.workers, lean.own),
        Clients::Honest => panic!("lean"),
    };
    assert_eq!(parse("client = \"lean\"\nworkers = 2", "", OWN).map(lean), Ok((2, vec![5])));
    assert_eq!(parse("client = \"lean\"", OWN, OWN).map(lean), Ok((1, vec![0, 5])));
    for (keys, first, last, expected) in [
        ("client = \"honest\"", "", OWN, "2:1: fleet.client: a cohort with worker = \"own\" needs \"lean\""),
        (
            "client = \"lean\"",
            OWN,
            "",
            "2:1: fleet.client: the cohorts with worker = \"own\" have to be the last ones",
        ),
        (
            "client = \"lean\"\nconnections = 3",
            "",
            OWN,
            "3:1: fleet.connections: worker = \"own\" needs a connection",
        ),
        (
            "client = \"lean\"\nworkers = 64",
            "",
            OWN,
            "3:1: fleet.workers: with those of cohorts there are more than 64",
        ),
        ("client = \"lean\"", "", "worker = \"mine\"", "cohort[2].worker: `mine` is not one of shared, own"),
    ] {
        let refused = parse(keys, first, last).map(lean).unwrap_err();
        assert!(refused.contains(expected), "{expected}: {refused}");
    }
}
