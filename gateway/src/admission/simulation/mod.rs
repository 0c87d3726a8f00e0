//! The whole of overload control against a model of a gateway, in virtual time: who brings how much, what the gateway can take, and what
//! becomes of every event.
//!
//! The model knows what matters here: one queue to the log, which is bounded and emptied at a fixed rate; receiving costs something even
//! where the event is given up; a QoS 1 client has so many unacknowledged at a time; what is not read stays with its client. Pressures are
//! made as the sampler makes them. A failure prints the seed.

mod ladder;
mod receivers;
mod shares;

use super::{
    Charge, Class, Controller, Faults, Judgement, LadderOptions, Level, Pressure, Pressures, Resource, Share,
    cost, judge,
};
use crate::decisions::Reason;
use gateway_protocol::QoS;
use receivers::{DELIVERY_PART, Receivers};
use std::collections::VecDeque;

/// Virtual time between two looks at everything.
const TICK_MS: u64 = 10;
/// What an event costs the gateway that is received and given up, of one that is taken.
const DECODING: f64 = 0.06;
/// Events of one read.
const READ_EVENTS: u32 = 256;
/// How often a client whose PUBACK is late is looked at, and how long a flood is left unread.
const LOOKS_MS: u64 = 250;

/// Who brings what.
#[derive(Clone, Copy, Debug)]
pub(super) struct Profile {
    pub(super) class: Class,
    pub(super) qos: QoS,
    /// Events a second.
    pub(super) rate: f64,
    /// Publishes that it has unacknowledged at most.
    pub(super) window: u32,
}

/// What became of what a client brought.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Fate {
    pub(super) received: u64,
    pub(super) taken: u64,
    pub(super) shed: u64,
    pub(super) late: u64,
    pub(super) stored: u64,
    pub(super) acknowledged: u64,
}

pub(super) struct Client {
    pub(super) profile: Profile,
    pub(super) fate: Fate,
    share: Option<Share>,
    /// Due and not sent.
    due: f64,
    inflight: u32,
    unread_until: u64,
    /// PUBACKs do not leave before.
    late_until: u64,
    is_held: bool,
    /// Stored and not acknowledged.
    owed: u32,
    pub(super) is_connected: bool,
    /// When each event that waits for its PUBACK was received; of critical clients alone.
    sent_at: VecDeque<u64>,
}

pub(super) struct Model {
    pub(super) clients: Vec<Client>,
    /// What the gateway can do in a second, in events stored.
    capacity: f64,
    queue_max: usize,
    /// The client and the time of each event on its way to the log.
    queue: VecDeque<(usize, u64)>,
    /// Work done ahead of its time, in events.
    overdrawn: f64,
    pub(super) now_ms: u64,
    controller: Controller,
    pub(super) pressure: Pressure,
    pub(super) disk: f64,
    /// Who gets what is stored, if anybody does.
    pub(super) receivers: Option<Receivers>,
    pub(super) faults: Faults,
    pub(super) levels: Vec<(u64, Level)>,
    pub(super) stored: u64,
    pub(super) acknowledged_after_ms: Vec<u64>,
    random: u64,
}

impl Model {
    /// `capacity`: events a second that it can take. `queue_secs`: how long it takes to store what the queue holds.
    pub(super) fn new(capacity: f64, queue_secs: f64, profiles: &[Profile], seed: u64) -> Self {
        let client = |profile: &Profile| Client {
            profile: *profile,
            fate: Fate::default(),
            share: None,
            due: 0.0,
            inflight: 0,
            unread_until: 0,
            late_until: 0,
            is_held: false,
            owed: 0,
            is_connected: true,
            sent_at: VecDeque::new(),
        };
        Self {
            clients: profiles.iter().map(client).collect(),
            capacity: capacity * (1.0 + DECODING),
            queue_max: (capacity * queue_secs) as usize,
            queue: VecDeque::new(),
            overdrawn: 0.0,
            now_ms: 0,
            controller: Controller::new(LadderOptions::default()),
            pressure: Pressure::default(),
            disk: 0.0,
            receivers: None,
            faults: Faults::default(),
            levels: vec![(0, Level::Normal)],
            stored: 0,
            acknowledged_after_ms: Vec::new(),
            random: seed | 1,
        }
    }

    /// Lets time pass, every client bringing `load` times what its profile says.
    pub(super) fn run(&mut self, ms: u64, load: f64) {
        let until = self.now_ms + ms;
        while self.now_ms < until {
            self.now_ms += TICK_MS;
            if self.now_ms.is_multiple_of(100) {
                self.sample();
            }
            self.receive();
            self.store();
            for at in 0..self.clients.len() {
                self.read(at, load);
            }
        }
    }

