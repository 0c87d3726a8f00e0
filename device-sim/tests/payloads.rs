//! Payloads of every encoding, read by decoders that are not this simulator's.
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "all of this file is a test")]

use std::collections::BTreeMap;

use device_sim::envelope::{Envelope, Kind, Opened, open, open_aside};
use device_sim::model::changes::Fields;
use device_sim::model::signal::SignalSpec;
use device_sim::model::states::{StateSpec, StatesSpec};
use device_sim::model::world::{DeviceClock, Site};
use device_sim::model::{ClockForm, DeviceModel, FieldSpec, ModelSpec, SourceSpec, Surroundings, Value};
use device_sim::payload::protobuf::{DescriptorFault, Schema, schema_of};
use device_sim::payload::sparkplug::{self, Names};
use device_sim::payload::{Encoder, PayloadSpec, Reading};
use device_sim::qos::QoS;
use device_sim::random::{Purpose, Seed};
use proptest::prelude::*;
use prost::Message as _;
use prost_reflect::prost_types::field_descriptor_proto::{Label, Type};
use prost_reflect::prost_types::{
    DescriptorProto, EnumDescriptorProto, EnumValueDescriptorProto, FieldDescriptorProto,
    FileDescriptorProto, FileDescriptorSet,
};
use prost_reflect::{DescriptorPool, DynamicMessage};

const TOPIC: &str = "devices/site-00/dev/telemetry";

/// What a decoder saw of one field.
#[derive(Clone, Debug, PartialEq)]
enum Seen {
    Number(f64),
    Text(String),
    Flag(bool),
}

/// One field of each kind, its numbers anything that fits.
fn model(whole: f64, broken: f64, text: &str) -> ModelSpec {
    let field = |name: &str, source| FieldSpec { name: name.to_owned(), source, deadband: None };
    let number = |decimals, value| SourceSpec::Number { decimals, signal: SignalSpec::Constant { value } };
    let word = |word: &str| StateSpec { word: word.to_owned(), dwell_s: 60.0, to: vec![] };
    let fields = vec![
        field("count", number(0, whole)),
        field("celsius", number(3, broken)),
        field("mode", SourceSpec::Words(StatesSpec { states: [word("on-line"), word("off")].into() })),
        field("hot", SourceSpec::Flag { signal: SignalSpec::Constant { value: broken }, above: 0.0 }),
        field("label", SourceSpec::Text(vec![text.to_owned()])),
        field("ts", SourceSpec::Clock(ClockForm::UnixMs)),
    ];
    ModelSpec { name: "all-kinds".to_owned(), fields, route: None }
}

fn device(spec: &ModelSpec) -> DeviceModel {
    let clock = DeviceClock { start_unix_ms: 1_767_225_600_000, ahead_s: -2.5, drift: 0.0 };
    let surroundings = Surroundings { site: Site::new(Seed(1), 0), device: "dev", clock };
    let mut model = DeviceModel::new(spec, Seed(1).bookmark(Purpose::Model, 0), surroundings);
    model.advance(7.0);
    model
}

fn reading(model: &DeviceModel, fields: Fields) -> Reading<'_> {
    let envelope = Envelope { epoch: 1, device: 2, sequence: 0xd5d5_d5d5, due_us: 4, qos: QoS::AtLeastOnce };
    Reading { envelope, kind: Kind::Event, model, fields, seq: 255, historical: false }
}

/// Encodes, and checks that the envelope opens before anything else is read.
fn encoded(payload: &PayloadSpec, spec: &ModelSpec, fields: Option<Fields>) -> Vec<u8> {
    let model = device(spec);
    let reading = reading(&model, fields.unwrap_or(Fields::first(model.fields())));
    let mut out = b"what was there before".to_vec();
    Encoder::new(payload, spec).unwrap().encode(&mut out, &reading, TOPIC);
    assert_eq!(open(&out, TOPIC.as_bytes()), Opened::Event(reading.envelope));
    assert_eq!(open(&out, b"another/topic"), Opened::Corrupt);
    out
}

/// What a decoder should have seen.
fn expected(spec: &ModelSpec) -> BTreeMap<String, Seen> {
    let model = device(spec);
    let seen = |value| match value {
        Value::Number { value, decimals } => {
            let scale = 10_f64.powi(i32::from(decimals));
            Seen::Number((value * scale).round() / scale)
        }
        Value::Text(text) => Seen::Text(text.to_owned()),
        Value::Flag(flag) => Seen::Flag(flag),
        Value::Time(time) => Seen::Number(time as f64),
    };
    let fields = spec.fields.iter().enumerate();
    fields.map(|(place, field)| (field.name.clone(), seen(model.value(place).unwrap()))).collect()
}

