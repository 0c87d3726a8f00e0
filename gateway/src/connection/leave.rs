//! The end of a connection: last words, and what others still believe of it.

use super::endings::Ending;
use super::handshake::cause_of;
use super::metrics;
use super::subscribe::leave_filter;
use super::task::{Connection, Outcome};
use super::{Context, tap};
use crate::clock;
use crate::decisions::{Action, Reason};
use crate::delivery::metrics::{self as delivery, Dropped};
use gateway_protocol::{ReasonCode, TopicFilter};
use gateway_storage::{Staging, SubmitError};
use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// How long the client has to take the last words.
const GOODBYE_TIMEOUT: Duration = Duration::from_secs(1);
/// Bytes still taken from a client that is being closed, so that its own unread data does not destroy the last words on their way.
const LINGER_BYTES: usize = 64 * 1024;

/// Tells that the connection is over, takes it out of every table, closes the socket, and logs that its Session goes on alone. In this order: when the
/// Client Identifier is free again, nothing of this connection is left.
pub(super) async fn leave<S>(
    context: &Context,
    stream: &mut S,
    mut connection: Box<Connection>,
    outcome: Outcome,
) where
    S: AsyncRead + AsyncWrite + Unpin,
{
    connection.tell_end(outcome);
    context.presence.departed(connection.client_id(), cause_of(outcome), clock::unix_ms());
    connection.feed.counts.report();
    let filters = connection.subscriptions.take();
    if let Some(outbox) = &connection.outbox
        && !filters.is_empty()
    {
        context.live.change(|router| {
            for filter in filters.iter().filter_map(|text| TopicFilter::parse(text).ok()) {
                leave_filter(router, outbox, filter);
            }
        });
    }
    let waiting = connection.outbox.as_ref().map_or(0, |outbox| outbox.close());
    let left = waiting + connection.feed.unfinished() + connection.session.live_in_flight();
    if left > 0 {
        delivery::dropped(Dropped::SubscriberGone, left as u64);
        let count = u32::try_from(left).unwrap_or(u32::MAX);
        context.decide(connection.client_id(), "", Action::Dropped, Reason::SubscriberGone, count);
    }
    if let Some(work) = connection.work.take() {
        work.end(outcome);
    }
    submit_held(context, &mut connection).await;
    let last_words = connection.take_unsent();
    close_session(context, &mut connection, outcome).await;
    drop(connection); // gives the Client Identifier back
    if outcome != Outcome::Lost {
        say_goodbye(stream, &last_words).await;
    }
}

impl Connection {
    /// Counts the end of the connection, and puts on record why the gateway closed it.
    fn tell_end(&self, outcome: Outcome) {
        metrics::disconnect(&outcome);
        tap::tell_end(self, cause_of(outcome));
        let Outcome::Closed(code) = outcome else { return };
        let reason = self.ended_for.unwrap_or(match code {
            ReasonCode::KeepAliveTimeout => Reason::KeepAlive,
            ReasonCode::SessionTakenOver => Reason::TakenOver,
            ReasonCode::ServerShuttingDown | ReasonCode::UseAnotherServer => Reason::ShuttingDown,
            ReasonCode::ReceiveMaximumExceeded => Reason::ReceiveMaximumExceeded,
            ReasonCode::PacketTooLarge => Reason::TooLarge,
            ReasonCode::AdministrativeAction if self.claim.seat.close_asked().is_some() => Reason::Kicked,
            ReasonCode::AdministrativeAction => Reason::WorkerHung,
            ReasonCode::QuotaExceeded => Reason::LogFull,
            ReasonCode::ServerBusy => Reason::LogUnavailable,
            ReasonCode::ImplementationSpecificError => Reason::Damaged,
            ReasonCode::MalformedPacket => Reason::Malformed,
            _ => Reason::ProtocolError,
        });
        self.context.decide(self.client_id(), "", Action::Disconnected, reason, 1);
    }
}

/// Takes a connection that was not accepted after all out of every table.
pub(super) async fn abandon(context: &Context, mut connection: Box<Connection>) {
    if let Some(outbox) = &connection.outbox {
        outbox.close();
    }
    close_session(context, &mut connection, Outcome::Left).await;
}

/// Sends `last_words` and closes, giving the peer a moment to read them.
pub(super) async fn say_goodbye<S>(stream: &mut S, last_words: &[u8])
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let goodbye = async {
        stream.write_all(last_words).await?;
        stream.shutdown().await?;
        let mut rest = [0; 512];
        let mut taken = 0;
        while taken < LINGER_BYTES {
            match stream.read(&mut rest).await? {
                0 => break,
                count => taken += count,
            }
        }
        std::io::Result::Ok(())
    };
    // Whether it arrived or not, the connection is over.
    let _ = tokio::time::timeout(GOODBYE_TIMEOUT, goodbye).await;
}

/// What was read and had no room yet still goes into the log: it counts as received.
async fn submit_held(context: &Context, connection: &mut Connection) {
    connection.is_leaving = true;
    poll_fn(|cx| {
        // A refusal is counted where it is made; there is nobody left to tell.
        let _ = connection.submit_held(cx);
        match connection.held {
            Some(_) if !context.engine.is_poisoned() => Poll::Pending,
            _ => Poll::Ready(()),
        }
    })
    .await;
}

/// Logs that the connection is over: the last acknowledgements, what becomes of the will, and that the Session goes on alone. What the log
/// does not take now is said again later.
async fn close_session(context: &Context, connection: &mut Connection, outcome: Outcome) {
    let granted = connection.session.client_limits().session_expiry_secs;
    let expiry_secs =
        connection.final_expiry_secs.unwrap_or(granted).min(context.limits.session_expiry_max_secs);
    let mut ending = Ending::new(connection.client_id(), outcome, connection.has_will, expiry_secs);
    if let Some(durable) = connection.durable.take() {
        durable.session.detach();
        let mut acks = Vec::new();
        durable.acks.encode(&mut acks);
        ending = ending.of_session(durable.sent_end(), acks);
    }
    let mut staging = Staging::new();
    let urgency = ending.stage(context, &mut staging);
    if staging.is_empty() {
        return;
    }
    let submitted = poll_fn(|cx| match context.engine.submit(&mut staging, urgency, cx.waker(), None) {
        Err(SubmitError::Full) => Poll::Pending,
        submitted => Poll::Ready(submitted),
    });
    let submitted = submitted.await;
    if let Err(error) = &submitted {
        metrics::session_left_open();
        tracing::debug!(%error, client_id = %connection.client_id(), "the end of a connection is logged later");
    }
    context.endings.put(ending, submitted.ok());
}
