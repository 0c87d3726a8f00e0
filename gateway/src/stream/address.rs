//! The form `$stream/<name>/<from>/<filter>`.

use gateway_protocol::TopicFilter;
use gateway_storage::Offset;

/// What a Topic Filter that reads a stream begins with.
pub const PREFIX: &str = "$stream/";

/// Where reading begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// With the oldest event that is kept.
    Earliest,
    /// With the next event.
    Latest,
    /// With this offset, or the first one after it.
    Offset(Offset),
    /// With the first event stored at or after this time, in milliseconds since the Unix epoch.
    Time(u64),
}

/// A stream, a beginning, and which of the stream's topics are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamAddress<'a> {
    /// The stream's name.
    pub name: &'a str,
    /// Where reading begins.
    pub from: From,
    /// Which topics.
    pub filter: TopicFilter<'a>,
}

/// The filter begins with `$stream/` but is no address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Fewer than three parts after `$stream`.
    #[error("expected $stream/<name>/<from>/<filter>")]
    Incomplete,
    /// `<from>` is none of its forms.
    #[error("<from> is none of: earliest, latest, an offset, an RFC 3339 time, -<n>s|m|h|d")]
    From,
    /// `<filter>` is no Topic Filter.
    #[error("<filter> is not a legal Topic Filter")]
    Filter,
}

impl<'a> StreamAddress<'a> {
    /// Reads a filter. `None`: it is not about a stream. `now_ms` is what `-15m` counts from.
    #[must_use]
    pub fn parse(text: &'a str, now_ms: u64) -> Option<Result<Self, AddressError>> {
        text.strip_prefix(PREFIX).map(|address| Self::parse_address(address, now_ms))
    }

    fn parse_address(address: &'a str, now_ms: u64) -> Result<Self, AddressError> {
        let mut parts = address.splitn(3, '/');
        let (Some(name), Some(from), Some(filter)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(AddressError::Incomplete);
        };
        let from = From::parse(from, now_ms).ok_or(AddressError::From)?;
        let filter = TopicFilter::parse(filter).map_err(|_| AddressError::Filter)?;
        Ok(Self { name, from, filter })
    }
}

impl From {
    /// Reads one of its forms: `earliest`, `latest`, an offset, an RFC 3339 time, `-15m`. `now_ms` is what the last counts from.
    #[must_use]
    pub fn parse(text: &str, now_ms: u64) -> Option<Self> {
        match text {
            "earliest" => return Some(Self::Earliest),
            "latest" => return Some(Self::Latest),
            _ => {}
        }
        if let Some(span) = text.strip_prefix('-') {
            return Some(Self::Time(now_ms.saturating_sub(parse_span_ms(span)?)));
        }
        if text.bytes().all(|byte| byte.is_ascii_digit()) {
            return text.parse().ok().map(|offset| Self::Offset(Offset::new(offset)));
        }
        let time: jiff::Timestamp = text.parse().ok()?;
        Some(Self::Time(u64::try_from(time.as_millisecond()).unwrap_or(0)))
    }
}

fn parse_span_ms(text: &str) -> Option<u64> {
    let unit_at = text.find(|letter: char| !letter.is_ascii_digit())?;
    let (number, unit) = text.split_at_checked(unit_at)?;
    let unit_ms: u64 = match unit {
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(unit_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_700_000_000_000;

    fn from(text: &str) -> Result<From, AddressError> {
        let filter = format!("$stream/telemetry/{text}/devices/#");
        StreamAddress::parse(&filter, NOW).expect("begins with the prefix").map(|address| {
            assert_eq!((address.name, address.filter.as_str()), ("telemetry", "devices/#"));
            address.from
        })
    }

    #[test]
    fn every_form_of_a_beginning_is_read() {
        assert_eq!(from("earliest"), Ok(From::Earliest));
        assert_eq!(from("latest"), Ok(From::Latest));
        assert_eq!(from("17"), Ok(From::Offset(Offset::new(17))));
        assert_eq!(from("-15m"), Ok(From::Time(NOW - 900_000)));
        assert_eq!(from("-2d"), Ok(From::Time(NOW - 2 * 86_400_000)));
        assert_eq!(from("2023-11-14T22:13:20Z"), Ok(From::Time(NOW)));
        assert_eq!(from("2023-11-14T22:13:20.250Z"), Ok(From::Time(NOW + 250)));
    }

    #[test]
    fn what_is_no_beginning_is_refused() {
        for text in [
            "",
            "soon",
            "-",
            "-m",
            "-15",
            "-15y",
            "-99999999999999999999s",
            "1e3",
            "2023-11-14",
            "99999999999999999999",
        ] {
            assert_eq!(from(text), Err(AddressError::From), "{text}");
        }
    }

    #[test]
    fn an_address_has_three_parts() {
        for text in ["$stream/", "$stream/telemetry", "$stream/telemetry/earliest"] {
            assert_eq!(StreamAddress::parse(text, NOW), Some(Err(AddressError::Incomplete)), "{text}");
        }
        assert_eq!(StreamAddress::parse("$stream/t/earliest/", NOW), Some(Err(AddressError::Filter)));
        assert_eq!(StreamAddress::parse("devices/#", NOW), None);
    }
}
