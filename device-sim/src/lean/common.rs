//! What everybody in a worker needs: the plan, the clock, the poller, timers and counters.

use std::cell::OnceCell;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

use rustix::time::{ClockId, clock_gettime};

use super::link::{Broken, Link, State};
use super::poller::Poller;
use super::tally::{Recorder, Tally, Times, Timing};
use super::transport::Dial;
use crate::class::Class;
use crate::ledger::LedgerFull;
use crate::mqtt::backoff::Backoff;
use crate::plan::Plan;
use crate::random::Purpose;
use crate::roster::identities;
use crate::scenario::phase_gate::Watched;

/// How long a connection may take until its CONNACK, and a SUBSCRIBE until its SUBACK, together.
const HANDSHAKE_US: u64 = 10_000_000;

/// Why something stopped: a connection, or everything.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    /// One connection; there will be another.
    #[error(transparent)]
    Broken(#[from] Broken),
    /// The worker.
    #[error(transparent)]
    Full(#[from] LedgerFull),
}

/// Whose connection it is: between them and the broker there may be different networks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Devices,
    Subscribers,
}

/// How each side gets to the broker.
pub(crate) struct Dialers {
    /// Devices.
    pub(crate) devices: Box<dyn Dial>,
    /// Subscribers.
    pub(crate) subscribers: Box<dyn Dial>,
}

/// Microseconds of the clock that all processes of a machine share.
pub(crate) fn monotonic_us() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    u64::try_from(now.tv_sec).unwrap_or(0) * 1_000_000 + u64::try_from(now.tv_nsec).unwrap_or(0) / 1_000
}

/// See the module documentation.
pub(super) struct Common {
    pub(super) plan: Plan,
    pub(super) poller: Poller,
    dialers: Dialers,
    pub(super) tally: Tally,
    pub(super) lag: Recorder,
    watched: Vec<(Watched, Recorder)>,
    timers: BinaryHeap<Reverse<(u64, u64, u32)>>,
    topics: OnceCell<HashMap<String, Class>>,
    /// When publishing began, by [`monotonic_us`].
    start_us: Option<u64>,
    warm_up_us: u64,
}

impl Common {
    pub(super) fn new(plan: Plan, poller: Poller, dialers: Dialers) -> Self {
        Common {
            warm_up_us: plan.scenario.run.warm_up.as_micros() as u64,
            watched: plan
                .scenario
                .watched()
                .into_iter()
                .enumerate()
                .map(|(place, one)| (one, Recorder::new(Timing::Watched(place))))
                .collect(),
            plan,
            poller,
            dialers,
            tally: Tally::default(),
            lag: Recorder::new(Timing::Lag),
            timers: BinaryHeap::new(),
            topics: OnceCell::new(),
            start_us: None,
        }
    }

    pub(super) fn start(&mut self, at_us: u64) {
        self.start_us = Some(at_us);
    }

    /// Microseconds since publishing began; 0 before.
    pub(super) fn run_us(&self) -> u64 {
        self.start_us.map_or(0, |start_us| monotonic_us().saturating_sub(start_us))
    }

    /// The moment of the run, by [`monotonic_us`]; none before publishing began.
    pub(super) fn moment_us(&self, run_us: u64) -> Option<u64> {
        Some(self.start_us? + run_us)
    }

    /// Whether what was due then is not part of the warm-up.
    pub(super) fn counts(&self, due_us: u64) -> bool {
        due_us >= self.warm_up_us
    }

    /// An event of a device was acknowledged: times it if somebody asks for that.
    pub(super) fn watch(&mut self, device: u32, due_us: u64, latency_us: u64) {
        for (_, recorder) in self.watched.iter_mut().filter(|(one, _)| one.is_of(device, due_us)) {
            recorder.record(latency_us, true);
        }
    }

    pub(super) fn take_watched(&mut self) -> impl Iterator<Item = Times> {
        self.watched.iter_mut().filter_map(|(_, recorder)| recorder.take())
    }

    /// The class of what this fleet publishes on a topic, if it does; asked only of what should not be there.
    pub(super) fn class_of(&self, topic: &str) -> Option<Class> {
        let topics = self.topics.get_or_init(|| {
            identities(&self.plan).map(|identity| (identity.topic, identity.cohort.class)).collect()
        });
        topics.get(topic).copied()
    }

    /// Sets a timer for a connection; another connection under this token makes it void.
    pub(super) fn set_timer(&mut self, at_us: u64, token: u64, generation: u32) {
        self.timers.push(Reverse((at_us, token, generation)));
    }

    /// The next timer that has run out: token and generation.
    pub(super) fn pop_timer(&mut self, now_us: u64) -> Option<(u64, u32)> {
        let Reverse((_, token, generation)) = *self.timers.peek().filter(|timer| timer.0.0 <= now_us)?;
        self.timers.pop();
        Some((token, generation))
    }

    /// Whether there is one more.
    pub(super) fn has_timer(&self, now_us: u64) -> bool {
        self.timers.peek().is_some_and(|timer| timer.0.0 <= now_us)
    }

    /// Begins a connection, and gives it until the end of the handshake.
    pub(super) fn open(
        &mut self,
        link: &mut Link,
        side: Side,
        number: u32,
        token: u64,
    ) -> Result<(), Broken> {
        self.set_timer(monotonic_us() + HANDSHAKE_US, token, link.generation);
        let dialer = match side {
            Side::Devices => &self.dialers.devices,
            Side::Subscribers => &self.dialers.subscribers,
        };
        link.open(dialer.as_ref(), number, &self.poller, token)
    }

    /// What a timer means to a link: time to connect, or too late to be answered.
    pub(super) fn timer(
        &mut self,
        link: &mut Link,
        side: Side,
        number: u32,
        token: u64,
    ) -> Result<(), Broken> {
        match link.state {
            State::Resting => self.open(link, side, number, token),
            State::Up => Ok(()),
            State::Opening | State::Connecting | State::Subscribing => Err(Broken::Silent),
        }
    }

    /// A connection broke: notes why, and when the next one is due.
    pub(super) fn broke(&mut self, link: &mut Link, number: u32, token: u64, error: &Broken) {
        self.tally.last_error = Some(error.to_string());
        let seed = self.plan.seed();
        let pause = link.rest(|| Backoff::new(seed.stream(Purpose::Backoff, number)));
        self.set_timer(monotonic_us() + pause.as_micros() as u64, token, link.generation);
    }
}
