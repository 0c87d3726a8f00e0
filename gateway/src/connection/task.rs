//! The loop of a connection: what came in, what is durable now, what there is to send.

use super::ahead::Ahead;
use super::backlog::DurableFeed;
use super::brake::Brake;
use super::consumer::Work;
use super::feed::Feed;
use super::gather::Shared;
use super::receive::Owed;
use super::seldom::Seldom;
use super::spans::Traced;
use super::toll::Toll;
use super::turn::{AT_EASE, PRESSED, is_pressed};
use super::turnstile::Readable;
use super::words::Why;
use super::{Context, io, words};
use crate::clock;
use crate::decisions::Reason;
use crate::delivery::Outbox;
use crate::engine::DurableSession;
use crate::lens::Tap;
use crate::registry::Claim;
use crate::stream::StreamCursor;
use gateway_protocol::session::Session;
use gateway_protocol::{PacketId, ReasonCode};
use gateway_storage::{Staging, Ticket};
use std::cell::RefCell;
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::task::Poll;
use tokio::io::{AsyncRead, AsyncWrite};

/// Bytes that may wait because the client does not read. Past it nothing more is read from it: what it sends would only be answered
/// into this buffer.
const UNSENT_BYTES_MAX: usize = 64 * 1024;
/// Acknowledgements owed in separate groups before no more is read.
const OWED_GROUPS_MAX: usize = 256;

thread_local! {
    static OUT: RefCell<(Vec<u8>, Shared)> = const { RefCell::new((Vec::new(), Shared::new())) };
}

/// An accepted connection, without its stream.
pub(super) struct Connection {
    pub(super) context: Arc<Context>,
    pub(super) session: Session,
    pub(super) claim: Claim,
    /// From its first live subscription on.
    pub(super) outbox: Option<Arc<Outbox>>,
    pub(super) durable: Option<Box<DurableFeed>>,
    pub(super) cursors: Seldom<Vec<StreamCursor>>,
    /// What it does for consumers.
    pub(super) work: Option<Box<Work>>,
    pub(super) feed: Feed,
    /// Filters this connection has in the live table.
    pub(super) subscriptions: Seldom<BTreeSet<Box<str>>>,
    /// Received, but not a whole packet yet.
    pub(super) received: Vec<u8>,
    /// How far `received` was read on while nothing was dealt with.
    pub(super) ahead: Option<Box<Ahead>>,
    /// What the socket did not take.
    unsent: Seldom<Vec<u8>>,
    /// Acknowledgements that wait for a receipt.
    pub(super) owed: VecDeque<Owed>,
    /// Staged entries for which the open group had no room, and what is owed for them. While there are any, nothing but PINGREQ is dealt with.
    pub(super) held: Option<Box<(Staging, Owed)>>,
    /// Acknowledgements wait for more than a receipt.
    pub(super) brake: Option<Box<Brake>>,
    /// What it brings is paid for, while there is not enough for all.
    pub(super) toll: Option<Box<Toll>>,
    /// Somebody looks at it.
    pub(super) tap: Option<Box<Tap>>,
    /// Deliveries under way that are traced.
    pub(super) traced: Option<Box<Traced>>,
    /// Why it is closed, where the Reason Code does not tell.
    pub(super) ended_for: Option<Reason>,
    /// The number of the listener it came through.
    pub(super) listener: u16,
    /// It is being taken apart: what cannot be stored now is given up.
    pub(super) is_leaving: bool,
    pub(super) last_ticket: Option<Ticket>,
    /// The engine's routing epoch under which the oldest of what is owed was read.
    pub(super) last_epoch: u64,
    /// The client left a Will Message that is not to be forgotten.
    pub(super) has_will: bool,
    /// Its Session outlives it: what is stored for it comes from there, only QoS 0 deliveries come through its outbox.
    pub(super) is_durable: bool,
    /// It has subscribed to a Shared Subscription.
    pub(super) is_member: bool,
    /// The Session Expiry Interval that the client's DISCONNECT brought, if any.
    pub(super) final_expiry_secs: Option<u32>,
    closing: Option<ReasonCode>,
}

/// What the handshake found out.
pub(super) struct Peer {
    pub(super) session: Session,
    pub(super) claim: Claim,
    pub(super) durable: Option<Arc<DurableSession>>,
    pub(super) received: Vec<u8>,
    pub(super) has_will: bool,
    pub(super) listener: u16,
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// DISCONNECT from the client.
    Left,
    /// DISCONNECT from the client, which wants its Will Message published all the same.
    LeftWithWill,
    /// The transport ended without a DISCONNECT.
    Lost,
    /// Closed from this side, or by a fault of the client; the reason it was given.
    Closed(ReasonCode),
}

