//! The second stage: what each key accepts, then how the limits must stand to one another.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use gateway_protocol::{QoS, TopicFilter};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use super::fault::{Fault, FaultKind};
use super::pace::Pace;
use super::raw::Table;
use super::reader::{Given, Reader, Refusal, Section};
use super::settings::Settings;
use super::types::{
    AdminConfig, AuthConfig, Compression, Config, DedupConfig, DeliveryConfig, Durability, ListenerConfig,
    ListenerKind, LogConfig, LogFormat, LogKind, MqttConfig, ShareStrategy, SlowSubscriber, StorageConfig,
    StreamConfig, WhenQueueFull,
};
use super::{admission, consumers, decisions, sinks, telemetry};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const TIB: u64 = 1 << 40;

/// What an event takes in a commit group beside its packet, at most: a Client Identifier of 65,535 bytes and framing.
pub(super) const EVENT_OVERHEAD_BYTES_MAX: usize = 65 * 1024;
/// What a delivery takes beside the packet it came in, at most: properties the gateway adds.
const DELIVERY_OVERHEAD_BYTES_MAX: usize = 1024;
/// Packet Identifiers above this are kept for live deliveries, so in-flight durable ones stay below.
/// Each alias may cost a client's connection the memory of its longest topic.
const TOPIC_ALIAS_MAXIMUM_MAX: u16 = 1024;
const MAX_INFLIGHT_MAX: u16 = 16_383;

pub(super) fn resolve(root: Table, faults: Vec<Fault>) -> Result<(Config, Settings), Vec<Fault>> {
    let mut reader = Reader::new(root, faults);
    let storage = storage(reader.section("storage"));
    let listeners = reader.list("listener", 1..=16, listener);
    let admin = admin(reader.section("admin"));
    let mqtt = mqtt(reader.section("mqtt"));
    let dedup = dedup(reader.section("dedup"));
    let auth = auth(reader.section("auth"));
    let admission = admission::admission(reader.section("admission"));
    let decisions = decisions::decisions(reader.section("decisions"));
    let delivery = delivery(reader.section("delivery"));
    let streams = reader.list("stream", 0..=64, stream);
    let consumers = reader.list("consumer", 0..=10_000, consumers::consumer);
    let consumer_limits = consumers::consumers(reader.section("consumers"));
    let sinks = reader.list("sink", 0..=64, sinks::sink);
    let dead_letters = consumers::dead_letters(reader.section("dead_letters"));
    let telemetry = telemetry::telemetry(reader.section("telemetry"));
    let log = log(reader.section("log"));

    if let (Some(storage), Some(mqtt)) = (&storage, &mqtt) {
        group_holds_a_packet(&mut reader, storage, mqtt);
    }
    if let Some(storage) = &storage {
        log_holds_its_segments(&mut reader, storage, streams.as_deref().unwrap_or_default());
    }
    if let (Some(mqtt), Some(admission)) = (&mqtt, &admission) {
        admission::connect_fits_a_packet(&mut reader, mqtt, admission);
    }
    if let Some(admission) = &admission {
        admission::rules_are_about_something(&mut reader, admission);
    }
    if let (Some(mqtt), Some(delivery)) = (&mqtt, &delivery) {
        outbox_holds_a_packet(&mut reader, mqtt, delivery);
    }
    if let (Some(listeners), Some(auth)) = (&listeners, &auth) {
        listeners_say_whom_they_admit(&mut reader, listeners, auth);
    }
    if let Some(streams) = &streams {
        stream_names_are_unique(&mut reader, streams);
    }
    if let (Some(all), Some(limits), Some(streams)) = (&consumers, &consumer_limits, &streams) {
        consumers::consumers_fit(&mut reader, all, limits, streams);
    }
    if let (Some(sinks), Some(streams)) = (&sinks, &streams) {
        sinks::sinks_fit(&mut reader, sinks, streams);
    }
    if let (Some(letters), Some(mqtt)) = (&dead_letters, &mqtt) {
        consumers::letters_hold_a_packet(&mut reader, letters, mqtt);
    }

    let (settings, faults) = reader.finish();
    if !faults.is_empty() {
        return Err(faults);
    }
    // A section is `None` only after a fault was recorded, so with no faults all of them are there.
    let config = (|| {
        Some(Config {
            storage: storage?,
            listeners: listeners?,
            admin: admin?,
            mqtt: mqtt?,
            dedup: dedup?,
            auth: auth?,
            admission: admission?,
            decisions: decisions?,
            delivery: delivery?,
            streams: streams?,
            consumers: consumers?,
            consumer_limits: consumer_limits?,
            dead_letters: dead_letters?,
            sinks: sinks?,
            telemetry: telemetry?,
            log: log?,
        })
    })();
    config.map(|config| (config, settings)).ok_or(faults)
}

