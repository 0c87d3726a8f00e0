//! The acknowledgement as a brake: what makes a publisher wait, and until when.
//!
//! | cause | until | read meanwhile |
//! |---|---|---|
//! | a live subscriber is behind | it has caught up, 250 ms at most | no |
//! | over its fair share above QoS 0 | it has earned what it took, or there is room | yes |
//! | over a rate of its own above QoS 0 | it is within it | yes |
//! | over its fair share at QoS 0, which no acknowledgement slows | a moment later | no |
//! | L4: acknowledgements are held | the pressure is below | yes |
//! | L5: nothing can be stored | the level is below | no |
//! | the log has no room | it is tried again a moment later | no |
//!
//! A live subscriber that takes what many publishers bring is one, and they are many and cheap to serve: left alone they fill its outbox, and
//! what they were told is accepted is dropped for it. An outbox that stays behind loses this right ([`Outbox::brakes`]): a slow subscriber
//! costs itself, not its publishers.
//!
//! Whatever holds, PINGREQ is answered; where nothing is read, from what is read ahead, and Keep Alive does not run.

use crate::admission::{Level, Stance};
use crate::delivery::Outbox;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Context;
use std::time::Duration;
use tokio::time::{Instant, Sleep};

/// The longest that a subscriber is waited for at once.
const LONGEST: Duration = Duration::from_millis(250);
/// How long a flood is left with the kernel at once. With a short read between two of them that is most of a megabyte in a second, so that a
/// PINGREQ behind a full socket is answered within seconds.
pub(super) const FLOOD_PAUSE: Duration = Duration::from_millis(20);
/// How often a level is looked at.
pub(super) const MOMENT: Duration = Duration::from_millis(250);

/// A publisher that waits.
pub(super) struct Brake {
    /// PUBACKs and PUBRECs that nothing else holds up, older than all that is owed.
    pub(super) acknowledgements: usize,
    behind: Option<(Arc<Outbox>, Instant)>,
    late_until: Option<Instant>,
    /// The same for its fair share, while there is not enough for all.
    earned_at: Option<Instant>,
    unread_until: Option<Instant>,
    held_from: Option<Level>,
    timer: Pin<Box<Sleep>>,
}

impl Brake {
    /// One that holds nothing yet.
    pub(super) fn new() -> Box<Self> {
        Box::new(Self {
            acknowledgements: 0,
            behind: None,
            late_until: None,
            earned_at: None,
            unread_until: None,
            held_from: None,
            timer: Box::pin(tokio::time::sleep(LONGEST)),
        })
    }

    /// Until `outbox` has caught up.
    pub(super) fn for_subscriber(&mut self, outbox: Arc<Outbox>) {
        self.behind = Some((outbox, Instant::now() + LONGEST));
    }

    /// Acknowledgements come in so many milliseconds, if not later.
    pub(super) fn late(&mut self, wait_ms: u64) {
        let until = Instant::now() + Duration::from_millis(wait_ms);
        self.late_until = self.late_until.max(Some(until));
    }

    /// The same, unless there is room before.
    pub(super) fn over_share(&mut self, wait_ms: u64) {
        let at = Instant::now() + Duration::from_millis(wait_ms);
        self.earned_at = self.earned_at.max(Some(at));
    }

    /// Nothing is read for so long.
    pub(super) fn unread(&mut self, wait: Duration) {
        self.unread_until = self.unread_until.max(Some(Instant::now() + wait));
    }

    /// Acknowledgements are held while L4 is demanded; from the highest level on nothing is read, either, until it is left.
    pub(super) fn hold_from(&mut self, level: Level) {
        self.held_from = Some(level);
    }

    /// What is critical is not to wait behind what the level holds.
    pub(super) fn lift(&mut self) {
        self.held_from = None;
        self.late_until = None;
        self.earned_at = None;
    }

    /// Whether the client is read meanwhile.
    pub(super) fn reads(&self) -> bool {
        self.behind.is_none() && self.unread_until.is_none() && self.held_from != Some(Level::ReadOnly)
    }

    /// Whether nothing holds it that lasts: it is read again in a moment, PINGREQ and all.
    pub(super) fn is_pause(&self) -> bool {
        self.unread_until.is_some() && self.behind.is_none() && self.held_from != Some(Level::ReadOnly)
    }

    /// Whether it still holds; if so, the task is woken when that is to be looked at again.
    pub(super) fn holds(&mut self, stance: Stance, cx: &mut Context<'_>) -> bool {
        loop {
            let now = Instant::now();
            self.behind =
                self.behind.take().filter(|(outbox, until)| *until > now && outbox.brakes(cx.waker()));
            self.late_until = self.late_until.filter(|until| *until > now);
            self.unread_until = self.unread_until.filter(|until| *until > now);
            self.earned_at = self.earned_at.filter(|at| *at > now && stance.slows);
            self.held_from = self.held_from.filter(|from| match from {
                Level::ReadOnly => stance.level == Level::ReadOnly,
                _ => stance.holds_acks,
            });
            let look_at = [
                self.behind.as_ref().map(|(_, until)| *until),
                self.late_until,
                self.earned_at.map(|at| at.min(now + MOMENT)),
                self.unread_until,
                self.held_from.map(|_| now + MOMENT),
            ];
            let Some(look_at) = look_at.into_iter().flatten().min() else { return false };
            self.timer.as_mut().reset(look_at);
            if self.timer.as_mut().poll(cx).is_pending() {
                return true;
            }
        }
    }
}
