//! A durable session that is away: what publishing costs while much waits for it, and what fetching that costs when it is back.

use std::time::Duration;

use super::Effort;
use super::curves::{CLOSED, publishers, subscriber};
use crate::bench::broker::{Peer, Running};
use crate::bench::figures::Figures;
use crate::bench::lean::Wanted;
use crate::bench::load::{self, Load, Until};
use crate::command::CommandError;

/// Room for the largest backlog, and nothing else that is kept: the topics are no stream's.
const SETTINGS: [&str; 3] =
    ["mqtt.max_queued_messages=1000000000", "mqtt.max_queued_bytes=64GiB", "storage.max_bytes=64GiB"];
const ROOT: &str = "bench";
const PUBLISHERS: u64 = 20;
/// How long filling or fetching may take at most.
const PATIENCE: Duration = Duration::from_secs(600);

/// Publishes for a while behind a backlog of `bytes`.
pub(super) fn publishing(gateway: &Peer, bytes: u64, effort: &Effort) -> Result<Figures, CommandError> {
    let running = filled(gateway, bytes, effort)?;
    let load = Load {
        warm_up: effort.warm_up,
        duration: effort.duration,
        ..load(publishers(ROOT, PUBLISHERS, PUBLISHERS), Until::Time, effort)
    };
    load::run(&load, running.address, Some(running.pid()))
}

/// Fetches a backlog of `bytes`.
pub(super) fn catching_up(gateway: &Peer, bytes: u64, effort: &Effort) -> Result<Figures, CommandError> {
    let running = filled(gateway, bytes, effort)?;
    let load = load(vec![absent()], Until::Delivered(events(bytes, effort)), effort);
    load::run(&load, running.address, Some(running.pid()))
}

/// A gateway with a session that is away and has so much waiting for it.
fn filled(gateway: &Peer, bytes: u64, effort: &Effort) -> Result<Running, CommandError> {
    let running = gateway.start(&SETTINGS)?;
    load::run(&load(vec![absent()], Until::Delivered(0), effort), running.address, None)?;
    let filling = load(publishers(ROOT, PUBLISHERS, PUBLISHERS), Until::Sent(events(bytes, effort)), effort);
    load::run(&filling, running.address, None)?;
    Ok(running)
}

fn absent() -> Wanted {
    subscriber("absent", vec![format!("{ROOT}/#")], true)
}

/// How many events carry so many bytes of payload; one at least.
fn events(bytes: u64, effort: &Effort) -> u64 {
    (bytes / effort.payload_bytes as u64).max(1)
}

fn load(wanted: Vec<Wanted>, until: Until, effort: &Effort) -> Load {
    Load {
        is_connect: false,
        connections: wanted.len() as u64,
        workers: vec![wanted],
        pace: CLOSED,
        fan_out: 0,
        payload_bytes: effort.payload_bytes,
        warm_up: Duration::ZERO,
        duration: PATIENCE,
        until,
    }
}
