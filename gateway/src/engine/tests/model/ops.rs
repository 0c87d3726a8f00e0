//! What may happen, chosen from a seed. Steps name clients and topics by small numbers and say nothing that depends on the state, so a case
//! stays a case when steps are taken out of it.

use crate::engine::{BacklogLimits, LetterLimits, Rules, ShareStrategy, WhenFull};

pub(super) const CLIENTS: [&str; 5] = ["c0", "c1", "c2", "c3", "c4"];
pub(super) const TOPICS: [&str; 9] = ["a/1", "a/2", "a/1/x", "b/1", "b/2", "s/1", "s/2", "t/1", "x"];
pub(super) const FILTERS: [&str; 10] =
    ["a/#", "a/+", "a/1", "b/#", "#", "+/1", "$share/g/s/#", "$share/g/s/#", "$share/k/s/1", "$share/g/s/#"];

/// An event to be published.
#[derive(Clone, Copy, Debug)]
pub(super) struct Publish {
    pub(super) topic: usize,
    pub(super) qos: u8,
    pub(super) retain: bool,
    pub(super) len: usize,
}

/// Which part of what is pending is meant.
#[derive(Clone, Copy, Debug)]
pub(super) enum Which {
    /// The oldest of them, in permille.
    Oldest(u64),
    /// Every n-th one.
    Every(usize),
    /// All, and some that do not exist yet.
    Beyond,
}

/// What becomes of the saved view at a restart.
#[derive(Clone, Copy, Debug)]
pub(super) enum ViewFate {
    Kept,
    /// An earlier copy takes its place.
    Earlier(usize),
    Missing,
    /// Its files hold something else.
    Rubbish,
    /// The second half of its largest file is gone.
    Halved,
}

/// How it ends before a restart.
#[derive(Clone, Debug)]
pub(super) enum End {
    Stop,
    /// The power fails.
    Crash,
    /// The power fails while a group is synced, of which so many bytes survive.
    CrashInGroup(Vec<Publish>, u64),
    /// The power fails while a checkpoint is written.
    CrashInCheckpoint(u64),
}

/// A step.
#[derive(Clone, Debug)]
pub(super) enum Op {
    Publish {
        publisher: usize,
        events: Vec<Publish>,
        acknowledge: Option<(usize, Which)>,
    },
    /// Many small events under two topics in turn.
    Burst {
        topics: (usize, usize),
        count: usize,
    },
    Open {
        client: usize,
        clean: bool,
        lasts: bool,
    },
    Close {
        client: usize,
        lasts: bool,
        sent_permille: u64,
    },
    Remove {
        client: usize,
    },
    Subscribe {
        client: usize,
        filter: usize,
        options: u8,
        id: u32,
    },
    Unsubscribe {
        client: usize,
        filter: usize,
    },
    Acknowledge {
        client: usize,
        which: Which,
    },
    Receive {
        client: usize,
        which: Which,
    },
    PacketIn {
        client: usize,
        packet_id: u16,
    },
    PacketReleased {
        client: usize,
        packet_id: u16,
    },
    WillSet {
        client: usize,
        delay_secs: u32,
    },
    WillCleared {
        client: usize,
    },
    RetainedRemoved {
        topic: usize,
        is_stale: bool,
    },
    Cut {
        client: usize,
        permille: u64,
    },
    /// The connection sends what waits.
    Sent {
        client: usize,
    },
    Save,
    /// Events are stored while the view's thread is busy with a checkpoint, and so are an acknowledgement and more events, once it has
    /// refused to save the first.
    BusySave {
        events: Vec<Publish>,
        client: usize,
        which: Which,
        more: Vec<Publish>,
    },
    Checkpoint,
    /// One turn of upkeep.
    Retain {
        checkpoints: bool,
        fails: bool,
    },
    CopyView,
    /// The group's write (after so many bytes) or its sync fails.
    Fail {
        events: Vec<Publish>,
        write: Option<usize>,
        reopening_fails: bool,
    },
    Restart {
        end: End,
        view: ViewFate,
        damages_checkpoint: bool,
        rules: Rules,
        saves: bool,
    },
}

