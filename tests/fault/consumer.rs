//! A subscriber at QoS 1 that acknowledges all it gets, comes back whenever its connection breaks, and keeps a
//! [`Tally`].

use std::io;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use gateway_protocol::codec::encode_puback;
use gateway_protocol::packet::{Packet, Subscribe, SubscribeFiltersBuf, SubscribeOptions};
use gateway_protocol::{PacketId, Properties, ProtocolVersion, QoS, ReasonCode, TopicFilter, encode};
use gateway_tests::Hello;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokio::sync::watch;

use crate::event::Event;
use crate::fleet::{Orders, gateway_up};
use crate::tally::Tally;
use crate::wire::{Wire, ends};

/// What a consumer has received; read while it runs.
pub(crate) struct Ledger(Mutex<(Tally, u32)>);

impl Ledger {
    pub(crate) fn new(publishers: usize) -> Self {
        Self::of(Tally::new(publishers))
    }

    /// With a tally of the caller's.
    pub(crate) const fn of(tally: Tally) -> Self {
        Self(Mutex::new((tally, 0)))
    }

    /// The tally, and how many times the connection broke.
    pub(crate) fn look(&self) -> MutexGuard<'_, (Tally, u32)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A consumer's own deaths: how long it lives, and how long it is away, in milliseconds.
#[derive(Clone, Debug)]
pub(crate) struct Deaths {
    pub(crate) seed: u64,
    pub(crate) lives_ms: Range<u64>,
    pub(crate) away_ms: Range<u64>,
}

/// Who it is and what it wants.
pub(crate) struct Consumer {
    pub(crate) address: SocketAddr,
    pub(crate) hello: Hello,
    pub(crate) filter: &'static str,
    /// It dies now and then, as long as events are published.
    pub(crate) deaths: Option<Deaths>,
}

impl Consumer {
    /// Consumes until it is aborted. `subscribed` is set once its first SUBACK is there.
    pub(crate) async fn run(
        self,
        mut orders: watch::Receiver<Orders>,
        ledger: &Ledger,
        subscribed: watch::Sender<bool>,
    ) {
        let mut deaths = self.deaths.clone().map(|deaths| (ChaCha8Rng::seed_from_u64(deaths.seed), deaths));
        loop {
            gateway_up(&mut orders).await;
            let life = match &mut deaths {
                Some((rng, deaths)) if orders.borrow().publish => {
                    Duration::from_millis(rng.random_range(deaths.lives_ms.clone()))
                }
                _ => Duration::MAX,
            };
            let ended = tokio::time::timeout(life, self.consume(ledger, &subscribed)).await;
            ledger.look().1 += 1;
            let pause = match (&mut deaths, ended) {
                (Some((rng, deaths)), Err(_)) => rng.random_range(deaths.away_ms.clone()),
                _ => 20,
            };
            tokio::time::sleep(Duration::from_millis(pause)).await;
        }
    }

    /// On one connection, until it breaks.
    async fn consume(&self, ledger: &Ledger, subscribed: &watch::Sender<bool>) -> io::Result<()> {
        let (mut wire, session_present) = Wire::connect(self.address, &self.hello).await?;
        if *subscribed.borrow() {
            assert!(session_present, "the session of {} is lost", self.hello.client_id);
        } else {
            wire.write(&subscribe(self.filter, QoS::AtLeastOnce, wire.version())).await?;
        }
        let mut out = Vec::new();
        loop {
            {
                let (out, version) = (&mut out, wire.version());
                wire.read(|packet| {
                    match packet {
                        Packet::Publish(publish) => {
                            ledger.look().0.take(Event::read(publish.payload));
                            let packet_id = publish.packet_id.expect("a delivery at QoS 1");
                            encode_puback(packet_id, ReasonCode::Success, version, out);
                        }
                        Packet::SubAck(ack) => {
                            assert!(ack.reason_codes.iter().eq([ReasonCode::GrantedQos1]), "{ack:?}");
                            subscribed.send_replace(true);
                        }
                        // The end of the connection follows.
                        Packet::Disconnect(last) if ends(last.reason_code) => {}
                        other => panic!("{}: {other:?}", self.hello.client_id),
                    }
                    true
                })
                .await?;
            }
            if !out.is_empty() {
                wire.write(&out).await?;
                out.clear();
            }
        }
    }
}

/// A SUBSCRIBE to `filter`, as its packet.
pub(crate) fn subscribe(filter: &str, qos: QoS, version: ProtocolVersion) -> Vec<u8> {
    let mut filters = SubscribeFiltersBuf::new();
    filters.push(TopicFilter::parse(filter).expect("a Topic Filter"), SubscribeOptions::at_most(qos));
    let packet_id = PacketId::new(1).expect("not 0");
    let packet = Subscribe { packet_id, properties: Properties::default(), filters: filters.as_filters() };
    let mut bytes = Vec::new();
    encode(&Packet::Subscribe(packet), version, &mut bytes).expect("a legal SUBSCRIBE");
    bytes
}
