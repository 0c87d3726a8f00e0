//! `[admission]`, `[[admission.class]]` and the limits of a `[[listener]]`: what each key accepts, and what it becomes.

use std::time::Duration;

use gateway_protocol::TopicFilter;

use super::fault::FaultKind;
use super::reader::{Given, Reader, Refusal, Section};
use super::types::{MqttConfig, SlowSubscriber};

/// `[admission]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdmissionConfig {
    /// Connections at one time, over all listeners.
    pub max_connections: usize,
    /// And from one address.
    pub max_connections_per_address: usize,
    /// Connections that have not said CONNECT, or not been answered.
    pub max_handshakes: usize,
    /// Connects a second, over all listeners; 0: no limit.
    pub connect_rate: u64,
    /// And from one address; 0: no limit.
    pub connect_rate_per_address: u64,
    /// Connects of one client within a minute before it is held off; 0: no limit.
    pub flap_connects: u32,
    /// How long it is.
    pub flap_hold_off: Duration,
    /// Bytes of the largest CONNECT packet.
    pub connect_buffer_bytes: usize,
    /// Subscriptions one client may have, streams it reads included.
    pub max_subscriptions_per_client: usize,
    /// Levels of a Topic Filter.
    pub max_filter_levels: usize,
    /// Bytes of a payload.
    pub max_payload_bytes: usize,
    /// Events a second that one client may publish; 0: no limit.
    pub client_publish_rate: u64,
    /// And bytes a second; 0: no limit.
    pub client_publish_bytes_rate: u64,
    /// What happens to what is over one of these rates.
    pub over_rate: OverRate,
    /// Whether there is a ladder.
    pub ladder: bool,
    /// Resident memory at which its pressure is 1; 0: what the container allows, or 60 % of the machine's.
    pub max_memory_bytes: u64,
    /// Bytes in buffers at which their pressure is 1; 0: a quarter of the memory.
    pub max_buffer_bytes: u64,
    /// `admission.max_commit_ms`: how long an event waits for its commit at pressure 1.
    pub max_commit: Duration,
    /// `admission.max_loop_lag_ms`: how late the runtime is at pressure 1.
    pub max_loop_lag: Duration,
    /// `admission.max_unacknowledged_ms`: how old the oldest publish without acknowledgement is at pressure 1.
    pub max_unacknowledged: Duration,
    /// How full the disk is, in hundredths, when the gateway protects itself.
    pub disk_high_water_percent: u8,
    /// `[[admission.class]]`, 0 to 64, in order.
    pub classes: Vec<ClassRule>,
}

/// What happens to a publish that is over a configured rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OverRate {
    /// Its acknowledgement comes late; at QoS 0 it is shed.
    Delay,
    /// It is not taken, and a version 5 client told so (0x97); others are delayed.
    Refuse,
    /// Its client is disconnected (0x96).
    Disconnect,
}

/// One `[[admission.class]]`: which events are of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClassRule {
    /// The class.
    pub class: EventClass,
    /// Valid Topic Filters, any of them; none: every topic.
    pub topics: Vec<String>,
    /// Patterns of Client Identifiers, any of them, in which `*` stands for any text; none: every client.
    pub clients: Vec<String>,
    /// What happens to these clients when they read too slowly, if it is said; only where `topics` is empty.
    pub slow_subscriber: Option<SlowSubscriber>,
}

/// How much an event matters under pressure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventClass {
    /// Given up first.
    Bulk,
    /// Given up next.
    Normal,
    /// Never given up.
    Critical,
}

/// The limits of a `[[listener]]`.
pub(super) struct ListenerLimits {
    pub(super) max_connections: usize,
    pub(super) publish_rate: u64,
    pub(super) publish_bytes_rate: u64,
    pub(super) slow_subscriber: Option<SlowSubscriber>,
}

const MIB: u64 = 1 << 20;
const TIB: u64 = 1 << 40;
const RATE_MAX: u64 = 1_000_000_000;
const RULES_MAX: usize = 64;
/// Filters or patterns of one rule, and bytes of a pattern.
const NAMES_MAX: usize = 64;
const PATTERN_BYTES_MAX: usize = 256;

