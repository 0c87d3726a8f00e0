//! One worker's loop: hands out what is due, waits for all connections at once, and takes in what came.
//!
//! Order of calls: [`Engine::new`] (subscribers begin to connect), [`Engine::connect`], [`Engine::start`], [`Engine::end`],
//! [`Engine::leave`]; between them [`Engine::turn`] again and again, and [`Engine::report`] now and then.

use std::io;
use std::ops::Range;
use std::thread;
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

/// The longest rest.
const REST_MAX: Duration = Duration::from_millis(20);

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
    /// It is a cohort's own worker, which stands for machines elsewhere.
    is_own: bool,
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
            is_own: lean.is_own(number),
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
        let waits_us = monotonic_us();
        self.common.poller.wait(timeout, &mut ready)?;
        let waited_us = monotonic_us().saturating_sub(waits_us);
        let arrived = self.take_in(&ready)?;
        self.ready = ready;
        self.note_lag(arrived);
        if self.is_own && self.fleet.is_incomplete(&self.common) {
            let worked_us = monotonic_us().saturating_sub(now_us).saturating_sub(waited_us);
            thread::park_timeout(rest(Duration::from_micros(worked_us)));
        }
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

/// How long a cohort's own worker rests after so much work while it makes connections: it takes no more than half a processor then, which is
/// what it costs to send packets to itself on behalf of many machines; and it is never away for long.
fn rest(worked: Duration) -> Duration {
    worked.min(REST_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lean::transport::{Dial, Transport};
    use crate::scenario::{Clients, Scenario};
    use std::cell::RefCell;
    use std::io::{Read, Write};
    use std::os::fd::{AsFd, BorrowedFd};
    use std::os::unix::net::UnixStream;
    use std::rc::Rc;

    const CLIENTS: usize = 200;

    /// A connection whose other end the test holds.
    struct Held(UnixStream);

    impl Transport for Held {
        fn opened(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Read for Held {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            self.0.read(into)
        }
    }

    impl Write for Held {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl AsFd for Held {
        fn as_fd(&self) -> BorrowedFd<'_> {
            self.0.as_fd()
        }
    }

    #[derive(Clone, Default)]
    struct Broker(Rc<RefCell<Vec<UnixStream>>>);

    impl Broker {
        fn dialled(&self) -> usize {
            self.0.borrow().len()
        }

        fn is_closed(mut peer: &UnixStream) -> bool {
            let mut buffer = [0; 512];
            loop {
                match peer.read(&mut buffer) {
                    Ok(0) => return true,
                    Ok(_) => {}
                    Err(error) => return error.kind() != io::ErrorKind::WouldBlock,
                }
            }
        }

        /// Of the first connections, those that are closed.
        fn closed(&self) -> usize {
            self.0.borrow().iter().take(CLIENTS).filter(|peer| Self::is_closed(peer)).count()
        }
    }

    impl Dial for Broker {
        fn dial(&self, _: u32) -> io::Result<Box<dyn Transport>> {
            let (ours, theirs) = UnixStream::pair()?;
            ours.set_nonblocking(true)?;
            theirs.set_nonblocking(true)?;
            self.0.borrow_mut().push(theirs);
            Ok(Box::new(Held(ours)))
        }
    }

    #[test]
    fn a_rest_is_as_long_as_the_work_and_never_long() {
        assert_eq!(rest(Duration::from_micros(700)), Duration::from_micros(700));
        assert_eq!(rest(Duration::from_secs(1)), Duration::from_millis(20));
    }

    #[test]
    fn a_storm_is_over_soon_and_no_turn_of_it_is_long() {
        let scenario = Scenario::parse(&format!(
            "[fleet]\nclient = \"lean\"\ndevices = {CLIENTS}\nrate = 1\nconnect_rate = 100000\n\
             [[subscriber]]\nname = \"a\"\nfilter = \"#\"\ndelay = \"1ms\"\n\
             [[phase]]\nname = \"storm\"\nkind = \"reconnect-storm\"\nduration = \"10s\"\nshare = 1\n"
        ))
        .unwrap();
        let Clients::Lean(lean) = scenario.fleet.clients.clone() else { panic!("lean") };
        let plan = Plan { scenario, host: "::1".to_owned(), port: 0, seed: 1, epoch: 1 };
        let broker = Broker::default();
        let dialers = Dialers { devices: Box::new(broker.clone()), subscribers: Box::new(Broker::default()) };
        let mut engine = Engine::new(plan, &lean, 0, &[], dialers).unwrap();
        engine.connect();
        while broker.dialled() < CLIENTS {
            engine.turn().unwrap();
        }
        assert_eq!(broker.closed(), 0, "{:?}", engine.common.tally.last_error);
        engine.start(monotonic_us(), 10_000_000);
        for most in [64, 128, 192, CLIENTS] {
            let before = broker.dialled();
            engine.turn().unwrap();
            assert_eq!(broker.closed(), most);
            assert!(broker.dialled() - before <= TIMERS_AT_ONCE, "as few are opened");
        }
    }
}
