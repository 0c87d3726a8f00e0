//! The end of a connection: last words, and what others still believe of it.

use super::Context;
use super::metrics;
use super::subscribe::leave_filter;
use super::task::{Connection, Outcome};
use crate::clock;
use crate::delivery::metrics::{self as delivery, Dropped};
use crate::engine::{Ending, Will};
use gateway_protocol::TopicFilter;
use gateway_storage::{Entry, Staging, SubmitError, Urgency};
use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// How long the client has to take the last words.
const GOODBYE_TIMEOUT: Duration = Duration::from_secs(1);
/// Bytes still taken from a client that is being closed, so that its own unread data does not destroy the last words on their way.
const LINGER_BYTES: usize = 64 * 1024;

/// Takes the connection out of every table, closes the socket, and logs that its Session goes on alone. In this order: when the
/// Client Identifier is free again, nothing of this connection is left.
pub(super) async fn leave<S>(
    context: &Context,
    mut stream: S,
    mut connection: Box<Connection>,
    outcome: Outcome,
) where
    S: AsyncRead + AsyncWrite + Unpin,
{
    connection.feed.counts.report();
    let filters = std::mem::take(&mut connection.subscriptions);
    if !filters.is_empty() {
        context.live.change(|router| {
            for filter in filters.iter().filter_map(|text| TopicFilter::parse(text).ok()) {
                leave_filter(router, &connection.outbox, filter);
            }
        });
    }
    let left = connection.outbox.close() + connection.feed.unfinished() + connection.session.live_in_flight();
    if left > 0 {
        delivery::dropped(Dropped::SubscriberGone, left as u64);
    }
    submit_held(context, &mut connection).await;
    let last_words = connection.take_unsent();
    close_session(context, &mut connection, outcome).await;
    drop(connection); // gives the Client Identifier back
    if outcome != Outcome::Lost {
        say_goodbye(&mut stream, &last_words).await;
    }
}

/// Takes a connection that was not accepted after all out of every table.
pub(super) async fn abandon(context: &Context, mut connection: Box<Connection>) {
    connection.outbox.close();
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

/// Logs that the connection is over: the last acknowledgements, what becomes of the will, and that the Session goes on alone.
async fn close_session(context: &Context, connection: &mut Connection, outcome: Outcome) {
    let durable = connection.durable.take();
    let sent_end = durable.as_ref().map_or(0, |durable| durable.sent_end());
    if let Some(durable) = &durable {
        durable.session.detach();
    }
    let granted = connection.session.client_limits().session_expiry_secs;
    let expiry_secs =
        connection.final_expiry_secs.unwrap_or(granted).min(context.limits.session_expiry_max_secs);
    let mut staging = Staging::new();
    let will = if connection.has_will { context.engine.will(&connection.client_id) } else { None };
    if let Some(will) = &will {
        stage_will(&connection.client_id, will, outcome, expiry_secs, &mut staging);
    }
    if durable.is_some() {
        let entry = Entry::SessionClosed {
            client_id: &connection.client_id,
            at_ms: clock::unix_ms(),
            expiry_secs,
            state: &Ending { sent_end, with_all: false }.encode(),
        };
        // An entry of this size is always taken.
        let _ = staging.push(&entry);
    }
    if staging.is_empty() {
        return;
    }
    let urgency = if will.is_some() { Urgency::Now } else { Urgency::Lazy };
    let mut durable = durable;
    poll_fn(|cx| {
        // First what was acknowledged, so that the entries stand in the order in which things happened.
        if let Some(durable) = &mut durable {
            durable.submit_acknowledgements(&context.engine, &connection.client_id, cx.waker());
        }
        match context.engine.submit(&mut staging, urgency, cx.waker(), None) {
            Err(SubmitError::Full) => Poll::Pending,
            Ok(_) => Poll::Ready(()),
            Err(error) => {
                metrics::session_left_open();
                tracing::warn!(%error, "the end of a connection can not be logged; its session counts as open until a restart");
                Poll::Ready(())
            }
        }
    })
    .await;
}

/// A DISCONNECT deletes the will [MQTT-3.14.4-3]; any other end publishes it, at once or when its delay has passed or the Session ends,
/// whichever comes first [MQTT-3.1.2-8].
fn stage_will(client_id: &str, will: &Will, outcome: Outcome, expiry_secs: u32, staging: &mut Staging) {
    let now_ms = clock::unix_ms();
    let delay_secs = will.delay_secs.min(expiry_secs);
    let staged = if outcome == Outcome::Left {
        // Taken, so that a successor who is faster than this entry does not publish it.
        will.take();
        staging.push(&Entry::WillCleared { client_id })
    } else if delay_secs > 0 {
        let at_ms = now_ms.saturating_add(u64::from(delay_secs) * 1000);
        staging.push(&Entry::WillDue { client_id, at_ms })
    } else if will.take() {
        metrics::will(will.message.qos);
        // In one group: a restart finds it published and cleared, or neither.
        staging
            .push_event(&will.message.event(client_id, now_ms))
            .and_then(|()| staging.push(&Entry::WillCleared { client_id }))
    } else {
        Ok(())
    };
    if let Err(error) = staged {
        tracing::error!(%error, client_id, "a Will Message can not be logged");
    }
}
