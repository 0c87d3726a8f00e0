//! Submitting for those who wait until it is stored: tasks that change something now and then, not the flow of messages.

use super::{Engine, Fate};
use gateway_storage::{Staging, SubmitError, Ticket, Urgency};
use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

/// How often a submission that nothing is heard of is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// The log takes nothing now, or has failed before it was stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the log takes nothing at the moment")]
pub struct Unavailable;

impl Engine {
    /// Submits what is staged, as soon as there is room, and does not wait for it to be stored.
    ///
    /// # Errors
    /// [`Unavailable`]; `staging` is untouched then.
    pub async fn submit_soon(&self, staging: &mut Staging, urgency: Urgency) -> Result<Ticket, Unavailable> {
        poll_fn(|cx| match self.submit(staging, urgency, cx.waker(), None) {
            Err(SubmitError::Full) => Poll::Pending,
            submitted => Poll::Ready(submitted.map_err(|_| Unavailable)),
        })
        .await
    }

    /// Waits until the entries with this ticket, which this task has submitted, are on stable storage and applied.
    ///
    /// # Errors
    /// [`Unavailable`]: the log has failed. Whether they are stored is not known then.
    pub async fn stored(&self, ticket: Ticket) -> Result<(), Unavailable> {
        loop {
            match self.fate(ticket) {
                Fate::Stored => return Ok(()),
                Fate::Over => return Err(Unavailable),
                Fate::Open if self.is_poisoned() => return Err(Unavailable),
                Fate::Open => {}
            }
            // The task is woken when its group is applied.
            let mut is_woken = false;
            let woken = poll_fn(|_| match std::mem::replace(&mut is_woken, true) {
                true => Poll::Ready(()),
                false => Poll::Pending,
            });
            let _ = tokio::time::timeout(LOOK_EVERY, woken).await;
        }
    }

    /// Submits what is staged and waits until it is on stable storage and applied.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn store(&self, staging: &mut Staging) -> Result<(), Unavailable> {
        let ticket = self.submit_soon(staging, Urgency::Now).await?;
        self.stored(ticket).await
    }
}
