//! `[[consumer]]`, `[consumers]` and `[dead_letters]`: what each key accepts, and what it becomes.

use std::collections::HashSet;
use std::time::Duration;

use gateway_protocol::TopicFilter;

use super::fault::FaultKind;
use super::reader::{Given, Reader, Refusal, Section};
use super::types::{MqttConfig, StreamConfig};
use super::units::{format_duration, parse_duration};

/// One `[[consumer]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerConfig {
    /// 1 to 64 of `a-z 0-9 - _`.
    pub name: String,
    /// The name of a configured stream.
    pub stream: String,
    /// A valid Topic Filter, not beginning with `$`.
    pub filter: String,
    /// Where it begins when it is made.
    pub from: ConsumerStart,
    /// How long a worker may have an event without a word.
    pub ack_wait: Duration,
    /// Attempts before an event becomes a dead letter; 0: it never does.
    pub max_deliver: u32,
    /// The wait after each failure; the last one repeats.
    pub backoff: Vec<Duration>,
    /// Events that may be open at one time.
    pub max_ack_pending: u32,
    /// Which events may be under way at the same time.
    pub order: ConsumerOrder,
}

/// Where a consumer begins when it is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConsumerStart {
    /// With the oldest event that the stream keeps.
    Earliest,
    /// With the next event.
    Latest,
    /// With this log offset, or the first one after it.
    Offset(u64),
    /// With the first event stored at or after this time, in milliseconds since the Unix epoch.
    Time(u64),
    /// With the first event stored at most so long ago.
    Ago(Duration),
}

/// Which events of a consumer may be under way at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConsumerOrder {
    /// Any.
    None,
    /// One at a time of each publisher and topic.
    Key,
}

/// `[consumers]`: limits of all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumersConfig {
    /// Consumers at most, made while the gateway runs or configured.
    pub max: u32,
    /// Workers of one consumer.
    pub workers_max: u32,
    /// A worker that has let leases run out and was not heard of for so many times `ack_wait` is ended.
    pub hang_limit: u32,
}

/// `[dead_letters]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLettersConfig {
    /// Bytes that those of all consumers take together.
    pub max_bytes: u64,
    /// How many one consumer has.
    pub max_count: u64,
    /// How long they are kept.
    pub max_age: Duration,
}

const DAY: Duration = Duration::from_secs(86_400);
const BACKOFF_MAX: usize = 32;

pub(super) fn consumer(mut section: Section<'_>) -> Option<ConsumerConfig> {
    for (key, value) in [("filter", "#"), ("from", "latest"), ("ack_wait", "30s"), ("order", "none")] {
        section.default(key, value);
    }
    section.default("max_deliver", 5);
    section.default("backoff", Vec::<toml::Value>::new());
    section.default("max_ack_pending", 1000);
    let text = |text: &String| text.clone().into();
    let name = section.string("name", "1 to 64 of a-z, 0-9, - and _", |name| word(name, "consumer"), text);
    let stream = section.string("stream", "the name of a stream", |name| word(name, "stream"), text);
    let filter = section.string("filter", "a Topic Filter that does not begin with $", filter, text);
    let accepted = "earliest, latest, a log offset, an RFC 3339 time, or a span such as -15m";
    let from = section.read("from", accepted, start, |from| from.to_string().into());
    let ack_wait = section.duration("ack_wait", Duration::from_millis(100)..=DAY);
    let max_deliver = section.integer("max_deliver", 0..=1000_u32);
    let accepted = "at most 32 durations up to 7d, as [\"1s\", \"10s\"]";
    let backoff = section.read("backoff", accepted, backoff, |waits| {
        waits.iter().map(|wait| format_duration(*wait)).collect::<Vec<_>>().into()
    });
    let max_ack_pending = section.integer("max_ack_pending", 1..=100_000_u32);
    let order = section.choice("order", &[("none", ConsumerOrder::None), ("key", ConsumerOrder::Key)]);
    section.finish();
    Some(ConsumerConfig {
        name: name?,
        stream: stream?,
        filter: filter?,
        from: from?,
        ack_wait: ack_wait?,
        max_deliver: max_deliver?,
        backoff: backoff?,
        max_ack_pending: max_ack_pending?,
        order: order?,
    })
}

pub(super) fn consumers(mut section: Section<'_>) -> Option<ConsumersConfig> {
    let max = section.integer("max", 0..=10_000_u32);
    let workers_max = section.integer("workers_max", 1..=100_000_u32);
    let hang_limit = section.integer("hang_limit", 1..=1000_u32);
    section.finish();
    Some(ConsumersConfig { max: max?, workers_max: workers_max?, hang_limit: hang_limit? })
}

pub(super) fn dead_letters(mut section: Section<'_>) -> Option<DeadLettersConfig> {
    let max_bytes = section.size("max_bytes", 1 << 20..=16 << 30);
    let max_count = section.integer("max_count", 1..=10_000_000_u64);
    let max_age = section.duration("max_age", Duration::from_secs(1)..=3650 * DAY);
    section.finish();
    Some(DeadLettersConfig { max_bytes: max_bytes?, max_count: max_count?, max_age: max_age? })
}

