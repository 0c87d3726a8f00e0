//! Arbitrary valid packets of every kind and version, for property tests.

#![expect(clippy::unwrap_used, reason = "a generator that makes something invalid is to fail the test")]

use gateway_protocol::packet::{
    Ack, Auth, ConnAck, Connect, Disconnect, Publish, ReasonCodes, RetainHandling, SubAck, Subscribe,
    SubscribeFiltersBuf, SubscribeOptions, UnsubAck, Unsubscribe, UnsubscribeFiltersBuf, Will,
};
use gateway_protocol::property::PropertyId;
use gateway_protocol::{
    Packet, PacketId, PacketType, Properties, PropertiesBuf, Property, ProtocolVersion, QoS, ReasonCode,
    TopicFilter, TopicName,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select, subsequence};

/// What packets of all kinds are made from; each kind takes what it has a field for.
#[derive(Clone, Debug)]
pub(crate) struct Parts {
    pub(crate) version: ProtocolVersion,
    packet_type: PacketType,
    flags: [bool; 5],
    qos: QoS,
    number: u16,
    packet_id: PacketId,
    topic: String,
    filters: SubscribeFiltersBuf,
    unsubscribed: UnsubscribeFiltersBuf,
    texts: [String; 2],
    payload: Vec<u8>,
    reason: Index,
    reasons: Vec<u8>,
    properties: PropertiesBuf,
    will_properties: PropertiesBuf,
}

impl Parts {
    pub(crate) fn packet(&self) -> Packet<'_> {
        let properties = self.in_version_5(&self.properties);
        let [dup, retain, with_will, with_user_name, with_password] = self.flags;
        let ack = Ack { packet_id: self.packet_id, reason_code: self.reason_code(), properties };
        match self.packet_type {
            PacketType::Connect => Packet::Connect(Connect {
                version: self.version,
                clean_start: dup,
                keep_alive_secs: self.number,
                properties,
                client_id: &self.texts[0],
                will: with_will.then(|| Will {
                    qos: self.qos,
                    retain,
                    topic: TopicName::parse(&self.topic).unwrap(),
                    properties: self.in_version_5(&self.will_properties),
                    payload: &self.payload,
                }),
                user_name: with_user_name.then_some(self.texts[1].as_str()),
                password: (with_password && (with_user_name || self.version.is_v5()))
                    .then_some(&self.payload),
            }),
            PacketType::ConnAck => {
                let reason_code = self.reason_code();
                let session_present =
                    retain && reason_code == ReasonCode::Success && self.version != ProtocolVersion::V3_1;
                Packet::ConnAck(ConnAck { session_present, reason_code, properties })
            }
            PacketType::Publish => {
                let acknowledged = self.qos != QoS::AtMostOnce;
                let aliased = with_will && properties.topic_alias().is_some();
                Packet::Publish(Publish {
                    dup: dup && acknowledged,
                    qos: self.qos,
                    retain,
                    topic: if aliased { "" } else { &self.topic },
                    packet_id: acknowledged.then_some(self.packet_id),
                    properties,
                    payload: &self.payload,
                })
            }
            PacketType::PubAck => Packet::PubAck(ack),
            PacketType::PubRec => Packet::PubRec(ack),
            PacketType::PubRel => Packet::PubRel(ack),
            PacketType::PubComp => Packet::PubComp(ack),
            PacketType::Subscribe => Packet::Subscribe(Subscribe {
                packet_id: self.packet_id,
                properties,
                filters: self.filters.as_filters(),
            }),
            PacketType::SubAck => Packet::SubAck(SubAck {
                packet_id: self.packet_id,
                properties,
                reason_codes: ReasonCodes::new(&self.reasons).unwrap(),
            }),
            PacketType::Unsubscribe => Packet::Unsubscribe(Unsubscribe {
                packet_id: self.packet_id,
                properties,
                filters: self.unsubscribed.as_filters(),
            }),
            PacketType::UnsubAck => {
                let codes = if self.version.is_v5() { self.reasons.as_slice() } else { &[] };
                let reason_codes = ReasonCodes::new(codes).unwrap();
                Packet::UnsubAck(UnsubAck { packet_id: self.packet_id, properties, reason_codes })
            }
            PacketType::PingReq => Packet::PingReq,
            PacketType::PingResp => Packet::PingResp,
            PacketType::Disconnect => {
                Packet::Disconnect(Disconnect { reason_code: self.reason_code(), properties })
            }
            PacketType::Auth => Packet::Auth(Auth { reason_code: self.reason_code(), properties }),
        }
    }

    fn in_version_5<'a>(&self, properties: &'a PropertiesBuf) -> Properties<'a> {
        if self.version.is_v5() { properties.as_properties() } else { Properties::default() }
    }

    fn reason_code(&self) -> ReasonCode {
        let codes = reason_codes(self.packet_type, self.version);
        if codes.is_empty() { ReasonCode::Success } else { *self.reason.get(&codes) }
    }
}

