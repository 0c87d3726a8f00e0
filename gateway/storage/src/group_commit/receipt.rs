//! Tickets and receipts: what an acknowledgement is made from.
//!
//! A [`Ticket`] says into which group an entry went, a [`Durable`] says up to which group everything is as durable as
//! configured. Anybody can hold a receipt, pass it on and ask it:
//!
//! ```
//! fn may_acknowledge(receipt: gateway_storage::Durable, ticket: gateway_storage::Ticket) -> bool {
//!     receipt.covers(ticket)
//! }
//! ```
//!
//! Only the committer mints one. There is no literal, no constructor and no default:
//!
//! ```compile_fail
//! fn forge(ticket: gateway_storage::Ticket) -> gateway_storage::Durable {
//!     gateway_storage::Durable { reached: ticket }
//! }
//! ```
//!
//! ```compile_fail
//! fn forge(ticket: gateway_storage::Ticket) -> gateway_storage::Durable {
//!     gateway_storage::Durable::mint(ticket)
//! }
//! ```
//!
//! ```compile_fail
//! fn forge() -> gateway_storage::Durable {
//!     Default::default()
//! }
//! ```
//!
//! ```compile_fail
//! fn forge(group: u64) -> gateway_storage::Durable {
//!     gateway_storage::Durable::from(group)
//! }
//! ```

use std::sync::atomic::{AtomicU64, Ordering};

/// Bits of a ticket that number the group; the rest numbers the lives of the log. 2^44 groups are half a century at
/// ten thousand groups per second, 2^20 lives are twelve days of a log that fails and recovers every second.
const GROUP_BITS: u32 = 44;

/// The most lives a log has before it stays failed.
pub(crate) const LIVES_MAX: u64 = (1 << (u64::BITS - GROUP_BITS)) - 1;

/// The group an entry went into.
///
/// Tickets only grow. A ticket also knows in which *life* of the log it was given: a failed sync ends a life and
/// reopening begins the next, so that a receipt of a later life never covers a group that was lost in an earlier one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(u64);

impl Ticket {
    pub(crate) const fn new(life: u64, group: u64) -> Self {
        Self(life << GROUP_BITS | group & ((1 << GROUP_BITS) - 1))
    }

    const fn life(self) -> u64 {
        self.0 >> GROUP_BITS
    }

    /// Whether the log has failed and was reopened between this ticket and `later`.
    pub const fn is_of_an_earlier_life_than(self, later: Self) -> bool {
        self.life() < later.life()
    }
}

/// The receipt: this group and every earlier one of the same life of the log are durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Durable {
    reached: Ticket,
}

impl Durable {
    /// Mints a receipt; nobody but the committer can.
    pub(in crate::group_commit) const fn mint(reached: Ticket) -> Self {
        Self { reached }
    }

    /// Whether the entries with this ticket are durable.
    pub const fn covers(self, ticket: Ticket) -> bool {
        ticket.life() == self.reached.life() && ticket.0 <= self.reached.0
    }

    /// Whether the ticket belongs to an earlier life of the log, one that ended with a failure. If no receipt covered
    /// it by now, none ever will: its entries count as lost and must not be acknowledged.
    pub const fn outlives(self, ticket: Ticket) -> bool {
        ticket.life() < self.reached.life()
    }
}

/// Passes receipts on to a later stage without minting them: the newest receipt published.
#[derive(Debug, Default)]
pub struct ReceiptCell(AtomicU64);

impl ReceiptCell {
    /// A cell without a receipt.
    pub const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Publishes a receipt; an older one than the one there changes nothing. Whatever happened before is visible to
    /// whoever loads the receipt.
    pub fn publish(&self, durable: Durable) {
        self.0.fetch_max(durable.reached.0, Ordering::Release);
    }

    /// The newest receipt, if there was one.
    pub fn load(&self) -> Option<Durable> {
        // Groups are numbered from 1, so 0 is no ticket.
        match self.0.load(Ordering::Acquire) {
            0 => None,
            reached => Some(Durable { reached: Ticket(reached) }),
        }
    }
}