enum ReadStep {
    /// Something was read and dealt with.
    Some,
    /// Nothing now; the task is woken when that changes.
    Pending,
    End(Outcome),
}

impl Connection {
    pub(super) fn new(context: Arc<Context>, peer: Peer) -> Self {
        let Peer { mut session, claim, durable, received, has_will, listener } = peer;
        let mut connection = Self {
            is_durable: durable.is_some(),
            durable: durable.map(|durable| {
                let start = durable.attach(claim.seat.waker());
                let received: Vec<_> =
                    durable.state().received.iter().filter_map(|id| PacketId::new(*id)).collect();
                session.resume(start, received);
                Box::new(DurableFeed::new(durable, start))
            }),
            context,
            session,
            claim,
            outbox: None,
            cursors: Seldom::default(),
            work: None,
            feed: Feed::default(),
            subscriptions: Seldom::default(),
            received,
            ahead: None,
            unsent: Seldom::default(),
            owed: VecDeque::new(),
            held: None,
            brake: None,
            toll: None,
            tap: None,
            traced: None,
            ended_for: None,
            listener,
            is_leaving: false,
            last_ticket: None,
            last_epoch: 0,
            has_will,
            is_member: false,
            final_expiry_secs: None,
            closing: None,
        };
        connection.feed.has_unparsed = !connection.received.is_empty();
        connection.subscribe_live_again();
        connection
    }

    /// Bytes to send before anything else.
    pub(super) fn queue(&mut self, bytes: &[u8]) {
        self.keep_unsent(bytes);
    }

    /// What was not sent when the connection ended.
    pub(super) fn take_unsent(&mut self) -> Vec<u8> {
        self.unsent.take()
    }

