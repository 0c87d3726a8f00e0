//! Static limits: what holds whatever the load is. Each has a refusal of its own, a reason on record, and a test at the limit.

use super::bucket::{Bucket, Rate};
use super::judge::Judgement;
use super::share::LATE_MS_MAX;
use super::storm::StormOptions;
use crate::config::{AdmissionConfig, ListenerConfig, OverRate};
use crate::decisions::Reason;
use gateway_protocol::{QoS, ReasonCode};

/// The limits in force, resolved.
#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    /// Connections at one time.
    pub connections: usize,
    /// From one address.
    pub connections_per_address: usize,
    /// In their handshake.
    pub handshakes: usize,
    /// The pace of connects.
    pub storm: StormOptions,
    /// Subscriptions of one client.
    pub subscriptions: usize,
    /// Levels of a Topic Filter.
    pub filter_levels: usize,
    /// Bytes of a payload.
    pub payload_bytes: usize,
    /// What one client may publish.
    pub client: Rates,
    /// What happens to what is over a rate.
    pub over_rate: OverRate,
}

/// Rates of publishes; `None`: no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rates {
    /// Events a second.
    pub events: Option<Rate>,
    /// Bytes of packets a second.
    pub bytes: Option<Rate>,
}

impl Rates {
    /// Whether there is nothing to hold anybody to.
    #[must_use]
    pub const fn is_unlimited(&self) -> bool {
        self.events.is_none() && self.bytes.is_none()
    }

    /// What clients of this listener may publish together.
    #[must_use]
    pub fn of_listener(listener: &ListenerConfig) -> Self {
        Self {
            events: Rate::per_second(listener.publish_rate),
            bytes: Rate::per_second(listener.publish_bytes_rate),
        }
    }
}

impl Limits {
    /// Limits out of the configuration.
    #[must_use]
    pub fn new(config: &AdmissionConfig) -> Self {
        Self {
            connections: config.max_connections,
            connections_per_address: config.max_connections_per_address,
            handshakes: config.max_handshakes,
            storm: StormOptions {
                connects: Rate::per_second(config.connect_rate),
                address_connects: Rate::per_second(config.connect_rate_per_address),
                flap_connects: config.flap_connects,
                flap_hold_off_ms: u64::try_from(config.flap_hold_off.as_millis()).unwrap_or(u64::MAX),
            },
            subscriptions: config.max_subscriptions_per_client,
            filter_levels: config.max_filter_levels,
            payload_bytes: config.max_payload_bytes,
            client: Rates {
                events: Rate::per_second(config.client_publish_rate),
                bytes: Rate::per_second(config.client_publish_bytes_rate),
            },
            over_rate: config.over_rate,
        }
    }

    /// Whether a payload may be as long.
    ///
    /// # Errors
    /// [`Reason::PayloadTooLarge`].
    pub const fn check_payload(&self, bytes: usize) -> Result<(), Reason> {
        if bytes <= self.payload_bytes { Ok(()) } else { Err(Reason::PayloadTooLarge) }
    }

    /// Whether a Topic Filter may be as deep.
    ///
    /// # Errors
    /// [`Reason::FilterTooDeep`].
    pub fn check_filter(&self, filter: &str) -> Result<(), Reason> {
        let levels = 1 + filter.bytes().filter(|byte| *byte == b'/').count();
        if levels <= self.filter_levels { Ok(()) } else { Err(Reason::FilterTooDeep) }
    }

    /// Whether a client that has so many subscriptions may have one more.
    ///
    /// # Errors
    /// [`Reason::MaxSubscriptions`].
    pub const fn check_subscriptions(&self, has: usize) -> Result<(), Reason> {
        if has < self.subscriptions { Ok(()) } else { Err(Reason::MaxSubscriptions) }
    }
}

/// What a client is told with a refusal for this reason, where it can be told; what is no refusal of a client is an unspecified error.
#[must_use]
pub const fn reason_code(reason: Reason) -> ReasonCode {
    match reason {
        Reason::MaxConnections | Reason::Handshakes | Reason::NoNewSessions => ReasonCode::ServerBusy,
        Reason::LogUnavailable | Reason::LogFailed | Reason::ReadOnly => ReasonCode::ServerBusy,
        Reason::ConnectRate | Reason::AddressConnectRate | Reason::ConnectsPaced | Reason::Flapping => {
            ReasonCode::ConnectionRateExceeded
        }
        Reason::AddressConnections
        | Reason::ListenerConnections
        | Reason::TooLarge
        | Reason::PayloadTooLarge
        | Reason::RetainedFull
        | Reason::LogFull
        | Reason::MaxSubscriptions
        | Reason::SlowSubscriber
        | Reason::SessionOverQuota
        | Reason::OverShare
        | Reason::Offender => ReasonCode::QuotaExceeded,
        Reason::ClientEventRate
        | Reason::ClientByteRate
        | Reason::ListenerEventRate
        | Reason::ListenerByteRate => ReasonCode::MessageRateTooHigh,
        Reason::NotAuthorized => ReasonCode::NotAuthorized,
        Reason::ReservedTopic => ReasonCode::TopicNameInvalid,
        Reason::FilterTooDeep | Reason::FilterRefused => ReasonCode::TopicFilterInvalid,
        Reason::ReceiveMaximumExceeded => ReasonCode::ReceiveMaximumExceeded,
        Reason::KeepAlive => ReasonCode::KeepAliveTimeout,
        Reason::TakenOver => ReasonCode::SessionTakenOver,
        Reason::ShuttingDown => ReasonCode::ServerShuttingDown,
        Reason::Malformed => ReasonCode::MalformedPacket,
        Reason::ProtocolError => ReasonCode::ProtocolError,
        _ => ReasonCode::UnspecifiedError,
    }
}

