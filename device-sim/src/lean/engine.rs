//! One worker's loop: hands out what is due, waits for all connections at once, and takes in what came.
//!
//! Order of calls: [`Engine::new`] (subscribers begin to connect), [`Engine::connect`], [`Engine::start`], [`Engine::end`],
//! [`Engine::leave`]; between them [`Engine::turn`] again and again, and [`Engine::report`] now and then.

use std::io;
use std::ops::Range;
use std::time::Duration;

use super::checker::Checker;
use super::common::{Common, Dialers, monotonic_us};
use super::fleet::Fleet;
use super::link::PACKET_BYTES_MAX;
use super::poller::{Poller, Ready};
use super::tally::{Tally, Times};
use crate::class::ByClass;
use crate::ledger::{LedgerFull, Received};
use crate::plan::Plan;
use crate::qos::ByQoS;
use crate::scenario::LeanClients;

/// Where the tokens of subscribers begin; those of connections of devices are below.
const CHECKERS: u64 = 1 << 32;
/// How long a worker waits for sockets before it looks at what is due: shorter costs wake-ups, longer adds half of itself to
/// every latency.
const TICK: Duration = Duration::from_millis(1);
const TICK_US: u64 = TICK.as_micros() as u64;
/// The same while nothing is published.
const SLOW_TICK: Duration = Duration::from_millis(5);
/// Timers between two looks at the sockets: most are connections to be made, and when the ports of a source address run short the
/// system looks for one for milliseconds.
const TIMERS_AT_ONCE: usize = 16;