pub(super) fn admission(mut section: Section<'_>) -> Option<AdmissionConfig> {
    let max_connections = section.integer("max_connections", 1..=1_000_000_u32);
    let max_connections_per_address = section.integer("max_connections_per_address", 1..=1_000_000_u32);
    let max_handshakes = section.integer("max_handshakes", 1..=1_000_000_u32);
    let connect_rate = section.integer("connect_rate", 0..=RATE_MAX);
    let connect_rate_per_address = section.integer("connect_rate_per_address", 0..=RATE_MAX);
    let flap_connects = section.integer("flap_connects", 0..=1_000_000_u32);
    let flap_hold_off =
        section.duration("flap_hold_off", Duration::from_secs(1)..=Duration::from_secs(3_600));
    let connect_buffer_bytes = section.size_in_memory("connect_buffer_bytes", 256..=64 * MIB);
    let max_subscriptions_per_client = section.integer("max_subscriptions_per_client", 1..=1_000_000_u32);
    let max_filter_levels = section.integer("max_filter_levels", 1..=128_u8);
    let max_payload_bytes = section.size_in_memory("max_payload_bytes", 0..=64 * MIB);
    let client_publish_rate = section.integer("client_publish_rate", 0..=RATE_MAX);
    let client_publish_bytes_rate = section.size("client_publish_bytes_rate", 0..=TIB);
    let over_rate = section.choice(
        "over_rate",
        &[("delay", OverRate::Delay), ("refuse", OverRate::Refuse), ("disconnect", OverRate::Disconnect)],
    );
    let ladder = section.bool("ladder");
    let max_memory_bytes = section.size("max_memory_bytes", 0..=1024 * TIB);
    let max_buffer_bytes = section.size("max_buffer_bytes", 0..=1024 * TIB);
    let max_commit = section.duration("max_commit_ms", millis(10)..=millis(600_000));
    let max_loop_lag = section.duration("max_loop_lag_ms", millis(10)..=millis(600_000));
    let max_unacknowledged = section.duration("max_unacknowledged_ms", millis(100)..=millis(3_600_000));
    let disk_high_water_percent = section.integer("disk_high_water_percent", 50..=100_u8);
    let classes = section.list("class", "admission.class", RULES_MAX, class_rule);
    section.finish();
    Some(AdmissionConfig {
        max_connections: count(max_connections?),
        max_connections_per_address: count(max_connections_per_address?),
        max_handshakes: count(max_handshakes?),
        connect_rate: connect_rate?,
        connect_rate_per_address: connect_rate_per_address?,
        flap_connects: flap_connects?,
        flap_hold_off: flap_hold_off?,
        connect_buffer_bytes: connect_buffer_bytes?,
        max_subscriptions_per_client: count(max_subscriptions_per_client?),
        max_filter_levels: max_filter_levels?.into(),
        max_payload_bytes: max_payload_bytes?,
        client_publish_rate: client_publish_rate?,
        client_publish_bytes_rate: client_publish_bytes_rate?,
        over_rate: over_rate?,
        ladder: ladder?,
        max_memory_bytes: max_memory_bytes?,
        max_buffer_bytes: max_buffer_bytes?,
        max_commit: max_commit?,
        max_loop_lag: max_loop_lag?,
        max_unacknowledged: max_unacknowledged?,
        disk_high_water_percent: disk_high_water_percent?,
        classes: classes?,
    })
}

/// Keys of a `[[listener]]`, which have defaults since whoever writes one thinks of its address.
pub(super) fn listener_limits(section: &mut Section<'_>) -> Option<ListenerLimits> {
    section.default("max_connections", 1_000_000);
    section.default("publish_rate", 0);
    section.default("publish_bytes_rate", 0);
    section.default("slow_subscriber", "default");
    let max_connections = section.integer("max_connections", 1..=1_000_000_u32);
    let publish_rate = section.integer("publish_rate", 0..=RATE_MAX);
    let publish_bytes_rate = section.size("publish_bytes_rate", 0..=TIB);
    let slow_subscriber = slow_subscriber(section);
    Some(ListenerLimits {
        max_connections: count(max_connections?),
        publish_rate: publish_rate?,
        publish_bytes_rate: publish_bytes_rate?,
        slow_subscriber: slow_subscriber?,
    })
}

