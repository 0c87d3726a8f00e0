//! What the session does with each packet in each of its states, as a table: `golden/transitions.txt`.
//!
//! A changed transition shows in review as a changed line. `GATEWAY_GOLDEN=write cargo test -p gateway-protocol --test
//! transitions` writes the table anew.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "all of this is a test: what is not as expected is to fail it"
)]

use gateway_protocol::packet::{
    Ack, Auth, ConnAck, Connect, Disconnect, Publish, ReasonCodes, SubAck, Subscribe, SubscribeFiltersBuf,
    SubscribeOptions, UnsubAck, Unsubscribe, UnsubscribeFiltersBuf, Will,
};
use gateway_protocol::session::{Accepted, Closed, Delivery, Event, Millis, Sent, ServerLimits, Session};
use gateway_protocol::{
    DecodeError, Decoded, Packet, PacketId, Properties, PropertiesBuf, Property, ProtocolVersion, QoS,
    ReasonCode, TopicFilter, TopicName, decode,
};
use std::fmt::Write as _;
use std::sync::Arc;

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/transitions.txt");
const REGENERATE: &str = "GATEWAY_GOLDEN";

const HEAD: &str = "\
# state | input | version | event | written | next state
#
# When connected, these Packet Identifiers have a past.
# From the client: 7 QoS 1 and 8 QoS 2 wait for the host; 9 QoS 2 has its PUBREC.
# To the client: 1 QoS 1; 2 QoS 2; 3 QoS 2 that the client has, not stored yet; 4 QoS 2 whose PUBREL was sent.
";

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    AwaitingConnect,
    Connecting,
    Connected,
    Closed,
}

impl State {
    const ALL: [Self; 4] = [Self::AwaitingConnect, Self::Connecting, Self::Connected, Self::Closed];

    const fn name(self) -> &'static str {
        match self {
            Self::AwaitingConnect => "awaiting connect",
            Self::Connecting => "connecting",
            Self::Connected => "connected",
            Self::Closed => "closed",
        }
    }

    fn of(session: &Session) -> Self {
        match session {
            session if session.is_awaiting_connect() => Self::AwaitingConnect,
            session if session.is_connected() => Self::Connected,
            // Only a closed session waits for nothing: the Keep Alive here is not 0.
            session if session.poll_timeout().is_some() => Self::Connecting,
            _ => Self::Closed,
        }
    }
}

fn limits() -> ServerLimits {
    ServerLimits {
        max_qos: QoS::ExactlyOnce,
        retain_available: false,
        wildcard_subscription_available: true,
        shared_subscription_available: true,
        subscription_identifiers_available: true,
        receive_maximum: 4,
        max_inflight: 10,
        max_packet_bytes: 1 << 20,
        server_keep_alive_secs: 0,
        topic_alias_maximum: 2,
        session_expiry_max_secs: 3600,
        allow_empty_client_id: true,
        connect_timeout_ms: 5000,
    }
}

fn connect(version: ProtocolVersion) -> Connect<'static> {
    Connect {
        version,
        clean_start: true,
        keep_alive_secs: 10,
        properties: Properties::default(),
        client_id: "device",
        will: None,
        user_name: None,
        password: None,
    }
}

fn id(value: u16) -> PacketId {
    PacketId::new(value).unwrap()
}

fn publish(qos: QoS, value: u16) -> Publish<'static> {
    Publish {
        dup: false,
        qos,
        retain: false,
        topic: "devices/1",
        packet_id: PacketId::new(value),
        properties: Properties::default(),
        payload: b"x",
    }
}

/// A session in `state`, its past as the head of the table tells it.
fn session(state: State, version: ProtocolVersion) -> Session {
    let mut session = Session::new(Arc::new(limits()), Millis(0));
    let mut out = Vec::new();
    if state == State::AwaitingConnect {
        return session;
    }
    let mut handle = |session: &mut Session, packet| {
        assert!(session.handle_packet(Millis(0), packet, &mut out).is_ok());
    };
    handle(&mut session, Packet::Connect(connect(version)));
    if state == State::Connecting {
        return session;
    }
    assert!(
        session
            .accept(Millis(0), Accepted { session_present: false, assigned_client_id: None }, &mut Vec::new())
            .is_ok()
    );
    handle(&mut session, Packet::Publish(publish(QoS::ExactlyOnce, 9)));
    session.handle_durable(1, &mut Vec::new());
    handle(&mut session, Packet::Publish(publish(QoS::AtLeastOnce, 7)));
    handle(&mut session, Packet::Publish(publish(QoS::ExactlyOnce, 8)));
    for (sequence, qos) in (0..).zip([QoS::AtLeastOnce, QoS::ExactlyOnce, QoS::ExactlyOnce, QoS::ExactlyOnce])
    {
        let delivery = Delivery {
            qos,
            retain: false,
            dup: false,
            sequence: Some(sequence),
            topic: "commands/1",
            extra: &[],
            properties: &[],
            payload: b"x",
        };
        assert_eq!(session.handle_delivery(&delivery, &mut Vec::new()), Sent::Written);
    }
    handle(&mut session, Packet::PubRec(Ack::success(id(3))));
    handle(&mut session, Packet::PubRec(Ack::success(id(4))));
    session.handle_remembered(3, &mut Vec::new());
    if state == State::Closed {
        session.close(ReasonCode::ServerShuttingDown, None, &mut Vec::new());
    }
    assert!(State::of(&session) == state);
    session
}

