//! What the client gets from its durable backlog.
//!
//! A few messages at a time are asked of the Session, under one lock; each is found in the newest batches in memory or in a page of
//! the log. Where the backlog has let go of what is due, one chunk of it is read back from the saved view. Both are read on threads
//! that may block, and never more than one of each at once. If the store does not give them, the connection is closed: what the client has
//! not acknowledged stays where it is.

use super::feed::{How, Origin, Step};
use super::task::Connection;
use super::words::Why;
use crate::decisions::{Action, Reason};
use crate::delivery::metrics::{self as delivery, Dropped};
use crate::engine::{
    AckRuns, ChunkError, Chunks, DueBatch, DueReader, DueRun, DurableSession, Engine, Fetch, GivenUp,
    LoadedChunk,
};
use crate::stream::{Located, Pager};
use gateway_protocol::QoS;
use gateway_protocol::session::DURABLE_IDENTIFIERS;
use gateway_storage::{Entry, Offset, Staging, SubmitError, Urgency};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use tokio::task::JoinHandle;

/// Who may be sent so many times as much as it has unacknowledged waits for us.
const STARVED_PARTS: usize = 3;
/// With a smaller window it is not told who waits for whom.
const WINDOW_MIN: usize = 8;

/// Delivery from a durable session's backlog.
pub(super) struct DurableFeed {
    pub(super) session: Arc<DurableSession>,
    /// The next sequence to send.
    next: u64,
    reader: DueReader,
    loading: Option<(u64, JoinHandle<Result<LoadedChunk, ChunkError>>)>,
    pager: Pager,
    /// Acknowledged by the client, or done with otherwise, and not logged yet.
    pub(super) acks: AckRuns,
    staging: Staging,
    runs: Vec<u8>,
}

/// The saved view does not give what is due. It has been logged.
struct Unreadable;

/// What is due.
enum Due {
    /// What is in the batch.
    Messages,
    /// What was given up, before any message.
    GivenUp(GivenUp),
    Nothing,
}

impl DurableFeed {
    pub(super) fn new(session: Arc<DurableSession>, start: u64) -> Self {
        Self {
            session,
            next: start,
            reader: DueReader::default(),
            loading: None,
            pager: Pager::default(),
            acks: AckRuns::default(),
            staging: Staging::new(),
            runs: Vec::new(),
        }
    }

    /// Everything below was sent on this connection or an earlier one.
    pub(super) const fn sent_end(&self) -> u64 {
        self.next
    }

    /// Puts what was acknowledged into the log. When there is no room now it waits for the next time.
    pub(super) fn submit_acknowledgements(&mut self, engine: &Engine, client_id: &str, waker: &Waker) {
        if self.acks.is_empty() {
            return;
        }
        self.runs.clear();
        self.acks.encode(&mut self.runs);
        self.staging.clear();
        let staged = self.staging.push(&Entry::Acknowledged { client_id, runs: &self.runs });
        if staged.is_err() {
            return;
        }
        // Nobody waits for the receipt, so nobody is to be woken for it; only for room, where there is none.
        let submitted = match engine.submit(&mut self.staging, Urgency::Lazy, Waker::noop(), None) {
            Err(SubmitError::Full) => engine.submit(&mut self.staging, Urgency::Lazy, waker, None),
            other => other,
        };
        if submitted.is_ok() {
            self.acks.clear();
        }
    }

