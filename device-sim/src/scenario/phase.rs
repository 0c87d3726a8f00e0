//! `[[phase]]`: what happens when. The keys, and what they mean; [`crate::timeline`] puts them in motion.
//!
//! A phase is a load (events per second over its time) and at most one disturbance. Phases follow each other; one with
//! `at` lies over the others from that moment on and has no load of its own.

use std::time::Duration;

use super::SubscriberSpec;
use super::section::Section;

/// The most phases of a scenario.
pub const PHASES_MAX: usize = 64;

/// The most bursts of one phase.
const BURSTS_MAX: u128 = 10_000;

const RATE_MAX: f64 = 10_000_000.0;

/// One stretch of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct PhaseSpec {
    /// Its name in reports.
    pub name: String,
    /// From the start of the run.
    pub start: Duration,
    /// How long.
    pub duration: Duration,
    /// Events per second of the whole fleet; none if it lies over other phases.
    pub load: Option<Load>,
    /// What else happens.
    pub disturbance: Option<Disturbance>,
}

/// Events per second of the whole fleet over a phase.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Load {
    /// The same throughout.
    Steady {
        /// Events per second.
        rate: f64,
    },
    /// In a straight line.
    Ramp {
        /// At its start.
        from: f64,
        /// At its end.
        to: f64,
    },
    /// A base, and again and again a moment of more.
    Burst {
        /// Between bursts.
        rate: f64,
        /// In a burst.
        peak: f64,
        /// From the start of one burst to that of the next.
        every: Duration,
        /// How long a burst is.
        length: Duration,
    },
    /// A sine around a mean, lowest at the start.
    Diurnal {
        /// The mean.
        rate: f64,
        /// The share of the mean that is added and taken away, 0 to 1.
        amplitude: f64,
        /// How long a day is.
        day: Duration,
    },
}

/// What a phase does beside publishing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Disturbance {
    /// Connections of devices are reset at its start, all at once.
    ReconnectStorm {
        /// Of the devices, 0 to 1; of lean clients the last ones by number.
        share: f64,
    },
    /// Devices that were not there before connect at its start.
    FlashCrowd {
        /// Of the fleet, 0 to 1; the last ones by number.
        share: f64,
        /// Over which they are spread.
        within: Duration,
    },
    /// The first devices publish more than the others.
    Hog {
        /// How many.
        devices: u32,
        /// Events per second of all of them, beside their part of the load.
        rate: f64,
    },
    /// A subscriber takes this long for each event.
    SlowConsumer {
        /// Its place among the subscribers.
        subscriber: usize,
        /// For each event.
        delay: Duration,
    },
    /// A subscriber is not connected.
    Outage {
        /// Its place among the subscribers.
        subscriber: usize,
    },
    /// Workers of consumers refuse some of the events that are due meanwhile, every time.
    Poison {
        /// Of these events, 0 to 1.
        share: f64,
    },
    /// What the network between the broker and its clients does.
    Network {
        /// Whose connections.
        side: Side,
        /// What happens to them.
        weather: Weather,
    },
    /// What happens to the broker's process.
    Broker(BrokerFault),
}

/// Whose connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The devices'.
    Devices,
    /// The subscribers'.
    Subscribers,
    /// The uplinks of sites with a broker of their own.
    Uplinks,
    /// All.
    Everyone,
}

/// What a network does to connections.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Weather {
    /// They are reset, and new ones refused.
    Cut,
    /// Those that stand go silent for good, and neither side is told; new ones work.
    HalfOpen {
        /// Of the connections, 0 to 1.
        share: f64,
    },
    /// Every byte arrives later.
    Delay {
        /// By so much, each way.
        delay: Duration,
        /// And by up to so much more.
        jitter: Duration,
    },
    /// Some packets are lost, which in TCP means that what follows waits until they are sent again.
    Loss {
        /// Of the packets, 0 to 1.
        share: f64,
        /// Until one is sent again.
        stall: Duration,
    },
}

/// What happens to a broker's process.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum BrokerFault {
    /// `kill -9` at the start of the phase, and a new start after `down`.
    Kill {
        /// How long it is gone.
        down: Duration,
    },
    /// SIGTERM at the start of the phase, and a new start after `down`.
    Restart {
        /// How long it is gone, its own shutdown included.
        down: Duration,
    },
    /// Stopped by SIGSTOP for the phase: its connections stand, and nothing answers.
    Pause,
    /// Its file system has no space left for the phase.
    DiskFull,
}

impl PhaseSpec {
    /// Whether a run has something to come back from after it.
    pub fn is_recovered_from(&self) -> bool {
        !matches!(self.disturbance, None | Some(Disturbance::Poison { .. }))
    }