/// Why a worker cannot go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LeanError {
    /// The poller failed.
    #[error("could not wait for connections: {0}")]
    Poller(#[from] io::Error),
    /// Too many events for the memory that the ledger may take.
    #[error(transparent)]
    Full(#[from] LedgerFull),
}

/// One subscriber's half, as it is told when everything is over.
pub(crate) struct CheckerPage {
    /// Its place in the scenario.
    pub(crate) place: usize,
    /// Rows by device number.
    pub(crate) devices: Vec<(u32, Vec<u64>)>,
}

/// See the module documentation.
pub(crate) struct Engine {
    common: Common,
    fleet: Fleet,
    checkers: Vec<Checker>,
    ready: Vec<Ready>,
    buffer: Vec<u8>,
    /// When the sockets were looked at last.
    looked_us: u64,
}

impl Engine {
    /// Worker `number` of a plan; `checkers` are the places in the scenario of the subscribers that it is.
    pub(crate) fn new(
        plan: Plan,
        lean: &LeanClients,
        number: u32,
        checkers: &[usize],
        dialers: Dialers,
    ) -> Result<Self, LeanError> {
        let mut common = Common::new(plan, Poller::new()?, dialers);
        let fleet = Fleet::new(&common, lean, number);
        let tokens = checkers.iter().zip(CHECKERS..);
        let mut checkers: Vec<Checker> =
            tokens.filter_map(|(place, token)| Checker::new(&common, *place, token)).collect();
        for checker in &mut checkers {
            checker.open(&mut common);
        }
        Ok(Engine {
            common,
            fleet,
            checkers,
            ready: Vec::new(),
            buffer: vec![0; PACKET_BYTES_MAX],
            looked_us: monotonic_us(),
        })
    }

    /// Begins to connect the devices.
    pub(crate) fn connect(&mut self) {
        self.fleet.connect(&mut self.common);
    }

    /// Publishing begins at that moment ([`monotonic_us`]), and events are due until the run is so old.
    pub(crate) fn start(&mut self, at_us: u64, end_us: u64) {
        self.common.start(at_us);
        self.fleet.connect_later(&mut self.common);
        self.fleet.publish_until(end_us);
    }

    /// No events are due after that moment of the run.
    pub(crate) fn end(&mut self, end_us: u64) {
        self.fleet.publish_until(end_us);
    }

    /// Whether everything that was due has been handed out.
    pub(crate) fn is_done(&self) -> bool {
        self.fleet.is_done(self.common.run_us())
    }

    /// Does what there is to do, waiting for it a tick at most.
    pub(crate) fn turn(&mut self) -> Result<(), LeanError> {
        let now_us = monotonic_us();
        for _ in 0..TIMERS_AT_ONCE {
            let Some((token, generation)) = self.common.pop_timer(now_us) else { break };
            match self.checker(token) {
                Some(place) => {
                    if let Some(checker) = self.checkers.get_mut(place) {
                        checker.timer(&mut self.common, generation);
                    }
                }
                None => self.fleet.timer(token, generation, &mut self.common)?,
            }
        }
        self.fleet.turn(&mut self.common)?;
        self.fleet.ping_some(&mut self.common)?;
        for checker in &mut self.checkers {
            checker.ping_if_quiet(&mut self.common);
        }
        let run_us = self.common.run_us();
        let timeout = match self.fleet.is_busy(run_us) || self.common.has_timer(now_us) {
            true => Duration::ZERO,
            false if run_us > 0 => TICK,
            false => SLOW_TICK,
        };
        let mut ready = std::mem::take(&mut self.ready);
        self.common.poller.wait(timeout, &mut ready)?;
        let arrived = self.take_in(&ready)?;
        self.ready = ready;
        self.note_lag(arrived);
        Ok(())
    }

    /// The counters, and what was timed since the last report.
    pub(crate) fn report(&mut self) -> (Tally, Vec<Times>) {
        let mut times = Vec::new();
        self.fleet.report(&mut self.common, &mut times);
        times.extend(self.common.lag.take());
        times.extend(self.common.take_watched());
        times.extend(self.checkers.iter_mut().filter_map(Checker::take_times));
        self.common.tally.subscribers = self.checkers.iter().map(|checker| checker.tally.clone()).collect();
        (self.common.tally.clone(), times)
    }

    /// The publishers' half of some devices.
    pub(crate) fn published(&self, devices: Range<u32>) -> Vec<(u32, Vec<u64>)> {
        self.fleet.page(devices)
    }

    /// The subscribers' halves of some devices.
    pub(crate) fn arrived(&self, devices: Range<u32>) -> Vec<CheckerPage> {
        let page = |checker: &Checker| {
            let rows = devices.clone().map(|device| (device, checker.half.words(device as usize).to_vec()));
            CheckerPage {
                place: checker.tally.place,
                devices: rows.filter(|(_, words)| !words.is_empty()).collect(),
            }
        };
        self.checkers.iter().map(page).collect()
    }

    /// What the subscribers' halves count themselves.
    pub(crate) fn arrived_counts(&self) -> Vec<(usize, ByClass<ByQoS<Received>>)> {
        self.checkers.iter().map(|checker| (checker.tally.place, *checker.half.counts())).collect()
    }

    /// The memory of the halves of the ledger, bytes.
    pub(crate) fn ledger_bytes(&self) -> usize {
        let checkers: usize = self.checkers.iter().map(|checker| checker.half.bytes()).sum();
        self.fleet.half.bytes() + checkers
    }

    /// Says goodbye to the broker.
    pub(crate) fn leave(&mut self) {
        self.fleet.leave(&self.common);
        for checker in &mut self.checkers {
            checker.leave();
        }
    }

    fn checker(&self, token: u64) -> Option<usize> {
        token.checked_sub(CHECKERS).and_then(|place| usize::try_from(place).ok())
    }

    /// What the sockets brought; how many deliveries those were.
    fn take_in(&mut self, ready: &[Ready]) -> Result<u64, LeanError> {
        let mut arrived = 0;
        for one in ready {
            match self.checker(one.token) {
                Some(place) => {
                    if let Some(checker) = self.checkers.get_mut(place) {
                        arrived += checker.handle(*one, &mut self.common, &mut self.buffer)?;
                    }
                }
                None => self.fleet.handle(*one, &mut self.common, &mut self.buffer)?,
            }
        }
        Ok(arrived)
    }

    /// What arrived may have lain unread since the last look, a tick of which is as intended.
    fn note_lag(&mut self, arrived: u64) {
        let now_us = monotonic_us();
        let unlooked_us = now_us.saturating_sub(self.looked_us).saturating_sub(TICK_US);
        self.looked_us = now_us;
        if arrived > 0 {
            let counts = self.common.counts(self.common.run_us());
            self.common.lag.record_many(unlooked_us, arrived, counts);
        }
    }
}
