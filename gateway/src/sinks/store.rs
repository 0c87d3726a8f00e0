//! Entries of a sink on their way into the log.

use crate::engine::{Engine, Fate};
use gateway_storage::{Staging, SubmitError, Ticket, Urgency};
use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

/// How often is looked at what became of entries, beside being woken when the log says so.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// The log takes no entries now.
#[derive(Debug, thiserror::Error)]
#[error("the log takes nothing: {0}")]
pub(super) struct NotStored(String);

/// Submits what is staged and does not wait for it to be stored.
pub(super) async fn submit(
    engine: &Engine,
    staging: &mut Staging,
    urgency: Urgency,
) -> Result<Ticket, NotStored> {
    poll_fn(|cx| match engine.submit(staging, urgency, cx.waker(), None) {
        Err(SubmitError::Full) => Poll::Pending,
        Err(error) => Poll::Ready(Err(NotStored(error.to_string()))),
        Ok(ticket) => Poll::Ready(Ok(ticket)),
    })
    .await
}

/// Submits what is staged; returns when it is on stable storage and applied.
pub(super) async fn store(engine: &Engine, staging: &mut Staging) -> Result<(), NotStored> {
    let ticket = submit(engine, staging, Urgency::Now).await?;
    loop {
        match engine.fate(ticket) {
            Fate::Stored => return Ok(()),
            Fate::Over => return Err(NotStored("it failed meanwhile".into())),
            Fate::Open => {}
        }
        // Woken by every group; if the log fails there are none.
        let _ = tokio::time::timeout(LOOK_EVERY, grown(engine)).await;
    }
}

/// Waits until the log has grown.
async fn grown(engine: &Engine) {
    let mut asked = false;
    let end = engine.end();
    poll_fn(|cx| {
        if std::mem::replace(&mut asked, true) {
            return Poll::Ready(());
        }
        let _ = engine.read(end, cx.waker());
        Poll::Pending
    })
    .await;
}