/// A JSON value as its fields; the envelope's member must be first and is left out.
fn of_json(value: serde_json::Value) -> BTreeMap<String, Seen> {
    let mut members = value.as_object().unwrap().clone();
    members.remove("_").expect("the envelope");
    let seen = |value: serde_json::Value| match value {
        serde_json::Value::Number(number) => Seen::Number(number.as_f64().unwrap()),
        serde_json::Value::String(text) => Seen::Text(text),
        serde_json::Value::Bool(flag) => Seen::Flag(flag),
        other => panic!("{other}"),
    };
    members.into_iter().map(|(name, value)| (name, seen(value))).collect()
}

fn of_cbor(value: ciborium::Value) -> BTreeMap<String, Seen> {
    let members =
        value.into_map().unwrap().into_iter().map(|(name, value)| (name.into_text().unwrap(), value));
    let seen = |value| match value {
        ciborium::Value::Integer(number) => Seen::Number(i128::from(number) as f64),
        ciborium::Value::Float(number) => Seen::Number(number),
        ciborium::Value::Text(text) => Seen::Text(text),
        ciborium::Value::Bool(flag) => Seen::Flag(flag),
        other => panic!("{other:?}"),
    };
    members
        .filter(|(name, value)| !(name == "_" && value.is_bytes()))
        .map(|(name, value)| (name, seen(value)))
        .collect()
}