/// Numbers from a seed (splitmix64).
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(super) fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    pub(super) fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }

    fn publish(&mut self) -> Publish {
        let retain = self.one_in(5);
        let len = if retain && self.one_in(4) { 0 } else { 1 + self.below(300) };
        Publish { topic: self.below(TOPICS.len()), qos: self.below(3) as u8, retain, len }
    }

    fn publishes(&mut self, max: usize) -> Vec<Publish> {
        (0..1 + self.below(max)).map(|_| self.publish()).collect()
    }

    fn which(&mut self) -> Which {
        match self.below(5) {
            0 => Which::Beyond,
            1 | 2 => Which::Every(2 + self.below(3)),
            _ => Which::Oldest(100 + self.below(1000) as u64),
        }
    }

    pub(super) fn rules(&mut self) -> Rules {
        Rules {
            backlog: BacklogLimits {
                messages_max: [4, 12, 100_000, 100_000][self.below(4)],
                bytes_max: 1 << 40,
            },
            share: [ShareStrategy::RoundRobin, ShareStrategy::Publisher][self.below(2)],
            when_full: [WhenFull::DropNewest, WhenFull::DropOldest, WhenFull::EndSession][self.below(3)],
            losses: 0,
            consumers_max: 0,
            letters: LetterLimits::default(),
        }
    }

    fn restart(&mut self, rules: &mut Rules) -> Op {
        if self.one_in(3) {
            *rules = self.rules();
        }
        let torn = match self.below(3) {
            0 => 0,
            1 => u64::MAX,
            _ => self.below(700) as u64,
        };
        let end = match self.below(6) {
            0 => End::Stop,
            1 => End::CrashInCheckpoint(torn),
            2 | 3 => End::Crash,
            _ => End::CrashInGroup(self.publishes(4), torn),
        };
        let view = match self.below(8) {
            0 => ViewFate::Missing,
            1 => ViewFate::Rubbish,
            2 => ViewFate::Halved,
            3 | 4 => ViewFate::Earlier(self.below(4)),
            _ => ViewFate::Kept,
        };
        Op::Restart { end, view, damages_checkpoint: self.one_in(4), rules: *rules, saves: !self.one_in(3) }
    }

    fn subscribe(&mut self, client: usize) -> Op {
        let filter = self.below(FILTERS.len());
        let is_shared = FILTERS[filter].starts_with('$');
        let qos = if is_shared { 1 + self.below(2) } else { self.below(3) } as u8;
        let no_local = !is_shared && self.one_in(4);
        let as_published = self.one_in(2);
        let handling = self.below(3) as u8;
        let options = qos | u8::from(no_local) << 2 | u8::from(as_published) << 3 | handling << 4;
        Op::Subscribe { client, filter, options, id: self.below(4) as u32 }
    }

    /// Some sessions with something to wait for, so that not too much comes to nothing.
    pub(super) fn beginning(&mut self) -> Vec<Op> {
        let sessions = (0..3).flat_map(|client| {
            [Op::Open { client, clean: false, lasts: true }, self.subscribe(client), self.subscribe(client)]
        });
        sessions.collect()
    }

    pub(super) fn op(&mut self, rules: &mut Rules) -> Op {
        let client = self.below(CLIENTS.len());
        match self.below(100) {
            0..22 => Op::Publish {
                publisher: client,
                events: self.publishes(6),
                acknowledge: self.one_in(3).then(|| (self.below(CLIENTS.len()), self.which())),
            },
            22..25 => Op::Burst {
                topics: (self.below(TOPICS.len()), self.below(TOPICS.len())),
                count: 20 + self.below(40) * self.below(40),
            },
            25..33 => Op::Open { client, clean: self.one_in(5), lasts: !self.one_in(5) },
            33..39 => Op::Close {
                client,
                lasts: !self.one_in(4),
                sent_permille: [0, 1000, self.below(1000) as u64][self.below(3)],
            },
            39 => Op::Remove { client },
            40..52 => self.subscribe(client),
            52..54 => Op::Unsubscribe { client, filter: self.below(FILTERS.len()) },
            54..63 => Op::Acknowledge { client, which: self.which() },
            63..66 => Op::Receive { client, which: self.which() },
            66..68 => Op::PacketIn { client, packet_id: 1 + self.below(4) as u16 },
            68 => Op::PacketReleased { client, packet_id: 1 + self.below(4) as u16 },
            69 => Op::WillSet { client, delay_secs: self.below(3) as u32 },
            70 => Op::WillCleared { client },
            71 => Op::RetainedRemoved { topic: self.below(TOPICS.len()), is_stale: self.one_in(3) },
            72..74 => Op::Cut { client, permille: self.below(1001) as u64 },
            74 => Op::Sent { client },
            75 => Op::BusySave {
                events: self.publishes(4),
                client,
                which: self.which(),
                more: self.publishes(4),
            },
            76 => Op::Save,
            77..80 => Op::Checkpoint,
            80..88 => Op::Retain { checkpoints: self.one_in(2), fails: self.one_in(5) },
            88..90 => Op::CopyView,
            90..93 => Op::Fail {
                events: self.publishes(4),
                write: [None, Some(self.below(400))][self.below(2)],
                reopening_fails: self.one_in(4),
            },
            _ => self.restart(rules),
        }
    }
}
