//! The receiving half of QoS 2: which identifiers were received and not released outlives the connection.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use gateway_protocol::packet::{Ack, Packet, Publish};
use gateway_protocol::{PacketId, Properties, ProtocolVersion, QoS, ReasonCode, encode};
use gateway_tests::Hello;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokio::sync::watch;

use crate::consumer::{Deaths, subscribe};
use crate::event::Event;
use crate::fleet::{Orders, gateway_up};
use crate::tally::Tally;
use crate::wire::Wire;

/// What was received waits up to so many milliseconds for its answer, so that an end of the gateway meets flows in
/// every state.
const ANSWERED_AFTER_MS: std::ops::Range<u64> = 0..25;

/// What a subscriber knows. All of it outlives its connections.
pub(crate) struct Books {
    /// Events that were handed on: each at the first PUBLISH with its identifier.
    pub(crate) tally: Tally,
    /// Received and not released.
    pub(crate) held: HashMap<PacketId, Event>,
    /// PUBLISH of something held: recognized and not handed on.
    pub(crate) recognized: u64,
    /// Of these, those that did not say they were sent before.
    pub(crate) without_dup: u64,
    /// PUBREL of something released before.
    pub(crate) released_again: u64,
    /// Connections that broke.
    pub(crate) broken: u64,
}

/// The [`Books`], read while the subscriber runs.
pub(crate) struct Ledger(Mutex<Books>);

impl Ledger {
    pub(crate) fn new(publishers: usize) -> Self {
        Self(Mutex::new(Books {
            tally: Tally::new(publishers),
            held: HashMap::new(),
            recognized: 0,
            without_dup: 0,
            released_again: 0,
            broken: 0,
        }))
    }

    pub(crate) fn look(&self) -> MutexGuard<'_, Books> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Books {
    fn receive(&mut self, publish: &Publish<'_>) -> PacketId {
        assert_eq!(publish.qos, QoS::ExactlyOnce);
        let packet_id = publish.packet_id.expect("a delivery at QoS 2");
        let event = Event::read(publish.payload);
        match self.held.insert(packet_id, event) {
            None => self.tally.take(event),
            Some(held) => {
                assert_eq!(held, event, "{packet_id:?} is given to another event before its PUBREL");
                self.recognized += 1;
                self.without_dup += u64::from(!publish.dup);
            }
        }
        packet_id
    }

    fn release(&mut self, packet_id: PacketId) -> ReasonCode {
        match self.held.remove(&packet_id) {
            Some(_) => ReasonCode::Success,
            None => {
                self.released_again += 1;
                ReasonCode::PacketIdentifierNotFound
            }
        }
    }
}

/// Who it is.
pub(crate) struct Subscriber {
    pub(crate) address: SocketAddr,
    pub(crate) hello: Hello,
    pub(crate) seed: u64,
    /// Its connection breaks now and then, as long as events are published.
    pub(crate) deaths: Option<Deaths>,
}

impl Subscriber {
    /// Receives until it is aborted. `subscribed` is set once its first SUBACK is there.
    pub(crate) async fn run(
        self,
        mut orders: watch::Receiver<Orders>,
        ledger: &Ledger,
        subscribed: watch::Sender<bool>,
    ) {
        let mut pauses = ChaCha8Rng::seed_from_u64(self.seed);
        let mut deaths = self.deaths.clone().map(|deaths| (ChaCha8Rng::seed_from_u64(deaths.seed), deaths));
        loop {
            gateway_up(&mut orders).await;
            let (life, away) = match &mut deaths {
                Some((rng, deaths)) if orders.borrow().publish => {
                    (rng.random_range(deaths.lives_ms.clone()), rng.random_range(deaths.away_ms.clone()))
                }
                _ => (u64::MAX, 20),
            };
            let connection = self.receive(ledger, &subscribed, &mut pauses);
            let _ = tokio::time::timeout(Duration::from_millis(life), connection).await;
            ledger.look().broken += 1;
            tokio::time::sleep(Duration::from_millis(away)).await;
        }
    }

    /// On one connection, until it breaks.
    async fn receive(
        &self,
        ledger: &Ledger,
        subscribed: &watch::Sender<bool>,
        pauses: &mut ChaCha8Rng,
    ) -> io::Result<()> {
        let (mut wire, session_present) = Wire::connect(self.address, &self.hello).await?;
        let version = wire.version();
        if *subscribed.borrow() {
            assert!(session_present, "the session of {} is lost", self.hello.client_id);
        } else {
            wire.write(&subscribe("devices/#", QoS::ExactlyOnce, version)).await?;
        }
        // PUBRECs of this connection that no PUBREL has answered.
        let mut unanswered = VecDeque::new();
        let mut out = Vec::new();
        loop {
            wire.read(|packet| {
                match packet {
                    Packet::Publish(publish) => {
                        let packet_id = ledger.look().receive(&publish);
                        unanswered.push_back(packet_id);
                        let ack = answer(packet_id, ReasonCode::Success);
                        put(&Packet::PubRec(ack), version, &mut out);
                    }
                    Packet::PubRel(rel) => {
                        assert_eq!(rel.reason_code, ReasonCode::Success, "{}", self.hello.client_id);
                        if unanswered.contains(&rel.packet_id) {
                            assert_eq!(
                                unanswered.pop_front(),
                                Some(rel.packet_id),
                                "PUBRELs come in the order of the PUBRECs [MQTT-4.6.0-4]"
                            );
                        }
                        let reason_code = ledger.look().release(rel.packet_id);
                        put(&Packet::PubComp(answer(rel.packet_id, reason_code)), version, &mut out);
                    }
                    Packet::SubAck(ack) => {
                        assert!(ack.reason_codes.iter().eq([ReasonCode::GrantedQos2]), "{ack:?}");
                        subscribed.send_replace(true);
                    }
                    // The drain; the end of the connection follows.
                    Packet::Disconnect(last) if last.reason_code == ReasonCode::ServerShuttingDown => {}
                    other => panic!("{}: {other:?}", self.hello.client_id),
                }
                true
            })
            .await?;
            if !out.is_empty() {
                let pause = Duration::from_millis(pauses.random_range(ANSWERED_AFTER_MS));
                tokio::time::sleep(pause).await;
                wire.write(&out).await?;
                out.clear();
            }
        }
    }
}

fn answer(packet_id: PacketId, reason_code: ReasonCode) -> Ack<'static> {
    Ack { packet_id, reason_code, properties: Properties::default() }
}

fn put(packet: &Packet<'_>, version: ProtocolVersion, out: &mut Vec<u8>) {
    encode(packet, version, out).expect("a legal acknowledgement");
}