    /// Puts into `batch` what is due now. `Pending` while a chunk is read back; the task is woken then.
    fn poll_due(
        &mut self,
        chunks: &Arc<dyn Chunks>,
        batch: &mut DueBatch,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Due, Unreadable>> {
        let mut tried: Option<(u64, Option<ChunkError>)> = None;
        loop {
            let first = match self.session.fetch(self.next, &mut self.reader, batch) {
                Fetch::Some => return Poll::Ready(Ok(Due::Messages)),
                Fetch::Nothing => return Poll::Ready(Ok(Due::Nothing)),
                Fetch::GivenUp(given_up) => return Poll::Ready(Ok(Due::GivenUp(given_up))),
                Fetch::NotInMemory(first) => first,
            };
            // A chunk that was asked for may be given up meanwhile, row and all; only one that is still due is an error.
            if let Some((tried, error)) = &tried
                && *tried == first
            {
                let reason = error
                    .as_ref()
                    .map_or_else(|| "its row is of another chunk".to_owned(), ToString::to_string);
                tracing::error!(
                    client_id = %self.session.client_id,
                    %reason,
                    "a part of a backlog cannot be read back; a restart of the gateway rebuilds the view"
                );
                return Poll::Ready(Err(Unreadable));
            }
            let (asked, loading) = self.loading.get_or_insert_with(|| {
                let (chunks, session) = (chunks.clone(), self.session.clone());
                (first, tokio::task::spawn_blocking(move || chunks.load(&session.client_id, first)))
            });
            let asked = *asked;
            let loaded = ready!(Pin::new(loading).poll(cx));
            self.loading = None;
            match loaded {
                Ok(Ok(chunk)) => {
                    self.reader.give(chunk);
                    tried = Some((asked, None));
                }
                Ok(Err(error)) => tried = Some((asked, Some(error))),
                // The read panicked or the runtime is going down; either way there is no chunk.
                Err(_) => return Poll::Ready(Err(Unreadable)),
            }
        }
    }
}

impl Connection {
    pub(super) fn feed_durable(&mut self, cx: &mut Context<'_>, out: &mut Vec<u8>) {
        let Some(mut durable) = self.durable.take() else { return };
        let start = durable.next;
        if start < durable.session.end() && self.is_starved() {
            durable.session.note_starved();
        }
        self.feed_backlog(&mut durable, cx, out);
        if durable.next > start {
            durable.session.sent(durable.next);
        }
        self.durable = Some(durable);
    }

    /// Whether the client has acknowledged most of what it may have at one time. Where that is next to nothing it says nothing.
    fn is_starved(&self) -> bool {
        waits_for_us(self.session.in_flight(), self.session.send_quota())
    }

    fn feed_backlog(&mut self, durable: &mut DurableFeed, cx: &mut Context<'_>, out: &mut Vec<u8>) {
        let mut batch = DueBatch::default();
        while durable.next < durable.session.end() && self.has_room(out) && self.session.send_quota() > 0 {
            match durable.poll_due(self.context.engine.chunks(), &mut batch, cx) {
                Poll::Ready(Ok(Due::Messages)) => {}
                Poll::Ready(Ok(Due::GivenUp(given_up))) => {
                    if matches!(self.pass_given_up(durable, given_up, out), Step::Stop) {
                        return;
                    }
                    continue;
                }
                Poll::Ready(Ok(Due::Nothing)) => break,
                Poll::Ready(Err(Unreadable)) => {
                    self.feed.failure = Some(Why::Unreadable);
                    return;
                }
                Poll::Pending => return,
            }
            for run in batch.runs() {
                if matches!(self.feed_run(durable, run, &batch, cx, out), Step::Stop) {
                    return;
                }
            }
        }
        if durable.next >= durable.session.end() {
            durable.pager.release();
            durable.reader.release();
        }
    }

    /// What was given up while it was under way at QoS 2 on an earlier connection is released, so that the client takes its identifier for
    /// free again. What was given up unsent is done with.
    fn pass_given_up(&mut self, durable: &mut DurableFeed, given_up: GivenUp, out: &mut Vec<u8>) -> Step {
        durable.next = durable.next.max(given_up.first);
        while durable.next < given_up.end {
            if !given_up.was_sent {
                durable.acks.push(durable.next);
            } else if !self.has_room(out) || !self.session.resume_release(durable.next, out) {
                return Step::Stop;
            }
            durable.next += 1;
        }
        Step::Done
    }

    fn feed_run(
        &mut self,
        durable: &mut DurableFeed,
        run: &DueRun,
        batch: &DueBatch,
        cx: &mut Context<'_>,
        out: &mut Vec<u8>,
    ) -> Step {
        while durable.next < run.sequence + u64::from(run.len) {
            let sequence = durable.next.max(run.sequence);
            if !self.has_room(out) || self.session.send_quota() == 0 {
                return Step::Stop;
            }
            if sequence - batch.low >= u64::from(DURABLE_IDENTIFIERS) {
                // Its identifier still belongs to a message whose acknowledgement is not stored. Looked at again when the log grows. (One
                // that was given up while it is in flight keeps its identifier, too: the Session sees to that.)
                let engine = &self.context.engine;
                let _ = engine.read(engine.end(), cx.waker());
                return Step::Stop;
            }
            let step = if run.is_received {
                if self.session.resume_release(sequence, out) { Step::Done } else { Step::Stop }
            } else {
                self.feed_message(durable, run, sequence, batch.sent_end, cx, out)
            };
            if matches!(step, Step::Stop) {
                return Step::Stop;
            }
            durable.next = sequence + 1;
        }
        Step::Done
    }

