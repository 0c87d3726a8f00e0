//! What a client is told when this side closes its connection: a sentence for people, beside the Reason Code for programs.
//!
//! Whether it is sent is the Session's to judge. Nothing here depends on what a client sent, so nothing of it is told to another one.

use crate::consumer::Ended;
use gateway_protocol::ReasonCode;

/// Why a connection is closed, where a Reason Code does not say it all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// More waited for a durable Session than may.
    SessionOver,
    /// The outbox is full, and its policy says so.
    TooSlow,
    /// The store does not give what is due.
    Unreadable,
    /// A worker gets nothing more.
    WorkerEnded(Ended),
}

impl Why {
    pub(super) const fn reason(self) -> ReasonCode {
        match self {
            Self::SessionOver | Self::TooSlow => ReasonCode::QuotaExceeded,
            Self::Unreadable => ReasonCode::ImplementationSpecificError,
            Self::WorkerEnded(_) => ReasonCode::AdministrativeAction,
        }
    }

    pub(super) const fn text(self) -> &'static str {
        match self {
            Self::SessionOver => "more waited for this Session than may: the Session is over",
            Self::TooSlow => "more waited for this connection than may: it does not read fast enough",
            Self::Unreadable => "the gateway cannot read what waits for this Session",
            Self::WorkerEnded(Ended::Deleted) => "the consumer is deleted",
            Self::WorkerEnded(Ended::Hanging) => {
                "this worker hangs: it let its leases run out and was not heard of since; its events go to others"
            }
            Self::WorkerEnded(Ended::ShutDown) => "the gateway is shutting down",
        }
    }
}

/// What there is to say where the code is all that is known.
pub(super) const fn of(reason: ReasonCode) -> Option<&'static str> {
    match reason {
        ReasonCode::SessionTakenOver => Some("another connection has come with this Client Identifier"),
        ReasonCode::ServerShuttingDown => Some("the gateway is shutting down"),
        ReasonCode::ServerBusy => Some("the log takes nothing now: publish again what is not acknowledged"),
        ReasonCode::QuotaExceeded => Some("the log is full: publish again later what is not acknowledged"),
        _ => None,
    }
}