    /// When it is over.
    pub fn end(&self) -> Duration {
        self.start + self.duration
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Steady,
    Ramp,
    Burst,
    Diurnal,
    ReconnectStorm,
    FlashCrowd,
    Hog,
    SlowConsumer,
    Outage,
    Poison,
    Cut,
    HalfOpen,
    Delay,
    Loss,
    Kill,
    Restart,
    Pause,
    DiskFull,
}

const KINDS: [(&str, Kind); 18] = [
    ("steady", Kind::Steady),
    ("ramp", Kind::Ramp),
    ("burst", Kind::Burst),
    ("diurnal", Kind::Diurnal),
    ("reconnect-storm", Kind::ReconnectStorm),
    ("flash-crowd", Kind::FlashCrowd),
    ("hog", Kind::Hog),
    ("slow-consumer", Kind::SlowConsumer),
    ("consumer-outage", Kind::Outage),
    ("poison", Kind::Poison),
    ("network-cut", Kind::Cut),
    ("half-open", Kind::HalfOpen),
    ("network-delay", Kind::Delay),
    ("network-loss", Kind::Loss),
    ("broker-kill", Kind::Kill),
    ("broker-restart", Kind::Restart),
    ("broker-pause", Kind::Pause),
    ("disk-full", Kind::DiskFull),
];

const SIDES: [(&str, Side); 4] = [
    ("devices", Side::Devices),
    ("subscribers", Side::Subscribers),
    ("uplinks", Side::Uplinks),
    ("everyone", Side::Everyone),
];

/// What phases refer to.
pub(super) struct Around<'a> {
    pub(super) devices: u32,
    pub(super) rate: f64,
    pub(super) subscribers: &'a [SubscriberSpec],
    /// Whether sites have brokers of their own.
    pub(super) has_edge: bool,
}

/// The phases of a scenario in the order of the file, and how long they last together.
pub(super) fn phases(top: &Section<'_>, around: &Around<'_>) -> (Vec<PhaseSpec>, Duration) {
    let sections = top.sections("phase");
    if sections.len() > PHASES_MAX {
        top.fault("phase", &format!("at most {PHASES_MAX} are possible"));
    }
    let mut next = Next { start: Duration::ZERO, rate: 0.0 };
    let mut phases: Vec<PhaseSpec> = Vec::with_capacity(sections.len());
    for section in sections.iter().take(PHASES_MAX) {
        let phase = phase(section, around, &mut next);
        if phases.iter().any(|known| known.name == phase.name) {
            section.fault("name", &format!("there is already a phase `{}`", phase.name));
        }
        phases.push(phase);
    }
    for (phase, section) in phases.iter().zip(&sections) {
        if phase.load.is_none() && phase.end() > next.start {
            section.fault("at", "it would end after the phases that follow each other");
        }
    }
    let crowds =
        phases.iter().filter(|phase| matches!(phase.disturbance, Some(Disturbance::FlashCrowd { .. })));
    if crowds.count() > 1 {
        top.fault("phase", "there is at most one flash-crowd");
    }
    sections.into_iter().for_each(Section::finish);
    (phases, next.start)
}

/// Where the phase after this one begins.
struct Next {
    start: Duration,
    rate: f64,
}

fn phase(section: &Section<'_>, around: &Around<'_>, next: &mut Next) -> PhaseSpec {
    section.required("kind", String::new());
    let kind = section.choice("kind", &KINDS, Kind::Steady);
    let word = KINDS.iter().find(|(_, known)| *known == kind).map_or("", |(word, _)| word);
    let name = section.or("name", word.to_owned());
    if name.is_empty() || name.len() > 64 {
        section.fault("name", "must be 1 to 64 bytes");
    }
    let duration = section.required("duration", Duration::from_secs(1));
    if duration.is_zero() {
        section.fault("duration", "must be above zero");
    }
    let over = section.optional::<Duration>("at");
    let load = match over {
        None => Some(load(section, kind, around, next.rate, duration)),
        Some(_) => {
            if matches!(kind, Kind::Steady | Kind::Ramp | Kind::Burst | Kind::Diurnal) {
                section.fault("at", "what has a load of its own follows the phase before it");
            }
            None
        }
    };
    let start = over.unwrap_or(next.start);
    if let Some(load) = load {
        next.start += duration;
        next.rate = load.last();
    }
    let disturbance = disturbance(section, kind, around, duration);
    PhaseSpec { name, start, duration, load, disturbance }
}

