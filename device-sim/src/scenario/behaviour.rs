//! The keys that say how a cohort's devices behave: encoding, reports, clocks, uplink, topics beside the events.

use std::path::Path;
use std::time::Duration;

use super::cohort::{ClockSpec, CommandTopics, ReportMode, ReportSpec, StateTopic};
use super::layers::Layers;
use super::section::{FromToml, Section};
use super::topic::TopicTemplate;
use crate::payload::protobuf::Schema;
use crate::payload::{PayloadSpec, RAW_BYTES_MAX, RAW_BYTES_MIN};
use crate::scenario::rhythm::{Duty, Lateness, Uplink};

#[derive(Clone, Copy, PartialEq)]
enum Encoding {
    Json,
    MessagePack,
    Cbor,
    Protobuf,
    Sparkplug,
    Raw,
}

const ENCODINGS: [(&str, Encoding); 6] = [
    ("json", Encoding::Json),
    ("messagepack", Encoding::MessagePack),
    ("cbor", Encoding::Cbor),
    ("protobuf", Encoding::Protobuf),
    ("sparkplug", Encoding::Sparkplug),
    ("raw", Encoding::Raw),
];

/// `payload = "json"`, or a table with its `kind` and what that needs.
pub(super) fn payload(keys: &Layers<'_, '_>) -> PayloadSpec {
    let at = keys.at("payload");
    if at.raw("payload").is_none_or(|value| value.as_table().is_none()) {
        return match keys.choice("payload", &ENCODINGS, Encoding::Json) {
            Encoding::Json => PayloadSpec::Json,
            Encoding::MessagePack => PayloadSpec::MessagePack,
            Encoding::Cbor => PayloadSpec::Cbor,
            Encoding::Protobuf => PayloadSpec::Protobuf(None),
            Encoding::Sparkplug => PayloadSpec::Sparkplug,
            Encoding::Raw => PayloadSpec::Raw { bytes_min: 256, bytes_max: 256 },
        };
    }
    let section = at.section("payload");
    section.required("kind", String::new());
    let spec = match section.choice("kind", &ENCODINGS, Encoding::Json) {
        Encoding::Json => PayloadSpec::Json,
        Encoding::MessagePack => PayloadSpec::MessagePack,
        Encoding::Cbor => PayloadSpec::Cbor,
        Encoding::Protobuf => PayloadSpec::Protobuf(schema(&section)),
        Encoding::Sparkplug => PayloadSpec::Sparkplug,
        Encoding::Raw => raw(&section),
    };
    section.finish();
    spec
}

fn schema(section: &Section<'_>) -> Option<Schema> {
    let path: String = section.optional("descriptor")?;
    let message = section.required("message", String::new());
    let schema = Schema::read(Path::new(&path), &message);
    schema.map_err(|fault| section.fault("descriptor", &fault.to_string())).ok()
}

/// `bytes = 256`, or `bytes_min` and `bytes_max`.
fn raw(section: &Section<'_>) -> PayloadSpec {
    let (least, most) = (RAW_BYTES_MIN as u64, RAW_BYTES_MAX as u64);
    let bytes = section.count("bytes", 256, least, most);
    let bytes_min = section.count("bytes_min", bytes, least, most) as usize;
    let bytes_max = section.count("bytes_max", bytes.max(bytes_min as u64), least, most) as usize;
    if bytes_min > bytes_max {
        section.fault("bytes_min", "must not be above `bytes_max`");
    }
    PayloadSpec::Raw { bytes_min, bytes_max }
}

/// The shares of QoS 1 and 2; QoS 1 has its default share.
pub(super) fn qos(section: &Section<'_>, default: f64) -> [f64; 2] {
    let [_, qos1, qos2] = mix(section, "qos", ["0", "1", "2"]).unwrap_or([1.0 - default, default, 0.0]);
    [qos1, qos2]
}

/// The share of MQTT 5.
pub(super) fn v5_share(section: &Section<'_>) -> f64 {
    let [_, v5] = mix(section, "protocol", ["3.1.1", "5"]).unwrap_or([0.5, 0.5]);
    v5
}

