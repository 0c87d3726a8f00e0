//! Ends of connections that are not known to be in the log: kept until they are.
//!
//! The log may have failed when a connection ends, or fail under the entries that say so. Its Session would count as open for ever: never
//! expire, and its Will Message never be published. So what there is to say is kept here until it is stored, and said again when the
//! log takes entries again ([`settle`], once a second).
//!
//! A newer connection must not have its Session closed by that. The rule is: **who has the Client Identifier, has its ending.** It is put
//! here before the connection gives the identifier back, and taken from here only by who has claimed it: `settle`, which gives it
//! back behind its submission, or the next connection, which logs the old ending in front of its own opening, in one group.
//!
//! There is at most one for each Client Identifier, and only where the view has a Session or a will of that client; that bounds them.

use super::task::Outcome;
use super::{Context, metrics};
use crate::clock;
use crate::engine::{Ending as EndingState, Engine, Fate, Will};
use gateway_storage::{Entry, Staging, Ticket, Urgency};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

/// Endings said again in one turn; the others follow in the next.
const ENDINGS_MAX: usize = 10_000;
/// Endings in one submission: few enough to find room in a group that others fill as well.
const SUBMITTED_TOGETHER: usize = 64;

/// What there is to say of a connection that is over.
pub(super) struct Ending {
    client_id: Box<str>,
    at_ms: u64,
    expiry_secs: u32,
    /// The client left a Will Message; what becomes of it.
    will: Option<WillIs>,
    /// The Session goes on alone: up to where messages were sent, and the last acknowledgements in the log's form.
    session: Option<(u64, Vec<u8>)>,
    /// Published or discarded by the entries as they were last staged.
    taken: Option<Arc<Will>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum WillIs {
    Discarded,
    Due,
}

impl Ending {
    pub(super) fn new(client_id: &str, outcome: Outcome, has_will: bool, expiry_secs: u32) -> Self {
        let becomes = if outcome == Outcome::Left { WillIs::Discarded } else { WillIs::Due };
        Self {
            client_id: client_id.into(),
            at_ms: clock::unix_ms(),
            expiry_secs,
            will: has_will.then_some(becomes),
            session: None,
            taken: None,
        }
    }

    /// There is a Session, which was sent everything below `sent_end`; `acks` is acknowledged and not logged yet.
    pub(super) fn of_session(self, sent_end: u64, acks: Vec<u8>) -> Self {
        Self { session: Some((sent_end, acks)), ..self }
    }

    /// Puts the entries into `staging`, in the order in which things happened.
    pub(super) fn stage(&mut self, context: &Context, staging: &mut Staging) -> Urgency {
        let engine = &context.engine;
        let client_id = &*self.client_id;
        if let Some((_, acks)) = &self.session
            && !acks.is_empty()
        {
            // Were it too large, the client would get those messages again.
            let _ = staging.push(&Entry::Acknowledged { client_id, runs: acks });
        }
        let will = self.will.and_then(|becomes| Some((engine.will(client_id)?, becomes)));
        let urgency = if will.is_some() { Urgency::Now } else { Urgency::Lazy };
        if let Some((will, becomes)) = will {
            self.stage_will(context, will, becomes, staging);
        }
        if let Some((sent_end, _)) = self.session {
            let state = EndingState { sent_end, with_all: false }.encode();
            let entry = Entry::SessionClosed {
                client_id: &self.client_id,
                at_ms: self.at_ms,
                expiry_secs: self.expiry_secs,
                state: &state,
            };
            // An entry of this size is always taken.
            let _ = staging.push(&entry);
        }
        urgency
    }

    /// A DISCONNECT deletes the will [MQTT-3.14.4-3]; any other end publishes it, at once or when its delay has passed or the Session
    /// ends, whichever comes first [MQTT-3.1.2-8].
    fn stage_will(&mut self, context: &Context, will: Arc<Will>, becomes: WillIs, staging: &mut Staging) {
        let client_id = &*self.client_id;
        let delay_secs = will.delay_secs.min(self.expiry_secs);
        let staged = if becomes == WillIs::Discarded {
            // Taken, so that a successor who is faster than this entry does not publish it.
            will.take();
            self.taken = Some(will);
            staging.push(&Entry::WillCleared { client_id })
        } else if delay_secs > 0 {
            let at_ms = self.at_ms.saturating_add(u64::from(delay_secs) * 1000);
            staging.push(&Entry::WillDue { client_id, at_ms })
        } else if will.take() {
            // In one group: a restart finds it published and cleared, or neither.
            let staged = context
                .spans
                .stage_will(&will.message.event(client_id, clock::unix_ms()), staging)
                .and_then(|()| staging.push(&Entry::WillCleared { client_id }));
            self.taken = Some(will);
            staged
        } else {
            Ok(())
        };
        if let Err(error) = staged {
            tracing::error!(%error, client_id, "a Will Message cannot be logged");
        }
    }