/// Names are unique, streams are there, and there are not too many.
pub(super) fn consumers_fit(
    reader: &mut Reader,
    all: &[ConsumerConfig],
    limits: &ConsumersConfig,
    streams: &[StreamConfig],
) {
    let mut seen = HashSet::new();
    for (index, consumer) in all.iter().enumerate() {
        let holds = seen.insert(consumer.name.as_str());
        let problem = format!("there is another consumer named \"{}\"", consumer.name);
        let key = format!("consumer.{index}.name");
        reader.relation(FaultKind::Relation, &key, holds, &problem, String::new());

        let holds = streams.iter().any(|stream| stream.name == consumer.stream);
        let problem = format!("there is no stream named \"{}\"", consumer.stream);
        let names: Vec<_> = streams.iter().map(|stream| stream.name.as_str()).collect();
        let key = format!("consumer.{index}.stream");
        reader.relation(FaultKind::Relation, &key, holds, &problem, names.join(", "));
    }
    let count = u32::try_from(all.len()).unwrap_or(u32::MAX);
    let problem = format!("{count} consumers are configured");
    let accepted = format!("at least {count}");
    reader.relation(FaultKind::Relation, "consumers.max", count <= limits.max, &problem, accepted);
}

/// A dead letter of the largest packet has to fit.
pub(super) fn letters_hold_a_packet(reader: &mut Reader, letters: &DeadLettersConfig, mqtt: &MqttConfig) {
    let least =
        (mqtt.max_packet_bytes as u64).saturating_add(super::resolve::EVENT_OVERHEAD_BYTES_MAX as u64);
    let holds = letters.max_bytes >= least;
    let problem = "the largest packet could not become a dead letter";
    let accepted = format!("at least mqtt.max_packet_bytes and 65KiB, {least} bytes");
    reader.relation(FaultKind::Relation, "dead_letters.max_bytes", holds, problem, accepted);
}

pub(super) fn word(text: &str, what: &str) -> Result<String, Refusal> {
    let valid = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'_';
    if (1..=64).contains(&text.len()) && text.bytes().all(valid) {
        Ok(text.to_owned())
    } else {
        Err(Refusal::new(FaultKind::Invalid, format!("is not a {what}'s name")))
    }
}

pub(super) fn filter(text: &str) -> Result<String, Refusal> {
    match TopicFilter::parse(text) {
        Err(error) => Err(Refusal::new(FaultKind::Invalid, error.to_string())),
        Ok(_) if text.starts_with('$') => Err(Refusal::new(FaultKind::Invalid, "begins with $")),
        Ok(_) => Ok(text.to_owned()),
    }
}

pub(super) fn start(given: &Given) -> Result<ConsumerStart, Refusal> {
    if let Ok(offset) = given.integer() {
        return u64::try_from(offset)
            .map(ConsumerStart::Offset)
            .map_err(|_| Refusal::new(FaultKind::OutOfRange, "is no offset"));
    }
    parse_start(given.string()?)
        .ok_or_else(|| Refusal::new(FaultKind::Invalid, "is no beginning of a consumer"))
}

fn parse_start(text: &str) -> Option<ConsumerStart> {
    match text {
        "earliest" => return Some(ConsumerStart::Earliest),
        "latest" => return Some(ConsumerStart::Latest),
        _ => {}
    }
    if let Some(span) = text.strip_prefix('-') {
        return parse_duration(span).map(ConsumerStart::Ago);
    }
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return text.parse().ok().map(ConsumerStart::Offset);
    }
    let time: jiff::Timestamp = text.parse().ok()?;
    u64::try_from(time.as_millisecond()).ok().map(ConsumerStart::Time)
}

impl std::fmt::Display for ConsumerStart {
    /// As the key reads it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Earliest => f.write_str("earliest"),
            Self::Latest => f.write_str("latest"),
            Self::Offset(offset) => write!(f, "{offset}"),
            Self::Time(unix_ms) => {
                let time =
                    i64::try_from(*unix_ms).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
                write!(f, "{}", time.unwrap_or(jiff::Timestamp::MAX))
            }
            Self::Ago(span) => write!(f, "-{}", format_duration(*span)),
        }
    }
}

fn backoff(given: &Given) -> Result<Vec<Duration>, Refusal> {
    let texts = given.strings()?;
    if texts.len() > BACKOFF_MAX {
        return Err(Refusal::new(FaultKind::OutOfRange, format!("has {} entries", texts.len())));
    }
    let wait = |text: &String| {
        parse_duration(text)
            .filter(|wait| *wait <= 7 * DAY)
            .ok_or_else(|| Refusal::new(FaultKind::Invalid, format!("holds \"{text}\"")))
    };
    texts.iter().map(wait).collect()
}

