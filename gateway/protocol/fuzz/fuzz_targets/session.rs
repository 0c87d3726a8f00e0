//! A session between a peer that sends anything and a host that keeps to the calling order: it does not panic, writes whole packets
//! only, and keeps both quotas.
//!
//! The input is a program: a first byte of settings, then steps of an operation and its arguments. Packets go through the decoder
//! as they would from a socket.
#![no_main]

use gateway_protocol::session::{Accepted, Closed, Delivery, Event, Millis, Sent, ServerLimits, Session};
use gateway_protocol::{Decoded, Packet, PacketId, QoS, ReasonCode, decode};
use libfuzzer_sys::fuzz_target;
use std::collections::BTreeSet;
use std::sync::Arc;

const MAX_PACKET_BYTES: usize = 4096;

fuzz_target!(|input: &[u8]| {
    let Some((settings, mut program)) = input.split_first() else { return };
    let mut host = Host::new(*settings);
    while let Some((operation, rest)) = program.split_first()
        && host.is_open
    {
        program = host.step(*operation, rest);
        host.check();
    }
});

struct Host {
    limits: Arc<ServerLimits>,
    session: Session,
    now: Millis,
    out: Vec<u8>,
    is_open: bool,
    publishes: usize,
    released: Vec<PacketId>,
    received: Vec<u64>,
    next: u64,
    in_flight: BTreeSet<PacketId>,
}

impl Host {
    fn new(settings: u8) -> Self {
        let flag = |bit: u8| settings & bit != 0;
        let limits = Arc::new(ServerLimits {
            max_qos: if flag(1) { QoS::ExactlyOnce } else { QoS::AtLeastOnce },
            retain_available: flag(2),
            wildcard_subscription_available: true,
            shared_subscription_available: flag(4),
            subscription_identifiers_available: flag(8),
            receive_maximum: if flag(16) { 2 } else { 8 },
            max_inflight: if flag(32) { 2 } else { 8 },
            max_packet_bytes: MAX_PACKET_BYTES as u32,
            server_keep_alive_secs: if flag(64) { 10 } else { 0 },
            topic_alias_maximum: if flag(128) { 2 } else { 0 },
            session_expiry_max_secs: 3600,
            allow_empty_client_id: flag(64),
            connect_timeout_ms: 5000,
        });
        let mut session = Session::new(Arc::clone(&limits), Millis(0));
        // Close before the identifiers of the durable lane begin again.
        let next = 49_149;
        session.resume(next, [9, 10].into_iter().filter_map(PacketId::new));
        Self {
            limits,
            session,
            now: Millis(0),
            out: Vec::new(),
            is_open: true,
            publishes: 0,
            released: Vec::new(),
            received: Vec::new(),
            next,
            in_flight: BTreeSet::new(),
        }
    }

