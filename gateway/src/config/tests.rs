//! The layers together, and the documented file against the code.

use std::path::Path;
use std::time::Duration;

use super::{
    Config, ConfigErrors, DEFAULT_TOML, Durability, FaultKind, ListenerKind, LoadOptions, SlowSubscriber,
    Source,
};

fn sets(sets: &[&str]) -> LoadOptions {
    LoadOptions { sets: sets.iter().map(|set| (*set).to_owned()).collect(), ..LoadOptions::default() }
}

fn environment(variables: &[(&str, &str)]) -> LoadOptions {
    let environment =
        variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    LoadOptions { environment, ..LoadOptions::default() }
}

fn file(directory: &Path, text: &str) -> LoadOptions {
    let path = directory.join("gateway.toml");
    std::fs::write(&path, text).unwrap();
    LoadOptions { file: Some(path), ..LoadOptions::default() }
}

fn faults(options: LoadOptions) -> ConfigErrors {
    Config::load(options).expect_err("this configuration has faults")
}

/// The one fault of one `--set`.
fn fault(set: &str) -> (FaultKind, String) {
    let errors = faults(sets(&[set]));
    assert_eq!(errors.faults().len(), 1, "{errors}");
    (errors.faults()[0].kind, errors.faults()[0].to_string())
}

#[test]
fn keys_and_defaults_are_those_of_the_golden_list() {
    // The documented file is the lowest layer, so a key that the code asks for and the file lacks is a fault here, and
    // so is a key that the file documents and nothing asks for.
    let (_, settings) =
        Config::load_with_settings(LoadOptions::default()).unwrap_or_else(|errors| panic!("{errors}"));
    let lines = settings.iter().map(|setting| {
        let list = if setting.element.is_some() { "[]" } else { "" };
        format!("{}{list}.{} = {}\n", setting.section, setting.key, setting.value)
    });
    let actual: String = lines.collect();
    assert_eq!(
        actual,
        include_str!("keys.golden"),
        "a key or default changed: is that meant, and in the changelog?"
    );
}

#[test]
fn the_documented_file_loads_as_the_default() {
    let directory = tempfile::tempdir().unwrap();
    let loaded = Config::load(file(directory.path(), DEFAULT_TOML)).unwrap();
    assert_eq!(loaded, Config::default());
    assert_eq!(loaded.storage.durability, Durability::Fsync);
    assert_eq!(loaded.listeners.len(), 1);
    assert_eq!(loaded.listeners[0].kind, ListenerKind::Tcp);
    assert!(loaded.listeners[0].address.ip().is_loopback());
    assert!(loaded.admits_anonymous(&loaded.listeners[0]));
    assert_eq!(loaded.streams[0].max_age, Duration::from_secs(7 * 86_400));
    assert_eq!(loaded.streams[0].max_bytes, 8 << 30);
}

#[test]
fn what_is_shown_loads_as_the_same_configuration() {
    let directory = tempfile::tempdir().unwrap();
    let options = sets(&[
        "storage.durability=interval",
        "storage.interval_ms=1s",
        "stream=[]",
        "listener=[{address='127.0.0.1:0'}, {address='[::1]:0', allow_anonymous=true}]",
        "mqtt.max_packet_bytes=65537",
        "log.level=info,gateway::connection=debug",
    ]);
    let (config, settings) = Config::load_with_settings(options).unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(config.storage.durability, Durability::Interval(Duration::from_secs(1)));
    assert!(config.streams.is_empty());
    assert_eq!(config.listeners.len(), 2);
    let shown = settings.to_string();
    assert_eq!(
        Config::load(file(directory.path(), &shown)).unwrap_or_else(|errors| panic!("{errors}")),
        config
    );
    assert!(shown.contains("interval_ms = 1000  # from the command line"), "{shown}");
}

#[test]
fn later_layers_win_key_by_key() {
    let directory = tempfile::tempdir().unwrap();
    let mut options = file(
        directory.path(),
        "[mqtt]\nreceive_maximum = 10\nmax_inflight = 10\nconnect_timeout_ms = 1000\n[admin]\nenabled = false\n",
    );
    options.environment = vec![
        ("GATEWAY_MQTT__MAX_INFLIGHT".to_owned(), "20".to_owned()),
        ("GATEWAY_MQTT__CONNECT_TIMEOUT_MS".to_owned(), "2s".to_owned()),
        ("GATEWAY_BIN".to_owned(), "/somewhere/gateway".to_owned()),
        ("PATH".to_owned(), "/bin".to_owned()),
    ];
    options.sets =
        vec!["mqtt.connect_timeout_ms=3000".to_owned(), "delivery.slow_subscriber=disconnect".to_owned()];
    let (config, settings) = Config::load_with_settings(options).unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(config.mqtt.receive_maximum, 10);
    assert_eq!(config.mqtt.max_inflight, 20);
    assert_eq!(config.mqtt.connect_timeout, Duration::from_secs(3));
    assert_eq!(config.delivery.slow_subscriber, SlowSubscriber::Disconnect);
    assert!(!config.admin.enabled);
    assert_eq!(config.storage, Config::default().storage);
    let source = |key| settings.iter().find(|setting| setting.key == key).unwrap().source;
    assert_eq!(source("receive_maximum"), Source::File);
    assert_eq!(source("max_inflight"), Source::Environment);
    assert_eq!(source("connect_timeout_ms"), Source::CommandLine);
    assert_eq!(source("max_qos"), Source::Default);
}