/// The Reason Codes that a packet of this kind can say in this version.
fn reason_codes(packet_type: PacketType, version: ProtocolVersion) -> Vec<ReasonCode> {
    use ReasonCode::{
        BadUserNameOrPassword, ClientIdentifierNotValid, GrantedQos1, GrantedQos2, NotAuthorized,
        ServerUnavailable, Success, UnspecifiedError, UnsupportedProtocolVersion,
    };
    match packet_type {
        _ if version.is_v5() => (0..=u8::MAX)
            .filter_map(ReasonCode::from_u8)
            .filter(|code| code.is_allowed_in(packet_type))
            .collect(),
        PacketType::ConnAck => vec![
            Success,
            UnsupportedProtocolVersion,
            ClientIdentifierNotValid,
            ServerUnavailable,
            BadUserNameOrPassword,
            NotAuthorized,
        ],
        PacketType::SubAck => vec![Success, GrantedQos1, GrantedQos2, UnspecifiedError],
        _ => vec![Success],
    }
}

pub(crate) fn parts() -> impl Strategy<Value = Parts> {
    parts_of(1..=15)
}

pub(crate) fn parts_of(packet_types: std::ops::RangeInclusive<u8>) -> impl Strategy<Value = Parts> {
    (version(), packet_types)
        .prop_map(|(version, kind)| (version, PacketType::from_u8(kind).unwrap()))
        .prop_filter("AUTH came with version 5", |&(version, kind)| {
            kind != PacketType::Auth || version.is_v5()
        })
        .prop_flat_map(|(version, packet_type)| {
            let codes =
                reason_codes(packet_type, version).into_iter().map(ReasonCode::as_u8).collect::<Vec<_>>();
            let codes = if codes.is_empty() { vec![0] } else { codes };
            let simple = (any::<[bool; 5]>(), qos(), any::<u16>(), 1_u16.., any::<Index>());
            let texts = (topic(), [text(), text()], vec(any::<u8>(), 0..200));
            let lists = (
                vec((filter(), options(version)), 1..5),
                vec(select(codes), 1..5),
                properties(packet_type as u8),
                properties(WILL),
            );
            (simple, texts, lists).prop_map(move |(simple, texts, lists)| {
                let (flags, qos, number, packet_id, reason) = simple;
                let (topic, texts, payload) = texts;
                let (subscriptions, reasons, properties, will_properties) = lists;
                let mut filters = SubscribeFiltersBuf::new();
                let mut unsubscribed = UnsubscribeFiltersBuf::new();
                for (filter, options) in &subscriptions {
                    let filter = TopicFilter::parse(filter).unwrap();
                    filters.push(
                        filter,
                        SubscribeOptions { no_local: options.no_local && !filter.is_shared(), ..*options },
                    );
                    unsubscribed.push(filter);
                }
                let packet_id = PacketId::new(packet_id).unwrap();
                Parts {
                    version,
                    packet_type,
                    flags,
                    qos,
                    number,
                    packet_id,
                    topic,
                    filters,
                    unsubscribed,
                    texts,
                    payload,
                    reason,
                    reasons,
                    properties,
                    will_properties,
                }
            })
        })
}

pub(crate) fn version() -> impl Strategy<Value = ProtocolVersion> {
    select(vec![ProtocolVersion::V3_1, ProtocolVersion::V3_1_1, ProtocolVersion::V5, ProtocolVersion::V5])
}

fn qos() -> impl Strategy<Value = QoS> {
    select(vec![QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce])
}

fn options(version: ProtocolVersion) -> impl Strategy<Value = SubscribeOptions> {
    let handling = select(vec![RetainHandling::Send, RetainHandling::SendIfNew, RetainHandling::DoNotSend]);
    (qos(), any::<bool>(), any::<bool>(), handling).prop_map(
        move |(qos, no_local, retain_as_published, retain_handling)| {
            if version.is_v5() {
                SubscribeOptions { qos, no_local, retain_as_published, retain_handling }
            } else {
                SubscribeOptions::at_most(qos)
            }
        },
    )
}

/// Any string without U+0000, now and then long enough for two bytes of Remaining Length.
fn text() -> impl Strategy<Value = String> {
    let long =
        (120_usize..300, select(vec!["a", "é", "\u{feff}"])).prop_map(|(length, piece)| piece.repeat(length));
    prop_oneof![4 => chars(0..20, "\0"), 1 => long]
}

fn topic() -> impl Strategy<Value = String> {
    chars(1..40, "\0+#")
}

/// Any characters, a slash in place of those that may not be there.
fn chars(length: std::ops::Range<usize>, reserved: &'static str) -> impl Strategy<Value = String> {
    vec(any::<char>(), length).prop_map(move |chars| {
        chars.into_iter().map(|found| if reserved.contains(found) { '/' } else { found }).collect()
    })
}