    fn keep_unsent(&mut self, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.unsent.make().extend_from_slice(bytes);
        }
    }

    /// How many bytes the socket did not take.
    fn unsent(&self) -> usize {
        self.unsent.get().map_or(0, Vec::len)
    }

    /// Its Client Identifier.
    pub(super) fn client_id(&self) -> &Arc<str> {
        &self.claim.seat.client_id
    }

    /// Runs until there is nothing to do, or the connection has ended. `context` is its own; a reference that each read would count is a
    /// line of memory that all workers write to.
    pub(super) fn poll<S>(
        &mut self,
        context: &Context,
        stream: &mut S,
        cx: &mut std::task::Context<'_>,
    ) -> Poll<Outcome>
    where
        S: AsyncRead + AsyncWrite + Readable + Unpin,
    {
        self.see_who_looks();
        self.begin_turn();
        let turn = if is_pressed(context) { PRESSED } else { AT_EASE };
        OUT.with_borrow_mut(|(out, shared)| {
            let mut is_done = false;
            for round in 0..turn.rounds {
                out.clear();
                // A round that did not come to its end, on this thread, was perhaps another client's.
                shared.clear();
                let reads =
                    round < turn.reads || (round < turn.reads_for_acks && self.session.send_quota() == 0);
                let moved = self.round(context, stream, cx, out, shared, reads.then_some(turn.read_bytes));
                if let Some(tap) = &self.tap {
                    tap.sent(out, self.session.version());
                }
                match moved {
                    Poll::Ready(Some(outcome)) => {
                        self.step_out();
                        // The last words: a CONNACK or DISCONNECT with the reason, and acknowledgements.
                        self.keep_unsent(out);
                        return Poll::Ready(outcome);
                    }
                    Poll::Ready(None) => {}
                    Poll::Pending if reads => {
                        self.leave_line();
                        return Poll::Pending;
                    }
                    Poll::Pending => {
                        is_done = true;
                        break;
                    }
                }
            }
            // There may be more to read.
            if self.stands_again(context, stream, cx, is_done) {
                cx.waker().wake_by_ref();
            }
            Poll::Pending
        })
    }

    /// One round, in which it `reads` so many bytes or does all but that. `Pending`: nothing moved; `Ready(None)`: something did.
    fn round<S>(
        &mut self,
        context: &Context,
        stream: &mut S,
        cx: &mut std::task::Context<'_>,
        out: &mut Vec<u8>,
        shared: &mut Shared,
        reads: Option<usize>,
    ) -> Poll<Option<Outcome>>
    where
        S: AsyncRead + AsyncWrite + Readable + Unpin,
    {
        let mut moved = false;
        if self.flush(stream, cx).is_err() {
            return Poll::Ready(Some(Outcome::Lost));
        }
        if let Some(reason) = self.submit_held(cx) {
            return self.close(reason, out);
        }
        if self.brake.is_some() && self.is_braked(cx, out) {
            // What was published is acknowledged later, unless it never will be.
            if !self.owed.is_empty() && self.context.engine.is_poisoned() {
                return self.close(ReasonCode::ServerBusy, out);
            }
        } else if let Err(reason) = self.release_receipts(out) {
            return self.close(reason, out);
        }
        if let Some(outcome) = self.wind_up(out) {
            return Poll::Ready(Some(outcome));
        }
        if self.closing.is_none() && self.can_read() {
            let step = match reads {
                Some(bytes_max) if self.is_let_in(context, stream, cx) => {
                    let bytes_max = if self.brings_critical() { io::READ_BYTES } else { bytes_max };
                    self.read(context, stream, cx, bytes_max, out)
                }
                _ => ReadStep::Pending,
            };
            match step {
                ReadStep::Some => moved = true,
                ReadStep::Pending => {}
                ReadStep::End(outcome) => return Poll::Ready(Some(outcome)),
            }
        } else if self.closing.is_none() && self.unsent() < UNSENT_BYTES_MAX && !self.pauses() {
            moved = self.look_ahead(stream, cx, out);
        }
        if !self.session.is_connected() {
            // It could not be answered in a packet that it takes.
            return Poll::Ready(Some(Outcome::Closed(ReasonCode::PacketTooLarge)));
        }
        if self.durable.as_ref().is_some_and(|durable| durable.session.is_removed()) {
            // More waited for it than may: its Session is over.
            self.ended_for = Some(Reason::SessionOverQuota);
            return self.close_because(Why::SessionOver, out);
        }
        if self.outbox.as_ref().is_some_and(|outbox| outbox.has_overflowed()) {
            self.ended_for = Some(Reason::SlowSubscriber);
            return self.close_because(Why::TooSlow, out);
        }
        if self.unsent() == 0 && self.closing.is_none() {
            if self.lets_others_first(context, out) {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            moved |= self.feed_client(cx, out, shared);
            if let Some(why) = self.feed.failure.take() {
                shared.settle(out);
                return self.close_because(why, out);
            }
        }
        self.submit_acknowledgements(cx);
        if !out.is_empty() || !shared.is_empty() {
            moved = true;
            let sent = self.send(stream, cx, out, shared);
            shared.clear();
            if sent.is_err() {
                return Poll::Ready(Some(Outcome::Lost));
            }
        }
        if moved {
            return Poll::Ready(None);
        }
        match self.check_time(out) {
            Some(reason) => Poll::Ready(Some(Outcome::Closed(reason))),
            None => Poll::Pending,
        }
    }

    /// A subscriber that was woken lets those run first that are about to publish: one write for what all of them bring costs hardly more
    /// than one for the first of it. Once for each time; what is to be sent anyway is not held up.
    fn lets_others_first(&mut self, context: &Context, out: &[u8]) -> bool {
        let waits = || self.outbox.as_ref().is_some_and(|outbox| outbox.bytes() > 0);
        let first = !self.feed.has_waited && out.is_empty() && waits() && !is_pressed(context);
        self.feed.has_waited = first;
        first
    }

    fn close(&mut self, reason: ReasonCode, out: &mut Vec<u8>) -> Poll<Option<Outcome>> {
        self.session.close(reason, words::of(reason), out);
        Poll::Ready(Some(Outcome::Closed(reason)))
    }

    fn close_because(&mut self, why: Why, out: &mut Vec<u8>) -> Poll<Option<Outcome>> {
        self.session.close(why.reason(), Some(why.text()), out);
        Poll::Ready(Some(Outcome::Closed(why.reason())))
    }

    /// Someone asked this connection to close: it reads no more, and goes once it owes nothing.
    fn wind_up(&mut self, out: &mut Vec<u8>) -> Option<Outcome> {
        if self.closing.is_none() {
            self.closing = self.claim.seat.close_asked();
        }
        let reason = self.closing?;
        let is_drain = matches!(reason, ReasonCode::ServerShuttingDown | ReasonCode::UseAnotherServer);
        if !self.owed.is_empty() && is_drain {
            return None; // What is being stored is acknowledged first.
        }
        match self.context.registry.server_reference() {
            Some(elsewhere) if reason == ReasonCode::UseAnotherServer => {
                self.session.redirect(elsewhere, out)
            }
            _ => self.session.close(reason, words::of(reason), out),
        };
        Some(Outcome::Closed(reason))
    }

    /// Whether the brake holds. When it does not, what it held is acknowledged.
    fn is_braked(&mut self, cx: &mut std::task::Context<'_>, out: &mut Vec<u8>) -> bool {
        let Some(brake) = &mut self.brake else { return false };
        if brake.holds(self.context.pressure.stance(), cx) {
            return true;
        }
        self.session.handle_durable(brake.acknowledgements, out);
        self.brake = None;
        false
    }

    /// Nothing but a flood keeps it from being read, for a moment.
    fn pauses(&self) -> bool {
        self.held.is_none() && self.brake.as_ref().is_some_and(|brake| brake.is_pause())
    }

    pub(super) fn can_read(&self) -> bool {
        // Where the routing has changed, what goes by the old one is stored before anything goes by the new one.
        let has_changed = || self.context.engine.interest_epoch() != self.last_epoch;
        self.held.is_none()
            && (self.owed.is_empty() || !has_changed())
            && self.brake.as_ref().is_none_or(|brake| brake.reads())
            && self.session.wants_read()
            && self.unsent() < UNSENT_BYTES_MAX
            && self.owed.len() < OWED_GROUPS_MAX
    }

    fn read<S>(
        &mut self,
        context: &Context,
        stream: &mut S,
        cx: &mut std::task::Context<'_>,
        bytes_max: usize,
        out: &mut Vec<u8>,
    ) -> ReadStep
    where
        S: AsyncRead + Unpin,
    {
        self.ahead = None;
        let mut received = std::mem::take(&mut self.received);
        // What came along with CONNECT, or was left when reading was stopped, before anything new.
        if !received.is_empty() && self.feed.has_unparsed {
            let (used, step) = self.take_packets(context, &received, cx.waker(), out);
            io::keep_rest(&mut received, used);
            self.received = received;
            return step.map_or(ReadStep::Some, ReadStep::End);
        }
        let kept = received.len();
        let step = io::poll_read(stream, cx, &mut received, bytes_max, |bytes, waker| {
            let (used, outcome) = self.take_packets(context, bytes, waker, out);
            self.end_turn(context, bytes.len().saturating_sub(kept) >= bytes_max);
            (used, outcome)
        });
        self.received = received;
        match step {
            Poll::Pending => ReadStep::Pending,
            Poll::Ready(Ok(Some(None))) => ReadStep::Some,
            Poll::Ready(Ok(Some(Some(outcome)))) => ReadStep::End(outcome),
            Poll::Ready(Ok(None) | Err(_)) => ReadStep::End(Outcome::Lost),
        }
    }

    /// Sends what was left over.
    fn flush<S>(&mut self, stream: &mut S, cx: &mut std::task::Context<'_>) -> std::io::Result<()>
    where
        S: AsyncWrite + Unpin,
    {
        if let Some(unsent) = self.unsent.get_mut() {
            let written = io::poll_write(stream, cx, unsent)?;
            if written < unsent.len() {
                io::keep_rest(unsent, written);
            } else {
                self.unsent.clear();
            }
        }
        Ok(())
    }

    fn send<S>(
        &mut self,
        stream: &mut S,
        cx: &mut std::task::Context<'_>,
        out: &[u8],
        shared: &Shared,
    ) -> std::io::Result<()>
    where
        S: AsyncWrite + Unpin,
    {
        if shared.is_empty() {
            let written = if self.unsent() == 0 { io::poll_write(stream, cx, out)? } else { 0 };
            self.keep_unsent(out.get(written..).unwrap_or_default());
            return Ok(());
        }
        // Nothing is shared while anything is unsent.
        let mut parts = shared.parts(out);
        for rest in io::poll_write_parts(stream, cx, &mut parts)? {
            self.keep_unsent(rest);
        }
        Ok(())
    }

    /// Sees to it that the task is woken at the Session's next moment. The reason, when the client's time is up.
    fn check_time(&mut self, out: &mut Vec<u8>) -> Option<ReasonCode> {
        if self.claim.seat.is_timed() {
            return None;
        }
        let mut deadline = self.session.poll_timeout()?;
        let now = clock::monotonic();
        if now >= deadline {
            if !self.can_read() {
                // It may have spoken; we did not listen.
                self.session.excuse_silence(now);
            }
            if let Err(closed) = self.session.handle_timeout(now, out) {
                return Some(closed.reason);
            }
            deadline = self.session.poll_timeout()?;
        }
        self.claim.wake_at(deadline);
        None
    }
}
