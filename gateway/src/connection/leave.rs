//! The end of a connection: last words, and what others still believe of it.

use super::Context;
use super::metrics;
use super::task::{Connection, Outcome};
use crate::clock;
use crate::delivery::metrics::{self as delivery, Dropped};
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
    let filters = std::mem::take(&mut connection.subscriptions);
    if !filters.is_empty() {
        context.live.change(|router| {
            for filter in filters.iter().filter_map(|text| TopicFilter::parse(text).ok()) {
                router.unsubscribe(connection.outbox.id, filter);
            }
        });
    }
    let left = connection.outbox.close() + connection.feed.unfinished() + connection.session.live_in_flight();
    if left > 0 {
        delivery::dropped(Dropped::SubscriberGone, left as u64);
    }
    submit_held(context, &mut connection).await;
    let last_words = connection.take_unsent();
    close_session(context, &mut connection).await;
    drop(connection); // gives the Client Identifier back
    if outcome != Outcome::Lost {
        say_goodbye(&mut stream, &last_words).await;
    }
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

async fn close_session(context: &Context, connection: &mut Connection) {
    let Some(mut durable) = connection.durable.take() else { return };
    durable.session.detach();
    let granted = connection.session.client_limits().session_expiry_secs;
    let wanted = connection.disconnect.flatten().unwrap_or(granted);
    let entry = Entry::SessionClosed {
        client_id: &connection.client_id,
        at_ms: clock::unix_ms(),
        expiry_secs: wanted.min(context.limits.session_expiry_max_secs),
        state: &[],
    };
    let mut staging = Staging::new();
    if staging.push(&entry).is_err() {
        return;
    }
    poll_fn(|cx| {
        // First what was acknowledged, so that the entries stand in the order in which things happened.
        durable.submit_acknowledgements(&context.engine, &connection.client_id, cx.waker());
        match context.engine.submit(&mut staging, Urgency::Lazy, cx.waker(), None) {
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
