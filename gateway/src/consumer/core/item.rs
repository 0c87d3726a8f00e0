//! One event under delivery, and in which of its states it is.

use super::workers::WorkerId;
use crate::engine::Cause;
use std::sync::Arc;

/// An event that is not settled.
#[derive(Debug)]
pub(super) struct Item<C> {
    /// Hand-outs so far, one under way included.
    pub(super) attempts: u32,
    /// When it was first handed out; 0: it was not.
    pub(super) first_ms: u64,
    /// Who had it last.
    pub(super) worker: Arc<str>,
    /// That worker, if it is one of this run.
    pub(super) worker_id: Option<WorkerId>,
    /// How the last attempt failed.
    pub(super) cause: Option<Cause>,
    /// It is redriven: its content is in the table of dead letters.
    pub(super) is_letter: bool,
    /// What may be handed out one at a time; `None`: not known until its content is read.
    pub(super) key: Option<u64>,
    /// It is in the durable state, or was on its way there.
    pub(super) is_open: bool,
    pub(super) state: State,
    /// What it costs in memory while its content is here.
    pub(super) bytes: u32,
    pub(super) content: Option<C>,
}

/// Where an item stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// It may be handed out, once its content is here and its key is free.
    Ready,
    /// It may be handed out from this time on.
    Waiting(u64),
    /// Taken for a worker; it leaves when this claim is durable, before its lease is over.
    Claimed { worker: WorkerId, due_ms: u64, claim: u64 },
    /// Handed out; the lease ends at this time. The worker may be one of an earlier run.
    Leased { worker: Option<WorkerId>, due_ms: u64 },
    /// It is to become a dead letter.
    Dead,
}

impl State {
    /// Whether a worker has it, or is about to.
    pub(super) const fn is_in_flight(self) -> bool {
        matches!(self, Self::Claimed { .. } | Self::Leased { .. })
    }

    /// When something is due about it.
    pub(super) const fn timer(self) -> Option<u64> {
        match self {
            Self::Waiting(until) => Some(until),
            Self::Leased { due_ms, .. } => Some(due_ms),
            Self::Ready | Self::Claimed { .. } | Self::Dead => None,
        }
    }
}

impl<C> Item<C> {
    pub(super) fn new(state: State) -> Self {
        Self {
            attempts: 0,
            first_ms: 0,
            worker: Arc::from(""),
            worker_id: None,
            cause: None,
            is_letter: false,
            key: None,
            is_open: false,
            state,
            bytes: 0,
            content: None,
        }
    }

    /// Nothing durable is known of it, and its content was read ahead.
    pub(super) const fn is_fresh(&self) -> bool {
        !self.is_open
    }
}
