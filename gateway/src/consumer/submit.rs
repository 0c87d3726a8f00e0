//! Entries that somebody waits for.

use crate::engine::{Engine, Fate};
use gateway_storage::{Staging, SubmitError, Urgency};
use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

/// How often a submission that nothing is heard of is looked at.
const LOOK: Duration = Duration::from_millis(100);

/// The log takes nothing now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the log takes nothing at the moment")]
pub struct Unavailable;

/// Submits and waits until it is durable and applied.
pub(super) async fn submit(engine: &Engine, mut staging: Staging) -> Result<(), Unavailable> {
    let submitted = poll_fn(|cx| match engine.submit(&mut staging, Urgency::Now, cx.waker(), None) {
        Err(SubmitError::Full) => Poll::Pending,
        submitted => Poll::Ready(submitted),
    });
    let ticket = submitted.await.map_err(|_| Unavailable)?;
    loop {
        match engine.fate(ticket) {
            Fate::Stored => return Ok(()),
            Fate::Over => return Err(Unavailable),
            Fate::Open if engine.is_poisoned() => return Err(Unavailable),
            Fate::Open => {}
        }
        // The task is woken when its group is applied.
        let mut is_woken = false;
        let woken =
            poll_fn(|_| if std::mem::replace(&mut is_woken, true) { Poll::Ready(()) } else { Poll::Pending });
        let _ = tokio::time::timeout(LOOK, woken).await;
    }
}