#[cfg(test)]
mod tests {
    use super::super::{Config, ConfigErrors, FaultKind, LoadOptions};
    use super::*;

    fn load(sets: &[&str]) -> Result<Config, ConfigErrors> {
        let sets = sets.iter().map(|set| (*set).to_owned()).collect();
        Config::load(LoadOptions { sets, ..LoadOptions::default() })
    }

    #[test]
    fn a_consumer_needs_a_name_and_a_stream_and_has_defaults_for_the_rest() {
        assert!(Config::default().consumers.is_empty());
        let config = load(&["consumer=[{name='billing', stream='telemetry'}]"]).unwrap();
        let expected = ConsumerConfig {
            name: "billing".into(),
            stream: "telemetry".into(),
            filter: "#".into(),
            from: ConsumerStart::Latest,
            ack_wait: Duration::from_secs(30),
            max_deliver: 5,
            backoff: Vec::new(),
            max_ack_pending: 1000,
            order: ConsumerOrder::None,
        };
        assert_eq!(config.consumers, [expected]);
        let environment = vec![
            ("GATEWAY_CONSUMER".to_owned(), "[{ name = 'a', stream = 'telemetry' }]".to_owned()),
            ("GATEWAY_CONSUMER__0__ORDER".to_owned(), "key".to_owned()),
        ];
        let config = Config::load(LoadOptions { environment, ..LoadOptions::default() }).unwrap();
        assert_eq!(config.consumers[0].order, ConsumerOrder::Key);
    }

    #[test]
    fn what_is_shown_of_a_consumer_loads_as_the_same() {
        let consumer = "{name='a', stream='telemetry', filter='devices/+/x', from='2026-01-02T03:04:05Z', \
                        ack_wait='90s', max_deliver=0, backoff=['0s', '1500ms', '7d'], order='key'}";
        let options = LoadOptions { sets: vec![format!("consumer=[{consumer}]")], ..LoadOptions::default() };
        let (config, settings) = Config::load_with_settings(options).unwrap();
        assert_eq!(config.consumers[0].from, ConsumerStart::Time(1_767_323_045_000));
        let waits: Vec<_> = config.consumers[0].backoff.iter().map(Duration::as_millis).collect();
        assert_eq!(waits, [0, 1500, 604_800_000]);
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("shown.toml");
        std::fs::write(&path, settings.to_string()).unwrap();
        let shown = Config::load(LoadOptions { file: Some(path), ..LoadOptions::default() }).unwrap();
        assert_eq!(shown, config);
    }

    #[test]
    fn every_form_of_a_beginning_is_read_and_shown() {
        for (text, start) in [
            ("earliest", ConsumerStart::Earliest),
            ("latest", ConsumerStart::Latest),
            ("17", ConsumerStart::Offset(17)),
            ("-15m", ConsumerStart::Ago(Duration::from_secs(900))),
            ("2023-11-14T22:13:20Z", ConsumerStart::Time(1_700_000_000_000)),
        ] {
            assert_eq!((parse_start(text), start.to_string().as_str()), (Some(start), text));
        }
        for text in ["", "soon", "-", "-15", "1e3", "2023-11-14", "99999999999999999999"] {
            assert_eq!(parse_start(text), None, "{text}");
        }
        let config = load(&["consumer=[{name='a', stream='telemetry', from=7}]"]).unwrap();
        assert_eq!(config.consumers[0].from, ConsumerStart::Offset(7));
    }

    #[test]
    fn faults_of_consumers_are_reported_together() {
        let errors = load(&[
            "consumer=[{name='Bad', filter='a/#/b', from='soon', backoff=['1'], order='any', max_delivr=1}]",
            "consumers.max=20000",
            "dead_letters.max_age=1",
        ])
        .unwrap_err();
        let keys: Vec<_> = errors.faults().iter().map(|fault| fault.key.as_str()).collect();
        let expected = [
            "consumer.0.name",
            "consumer.0.stream",
            "consumer.0.filter",
            "consumer.0.from",
            "consumer.0.backoff",
            "consumer.0.order",
            "consumer.0.max_delivr",
            "consumers.max",
            "dead_letters.max_age",
        ];
        assert_eq!(keys, expected);
    }

    #[test]
    fn consumers_that_do_not_fit_are_relations() {
        let two = "consumer=[{name='a', stream='telemetry'}, {name='a', stream='telemetry'}]";
        for (sets, key) in [
            (&[two][..], "consumer.1.name"),
            (&["consumer=[{name='a', stream='other'}]"], "consumer.0.stream"),
            (&["consumer=[{name='a', stream='telemetry'}]", "consumers.max=0"], "consumers.max"),
            (&["dead_letters.max_bytes=1MiB"], "dead_letters.max_bytes"),
        ] {
            let errors = load(sets).unwrap_err();
            assert_eq!(errors.faults().len(), 1, "{errors}");
            assert_eq!(
                (errors.faults()[0].key.as_str(), errors.faults()[0].kind),
                (key, FaultKind::Relation)
            );
        }
    }
}