fn load(section: &Section<'_>, kind: Kind, around: &Around<'_>, before: f64, duration: Duration) -> Load {
    let rate = |key, default| section.number(key, default, 0.0, RATE_MAX);
    match kind {
        Kind::Ramp => Load::Ramp { from: rate("from", before), to: rate("to", around.rate) },
        Kind::Burst => {
            let every = section.or("every", Duration::from_secs(5));
            let length = section.or("length", Duration::from_millis(500));
            if length.is_zero() || length > every {
                section.fault("length", "must be above zero and not above `every`");
            } else if duration.as_micros() / every.as_micros().max(1) >= BURSTS_MAX {
                section.fault("every", &format!("that would be more than {BURSTS_MAX} bursts"));
            }
            let base = rate("rate", around.rate);
            Load::Burst { rate: base, peak: rate("peak", 10.0 * base), every, length }
        }
        Kind::Diurnal => {
            let day = section.or("day", duration);
            if day < Duration::from_secs(1) {
                section.fault("day", "must be at least 1s");
            }
            let amplitude = section.number("amplitude", 0.8, 0.0, 1.0);
            Load::Diurnal { rate: rate("rate", around.rate), amplitude, day }
        }
        // What a hog adds is written as `rate`; its load is the fleet's.
        Kind::Hog => Load::Steady { rate: rate("load", around.rate) },
        _ => Load::Steady { rate: rate("rate", around.rate) },
    }
}

fn disturbance(
    section: &Section<'_>,
    kind: Kind,
    around: &Around<'_>,
    duration: Duration,
) -> Option<Disturbance> {
    let share = |default| section.number("share", default, 0.0, 1.0);
    let side = || {
        let usual = if around.has_edge { Side::Uplinks } else { Side::Devices };
        let side = section.choice("side", &SIDES, usual);
        if side == Side::Uplinks && !around.has_edge {
            section.fault("side", "there are no uplinks without [edge]");
        }
        side
    };
    let down = || {
        let down = section.or("down", Duration::from_secs(1).min(duration));
        if down > duration {
            section.fault("down", "must not be longer than the phase");
        }
        down
    };
    let network = |weather| Disturbance::Network { side: side(), weather };
    Some(match kind {
        Kind::Steady | Kind::Ramp | Kind::Burst | Kind::Diurnal => return None,
        Kind::ReconnectStorm => Disturbance::ReconnectStorm { share: share(1.0) },
        Kind::FlashCrowd => Disturbance::FlashCrowd {
            share: section.number("share", 0.5, 0.0, 0.99),
            within: section.or("within", Duration::from_secs(1)),
        },
        Kind::Hog => Disturbance::Hog {
            devices: section.count("devices", 1, 1, u64::from(around.devices)) as u32,
            rate: section.number("rate", around.rate, 0.0, RATE_MAX),
        },
        Kind::SlowConsumer => Disturbance::SlowConsumer {
            subscriber: named(section, around.subscribers),
            delay: section.or("delay", Duration::from_millis(10)),
        },
        Kind::Outage => Disturbance::Outage { subscriber: named(section, around.subscribers) },
        Kind::Poison => {
            if !around.subscribers.iter().any(|one| one.source.is_consumer()) {
                section.fault("kind", "poison is refused by workers, and no subscriber is a $consumer/...");
            }
            Disturbance::Poison { share: share(0.01) }
        }
        Kind::Cut => network(Weather::Cut),
        Kind::HalfOpen => network(Weather::HalfOpen { share: share(1.0) }),
        Kind::Delay => network(Weather::Delay {
            delay: section.or("delay", Duration::from_millis(50)),
            jitter: section.or("jitter", Duration::ZERO),
        }),
        Kind::Loss => network(Weather::Loss {
            share: share(0.01),
            stall: section.or("stall", Duration::from_millis(200)),
        }),
        Kind::Kill => Disturbance::Broker(BrokerFault::Kill { down: down() }),
        Kind::Restart => Disturbance::Broker(BrokerFault::Restart { down: down() }),
        Kind::Pause => Disturbance::Broker(BrokerFault::Pause),
        Kind::DiskFull => Disturbance::Broker(BrokerFault::DiskFull),
    })
}

/// The place of the subscriber that a phase names; the only one if it names none.
fn named(section: &Section<'_>, subscribers: &[SubscriberSpec]) -> usize {
    let Some(name) = section.optional::<String>("subscriber") else {
        if subscribers.len() > 1 {
            section.fault("subscriber", "is missing, and there are several");
        }
        return 0;
    };
    let place = subscribers.iter().position(|known| known.name == name);
    place.unwrap_or_else(|| {
        let known: Vec<&str> = subscribers.iter().map(|known| known.name.as_str()).collect();
        section
            .fault("subscriber", &format!("there is no subscriber `{name}`; there are {}", known.join(", ")));
        0
    })
}

impl Load {
    /// Events per second at its end.
    fn last(self) -> f64 {
        match self {
            Load::Ramp { to, .. } => to,
            Load::Steady { rate } | Load::Burst { rate, .. } | Load::Diurnal { rate, .. } => rate,
        }
    }
}