/// The shares of a mix: a table of weights such as `{ "0" = 1, "1" = 4 }`, or one of the names alone.
fn mix<const N: usize>(
    section: &Section<'_>,
    key: &'static str,
    names: [&'static str; N],
) -> Option<[f64; N]> {
    let value = section.raw(key)?;
    if value.as_table().is_some() {
        let mix = section.section(key);
        let weights = names.map(|name| mix.number(name, 0.0, 0.0, 1e9));
        mix.finish();
        let sum: f64 = weights.iter().sum();
        if sum > 0.0 {
            return Some(weights.map(|weight| weight / sum));
        }
        section.fault(key, "at least one weight must be above 0");
        return None;
    }
    let word =
        value.as_str().map(str::to_owned).or_else(|| value.as_integer().map(|number| number.to_string()));
    if let Some(word) = word.filter(|word| names.contains(&word.as_str())) {
        return Some(names.map(|name| if name == word { 1.0 } else { 0.0 }));
    }
    let names = names.map(|name| format!("`{name}`")).join(", ");
    section.fault(key, &format!("must be {names}, or a table with a weight for each"));
    None
}

pub(super) fn report(keys: &Layers<'_, '_>) -> ReportSpec {
    let modes = [
        ("always", ReportMode::Always),
        ("on-change", ReportMode::OnChange),
        ("changes", ReportMode::Changes),
    ];
    let mode = keys.choice("report", &modes, ReportMode::Always);
    let heartbeat = keys.or("heartbeat", Duration::from_secs(3_600));
    if heartbeat.is_zero() {
        keys.fault("heartbeat", "must be above zero");
    }
    ReportSpec { mode, heartbeat_s: heartbeat.as_secs_f64() }
}

pub(super) fn clock(keys: &Layers<'_, '_>) -> ClockSpec {
    let section = keys.section("clock");
    let clock = ClockSpec {
        skew_s: section.or("skew", Duration::ZERO).as_secs_f64(),
        drift: section.number("drift_ppm", 0.0, 0.0, 100_000.0) / 1e6,
    };
    section.finish();
    clock
}

pub(super) fn uplink(keys: &Layers<'_, '_>) -> Uplink {
    let late = keys.section("late");
    let lateness = Lateness {
        share: late.number("share", 0.0, 0.0, 1.0),
        mean_us: micros(late.or("by", Duration::from_secs(10))),
    };
    late.finish();
    let has_duty = keys.has("duty");
    let section = keys.section("duty");
    let every = section.or("every", Duration::from_secs(60));
    let duty = Duty { awake_us: micros(section.or("awake", every / 10)), every_us: micros(every) };
    if has_duty && !(1..duty.every_us).contains(&duty.awake_us) {
        section.fault("awake", "must be above zero and shorter than `every`");
    }
    section.finish();
    Uplink { late: (lateness.share > 0.0).then_some(lateness), duty: has_duty.then_some(duty) }
}

pub(super) fn template(keys: &Layers<'_, '_>, key: &'static str) -> Option<TopicTemplate> {
    if is_off(keys, key) { None } else { template_in(keys.at(key), key) }
}

/// `status = false`: not even if the fleet below has one.
fn is_off(keys: &Layers<'_, '_>, key: &'static str) -> bool {
    keys.at(key).raw(key).is_some_and(|value| value.as_bool() == Some(false))
}

pub(super) fn state(keys: &Layers<'_, '_>) -> Option<StateTopic> {
    if !keys.has("state") || is_off(keys, "state") {
        return None;
    }
    let section = keys.section("state");
    section.required("topic", String::new());
    let topic = template_in(&section, "topic");
    let every_us = micros(section.or("every", Duration::from_secs(10)));
    section.finish();
    topic.map(|topic| StateTopic { topic, every_us })
}

pub(super) fn commands(keys: &Layers<'_, '_>) -> Option<CommandTopics> {
    if !keys.has("commands") || is_off(keys, "commands") {
        return None;
    }
    let section = keys.section("commands");
    section.required("topic", String::new());
    section.required("reply", String::new());
    let (commands, replies) = (template_in(&section, "topic"), template_in(&section, "reply"));
    section.finish();
    Some(CommandTopics { commands: commands?, replies: replies? })
}

fn template_in(section: &Section<'_>, key: &'static str) -> Option<TopicTemplate> {
    let text: String = section.optional(key)?;
    TopicTemplate::parse(&text).map_err(|what| section.fault(key, &what)).ok()
}

/// A moment as TOML writes it, such as `2026-01-01T00:00:00Z`, in milliseconds since 1970.
pub(super) struct Moment(pub i64);

impl FromToml for Moment {
    fn from_toml(value: &toml::Value) -> Result<Self, String> {
        let wrong = || "must be a moment such as 2026-01-01T00:00:00Z".to_owned();
        let moment: jiff::Timestamp =
            value.as_datetime().ok_or_else(wrong)?.to_string().parse().map_err(|_| wrong())?;
        Ok(Moment(moment.as_millisecond()))
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