fn filter() -> impl Strategy<Value = String> {
    let level = prop_oneof![3 => chars(0..8, "\0+#"), 1 => Just("+".to_owned())];
    let start = select(vec!["", "$share/group/", "/"]);
    let end = select(vec!["/#", "", "/", "/end"]);
    (start, vec(level, 1..4), end)
        .prop_map(|(start, levels, end)| format!("{start}{}{end}", levels.join("/")))
        .prop_filter("not empty", |filter| !filter.is_empty())
}

const WILL: u8 = 0;

/// A list that a packet of this type may carry, in any order.
fn properties(carrier: u8) -> impl Strategy<Value = PropertiesBuf> {
    let ids: Vec<PropertyId> =
        own_properties(carrier).iter().map(|&id| PropertyId::from_u8(id).unwrap()).collect();
    let count = ids.len();
    let chosen = subsequence(ids, 0..=count).prop_shuffle();
    (
        chosen,
        vec((text(), text()), 0..3),
        (0_u8..=1, 1_u16.., 1_u32..=268_435_455, topic(), vec(any::<u8>(), 0..20)),
    )
        .prop_map(move |(ids, user_properties, values)| {
            let mut list = PropertiesBuf::new();
            // These two have no data, or no list at all, without a method.
            if matches!(carrier, 1 | 15) {
                list.push(Property::AuthenticationMethod("SCRAM-SHA-256")).unwrap();
            }
            for id in ids {
                list.push(property(id, &values)).unwrap();
            }
            for (name, value) in &user_properties {
                list.push(Property::UserProperty { name, value }).unwrap();
            }
            list
        })
}

/// MQTT 5, table 2-4, by packet type; Authentication Method (of CONNECT and AUTH) and User Property are seen to elsewhere.
fn own_properties(carrier: u8) -> &'static [u8] {
    match carrier {
        WILL => &[0x01, 0x02, 0x03, 0x08, 0x09, 0x18],
        1 => &[0x11, 0x16, 0x17, 0x19, 0x21, 0x22, 0x27],
        2 => {
            &[0x11, 0x12, 0x13, 0x15, 0x16, 0x1A, 0x1C, 0x1F, 0x21, 0x22, 0x24, 0x25, 0x27, 0x28, 0x29, 0x2A]
        }
        3 => &[0x01, 0x02, 0x03, 0x08, 0x09, 0x0B, 0x0B, 0x23],
        4..=7 | 9 | 11 => &[0x1F],
        8 => &[0x0B],
        14 => &[0x11, 0x1C, 0x1F],
        15 => &[0x16, 0x1F],
        _ => &[],
    }
}

type Values = (u8, u16, u32, String, Vec<u8>);

fn property<'a>(id: PropertyId, values: &'a Values) -> Property<'a> {
    let (flag, two, four, text, binary) = values;
    match id {
        PropertyId::PayloadFormatIndicator => Property::PayloadFormatIndicator(*flag),
        PropertyId::MessageExpiryInterval => Property::MessageExpiryInterval(*four),
        PropertyId::ContentType => Property::ContentType(text),
        PropertyId::ResponseTopic => Property::ResponseTopic(text),
        PropertyId::CorrelationData => Property::CorrelationData(binary),
        PropertyId::SubscriptionIdentifier => Property::SubscriptionIdentifier(*four),
        PropertyId::SessionExpiryInterval => Property::SessionExpiryInterval(*four),
        PropertyId::AssignedClientIdentifier => Property::AssignedClientIdentifier(text),
        PropertyId::ServerKeepAlive => Property::ServerKeepAlive(*two),
        PropertyId::AuthenticationMethod => Property::AuthenticationMethod(text),
        PropertyId::AuthenticationData => Property::AuthenticationData(binary),
        PropertyId::RequestProblemInformation => Property::RequestProblemInformation(*flag),
        PropertyId::WillDelayInterval => Property::WillDelayInterval(*four),
        PropertyId::RequestResponseInformation => Property::RequestResponseInformation(*flag),
        PropertyId::ResponseInformation => Property::ResponseInformation(text),
        PropertyId::ServerReference => Property::ServerReference(text),
        PropertyId::ReasonString => Property::ReasonString(text),
        PropertyId::ReceiveMaximum => Property::ReceiveMaximum(*two),
        PropertyId::TopicAliasMaximum => Property::TopicAliasMaximum(*two),
        PropertyId::TopicAlias => Property::TopicAlias(*two),
        PropertyId::MaximumQoS => Property::MaximumQoS(*flag),
        PropertyId::RetainAvailable => Property::RetainAvailable(*flag),
        PropertyId::UserProperty => Property::UserProperty { name: text, value: text },
        PropertyId::MaximumPacketSize => Property::MaximumPacketSize(*four),
        PropertyId::WildcardSubscriptionAvailable => Property::WildcardSubscriptionAvailable(*flag),
        PropertyId::SubscriptionIdentifierAvailable => Property::SubscriptionIdentifierAvailable(*flag),
        PropertyId::SharedSubscriptionAvailable => Property::SharedSubscriptionAvailable(*flag),
    }
}
