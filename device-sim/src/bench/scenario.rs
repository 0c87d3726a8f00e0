//! What is measured: who connects, what they do, and what one event is expected to bring.

use std::net::SocketAddr;
use std::time::Duration;

use gateway_protocol::{ProtocolVersion, QoS};
use serde::Serialize;

use super::figures::Figures;
use super::lean::{Pace, Role, Wanted};
use super::load::{self, Load, Until};
use super::retained;
use crate::command::CommandError;

/// Threads that publish and threads that subscribe. On a small machine the broker needs the rest.
const PUBLISHING_THREADS: usize = 1;
const SUBSCRIBING_THREADS: usize = 1;
/// Events of a closed loop at QoS 0 that may be on their way at one time.
const IN_FLIGHT_MAX: u64 = 20_000;
/// Retained Messages of `retained`, one on each topic, and how long fetching them may take.
const RETAINED: u64 = 10_000;
const PATIENCE: Duration = Duration::from_secs(60);
/// In front of the topics of most scenarios.
const ROOT: &str = "bench";
/// What the slow subscriber reads in a second.
const SLOW_BYTES_PER_SECOND: u64 = 64 << 10;

/// One of the things that can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Scenario {
    /// 100 publishers, one subscriber, QoS 0.
    FanInQos0,
    /// The same at QoS 1.
    FanInQos1,
    /// 5 publishers, 200 subscribers to the same topics, QoS 0.
    FanOut,
    /// Connections made as fast as they are taken, and what they cost when idle.
    Connect,
    /// Fan-in at QoS 1 where the gateway keeps a stream and the subscriber's session is durable.
    Durable,
    /// Fan-out to 20, one of which hardly reads, at a paced rate.
    SlowSubscriber,
    /// Fan-in at QoS 1 to a group of subscribers that share it.
    Shared,
    /// Subscribers that come and are sent what is retained.
    Retained,
    /// Fan-in at QoS 1 into a stream, and workers of one consumer. The gateway only.
    Consumer,
    /// 10,000 events/s at QoS 1: what acknowledgement and delivery take when nobody is in a hurry.
    Paced,
}

/// What the command line changes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sizes {
    pub(super) publishers: Option<u32>,
    pub(super) subscribers: Option<u32>,
    pub(super) connections: Option<u32>,
    pub(super) payload_bytes: usize,
    pub(super) window: u16,
    pub(super) rate: Option<f64>,
    pub(super) duration: Duration,
    pub(super) warm_up: Duration,
    pub(super) is_v3: bool,
}

impl Scenario {
    pub(super) const ALL: [Self; 10] = [
        Self::FanInQos0,
        Self::FanInQos1,
        Self::FanOut,
        Self::Durable,
        Self::Paced,
        Self::SlowSubscriber,
        Self::Shared,
        Self::Retained,
        Self::Consumer,
        Self::Connect,
    ];

