//! The acknowledgement as a brake: a publisher waits for a live subscriber that is behind, briefly.
//!
//! Publishers are many and cheap to serve, the subscriber that takes what all of them bring is one. Left alone they fill its outbox, and what
//! they were told is accepted is dropped for it. So a publish that went into an outbox past its mark is acknowledged, and the next one read,
//! when the outbox is below the mark again. An outbox that stays above it loses this right ([`Outbox::brakes`]): a slow subscriber costs
//! itself, not its publishers.

use crate::delivery::Outbox;
use gateway_protocol::session::Session;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Context;
use std::time::Duration;
use tokio::time::Sleep;

/// The longest that one acknowledgement waits.
const LONGEST: Duration = Duration::from_millis(250);

/// A publisher that waits.
pub(super) struct Brake {
    outbox: Arc<Outbox>,
    acknowledgements: usize,
    until: Pin<Box<Sleep>>,
}

impl Brake {
    pub(super) fn on(outbox: Arc<Outbox>, acknowledgements: usize) -> Box<Self> {
        Box::new(Self { outbox, acknowledgements, until: Box::pin(tokio::time::sleep(LONGEST)) })
    }
}

/// Whether the brake holds; the task is woken when it may not any more. When it does not, what was held is acknowledged.
pub(super) fn holds(
    brake: &mut Option<Box<Brake>>,
    session: &mut Session,
    cx: &mut Context<'_>,
    out: &mut Vec<u8>,
) -> bool {
    let Some(on) = brake else { return false };
    if on.until.as_mut().poll(cx).is_pending() && on.outbox.brakes(cx.waker()) {
        return true;
    }
    session.handle_durable(on.acknowledgements, out);
    *brake = None;
    false
}