/// What stands in `schema_of(&model(...))`, by hand.
#[derive(Clone, PartialEq, prost::Message)]
struct AllKinds {
    #[prost(sint64, tag = "1")]
    count: i64,
    #[prost(double, tag = "2")]
    celsius: f64,
    #[prost(string, tag = "3")]
    mode: String,
    #[prost(bool, tag = "4")]
    hot: bool,
    #[prost(string, tag = "5")]
    label: String,
    #[prost(int64, tag = "6")]
    ts: i64,
    #[prost(bytes = "vec", tag = "536870911")]
    envelope: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct SparkplugPayload {
    #[prost(uint64, optional, tag = "1")]
    timestamp: Option<u64>,
    #[prost(message, repeated, tag = "2")]
    metrics: Vec<Metric>,
    #[prost(uint64, optional, tag = "3")]
    seq: Option<u64>,
    #[prost(bytes = "vec", optional, tag = "5")]
    body: Option<Vec<u8>>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Metric {
    #[prost(string, optional, tag = "1")]
    name: Option<String>,
    #[prost(uint64, optional, tag = "2")]
    alias: Option<u64>,
    #[prost(uint64, optional, tag = "3")]
    timestamp: Option<u64>,
    #[prost(uint32, optional, tag = "4")]
    datatype: Option<u32>,
    #[prost(bool, optional, tag = "5")]
    is_historical: Option<bool>,
    #[prost(oneof = "MetricValue", tags = "11, 13, 14, 15")]
    value: Option<MetricValue>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum MetricValue {
    #[prost(uint64, tag = "11")]
    Long(u64),
    #[prost(double, tag = "13")]
    Double(f64),
    #[prost(bool, tag = "14")]
    Boolean(bool),
    #[prost(string, tag = "15")]
    String(String),
}

fn of_metric(value: &MetricValue) -> Seen {
    match value {
        MetricValue::Long(number) => Seen::Number(*number as i64 as f64),
        MetricValue::Double(number) => Seen::Number(*number),
        MetricValue::Boolean(flag) => Seen::Flag(*flag),
        MetricValue::String(text) => Seen::Text(text.clone()),
    }
}

/// A descriptor as `protoc` would write it, with other numbers, types and an enumeration.
fn descriptor() -> FileDescriptorSet {
    let field = |name: &str, number, kind: Type| FieldDescriptorProto {
        name: Some(name.to_owned()),
        number: Some(number),
        label: Some(Label::Optional as i32),
        r#type: Some(kind as i32),
        type_name: (kind == Type::Enum).then(|| ".acme.Mode".to_owned()),
        json_name: Some(name.to_owned()),
        ..Default::default()
    };
    let value = |name: &str, number| EnumValueDescriptorProto {
        name: Some(name.to_owned()),
        number: Some(number),
        ..Default::default()
    };
    let message = DescriptorProto {
        name: Some("Telemetry".to_owned()),
        field: vec![
            field("count", 7, Type::Int32),
            field("celsius", 300, Type::Float),
            field("mode", 2, Type::Enum),
            field("hot", 1, Type::Bool),
            field("label", 15, Type::String),
            field("ts", 16, Type::Fixed64),
            field("unused", 17, Type::Bytes),
        ],
        ..Default::default()
    };
    let mode = EnumDescriptorProto {
        name: Some("Mode".to_owned()),
        value: vec![value("MODE_UNKNOWN", 0), value("MODE_OFF", 3), value("MODE_ON_LINE", 5)],
        ..Default::default()
    };
    let file = FileDescriptorProto {
        name: Some("acme.proto".to_owned()),
        package: Some("acme".to_owned()),
        message_type: vec![message],
        enum_type: vec![mode],
        syntax: Some("proto3".to_owned()),
        ..Default::default()
    };
    FileDescriptorSet { file: vec![file] }
}

fn whole() -> impl Strategy<Value = f64> {
    prop_oneof![Just(0.0), -200.0..300.0_f64, -1e9..1e9_f64]
}

proptest! {
    #[test]
    fn json_says_what_was_measured(whole in whole(), broken in -1e5..1e5_f64, text in any::<String>()) {
        let spec = model(whole, broken, &text);
        let payload = encoded(&PayloadSpec::Json, &spec, None);
        prop_assert_eq!(of_json(serde_json::from_slice(&payload).unwrap()), expected(&spec));
    }

    #[test]
    fn message_pack_says_what_was_measured(whole in whole(), broken in -1e5..1e5_f64, text in any::<String>()) {
        let spec = model(whole, broken, &text);
        let payload = encoded(&PayloadSpec::MessagePack, &spec, None);
        let mut decoded: BTreeMap<String, ciborium::Value> = rmp_serde::from_slice(&payload).unwrap();
        prop_assert!(decoded.remove("_").unwrap().is_bytes());
        let decoded = decoded.into_iter().map(|(name, value)| (ciborium::Value::Text(name), value)).collect();
        prop_assert_eq!(of_cbor(ciborium::Value::Map(decoded)), expected(&spec));
    }

    #[test]
    fn cbor_says_what_was_measured(whole in whole(), broken in -1e5..1e5_f64, text in any::<String>()) {
        let spec = model(whole, broken, &text);
        let payload = encoded(&PayloadSpec::Cbor, &spec, None);
        prop_assert_eq!(of_cbor(ciborium::from_reader(payload.as_slice()).unwrap()), expected(&spec));
    }

    #[test]
    fn protobuf_says_what_was_measured(whole in whole(), broken in -1e5..1e5_f64, text in any::<String>()) {
        let spec = model(whole, broken, &text);
        let payload = encoded(&PayloadSpec::Protobuf(None), &spec, None);
        let AllKinds { count, celsius, mode, hot, label, ts, envelope } = AllKinds::decode(payload.as_slice()).unwrap();
        prop_assert_eq!(envelope.len(), 24);
        let decoded = BTreeMap::from([
            ("count".to_owned(), Seen::Number(count as f64)),
            ("celsius".to_owned(), Seen::Number(celsius)),
            ("mode".to_owned(), Seen::Text(mode)),
            ("hot".to_owned(), Seen::Flag(hot)),
            ("label".to_owned(), Seen::Text(label)),
            ("ts".to_owned(), Seen::Number(ts as f64)),
        ]);
        prop_assert_eq!(decoded, expected(&spec));
    }

    #[test]
    fn protobuf_by_a_descriptor_says_what_was_measured(whole in -1e6..1e6_f64, broken in -1e3..1e3_f64, text in any::<String>()) {
        let spec = model(whole, broken, &text);
        let descriptor = descriptor().encode_to_vec();
        let schema = Schema::parse(&descriptor, "acme.Telemetry").unwrap();
        let payload = encoded(&PayloadSpec::Protobuf(Some(schema)), &spec, None);
        let pool = DescriptorPool::decode(descriptor.as_slice()).unwrap();
        let message = pool.get_message_by_name("acme.Telemetry").unwrap();
        let decoded = DynamicMessage::decode(message, payload.as_slice()).unwrap();
        let value = |name: &str| decoded.get_field_by_name(name).unwrap().into_owned();
        let mut expected = expected(&spec);
        prop_assert_eq!(Some(Seen::Number(f64::from(value("count").as_i32().unwrap()))), expected.remove("count"));
        let Some(Seen::Number(celsius)) = expected.remove("celsius") else { panic!() };
        prop_assert_eq!(value("celsius").as_f32(), Some(celsius as f32));
        prop_assert_eq!(value("mode").as_enum_number(), Some(5));
        prop_assert_eq!(value("hot").as_bool().map(Seen::Flag), expected.remove("hot"));
        prop_assert_eq!(value("label").as_str().map(|text| Seen::Text(text.to_owned())), expected.remove("label"));
        prop_assert_eq!(value("ts").as_u64().map(|ts| Seen::Number(ts as f64)), expected.remove("ts"));
        prop_assert_eq!(decoded.unknown_fields().count(), 1, "the envelope");
    }

    #[test]
    fn sparkplug_says_what_was_measured(whole in whole(), broken in -1e5..1e5_f64, text in any::<String>()) {
        let spec = model(whole, broken, &text);
        let data = SparkplugPayload::decode(encoded(&PayloadSpec::Sparkplug, &spec, None).as_slice()).unwrap();
        prop_assert_eq!(data.seq, Some(255));
        prop_assert_eq!(data.timestamp, Some(1_767_225_604_500));

        // Data have aliases; the birth says what they stand for.
        let Encoder::Sparkplug(metrics) = Encoder::new(&PayloadSpec::Sparkplug, &spec).unwrap() else { panic!() };
        let model = device(&spec);
        let birth_topic = "spBv1.0/g/DBIRTH/n/d";
        let birth = metrics.device_birth(reading(&model, Fields::default()).envelope, &model, 1, birth_topic);
        prop_assert!(open_aside(&birth, birth_topic.as_bytes()).is_some());
        let birth = SparkplugPayload::decode(birth.as_slice()).unwrap();
        let names: BTreeMap<u64, String> =
            birth.metrics.iter().map(|metric| (metric.alias.unwrap(), metric.name.clone().unwrap())).collect();
        let types: Vec<u32> = birth.metrics.iter().map(|metric| metric.datatype.unwrap()).collect();
        prop_assert_eq!(types, [4, 10, 12, 11, 12, 13]);
        let decoded: BTreeMap<String, Seen> = data
            .metrics
            .iter()
            .map(|metric| (names[&metric.alias.unwrap()].clone(), of_metric(metric.value.as_ref().unwrap())))
            .collect();
        prop_assert_eq!(decoded, expected(&spec));
    }

    #[test]
    fn raw_blocks_have_their_size(bytes in (24..5_000_usize, 0..5_000_usize)) {
        let spec = model(0.0, 0.0, "");
        let (bytes_min, bytes_max) = (bytes.0, bytes.0 + bytes.1);
        let payload = encoded(&PayloadSpec::Raw { bytes_min, bytes_max }, &spec, None);
        prop_assert!((bytes_min..=bytes_max).contains(&payload.len()), "{}", payload.len());
    }
}

#[test]
fn what_is_no_number_is_null_or_absent() {
    let spec = model(f64::NAN, f64::INFINITY, "");
    let json: serde_json::Value = serde_json::from_slice(&encoded(&PayloadSpec::Json, &spec, None)).unwrap();
    assert!(json["count"].is_null() && json["celsius"].is_null(), "{json}");
    let cbor: ciborium::Value =
        ciborium::from_reader(encoded(&PayloadSpec::Cbor, &spec, None).as_slice()).unwrap();
    assert_eq!(cbor.as_map().unwrap().iter().filter(|(_, value)| value.is_null()).count(), 2);
    let pack: BTreeMap<String, ciborium::Value> =
        rmp_serde::from_slice(&encoded(&PayloadSpec::MessagePack, &spec, None)).unwrap();
    assert!(pack["count"].is_null() && pack["celsius"].is_null());
    let decoded = AllKinds::decode(encoded(&PayloadSpec::Protobuf(None), &spec, None).as_slice()).unwrap();
    assert_eq!((decoded.count, decoded.celsius), (0, 0.0));
}

#[test]
fn a_part_of_the_fields_is_a_smaller_payload_with_those_fields() {
    let spec = model(1.0, 2.0, "t");
    let two = Some(Fields::first(2));
    let json: serde_json::Value = serde_json::from_slice(&encoded(&PayloadSpec::Json, &spec, two)).unwrap();
    assert_eq!(json.as_object().unwrap().keys().collect::<Vec<_>>(), ["_", "celsius", "count"]);
    let cbor: ciborium::Value =
        ciborium::from_reader(encoded(&PayloadSpec::Cbor, &spec, two).as_slice()).unwrap();
    assert_eq!(cbor.as_map().unwrap().len(), 3);
    let data = SparkplugPayload::decode(encoded(&PayloadSpec::Sparkplug, &spec, two).as_slice()).unwrap();
    assert_eq!(data.metrics.iter().map(|metric| metric.alias.unwrap()).collect::<Vec<_>>(), [1, 2]);
}

#[test]
fn a_model_that_does_not_fit_the_descriptor_is_refused() {
    let descriptor = descriptor().encode_to_vec();
    assert!(matches!(Schema::parse(&descriptor, "acme.Nothing"), Err(DescriptorFault::NoMessage(_))));
    assert!(matches!(Schema::parse(b"\xff\xff", "m"), Err(DescriptorFault::NotADescriptor(_))));
    let fault = |spoil: &dyn Fn(&mut FieldSpec)| {
        let mut spec = model(0.0, 0.0, "");
        spoil(&mut spec.fields[2]);
        let schema = Schema::parse(&descriptor, "acme.Telemetry").unwrap();
        Encoder::new(&PayloadSpec::Protobuf(Some(schema)), &spec).unwrap_err().to_string()
    };
    assert_eq!(
        fault(&|field| field.name = "colour".to_owned()),
        "the message `acme.Telemetry` has no field `colour`"
    );
    assert_eq!(
        fault(&|field| field.name = "unused".to_owned()),
        "the field `unused` of `acme.Telemetry` cannot hold a word"
    );
    let states = [StateSpec { word: "ajar".to_owned(), dwell_s: 1.0, to: vec![] }];
    let ajar = SourceSpec::Words(StatesSpec { states: states.into() });
    assert_eq!(
        fault(&|field| field.source = ajar.clone()),
        "the field `mode` of `acme.Telemetry` cannot hold every one of its words"
    );
}

#[test]
fn the_schema_made_from_a_model_says_what_is_written() {
    let schema = schema_of(&model(0.0, 0.0, ""));
    for line in [
        "message AllKinds {",
        "  sint64 count = 1;",
        "  double celsius = 2;",
        "  bytes envelope = 536870911;",
    ] {
        assert!(schema.lines().any(|found| found == line), "{line}\n{schema}");
    }
}

#[test]
fn a_sparkplug_node_is_born_and_dies_with_one_number() {
    let spec = model(0.0, 0.0, "");
    let model = device(&spec);
    let envelope = reading(&model, Fields::default()).envelope;
    let names = Names::of_data_topic("spBv1.0/g/DDATA/n/d").unwrap();
    let (birth_topic, death_topic) =
        (names.topic(sparkplug::Message::NodeBirth), names.topic(sparkplug::Message::NodeDeath));
    assert_eq!((birth_topic.as_str(), death_topic.as_str()), ("spBv1.0/g/NBIRTH/n", "spBv1.0/g/NDEATH/n"));
    let birth = sparkplug::node_birth(envelope, &model, 41, &birth_topic);
    let death = sparkplug::node_death(envelope, &model, 41, &death_topic);
    assert!(
        open_aside(&birth, birth_topic.as_bytes()).is_some() && open_aside(&death, b"elsewhere").is_none()
    );
    let (birth, death) = (
        SparkplugPayload::decode(birth.as_slice()).unwrap(),
        SparkplugPayload::decode(death.as_slice()).unwrap(),
    );
    assert_eq!((birth.seq, death.seq), (Some(0), None));
    for payload in [&birth, &death] {
        assert_eq!(payload.metrics[0].name.as_deref(), Some("bdSeq"));
        assert_eq!(payload.metrics[0].value, Some(MetricValue::Long(41)));
    }

    let rebirth = |name: &str, value| {
        let metric = Metric { name: Some(name.to_owned()), value: Some(value), ..Metric::default() };
        let payload =
            SparkplugPayload { metrics: vec![Metric::default(), metric], ..SparkplugPayload::default() };
        sparkplug::asks_for_rebirth(&payload.encode_to_vec())
    };
    assert!(rebirth(sparkplug::REBIRTH, MetricValue::Boolean(true)));
    assert!(!rebirth(sparkplug::REBIRTH, MetricValue::Boolean(false)));
    assert!(!rebirth("Node Control/Reboot", MetricValue::Boolean(true)));
    for topic in ["spBv1.0/g/DDATA/n", "spBv1.0/g/NDATA/n/d", "spBv1.0/g/DDATA/n/d/e", "spBv1.0//DDATA/n/d"] {
        assert_eq!(Names::of_data_topic(topic), None, "{topic}");
    }
}
