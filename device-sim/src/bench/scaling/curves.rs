//! Topics, filters, connections: one load each.

use gateway_protocol::{ProtocolVersion, QoS};

use super::{Curve, Effort};
use crate::bench::broker::Peer;
use crate::bench::figures::Figures;
use crate::bench::lean::{NUMBER, Pace, Role, Wanted};
use crate::bench::load::{self, Load, Until};
use crate::command::CommandError;

/// Publishers where their number is not what grows. Each has several topics at every point, so that no point profits from one topic again
/// and again.
const PUBLISHERS: u64 = 20;
/// Topics where their number is not what grows.
const TOPICS: u64 = 100;
/// What one publisher may have unacknowledged.
const WINDOW: u16 = 20;
/// Filters of one subscriber.
const FILTERS_OF_ONE: u64 = 100;
/// Events in a second of all connections together.
const RATE: f64 = 20_000.0;

/// Measures one point.
pub(super) fn measure(
    curve: Curve,
    gateway: &Peer,
    size: u64,
    effort: &Effort,
) -> Result<Figures, CommandError> {
    let (publishers, topics) = match curve {
        Curve::Topics => (PUBLISHERS, size),
        Curve::Connections => (size, size),
        _ => (PUBLISHERS, TOPICS),
    };
    let mut subscribing = vec![subscriber("sub", vec!["bench/+/telemetry".to_owned()], false)];
    if curve == Curve::Filters {
        let filters: Vec<String> = (1..size).map(|number| format!("bench/{number:06}/+/alarm/#")).collect();
        let of_one = filters.chunks(FILTERS_OF_ONE as usize).enumerate();
        subscribing
            .extend(of_one.map(|(at, filters)| subscriber(&format!("other-{at}"), filters.to_vec(), false)));
    }
    let publishing = self::publishers("bench", publishers, topics);
    let load = Load {
        is_connect: false,
        connections: (publishing.len() + subscribing.len()) as u64,
        workers: vec![publishing, subscribing],
        pace: match curve {
            Curve::Connections => Pace::Open { rate: RATE },
            _ => CLOSED,
        },
        fan_out: 1,
        payload_bytes: effort.payload_bytes,
        warm_up: effort.warm_up,
        duration: effort.duration,
        until: Until::Time,
    };
    let running = gateway.start(&[])?;
    load::run(&load, running.address, Some(running.pid()))
}

/// As fast as acknowledgements come back.
pub(super) const CLOSED: Pace = Pace::Closed { in_flight_max: u64::MAX, fan_out: 0 };

/// Publishers that share these topics.
pub(super) fn publishers(root: &str, count: u64, topics: u64) -> Vec<Wanted> {
    let each = (topics / count).max(1) as u32;
    let publisher = |number: u64| {
        let first = number as u32 * each;
        let role = Role::Publisher {
            topic: format!("{root}/{NUMBER}/telemetry"),
            topics: first..first + each,
            qos: QoS::AtLeastOnce,
            window: WINDOW,
        };
        wanted(format!("pub-{number}"), role)
    };
    (0..count).map(publisher).collect()
}

pub(super) fn subscriber(client_id: &str, filters: Vec<String>, durable: bool) -> Wanted {
    wanted(
        client_id.to_owned(),
        Role::Subscriber { filters, qos: QoS::AtLeastOnce, durable, bytes_per_second: None },
    )
}

fn wanted(client_id: String, role: Role) -> Wanted {
    Wanted { client_id, version: ProtocolVersion::V5, role }
}