fn storage(mut section: Section<'_>) -> Option<StorageConfig> {
    let data_dir = section.string("data_dir", "the path of a directory", directory, |path| {
        path.to_string_lossy().into_owned().into()
    });
    let log = section.choice("log", &[("segments", LogKind::Segments), ("sled", LogKind::Sled)]);
    let interval = Durability::Interval(Duration::ZERO);
    let durability = section.choice(
        "durability",
        &[("fsync", Durability::Fsync), ("interval", interval), ("memory", Durability::Memory)],
    );
    let interval = section.duration("interval_ms", millis(1)..=millis(60_000));
    let max_bytes = section.size("max_bytes", 2 * MIB..=1024 * TIB);
    let segment_bytes = section.size("segment_bytes", MIB..=GIB);
    let compression =
        section.choice("compression", &[("none", Compression::None), ("lz4", Compression::Lz4)]);
    let reserve_bytes = section.size("reserve_bytes", 0..=16 * GIB);
    let group_bytes_max = section.size_in_memory("group_bytes_max", 64 * KIB..=256 * MIB);
    let view_save_interval = section.duration("view_save_interval_ms", millis(100)..=millis(600_000));
    section.finish();
    Some(StorageConfig {
        data_dir: data_dir?,
        log: log?,
        durability: match durability? {
            Durability::Interval(_) => Durability::Interval(interval?),
            durability => durability,
        },
        max_bytes: max_bytes?,
        segment_bytes: segment_bytes?,
        compression: compression?,
        reserve_bytes: reserve_bytes?,
        group_bytes_max: group_bytes_max?,
        view_save_interval: view_save_interval?,
    })
}

fn listener(mut section: Section<'_>) -> Option<ListenerConfig> {
    section.default("kind", "tcp");
    section.default("allow_anonymous", false);
    let kind = section.choice("kind", &[("tcp", ListenerKind::Tcp)]);
    let address = address(&mut section);
    let allow_anonymous = section.bool("allow_anonymous");
    let limits = admission::listener_limits(&mut section);
    section.finish();
    let limits = limits?;
    Some(ListenerConfig {
        kind: kind?,
        address: address?,
        allow_anonymous: allow_anonymous?,
        max_connections: limits.max_connections,
        publish_rate: limits.publish_rate,
        publish_bytes_rate: limits.publish_bytes_rate,
        slow_subscriber: limits.slow_subscriber,
    })
}

fn admin(mut section: Section<'_>) -> Option<AdminConfig> {
    let enabled = section.bool("enabled");
    let address = address(&mut section);
    section.finish();
    Some(AdminConfig { enabled: enabled?, address: address? })
}

