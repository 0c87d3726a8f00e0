//! What a request says, key by key: every fault is found before anything is answered.
//!
//! A body and a query string are read alike. A key is asked for once, by name, type and range; a key that nobody asked for is
//! unknown. Whoever asks gets `None` for what is absent and for what is wrong; [`Fields::finish`] tells the two apart.

use std::ops::RangeInclusive;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use serde_json::{Map, Value};

use crate::admin::problem::{Fault, Kind, Problem};
use crate::config::{format_duration, parse_duration, parse_size};

/// Bytes of a request's body.
pub(super) const BODY_BYTES_MAX: usize = 256 << 10;
/// Keys of one request; more cannot be right.
const KEYS_MAX: usize = 64;
/// Bytes of an unknown key that an answer repeats.
const KEY_SHOWN_MAX: usize = 64;

/// The keys of one request that were not asked for yet, and what was wrong so far.
#[derive(Debug, Default)]
pub(super) struct Fields {
    given: Map<String, Value>,
    known: Vec<&'static str>,
    faults: Vec<Fault>,
}

/// The fields of a JSON body. An empty one has none.
pub(super) struct InBody(pub(super) Fields);
/// The fields of a query string.
pub(super) struct InQuery(pub(super) Fields);

impl<S: Sync> FromRequest<S> for InBody {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        let body: Body = request.into_body();
        let bytes = axum::body::to_bytes(body, BODY_BYTES_MAX).await.map_err(|_| {
            let detail = format!("a body is at most {BODY_BYTES_MAX} bytes long and has to come whole");
            Problem::new(Kind::TooLarge, detail)
        })?;
        if bytes.is_empty() {
            return Ok(Self(Fields::default()));
        }
        match serde_json::from_slice(&bytes) {
            Ok(given) => Fields::of(given).map(Self),
            Err(error) => {
                let detail = format!("expected a JSON object: {error}");
                Err(Problem::invalid(vec![Fault { at: "body".to_owned(), detail }]))
            }
        }
    }
}

impl<S: Sync> FromRequestParts<S> for InQuery {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let pairs = axum::extract::Query::<Vec<(String, String)>>::try_from_uri(&parts.uri);
        let pairs = pairs.map_err(|error| {
            Problem::invalid(vec![Fault { at: "query".to_owned(), detail: error.body_text() }])
        })?;
        let mut given = Map::new();
        let mut faults = Vec::new();
        for (key, value) in pairs.0 {
            if given.insert(key.clone(), Value::String(value)).is_some() && faults.len() < KEYS_MAX {
                faults.push(Fault { at: shown(&key), detail: "given more than once".to_owned() });
            }
        }
        let mut fields = Fields::of(given)?;
        fields.faults = faults;
        Ok(Self(fields))
    }
}

impl Fields {
    fn of(given: Map<String, Value>) -> Result<Self, Problem> {
        if given.len() > KEYS_MAX {
            let detail = format!("{} keys where at most {KEYS_MAX} can have a meaning", given.len());
            return Err(Problem::invalid(vec![Fault { at: "request".to_owned(), detail }]));
        }
        Ok(Self { given, ..Self::default() })
    }

    /// Whether `key` is there and not null. It is not taken.
    pub(super) fn has(&self, key: &str) -> bool {
        self.given.get(key).is_some_and(|value| !value.is_null())
    }

    /// Something is wrong with `key`, or with what it is given together with.
    pub(super) fn fault(&mut self, key: &str, detail: impl Into<String>) {
        self.faults.push(Fault { at: key.to_owned(), detail: detail.into() });
    }

    /// `value` was to be there.
    pub(super) fn required<T>(&mut self, key: &'static str, value: Option<T>) -> Option<T> {
        if value.is_none() && !self.faults.iter().any(|fault| fault.at == key) {
            self.fault(key, "missing");
        }
        value
    }

