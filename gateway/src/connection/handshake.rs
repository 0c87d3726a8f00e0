//! From accept to CONNACK: reading CONNECT within its bounds, taking the Client Identifier, opening the Session.

use super::endings::Before;
use super::metrics::{self, Connect};
use super::task::{Connection, Outcome, Peer};
use super::turnstile::Readable;
use super::{Context, gate, io, leave, tap};
use crate::clock;
use crate::decisions::Action;
use crate::engine::{DurableSession, WillMessage};
use crate::presence::{Cause, PeerAddress, Present};
use crate::registry::Place;
use gateway_protocol::codec::{Decoded, decode};
use gateway_protocol::packet;
use gateway_protocol::property::{PropertiesBuf, PropertyId};
use gateway_protocol::session::{Accepted, Event, Session};
use gateway_protocol::{ProtocolVersion, ReasonCode};
use gateway_storage::{Entry, Staging, SubmitError, Urgency};
use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::Poll;
use tokio::io::{AsyncRead, AsyncWrite};

/// What of CONNECT outlives the packet.
pub(super) struct Hello {
    pub(super) client_id: Box<str>,
    /// The Client Identifier was made up here.
    assigned: bool,
    pub(super) clean_start: bool,
    pub(super) keep_alive_secs: u16,
    will: Option<(u32, WillMessage)>,
}

/// Takes a connection through its whole life. `place` counts it against the limits; one without room is told to come back later.
///
/// What is done once, at the beginning and at the end, has memory of its own for that long, so that the task of an idle connection is
/// small.
#[expect(
    clippy::manual_async_fn,
    reason = "the task of a function would keep what the function is given twice"
)]
pub fn serve<S>(context: Arc<Context>, mut stream: S, mut place: Place) -> impl Future<Output = ()>
where
    S: AsyncRead + AsyncWrite + PeerAddress + Readable + Unpin,
{
    async move {
        let mut connection = match Box::pin(greet(&context, &mut stream, &mut place)).await {
            Ok(connection) => connection,
            Err(last_words) => {
                return Box::pin(place.work(leave::say_goodbye(&mut stream, &last_words))).await;
            }
        };
        let outcome = poll_fn(|cx| connection.poll(&context, &mut stream, cx)).await;
        Box::pin(place.work(leave::leave(&context, &mut stream, connection, outcome))).await;
    }
}

/// The handshake: the connection, its CONNACK queued, or the last words to a client that gets none.
async fn greet<S>(
    context: &Arc<Context>,
    stream: &mut S,
    place: &mut Place,
) -> Result<Box<Connection>, Vec<u8>>
where
    S: AsyncRead + AsyncWrite + PeerAddress + Unpin,
{
    let mut session = Session::new(context.limits.clone(), clock::monotonic());
    let mut received = Vec::new();
    let mut out = Vec::new();
    let hello = async {
        tokio::select! {
            hello = place.work(read_connect(context, stream, &mut session, &mut received, &mut out)) => hello,
            () = context.registry.closing() => Err(Connect::Gone),
        }
    };
    let mut client = None;
    let refusal = match tokio::time::timeout(context.settings.connect_timeout, hello).await {
        Err(_) => Connect::TimedOut,
        Ok(Err(outcome)) => outcome,
        Ok(Ok(hello)) => {
            client = Some(hello.client_id.clone());
            let opened = match gate::admit(context, &hello, &session, place) {
                Ok(terms) => {
                    session.set_terms(terms.receive_maximum, terms.keep_alive_secs);
                    place.work(open(context, &mut session, hello, received, place.listener(), &mut out)).await
                }
                Err(not_now) => {
                    session.refuse_saying(not_now.code, &not_now.words, &mut out);
                    refused(
                        context,
                        client.as_deref().unwrap_or_default(),
                        not_now.code,
                        stream.peer_address(),
                    );
                    Err(not_now.outcome)
                }
            };
            match opened {
                Ok(mut connection) => {
                    metrics::connect(Connect::Accepted);
                    arrived(context, &connection, stream);
                    place.answered();
                    connection.queue(&out);
                    return Ok(connection);
                }
                Err(outcome) => outcome,
            }
        }
    };
    metrics::connect(refusal);
    if let (Some(client), Some(reason)) = (&client, refusal.reason()) {
        tap::tell_refused(context, client, reason.label());
    }
    if let Some(reason) = refusal.reason() {
        let from = || place.address().map(|address| address.to_string()).unwrap_or_default();
        let client = client.map_or_else(from, String::from);
        context.decide(&client, "", Action::Refused, reason, 1);
    }
    Err(out)
}