    /// The staged entries are on their way: a will among them counts as received.
    fn count_will(&self) {
        if self.will == Some(WillIs::Due)
            && let Some(will) = &self.taken
        {
            metrics::will(will.message.qos);
        }
    }

    /// The staged entries are not in the log, or the view has changed by them.
    fn take_back(&mut self) {
        if let Some(will) = self.taken.take() {
            will.give_back();
        }
    }
}

/// What is not known to be in the log.
struct Unsettled {
    ending: Option<Ending>,
    /// With it, the ending was submitted; and the opening, if one is in doubt.
    ticket: Option<Ticket>,
    doubt: Option<Doubt>,
}

/// An opening whose client was refused because the log failed under it. It may be stored all the same.
struct Doubt {
    opening_before: Option<u64>,
    will_before: Option<Arc<Will>>,
    /// Of an earlier connection, published by the entries in doubt.
    taken: Option<Arc<Will>>,
}

/// What is to be done about an [`Unsettled`].
enum Next {
    Nothing,
    Log(Ending),
    /// It is not known yet.
    Wait(Unsettled),
}

impl Unsettled {
    fn next(self, engine: &Engine, client_id: &str) -> Next {
        let fate = self.ticket.map_or(Fate::Over, |ticket| engine.fate(ticket));
        if fate == Fate::Open {
            return Next::Wait(self);
        }
        if let Some(doubt) = self.doubt {
            if let Some(will) = &doubt.taken {
                will.give_back(); // If it is stored nobody finds that will any more.
            }
            let session = engine.session(client_id);
            let opened = session.filter(|session| Some(session.state().opening) != doubt.opening_before);
            let is_set = engine.will(client_id).is_some_and(|will| {
                let is_old = doubt.will_before.as_ref().is_some_and(|before| Arc::ptr_eq(before, &will));
                will.due_at_ms.is_none() && !is_old
            });
            if opened.is_some() || is_set {
                return Next::Log(Ending::of_refused(client_id, opened.as_deref(), is_set));
            }
        }
        match self.ending {
            Some(mut ending) if fate == Fate::Over => {
                ending.take_back();
                Next::Log(ending)
            }
            _ => Next::Nothing,
        }
    }
}

impl Ending {
    /// The client was told that it is not connected: its will is not published.
    fn of_refused(
        client_id: &str,
        session: Option<&crate::engine::DurableSession>,
        is_will_set: bool,
    ) -> Self {
        let (expiry_secs, sent_end) =
            session.map_or((0, 0), |session| (session.state().expiry_secs, session.state().sent_end));
        let ending = Self::new(client_id, Outcome::Left, is_will_set, expiry_secs);
        if session.is_some() { ending.of_session(sent_end, Vec::new()) } else { ending }
    }
}

/// All of them, by Client Identifier.
#[derive(Default)]
pub struct Endings(Mutex<HashMap<Box<str>, Unsettled>>);

impl Endings {
    /// Keeps an ending until it is known to be in the log. `ticket`: it was submitted. To be called by who has the Client Identifier.
    pub(super) fn put(&self, mut ending: Ending, ticket: Option<Ticket>) {
        match ticket {
            Some(_) => ending.count_will(),
            None => ending.take_back(),
        }
        self.put_back(ending.client_id.clone(), Unsettled { ending: Some(ending), ticket, doubt: None });
    }

    fn put_back(&self, client_id: Box<str>, unsettled: Unsettled) {
        self.lock().insert(client_id, unsettled);
    }

    fn take(&self, client_id: &str) -> Option<Unsettled> {
        self.lock().remove(client_id)
    }