    /// A value that `read` understands.
    pub(super) fn read<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&Value) -> Result<T, String>,
    ) -> Option<T> {
        self.known.push(key);
        let value = self.given.remove(key).filter(|value| !value.is_null())?;
        match read(&value) {
            Ok(value) => Some(value),
            Err(detail) => {
                self.fault(key, detail);
                None
            }
        }
    }

    /// A string.
    pub(super) fn text(&mut self, key: &'static str, bytes: RangeInclusive<usize>) -> Option<String> {
        self.read(key, |value| match value.as_str() {
            Some(text) if bytes.contains(&text.len()) => Ok(text.to_owned()),
            _ => Err(format!("expected a string of {} to {} bytes", bytes.start(), bytes.end())),
        })
    }

    /// A whole number; in a query its digits.
    pub(super) fn integer(&mut self, key: &'static str, range: RangeInclusive<u64>) -> Option<u64> {
        self.read(key, |value| match integer(value) {
            Some(number) if range.contains(&number) => Ok(number),
            _ => Err(format!("expected a whole number from {} to {}", range.start(), range.end())),
        })
    }

    /// `true` or `false`.
    pub(super) fn flag(&mut self, key: &'static str) -> Option<bool> {
        self.read(key, |value| match value {
            Value::Bool(flag) => Ok(*flag),
            Value::String(text) if text == "true" => Ok(true),
            Value::String(text) if text == "false" => Ok(false),
            _ => Err("expected true or false".to_owned()),
        })
    }

    /// A duration with its unit, `500ms`, in milliseconds.
    pub(super) fn duration_ms(&mut self, key: &'static str, range: RangeInclusive<u64>) -> Option<u64> {
        self.read(key, |value| duration_ms(value, &range))
    }

    /// A list of durations.
    pub(super) fn durations_ms(
        &mut self,
        key: &'static str,
        range: RangeInclusive<u64>,
        count_max: usize,
    ) -> Option<Vec<u64>> {
        self.read(key, |value| match value.as_array() {
            Some(list) if list.len() <= count_max => {
                list.iter().map(|value| duration_ms(value, &range)).collect()
            }
            _ => Err(format!("expected a list of at most {count_max} durations")),
        })
    }

    /// A size in bytes, `64MiB` or a number.
    pub(super) fn size(&mut self, key: &'static str, range: RangeInclusive<u64>) -> Option<u64> {
        self.read(key, |value| {
            let size = value.as_u64().or_else(|| value.as_str().and_then(parse_size));
            size.filter(|size| range.contains(size)).ok_or_else(|| {
                format!("expected a size from {} to {} bytes, like \"64MiB\"", range.start(), range.end())
            })
        })
    }

    /// One of some words.
    pub(super) fn choice<T: Copy>(&mut self, key: &'static str, choices: &[(&str, T)]) -> Option<T> {
        self.read(key, |value| {
            let word = value.as_str();
            let chosen = choices.iter().find(|(name, _)| Some(*name) == word);
            chosen.map(|(_, choice)| *choice).ok_or_else(|| {
                let words: Vec<_> = choices.iter().map(|(name, _)| format!("\"{name}\"")).collect();
                format!("expected {}", words.join(" or "))
            })
        })
    }

    /// A list with an item at least, each of which `read` understands.
    pub(super) fn list<T>(
        &mut self,
        key: &'static str,
        count_max: usize,
        what: &str,
        read: impl Fn(&Value) -> Option<T>,
    ) -> Option<Vec<T>> {
        self.read(key, |value| {
            let wrong = || format!("expected a list of 1 to {count_max} {what}");
            let list = value.as_array().filter(|list| (1..=count_max).contains(&list.len()));
            let list = list.ok_or_else(wrong)?;
            list.iter().map(|value| read(value).ok_or_else(wrong)).collect()
        })
    }

    /// Everything was asked for.
    pub(super) fn finish(mut self) -> Result<(), Problem> {
        for key in std::mem::take(&mut self.given).keys() {
            let nearest = self.known.iter().min_by_key(|known| strsim::levenshtein(known, key));
            let detail = match nearest {
                Some(known) if strsim::levenshtein(known, key) <= 3 => {
                    format!("unknown; did you mean \"{known}\"?")
                }
                _ if self.known.is_empty() => "unknown; nothing is expected here".to_owned(),
                _ => format!("unknown; known are {}", self.known.join(", ")),
            };
            self.fault(&shown(key), detail);
        }
        if self.faults.is_empty() { Ok(()) } else { Err(Problem::invalid(self.faults)) }
    }

    /// What was read, unless something was wrong with any of it. `value` is `None` only after a fault.
    pub(super) fn finish_with<T>(mut self, value: Option<T>) -> Result<T, Problem> {
        if value.is_none() && self.faults.is_empty() {
            self.fault("request", "something that is needed is missing");
        }
        self.finish()?;
        value.ok_or_else(|| Problem::new(Kind::Invalid, "something that is needed is missing"))
    }
}