#[test]
fn a_list_is_replaced_whole_or_reached_by_number() {
    let directory = tempfile::tempdir().unwrap();
    let mut options = file(
        directory.path(),
        "[[stream]]\nname = 'a'\ntopics = ['a/#', '+/b']\nmax_age = '1h'\nmax_bytes = '1GiB'\n",
    );
    options.environment = vec![
        ("GATEWAY_LISTENER__0__ADDRESS".to_owned(), "127.0.0.1:2222".to_owned()),
        ("GATEWAY_LISTENER".to_owned(), "[{ address = '127.0.0.1:1111' }]".to_owned()),
    ];
    options.sets = vec!["stream.0.max_bytes=1048576".to_owned()];
    let config = Config::load(options).unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(config.listeners[0].address.port(), 2222);
    assert_eq!(config.streams.len(), 1);
    assert_eq!(config.streams[0].topics, ["a/#", "+/b"]);
    assert_eq!(config.streams[0].max_bytes, 1 << 20);

    let (kind, text) = fault("listener.7.address=127.0.0.1:0");
    assert_eq!(kind, FaultKind::UnknownKey);
    assert!(text.contains("listener.0.key"), "{text}");
}

#[test]
fn a_bare_word_is_a_string_even_when_it_reads_as_a_number() {
    let config = Config::load(environment(&[("GATEWAY_STORAGE__DATA_DIR", "1883")])).unwrap();
    assert_eq!(config.storage.data_dir, Path::new("1883"));
    let config = Config::load(sets(&["storage.data_dir=\"quoted dir\""])).unwrap();
    assert_eq!(config.storage.data_dir, Path::new("quoted dir"));
    let config = Config::load(sets(&["storage.data_dir=/plain dir/x=y"])).unwrap();
    assert_eq!(config.storage.data_dir, Path::new("/plain dir/x=y"));
}

#[test]
fn unknown_keys_name_the_nearest_known_one() {
    for (set, meant) in [
        ("storage.max_byte=1", "accepted: storage.max_bytes"),
        ("mqtt.recieve_maximum=1", "accepted: mqtt.receive_maximum"),
        ("storrage.max_bytes=1", "accepted: storage"),
        ("stream.0.topic=x", "accepted: stream.0.topics"),
        ("mqtt.colour=blue", "accepted: max_qos, retain_available"),
        ("storage.data_dir.x=1", "data_dir holds no keys"),
        ("storage=1", "accepted: [storage] and its keys"),
    ] {
        let errors = faults(sets(&[set])).to_string();
        assert!(errors.contains(meant), "{set}: {errors}");
        assert!(errors.contains("has 1 fault\n"), "{set}: {errors}");
    }
}

#[test]
fn a_single_underscore_between_section_and_key_is_noticed() {
    let errors = faults(environment(&[("GATEWAY_STORAGE_DATA_DIR", "x")])).to_string();
    assert!(errors.contains("did you mean GATEWAY_STORAGE__DATA_DIR?"), "{errors}");
}

#[test]
fn all_faults_are_reported_together() {
    let directory = tempfile::tempdir().unwrap();
    let mut options = file(
        directory.path(),
        "[storage]\nmax_bytez = 1\ndata_dir = 7\n[mqtt]\nmax_qos = 7\n[[stream]]\nname = 'Bad Name'\ntopics = ['a/#/b']\n",
    );
    options.environment = vec![("GATEWAY_MQTT__RECEIVE_MAXIMUM".to_owned(), "0".to_owned())];
    options.sets = vec!["admin.address=localhost".to_owned(), "nonsense".to_owned()];
    let errors = faults(options);
    let keys: Vec<&str> = errors.faults().iter().map(|fault| fault.key.as_str()).collect();
    assert_eq!(
        keys,
        [
            "nonsense",
            "storage.data_dir",
            "storage.max_bytez",
            "admin.address",
            "mqtt.max_qos",
            "mqtt.receive_maximum",
            "stream.0.name",
            "stream.0.topics",
            "stream.0.max_age",
            "stream.0.max_bytes",
        ],
        "{errors}"
    );
    let text = errors.to_string();
    assert!(text.starts_with("the configuration has 10 faults (file: "), "{text}");
    assert!(text.contains("mqtt.receive_maximum (from the environment): 0 is out of range; accepted: an integer from 1 to 65535"), "{text}");
}

