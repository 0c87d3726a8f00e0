//! The log itself: what is reported goes in here.

use super::follow::{Follower, Followers};
use super::query::{DecisionPage, DecisionQuery};
use super::reason::Action;
use super::record::{Circumstances, Decision, Recorded, Subject, SubjectRef};
use super::ring::Ring;
use super::{metrics, query};
use foldhash::fast::RandomState;
use hashbrown::HashMap;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How long decisions that are alike are gathered into one entry.
const GATHER_MS: u64 = 1_000;
/// How many entries are gathered into at a time.
const GATHERED_MAX: usize = 4_096;

/// Every decision of this gateway. Cheap to clone.
#[derive(Clone, Debug)]
pub struct DecisionLog {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// Level and pressure of the moment: `level << 8 | hundredths`.
    circumstances: AtomicU16,
    followers: Followers,
}

#[derive(Debug)]
struct State {
    ring: Ring,
    /// Entries that may still grow.
    gathered: HashMap<Subject, Gathered, RandomState>,
}

#[derive(Debug)]
struct Gathered {
    since_ms: u64,
    count: u32,
    circumstances: Circumstances,
}

/// How much the log holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DecisionStats {
    /// Entries, those that may still grow aside.
    pub entries: u64,
    /// Bytes they take.
    pub bytes: usize,
    /// The number the next entry gets: how many there have been.
    pub recorded: u64,
}

impl DecisionLog {
    /// A log of the newest `capacity` decisions; with long names some fewer.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        let state = State { ring: Ring::new(capacity), gathered: HashMap::default() };
        Self {
            shared: Arc::new(Shared {
                state: Mutex::new(state),
                circumstances: AtomicU16::new(0),
                followers: Followers::default(),
            }),
        }
    }

    /// Notes what goes with every decision from now on: the level, 0 to 5, and the worst pressure, 0 to 1.
    pub fn set_level(&self, level: u8, pressure: f64) {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 100")]
        let percent = (pressure.clamp(0.0, 1.0) * 100.0).round() as u8;
        self.shared.circumstances.store(u16::from_be_bytes([level, percent]), Ordering::Relaxed);
    }

    /// Records a decision made at `now_ms`, in milliseconds since the Unix epoch. Reported once for each read, client, topic and reason.
    pub fn record(&self, now_ms: u64, decision: Decision<'_>) {
        metrics::decided(decision.action, decision.reason, decision.count);
        let [level, pressure_percent] = self.shared.circumstances.load(Ordering::Relaxed).to_be_bytes();
        let circumstances = Circumstances { level, pressure_percent };
        let mut state = self.lock();
        match decision.action {
            // A client may be refused as fast as it publishes, and must not push out what is known of others.
            Action::Refused if !decision.topic.is_empty() => {
                state.gather(now_ms, circumstances, &decision);
            }
            // Each of these stands for itself, and somebody may be waiting to see it.
            Action::Refused | Action::Disconnected | Action::LevelChanged => {
                state.ring.push(now_ms, circumstances, &decision);
                drop(state);
                self.shared.followers.tell();
            }
            Action::Shed | Action::Dropped | Action::Expired | Action::DeadLettered | Action::Throttled => {
                state.gather(now_ms, circumstances, &decision);
            }
        }
    }

    /// Closes the entries that have been gathered for a second. To be called once a second or so.
    pub fn settle(&self, now_ms: u64) {
        if self.lock().settle(|gathered| now_ms.saturating_sub(gathered.since_ms) >= GATHER_MS) > 0 {
            self.shared.followers.tell();
        }
        let stats = self.stats();
        metrics::held(stats.entries, stats.bytes);
    }

    /// One page of decisions, newest first. Takes milliseconds for a full log: not for a thread that serves connections.
    #[must_use]
    pub fn page(&self, query: &DecisionQuery) -> DecisionPage {
        let chunks = {
            let mut state = self.lock();
            state.settle(|_| true);
            state.ring.chunks(0)
        };
        self.shared.followers.tell();
        query::page(&chunks, query)
    }

    /// Follows the log, from the entry of this number on; `None`: from now on.
    #[must_use]
    pub fn follow(&self, from: Option<u64>) -> Follower {
        let next = from.unwrap_or_else(|| self.lock().ring.end());
        Follower::new(self.clone(), next)
    }

    /// How much it holds.
    #[must_use]
    pub fn stats(&self) -> DecisionStats {
        let state = self.lock();
        let ring = &state.ring;
        DecisionStats { entries: ring.records(), bytes: ring.bytes(), recorded: ring.end() }
    }

    pub(super) fn followers(&self) -> &Followers {
        &self.shared.followers
    }

    /// The entries from `next` on, at most `max`, and how many were given up before; `next` is moved behind them.
    pub(super) fn read(&self, next: &mut u64, max: usize) -> (u64, Vec<Recorded>) {
        let (first, chunks) = {
            let state = self.lock();
            let (first, end) = (state.ring.first(), state.ring.end());
            // Numbers begin anew with the gateway: what is ahead of it is of another one.
            if *next > end {
                *next = first;
            }
            (first, state.ring.chunks(*next))
        };
        let missed = first.saturating_sub(*next);
        *next = (*next).max(first);
        let records = chunks.iter().flat_map(|chunk| chunk.records()).skip_while(|(id, _)| *id < *next);
        let read: Vec<_> = records.take(max).map(|(id, view)| view.recorded(id)).collect();
        if let Some(last) = read.last() {
            *next = last.id + 1;
        }
        (missed, read)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn gather(&mut self, now_ms: u64, circumstances: Circumstances, decision: &Decision<'_>) {
        let subject = SubjectRef::of(decision);
        if let Some(gathered) = self.gathered.get_mut(&subject) {
            gathered.count = gathered.count.saturating_add(decision.count);
            return;
        }
        if self.gathered.len() >= GATHERED_MAX {
            self.settle(|_| true);
        }
        let gathered = Gathered { since_ms: now_ms, count: decision.count, circumstances };
        self.gathered.insert(subject.to_owned(), gathered);
    }

    /// Closes entries, oldest first. How many.
    fn settle(&mut self, is_done: impl Fn(&Gathered) -> bool) -> usize {
        let mut done: Vec<_> = self.gathered.extract_if(|_, gathered| is_done(gathered)).collect();
        done.sort_unstable_by(|(one, a), (other, b)| {
            (a.since_ms, &one.client, &one.topic).cmp(&(b.since_ms, &other.client, &other.topic))
        });
        for (subject, gathered) in &done {
            let decision = Decision {
                client: &subject.client,
                topic: &subject.topic,
                action: subject.action,
                reason: subject.reason,
                count: gathered.count,
            };
            self.ring.push(gathered.since_ms, gathered.circumstances, &decision);
        }
        done.len()
    }
}
