//! One thread with many connections: waits for all of them at once, and publishes at the pace it was given.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::connection::{Connection, Recorder};
use super::shared::{Phase, Shared};
use super::spread::Spread;
use super::{LeanError, Pace, Role, Wanted};
use crate::lean::link::PACKET_BYTES_MAX;
use crate::lean::poller::{Poller, Ready};
use hdrhistogram::Histogram;
use rustix::thread::set_current_timer_slack;

/// How long a worker waits for sockets before it looks at the phase and the clock again.
const TICK: Duration = Duration::from_millis(1);
/// The same while a limit holds something back.
const BLOCKED: Duration = Duration::from_micros(250);
/// How exactly it is woken.
const TIMER_SLACK_NS: u64 = 1_000;
/// QoS 0, closed loop: what one publisher sends in one turn, so that all of them take part.
const TURN: u64 = 64;
/// Connections opened between two looks at those that are open already.
const OPENED_AT_ONCE: usize = 64;
/// How long nobody connects after somebody was told to come again: at first, and at most, when nobody gets in any more.
const PAUSE: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// What a worker has measured.
pub(crate) struct Measured {
    /// From due to PUBACK, in nanoseconds.
    pub(crate) acknowledgement: Histogram<u64>,
    /// From due to delivery, in nanoseconds.
    pub(crate) delivery: Histogram<u64>,
    /// The furthest it was behind its schedule, in nanoseconds: more than a few milliseconds means that the machine or the
    /// broker held it up.
    pub(crate) lag_max: u64,
}

/// One worker; [`Worker::run`] is its thread.
pub(crate) struct Worker {
    pub(crate) address: SocketAddr,
    pub(crate) shared: Arc<Shared>,
    pub(crate) payload_bytes: usize,
    pub(crate) pace: Pace,
    pub(crate) wanted: Vec<Wanted>,
}

impl Worker {
    /// Connects everything, does as the phase says, and answers what it measured.
    ///
    /// # Errors
    /// [`LeanError`]; all workers stop then.
    pub(crate) fn run(self) -> Result<Measured, LeanError> {
        let shared = Arc::clone(&self.shared);
        let measured = Turning::new(self).and_then(Turning::run);
        if measured.is_err() {
            shared.fail();
        }
        measured
    }
}

struct Turning {
    worker: Worker,
    poller: Poller,
    dialer: Spread,
    connections: Vec<Connection>,
    /// Those that are written to, those that read slowly.
    publishers: Vec<usize>,
    slow: Vec<(usize, u64)>,
    /// Those that were told to come again, and the pace of connecting.
    again: VecDeque<usize>,
    pause: Pause,
    buffer: Vec<u8>,
    recorder: Recorder,
    /// Open loop: when the next event is due, in nanoseconds since the epoch.
    due: f64,
    /// Whose turn it is.
    turn: usize,
    sent: u64,
    lag_max: u64,
    slow_since: Instant,
}

impl Turning {
    fn new(worker: Worker) -> Result<Self, LeanError> {
        let poller = Poller::new().map_err(LeanError::io("make a poller"))?;
        let recorder = Recorder::new()
            .map_err(|error| LeanError::io("make a histogram")(std::io::Error::other(error)))?;
        Ok(Self {
            dialer: Spread::new(worker.address),
            worker,
            poller,
            connections: Vec::new(),
            publishers: Vec::new(),
            slow: Vec::new(),
            again: VecDeque::new(),
            pause: Pause::default(),
            buffer: vec![0; PACKET_BYTES_MAX],
            recorder,
            due: 0.0,
            turn: 0,
            sent: 0,
            lag_max: 0,
            slow_since: Instant::now(),
        })
    }