fn class_rule(mut section: Section<'_>) -> Option<ClassRule> {
    section.default("topics", toml::Value::Array(Vec::new()));
    section.default("clients", toml::Value::Array(Vec::new()));
    section.default("slow_subscriber", "default");
    let class = section.choice(
        "class",
        &[("bulk", EventClass::Bulk), ("normal", EventClass::Normal), ("critical", EventClass::Critical)],
    );
    let list = |names: &Vec<String>| names.clone().into();
    let topics =
        section.read("topics", "up to 64 Topic Filters that are no Shared Subscriptions", filters, list);
    let accepted = "up to 64 patterns of 1 to 256 bytes, in which * stands for any text";
    let clients = section.read("clients", accepted, patterns, list);
    let slow_subscriber = slow_subscriber(&mut section);
    section.finish();
    Some(ClassRule { class: class?, topics: topics?, clients: clients?, slow_subscriber: slow_subscriber? })
}

/// A policy of its own, or none.
fn slow_subscriber(section: &mut Section<'_>) -> Option<Option<SlowSubscriber>> {
    let choices = [
        ("default", None),
        ("drop", Some(SlowSubscriber::Drop)),
        ("disconnect", Some(SlowSubscriber::Disconnect)),
    ];
    section.choice("slow_subscriber", &choices)
}

fn filters(given: &Given) -> Result<Vec<String>, Refusal> {
    let topics = names(given)?;
    for topic in &topics {
        match TopicFilter::parse(topic) {
            Err(error) => {
                return Err(Refusal::new(FaultKind::Invalid, format!("holds \"{topic}\": {error}")));
            }
            Ok(filter) if filter.is_shared() => {
                let problem = format!("holds \"{topic}\", a Shared Subscription");
                return Err(Refusal::new(FaultKind::Invalid, problem));
            }
            Ok(_) => {}
        }
    }
    Ok(topics)
}

fn patterns(given: &Given) -> Result<Vec<String>, Refusal> {
    let patterns = names(given)?;
    match patterns.iter().find(|pattern| !(1..=PATTERN_BYTES_MAX).contains(&pattern.len())) {
        Some(pattern) => {
            Err(Refusal::new(FaultKind::OutOfRange, format!("holds a pattern of {} bytes", pattern.len())))
        }
        None => Ok(patterns),
    }
}

fn names(given: &Given) -> Result<Vec<String>, Refusal> {
    let names = given.strings()?;
    match names.len() {
        0..=NAMES_MAX => Ok(names),
        count => Err(Refusal::new(FaultKind::OutOfRange, format!("has {count} entries"))),
    }
}

pub(super) fn connect_fits_a_packet(reader: &mut Reader, mqtt: &MqttConfig, admission: &AdmissionConfig) {
    let holds = admission.connect_buffer_bytes <= mqtt.max_packet_bytes;
    let problem = "a CONNECT may not be larger than the largest packet";
    let accepted = format!("at most mqtt.max_packet_bytes, {} bytes", mqtt.max_packet_bytes);
    reader.relation(FaultKind::Relation, "admission.connect_buffer_bytes", holds, problem, accepted);
}

/// Each rule says whom it is about; what it says of subscribers is about clients, not about topics.
pub(super) fn rules_are_about_something(reader: &mut Reader, admission: &AdmissionConfig) {
    for (index, rule) in admission.classes.iter().enumerate() {
        let key = format!("admission.class.{index}.class");
        let holds = !rule.topics.is_empty() || !rule.clients.is_empty();
        let problem = "this rule is about every event of everybody";
        let accepted = "topics, clients, or both".to_owned();
        reader.relation(FaultKind::Relation, &key, holds, problem, accepted);

        let key = format!("admission.class.{index}.slow_subscriber");
        let holds = rule.slow_subscriber.is_none() || rule.topics.is_empty();
        let problem = "subscribers are told apart by their Client Identifiers, not by topics";
        let accepted = "a rule with clients and without topics".to_owned();
        reader.relation(FaultKind::Relation, &key, holds, problem, accepted);
    }
}