/// Whose rates these are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// One client.
    Client,
    /// All clients of a listener.
    Listener,
}

/// A publish is over a rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooFast {
    /// Which rate.
    pub reason: Reason,
    /// In how many milliseconds it is within it.
    pub wait_ms: u64,
}

/// What is left of some [`Rates`]. A client has one only where rates are configured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Throttle {
    rates: Rates,
    scope: Scope,
    events: Bucket,
    bytes: Bucket,
}

impl Throttle {
    /// Nothing is used up yet.
    #[must_use]
    pub fn new(rates: Rates, scope: Scope, now_ms: u64) -> Self {
        // A bucket without a rate is never asked.
        const NONE: Rate = Rate { per_second: 1.0, burst: 1.0 };
        let full = |rate: Option<Rate>| Bucket::full(rate.unwrap_or(NONE), now_ms);
        Self { rates, scope, events: full(rates.events), bytes: full(rates.bytes) }
    }

    /// Judges one publish by these rates. `None`: it is within them, and is taken as far as they are concerned.
    ///
    /// `can_refuse`: its client can be told that it was not taken (MQTT 5).
    pub fn judge(
        &mut self,
        now_ms: u64,
        bytes: usize,
        qos: QoS,
        over_rate: OverRate,
        can_refuse: bool,
    ) -> Option<Judgement> {
        let on_credit = qos != QoS::AtMostOnce
            && (over_rate == OverRate::Delay || (over_rate == OverRate::Refuse && !can_refuse));
        let TooFast { reason, wait_ms } = match on_credit {
            true => self.owe(now_ms, bytes)?,
            false => self.take(now_ms, bytes).err()?,
        };
        Some(match over_rate {
            OverRate::Disconnect => Judgement::Disconnect(reason),
            _ if qos == QoS::AtMostOnce => Judgement::Shed(reason),
            _ if on_credit => Judgement::TakeLate { wait_ms, reason },
            _ => Judgement::Refuse(reason),
        })
    }

    /// Takes one event if it is within both rates; otherwise takes nothing.
    ///
    /// # Errors
    /// The rate it is over.
    pub fn take(&mut self, now_ms: u64, bytes: usize) -> Result<(), TooFast> {
        let before = self.events;
        if let Some(rate) = self.rates.events {
            let reason = self.event_reason();
            let fast = |wait_ms| TooFast { reason, wait_ms };
            self.events.take(rate, now_ms, 1.0).map_err(fast)?;
        }
        if let Some(rate) = self.rates.bytes
            && let Err(wait_ms) = self.bytes.take(rate, now_ms, bytes as f64)
        {
            self.events = before;
            return Err(TooFast { reason: self.byte_reason(), wait_ms });
        }
        Ok(())
    }

    /// Takes one event in any case. How long until it is paid for, if it is over a rate; the longer of the two.
    pub fn owe(&mut self, now_ms: u64, bytes: usize) -> Option<TooFast> {
        let debt_secs = (LATE_MS_MAX / 1000) as f64;
        let owe = |bucket: &mut Bucket, rate: Option<Rate>, units: f64| {
            rate.map_or(0, |rate| bucket.owe(rate, now_ms, units, debt_secs))
        };
        let events_ms = owe(&mut self.events, self.rates.events, 1.0);
        let bytes_ms = owe(&mut self.bytes, self.rates.bytes, bytes as f64);
        match (events_ms, bytes_ms) {
            (0, 0) => None,
            _ if events_ms >= bytes_ms => Some(TooFast { reason: self.event_reason(), wait_ms: events_ms }),
            _ => Some(TooFast { reason: self.byte_reason(), wait_ms: bytes_ms }),
        }
    }

    const fn event_reason(&self) -> Reason {
        match self.scope {
            Scope::Client => Reason::ClientEventRate,
            Scope::Listener => Reason::ListenerEventRate,
        }
    }

    const fn byte_reason(&self) -> Reason {
        match self.scope {
            Scope::Client => Reason::ClientByteRate,
            Scope::Listener => Reason::ListenerByteRate,
        }
    }
}

#[cfg(test)]
#[path = "limits_tests.rs"]
mod tests;
