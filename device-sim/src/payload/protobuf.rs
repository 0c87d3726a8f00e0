//! Protocol Buffers: by the user's own descriptor, or by a schema made from the model.
//!
//! The descriptor is read by prost-reflect, once; a payload is written from tags made then. The envelope travels in a field
//! with the highest number there is, which every decoder skips as unknown.

use std::path::Path;

use prost_reflect::{DescriptorPool, EnumDescriptor, FieldDescriptor, MessageDescriptor};

use super::wire::{WireType, write_tag, write_varint, zigzag};
use super::{Reading, rounded};
use crate::envelope::{self, PROTOBUF_FIELD, PROTOBUF_HEAD};
use crate::model::{ClockForm, FieldSpec, ModelSpec, SourceSpec, Value};

/// The largest descriptor that is read.
const DESCRIPTOR_BYTES_MAX: u64 = 4 << 20;

/// A message of the user's.
#[derive(Clone, Debug, PartialEq)]
pub struct Schema(MessageDescriptor);

/// Why a descriptor is of no use.
#[derive(Debug, thiserror::Error)]
pub enum DescriptorFault {
    /// The file.
    #[error("cannot read the descriptor {path}: {error}")]
    Unreadable {
        /// Where it was looked for.
        path: String,
        /// What the system says.
        error: std::io::Error,
    },
    /// The file is longer than any descriptor.
    #[error("the descriptor {path} is larger than {DESCRIPTOR_BYTES_MAX} bytes")]
    TooLarge {
        /// Its name.
        path: String,
    },
    /// The bytes.
    #[error("this is not a FileDescriptorSet (`protoc --include_imports --descriptor_set_out=...`): {0}")]
    NotADescriptor(String),
    /// The message.
    #[error("there is no message `{0}` in the descriptor")]
    NoMessage(String),
    /// A field of the model that the message does not have.
    #[error("the message `{message}` has no field `{field}`")]
    NoField {
        /// The message.
        message: String,
        /// The model's field.
        field: String,
    },
    /// A field that cannot hold what the model measures.
    #[error("the field `{field}` of `{message}` cannot hold {what}")]
    Unfit {
        /// The message.
        message: String,
        /// The field.
        field: String,
        /// What the model has.
        what: &'static str,
    },
}

/// Per field of a model: its tag, and how its value is written.
#[derive(Debug, PartialEq)]
pub struct Tags(Box<[Tag]>);

#[derive(Debug, PartialEq)]
struct Tag {
    /// The tag, written.
    bytes: Box<[u8]>,
    scalar: Scalar,
}

#[derive(Clone, Debug, PartialEq)]
enum Scalar {
    Double,
    Float,
    Varint,
    Zigzag,
    Fixed64,
    Fixed32,
    Bool,
    Text,
    /// The numbers of the model's words, by their places.
    Enum(Box<[i32]>),
}

impl Schema {
    /// Reads a message out of a file with a FileDescriptorSet.
    ///
    /// # Errors
    /// See [`DescriptorFault`].
    pub fn read(path: &Path, message: &str) -> Result<Self, DescriptorFault> {
        let name = || path.display().to_string();
        let unreadable = |error| DescriptorFault::Unreadable { path: name(), error };
        if std::fs::metadata(path).map_err(unreadable)?.len() > DESCRIPTOR_BYTES_MAX {
            return Err(DescriptorFault::TooLarge { path: name() });
        }
        Self::parse(&std::fs::read(path).map_err(unreadable)?, message)
    }

    /// Reads a message out of a FileDescriptorSet.
    ///
    /// # Errors
    /// See [`DescriptorFault`].
    pub fn parse(descriptor: &[u8], message: &str) -> Result<Self, DescriptorFault> {
        let pool = DescriptorPool::decode(descriptor)
            .map_err(|error| DescriptorFault::NotADescriptor(error.to_string()))?;
        pool.get_message_by_name(message)
            .map(Schema)
            .ok_or_else(|| DescriptorFault::NoMessage(message.to_owned()))
    }
}

impl Tags {
    /// Fields numbered from 1 in the model's order: what [`schema_of`] says.
    pub(super) fn of_model(model: &ModelSpec) -> Self {
        let numbered = model.fields.iter().zip(1..);
        Tags(numbered.map(|(field, number)| Tag::new(number, own_type(field).1)).collect())
    }

    pub(super) fn of_schema(schema: &Schema, model: &ModelSpec) -> Result<Self, DescriptorFault> {
        let message = &schema.0;
        let tag = |field: &FieldSpec| {
            let found = message.get_field_by_name(&field.name).ok_or_else(|| DescriptorFault::NoField {
                message: message.full_name().to_owned(),
                field: field.name.clone(),
            })?;
            let scalar = scalar(&found, &field.source).map_err(|what| DescriptorFault::Unfit {
                message: message.full_name().to_owned(),
                field: field.name.clone(),
                what,
            })?;
            Ok(Tag::new(found.number(), scalar))
        };
        model.fields.iter().map(tag).collect::<Result<_, _>>().map(Tags)
    }