#[test]
fn files_that_cannot_be_read_or_parsed_say_where() {
    let directory = tempfile::tempdir().unwrap();
    let missing = LoadOptions { file: Some(directory.path().join("missing.toml")), ..LoadOptions::default() };
    assert_eq!(faults(missing).faults()[0].kind, FaultKind::Unreadable);
    let errors = faults(file(directory.path(), "[storage]\ndata_dir = 'x'\nlog = = 1\n"));
    assert_eq!(errors.faults()[0].kind, FaultKind::Syntax);
    assert!(errors.faults()[0].problem.starts_with("line 3: "), "{errors}");
}

#[test]
fn values_are_held_to_their_bounds_and_forms() {
    use FaultKind::{Invalid, OutOfRange};
    for (set, expected) in [
        ("mqtt.max_inflight=16384", OutOfRange),
        ("mqtt.max_inflight=0", OutOfRange),
        ("mqtt.receive_maximum=65536", OutOfRange),
        ("mqtt.receive_maximum=-1", OutOfRange),
        ("mqtt.receive_maximum=many", Invalid),
        ("mqtt.max_qos=3", OutOfRange),
        ("mqtt.topic_alias_maximum=70000", OutOfRange),
        ("mqtt.connect_timeout_ms=1", OutOfRange),
        ("mqtt.connect_timeout_ms=5 parsecs", Invalid),
        ("mqtt.allow_empty_client_id=yes", Invalid),
        ("stream.0.max_age=604800", Invalid),
        ("stream.0.topics=[]", OutOfRange),
        ("stream.0.topics=['$SYS/#']", Invalid),
        ("stream.0.topics=['a', 'a']", Invalid),
        ("stream.0.topics=['a', 1]", Invalid),
        ("stream.0.name=", Invalid),
        ("storage.max_bytes=10 gigs", Invalid),
        ("storage.segment_bytes=2GiB", OutOfRange),
        ("storage.durability=eventually", Invalid),
        ("storage.log=tape", Invalid),
        ("storage.compression=zip", Invalid),
        ("storage.reserve_bytes=17GiB", OutOfRange),
        ("mqtt.when_queue_full=drop", Invalid),
        ("storage.data_dir=", Invalid),
        ("listener=[]", OutOfRange),
        ("listener=5", Invalid),
        ("listener.0.kind=carrier-pigeon", Invalid),
        ("admin.address=127.0.0.1", Invalid),
        ("log.level=inof", Invalid),
        ("log.level=gateway=loud", Invalid),
        ("log.format=xml", Invalid),
    ] {
        let (kind, text) = fault(set);
        assert_eq!(kind, expected, "{text}");
    }
}

#[test]
fn relations_between_limits_are_checked() {
    for (set, key) in [
        ("mqtt.max_packet_bytes=4MiB", "delivery.outbox_bytes_max"),
        ("storage.group_bytes_max=1MiB", "storage.group_bytes_max"),
        ("storage.group_bytes_max=129MiB", "storage.segment_bytes"),
        ("storage.max_bytes=8GiB", "stream.0.max_bytes"),
        ("storage.max_bytes=200MiB", "storage.max_bytes"),
        (
            "stream=[{name='a',topics=['a'],max_age='1h',max_bytes='5GiB'},{name='b',topics=['b'],max_age='1h',max_bytes='5GiB'}]",
            "stream.1.max_bytes",
        ),
        ("mqtt.max_packet_bytes=2KiB", "admission.connect_buffer_bytes"),
        ("delivery.outbox_bytes_max=1MiB", "delivery.outbox_bytes_max"),
        (
            "stream=[{name='a',topics=['a'],max_age='1h',max_bytes='1MiB'},{name='a',topics=['b'],max_age='1h',max_bytes='1MiB'}]",
            "stream.1.name",
        ),
    ] {
        let errors = faults(sets(&[set]));
        assert!(errors.faults().iter().all(|fault| fault.kind == FaultKind::Relation), "{errors}");
        assert!(errors.faults().iter().any(|fault| fault.key == key), "{set}: {errors}");
    }
    for set in ["storage.max_bytes=9GiB", "storage.group_bytes_max=64MiB", "mqtt.max_packet_bytes=3MiB"] {
        Config::load(sets(&[set])).unwrap_or_else(|errors| panic!("{set}: {errors}"));
    }
}

#[test]
fn strangers_are_admitted_only_on_purpose() {
    let (kind, text) = fault("listener.0.address=0.0.0.0:1883");
    assert_eq!(kind, FaultKind::Unsafe, "{text}");
    assert!(text.contains("allow_anonymous = true"), "{text}");
    let (kind, _) = fault("listener=[{address='[::]:1883'}]");
    assert_eq!(kind, FaultKind::Unsafe);

    let open =
        Config::load(sets(&["listener.0.address=0.0.0.0:1883", "listener.0.allow_anonymous=true"])).unwrap();
    assert!(open.admits_anonymous(&open.listeners[0]));

    let (kind, text) = fault("auth.allow_anonymous=false");
    assert_eq!(kind, FaultKind::Relation);
    assert!(text.contains("admits nobody"), "{text}");
    let own = Config::load(sets(&["auth.allow_anonymous=false", "listener.0.allow_anonymous=true"])).unwrap();
    assert!(own.admits_anonymous(&own.listeners[0]));
}