    fn run(mut self) -> Result<Measured, LeanError> {
        // Without it a wait takes 50 µs longer than it is asked to, and latencies with it.
        let _ = set_current_timer_slack(NonZeroU64::new(TIMER_SLACK_NS));
        let mut wanted = std::mem::take(&mut self.worker.wanted).into_iter();
        let mut events = Vec::new();
        loop {
            let may_connect = !self.pause.lasts(Instant::now());
            if may_connect {
                for wanted in wanted.by_ref().take(OPENED_AT_ONCE) {
                    self.open(wanted)?;
                }
                if wanted.len() == 0 {
                    self.open_again()?;
                }
            }
            let phase = self.worker.shared.phase();
            if phase == Phase::Stop {
                break;
            }
            let rest = self.publish(phase)?;
            let is_connecting = may_connect && wanted.len() + self.again.len() > 0;
            let timeout = if is_connecting { Duration::ZERO } else { rest };
            self.poller.wait(timeout, &mut events).map_err(LeanError::io("wait for connections"))?;
            self.read(&events, phase)?;
            self.read_slowly(phase)?;
        }
        if self.worker.shared.has_failed() {
            return Err(LeanError::Stopped);
        }
        let Recorder { acknowledgement, delivery, .. } = self.recorder;
        Ok(Measured { acknowledgement, delivery, lag_max: self.lag_max })
    }

    fn open(&mut self, wanted: Wanted) -> Result<(), LeanError> {
        let at = self.connections.len();
        let payload_bytes = self.worker.payload_bytes;
        let connection = Connection::open(&self.dialer, &self.poller, at as u64, wanted, payload_bytes)?;
        if matches!(&connection.wanted.role, Role::Publisher { .. }) {
            self.publishers.push(at);
        }
        self.connections.push(connection);
        Ok(())
    }

    fn open_again(&mut self) -> Result<(), LeanError> {
        for _ in 0..OPENED_AT_ONCE {
            let Some(at) = self.again.pop_front() else { break };
            if let Some(connection) = self.connections.get_mut(at) {
                connection.connect(&self.dialer, &self.poller)?;
            }
        }
        Ok(())
    }

    fn read(&mut self, events: &[Ready], phase: Phase) -> Result<(), LeanError> {
        self.recorder.now = self.worker.shared.now();
        self.recorder.on = phase == Phase::Measure;
        let (mut acknowledged, mut delivered, mut ready) = (0, 0, 0);
        for event in events {
            let at = usize::try_from(event.token).unwrap_or(usize::MAX);
            let Some(connection) = self.connections.get_mut(at) else { continue };
            let progress = connection.take_in(*event, &mut self.buffer, &mut self.recorder)?;
            acknowledged += progress.acknowledged;
            delivered += progress.delivered;
            ready += u64::from(progress.is_ready);
            if progress.comes_again {
                self.again.push_back(at);
                self.pause.begin(Instant::now());
                continue;
            }
            connection.flush(&self.poller)?;
            if progress.is_ready
                && let Role::Subscriber { bytes_per_second: Some(rate), .. } = &connection.wanted.role
            {
                self.slow.push((at, *rate));
                connection.unwatch(&self.poller)?;
            }
        }
        if ready > 0 {
            self.pause.shorten();
        }
        let shared = &self.worker.shared;
        add(&shared.acknowledged, acknowledged);
        add(&shared.delivered, delivered);
        add(&shared.ready, ready);
        Ok(())
    }

    /// Lets slow subscribers read what has become theirs since the last time.
    fn read_slowly(&mut self, phase: Phase) -> Result<(), LeanError> {
        let elapsed = self.slow_since.elapsed();
        if self.slow.is_empty() || elapsed < TICK * 10 {
            return Ok(());
        }
        self.slow_since = Instant::now();
        for (at, rate) in &self.slow {
            let Some(connection) = self.connections.get_mut(*at) else { continue };
            let share = (*rate as f64 * elapsed.as_secs_f64()) as usize;
            // A packet has to fit, however slow.
            let room = share.max(self.worker.payload_bytes * 2 + 1024).min(self.buffer.len());
            let Some(buffer) = self.buffer.get_mut(..room) else { continue };
            self.recorder.on = false;
            let ready = Ready { token: *at as u64, readable: true, writable: true };
            let progress = connection.take_in(ready, buffer, &mut self.recorder)?;
            self.recorder.on = phase == Phase::Measure;
            add(&self.worker.shared.delivered_slowly, progress.delivered);
            connection.flush(&self.poller)?;
        }
        Ok(())
    }

