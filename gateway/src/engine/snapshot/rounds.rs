//! Rounds of saving: what a complete one lets go of.

use crate::engine::session::DurableSession;
use gateway_storage::{Offset, ViewWriter};
use std::sync::Arc;

/// The sessions of the round that is under way. There is one round at a time: the rows of the next are not made before everything in
/// this one is in the view, or backlogs would let go of what no row has yet.
#[derive(Debug, Default)]
pub(in crate::engine) struct Rounds {
    under_way: Option<(Offset, Vec<Arc<DurableSession>>)>,
}

impl Rounds {
    /// A round that reaches to `applied` is handed to `view`.
    pub(in crate::engine) fn begin(
        &mut self,
        view: &ViewWriter,
        applied: Offset,
        sessions: Vec<Arc<DurableSession>>,
    ) {
        // What the view has reached already would not show when this round is complete; its sessions keep what they have.
        self.under_way = (view.saved() < applied).then_some((applied, sessions));
    }

    /// Whether the last round is complete. If it is, its backlogs let go of what the view has.
    pub(in crate::engine) fn settle(&mut self, view: &ViewWriter) -> bool {
        let Some((applied, sessions)) = &self.under_way else { return true };
        if view.saved() < *applied {
            return false;
        }
        for session in sessions {
            session.page_out();
        }
        self.under_way = None;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::apply::{Applied, Applier};
    use crate::engine::backlog::{DueBatch, DueReader, Fetch, LoadedChunk};
    use crate::engine::rules::{Rules, ShareStrategy, WhenFull};
    use crate::engine::snapshot::pending::{ChunkError, Chunks};
    use crate::engine::table::Table;
    use crate::engine::{BacklogLimits, Ending, LetterLimits, snapshot};
    use gateway_protocol::QoS;
    use gateway_protocol::packet::SubscribeOptions;
    use gateway_storage::log::segments::disk::RealDisk;
    use gateway_storage::{Changes, Checkpoints, Entry, Event, Reserve, Staging, View, ViewOptions};

    const EVENTS: u64 = 5000;

    struct Nowhere;

    impl Chunks for Nowhere {
        fn load(&self, _: &str, first: u64) -> Result<LoadedChunk, ChunkError> {
            Err(ChunkError::Missing { first })
        }
    }

    struct Rig {
        applier: Applier,
        table: Arc<Table>,
        view: Arc<View>,
        writer: ViewWriter,
        rounds: Rounds,
        _dir: tempfile::TempDir,
    }

    impl Rig {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let (view, _) = View::open(dir.path().join("view"), ViewOptions::default()).unwrap();
            let (view, table) = (Arc::new(view), Arc::new(Table::new(&[])));
            let backlog = BacklogLimits { messages_max: 100_000, bytes_max: 1 << 30 };
            let rules = Rules {
                backlog,
                share: ShareStrategy::RoundRobin,
                when_full: WhenFull::DropNewest,
                losses: 0,
                consumers_max: 1000,
                letters: LetterLimits::default(),
            };
            let mut applier = Applier::new(table.clone(), rules);
            applier.read_chunks_from(view.clone());
            let checkpoints = Checkpoints::open(dir.path().join("checkpoint"), Arc::new(RealDisk)).unwrap();
            let writer = ViewWriter::start(view.clone(), checkpoints, Reserve::none()).unwrap();
            Self { applier, table, view, writer, rounds: Rounds::default(), _dir: dir }
        }

        fn apply(&mut self, entries: &[Entry<'_>]) -> Applied {
            let mut staging = Staging::new();
            for entry in entries {
                staging.push(entry).unwrap();
            }
            self.applier.apply(&staging.into_batch(), Offset::ZERO)
        }

        /// One client with everything of a group, and another one that could take it over.
        fn fill(&mut self) {
            self.apply(&[opened("a"), subscribed("a")]);
            let events: Vec<_> = (0..EVENTS).map(|_| Entry::Event(EVENT)).collect();
            self.apply(&events);
            self.apply(&[opened("b"), subscribed("b")]);
        }

        fn hand_over(&mut self, applied: u64) {
            let (_, changed) = self.applier.take_unsaved();
            let mut changes = Changes::new();
            for session in &changed {
                snapshot::save(session, &mut changes).unwrap();
            }
            self.rounds.begin(&self.writer, Offset::new(applied), changed);
            self.writer.try_save(changes, Offset::new(applied)).unwrap();
        }

        fn fetch(&self, client_id: &str, from: u64) -> Fetch {
            let session = self.table.session(client_id).unwrap();
            session.fetch(from, &mut DueReader::default(), &mut DueBatch::default())
        }

        fn pending(&self, client_id: &str) -> u64 {
            self.table.session(client_id).unwrap().state().backlog.pending()
        }
    }

    const EVENT: Event<'static> = Event {
        client_id: "p",
        topic: "x",
        qos: 1,
        retain: false,
        received_ms: 1,
        expires_at_ms: 0,
        properties: &[],
        payload: b"1",
    };

