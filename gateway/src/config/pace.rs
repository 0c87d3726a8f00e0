//! How fast a stream is replayed: `full`, `1000/s`, `10x`.

use std::fmt;

/// Events in a second at most.
const PER_SECOND_MAX: u32 = 10_000_000;
/// A million times as fast as it came, in thousandths.
const THOUSANDTHS_MAX: u32 = 1_000_000_000;

/// How fast a reader of a stream is given it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pace {
    /// As fast as it takes it.
    #[default]
    Full,
    /// So many events in a second at most, 1 to 10,000,000.
    PerSecond(u32),
    /// So many thousandths of the speed at which it was stored, 1 to 1,000,000,000.
    Thousandths(u32),
}

impl Pace {
    /// What [`Pace::parse`] takes, for messages.
    pub const ACCEPTED: &str =
        "full, events in a second as 1000/s, or a multiple of the speed at which they came as 10x or 0.5x";

    /// Reads one of its forms; `None` where it is none, or out of bounds.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if text == "full" {
            return Some(Self::Full);
        }
        if let Some(number) = text.strip_suffix("/s") {
            let rate = whole(number)?;
            return (1..=PER_SECOND_MAX).contains(&rate).then_some(Self::PerSecond(rate));
        }
        let (number, fraction) = match text.strip_suffix('x')?.split_once('.') {
            Some((number, fraction)) => (number, fraction),
            None => (text.strip_suffix('x')?, "0"),
        };
        let fraction =
            (1..=3).contains(&fraction.len()).then(|| whole(&format!("{fraction:0<3}"))).flatten()?;
        let thousandths = whole(number)?.checked_mul(1000)?.checked_add(fraction)?;
        (1..=THOUSANDTHS_MAX).contains(&thousandths).then_some(Self::Thousandths(thousandths))
    }
}

impl fmt::Display for Pace {
    /// The shortest text that [`Pace::parse`] reads back as this.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Full => f.write_str("full"),
            Self::PerSecond(rate) => write!(f, "{rate}/s"),
            Self::Thousandths(thousandths) => {
                let fraction = format!("{:03}", thousandths % 1000);
                match fraction.trim_end_matches('0') {
                    "" => write!(f, "{}x", thousandths / 1000),
                    fraction => write!(f, "{}.{fraction}x", thousandths / 1000),
                }
            }
        }
    }
}

/// Digits alone: no sign, and not none.
fn whole(text: &str) -> Option<u32> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_read_and_written_back() {
        for (text, pace) in [
            ("full", Pace::Full),
            ("1/s", Pace::PerSecond(1)),
            ("10000000/s", Pace::PerSecond(10_000_000)),
            ("10x", Pace::Thousandths(10_000)),
            ("0.5x", Pace::Thousandths(500)),
            ("1.25x", Pace::Thousandths(1_250)),
            ("0.001x", Pace::Thousandths(1)),
            ("1000000x", Pace::Thousandths(1_000_000_000)),
        ] {
            assert_eq!(Pace::parse(text), Some(pace), "{text}");
            assert_eq!(pace.to_string(), text);
        }
        assert_eq!(Pace::parse("2.50x"), Some(Pace::Thousandths(2_500)));
    }

    #[test]
    fn what_is_no_pace_is_refused() {
        for text in [
            "",
            "fast",
            "0/s",
            "-1/s",
            "+1/s",
            "1.5/s",
            "10000001/s",
            "99999999999/s",
            "/s",
            "1 /s",
            "0x",
            "0.0x",
            "x",
            ".5x",
            "1.x",
            "1.2345x",
            "1e3x",
            "1000001x",
            "99999999999x",
            "10",
            "10X",
            "Full",
        ] {
            assert_eq!(Pace::parse(text), None, "{text:?}");
        }
    }
}
