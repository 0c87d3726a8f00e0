//! Who takes part, how much each may still be handed, and whose turn it is.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

/// A worker's number, never used twice in one run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WorkerId(pub u64);

/// One that takes part.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) name: Arc<str>,
    /// How many more it may be handed from now on.
    pub(super) credit: u32,
    /// Taken for it and not picked up: part of the credit.
    pub(super) coming: u32,
    /// Items whose lease it has.
    pub(super) leased: u32,
    /// When it was last heard of while a lease of it was over: since then it may hang.
    pub(super) silent_since: Option<u64>,
    /// When it was last heard of, or got something to do.
    pub(super) heard_ms: u64,
    pub(super) acked: u64,
    pub(super) failed: u64,
    in_turn: bool,
}

impl Worker {
    pub(super) const fn takes_more(&self) -> bool {
        self.coming < self.credit
    }

    /// It is there, whatever it said.
    pub(super) fn heard(&mut self, now_ms: u64) {
        self.heard_ms = now_ms;
        self.silent_since = None;
    }
}

/// All workers. Those with credit stand in a line; who was handed something goes to its end.
#[derive(Debug, Default)]
pub(super) struct Workers {
    all: HashMap<WorkerId, Worker, foldhash::fast::RandomState>,
    turn: VecDeque<WorkerId>,
    next: u64,
}

impl Workers {
    pub(super) fn join(&mut self, name: &str, credit: u32, now_ms: u64) -> WorkerId {
        self.next += 1;
        let id = WorkerId(self.next);
        let worker = Worker {
            name: name.into(),
            credit,
            coming: 0,
            leased: 0,
            silent_since: None,
            heard_ms: now_ms,
            acked: 0,
            failed: 0,
            in_turn: false,
        };
        self.all.insert(id, worker);
        self.line_up(id);
        id
    }

    pub(super) fn remove(&mut self, id: WorkerId) -> Option<Worker> {
        let worker = self.all.remove(&id)?;
        if worker.in_turn {
            self.turn.retain(|other| *other != id);
        }
        Some(worker)
    }

    pub(super) fn get(&self, id: WorkerId) -> Option<&Worker> {
        self.all.get(&id)
    }

    pub(super) fn get_mut(&mut self, id: WorkerId) -> Option<&mut Worker> {
        self.all.get_mut(&id)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (WorkerId, &Worker)> {
        self.all.iter().map(|(id, worker)| (*id, worker))
    }

    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    /// Puts a worker that takes more into the line, if it is not there.
    pub(super) fn line_up(&mut self, id: WorkerId) {
        if let Some(worker) = self.all.get_mut(&id)
            && worker.takes_more()
            && !worker.in_turn
        {
            worker.in_turn = true;
            self.turn.push_back(id);
        }
    }

    /// Nobody has anything.
    pub(super) fn forget(&mut self) {
        for worker in self.all.values_mut() {
            (worker.coming, worker.leased, worker.silent_since) = (0, 0, None);
        }
        for id in self.all.keys().copied().collect::<Vec<_>>() {
            self.line_up(id);
        }
    }

    pub(super) fn has_room(&self) -> bool {
        self.turn.iter().any(|id| self.all.get(id).is_some_and(Worker::takes_more))
    }

    /// Whose turn it is; not `but`'s, if another one waits. Whoever is answered counts one more as coming.
    pub(super) fn take_turn(&mut self, but: Option<WorkerId>) -> Option<WorkerId> {
        let mut passed = None;
        let found = loop {
            let Some(id) = self.turn.pop_front() else { break None };
            match self.all.get_mut(&id) {
                Some(worker) if !worker.takes_more() => worker.in_turn = false,
                Some(_) if but == Some(id) && passed.is_none() => passed = Some(id),
                Some(_) => break Some(id),
                None => {}
            }
        };
        let id = match (found, passed) {
            (Some(id), Some(passed)) => {
                self.turn.push_front(passed);
                id
            }
            (None, Some(passed)) => passed,
            (Some(id), None) => id,
            (None, None) => return None,
        };
        let worker = self.all.get_mut(&id)?;
        worker.coming += 1;
        worker.in_turn = worker.takes_more();
        if worker.in_turn {
            self.turn.push_back(id);
        }
        Some(id)
    }
}