fn mqtt(mut section: Section<'_>) -> Option<MqttConfig> {
    let max_qos = section.read("max_qos", "0, 1 or 2", max_qos, |qos| i64::from(*qos as u8).into());
    let retain_available = section.bool("retain_available");
    let retained_max_messages = section.integer("retained_max_messages", 0..=100_000_000_u64);
    let retained_max_bytes = section.size("retained_max_bytes", KIB..=TIB);
    let wildcard_subscription_available = section.bool("wildcard_subscription_available");
    let shared_subscription_available = section.bool("shared_subscription_available");
    let shared_subscription_strategy = section.choice(
        "shared_subscription_strategy",
        &[("round_robin", ShareStrategy::RoundRobin), ("publisher", ShareStrategy::Publisher)],
    );
    let subscription_identifiers_available = section.bool("subscription_identifiers_available");
    let receive_maximum = section.integer("receive_maximum", 1..=u16::MAX);
    let max_inflight = section.integer("max_inflight", 1..=MAX_INFLIGHT_MAX);
    let max_packet_bytes = section.size_in_memory("max_packet_bytes", KIB..=64 * MIB);
    let topic_alias_maximum = section.integer("topic_alias_maximum", 0..=TOPIC_ALIAS_MAXIMUM_MAX);
    let server_keep_alive_secs = section.integer("server_keep_alive_secs", 0..=u16::MAX);
    let session_expiry_max_secs = section.integer("session_expiry_max_secs", 0..=u32::MAX);
    let max_queued_messages = section.integer("max_queued_messages", 1..=1_000_000_000_000_u64);
    let max_queued_bytes = section.size("max_queued_bytes", KIB..=1024 * TIB);
    let when_queue_full = section.choice(
        "when_queue_full",
        &[
            ("drop_newest", WhenQueueFull::DropNewest),
            ("drop_oldest", WhenQueueFull::DropOldest),
            ("end_session", WhenQueueFull::EndSession),
        ],
    );
    let allow_empty_client_id = section.bool("allow_empty_client_id");
    let sys_interval_secs = section.integer("sys_interval_secs", 0..=u16::MAX);
    let connect_timeout = section.duration("connect_timeout_ms", millis(100)..=millis(60_000));
    section.finish();
    Some(MqttConfig {
        max_qos: max_qos?,
        retain_available: retain_available?,
        retained_max_messages: retained_max_messages?,
        retained_max_bytes: retained_max_bytes?,
        wildcard_subscription_available: wildcard_subscription_available?,
        shared_subscription_available: shared_subscription_available?,
        shared_subscription_strategy: shared_subscription_strategy?,
        subscription_identifiers_available: subscription_identifiers_available?,
        receive_maximum: receive_maximum?,
        max_inflight: max_inflight?,
        max_packet_bytes: max_packet_bytes?,
        topic_alias_maximum: topic_alias_maximum?,
        server_keep_alive_secs: server_keep_alive_secs?,
        session_expiry_max_secs: session_expiry_max_secs?,
        max_queued_messages: max_queued_messages?,
        max_queued_bytes: max_queued_bytes?,
        when_queue_full: when_queue_full?,
        allow_empty_client_id: allow_empty_client_id?,
        sys_interval_secs: sys_interval_secs?,
        connect_timeout: connect_timeout?,
    })
}

fn dedup(mut section: Section<'_>) -> Option<DedupConfig> {
    let window = section.duration("window", Duration::ZERO..=Duration::from_secs(7 * 86_400));
    let max_entries = section.integer("max_entries", 1..=100_000_000_u32);
    section.finish();
    Some(DedupConfig { window: window?, max_entries: max_entries? })
}

fn auth(mut section: Section<'_>) -> Option<AuthConfig> {
    let allow_anonymous = section.bool("allow_anonymous");
    section.finish();
    Some(AuthConfig { allow_anonymous: allow_anonymous? })
}

fn delivery(mut section: Section<'_>) -> Option<DeliveryConfig> {
    let outbox_bytes_max = section.size_in_memory("outbox_bytes_max", 4 * KIB..=GIB);
    let slow_subscriber = section.choice(
        "slow_subscriber",
        &[("drop", SlowSubscriber::Drop), ("disconnect", SlowSubscriber::Disconnect)],
    );
    let write_buffer_bytes = section.size_in_memory("write_buffer_bytes", 4 * KIB..=MIB);
    section.finish();
    Some(DeliveryConfig {
        outbox_bytes_max: outbox_bytes_max?,
        slow_subscriber: slow_subscriber?,
        write_buffer_bytes: write_buffer_bytes?,
    })
}

