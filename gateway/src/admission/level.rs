//! The levels of the ladder, the resources that are measured, and what a level means beside publishes.

/// How hard the gateway defends itself. Each level does what the ones below it do, and more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Level {
    /// L0: nothing is held back.
    #[default]
    Normal,
    /// L1: what can wait waits: replay and redrive; new sessions get a smaller Receive Maximum; groups grow.
    Conserve,
    /// L2: each client has its share. Over it PUBACK comes late and QoS 0 is dropped; connects are paced.
    Throttle,
    /// L3: QoS 0 is shed by class.
    Shed,
    /// L4: no new sessions; where something fills up or is stuck, acknowledgements are held for all but critical events.
    Protect,
    /// L5: nothing is stored, so nothing is acknowledged. Consumers go on draining.
    ReadOnly,
}

impl Level {
    /// All levels, lowest first.
    pub const ALL: [Self; 6] =
        [Self::Normal, Self::Conserve, Self::Throttle, Self::Shed, Self::Protect, Self::ReadOnly];

    /// 0 to 5.
    #[must_use]
    pub const fn as_u8(self) -> u8 {
        self as u8
    }

    /// The level of a number; what is above 5 is [`Level::ReadOnly`].
    #[must_use]
    pub const fn from_u8(number: u8) -> Self {
        match number {
            0 => Self::Normal,
            1 => Self::Conserve,
            2 => Self::Throttle,
            3 => Self::Shed,
            4 => Self::Protect,
            _ => Self::ReadOnly,
        }
    }

    /// One word, for labels and log lines.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::Conserve => "conserve",
            Self::Throttle => "throttle",
            Self::Shed => "shed",
            Self::Protect => "protect",
            Self::ReadOnly => "read_only",
        }
    }

    /// The next lower level; the lowest has none below it.
    #[must_use]
    pub const fn below(self) -> Self {
        Self::from_u8(self.as_u8().saturating_sub(1))
    }

    /// Whether replay of streams, and redrive of dead letters, are to wait. Draining what is live never is.
    #[must_use]
    pub const fn pauses_replay(self) -> bool {
        self.as_u8() >= Self::Conserve.as_u8()
    }

    /// Whether the committer should rather gather larger groups than answer sooner.
    #[must_use]
    pub const fn gathers_groups(self) -> bool {
        self.as_u8() >= Self::Conserve.as_u8()
    }

    /// The Receive Maximum that a new session is told, where `full` is the configured one: half of it at L1, a quarter at L2, an eighth
    /// above. Never below 8 (or below `full`): a window of one turns every commit into a round trip.
    #[must_use]
    pub const fn receive_maximum(self, full: u16) -> u16 {
        let divided = match self {
            Self::Normal => full,
            Self::Conserve => full / 2,
            Self::Throttle => full / 4,
            Self::Shed | Self::Protect | Self::ReadOnly => full / 8,
        };
        let least = if full < 8 { full } else { 8 };
        if divided < least { least } else { divided }
    }

    /// Whether connects come at the pace of the gateway (Connection rate exceeded, 0x9F) rather than as they like.
    #[must_use]
    pub const fn paces_connects(self) -> bool {
        self.as_u8() >= Self::Throttle.as_u8()
    }

    /// Whether a client that has no session here is refused (Server busy, 0x89).
    #[must_use]
    pub const fn refuses_sessions(self) -> bool {
        self.as_u8() >= Self::Protect.as_u8()
    }
}

/// What is measured. A closed list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Resource {
    /// Resident memory of the process against its limit.
    Memory,
    /// Bytes in outboxes and staged for the log against their limit.
    Buffer,
    /// The log against `storage.max_bytes`, and its disk against being full.
    Disk,
    /// How long an event waits for its commit.
    Commit,
    /// How late the runtime comes to what is ready.
    LoopLag,
    /// The age of the oldest publish that is not acknowledged.
    Oldest,
}

impl Resource {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Memory, Self::Buffer, Self::Disk, Self::Commit, Self::LoopLag, Self::Oldest];

    /// One word, for labels and log lines.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Buffer => "buffer",
            Self::Disk => "disk",
            Self::Commit => "commit",
            Self::LoopLag => "loop_lag",
            Self::Oldest => "oldest",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_and_their_numbers_are_the_same_thing() {
        for (number, level) in Level::ALL.into_iter().enumerate() {
            assert_eq!(usize::from(level.as_u8()), number);
            assert_eq!(Level::from_u8(level.as_u8()), level);
        }
        assert_eq!(Level::from_u8(200), Level::ReadOnly);
        assert_eq!(Level::Normal.below(), Level::Normal);
        assert_eq!(Level::ReadOnly.below(), Level::Protect);
        assert!(Level::ALL.is_sorted());
    }

    #[test]
    fn what_each_level_means_beside_publishes() {
        let shown = Level::ALL.map(|level| {
            let flags = [
                (level.pauses_replay(), "replay waits"),
                (level.gathers_groups(), "large groups"),
                (level.paces_connects(), "connects paced"),
                (level.refuses_sessions(), "no new sessions"),
            ];
            let flags: Vec<_> = flags.into_iter().filter_map(|(is, what)| is.then_some(what)).collect();
            format!("{} {} {}", level.label(), level.receive_maximum(256), flags.join(", "))
        });
        let expected = [
            "normal 256 ",
            "conserve 128 replay waits, large groups",
            "throttle 64 replay waits, large groups, connects paced",
            "shed 32 replay waits, large groups, connects paced",
            "protect 32 replay waits, large groups, connects paced, no new sessions",
            "read_only 32 replay waits, large groups, connects paced, no new sessions",
        ];
        assert_eq!(shown, expected);
    }

    #[test]
    fn a_receive_maximum_is_never_raised_and_never_nothing() {
        for level in Level::ALL {
            for full in [1, 2, 7, 8, 9, 63, 64, 256, u16::MAX] {
                let told = level.receive_maximum(full);
                assert!(told <= full && told >= full.min(8), "{level:?} {full}: {told}");
            }
        }
    }
}
