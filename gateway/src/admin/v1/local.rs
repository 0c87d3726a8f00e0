//! This gateway behind the API: its engine and its consumers.
//!
//! A change runs in a task of its own: a client that goes away in the middle of it leaves nothing half done.

use std::future::{Future, poll_fn};
use std::task::{Poll, Waker};
use std::time::Duration;

use gateway_storage::Ticket;
use tokio::time::{Instant, timeout, timeout_at};

use super::backend::{
    Answer, Backend, ConsumerView, LetterCursor, LetterPage, LetterQuery, LetterView, Made, Settled,
    StreamSpec, StreamView, Wanted,
};
use super::channel::Feed;
use super::letters;
use super::paths::{no_such_consumer, no_such_stream};
use super::traced::Traced;
use super::watch;
use crate::admin::problem::{Fault, Kind, Problem};
use crate::admin::{SinkStatus, Subject};
use crate::clock;
use crate::config::Pace;
use crate::consumer::{
    self, Consumer, ConsumerChanges, ConsumerError, ConsumerOptions, Consumers, Delivery, DeliveryId, Ended,
    Handed, JoinError, Letters, Outcome, SINK_PREFIX, Worker, WorkerKind,
};
use crate::decisions::{DecisionPage, DecisionQuery, Follower};
use crate::engine::{Engine, SetStreamError, StreamOptions};
use crate::event_view::EventView;
use crate::stream::From;

/// How long a request for events takes at least where there are none: what is there has to be claimed first, which is a commit.
const CLAIM_WAIT: Duration = Duration::from_millis(250);
/// Bytes of payloads in one answer, the last one aside.
const ANSWER_BYTES: usize = 4 << 20;
/// How long what was said about events may take to be durable.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(10);

pub(super) struct Local(Subject, Traced);

impl Local {
    pub(super) fn new(subject: Subject) -> Self {
        Self(subject, Traced::default())
    }

    /// The consumer of that name, for those who work for it.
    fn find(&self, name: &str) -> Result<Consumer, Problem> {
        self.0.consumers.get(name).ok_or_else(|| match self.0.engine.consumer(name) {
            Some(_) if name.starts_with(SINK_PREFIX) => {
                Problem::new(Kind::Conflict, format!("the sink of \"{name}\" alone works for it"))
            }
            _ => no_such_consumer(name),
        })
    }

    /// What is in the configuration file would be there again after a restart.
    fn refuse_configured(&self, name: &str) -> Result<(), Problem> {
        match self.0.consumers.status(name) {
            None => Err(no_such_consumer(name)),
            Some(status) if status.spec.configured => Err(Problem::new(
                Kind::Conflict,
                format!("the consumer \"{name}\" is in the configuration file, and is changed there"),
            )),
            Some(_) => Ok(()),
        }
    }

    /// Changes consumers, whatever becomes of who asked for it.
    async fn change<T: Send + 'static, F: Future<Output = Result<T, ConsumerError>> + Send + 'static>(
        &self,
        name: String,
        change: impl FnOnce(Consumers, String) -> F,
    ) -> Result<T, Problem> {
        let changed = tokio::spawn(change(self.0.consumers.clone(), name.clone())).await;
        changed.map_err(|_| cut_short())?.map_err(|error| of_consumer(error, &name))
    }

    /// Changes streams.
    async fn change_stream(
        &self,
        submit: impl Fn(&Engine, &Waker) -> Result<Ticket, SetStreamError> + Send + Sync + 'static,
    ) -> Result<(), Problem> {
        let engine = self.0.engine.clone();
        let changed = tokio::spawn(async move {
            let ticket = poll_fn(|cx| Poll::Ready(submit(&engine, cx.waker()))).await.map_err(of_stream)?;
            engine.stored(ticket).await.map_err(|_| not_stored())
        });
        changed.await.map_err(|_| cut_short())?
    }
}

impl Backend for Local {
    fn streams(&self) -> Vec<StreamView> {
        let mut streams: Vec<_> = self.0.engine.streams().into_iter().map(StreamView::of).collect();
        streams.sort_by(|one, other| one.name.cmp(&other.name));
        streams
    }