/// Tells that a connection stands.
fn arrived(context: &Context, connection: &Connection, stream: &impl PeerAddress) {
    let present = Present {
        since_ms: clock::unix_ms(),
        address: stream.peer_address().into(),
        keep_alive_secs: connection.session.client_limits().keep_alive_secs,
        version: connection.session.version().level(),
    };
    context.presence.arrived(connection.claim.seat.clone(), present);
}

/// Tells that a client was not let in.
fn refused(context: &Context, client_id: &str, reason: ReasonCode, address: Option<SocketAddr>) {
    context.presence.refused(client_id, Cause::Refused(reason), address, clock::unix_ms());
}

pub(super) const fn cause_of(outcome: Outcome) -> Cause {
    match outcome {
        Outcome::Left => Cause::Left,
        Outcome::LeftWithWill => Cause::LeftWithWill,
        Outcome::Lost => Cause::Lost,
        Outcome::Closed(reason) => Cause::Closed(reason),
    }
}

/// Reads until CONNECT is complete. Its bytes are the only memory that the connection costs, and they are bounded.
async fn read_connect<S>(
    context: &Context,
    stream: &mut S,
    session: &mut Session,
    received: &mut Vec<u8>,
    out: &mut Vec<u8>,
) -> Result<Hello, Connect>
where
    S: AsyncRead + Unpin,
{
    let limit = context.settings.connect_bytes_max;
    loop {
        let step = poll_fn(|cx| {
            io::poll_read(stream, cx, received, io::READ_BYTES, |bytes, _| {
                match decode(bytes, ProtocolVersion::V3_1_1, limit) {
                    Ok(Decoded::Incomplete { .. }) => (0, Ok(None)),
                    Ok(Decoded::Packet { packet, consumed }) => {
                        match session.handle_packet(clock::monotonic(), packet, out) {
                            Ok(Event::Connect(connect)) => {
                                let assigned = connect.client_id.is_empty();
                                let client_id = if assigned {
                                    assign_client_id(context)
                                } else {
                                    connect.client_id.into()
                                };
                                let will = connect.will.as_ref().map(will_of);
                                let hello = Hello {
                                    client_id,
                                    assigned,
                                    clean_start: connect.clean_start,
                                    keep_alive_secs: connect.keep_alive_secs,
                                    will,
                                };
                                (consumed, Ok(Some(hello)))
                            }
                            _ => (bytes.len(), Err(Connect::Refused)),
                        }
                    }
                    Err(error) => {
                        session.handle_malformed(error, out);
                        (bytes.len(), Err(Connect::Malformed))
                    }
                }
            })
        });
        match step.await {
            Ok(Some(Ok(Some(hello)))) => return Ok(hello),
            Ok(Some(Ok(None))) => {}
            Ok(Some(Err(outcome))) => return Err(outcome),
            Ok(None) | Err(_) => return Err(Connect::Gone),
        }
    }
}

/// Will Delay Interval, and the message as it is stored.
fn will_of(will: &packet::Will<'_>) -> (u32, WillMessage) {
    let mut properties = PropertiesBuf::new();
    // They were decoded from a legal packet, so they can be written again; were they not, the will goes without.
    let _ = properties.extend_filtered(will.properties, |id| {
        !matches!(id, PropertyId::WillDelayInterval | PropertyId::MessageExpiryInterval)
    });
    let message = WillMessage {
        topic: will.topic.as_str().into(),
        qos: will.qos as u8,
        retain: will.retain,
        message_expiry_secs: will.properties.message_expiry_interval(),
        properties: properties.as_properties().raw().into(),
        payload: will.payload.into(),
    };
    (will.properties.will_delay_interval().unwrap_or(0), message)
}

/// A name no other client has: the moment this gateway started, and a number.
fn assign_client_id(context: &Context) -> Box<str> {
    format!("auto-{:x}-{:x}", clock::started_unix_ms(), context.outboxes.new_id()).into()
}

/// Takes the Client Identifier from whoever has it, opens the Session, and writes CONNACK. Boxed: before CONNECT a connection's task is
/// to be small.
fn open<'a>(
    context: &'a Arc<Context>,
    session: &'a mut Session,
    hello: Hello,
    received: Vec<u8>,
    listener: u16,
    out: &'a mut Vec<u8>,
) -> std::pin::Pin<Box<dyn Future<Output = Result<Box<Connection>, Connect>> + Send + 'a>> {
    Box::pin(async move {
        let Ok(claim) = context.registry.claim(&hello.client_id).await else {
            session.refuse(ReasonCode::ServerBusy, out);
            refused(context, &hello.client_id, ReasonCode::ServerBusy, None);
            return Err(Connect::TakeoverTimedOut);
        };
        let durable = match open_durable(context, session, &hello).await {
            Ok(durable) => durable,
            Err(_) => {
                session.refuse(ReasonCode::ServerUnavailable, out);
                refused(context, &hello.client_id, ReasonCode::ServerUnavailable, None);
                return Err(Connect::Unavailable);
            }
        };
        let session_present = durable.as_ref().is_some_and(|session| session.state().resumed);
        let accepted =
            Accepted { session_present, assigned_client_id: hello.assigned.then_some(&*hello.client_id) };
        let is_accepted = session.accept(clock::monotonic(), accepted, out).is_ok();
        if is_accepted {
            tap::tell_accepted(context, &hello.client_id, session, session_present);
        }
        let session = std::mem::replace(session, Session::new(context.limits.clone(), clock::monotonic()));
        let has_will = hello.will.is_some();
        let peer = Peer { session, has_will, claim, durable, received, listener };
        let connection = Box::new(Connection::new(context.clone(), peer));
        if !is_accepted {
            leave::abandon(context, connection).await;
            return Err(Connect::Refused);
        }
        Ok(connection)
    })
}