fn stream(mut section: Section<'_>) -> Option<StreamConfig> {
    section.default("replay_rate", "full");
    let name =
        section.string("name", "1 to 64 of a-z, 0-9, - and _", stream_name, |name| name.clone().into());
    let accepted = "1 to 64 Topic Filters, no two alike, none beginning with $";
    let topics = section.read("topics", accepted, topics, |topics| topics.clone().into());
    let max_age = section.duration("max_age", millis(1_000)..=Duration::from_secs(3_650 * 86_400));
    let max_bytes = section.size("max_bytes", MIB..=1024 * TIB);
    let pace = |text: &str| {
        Pace::parse(text).ok_or_else(|| Refusal::new(FaultKind::Invalid, "is not a pace".to_owned()))
    };
    let replay_rate = section.string("replay_rate", Pace::ACCEPTED, pace, |pace| pace.to_string().into());
    section.finish();
    Some(StreamConfig {
        name: name?,
        topics: topics?,
        max_age: max_age?,
        max_bytes: max_bytes?,
        replay_rate: replay_rate?,
    })
}

fn log(mut section: Section<'_>) -> Option<LogConfig> {
    let accepted =
        "error, warn, info, debug, trace, or directives such as \"info,gateway::connection=debug\"";
    let level = section.string("level", accepted, log_level, |level| level.clone().into());
    let format = section.choice("format", &[("human", LogFormat::Human), ("json", LogFormat::Json)]);
    section.finish();
    Some(LogConfig { level: level?, format: format? })
}

// The forms of single keys.

fn address(section: &mut Section<'_>) -> Option<SocketAddr> {
    let accepted = "IP address and port, as 127.0.0.1:1883 or [::1]:1883";
    let parse = |text: &str| {
        text.parse::<SocketAddr>()
            .map_err(|_| Refusal::new(FaultKind::Invalid, "is not an IP address and port"))
    };
    section.string("address", accepted, parse, |address| address.to_string().into())
}

fn directory(text: &str) -> Result<PathBuf, Refusal> {
    if text.is_empty() || text.contains('\0') {
        return Err(Refusal::new(FaultKind::Invalid, "is not a path"));
    }
    Ok(PathBuf::from(text))
}

fn max_qos(given: &Given) -> Result<QoS, Refusal> {
    match given.integer()? {
        0 => Ok(QoS::AtMostOnce),
        1 => Ok(QoS::AtLeastOnce),
        2 => Ok(QoS::ExactlyOnce),
        _ => Err(Refusal::new(FaultKind::OutOfRange, "is not a QoS")),
    }
}

fn stream_name(text: &str) -> Result<String, Refusal> {
    let valid = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'_';
    if (1..=64).contains(&text.len()) && text.bytes().all(valid) {
        Ok(text.to_owned())
    } else {
        Err(Refusal::new(FaultKind::Invalid, "is not a stream's name"))
    }
}

fn topics(given: &Given) -> Result<Vec<String>, Refusal> {
    let topics = given.strings()?;
    if !(1..=64).contains(&topics.len()) {
        return Err(Refusal::new(FaultKind::OutOfRange, format!("has {} entries", topics.len())));
    }
    let mut seen = HashSet::new();
    for topic in &topics {
        if let Err(error) = TopicFilter::parse(topic) {
            return Err(Refusal::new(FaultKind::Invalid, format!("holds \"{topic}\": {error}")));
        }
        if topic.starts_with('$') {
            return Err(Refusal::new(FaultKind::Invalid, format!("holds \"{topic}\", which begins with $")));
        }
        if !seen.insert(topic) {
            return Err(Refusal::new(FaultKind::Invalid, format!("holds \"{topic}\" twice")));
        }
    }
    Ok(topics)
}

/// Whether `text` is a level, or directives by module; if not, what is wrong with it.
///
/// # Errors
/// A sentence for people.
pub fn check_log_level(text: &str) -> Result<(), String> {
    // A single misspelt word would otherwise be taken for the name of a module, and the log would fall silent.
    let mut words = text.split(',').map(str::trim).filter(|word| !word.contains(['=', '[']));
    if let Some(word) = words.find(|word| word.parse::<LevelFilter>().is_err()) {
        return Err(format!("holds \"{word}\", which is not a level"));
    }
    EnvFilter::try_new(text).map(drop).map_err(|error| format!("is not understood: {error}"))
}

fn log_level(text: &str) -> Result<String, Refusal> {
    let refusal = |problem| Refusal::new(FaultKind::Invalid, problem);
    check_log_level(text).map(|()| text.to_owned()).map_err(refusal)
}

