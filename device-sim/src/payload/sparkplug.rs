//! Sparkplug B: an edge node with one device, its births, data and deaths [Eclipse Sparkplug 3.0.0].
//!
//! ```text
//! CONNECT (will: NDEATH with bdSeq) ─► NBIRTH (seq 0, same bdSeq) ─► DBIRTH (seq 1: names, aliases, types) ─► DDATA (seq 2 ... 255, 0 ...)
//!                                         ▲                                                                      │
//!                                         └──────── next connection (bdSeq + 1), or NCMD "Rebirth" ◄──────────────┘
//! ```
//!
//! The node is the connection, `spBv1.0/<group>/N.../<node>`; the device is what is measured, `.../D.../<node>/<device>`. Data
//! refers to metrics by the aliases of the birth. The envelope is the payload's `body`, which the specification leaves to
//! the application.

use super::wire::{Wire, fields, write_bytes, write_double, write_number};
use super::{Reading, rounded};
use crate::envelope::{self, Envelope, Kind, SPARKPLUG_HEAD};
use crate::model::changes::Fields;
use crate::model::{ClockForm, DeviceModel, ModelSpec, SourceSpec, Value};

/// What a host writes to make a node announce itself again.
pub const REBIRTH: &str = "Node Control/Rebirth";

const BD_SEQ: &str = "bdSeq";

// Fields of the Payload message.
const TIMESTAMP: u32 = 1;
const METRICS: u32 = 2;
const SEQ: u32 = 3;

// Fields of the Metric message.
const NAME: u32 = 1;
const ALIAS: u32 = 2;
const METRIC_TIMESTAMP: u32 = 3;
const DATATYPE: u32 = 4;
const IS_HISTORICAL: u32 = 5;
const IS_NULL: u32 = 7;
const LONG_VALUE: u32 = 11;
const DOUBLE_VALUE: u32 = 13;
const BOOLEAN_VALUE: u32 = 14;
const STRING_VALUE: u32 = 15;

/// The data types that are used here, by the specification's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum DataType {
    Int64 = 4,
    UInt64 = 8,
    Double = 10,
    Boolean = 11,
    String = 12,
    DateTime = 13,
}

/// The topics of one node and its device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    group: String,
    node: String,
    device: String,
}

/// What of a node is published beside its data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message {
    /// The node is there.
    NodeBirth,
    /// Its device is there.
    DeviceBirth,
    /// Its device is gone.
    DeviceDeath,
    /// The node is gone.
    NodeDeath,
}

/// The metrics of a model: per field its name and type; its alias is its place and 1.
#[derive(Debug, PartialEq)]
pub struct Metrics(Box<[(Box<str>, DataType)]>);

/// The number of the first data after a birth.
pub const FIRST_DATA_SEQ: u8 = 2;

/// The first alias; 0 is left alone, since some hosts take it for none.
const FIRST_ALIAS: u64 = 1;

impl Names {
    /// The names in a data topic, `spBv1.0/<group>/DDATA/<node>/<device>`.
    pub fn of_data_topic(topic: &str) -> Option<Self> {
        let mut levels = topic.split('/');
        let mut next = || levels.next().filter(|level| !level.is_empty());
        let (Some("spBv1.0"), Some(group), Some("DDATA"), Some(node), Some(device), None) =
            (next(), next(), next(), next(), next(), next())
        else {
            return None;
        };
        Some(Names { group: group.to_owned(), node: node.to_owned(), device: device.to_owned() })
    }

    /// Where a message is published.
    pub fn topic(&self, message: Message) -> String {
        let Names { group, node, device } = self;
        match message {
            Message::NodeBirth => format!("spBv1.0/{group}/NBIRTH/{node}"),
            Message::DeviceBirth => format!("spBv1.0/{group}/DBIRTH/{node}/{device}"),
            Message::DeviceDeath => format!("spBv1.0/{group}/DDEATH/{node}/{device}"),
            Message::NodeDeath => format!("spBv1.0/{group}/NDEATH/{node}"),
        }
    }

    /// Where hosts write to the node.
    pub fn command_topic(&self) -> String {
        format!("spBv1.0/{}/NCMD/{}", self.group, self.node)
    }
}

impl Metrics {
    pub(super) fn new(model: &ModelSpec) -> Self {
        let data_type = |source: &SourceSpec| match source {
            SourceSpec::Number { decimals: 0, .. } => DataType::Int64,
            SourceSpec::Number { .. } => DataType::Double,
            SourceSpec::Words(_) | SourceSpec::Text(_) => DataType::String,
            SourceSpec::Flag { .. } => DataType::Boolean,
            SourceSpec::Clock(ClockForm::UnixMs) => DataType::DateTime,
            SourceSpec::Clock(ClockForm::UnixS) => DataType::Int64,
        };
        let metric = |field: &crate::model::FieldSpec| (field.name.as_str().into(), data_type(&field.source));
        Metrics(model.fields.iter().map(metric).collect())
    }