/// Applies one input to a session in each state and version, and writes the lines.
struct Table {
    lines: String,
    state: State,
}

type Outcome<'e> = Result<Event<'e>, Closed>;

impl Table {
    fn both(&mut self, name: &str, packets: &[Packet<'_>]) {
        let old = self.row(ProtocolVersion::V3_1_1, packets);
        let new = self.row(ProtocolVersion::V5, packets);
        if old == new {
            self.line(name, "both", &old);
        } else {
            self.line(name, "3.1.1", &old);
            self.line(name, "5", &new);
        }
    }

    fn v5(&mut self, name: &str, packet: Packet<'_>) {
        let row = self.row(ProtocolVersion::V5, &[packet]);
        self.line(name, "5", &row);
    }

    /// The last packet is the input; those before it belong to the past.
    fn row(&self, version: ProtocolVersion, packets: &[Packet<'_>]) -> String {
        let (last, past) = packets.split_last().unwrap();
        self.apply(version, |session, out| {
            for packet in past {
                let _ = session.handle_packet(Millis(1), of_version(*packet, version), out);
            }
            out.clear();
            describe(session.handle_packet(Millis(1), of_version(*last, version), out))
        })
    }

    fn apply(
        &self,
        version: ProtocolVersion,
        input: impl FnOnce(&mut Session, &mut Vec<u8>) -> String,
    ) -> String {
        let mut session = session(self.state, version);
        let mut out = Vec::new();
        let event = input(&mut session, &mut out);
        format!("{event} | {} | {}", written(&out, session.version()), State::of(&session).name())
    }

    fn line(&mut self, name: &str, version: &str, row: &str) {
        writeln!(self.lines, "{} | {name} | {version} | {row}", self.state.name()).unwrap();
    }
}

/// A CONNECT says its version itself.
fn of_version(packet: Packet<'_>, version: ProtocolVersion) -> Packet<'_> {
    match packet {
        Packet::Connect(connect) => Packet::Connect(Connect { version, ..connect }),
        other => other,
    }
}

fn describe(outcome: Outcome<'_>) -> String {
    match outcome {
        Ok(Event::Connect(_)) => "Connect".to_owned(),
        Ok(Event::Publish(_)) => "Publish".to_owned(),
        Ok(Event::Released { packet_id }) => format!("Released {packet_id}"),
        Ok(Event::Received { sequence }) => format!("Received {sequence}"),
        Ok(Event::Subscribe(_)) => "Subscribe".to_owned(),
        Ok(Event::Unsubscribe(_)) => "Unsubscribe".to_owned(),
        Ok(Event::Acknowledged { lane, sequence, reason }) => {
            format!("Acknowledged {lane:?} {sequence} {reason:?}")
        }
        Ok(Event::Disconnect { with_will, .. }) => format!("Disconnect with_will={with_will}"),
        Ok(Event::Handled) => "Handled".to_owned(),
        Err(Closed { reason }) => format!("Closed {reason:?}"),
    }
}

fn written(out: &[u8], version: ProtocolVersion) -> String {
    let (mut rest, mut text) = (out, Vec::new());
    while !rest.is_empty() {
        let Ok(Decoded::Packet { packet, consumed }) = decode(rest, version, usize::MAX) else {
            panic!("the session wrote something that is no packet: {rest:02x?}");
        };
        let hex: Vec<String> = rest[..consumed].iter().map(|byte| format!("{byte:02x}")).collect();
        text.push(format!("{:?} [{}]", packet.packet_type(), hex.join(" ")));
        rest = &rest[consumed..];
    }
    if text.is_empty() { "-".to_owned() } else { text.join(", ") }
}

fn properties(list: &[Property<'_>]) -> PropertiesBuf {
    let mut properties = PropertiesBuf::new();
    for property in list {
        properties.push(*property).unwrap();
    }
    properties
}

fn connection_packets(table: &mut Table) {
    let plain = connect(ProtocolVersion::V5);
    let will = Will {
        qos: QoS::AtMostOnce,
        retain: true,
        topic: TopicName::parse("devices/1/status").unwrap(),
        properties: Properties::default(),
        payload: b"offline",
    };
    table.both("CONNECT", &[Packet::Connect(plain)]);
    table.both(
        "CONNECT, Clean Start, no Client Identifier",
        &[Packet::Connect(Connect { client_id: "", ..plain })],
    );
    let kept = Connect { client_id: "", clean_start: false, ..plain };
    table.both("CONNECT, no Client Identifier", &[Packet::Connect(kept)]);
    table.both("CONNECT, retained Will Message", &[Packet::Connect(Connect { will: Some(will), ..plain })]);
    let method = properties(&[Property::AuthenticationMethod("SCRAM")]);
    let enhanced = Connect { properties: method.as_properties(), ..plain };
    table.v5("CONNECT, Authentication Method", Packet::Connect(enhanced));
    let connack = ConnAck {
        session_present: false,
        reason_code: ReasonCode::Success,
        properties: Properties::default(),
    };
    table.both("CONNACK", &[Packet::ConnAck(connack)]);
    table.both("PINGREQ", &[Packet::PingReq]);
    table.both("PINGRESP", &[Packet::PingResp]);
    let disconnect = Disconnect { reason_code: ReasonCode::Success, properties: Properties::default() };
    table.both("DISCONNECT", &[Packet::Disconnect(disconnect)]);
    let with_will = Disconnect { reason_code: ReasonCode::DisconnectWithWill, ..disconnect };
    table.v5("DISCONNECT, with Will Message", Packet::Disconnect(with_will));
    let expiry = properties(&[Property::SessionExpiryInterval(60)]);
    let longer = Disconnect { properties: expiry.as_properties(), ..disconnect };
    table.v5("DISCONNECT, Session Expiry Interval from 0 to 60", Packet::Disconnect(longer));
    let auth = Auth { reason_code: ReasonCode::ReAuthenticate, properties: method.as_properties() };
    table.v5("AUTH", Packet::Auth(auth));
}

fn publish_packets(table: &mut Table) {
    let one = |qos, value| [Packet::Publish(publish(qos, value))];
    table.both("PUBLISH QoS 0", &one(QoS::AtMostOnce, 0));
    table.both("PUBLISH QoS 1, new", &one(QoS::AtLeastOnce, 10));
    table.both("PUBLISH QoS 1, waits for the host", &one(QoS::AtLeastOnce, 7));
    table.both("PUBLISH QoS 1, identifier of a received QoS 2", &one(QoS::AtLeastOnce, 9));
    table.both("PUBLISH QoS 2, new", &one(QoS::ExactlyOnce, 10));
    table.both("PUBLISH QoS 2, waits for the host", &one(QoS::ExactlyOnce, 8));
    table.both("PUBLISH QoS 2, received", &one(QoS::ExactlyOnce, 9));
    let past = [10, 11].map(|value| Packet::Publish(publish(QoS::AtLeastOnce, value)));
    table.both("PUBLISH QoS 1, past Receive Maximum", &past);
    let plain = publish(QoS::AtMostOnce, 0);
    table.both("PUBLISH, retained", &[Packet::Publish(Publish { retain: true, ..plain })]);
    for (name, topic, property) in [
        ("PUBLISH, Topic Alias given", "devices/1", Property::TopicAlias(1)),
        ("PUBLISH, Topic Alias unknown", "", Property::TopicAlias(1)),
        ("PUBLISH, Topic Alias past the maximum", "devices/1", Property::TopicAlias(3)),
        ("PUBLISH, Subscription Identifier", "devices/1", Property::SubscriptionIdentifier(1)),
    ] {
        let list = properties(&[property]);
        table.v5(name, Packet::Publish(Publish { topic, properties: list.as_properties(), ..plain }));
    }
}

fn acknowledgement_packets(table: &mut Table) {
    let refusal = |value| Ack { reason_code: ReasonCode::QuotaExceeded, ..Ack::success(id(value)) };
    for (name, value) in [("QoS 1 in flight", 1), ("QoS 2 in flight", 2), ("unknown", 100)] {
        table.both(&format!("PUBACK, {name}"), &[Packet::PubAck(Ack::success(id(value)))]);
    }
    table.v5("PUBACK, refusal", Packet::PubAck(refusal(1)));
    for (name, value) in [
        ("QoS 1 in flight", 1),
        ("QoS 2 in flight", 2),
        ("being stored", 3),
        ("PUBREL sent", 4),
        ("unknown", 100),
    ] {
        table.both(&format!("PUBREC, {name}"), &[Packet::PubRec(Ack::success(id(value)))]);
    }
    table.v5("PUBREC, refusal", Packet::PubRec(refusal(2)));
    table.v5("PUBREC, refusal of the unknown", Packet::PubRec(refusal(100)));
    for (name, value) in [("received", 9), ("waits for the host", 8), ("unknown", 100)] {
        table.both(&format!("PUBREL, {name}"), &[Packet::PubRel(Ack::success(id(value)))]);
    }
    for (name, value) in [
        ("PUBREL sent", 4),
        ("being stored", 3),
        ("QoS 2 in flight", 2),
        ("QoS 1 in flight", 1),
        ("unknown", 100),
    ] {
        table.both(&format!("PUBCOMP, {name}"), &[Packet::PubComp(Ack::success(id(value)))]);
    }
}

fn subscription_packets(table: &mut Table) {
    let filter = TopicFilter::parse("devices/#").unwrap();
    let (packet_id, none) = (id(20), Properties::default());
    let mut filters = SubscribeFiltersBuf::new();
    filters.push(filter, SubscribeOptions::at_most(QoS::AtLeastOnce));
    let subscribe = Subscribe { packet_id, properties: none, filters: filters.as_filters() };
    table.both("SUBSCRIBE", &[Packet::Subscribe(subscribe)]);
    let mut filters = UnsubscribeFiltersBuf::new();
    filters.push(filter);
    let unsubscribe = Unsubscribe { packet_id, properties: none, filters: filters.as_filters() };
    table.both("UNSUBSCRIBE", &[Packet::Unsubscribe(unsubscribe)]);
    let reason_codes = ReasonCodes::new(&[0]).unwrap();
    table.both("SUBACK", &[Packet::SubAck(SubAck { packet_id, properties: none, reason_codes })]);
    table.both("UNSUBACK", &[Packet::UnsubAck(UnsubAck { packet_id, properties: none, reason_codes })]);
}

fn what_is_no_packet(table: &mut Table) {
    for version in [ProtocolVersion::V3_1_1, ProtocolVersion::V5] {
        let name = if version.is_v5() { "5" } else { "3.1.1" };
        let row = table.apply(version, |session, out| {
            describe(Err(session.handle_malformed(DecodeError::ZeroPacketId, out)))
        });
        table.line("malformed packet", name, &row);
        let row = table.apply(version, |session, out| {
            describe(Err(session.handle_malformed(DecodeError::UnsupportedProtocolVersion, out)))
        });
        table.line("CONNECT of an unknown version", name, &row);
        let row = table.apply(version, |session, out| match session.handle_timeout(Millis(1_000_000), out) {
            Ok(()) => "-".to_owned(),
            Err(closed) => describe(Err(closed)),
        });
        table.line("time passes", name, &row);
    }
}

fn table() -> String {
    let mut lines = HEAD.to_owned();
    for state in State::ALL {
        lines.push('\n');
        let mut table = Table { lines, state };
        connection_packets(&mut table);
        publish_packets(&mut table);
        acknowledgement_packets(&mut table);
        subscription_packets(&mut table);
        what_is_no_packet(&mut table);
        lines = table.lines;
    }
    lines
}

/// The lines that only one side has; a line that moved shows on both.
fn difference(expected: &str, actual: &str) -> String {
    let only = |lines: &str, other: &str, sign: char| -> String {
        let other: Vec<&str> = other.lines().collect();
        let missing = lines.lines().filter(|line| !other.contains(line));
        missing.fold(String::new(), |text, line| text + &format!("{sign} {line}\n"))
    };
    only(expected, actual, '-') + &only(actual, expected, '+')
}

#[test]
fn every_state_and_packet_is_as_the_table_says() {
    let actual = table();
    if std::env::var_os(REGENERATE).is_some_and(|value| value == "write") {
        std::fs::write(GOLDEN, &actual).unwrap();
    }
    let expected = std::fs::read_to_string(GOLDEN).unwrap_or_default();
    assert!(
        expected == actual,
        "the session differs from {GOLDEN}:\n{}\nIf that is meant: run again with {REGENERATE}=write, and commit the file.",
        difference(&expected, &actual)
    );
}