    fn sample(&mut self) {
        let waited_ms = self.queue.front().map_or(0, |(_, since)| self.now_ms - since);
        let delayed = |ms: f64| (ms / 1000.0).powf(0.22).min(1.0);
        let pressures = Pressures::default()
            .with(Resource::Commit, delayed(waited_ms as f64))
            .with(Resource::LoopLag, delayed(self.overdrawn * 1000.0 / self.capacity))
            .with(Resource::Buffer, self.queue.len() as f64 / (2 * self.queue_max) as f64)
            .with(Resource::Disk, self.disk)
            .with_lag_growth(self.lag_growth());
        if let Some(change) = self.controller.sample(self.now_ms, &pressures, self.faults, &self.pressure) {
            self.levels.push((self.now_ms, change.to));
        }
    }

    /// The log takes what it can, in order, and acknowledges what may be.
    fn store(&mut self) {
        let can = self.capacity * TICK_MS as f64 / 1000.0;
        self.overdrawn -= can;
        if !self.queue.is_empty() {
            self.pass_on(can * DELIVERY_PART);
        }
        let is_down = self.faults.log_failed || self.faults.disk_full;
        while self.overdrawn < 0.0 && !is_down {
            let Some((at, _)) = self.queue.pop_front() else { break };
            self.overdrawn += 1.0;
            self.stored += 1;
            if let Some(receivers) = &mut self.receivers {
                receivers.came += 1;
            }
            let client = &mut self.clients[at];
            client.fate.stored += 1;
            client.owed += u32::from(client.profile.qos != QoS::AtMostOnce);
        }
        self.pass_on(-self.overdrawn);
        self.overdrawn = self.overdrawn.max(0.0);
        let holds_acks = self.pressure.holds_acks();
        let slows = self.pressure.slows();
        let looks = |at: usize| (self.now_ms + at as u64 * TICK_MS).is_multiple_of(LOOKS_MS);
        for (at, client) in self.clients.iter_mut().enumerate() {
            client.is_held &= holds_acks;
            if !slows && looks(at) {
                client.late_until = 0;
            }
            if client.owed > 0 && client.late_until <= self.now_ms && !client.is_held {
                client.fate.acknowledged += u64::from(client.owed);
                client.inflight -= client.owed;
                for _ in 0..std::mem::take(&mut client.owed) {
                    if let Some(sent_at) = client.sent_at.pop_front() {
                        self.acknowledged_after_ms.push(self.now_ms - sent_at);
                    }
                }
            }
        }
    }

    /// One read of what a client has sent.
    fn read(&mut self, at: usize, load: f64) {
        let jitter = self.jitter();
        let (stance, now_ms) = (self.pressure.stance(), self.now_ms);
        let client = &mut self.clients[at];
        if !client.is_connected {
            return;
        }
        let Profile { class, qos, rate, window } = client.profile;
        client.due += rate * load * TICK_MS as f64 / 1000.0 * jitter;
        if client.unread_until > now_ms {
            return;
        }
        let mut reads = READ_EVENTS;
        while client.due >= 1.0 && reads > 0 && self.queue.len() < self.queue_max {
            let needs_log = qos != QoS::AtMostOnce;
            if needs_log && (client.inflight >= window || stance.level == Level::ReadOnly) {
                break;
            }
            client.due -= 1.0;
            reads -= 1;
            client.fate.received += 1;
            self.overdrawn += DECODING;
            let judgement = if stance.level == Level::Normal {
                client.share = None;
                Judgement::Take
            } else {
                let share = client.share.get_or_insert_with(|| Share::new(now_ms));
                judge(
                    stance,
                    class,
                    qos,
                    share,
                    Charge { now_ms, cost: cost(0, 0), pressure: &self.pressure },
                )
            };
            match judgement {
                Judgement::Shed(reason) => {
                    client.fate.shed += 1;
                    if reason == Reason::OverShare {
                        client.unread_until = now_ms + LOOKS_MS;
                    }
                    continue;
                }
                Judgement::TakeLate { wait_ms, .. } => {
                    client.fate.late += 1;
                    client.late_until = client.late_until.max(now_ms + wait_ms);
                }
                Judgement::TakeHeld => client.is_held = true,
                Judgement::Disconnect(_) => {
                    client.is_connected = false;
                    client.fate.shed += 1;
                    return;
                }
                Judgement::Take => {}
                Judgement::Refuse(_) | Judgement::Leave => panic!("{judgement:?} of {:?}", client.profile),
            }
            client.fate.taken += 1;
            client.inflight += u32::from(needs_log);
            if class == Class::Critical && needs_log {
                client.sent_at.push_back(now_ms);
            }
            self.queue.push_back((at, now_ms));
        }
    }

    /// Between a half and one and a half.
    fn jitter(&mut self) -> f64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        0.5 + (self.random % 1_000) as f64 / 1_000.0
    }

    pub(super) fn sum(&self, of: impl Fn(&Client) -> Option<u64>) -> u64 {
        self.clients.iter().filter_map(of).sum()
    }

    /// `received = accepted + shed`, and everything that was taken is stored or on its way.
    pub(super) fn books_balance(&self) {
        for client in &self.clients {
            let fate = client.fate;
            assert_eq!(fate.received, fate.taken + fate.shed, "{:?}", client.profile);
        }
        let taken = self.sum(|client| Some(client.fate.taken));
        assert_eq!(taken, self.stored + self.queue.len() as u64);
    }
}
