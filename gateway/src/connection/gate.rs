//! Who is let in: the limits of connections, the pace of connects, and what the level allows.
//!
//! Whoever is not let in is told so in a CONNACK, with a word on when to come again, and may do better elsewhere or later.

use super::Context;
use super::handshake::Hello;
use super::metrics::Connect;
use crate::admission::{Level, jittered_keep_alive, reason_code};
use crate::clock;
use crate::decisions::Reason;
use crate::registry::{Full, Place};
use gateway_protocol::ReasonCode;
use gateway_protocol::session::Session;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::PoisonError;

/// So many handshakes at one time are a storm: those who come in it are given Keep Alives of their own.
const STORM_HANDSHAKES: usize = 64;

/// What a connection is told in place of what the others are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Terms {
    pub(super) receive_maximum: u16,
    pub(super) keep_alive_secs: Option<u16>,
}

/// Why a client is not let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NotNow {
    pub(super) outcome: Connect,
    pub(super) code: ReasonCode,
    /// For its Reason String.
    pub(super) words: String,
}

impl NotNow {
    fn full(full: Full) -> Self {
        let (outcome, words) = match full {
            Full::Total => (Connect::TooMany, "too many connections; try again later"),
            Full::Listener => {
                (Connect::TooManyOnListener, "too many connections on this port; try again later")
            }
            Full::Address => (Connect::TooManyFromAddress, "too many connections from this address"),
        };
        // The same for every limit of connections: the client may come again.
        let code = outcome.reason().map_or(ReasonCode::ServerBusy, reason_code);
        Self { outcome, code, words: words.to_owned() }
    }
}

/// Lets a client in, or not.
///
/// # Errors
/// [`NotNow`].
pub(super) fn admit(
    context: &Context,
    hello: &Hello,
    session: &Session,
    place: &Place,
) -> Result<Terms, NotNow> {
    if let Some(full) = place.full() {
        return Err(NotNow::full(full));
    }
    let anonymous = context.listeners.get(usize::from(place.listener())).is_some_and(|terms| terms.anonymous);
    if !anonymous {
        let (outcome, code) = (Connect::NotAuthorized, ReasonCode::NotAuthorized);
        return Err(NotNow { outcome, code, words: String::new() });
    }
    let level = context.pressure.level();
    let keeps_session = session.client_limits().session_expiry_secs > 0;
    let resumes = !hello.clean_start && context.engine.session(&hello.client_id).is_some();
    {
        let now_ms = clock::monotonic().0;
        let address = place.address().unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        // A client that goes on with a Session may be what drains the log; and where nothing can be stored, who leaves nothing to store is
        // welcome to read.
        let has_session = resumes || (level == Level::ReadOnly && !keeps_session);
        let mut storm = context.storm.lock().unwrap_or_else(PoisonError::into_inner);
        storm
            .offer(now_ms, address, level)
            // Who comes again and again because the log takes nothing does not flap.
            .and_then(|()| match context.engine.is_poisoned() {
                true => Ok(()),
                false => storm.greet(now_ms, &hello.client_id, has_session, level),
            })
            .map_err(|later| NotNow {
                outcome: match later.reason {
                    Reason::NoNewSessions => Connect::NoNewSessions,
                    Reason::Flapping => Connect::Flapping,
                    reason => Connect::Paced(reason),
                },
                code: reason_code(later.reason),
                words: later.words(),
            })?;
    }
    let is_storm = level.paces_connects() || context.registry.handshakes() >= STORM_HANDSHAKES;
    let own = context.limits.server_keep_alive_secs == 0 && hello.keep_alive_secs > 0;
    let jittered = || jittered_keep_alive(hello.keep_alive_secs, &hello.client_id);
    // A client that goes on with a Session sends again what it has unacknowledged, all of which it was allowed to send; it would exceed less.
    let window_level = if resumes { Level::Normal } else { level };
    Ok(Terms {
        receive_maximum: window_level.receive_maximum(context.limits.receive_maximum),
        keep_alive_secs: (is_storm && own).then(jittered),
    })
}
