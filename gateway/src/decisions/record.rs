//! One decision: as it is reported, as it is kept, and as it is read back.
//!
//! Kept as `time 8 | action 1 | reason 1 | level 1 | pressure 1 | count 4 | client 1 | topic 2 | client .. | topic ..`, little endian; the
//! pressure in hundredths. Names are cut where they are longer than anybody reads, so that a client that calls itself 64 KiB costs the
//! log no more than others.

use super::reason::{Action, Reason};
use hashbrown::Equivalent;
use serde::{Serialize, Serializer};

/// Bytes of a Client Identifier and of a topic that are kept.
const CLIENT_BYTES_MAX: usize = 128;
const TOPIC_BYTES_MAX: usize = 256;
const HEADER_BYTES: usize = 19;
/// Bytes of the longest record.
pub(super) const ENCODED_BYTES_MAX: usize = HEADER_BYTES + CLIENT_BYTES_MAX + TOPIC_BYTES_MAX;
/// What stands where a name was cut.
const CUT: &str = "…";

/// A decision as it is reported. Empty where there is no client or no topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision<'a> {
    /// The Client Identifier, or the address of one that has not said it.
    pub client: &'a str,
    /// The Topic Name, or the Topic Filter of a subscription.
    pub topic: &'a str,
    /// What was done.
    pub action: Action,
    /// Why.
    pub reason: Reason,
    /// To how many events at once, 1 at least.
    pub count: u32,
}

/// A decision as it is read back.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Recorded {
    /// Its number, counted from the start of the gateway.
    pub id: u64,
    /// When it was made, or the first of `count`, in milliseconds since the Unix epoch; shown as RFC 3339.
    #[serde(rename = "time", serialize_with = "time")]
    pub time_ms: u64,
    /// What was done.
    #[serde(serialize_with = "action")]
    pub action: Action,
    /// Why.
    #[serde(serialize_with = "reason")]
    pub reason: Reason,
    /// The Client Identifier, or an address; cut where it is longer than 128 bytes.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub client: String,
    /// The topic, cut where it is longer than 256 bytes.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub topic: String,
    /// To how many events.
    pub count: u32,
    /// The level then, 0 to 5.
    pub level: u8,
    /// The worst pressure then, in hundredths.
    pub pressure: f64,
}

/// Level and pressure at the time of a decision.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Circumstances {
    pub(super) level: u8,
    pub(super) pressure_percent: u8,
}

/// What two decisions have in common that are told as one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Subject {
    pub(super) client: Box<str>,
    pub(super) topic: Box<str>,
    pub(super) action: Action,
    pub(super) reason: Reason,
}

/// A [`Subject`] that is looked for. Its hash is the same.
#[derive(Clone, Copy, Debug, Hash)]
pub(super) struct SubjectRef<'a> {
    client: &'a str,
    topic: &'a str,
    action: Action,
    reason: Reason,
}

impl<'a> SubjectRef<'a> {
    pub(super) fn of(decision: &Decision<'a>) -> Self {
        // Names that are alike as far as they are kept are one subject.
        let Decision { client, topic, action, reason, .. } = clipped(decision);
        Self { client, topic, action, reason }
    }

    pub(super) fn to_owned(self) -> Subject {
        let Self { client, topic, action, reason } = self;
        Subject { client: client.into(), topic: topic.into(), action, reason }
    }
}

impl Equivalent<Subject> for SubjectRef<'_> {
    fn equivalent(&self, subject: &Subject) -> bool {
        (self.client, self.topic, self.action, self.reason)
            == (&*subject.client, &*subject.topic, subject.action, subject.reason)
    }
}

/// Names as they are kept.
fn clipped<'a>(decision: &Decision<'a>) -> Decision<'a> {
    Decision {
        client: clip(decision.client, CLIENT_BYTES_MAX - CUT.len()),
        topic: clip(decision.topic, TOPIC_BYTES_MAX - CUT.len()),
        ..*decision
    }
}

fn clip(name: &str, bytes_max: usize) -> &str {
    let mut end = name.len().min(bytes_max);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    name.get(..end).unwrap_or_default()
}

/// Appends one record.
pub(super) fn encode(time_ms: u64, circumstances: Circumstances, decision: &Decision<'_>, out: &mut Vec<u8>) {
    let kept = clipped(decision);
    let whole = |kept: &str, all: &str| if kept.len() < all.len() { CUT } else { "" };
    let (client_cut, topic_cut) = (whole(kept.client, decision.client), whole(kept.topic, decision.topic));
    out.extend_from_slice(&time_ms.to_le_bytes());
    out.extend_from_slice(&[
        decision.action as u8,
        decision.reason as u8,
        circumstances.level,
        circumstances.pressure_percent,
    ]);
    out.extend_from_slice(&decision.count.to_le_bytes());
    out.push(u8::try_from(kept.client.len() + client_cut.len()).unwrap_or(u8::MAX));
    out.extend_from_slice(
        &u16::try_from(kept.topic.len() + topic_cut.len()).unwrap_or(u16::MAX).to_le_bytes(),
    );
    for text in [kept.client, client_cut, kept.topic, topic_cut] {
        out.extend_from_slice(text.as_bytes());
    }
}

