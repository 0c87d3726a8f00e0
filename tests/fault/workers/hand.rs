//! One worker of a consumer, on one connection.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use gateway_protocol::codec::encode_puback;
use gateway_protocol::packet::{Packet, Publish};
use gateway_protocol::{Property, ProtocolVersion, QoS, ReasonCode};
use gateway_tests::Hello;

use crate::consumer::subscribe;
use crate::event::Event;
use crate::wire::{Wire, ends};

/// One hand-out of an event.
#[derive(Clone, Copy, Debug)]
pub(super) struct HandOut {
    pub(super) event: Event,
    pub(super) attempt: u32,
    pub(super) offset: u64,
    /// When it was here.
    pub(super) at: Instant,
    /// It was not handed out before this moment: the worker had said of fewer than it takes at a time that they are done.
    pub(super) not_before: Instant,
}

impl HandOut {
    /// How long after it was due it came: since the lease before was over, and the worker had room for it.
    pub(super) fn late(&self, before: &Self, ack_wait: Duration) -> Duration {
        self.at.saturating_duration_since(self.not_before.max(before.at + ack_wait))
    }
}

/// A worker. Dropped, it is gone without a word.
pub(super) struct Hand {
    wire: Wire,
    takes: usize,
    began: Instant,
    received: usize,
    answered: usize,
    /// When the last answers were sent, those that may matter.
    answers: VecDeque<Instant>,
    out: Vec<u8>,
}

impl Hand {
    /// Connects and takes part, with up to `takes` events at a time.
    pub(super) async fn join(
        address: SocketAddr,
        name: &str,
        takes: u16,
        consumer: &str,
    ) -> io::Result<Self> {
        let hello = Hello::new(ProtocolVersion::V5, name).with(Property::ReceiveMaximum(takes));
        let (mut wire, _) = Wire::connect(address, &hello).await?;
        let began = Instant::now();
        wire.write(&subscribe(&format!("$consumer/{consumer}"), QoS::AtLeastOnce, wire.version())).await?;
        let mut is_subscribed = false;
        while !is_subscribed {
            wire.read(|packet| match packet {
                Packet::SubAck(ack) => {
                    assert!(ack.reason_codes.iter().eq([ReasonCode::GrantedQos1]), "{ack:?}");
                    is_subscribed = true;
                    false
                }
                Packet::Disconnect(last) if ends(last.reason_code) => false,
                other => panic!("{name}: {other:?}"),
            })
            .await?;
        }
        let takes = usize::from(takes);
        Ok(Self { wire, takes, began, received: 0, answered: 0, answers: VecDeque::new(), out: Vec::new() })
    }

    /// Reads once. `judge` says what became of each event; `None`: nothing is said about it.
    pub(super) async fn work(
        &mut self,
        mut judge: impl FnMut(&HandOut) -> Option<ReasonCode>,
    ) -> io::Result<()> {
        let version = self.wire.version();
        let Self { wire, takes, began, received, answered, answers, out } = self;
        let mut said = 0;
        wire.read(|packet| {
            match packet {
                Packet::Publish(publish) => {
                    // With this one `received + 1` have come, and at most `takes` of them were unanswered when it was handed out.
                    let needed = (*received + 1).saturating_sub(*takes);
                    assert!(needed <= *answered, "more at a time than Receive Maximum");
                    while *answered - answers.len() + 1 < needed {
                        answers.pop_front();
                    }
                    let not_before = if needed == 0 { *began } else { *answers.front().unwrap_or(began) };
                    *received += 1;
                    let hand_out = read(&publish, not_before);
                    if let Some(reason) = judge(&hand_out) {
                        let packet_id = publish.packet_id.expect("a delivery at QoS 1");
                        encode_puback(packet_id, reason, version, out);
                        said += 1;
                    }
                }
                // The end of the connection follows.
                Packet::Disconnect(last) if ends(last.reason_code) => {}
                other => panic!("a worker got {other:?}"),
            }
            true
        })
        .await?;
        if said > 0 {
            let now = Instant::now();
            self.answers.extend((0..said).map(|_| now));
            self.answered += said;
            self.wire.write(&self.out).await?;
            self.out.clear();
        }
        Ok(())
    }
}

fn read(publish: &Publish<'_>, not_before: Instant) -> HandOut {
    let number = |wanted: &str| {
        let mut properties = publish.properties.user_properties();
        let found = properties.find_map(|(name, value)| (name == wanted).then(|| value.parse().ok())?);
        found.unwrap_or_else(|| panic!("no {wanted}: {publish:?}"))
    };
    HandOut {
        event: Event::read(publish.payload),
        attempt: number("attempt") as u32,
        offset: number("offset"),
        at: Instant::now(),
        not_before,
    }
}