    fn feed_message(
        &mut self,
        durable: &mut DurableFeed,
        run: &DueRun,
        sequence: u64,
        sent_end: u64,
        cx: &mut Context<'_>,
        out: &mut Vec<u8>,
    ) -> Step {
        let offset = Offset::new(run.offset.get() + (sequence - run.sequence));
        let (batch, retained);
        let mut origin = None;
        let event = match durable.pager.locate(&self.context.engine, offset, cx) {
            Poll::Ready(Located::At(found, index)) => {
                batch = found;
                let event = batch.event(index);
                origin = event.as_ref().and_then(|event| self.origin_in(&batch, index, event));
                event
            }
            Poll::Ready(Located::Gone(_)) => {
                // The log keeps nothing for the sake of a Retained Message, which is kept elsewhere.
                let is_retained = run.profile.is_retained;
                retained = is_retained.then(|| self.context.engine.retained_at(offset)).flatten();
                retained.as_ref().map(|message| message.event())
            }
            Poll::Ready(Located::Failed) => {
                self.feed.failure = Some(Why::Unreadable);
                return Step::Stop;
            }
            Poll::Ready(Located::End) | Poll::Pending => return Step::Stop,
        };
        let Some(event) = event else {
            let (reason, why) = match run.profile.is_retained {
                true => (Dropped::RetainedReplaced, Reason::RetainedReplaced),
                false => (Dropped::Damaged, Reason::Damaged),
            };
            delivery::dropped(reason, 1);
            self.context.decide(&self.claim.seat.client_id, "", Action::Dropped, why, 1);
            self.context.engine.note_undeliverable(1);
            durable.acks.push(sequence);
            return Step::Done;
        };
        self.feed.no_extra();
        let profile = &run.profile;
        let how = How {
            qos: QoS::try_from(event.qos).unwrap_or(QoS::AtMostOnce).min(profile.qos),
            retain: profile.is_retained || (profile.retain_as_published && event.retain),
            dup: sequence < sent_end,
            sequence: Some(sequence),
            ids: profile.subscription_ids.as_deref().unwrap_or_default(),
            origin: origin.filter(|_| !profile.is_retained).map(|origin| Origin {
                routed_ms: origin.routed_ms.filter(|_| sequence >= sent_end),
                ..origin
            }),
        };
        let done_before = self.feed.counts.undeliverable();
        if matches!(self.deliver(&event, &how, out), Step::Stop) {
            return Step::Stop;
        }
        if how.qos == QoS::AtMostOnce {
            durable.acks.push(sequence); // Nobody will acknowledge it.
        } else if self.feed.counts.undeliverable() > done_before {
            // Expired, or too large for the client: it will not acknowledge what it never saw.
            self.context.engine.note_undeliverable(1);
            durable.acks.push(sequence);
        }
        Step::Done
    }
}

/// Whether a client has acknowledged most of what it may have.
const fn waits_for_us(in_flight: usize, quota: usize) -> bool {
    in_flight.saturating_mul(STARVED_PARTS) <= quota && in_flight.saturating_add(quota) >= WINDOW_MIN
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{BacklogLimits, EngineOptions, LetterLimits, Rules, ShareStrategy, WhenFull};
    use gateway_protocol::packet::SubscribeOptions;
    use gateway_storage::log::segments::disk::RealDisk;
    use gateway_storage::{Checkpoints, Event, GroupCommitOptions, MemoryLog, Reserve, View, ViewOptions};
    use std::future::poll_fn;
    use std::sync::{Mutex, mpsc};
    use std::time::Duration;

    /// Has no chunk, and says so to each load when it is let.
    struct Nowhere(Mutex<mpsc::Receiver<()>>);

    impl Chunks for Nowhere {
        fn load(&self, _: &str, first: u64) -> Result<LoadedChunk, ChunkError> {
            let _ = self.0.lock().unwrap().recv();
            Err(ChunkError::Missing { first })
        }
    }

    fn nowhere() -> (mpsc::SyncSender<()>, Arc<dyn Chunks>) {
        let (answer, answers) = mpsc::sync_channel(0);
        (answer, Arc::new(Nowhere(Mutex::new(answers))))
    }

    /// An engine with a session that has let go of most of its 10,000 messages.
    async fn engine(dir: &std::path::Path) -> (Engine, Arc<DurableSession>) {
        let (view, _) = View::open(dir.join("view"), ViewOptions::default()).unwrap();
        let options = EngineOptions {
            view_save_interval: Duration::from_millis(1),
            streams: Vec::new(),
            dedup: crate::engine::DedupOptions::default(),
            rules: Rules {
                backlog: BacklogLimits { messages_max: 100_000, bytes_max: 1 << 30 },
                share: ShareStrategy::RoundRobin,
                when_full: WhenFull::DropNewest,
                losses: 0,
                consumers_max: 1000,
                letters: LetterLimits::default(),
            },
            letters_max_age_ms: 30 * 86_400_000,
            segment_bytes: 1 << 20,
            recent_bytes: 1 << 20,
            commit: GroupCommitOptions::default(),
        };
        let checkpoints = Checkpoints::open(dir.join("checkpoint"), Arc::new(RealDisk)).unwrap();
        let log = Box::new(MemoryLog::new());
        let engine =
            Engine::start(log, view, checkpoints, Reserve::none(), options, Box::new(|_| {})).unwrap();
        let mut staging = Staging::new();
        let opened = Entry::SessionOpened {
            client_id: "a",
            at_ms: 1,
            clean_start: false,
            expiry_secs: 60,
            state: &[],
        };
        staging.push(&opened).unwrap();
        let options = SubscribeOptions::at_most(QoS::AtLeastOnce).to_u8();
        staging
            .push(&Entry::Subscribed { client_id: "a", filter: "x", options, subscription_id: 0 })
            .unwrap();
        let event = Event {
            client_id: "p",
            topic: "x",
            qos: 1,
            retain: false,
            received_ms: 1,
            expires_at_ms: 0,
            properties: &[],
            payload: b"1",
        };
        for _ in 0..10_000 {
            staging.push_event(&event).unwrap();
        }
        poll_fn(|cx| match engine.submit(&mut staging, Urgency::Now, cx.waker(), None) {
            Err(SubmitError::Full) => Poll::Pending,
            submitted => Poll::Ready(submitted),
        })
        .await
        .unwrap();
        let is_let_go_of = || {
            let session = engine.session("a")?;
            let found = session.fetch(0, &mut DueReader::default(), &mut DueBatch::default());
            (found == Fetch::NotInMemory(0)).then_some(session)
        };
        let session = loop {
            if let Some(session) = is_let_go_of() {
                break session;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        };
        (engine, session)
    }

    #[test]
    fn who_has_acknowledged_most_waits_for_us() {
        assert!(waits_for_us(0, 1_024) && waits_for_us(256, 768) && waits_for_us(2, 6));
        assert!(!waits_for_us(257, 767) && !waits_for_us(1_024, 0));
        assert!(!waits_for_us(0, 7) && !waits_for_us(0, 1), "one at a time is always all");
    }

    #[tokio::test]
    async fn what_the_backlog_has_let_go_of_is_read_back_chunk_by_chunk() {
        let dir = tempfile::tempdir().unwrap();
        let (engine, session) = engine(dir.path()).await;
        let (mut durable, mut first) = (DurableFeed::new(session, 0), None);
        let mut batch = DueBatch::default();
        while poll_fn(|cx| durable.poll_due(engine.chunks(), &mut batch, cx))
            .await
            .is_ok_and(|due| matches!(due, Due::Messages))
        {
            for run in batch.runs() {
                // The events lie one after the other behind the entries of the session.
                let before = run.offset.get().checked_sub(run.sequence);
                assert_eq!((run.sequence, *first.get_or_insert(before)), (durable.next, before));
                durable.next += u64::from(run.len);
            }
        }
        assert_eq!(durable.next, 10_000);
        engine.shutdown();
    }

    #[tokio::test]
    async fn a_chunk_that_can_not_be_read_is_an_error_and_one_that_was_given_up_meanwhile_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let (engine, session) = engine(dir.path()).await;
        let mut batch = DueBatch::default();
        let (answer, nowhere) = nowhere();
        drop(answer); // Answers all at once.
        let mut durable = DurableFeed::new(session.clone(), 0);
        let found = poll_fn(|cx| durable.poll_due(&nowhere, &mut batch, cx)).await;
        assert!(found.is_err());
        assert_eq!((session.state().backlog.pending(), durable.next), (10_000, 0), "and nothing is lost");

        let (answer, nowhere) = self::nowhere();
        let mut durable = DurableFeed::new(session.clone(), 0);
        let asked = poll_fn(|cx| Poll::Ready(durable.poll_due(&nowhere, &mut batch, cx).is_pending())).await;
        assert!(asked, "the read is under way");
        session.state().backlog.acknowledge(0, 10_000);
        drop(answer);
        let found = poll_fn(|cx| durable.poll_due(&nowhere, &mut batch, cx)).await;
        assert!(matches!(found, Ok(Due::Nothing)));
        engine.shutdown();
    }
}
