//! `[[subscriber]]`: who receives, and by which kind of subscription.

use std::collections::HashSet;
use std::time::Duration;

use super::section::Section;
use crate::qos::QoS;

/// The most subscribers of one scenario.
pub const SUBSCRIBERS_MAX: usize = 16;

/// The most members of one subscriber.
pub const MEMBERS_MAX: u32 = 256;

const PROTOCOLS: [(&str, Protocol); 2] = [("3.1.1", Protocol::V3_1_1), ("5", Protocol::V5)];

/// One backend service: one client, or several that are complete together.
#[derive(Clone, Debug, PartialEq)]
pub struct SubscriberSpec {
    /// Its name in the report, and the end of its Client Identifier.
    pub name: String,
    /// What it subscribes to, as written.
    pub filter: String,
    /// What kind of subscription that is.
    pub source: Source,
    /// The QoS it asks for.
    pub qos: QoS,
    /// Whether its session outlives its connections.
    pub durable: bool,
    /// What it speaks.
    pub protocol: Protocol,
    /// How many clients share the subscription.
    pub members: u32,
    /// How its members answer deliveries, if they are workers.
    pub work: Work,
    /// How long it takes for each event, whatever the phase.
    pub delay: Duration,
}

/// A kind of subscription.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A Topic Filter.
    Plain,
    /// `$share/<group>/<filter>`: each event goes to one member.
    Shared {
        /// The filter behind the group.
        filter: String,
    },
    /// `$stream/<name>/<from>/<filter>`: a reader of the gateway's log, which goes on behind the last offset it has seen.
    Stream {
        /// The stream.
        stream: String,
        /// Where the first subscription begins.
        from: String,
        /// The filter behind it.
        filter: String,
    },
    /// `$consumer/<name>`: workers on a consumer of the gateway.
    Consumer {
        /// What the consumer takes, since its name does not say.
        filter: String,
    },
}

/// How workers answer deliveries; shares from 0 to 1, drawn for each delivery.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Work {
    /// Answered with a Reason Code of 0x80, so that somebody else gets it.
    pub nak: f64,
    /// Never answered, so that somebody else gets it after a while.
    pub hang: f64,
}

/// An MQTT protocol version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// MQTT 3.1.1.
    V3_1_1,
    /// MQTT 5.
    V5,
}

impl SubscriberSpec {
    /// One client of a Topic Filter, not durable.
    pub fn plain(name: &str, filter: &str, qos: QoS, protocol: Protocol) -> Self {
        SubscriberSpec {
            name: name.to_owned(),
            filter: filter.to_owned(),
            source: Source::Plain,
            qos,
            durable: false,
            protocol,
            members: 1,
            work: Work::default(),
            delay: Duration::ZERO,
        }
    }

    /// The Topic Filter that its events match.
    pub fn matching(&self) -> &str {
        match &self.source {
            Source::Plain => &self.filter,
            Source::Shared { filter } | Source::Stream { filter, .. } | Source::Consumer { filter } => filter,
        }
    }

    /// Whether a device's events are to come in order. Those of a group come to several members, and what a worker hands
    /// back is overtaken.
    pub fn is_ordered(&self) -> bool {
        self.members == 1 && !self.source.is_consumer()
    }

    /// Whether the broker keeps what it has not delivered while nobody is connected.
    pub fn is_kept(&self) -> bool {
        self.durable || matches!(self.source, Source::Stream { .. } | Source::Consumer { .. })
    }

    /// A member's Client Identifier.
    pub(crate) fn client_id(&self, prefix: &str, member: u32) -> String {
        match self.members {
            1 => format!("{prefix}backend-{}", self.name),
            _ => format!("{prefix}backend-{}-{member}", self.name),
        }
    }
}

impl Source {
    /// Whether its members are workers.
    pub fn is_consumer(&self) -> bool {
        matches!(self, Source::Consumer { .. })
    }
}

impl Protocol {
    /// As scenarios and reports write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Protocol::V3_1_1 => "3.1.1",
            Protocol::V5 => "5",
        }
    }
}

