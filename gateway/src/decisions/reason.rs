//! The closed lists: what was done, and why.
//!
//! Every event, connection and delivery that did not go well ends with one of these reasons, in a counter's label and in the decision log.
//! A reason that is retired is never used again for something else.

/// Declares an enum whose variants each have a label, with the list of all of them and the way back from a label.
macro_rules! closed_list {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $label:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum $name { $($(#[$variant_doc])* $variant,)+ }

        impl $name {
            /// All of them, in the order of their numbers.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// Its name in labels, queries and records.
            #[must_use]
            pub const fn label(self) -> &'static str {
                match self { $(Self::$variant => $label,)+ }
            }

            /// The one of this name.
            #[must_use]
            pub fn from_label(label: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|one| one.label() == label)
            }

            pub(super) fn from_u8(number: u8) -> Option<Self> {
                Self::ALL.get(usize::from(number)).copied()
            }
        }
    };
}

closed_list! {
    /// What was done.
    Action {
        /// A connection, an event or a subscription was not taken, and its client told so where the protocol can.
        Refused = "refused",
        /// An event was given up to protect the rest.
        Shed = "shed",
        /// A message was taken away from a subscriber.
        Dropped = "dropped",
        /// A message was older than its publisher allowed.
        Expired = "expired",
        /// An event became a dead letter of a consumer.
        DeadLettered = "dead_lettered",
        /// A connection was closed by the gateway.
        Disconnected = "disconnected",
        /// An acknowledgement was made to come late, or input was left unread.
        Throttled = "throttled",
        /// The ladder took a step.
        LevelChanged = "level_changed",
    }
}