// The relations between limits.

fn group_holds_a_packet(reader: &mut Reader, storage: &StorageConfig, mqtt: &MqttConfig) {
    let least = mqtt.max_packet_bytes.saturating_add(EVENT_OVERHEAD_BYTES_MAX);
    let problem = "a commit group cannot hold the largest packet";
    let holds = storage.group_bytes_max >= least;
    let accepted = format!("at least mqtt.max_packet_bytes and 65KiB, {least} bytes");
    reader.relation(FaultKind::Relation, "storage.group_bytes_max", holds, problem, accepted);
}

fn log_holds_its_segments(reader: &mut Reader, storage: &StorageConfig, streams: &[StreamConfig]) {
    let group = storage.group_bytes_max as u64;
    let holds = storage.segment_bytes >= group;
    let accepted = format!("at least storage.group_bytes_max, {group} bytes");
    let problem = "a segment cannot hold a commit group";
    reader.relation(FaultKind::Relation, "storage.segment_bytes", holds, problem, accepted);

    // One segment is being written while the oldest waits to be trimmed.
    let room = storage.segment_bytes.saturating_mul(2);
    let holds = storage.max_bytes >= room;
    let accepted = format!("at least two times storage.segment_bytes, {room} bytes");
    reader.relation(
        FaultKind::Relation,
        "storage.max_bytes",
        holds,
        "the log cannot hold two segments",
        accepted,
    );

    let most = storage.max_bytes.saturating_sub(room);
    let mut kept = 0_u64;
    for (index, stream) in streams.iter().enumerate() {
        // An event that two streams keep is in the log once, but nothing says that there are such events.
        kept = kept.saturating_add(stream.max_bytes);
        let holds = kept <= most || storage.max_bytes < room;
        let key = format!("stream.{index}.max_bytes");
        let problem = "the log would be full before the streams up to this one let go of anything";
        let accepted = format!(
            "a sum over all streams of at most storage.max_bytes less two segments, {most} bytes; it is {kept}"
        );
        reader.relation(FaultKind::Relation, &key, holds, problem, accepted);
    }
}

fn outbox_holds_a_packet(reader: &mut Reader, mqtt: &MqttConfig, delivery: &DeliveryConfig) {
    let least = mqtt.max_packet_bytes.saturating_add(DELIVERY_OVERHEAD_BYTES_MAX);
    let holds = delivery.outbox_bytes_max >= least;
    let problem = "an outbox cannot hold the largest packet";
    let accepted = format!("at least mqtt.max_packet_bytes and 1KiB, {least} bytes");
    reader.relation(FaultKind::Relation, "delivery.outbox_bytes_max", holds, problem, accepted);
}

fn listeners_say_whom_they_admit(reader: &mut Reader, listeners: &[ListenerConfig], auth: &AuthConfig) {
    for (index, listener) in listeners.iter().enumerate() {
        let key = format!("listener.{index}.address");
        let loopback = listener.address.ip().is_loopback();
        let holds = loopback || listener.allow_anonymous;
        let problem = format!("{} is not loopback, and clients would need no credentials", listener.address);
        let accepted = "a loopback address, or allow_anonymous = true on this listener".to_owned();
        reader.relation(FaultKind::Unsafe, &key, holds, &problem, accepted);

        let holds = !loopback || listener.allow_anonymous || auth.allow_anonymous;
        let problem = "this listener admits nobody: this version has no way to authenticate";
        let accepted = "auth.allow_anonymous = true, or allow_anonymous = true on this listener".to_owned();
        reader.relation(FaultKind::Relation, &key, holds, problem, accepted);
    }
}

fn stream_names_are_unique(reader: &mut Reader, streams: &[StreamConfig]) {
    let mut seen = HashSet::new();
    for (index, stream) in streams.iter().enumerate() {
        let holds = seen.insert(stream.name.as_str());
        let problem = format!("there is another stream named \"{}\"", stream.name);
        reader.relation(FaultKind::Relation, &format!("stream.{index}.name"), holds, &problem, String::new());
    }
}

const fn millis(ms: u64) -> Duration {
    Duration::from_millis(ms)
}