/// The Session was not opened: the log takes nothing.
struct NotOpened;

/// Writes the opening of a durable Session, or the end of one that is not wanted any more, to the log and waits for the receipt. A
/// Session that ends with its connection, and follows no durable one, needs no entry.
async fn open_durable(
    context: &Context,
    session: &Session,
    hello: &Hello,
) -> Result<Option<Arc<DurableSession>>, NotOpened> {
    let mut staging = Staging::new();
    let mut before = Before::stage(context, &hello.client_id, &mut staging).ok_or(NotOpened)?;
    let staged = stage_wills(context, hello, &mut before, &mut staging)
        .and_then(|()| stage_opening(context, session, hello, &mut staging));
    let opened = match staged {
        Ok(()) if staging.is_empty() => Ok(()),
        Ok(()) => commit(context, &mut staging, &mut before).await,
        Err(NotOpened) => Err(NotOpened),
    };
    match opened {
        Ok(()) => before.settled(),
        Err(NotOpened) => {
            before.give_back(context);
            return Err(NotOpened);
        }
    }
    Ok(context.engine.session(&hello.client_id))
}

fn stage_opening(
    context: &Context,
    session: &Session,
    hello: &Hello,
    staging: &mut Staging,
) -> Result<(), NotOpened> {
    let expiry_secs = session.client_limits().session_expiry_secs;
    if expiry_secs == 0 && context.engine.session(&hello.client_id).is_none() {
        return Ok(());
    }
    let entry = Entry::SessionOpened {
        client_id: &hello.client_id,
        at_ms: clock::unix_ms(),
        clean_start: hello.clean_start,
        expiry_secs,
        state: &[],
    };
    staging.push(&entry).map_err(|_| NotOpened)
}

/// What becomes of the will that an earlier connection left, and the one that this connection leaves.
fn stage_wills(
    context: &Context,
    hello: &Hello,
    before: &mut Before,
    staging: &mut Staging,
) -> Result<(), NotOpened> {
    let client_id = &*hello.client_id;
    if let Some(old) = context.engine.will(client_id) {
        // Back in time: it is not sent [MQTT-3.1.3-9]. But a Session that is discarded has ended, and with it the waiting.
        if hello.clean_start && old.take() {
            metrics::will(old.message.qos);
            let event = old.message.event(client_id, clock::unix_ms());
            before.taken = Some(old.clone());
            context.spans.stage_will(&event, staging).map_err(|_| NotOpened)?;
        }
        if hello.will.is_none() {
            staging.push(&Entry::WillCleared { client_id }).map_err(|_| NotOpened)?;
        }
    }
    if let Some((delay_secs, message)) = &hello.will {
        let entry = Entry::WillSet { client_id, delay_secs: *delay_secs, will: &message.encode() };
        staging.push(&entry).map_err(|_| NotOpened)?;
    }
    Ok(())
}

/// Submits and waits until the receipt is there and applied.
async fn commit(context: &Context, staging: &mut Staging, before: &mut Before) -> Result<(), NotOpened> {
    let engine = &context.engine;
    poll_fn(|cx| {
        if before.submitted.is_none() {
            if before.is_lost(engine) {
                return Poll::Ready(Err(NotOpened));
            }
            match engine.submit(staging, Urgency::Now, cx.waker(), None) {
                Ok(given) => before.submitted = Some(given),
                Err(SubmitError::Full) => return Poll::Pending,
                Err(_) => return Poll::Ready(Err(NotOpened)),
            }
        }
        match (before.submitted, engine.receipt()) {
            (Some(ticket), Some(receipt)) if receipt.covers(ticket) => Poll::Ready(Ok(())),
            (Some(ticket), Some(receipt)) if receipt.outlives(ticket) => Poll::Ready(Err(NotOpened)),
            _ if engine.is_poisoned() => Poll::Ready(Err(NotOpened)),
            _ => Poll::Pending,
        }
    })
    .await
}