    /// As it is called in reports.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::FanInQos0 => "fan-in, QoS 0",
            Self::FanInQos1 => "fan-in, QoS 1",
            Self::FanOut => "fan-out, QoS 0",
            Self::Connect => "connect and idle",
            Self::Durable => "durable, QoS 1",
            Self::SlowSubscriber => "slow subscriber",
            Self::Shared => "shared, QoS 1",
            Self::Retained => "retained",
            Self::Consumer => "consumer, QoS 1",
            Self::Paced => "paced, QoS 1",
        }
    }

    const fn defaults(self) -> (u32, u32) {
        match self {
            Self::FanInQos0 | Self::FanInQos1 | Self::Durable | Self::Paced => (100, 1),
            Self::FanOut => (5, 200),
            Self::SlowSubscriber => (5, 20),
            Self::Shared | Self::Consumer => (100, 4),
            Self::Retained => (0, 20),
            Self::Connect => (0, 0),
        }
    }

    /// Whether other brokers have such a thing at all.
    pub(super) const fn is_of_the_gateway(self) -> bool {
        matches!(self, Self::Consumer)
    }

    /// Whether there is a rate at which it can be asked for, and something that says whether that was too much.
    pub(super) const fn has_a_rate(self) -> bool {
        !matches!(self, Self::Connect | Self::Retained)
    }

    /// What the gateway is configured with for it.
    pub(super) const fn config(self) -> Option<&'static str> {
        match self {
            Self::Consumer => Some(
                "[[stream]]\nname = \"bench\"\ntopics = [\"devices/#\"]\nmax_age = \"1d\"\nmax_bytes = \"4GiB\"\n\
                 [[consumer]]\nname = \"bench\"\nstream = \"bench\"\nmax_ack_pending = 100000\n",
            ),
            _ => None,
        }
    }

    /// Connections it makes.
    pub(super) fn connections(self, sizes: &Sizes) -> u64 {
        let (publishers, subscribers) = self.counts(sizes);
        match self {
            Self::Connect => u64::from(sizes.connections.unwrap_or(10_000)),
            _ => u64::from(publishers) + u64::from(subscribers),
        }
    }

    fn counts(self, sizes: &Sizes) -> (u32, u32) {
        let (publishers, subscribers) = self.defaults();
        match self {
            Self::Connect => (0, 0),
            Self::Retained => (0, sizes.subscribers.unwrap_or(subscribers)),
            _ => (sizes.publishers.unwrap_or(publishers), sizes.subscribers.unwrap_or(subscribers)),
        }
    }

    const fn qos(self) -> QoS {
        match self {
            Self::FanInQos0 | Self::FanOut | Self::Connect | Self::SlowSubscriber => QoS::AtMostOnce,
            Self::FanInQos1
            | Self::Durable
            | Self::Paced
            | Self::Shared
            | Self::Retained
            | Self::Consumer => QoS::AtLeastOnce,
        }
    }

    /// Puts it on the broker at `address`, whose process is `pid` if that is known.
    pub(super) fn measure(
        self,
        sizes: &Sizes,
        address: SocketAddr,
        pid: Option<u32>,
    ) -> Result<Figures, CommandError> {
        if self == Self::Retained {
            retained::fill(address, ROOT, RETAINED, sizes)?;
        }
        let mut figures = load::run(&self.load(sizes), address, pid)?;
        if self == Self::Retained {
            // What was retained was due long before anybody asked for it.
            figures.delivery = None;
        }
        Ok(figures)
    }

    /// The load to put on a broker.
    fn load(self, sizes: &Sizes) -> Load {
        let version = if sizes.is_v3 { ProtocolVersion::V3_1_1 } else { ProtocolVersion::V5 };
        let wanted = |client_id: String, role: Role| Wanted { client_id, version, role };
        let (publishers, subscribers) = self.counts(sizes);
        let qos = self.qos();
        // The default configuration of the gateway has a stream on devices/#: few are to meet it.
        let root = if matches!(self, Self::Durable | Self::Consumer) { "devices" } else { ROOT };
        let filter = match self {
            Self::Shared => format!("$share/bench/{root}/#"),
            Self::Consumer => "$consumer/bench".to_owned(),
            _ => format!("{root}/#"),
        };
        let mut publishing: Vec<Wanted> = (0..publishers)
            .map(|number| {
                let topic = format!("{root}/{number}/telemetry");
                wanted(
                    format!("pub-{number}"),
                    Role::Publisher { topic, topics: 0..0, qos, window: sizes.window },
                )
            })
            .collect();
        let is_slow = |number| self == Self::SlowSubscriber && number == 0;
        let mut subscribing: Vec<Wanted> = (0..subscribers)
            .map(|number| {
                let role = Role::Subscriber {
                    filters: vec![filter.clone()],
                    qos,
                    durable: self == Self::Durable,
                    bytes_per_second: is_slow(number).then_some(SLOW_BYTES_PER_SECOND),
                };
                wanted(format!("sub-{number}"), role)
            })
            .collect();
        if self == Self::Connect {
            let idle = |number| wanted(format!("idle-{number}"), Role::Idle);
            let count = sizes.connections.unwrap_or(10_000);
            publishing = (0..count).step_by(2).map(idle).collect();
            subscribing = (1..count).step_by(2).map(idle).collect();
        }
        let slow = u64::from(self == Self::SlowSubscriber);
        let fan_out = match self {
            // One of them gets it.
            Self::Shared | Self::Consumer => 1,
            _ => u64::from(subscribers).saturating_sub(slow),
        };
        let rate = sizes.rate.or(match self {
            Self::Paced => Some(10_000.0),
            Self::SlowSubscriber => Some(2_000.0),
            _ => None,
        });
        let pace = match rate {
            Some(rate) => Pace::Open { rate: rate / PUBLISHING_THREADS as f64 },
            None => Pace::Closed {
                // A fan-out multiplies what is on its way.
                in_flight_max: match qos {
                    QoS::AtMostOnce => (IN_FLIGHT_MAX / fan_out.max(1)).max(64),
                    _ => u64::MAX,
                },
                fan_out,
            },
        };
        Load {
            is_connect: self == Self::Connect,
            workers: [(publishing, PUBLISHING_THREADS), (subscribing, SUBSCRIBING_THREADS)]
                .into_iter()
                .flat_map(|(wanted, threads)| split(wanted, threads))
                .collect(),
            connections: self.connections(sizes),
            pace,
            fan_out,
            payload_bytes: sizes.payload_bytes,
            warm_up: sizes.warm_up,
            duration: if self == Self::Retained { PATIENCE } else { sizes.duration },
            until: match self {
                Self::Retained => Until::Delivered(RETAINED * u64::from(subscribers)),
                _ => Until::Time,
            },
        }
    }
}

/// Shared out in turn; threads without work are not started.
fn split(wanted: Vec<Wanted>, threads: usize) -> Vec<Vec<Wanted>> {
    let mut shares = vec![Vec::new(); threads];
    for (number, wanted) in wanted.into_iter().enumerate() {
        if let Some(share) = shares.get_mut(number % threads) {
            share.push(wanted);
        }
    }
    shares.retain(|share| !share.is_empty());
    shares
}