    /// DDATA.
    pub(super) fn write_data(&self, out: &mut Vec<u8>, reading: &Reading<'_>) {
        begin(out, reading.envelope, reading.kind, reading.model);
        let mut metric = Vec::new();
        for (place, value) in reading.values() {
            metric.clear();
            write_number(&mut metric, ALIAS, FIRST_ALIAS + place as u64);
            write_number(&mut metric, METRIC_TIMESTAMP, timestamp(reading.model));
            if reading.historical {
                write_number(&mut metric, IS_HISTORICAL, 1);
            }
            write_value(&mut metric, value);
            write_bytes(out, METRICS, &metric);
        }
        write_number(out, SEQ, u64::from(reading.seq));
    }

    /// DBIRTH, sealed for its topic: every metric with its name, alias, type and value.
    pub fn device_birth(&self, envelope: Envelope, model: &DeviceModel, seq: u8, topic: &str) -> Vec<u8> {
        let mut out = Vec::new();
        begin(&mut out, envelope, Kind::Aside, model);
        let fields = Fields::first(model.fields());
        let all = Reading { envelope, kind: Kind::Aside, model, fields, seq, historical: false };
        for (place, value) in all.values() {
            let Some((name, data_type)) = self.0.get(place) else { continue };
            let mut metric = Vec::new();
            write_bytes(&mut metric, NAME, name.as_bytes());
            write_number(&mut metric, ALIAS, FIRST_ALIAS + place as u64);
            write_number(&mut metric, METRIC_TIMESTAMP, timestamp(model));
            write_number(&mut metric, DATATYPE, *data_type as u64);
            write_value(&mut metric, value);
            write_bytes(&mut out, METRICS, &metric);
        }
        write_number(&mut out, SEQ, u64::from(seq));
        envelope::seal(&mut out, topic.as_bytes());
        out
    }
}

/// NBIRTH, sealed for its topic.
pub fn node_birth(envelope: Envelope, model: &DeviceModel, bd_seq: u8, topic: &str) -> Vec<u8> {
    let mut out = Vec::new();
    begin(&mut out, envelope, Kind::Aside, model);
    write_bd_seq(&mut out, bd_seq);
    let mut rebirth = Vec::new();
    write_bytes(&mut rebirth, NAME, REBIRTH.as_bytes());
    write_number(&mut rebirth, DATATYPE, DataType::Boolean as u64);
    write_number(&mut rebirth, BOOLEAN_VALUE, 0);
    write_bytes(&mut out, METRICS, &rebirth);
    write_number(&mut out, SEQ, 0);
    envelope::seal(&mut out, topic.as_bytes());
    out
}

/// NDEATH, the Will Message: no `seq`, and the `bdSeq` of the birth that it ends.
pub fn node_death(envelope: Envelope, model: &DeviceModel, bd_seq: u8, topic: &str) -> Vec<u8> {
    let mut out = Vec::new();
    begin(&mut out, envelope, Kind::Aside, model);
    write_bd_seq(&mut out, bd_seq);
    envelope::seal(&mut out, topic.as_bytes());
    out
}

/// DDEATH.
pub fn device_death(envelope: Envelope, model: &DeviceModel, seq: u8, topic: &str) -> Vec<u8> {
    let mut out = Vec::new();
    begin(&mut out, envelope, Kind::Aside, model);
    write_number(&mut out, SEQ, u64::from(seq));
    envelope::seal(&mut out, topic.as_bytes());
    out
}

/// Whether an NCMD asks for a rebirth.
pub fn asks_for_rebirth(payload: &[u8]) -> bool {
    fields(payload).any(|(field, wire)| match wire {
        Wire::Bytes(metric) if field == METRICS => {
            let named = fields(metric).any(|field| field == (NAME, Wire::Bytes(REBIRTH.as_bytes())));
            named && fields(metric).any(|field| field == (BOOLEAN_VALUE, Wire::Number(1)))
        }
        _ => false,
    })
}

fn begin(out: &mut Vec<u8>, envelope: Envelope, kind: Kind, model: &DeviceModel) {
    out.extend_from_slice(SPARKPLUG_HEAD);
    envelope::append_binary(out, envelope, kind);
    write_number(out, TIMESTAMP, timestamp(model));
}

fn timestamp(model: &DeviceModel) -> u64 {
    model.unix_ms().max(0) as u64
}

fn write_bd_seq(out: &mut Vec<u8>, bd_seq: u8) {
    let mut metric = Vec::new();
    write_bytes(&mut metric, NAME, BD_SEQ.as_bytes());
    write_number(&mut metric, DATATYPE, DataType::UInt64 as u64);
    write_number(&mut metric, LONG_VALUE, u64::from(bd_seq));
    write_bytes(out, METRICS, &metric);
}

fn write_value(metric: &mut Vec<u8>, value: Value<'_>) {
    match value {
        Value::Number { value, decimals } => match rounded(value, decimals) {
            Some(whole) if decimals == 0 => write_number(metric, LONG_VALUE, whole as i64 as u64),
            Some(number) => write_double(metric, DOUBLE_VALUE, number),
            None => write_number(metric, IS_NULL, 1),
        },
        Value::Text(text) => write_bytes(metric, STRING_VALUE, text.as_bytes()),
        Value::Flag(flag) => write_number(metric, BOOLEAN_VALUE, u64::from(flag)),
        Value::Time(time) => write_number(metric, LONG_VALUE, time as u64),
    }
}