    /// Does one step; what is left of the program.
    fn step<'p>(&mut self, operation: u8, program: &'p [u8]) -> &'p [u8] {
        self.out.clear();
        let argument = program.first().copied().unwrap_or_default();
        let rest = program.get(1..).unwrap_or_default();
        let Self { session, out, .. } = self;
        match operation {
            // What a packet begins with is a packet.
            0x10.. => return self.packet(operation, program),
            0 => {
                let count = usize::from(argument).min(self.publishes);
                session.handle_durable(count, out);
                self.publishes -= count;
            }
            1 => {
                if !self.released.is_empty() {
                    session.handle_released(self.released.remove(0), out);
                }
            }
            2 => {
                if !self.received.is_empty() {
                    session.handle_remembered(self.received.remove(0), out);
                }
            }
            3 => {
                self.now = self.now.plus(u64::from(argument) * 100);
                self.is_open = session.handle_timeout(self.now, out).is_ok();
            }
            4 => {
                if session.resume_release(self.next, out) {
                    let id = PacketId::new(u16::from_be_bytes([out[2], out[3]])).expect("not 0");
                    assert!(self.in_flight.insert(id), "{id} is in flight");
                    self.next += 1;
                }
            }
            5 => {
                let reason = ReasonCode::from_u8(argument).unwrap_or(ReasonCode::ServerShuttingDown);
                session.close(reason, (argument & 1 == 1).then_some("why"), out);
                self.is_open = false;
            }
            6 => session.suback(PacketId::new(7).expect("not 0"), &[argument & 0x80], out),
            7 => session.unsuback(PacketId::new(7).expect("not 0"), &[argument & 0x80], out),
            8 => session.excuse_silence(self.now),
            _ => self.deliver(argument),
        }
        rest
    }

    fn deliver(&mut self, argument: u8) {
        let qos = QoS::from_u8(argument & 3).unwrap_or(QoS::AtLeastOnce);
        let is_durable = argument & 4 != 0;
        let delivery = Delivery {
            qos,
            retain: argument & 8 != 0,
            dup: argument & 16 != 0,
            sequence: is_durable.then_some(self.next),
            topic: if argument & 32 != 0 { "commands/1" } else { "commands/2" },
            extra: &[],
            properties: &[],
            payload: &[0; 40][..usize::from(argument >> 6) * 10],
        };
        match self.session.handle_delivery(&delivery, &mut self.out) {
            Sent::Written if is_durable => self.next += 1 + u64::from(argument >> 6),
            Sent::Written => {}
            Sent::QuotaExhausted | Sent::TooLarge | Sent::Closed => assert!(self.out.is_empty()),
        }
    }

    fn packet<'p>(&mut self, first: u8, program: &'p [u8]) -> &'p [u8] {
        if !self.session.wants_read() {
            self.session.handle_durable(1, &mut self.out);
            self.publishes -= 1;
        }
        let mut bytes = vec![first];
        bytes.extend_from_slice(program);
        match decode(&bytes, self.session.version(), MAX_PACKET_BYTES) {
            Ok(Decoded::Packet { packet, consumed }) => {
                self.handle(packet);
                &program[consumed - 1..]
            }
            Ok(Decoded::Incomplete { .. }) => &[],
            Err(error) => {
                self.session.handle_malformed(error, &mut self.out);
                self.is_open = false;
                &[]
            }
        }
    }

    fn handle(&mut self, packet: Packet<'_>) {
        let finished = match packet {
            Packet::PubAck(ack) | Packet::PubComp(ack) | Packet::PubRec(ack) => Some(ack.packet_id),
            _ => None,
        };
        match self.session.handle_packet(self.now, packet, &mut self.out) {
            Ok(Event::Connect(connect)) => {
                let assigned_client_id = connect.client_id.is_empty().then_some("assigned");
                let accepted = Accepted { session_present: true, assigned_client_id };
                // Refused where the CONNACK is larger than the client takes; the session is closed then.
                let _ = self.session.accept(self.now, accepted, &mut self.out);
            }
            Ok(Event::Publish(publish)) => {
                let topic = self.session.topic_of(&publish).to_owned();
                assert!(!topic.is_empty(), "a Topic Name, or an alias that is known");
                if publish.packet_id.is_some() {
                    self.publishes += 1;
                    if topic.starts_with('$') {
                        self.session.refuse_publish(ReasonCode::NotAuthorized);
                    }
                }
            }
            Ok(Event::Released { packet_id }) => self.released.push(packet_id),
            Ok(Event::Received { sequence }) => self.received.push(sequence),
            Ok(Event::Acknowledged { .. }) => {
                let id = finished.expect("only an acknowledgement acknowledges");
                assert!(self.in_flight.remove(&id), "{id} was not in flight");
            }
            Ok(Event::Subscribe(subscribe)) => {
                let codes: Vec<u8> = subscribe.filters.iter().map(|(_, options)| options.qos as u8).collect();
                self.session.suback(subscribe.packet_id, &codes, &mut self.out);
            }
            Ok(Event::Unsubscribe(unsubscribe)) => {
                let codes = vec![0; unsubscribe.filters.iter().count()];
                self.session.unsuback(unsubscribe.packet_id, &codes, &mut self.out);
            }
            Ok(Event::Handled) => {}
            Ok(Event::Disconnect { .. }) | Err(Closed { .. }) => self.is_open = false,
        }
    }

    /// What the last step wrote, and where the quotas stand.
    fn check(&mut self) {
        let version = self.session.version();
        let mut rest = self.out.as_slice();
        while !rest.is_empty() {
            let Ok(Decoded::Packet { packet, consumed }) = decode(rest, version, usize::MAX) else {
                panic!("the session wrote {rest:02x?}, which is no packet");
            };
            if let Packet::Publish(publish) = packet
                && let Some(id) = publish.packet_id
            {
                assert!(self.in_flight.insert(id), "{id} is in flight");
            }
            rest = &rest[consumed..];
        }
        let quota = self.limits.max_inflight.min(self.session.client_limits().receive_maximum);
        assert!(self.in_flight.len() <= usize::from(quota), "[MQTT-3.3.4-9]");
        assert_eq!(self.session.send_quota() + self.in_flight.len(), self.quota());
        assert_eq!(self.session.unacknowledged_inbound(), self.publishes);
        assert!(self.publishes <= usize::from(self.limits.receive_maximum));
        assert!(self.is_open || self.session.poll_timeout().is_none(), "closed for good");
    }

    fn quota(&self) -> usize {
        usize::from(self.session.client_limits().receive_maximum)
    }
}