/// A record where it lies.
#[derive(Clone, Copy, Debug)]
pub(super) struct View<'a> {
    pub(super) time_ms: u64,
    pub(super) action: Action,
    pub(super) reason: Reason,
    pub(super) count: u32,
    pub(super) circumstances: Circumstances,
    pub(super) client: &'a str,
    pub(super) topic: &'a str,
}

/// The first record of `bytes`, and how many bytes it takes.
pub(super) fn decode(bytes: &[u8]) -> Option<(View<'_>, usize)> {
    let (header, rest) = bytes.split_first_chunk::<HEADER_BYTES>()?;
    let [
        t0,
        t1,
        t2,
        t3,
        t4,
        t5,
        t6,
        t7,
        action,
        reason,
        level,
        pressure_percent,
        c0,
        c1,
        c2,
        c3,
        client,
        p0,
        p1,
    ] = *header;
    let client_len = usize::from(client);
    let topic_len = usize::from(u16::from_le_bytes([p0, p1]));
    let client = rest.get(..client_len)?;
    let topic = rest.get(client_len..client_len + topic_len)?;
    let view = View {
        time_ms: u64::from_le_bytes([t0, t1, t2, t3, t4, t5, t6, t7]),
        action: Action::from_u8(action)?,
        reason: Reason::from_u8(reason)?,
        count: u32::from_le_bytes([c0, c1, c2, c3]),
        circumstances: Circumstances { level, pressure_percent },
        client: std::str::from_utf8(client).ok()?,
        topic: std::str::from_utf8(topic).ok()?,
    };
    Some((view, HEADER_BYTES + client_len + topic_len))
}

impl View<'_> {
    pub(super) fn recorded(&self, id: u64) -> Recorded {
        Recorded {
            id,
            time_ms: self.time_ms,
            action: self.action,
            reason: self.reason,
            client: self.client.to_owned(),
            topic: self.topic.to_owned(),
            count: self.count,
            level: self.circumstances.level,
            pressure: f64::from(self.circumstances.pressure_percent) / 100.0,
        }
    }
}

fn action<S: Serializer>(action: &Action, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(action.label())
}

fn reason<S: Serializer>(reason: &Reason, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(reason.label())
}

fn time<S: Serializer>(time_ms: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    let time = i64::try_from(*time_ms).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    serializer.collect_str(&format_args!("{:.3}", time.unwrap_or(jiff::Timestamp::UNIX_EPOCH)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn back(decision: &Decision<'_>) -> Recorded {
        let mut bytes = Vec::new();
        encode(1_700_000_000_250, Circumstances { level: 3, pressure_percent: 88 }, decision, &mut bytes);
        let end = bytes.len();
        bytes.extend_from_slice(b"and what follows");
        let (view, used) = decode(&bytes).unwrap();
        assert_eq!(used, end);
        view.recorded(7)
    }

    const SHED: Decision<'_> = Decision {
        client: "oven-7",
        topic: "devices/oven-7/temperature",
        action: Action::Shed,
        reason: Reason::ShedBulk,
        count: 12,
    };

    #[test]
    fn what_is_kept_is_what_was_reported() {
        let shown = serde_json::to_string(&back(&SHED)).unwrap();
        assert_eq!(
            shown,
            r#"{"id":7,"time":"2023-11-14T22:13:20.250Z","action":"shed","reason":"shed_bulk","client":"oven-7","topic":"devices/oven-7/temperature","count":12,"level":3,"pressure":0.88}"#
        );
        let bare = Decision { client: "", topic: "", ..SHED };
        let shown = serde_json::to_string(&back(&bare)).unwrap();
        assert!(!shown.contains("client") && !shown.contains("topic"), "{shown}");
    }

    #[test]
    fn long_names_are_cut_between_letters() {
        let long = "ä".repeat(40_000);
        let kept = back(&Decision { client: &long, topic: &long, ..SHED });
        assert_eq!(kept.client, format!("{}…", "ä".repeat(62)));
        assert_eq!(kept.topic, format!("{}…", "ä".repeat(126)));
        let fits = "x".repeat(CLIENT_BYTES_MAX - CUT.len());
        assert_eq!(back(&Decision { client: &fits, ..SHED }).client, fits);
    }

    #[test]
    fn what_is_no_record_is_none() {
        let mut bytes = Vec::new();
        encode(1, Circumstances::default(), &SHED, &mut bytes);
        for end in 0..bytes.len() {
            assert!(decode(&bytes[..end]).is_none(), "{end}");
        }
        bytes[8] = 99;
        assert!(decode(&bytes).is_none());
    }
}