/// A whole number, or a string of its digits.
pub(super) fn integer(value: &Value) -> Option<u64> {
    match value {
        Value::String(text) if text.bytes().all(|byte| byte.is_ascii_digit()) => text.parse().ok(),
        value => value.as_u64(),
    }
}

fn duration_ms(value: &Value, range: &RangeInclusive<u64>) -> Result<u64, String> {
    let duration = value.as_str().and_then(parse_duration);
    let ms = duration.and_then(|duration| u64::try_from(duration.as_millis()).ok());
    ms.filter(|ms| range.contains(ms)).ok_or_else(|| {
        let bound = |ms: &u64| format_duration(Duration::from_millis(*ms));
        format!("expected a duration from {} to {}, like \"30s\"", bound(range.start()), bound(range.end()))
    })
}

fn shown(key: &str) -> String {
    key.chars().take(KEY_SHOWN_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn fields(value: Value) -> Fields {
        let Value::Object(given) = value else { panic!("not an object") };
        Fields::of(given).unwrap()
    }

    #[test]
    fn all_faults_are_found_at_once_and_the_nearest_key_is_named() {
        let mut fields =
            fields(json!({"ack_wiat": "5s", "max": 0, "wait": "5", "ids": [], "paused": "perhaps"}));
        assert_eq!(fields.duration_ms("ack_wait", 0..=10_000), None);
        assert_eq!(fields.integer("max", 1..=10), None);
        assert_eq!(fields.duration_ms("wait", 0..=60_000), None);
        assert_eq!(fields.list("ids", 2, "numbers", integer), None);
        assert_eq!(fields.flag("paused"), None);
        let stream = fields.text("stream", 1..=64);
        fields.required("stream", stream);
        let problem = fields.finish().unwrap_err();
        let faults: Vec<_> = problem.faults.iter().map(|fault| &*fault.at).collect();
        assert_eq!(faults, ["max", "wait", "ids", "paused", "stream", "ack_wiat"]);
        assert_eq!(problem.faults[1].detail, "expected a duration from 0ms to 1m, like \"30s\"");
        assert_eq!(problem.faults[5].detail, "unknown; did you mean \"ack_wait\"?");
        assert_eq!(problem.detail, "6 faults; nothing was changed");
    }

    #[test]
    fn a_query_says_numbers_and_flags_in_digits_and_words() {
        let mut fields = fields(json!({"max": "7", "all": "true", "size": "2KiB", "none": null}));
        assert_eq!(fields.integer("max", 1..=10), Some(7));
        assert_eq!(fields.flag("all"), Some(true));
        assert_eq!(fields.size("size", 0..=4096), Some(2048));
        assert_eq!(fields.text("none", 0..=9), None);
        fields.finish().unwrap();
    }

    #[test]
    fn numbers_below_zero_with_a_fraction_or_too_large_are_no_numbers() {
        for value in [json!(-1), json!(1.5), json!("1.5"), json!("18446744073709551616"), json!("")] {
            assert_eq!(integer(&value), None, "{value}");
        }
    }
}