    fn set_stream(&self, name: String, spec: StreamSpec) -> Answer<'_, Made> {
        Box::pin(async move {
            let made = if self.0.engine.stream_id(&name).is_some() { Made::Altered } else { Made::New };
            let StreamSpec { topics, max_age_ms, max_bytes } = spec;
            let options = StreamOptions { name, topics, max_age_ms, max_bytes };
            self.change_stream(move |engine, waker| engine.set_stream(&options, clock::unix_ms(), waker))
                .await?;
            Ok(made)
        })
    }

    fn remove_stream(&self, name: String) -> Answer<'_, ()> {
        Box::pin(
            self.change_stream(move |engine, waker| engine.remove_stream(&name, clock::unix_ms(), waker)),
        )
    }

    fn consumers(&self) -> Vec<ConsumerView> {
        self.0.consumers.list().into_iter().map(ConsumerView::of).collect()
    }

    fn consumer(&self, name: &str) -> Option<ConsumerView> {
        self.0.consumers.status(name).map(ConsumerView::of)
    }

    fn set_consumer(&self, name: String, options: ConsumerOptions) -> Answer<'_, Made> {
        Box::pin(async move {
            let Some(status) = self.0.consumers.status(&name) else {
                self.change(name, |consumers, name| async move { consumers.create(&name, options).await })
                    .await?;
                return Ok(Made::New);
            };
            self.refuse_configured(&name)?;
            if status.spec.stream != options.stream {
                let detail =
                    format!("\"{name}\" reads the stream \"{}\"; remove it first", status.spec.stream);
                return Err(Problem::new(Kind::Conflict, detail));
            }
            let changes = ConsumerChanges {
                filter: Some(options.filter),
                ack_wait_ms: Some(options.ack_wait_ms),
                max_deliver: Some(options.max_deliver),
                backoff_ms: Some(options.backoff_ms),
                max_ack_pending: Some(options.max_ack_pending),
                order: Some(options.order),
                ..ConsumerChanges::default()
            };
            self.change(name, |consumers, name| async move { consumers.alter(&name, changes).await }).await?;
            Ok(Made::Altered)
        })
    }

    fn alter_consumer(&self, name: String, changes: ConsumerChanges) -> Answer<'_, ()> {
        Box::pin(async move {
            // Whether it is paused is not a matter of the configuration.
            if changes.are_more_than_a_pause() {
                self.refuse_configured(&name)?;
            }
            self.change(name, |consumers, name| async move { consumers.alter(&name, changes).await }).await
        })
    }

    fn remove_consumer(&self, name: String) -> Answer<'_, ()> {
        Box::pin(async move {
            self.refuse_configured(&name)?;
            self.change(name, |consumers, name| async move { consumers.delete(&name).await }).await
        })
    }

    fn reset_consumer(&self, name: String, to: From) -> Answer<'_, ()> {
        Box::pin(self.change(name, move |consumers, name| async move { consumers.reset(&name, to).await }))
    }

    fn next(&self, name: String, wanted: Wanted) -> Answer<'_, Vec<EventView>> {
        Box::pin(async move {
            let deadline = Instant::now() + wanted.wait.max(CLAIM_WAIT);
            let worker = self
                .find(&name)?
                .join(&wanted.worker, WorkerKind::Http, wanted.max, Waker::noop().clone())
                .map_err(|error| of_join(error, &name))?;
            let mut seat = Seat(Some(worker));
            let mut deliveries = Vec::new();
            let mut bytes = 0;
            while deliveries.len() < wanted.max as usize && bytes < ANSWER_BYTES {
                // Only the first is waited for; the others were claimed with it.
                let handed = match deliveries.is_empty() {
                    true => timeout_at(deadline, seat.next()).await.ok(),
                    false => seat.at_once().await,
                };
                match handed {
                    Some(Handed::Item(delivery)) => {
                        bytes += delivery.event().map_or(0, |event| event.payload.len());
                        deliveries.push(delivery);
                    }
                    Some(Handed::Ended(why)) if deliveries.is_empty() => return Err(of_end(why, &name)),
                    Some(Handed::Ended(_)) | None => break,
                }
            }
            seat.keep_leases();
            let spans = &self.0.context.spans;
            self.1.handed(spans, &name, &wanted.worker, &deliveries, clock::unix_ms());
            Ok(deliveries.iter().filter_map(shown).collect())
        })
    }

    fn settle(&self, name: String, ids: Vec<DeliveryId>, outcome: Outcome) -> Answer<'_, Settled> {
        Box::pin(async move {
            let consumer = self.find(&name)?;
            let mut settled = Settled::default();
            for id in ids {
                match consumer.settle(id, outcome.clone()) {
                    consumer::Settled::Done | consumer::Settled::Late => {
                        settled.settled += 1;
                        self.1.settled(&name, id, &outcome, clock::unix_ms());
                    }
                    consumer::Settled::Stale => settled.unknown.push(id.to_string()),
                }
            }
            timeout(FLUSH_TIMEOUT, consumer.flush()).await.map_err(|_| {
                let detail =
                    "it is in force, but not in the log, which takes nothing now: a crash would undo it";
                Problem::new(Kind::NotStored, detail)
            })?;
            // One that has ended says nothing of what is durable.
            consumer.ended().map_or(Ok(settled), |why| Err(of_end(why, &name)))
        })
    }

    fn watch(&self, name: String, from: Option<u64>, pace: Pace, feed: Feed) -> Result<(), Problem> {
        watch::start(&self.0.engine, &self.0.consumers, name, (from, pace), feed)
    }

    fn dead_letters(
        &self,
        query: LetterQuery,
        after: Option<LetterCursor>,
        limit: usize,
    ) -> Answer<'_, LetterPage> {
        let engine = self.0.engine.clone();
        // There may be a great many to look at.
        let page = move || letters::page(&engine, &query, after.as_ref(), limit);
        Box::pin(async move { tokio::task::spawn_blocking(page).await.map_err(|_| cut_short()) })
    }

    fn dead_letter(&self, consumer: String, offset: u64) -> Answer<'_, LetterView> {
        Box::pin(async move {
            self.0.engine.consumer(&consumer).ok_or_else(|| no_such_consumer(&consumer))?;
            let letter = self.0.engine.dead_letter(&consumer, offset).ok_or_else(|| {
                let detail = format!("\"{consumer}\" has no dead letter at offset {offset}");
                Problem::new(Kind::NoSuchDeadLetter, detail)
            })?;
            Ok(LetterView::of(&consumer, &letter))
        })
    }

    fn redrive(&self, consumer: String, which: Letters, rate: u32) -> Answer<'_, u64> {
        Box::pin(self.change(consumer, move |consumers, name| async move {
            consumers.redrive(&name, which, rate).await
        }))
    }

    fn purge(&self, consumer: String, which: Letters) -> Answer<'_, u64> {
        Box::pin(self.change(consumer, |consumers, name| async move { consumers.purge(&name, which).await }))
    }

    fn sinks(&self) -> Vec<SinkStatus> {
        (self.0.sinks)()
    }

    fn decisions(&self, query: DecisionQuery) -> Answer<'_, DecisionPage> {
        let log = self.0.decisions.clone();
        // There may be a great many to look at.
        let page = move || log.page(&query);
        Box::pin(async move { tokio::task::spawn_blocking(page).await.map_err(|_| cut_short()) })
    }

    fn follow_decisions(&self, from: Option<u64>) -> Follower {
        self.0.decisions.follow(from)
    }
}