closed_list! {
    /// Why it was done.
    Reason {
        // Connections.
        /// As many connections as `admission.max_connections` allows.
        MaxConnections = "max_connections",
        /// As many from one address as `admission.max_connections_per_address` allows.
        AddressConnections = "address_connections",
        /// As many on a listener as its `max_connections` allows.
        ListenerConnections = "listener_connections",
        /// As many in their handshake as `admission.max_handshakes` allows.
        Handshakes = "handshakes",
        /// Connects come faster than `admission.connect_rate`.
        ConnectRate = "connect_rate",
        /// Connects come faster from one address than `admission.connect_rate_per_address`.
        AddressConnectRate = "address_connect_rate",
        /// From L2 on connects come at the pace of the gateway.
        ConnectsPaced = "connects_paced",
        /// From L4 on no sessions are made.
        NoNewSessions = "no_new_sessions",
        /// The client connects again and again.
        Flapping = "flapping",
        /// The client has no right to connect, publish or subscribe.
        NotAuthorized = "not_authorized",
        /// CONNECT did not come in time.
        ConnectTimeout = "connect_timeout",
        /// CONNECT asked for what is not offered.
        ConnectRefused = "connect_refused",
        /// Whoever had the Client Identifier did not leave.
        TakeoverTimedOut = "takeover_timed_out",

        // Events.
        /// The topic is not for clients.
        ReservedTopic = "reserved_topic",
        /// Too large for the log.
        TooLarge = "too_large",
        /// A payload above `admission.max_payload_bytes`.
        PayloadTooLarge = "payload_too_large",
        /// No more Retained Messages are kept.
        RetainedFull = "retained_full",
        /// The log is at `storage.max_bytes` and cannot be trimmed, or what a session had waiting gave way to it.
        LogFull = "log_full",
        /// The log takes nothing at the moment.
        LogUnavailable = "log_unavailable",
        /// The log failed under entries that it had taken.
        LogFailed = "log_failed",
        /// More events than `admission.client_publish_rate`.
        ClientEventRate = "client_event_rate",
        /// More bytes than `admission.client_publish_bytes_rate`.
        ClientByteRate = "client_byte_rate",
        /// More events than the listener's `publish_rate`.
        ListenerEventRate = "listener_event_rate",
        /// More bytes than the listener's `publish_bytes_rate`.
        ListenerByteRate = "listener_byte_rate",
        /// From L1 on: read in turns that are too short for what the client has, which is many times what others bring.
        OverTurn = "over_turn",
        /// From L2 on: more than the client's fair share.
        OverShare = "over_share",
        /// From L3 on: QoS 0 of class `bulk`.
        ShedBulk = "shed_bulk",
        /// Within L3: QoS 0 of class `normal`.
        ShedNormal = "shed_normal",
        /// At L4: acknowledgements are held.
        AcksHeld = "acks_held",
        /// At L5: nothing is stored.
        ReadOnly = "read_only",
        /// More unacknowledged publishes than Receive Maximum allows.
        ReceiveMaximumExceeded = "receive_maximum_exceeded",
        /// A live subscriber is behind, and the publisher waits for it.
        SubscriberBehind = "subscriber_behind",

        // Subscriptions.
        /// As many as `admission.max_subscriptions_per_client` allows.
        MaxSubscriptions = "max_subscriptions",
        /// More levels than `admission.max_filter_levels`.
        FilterTooDeep = "filter_too_deep",
        /// Not a filter that may be subscribed to here.
        FilterRefused = "filter_refused",

        // Deliveries.
        /// The subscriber's outbox was full.
        OutboxFull = "outbox_full",
        /// The subscriber went away.
        SubscriberGone = "subscriber_gone",
        /// Larger than the subscriber's Maximum Packet Size.
        DeliveryTooLarge = "delivery_too_large",
        /// The log lost it.
        Damaged = "damaged",
        /// A Retained Message that was replaced before it was sent.
        RetainedReplaced = "retained_replaced",
        /// A session's backlog was full, and the newest gave way.
        BacklogFull = "backlog_full",
        /// A session's backlog was full, and the oldest gave way.
        BacklogOldest = "backlog_oldest",
        /// A session's backlog was full, and the session gave way.
        SessionOverQuota = "session_over_quota",
        /// The session ended.
        SessionEnded = "session_ended",
        /// The Message Expiry Interval had passed.
        MessageExpired = "message_expired",
        /// A consumer's workers had it as often as `max_deliver` allows.
        MaxDeliver = "max_deliver",
        /// A worker, or the target of a sink, said that nobody can do anything with it.
        WorkerRejected = "worker_rejected",
        /// It is larger than any worker takes.
        TooLargeForWorker = "too_large_for_worker",

        // Connections that were closed.
        /// Nothing came for one and a half Keep Alive.
        KeepAlive = "keep_alive",
        /// A live subscriber read too slowly, and the policy is to disconnect it.
        SlowSubscriber = "slow_subscriber",
        /// After ten seconds of L4: among those that brought most beyond their share.
        Offender = "offender",
        /// Another connection has the Client Identifier.
        TakenOver = "taken_over",
        /// What came was no packet.
        Malformed = "malformed",
        /// What came was not allowed, or not then.
        ProtocolError = "protocol_error",
        /// A worker of a consumer let its events run past their time again and again.
        WorkerHung = "worker_hung",
        /// An operator closed the connection.
        Kicked = "kicked",
        /// The gateway was told to stop.
        ShuttingDown = "shutting_down",

        // The ladder.
        /// Resident memory.
        Memory = "memory",
        /// Bytes in buffers.
        Buffer = "buffer",
        /// The log, or its disk.
        Disk = "disk",
        /// The time a commit takes.
        Commit = "commit",
        /// The runtime is late.
        LoopLag = "loop_lag",
        /// The oldest publish that is not acknowledged.
        Oldest = "oldest",
        /// There is no room for the log.
        DiskFull = "disk_full",
        /// A commit does not come to an end.
        CommitStalled = "commit_stalled",
        /// The disk is at its high-water mark.
        DiskHighWater = "disk_high_water",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn labels_are_unique_and_lead_back() {
        let labels: HashSet<_> = Reason::ALL.iter().map(|reason| reason.label()).collect();
        assert_eq!(labels.len(), Reason::ALL.len());
        for reason in Reason::ALL {
            assert_eq!(Reason::from_label(reason.label()), Some(*reason));
            assert_eq!(Reason::from_u8(*reason as u8), Some(*reason));
        }
        for action in Action::ALL {
            assert_eq!(Action::from_label(action.label()), Some(*action));
        }
        assert_eq!(Reason::from_label("because"), None);
        assert_eq!(Action::from_u8(200), None);
    }
}