    pub(super) fn write(&self, out: &mut Vec<u8>, reading: &Reading<'_>) {
        out.extend_from_slice(PROTOBUF_HEAD);
        envelope::append_binary(out, reading.envelope, reading.kind);
        for (place, value) in reading.values() {
            let Some(Tag { bytes, scalar }) = self.0.get(place) else { continue };
            let number = match value {
                Value::Number { value, decimals } => match rounded(value, decimals) {
                    Some(number) => number,
                    // Absent: there is no null.
                    None => continue,
                },
                Value::Flag(flag) => f64::from(u8::from(flag)),
                Value::Time(time) => time as f64,
                Value::Text(_) => reading.model.numbers().get(place).copied().unwrap_or(0.0),
            };
            out.extend_from_slice(bytes);
            match scalar {
                Scalar::Double => out.extend_from_slice(&number.to_le_bytes()),
                Scalar::Float => out.extend_from_slice(&(number as f32).to_le_bytes()),
                Scalar::Varint => write_varint(out, number as i64 as u64),
                Scalar::Zigzag => write_varint(out, zigzag(number as i64)),
                Scalar::Fixed64 => out.extend_from_slice(&(number as i64).to_le_bytes()),
                Scalar::Fixed32 => out.extend_from_slice(&(number as i64 as u32).to_le_bytes()),
                Scalar::Bool => out.push(u8::from(number != 0.0)),
                Scalar::Enum(numbers) => {
                    let number = numbers.get(number as usize).copied().unwrap_or(0);
                    write_varint(out, i64::from(number) as u64);
                }
                Scalar::Text => {
                    let text = if let Value::Text(text) = value { text } else { "" };
                    write_varint(out, text.len() as u64);
                    out.extend_from_slice(text.as_bytes());
                }
            }
        }
    }
}

impl Tag {
    fn new(number: u32, scalar: Scalar) -> Self {
        let wire_type = match scalar {
            Scalar::Double | Scalar::Fixed64 => WireType::Fixed64,
            Scalar::Float | Scalar::Fixed32 => WireType::Fixed32,
            Scalar::Varint | Scalar::Zigzag | Scalar::Bool | Scalar::Enum(_) => WireType::Varint,
            Scalar::Text => WireType::Delimited,
        };
        let mut bytes = Vec::new();
        write_tag(&mut bytes, number, wire_type);
        Tag { bytes: bytes.into(), scalar }
    }
}

/// The schema of a model's payloads, as a `.proto` file.
pub fn schema_of(model: &ModelSpec) -> String {
    let mut text = format!("syntax = \"proto3\";\n\nmessage {} {{\n", message_name(&model.name));
    for (field, number) in model.fields.iter().zip(1..) {
        let letter = |letter: char| if letter.is_ascii_alphanumeric() { letter } else { '_' };
        let name: String = field.name.chars().map(letter).collect();
        text += &format!("  {} {name} = {number};\n", own_type(field).0);
    }
    text + &format!("  bytes envelope = {PROTOBUF_FIELD};\n}}\n")
}

/// `cold-room` to `ColdRoom`.
fn message_name(model: &str) -> String {
    let words = model.split(|letter: char| !letter.is_ascii_alphanumeric());
    words
        .map(|word| {
            let mut letters = word.chars();
            letters
                .next()
                .map_or(String::new(), |first| first.to_ascii_uppercase().to_string() + letters.as_str())
        })
        .collect()
}

/// The type that a field gets when there is no descriptor.
fn own_type(field: &FieldSpec) -> (&'static str, Scalar) {
    match &field.source {
        SourceSpec::Number { decimals: 0, .. } => ("sint64", Scalar::Zigzag),
        SourceSpec::Number { .. } => ("double", Scalar::Double),
        SourceSpec::Flag { .. } => ("bool", Scalar::Bool),
        SourceSpec::Words(_) | SourceSpec::Text(_) => ("string", Scalar::Text),
        SourceSpec::Clock(ClockForm::UnixMs | ClockForm::UnixS) => ("int64", Scalar::Varint),
    }
}

/// How a field of the user's takes what the model has; or what it cannot take.
fn scalar(field: &FieldDescriptor, source: &SourceSpec) -> Result<Scalar, &'static str> {
    use prost_reflect::Kind;
    if field.is_list() || field.is_map() {
        return Err("a single value: it is repeated");
    }
    let (what, number, flag, text) = match source {
        SourceSpec::Number { .. } => ("a number", true, false, false),
        SourceSpec::Clock(_) => ("a time as a number", true, false, false),
        SourceSpec::Flag { .. } => ("true and false", false, true, false),
        SourceSpec::Words(_) => ("a word", false, false, true),
        SourceSpec::Text(_) => ("a text", false, false, true),
    };
    match field.kind() {
        Kind::Double if number => Ok(Scalar::Double),
        Kind::Float if number => Ok(Scalar::Float),
        Kind::Int32 | Kind::Int64 | Kind::Uint32 | Kind::Uint64 if number => Ok(Scalar::Varint),
        Kind::Sint32 | Kind::Sint64 if number => Ok(Scalar::Zigzag),
        Kind::Fixed64 | Kind::Sfixed64 if number => Ok(Scalar::Fixed64),
        Kind::Fixed32 | Kind::Sfixed32 if number => Ok(Scalar::Fixed32),
        Kind::Bool if flag => Ok(Scalar::Bool),
        Kind::String if text => Ok(Scalar::Text),
        Kind::Enum(values) => match source {
            SourceSpec::Words(states) => {
                let number = |word: &str| enum_number(&values, word).ok_or("every one of its words");
                states
                    .states
                    .iter()
                    .map(|state| number(&state.word))
                    .collect::<Result<_, _>>()
                    .map(Scalar::Enum)
            }
            _ => Err(what),
        },
        _ => Err(what),
    }
}

/// `running` as `running`, `RUNNING` or, in the style guide's way, `PUMP_STATE_RUNNING` of `PumpState`.
fn enum_number(values: &EnumDescriptor, word: &str) -> Option<i32> {
    let loud: String =
        word.chars().map(|letter| if letter == '-' { '_' } else { letter.to_ascii_uppercase() }).collect();
    let found = values
        .get_value_by_name(word)
        .or_else(|| values.get_value_by_name(&loud))
        .or_else(|| values.values().find(|value| value.name().ends_with(&format!("_{loud}"))));
    found.map(|value| value.number())
}