pub(super) fn subscribers(top: &Section<'_>) -> Vec<SubscriberSpec> {
    let sections = top.sections("subscriber");
    if sections.is_empty() {
        top.fault("subscriber", "at least one [[subscriber]] is needed, or nothing could be checked");
    }
    if sections.len() > SUBSCRIBERS_MAX {
        top.fault("subscriber", &format!("at most {SUBSCRIBERS_MAX} are possible"));
    }
    let mut names = HashSet::new();
    let mut subscribers = Vec::with_capacity(sections.len());
    for section in sections {
        let subscriber = subscriber(&section);
        if !names.insert(subscriber.name.clone()) {
            section.fault("name", &format!("there is already a subscriber `{}`", subscriber.name));
        }
        section.finish();
        subscribers.push(subscriber);
    }
    subscribers
}

fn subscriber(section: &Section<'_>) -> SubscriberSpec {
    let name = section.required("name", String::new());
    if name.is_empty() || name.len() > 64 {
        section.fault("name", "must be 1 to 64 bytes");
    }
    let filter = section.required("filter", "#".to_owned());
    let source = source(section, &filter);
    let qos = match section.count("qos", 1, 0, 1) {
        0 => QoS::AtMostOnce,
        _ => QoS::AtLeastOnce,
    };
    let spec = SubscriberSpec {
        name,
        filter,
        qos,
        durable: section.or("durable", false),
        protocol: section.choice("protocol", &PROTOCOLS, Protocol::V5),
        members: section.count("members", 1, 1, u64::from(MEMBERS_MAX)) as u32,
        work: work(section, &source),
        delay: section.or("delay", Duration::ZERO),
        source,
    };
    if spec.members > 1 && matches!(spec.source, Source::Plain | Source::Stream { .. }) {
        section.fault("members", "only those of a $share/... or $consumer/... are complete together");
    }
    if matches!(spec.source, Source::Stream { .. }) && spec.protocol == Protocol::V3_1_1 {
        section.fault("protocol", "must be 5: the offsets that a reader goes on by are User Properties");
    }
    if matches!(spec.source, Source::Stream { .. } | Source::Consumer { .. }) && spec.qos == QoS::AtMostOnce {
        section.fault("qos", "must be 1: what it reads was stored to be acknowledged");
    }
    spec
}

fn source(section: &Section<'_>, filter: &str) -> Source {
    let parts: Vec<&str> = filter.splitn(4, '/').collect();
    let (source, matching) = match *parts.as_slice() {
        ["$share", group, ..] if !group.is_empty() && parts.len() > 2 => {
            let matching = parts.get(2..).unwrap_or_default().join("/");
            (Source::Shared { filter: matching.clone() }, matching)
        }
        ["$stream", stream, from, rest] if !stream.is_empty() && !from.is_empty() => {
            let (stream, from) = (stream.to_owned(), from.to_owned());
            (Source::Stream { stream, from, filter: rest.to_owned() }, rest.to_owned())
        }
        ["$consumer", name, ..] if !name.is_empty() => {
            let matching = section.or("matching", "#".to_owned());
            (Source::Consumer { filter: matching.clone() }, matching)
        }
        [first, ..] if first.starts_with('$') => {
            section.fault(
                "filter",
                "of those that start with $ there are $share/GROUP/FILTER, $stream/NAME/FROM/FILTER and $consumer/NAME",
            );
            (Source::Plain, "#".to_owned())
        }
        _ => (Source::Plain, filter.to_owned()),
    };
    if matching.starts_with('$') || !rumqttc::valid_filter(&matching) {
        section.fault("filter", &format!("`{matching}` is not a Topic Filter"));
    }
    source
}

fn work(section: &Section<'_>, source: &Source) -> Work {
    let share = |key| section.number(key, 0.0, 0.0, 1.0);
    let work = Work { nak: share("nak"), hang: share("hang") };
    if work != Work::default() && !source.is_consumer() {
        let key = if work.nak > 0.0 { "nak" } else { "hang" };
        section.fault(key, "only the workers of a $consumer/... answer for themselves");
    }
    work
}