    fn opened(client_id: &str) -> Entry<'_> {
        Entry::SessionOpened { client_id, at_ms: 1, clean_start: false, expiry_secs: 60, state: &[] }
    }

    fn subscribed(client_id: &str) -> Entry<'_> {
        let options = SubscribeOptions::at_most(QoS::AtLeastOnce).to_u8();
        Entry::Subscribed { client_id, filter: "$share/g/x", options, subscription_id: 0 }
    }

    #[test]
    fn a_round_lets_go_of_chunks_when_the_view_has_them_and_not_before() {
        let mut rig = Rig::new();
        rig.fill();
        rig.hand_over(1);
        assert_eq!(rig.fetch("a", 0), Fetch::Some);
        rig.writer.wait_idle();
        assert_eq!(rig.fetch("a", 0), Fetch::Some, "nobody has looked yet whether the round is complete");
        assert!(rig.rounds.settle(&rig.writer));
        assert_eq!(rig.fetch("a", 0), Fetch::NotInMemory(0));
        assert_eq!(rig.fetch("a", EVENTS - 1), Fetch::Some, "the newest chunk stays");
        // A round that reaches no further than the view does would seem complete at once.
        rig.apply(&[Entry::Event(EVENT)]);
        rig.hand_over(1);
        assert!(rig.rounds.under_way.is_none());
    }

    #[test]
    fn what_a_backlog_has_let_go_of_goes_to_another_member_all_the_same() {
        let mut rig = Rig::new();
        rig.fill();
        rig.hand_over(1);
        rig.writer.wait_idle();
        rig.rounds.settle(&rig.writer);
        assert_eq!((rig.pending("a"), rig.pending("b")), (EVENTS, 0));
        let ending = Ending { sent_end: 0, with_all: false }.encode();
        let closed = Entry::SessionClosed { client_id: "a", at_ms: 2, expiry_secs: 60, state: &ending };
        assert_eq!(rig.apply(&[closed]).passed_on, EVENTS);
        assert!(rig.applier.failure().is_none());
        assert_eq!((rig.pending("a"), rig.pending("b")), (0, EVENTS));
        // And the rows of what was passed on go with the next round.
        rig.hand_over(2);
        rig.writer.wait_idle();
        assert!(matches!(rig.view.load("a", 0), Err(ChunkError::Missing { first: 0 })));
    }

    #[test]
    fn applying_stops_where_a_chunk_can_not_be_read_back() {
        let mut rig = Rig::new();
        rig.fill();
        rig.hand_over(1);
        rig.writer.wait_idle();
        rig.rounds.settle(&rig.writer);
        rig.applier.read_chunks_from(Arc::new(Nowhere));
        let ending = Ending { sent_end: 0, with_all: false }.encode();
        let closed = Entry::SessionClosed { client_id: "a", at_ms: 2, expiry_secs: 60, state: &ending };
        let applied = rig.apply(&[closed, Entry::Event(EVENT)]);
        assert!(matches!(rig.applier.failure(), Some(ChunkError::Missing { first: 0 })));
        assert_eq!((applied.passed_on, applied.events), (0, 0), "and no later entry is applied");
        assert_eq!((rig.pending("a"), rig.pending("b")), (EVENTS, 0));
    }
}
