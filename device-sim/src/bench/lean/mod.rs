//! The load of a benchmark, on the simulator's lean client ([`crate::lean`]).
//!
//! **Why.** A benchmark shares its machine with the broker it measures, and must not measure itself: a PUBLISH is a copied template with
//! two fields patched, and counters are added up once for each read.
//!
//! **What it is not.** It checks no promise but that every packet is legal and every delivery is counted; `device-sim run` does that. A
//! broker that closes a connection ends the run with an error; one that has no room for a CONNECT for now is asked again, after a pause.
//!
//! [`Role`] says what one connection does, [`worker`] is the thread, [`connection`] what one connection publishes or counts, [`shared`]
//! what the threads and whoever watches them have in common.

pub(super) mod connection;
pub(super) mod shared;
pub(super) mod spread;
pub(super) mod worker;

use std::ops::Range;

use gateway_protocol::{ProtocolVersion, QoS};

/// Where the number of a topic goes, see [`Role::Publisher`].
pub(super) const NUMBER: &str = "000000";

/// What one connection does once it is connected.
#[derive(Clone, Debug)]
pub(super) enum Role {
    /// Publishes to one topic, or to several in turn.
    Publisher {
        /// The Topic Name. With several topics, [`NUMBER`] in it stands for their numbers.
        topic: String,
        /// The numbers of its topics; empty for one topic.
        topics: Range<u32>,
        /// Of every PUBLISH.
        qos: QoS,
        /// QoS 1: how many may be unacknowledged.
        window: u16,
    },
    /// Subscribes and counts what comes.
    Subscriber {
        /// The Topic Filters, all in one SUBSCRIBE.
        filters: Vec<String>,
        /// Highest QoS wanted.
        qos: QoS,
        /// Its Session outlives its connection.
        durable: bool,
        /// It reads at most this many bytes in a second.
        bytes_per_second: Option<u64>,
    },
    /// Is there, and no more.
    Idle,
}

/// One connection to be made.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    /// Client Identifier.
    pub(super) client_id: String,
    /// The version it speaks.
    pub(super) version: ProtocolVersion,
    /// What it does.
    pub(super) role: Role,
}

/// How publishers go about it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Pace {
    /// As fast as acknowledgements (QoS 1) or deliveries (QoS 0) come back.
    Closed {
        /// QoS 0: events published and not delivered yet, over all publishers.
        in_flight_max: u64,
        /// Deliveries that one event makes.
        fan_out: u64,
    },
    /// So many events in a second over all publishers of one worker, whatever the broker does; latency counts from when each was due.
    Open {
        /// Events in a second.
        rate: f64,
    },
}

/// Why a run came to nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum LeanError {
    /// A socket or the poller failed.
    #[error("could not {doing}: {source}")]
    Io {
        /// What was tried: a verb.
        doing: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
    /// A connection came to nothing or broke.
    #[error("{client_id}: {source}")]
    Broken {
        /// Whose.
        client_id: String,
        /// How.
        source: crate::lean::link::Broken,
    },
    /// The broker refused.
    #[error("the broker refused {what} of {client_id}: {reason:?}")]
    Refused {
        /// CONNECT, SUBSCRIBE or PUBLISH.
        what: &'static str,
        /// Whose.
        client_id: String,
        /// Its reason.
        reason: gateway_protocol::ReasonCode,
    },
    /// What was to be sent cannot be said in MQTT.
    #[error("a packet cannot be encoded: {0}")]
    Encode(#[from] gateway_protocol::EncodeError),
    /// Somebody else failed first.
    #[error("stopped because another worker failed")]
    Stopped,
}

impl LeanError {
    pub(super) fn io(doing: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Io { doing, source }
    }
}