/// A worker for as long as one request. If that ends early, its client got nothing, and what was meant for it is given back.
struct Seat(Option<Worker>);

impl Seat {
    async fn next(&mut self) -> Handed {
        poll_fn(|cx| match &mut self.0 {
            Some(worker) => worker.poll_next(cx),
            None => Poll::Pending,
        })
        .await
    }

    async fn at_once(&mut self) -> Option<Handed> {
        poll_fn(|cx| {
            Poll::Ready(match self.0.as_mut().map(|worker| worker.poll_next(cx)) {
                Some(Poll::Ready(handed)) => Some(handed),
                Some(Poll::Pending) | None => None,
            })
        })
        .await
    }

    /// What it took is on its way to the client.
    fn keep_leases(mut self) {
        drop(self.0.take());
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if let Some(worker) = self.0.take() {
            worker.leave();
        }
    }
}

fn shown(delivery: &Delivery) -> Option<EventView> {
    let event = delivery.event()?;
    let view = EventView::shown(delivery.offset().get(), delivery.time_ms(), &event);
    Some(view.handed(delivery.id.to_string(), delivery.attempt, delivery.due_ms))
}

fn cut_short() -> Problem {
    Problem::new(Kind::Internal, "it was cut short; whether it was done is not known")
}

fn not_stored() -> Problem {
    Problem::new(Kind::NotStored, "nothing was changed; /readyz says what is wrong")
}

fn of_consumer(error: ConsumerError, name: &str) -> Problem {
    match error {
        ConsumerError::NotFound => no_such_consumer(name),
        ConsumerError::Exists => Problem::new(Kind::Conflict, format!("there is a consumer \"{name}\"")),
        ConsumerError::NoStream => Problem::new(Kind::NoSuchStream, "the stream that it reads is not there"),
        ConsumerError::Invalid(detail) => {
            Problem::invalid(vec![Fault { at: "request".to_owned(), detail: detail.to_owned() }])
        }
        ConsumerError::TooMany => Problem::new(Kind::LimitReached, error.to_string()),
        ConsumerError::Unavailable => not_stored(),
    }
}

fn of_stream(error: SetStreamError) -> Problem {
    let fault = |at: &str, detail: String| Problem::invalid(vec![Fault { at: at.to_owned(), detail }]);
    let detail = error.to_string();
    match error {
        SetStreamError::Configured { .. } => Problem::new(Kind::Conflict, detail),
        SetStreamError::Missing { name } => no_such_stream(&name),
        SetStreamError::Name { .. } => fault("name", detail),
        SetStreamError::Topics { .. } => fault("topics", detail),
        SetStreamError::Range { key, .. } => fault(key, detail),
        SetStreamError::TooMany | SetStreamError::NoRoom { .. } => Problem::new(Kind::LimitReached, detail),
        SetStreamError::Submit(_) => Problem::new(Kind::NotStored, detail),
    }
}

fn of_join(error: JoinError, name: &str) -> Problem {
    match error {
        JoinError::TooManyWorkers(_) => Problem::new(Kind::Busy, error.to_string()),
        JoinError::Ended => no_such_consumer(name),
    }
}

fn of_end(why: Ended, name: &str) -> Problem {
    match why {
        Ended::Deleted => no_such_consumer(name),
        Ended::ShutDown => Problem::new(Kind::Stopping, "events are neither handed out nor settled any more"),
        Ended::Hanging => Problem::new(Kind::Busy, "this worker was ended, as its leases ran out; ask again"),
    }
}