    /// Publishes what is to be published now. Answers for how long there is nothing more to publish.
    fn publish(&mut self, phase: Phase) -> Result<Duration, LeanError> {
        if self.publishers.is_empty() || !matches!(phase, Phase::WarmUp | Phase::Measure) {
            return Ok(TICK);
        }
        let rest = match self.worker.pace {
            Pace::Closed { in_flight_max, fan_out } => match self.publish_closed(in_flight_max, fan_out)? {
                true => BLOCKED,
                false => TICK,
            },
            Pace::Open { rate } => self.publish_due(rate)?,
        };
        add(&self.worker.shared.sent, std::mem::take(&mut self.sent));
        Ok(rest)
    }

    /// Whether a limit held something back.
    fn publish_closed(&mut self, in_flight_max: u64, fan_out: u64) -> Result<bool, LeanError> {
        let now = self.worker.shared.now();
        let mut open = in_flight_max.saturating_sub(self.worker.shared.in_flight(fan_out));
        let count = self.publishers.len();
        for step in 0..count {
            if open == 0 {
                self.turn = (self.turn + step) % count;
                return Ok(true);
            }
            let Some(&at) = self.publishers.get((self.turn + step) % count) else { continue };
            let Some(connection) = self.connections.get_mut(at) else { continue };
            let events = connection.room().min(TURN).min(open);
            for _ in 0..events {
                connection.publish(now);
            }
            open -= events;
            self.sent += events;
            if events > 0 {
                connection.flush(&self.poller)?;
            }
        }
        Ok(false)
    }

    /// Until when the next event is due: one that slept longer would measure its sleep, and make small bursts of a steady rate.
    fn publish_due(&mut self, rate: f64) -> Result<Duration, LeanError> {
        let now = self.worker.shared.now();
        let period = 1e9 / rate;
        if self.due == 0.0 {
            self.due = now as f64;
        }
        let mut written = Vec::new();
        while self.due <= now as f64 {
            let count = self.publishers.len();
            // The next one that has room; when none has, the events stay due, and their latency counts from then.
            let free = (0..count).find_map(|step| {
                let at = *self.publishers.get((self.turn + step) % count)?;
                (self.connections.get(at)?.room() > 0).then_some((step, at))
            });
            let Some((step, at)) = free else { break };
            self.turn = (self.turn + step + 1) % count;
            if let Some(connection) = self.connections.get_mut(at) {
                connection.publish(self.due as u64);
                self.sent += 1;
                if written.last() != Some(&at) {
                    written.push(at);
                }
            }
            self.due += period;
        }
        for at in written {
            if let Some(connection) = self.connections.get_mut(at) {
                connection.flush(&self.poller)?;
            }
        }
        let lag = (now as f64 - self.due).max(0.0) as u64;
        if self.recorder.on {
            self.lag_max = self.lag_max.max(lag);
        }
        let until_due = (self.due - self.worker.shared.now() as f64).max(0.0) as u64;
        Ok(if lag > 0 { BLOCKED } else { TICK.min(Duration::from_nanos(until_due)) })
    }
}

/// How connections are held off when the broker takes no more for now.
#[derive(Default)]
struct Pause {
    until: Option<Instant>,
    /// How often it had to wait since somebody got in.
    waits: u32,
}

impl Pause {
    fn begin(&mut self, now: Instant) {
        if !self.lasts(now) {
            self.until = Some(now + PAUSE.saturating_mul(1 << self.waits.min(16)).min(PAUSE_MAX));
            self.waits += 1;
        }
    }

    fn lasts(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| now < until)
    }

    fn shorten(&mut self) {
        self.waits = 0;
    }
}

fn add(counter: &std::sync::atomic::AtomicU64, count: u64) {
    if count > 0 {
        counter.fetch_add(count, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_grows_while_nobody_gets_in() {
        let mut pause = Pause::default();
        let mut now = Instant::now();
        assert!(!pause.lasts(now));
        for expected in [50, 100, 200, 400, 800, 1_000, 1_000] {
            pause.begin(now);
            pause.begin(now); // Others that were refused at the same time make it no longer.
            let expected = Duration::from_millis(expected);
            assert!(pause.lasts(now + expected - Duration::from_millis(1)) && !pause.lasts(now + expected));
            now += expected;
        }
        pause.shorten();
        pause.begin(now);
        assert!(!pause.lasts(now + PAUSE));
    }
}