fn count(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

const fn millis(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

#[cfg(test)]
mod tests {
    use super::super::{Config, ConfigErrors, LoadOptions};
    use super::*;

    fn load(sets: &[&str]) -> Result<Config, ConfigErrors> {
        let sets = sets.iter().map(|set| (*set).to_owned()).collect();
        Config::load(LoadOptions { sets, ..LoadOptions::default() })
    }

    fn keys(sets: &[&str]) -> Vec<String> {
        load(sets).expect_err("faulty").faults().iter().map(|fault| fault.key.clone()).collect()
    }

    const RULES: &str = "admission.class=[\
        {class='critical', topics=['devices/+/alarm']}, \
        {class='bulk', topics=['devices/+/debug'], clients=['lab-*']}, \
        {class='normal', clients=['board-*'], slow_subscriber='disconnect'}]";

    #[test]
    fn rules_are_read_in_order_and_shown_as_they_can_be_loaded_again() {
        let sets = vec![RULES.to_owned(), "listener.0.slow_subscriber=drop".to_owned()];
        let options = LoadOptions { sets, ..LoadOptions::default() };
        let (config, settings) =
            Config::load_with_settings(options).unwrap_or_else(|errors| panic!("{errors}"));
        let rules = &config.admission.classes;
        assert_eq!(rules.len(), 3);
        assert_eq!(rules[0].class, EventClass::Critical);
        assert_eq!(
            (&rules[1].topics[..], &rules[1].clients[..]),
            (&["devices/+/debug".to_owned()][..], &["lab-*".to_owned()][..])
        );
        assert_eq!(rules[2].slow_subscriber, Some(SlowSubscriber::Disconnect));
        assert_eq!(config.listeners[0].slow_subscriber, Some(SlowSubscriber::Drop));

        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("gateway.toml");
        std::fs::write(&path, settings.to_string()).unwrap();
        let again = Config::load(LoadOptions { file: Some(path), ..LoadOptions::default() });
        assert_eq!(again.unwrap_or_else(|errors| panic!("{errors}\n{settings}")), config);
    }

    #[test]
    fn a_file_and_the_environment_lay_rules_and_their_keys() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("gateway.toml");
        let text = "[admission]\nconnect_rate = 7\n[[admission.class]]\nclass = 'bulk'\ntopics = ['a/#']\n";
        std::fs::write(&path, text).unwrap();
        let environment = vec![("GATEWAY_ADMISSION__CLASS__0__CLASS".to_owned(), "critical".to_owned())];
        let options = LoadOptions { file: Some(path), environment, ..LoadOptions::default() };
        let config = Config::load(options).unwrap_or_else(|errors| panic!("{errors}"));
        assert_eq!(config.admission.connect_rate, 7);
        assert_eq!(config.admission.classes[0].class, EventClass::Critical);
    }

    #[test]
    fn what_is_wrong_with_a_rule_is_named_by_its_place() {
        for (rule, key) in [
            ("{topics=['a']}", "admission.class.0.class"),
            ("{class='urgent', topics=['a']}", "admission.class.0.class"),
            ("{class='bulk'}", "admission.class.0.class"),
            ("{class='bulk', topics=['a/#/b']}", "admission.class.0.topics"),
            ("{class='bulk', topics=['$share/g/a']}", "admission.class.0.topics"),
            ("{class='bulk', clients=['']}", "admission.class.0.clients"),
            ("{class='bulk', client='a'}", "admission.class.0.client"),
            ("{class='bulk', topics=['a'], slow_subscriber='drop'}", "admission.class.0.slow_subscriber"),
        ] {
            let found = keys(&[&format!("admission.class=[{rule}]")]);
            assert!(found.iter().any(|found| found == key), "{rule}: {found:?}");
        }
        assert_eq!(keys(&["admission.class=5"]), ["admission.class"]);
        let many = format!("admission.class=[{}]", "{class='bulk',topics=['a']},".repeat(65));
        assert_eq!(keys(&[&many]), ["admission.class"]);
        assert_eq!(load(&["admission.class=[]"]).unwrap(), Config::default());
    }

    #[test]
    fn limits_are_on_by_default_and_have_bounds() {
        let admission = Config::default().admission;
        assert!(admission.ladder && admission.connect_rate > 0 && admission.flap_connects > 0);
        for set in [
            "admission.max_connections=0",
            "admission.max_connections_per_address=0",
            "admission.max_handshakes=0",
            "admission.connect_rate=-1",
            "admission.flap_hold_off=0s",
            "admission.max_filter_levels=129",
            "admission.max_payload_bytes=65MiB",
            "admission.over_rate=shout",
            "admission.max_commit_ms=1",
            "admission.disk_high_water_percent=101",
            "listener.0.max_connections=0",
            "listener.0.slow_subscriber=wait",
            "decisions.max_entries=0",
            "decisions.files=0",
        ] {
            let (key, _) = set.split_once('=').unwrap();
            assert_eq!(keys(&[set]), [key]);
        }
    }
}