    /// Forgets what is in the log, and answers whose endings may not be.
    fn clients(&self, engine: &Engine) -> Vec<Box<str>> {
        let receipt = engine.receipt();
        let mut endings = self.lock();
        endings.retain(|_, unsettled| {
            let is_stored =
                unsettled.ticket.is_some_and(|ticket| receipt.is_some_and(|it| it.covers(ticket)));
            unsettled.doubt.is_some() || !is_stored
        });
        if endings.is_empty() {
            endings.shrink_to_fit();
        }
        endings.keys().take(ENDINGS_MAX).cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Box<str>, Unsettled>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Says again what the log does not have. To be called every now and then.
pub fn settle(context: &Context) {
    let engine = &context.engine;
    let clients = context.endings.clients(engine);
    if clients.is_empty() || engine.is_poisoned() {
        return;
    }
    let said: usize = clients.chunks(SUBMITTED_TOGETHER).map(|clients| say_again(context, clients)).sum();
    if said > 0 {
        tracing::info!(connections = said, "ends of connections that the log had not taken are logged now");
    }
}

/// Says the endings of some clients again, if the log takes them. How many.
fn say_again(context: &Context, clients: &[Box<str>]) -> usize {
    let engine = &context.engine;
    let (mut staging, mut said) = (Staging::new(), Vec::new());
    for client_id in clients {
        // Somebody else has the identifier, and with it the ending.
        let Some(claim) = context.registry.try_claim(client_id) else { continue };
        match context.endings.take(client_id).map(|unsettled| unsettled.next(engine, client_id)) {
            Some(Next::Log(mut ending)) => {
                ending.stage(context, &mut staging);
                said.push((ending, claim));
            }
            Some(Next::Wait(unsettled)) => context.endings.put_back(client_id.clone(), unsettled),
            Some(Next::Nothing) | None => {}
        }
    }
    let ticket = engine.submit(&mut staging, Urgency::Now, Waker::noop(), None).ok();
    let count = if ticket.is_some() { said.len() } else { 0 };
    for (ending, claim) in said {
        context.endings.put(ending, ticket);
        drop(claim);
    }
    count
}

/// What the connection before has left to the one that opens the same Client Identifier.
pub(super) struct Before {
    client_id: Box<str>,
    ending: Option<Ending>,
    /// That it was submitted with, before this connection came.
    ticket: Option<Ticket>,
    opening: Option<u64>,
    will: Option<Arc<Will>>,
    /// The will of an earlier connection that the opening publishes.
    pub(super) taken: Option<Arc<Will>>,
    /// The opening was submitted.
    pub(super) submitted: Option<Ticket>,
}

impl Before {
    /// To be called by who has the Client Identifier. Puts an ending that the log does not have into `staging`. `None`: it cannot be told
    /// yet whether the Session is open.
    pub(super) fn stage(context: &Context, client_id: &str, staging: &mut Staging) -> Option<Self> {
        let engine = &context.engine;
        let mut before = Self {
            client_id: client_id.into(),
            ending: None,
            ticket: None,
            opening: engine.session(client_id).map(|session| session.state().opening),
            will: engine.will(client_id),
            taken: None,
            submitted: None,
        };
        let left = context.endings.take(client_id);
        match left.map_or(Next::Nothing, |unsettled| unsettled.next(engine, client_id)) {
            Next::Nothing => {}
            Next::Log(mut ending) => {
                ending.stage(context, staging);
                before.ending = Some(ending);
            }
            Next::Wait(unsettled) if unsettled.doubt.is_some() => {
                context.endings.put_back(before.client_id, unsettled);
                return None;
            }
            // On its way. What is submitted now stands behind it, and is not stored if it is not.
            Next::Wait(unsettled) => (before.ending, before.ticket) = (unsettled.ending, unsettled.ticket),
        }
        Some(before)
    }

    /// Whether the log has failed under what the connection before had submitted, so that nothing may be logged behind it.
    pub(super) fn is_lost(&self, engine: &Engine) -> bool {
        self.ticket.is_some_and(|ticket| engine.fate(ticket) == Fate::Over)
    }

    /// The opening is stored, and what was staged or submitted before it.
    pub(super) fn settled(self) {
        if let Some(ending) = self.ending.filter(|_| self.ticket.is_none()) {
            ending.count_will();
        }
    }

    /// The client is refused: what it found is left as it was, and so is what may have become of its opening.
    pub(super) fn give_back(mut self, context: &Context) {
        let unsettled = match self.submitted {
            Some(_) => Unsettled {
                ending: self.ending,
                ticket: self.submitted,
                doubt: Some(Doubt {
                    opening_before: self.opening,
                    will_before: self.will,
                    taken: self.taken,
                }),
            },
            None => {
                if let Some(will) = self.taken {
                    will.give_back();
                }
                if self.ticket.is_none()
                    && let Some(ending) = &mut self.ending
                {
                    ending.take_back();
                }
                Unsettled { ending: self.ending, ticket: self.ticket, doubt: None }
            }
        };
        if unsettled.ending.is_some() || unsettled.doubt.is_some() {
            context.endings.put_back(self.client_id, unsettled);
        }
    }
}
