//! Payloads: how a reading of a [`DeviceModel`] becomes bytes, in six encodings, each with the [`crate::envelope`] in it.
//!
//! Promise: the bytes depend on the reading and the envelope alone; what is written is valid in its encoding for any decoder
//! that knows nothing of this simulator, and [`crate::envelope::open`] finds and checks the envelope without one. An
//! [`Encoder`] is made once per cohort and shared by its devices; it holds every key and tag ready to be copied.
//!
//! Where to read next: [`json`], [`message_pack`], [`cbor`]; [`protobuf`] with or without the user's own schema;
//! [`sparkplug`], which also knows births and deaths.

pub mod cbor;
pub mod json;
pub mod message_pack;
pub mod protobuf;
pub mod sparkplug;
mod wire;

use crate::envelope::{self, BINARY_LEN, Envelope, Kind};
use crate::model::changes::Fields;
use crate::model::world::mix;
use crate::model::{DeviceModel, ModelSpec, Value};
use protobuf::{DescriptorFault, Schema};

/// The most bytes of a raw payload.
pub const RAW_BYTES_MAX: usize = 256 * 1024;

/// The least bytes of a raw payload: the envelope.
pub const RAW_BYTES_MIN: usize = BINARY_LEN;

/// An encoding as a scenario asks for it.
#[derive(Clone, Debug, PartialEq)]
pub enum PayloadSpec {
    /// A JSON object.
    Json,
    /// A MessagePack map.
    MessagePack,
    /// A CBOR map.
    Cbor,
    /// A Protocol Buffers message: the user's, or one made from the model.
    Protobuf(Option<Schema>),
    /// Sparkplug B, by the rules of Eclipse Sparkplug 3.
    Sparkplug,
    /// The envelope and noise, evenly distributed over so many bytes.
    Raw {
        /// At least [`RAW_BYTES_MIN`].
        bytes_min: usize,
        /// At most [`RAW_BYTES_MAX`].
        bytes_max: usize,
    },
}

/// One reading to be written.
#[derive(Clone, Copy)]
pub struct Reading<'a> {
    /// What identifies the event.
    pub envelope: Envelope,
    /// Whether it is one.
    pub kind: Kind,
    /// The device at the moment of the reading.
    pub model: &'a DeviceModel,
    /// Which fields are in it.
    pub fields: Fields,
    /// Sparkplug: the number after that of the node's last message.
    pub seq: u8,
    /// Sparkplug: whether newer readings have been sent before it.
    pub historical: bool,
}

/// Writes the readings of one cohort's devices.
#[derive(Debug, PartialEq)]
pub enum Encoder {
    /// See [`json`].
    Json(json::Keys),
    /// See [`message_pack`].
    MessagePack(message_pack::Keys),
    /// See [`cbor`].
    Cbor(cbor::Keys),
    /// See [`protobuf`].
    Protobuf(protobuf::Tags),
    /// See [`sparkplug`].
    Sparkplug(sparkplug::Metrics),
    /// Noise.
    Raw {
        /// The least bytes.
        bytes_min: usize,
        /// The most bytes.
        bytes_max: usize,
    },
}

impl Encoder {
    /// Gets everything ready for a model.
    ///
    /// # Errors
    /// The model does not fit the user's schema.
    pub fn new(spec: &PayloadSpec, model: &ModelSpec) -> Result<Self, DescriptorFault> {
        Ok(match spec {
            PayloadSpec::Json => Encoder::Json(json::Keys::new(model)),
            PayloadSpec::MessagePack => Encoder::MessagePack(message_pack::Keys::new(model)),
            PayloadSpec::Cbor => Encoder::Cbor(cbor::Keys::new(model)),
            PayloadSpec::Protobuf(None) => Encoder::Protobuf(protobuf::Tags::of_model(model)),
            PayloadSpec::Protobuf(Some(schema)) => {
                Encoder::Protobuf(protobuf::Tags::of_schema(schema, model)?)
            }
            PayloadSpec::Sparkplug => Encoder::Sparkplug(sparkplug::Metrics::new(model)),
            PayloadSpec::Raw { bytes_min, bytes_max } => {
                Encoder::Raw { bytes_min: *bytes_min, bytes_max: *bytes_max }
            }
        })
    }

    /// As scenarios write it.
    pub fn name(&self) -> &'static str {
        match self {
            Encoder::Json(_) => "json",
            Encoder::MessagePack(_) => "messagepack",
            Encoder::Cbor(_) => "cbor",
            Encoder::Protobuf(_) => "protobuf",
            Encoder::Sparkplug(_) => "sparkplug",
            Encoder::Raw { .. } => "raw",
        }
    }

    /// Writes a reading into `out`, which is emptied first, and seals it for its topic.
    pub fn encode(&self, out: &mut Vec<u8>, reading: &Reading<'_>, topic: &str) {
        out.clear();
        match self {
            Encoder::Json(keys) => keys.write(out, reading),
            Encoder::MessagePack(keys) => keys.write(out, reading),
            Encoder::Cbor(keys) => keys.write(out, reading),
            Encoder::Protobuf(tags) => tags.write(out, reading),
            Encoder::Sparkplug(metrics) => metrics.write_data(out, reading),
            Encoder::Raw { bytes_min, bytes_max } => write_noise(out, reading, *bytes_min, *bytes_max),
        }
        envelope::seal(out, topic.as_bytes());
    }
}

impl<'a> Reading<'a> {
    /// The fields in it, with their places.
    fn values(&self) -> impl Iterator<Item = (usize, Value<'a>)> {
        let (model, fields) = (self.model, self.fields);
        (0..model.fields())
            .filter(move |place| fields.contains(*place))
            .filter_map(move |place| Some((place, model.value(place)?)))
    }
}

fn write_noise(out: &mut Vec<u8>, reading: &Reading<'_>, bytes_min: usize, bytes_max: usize) {
    let envelope = reading.envelope;
    envelope::append_binary(out, envelope, reading.kind);
    let key = mix(u64::from(envelope.device) << 32 | u64::from(envelope.sequence));
    let spread = (bytes_max.saturating_sub(bytes_min) as u64).saturating_add(1);
    let bytes = bytes_min.saturating_add((key % spread) as usize);
    let missing = bytes.saturating_sub(out.len());
    out.extend((0_u64..).flat_map(|word| mix(key ^ word).to_le_bytes()).take(missing));
}

/// A number as it is written with so many decimals; none for what is no number.
fn rounded(value: f64, decimals: u8) -> Option<f64> {
    let scale = 10_f64.powi(i32::from(decimals));
    let rounded = (value * scale).round() / scale;
    rounded.is_finite().then_some(rounded)
}
