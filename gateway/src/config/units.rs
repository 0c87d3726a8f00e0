//! Sizes and durations as people write them: an integer and a unit, `64MiB`, `250ms`.

use std::time::Duration;

const SIZES: [(&str, u64); 8] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("KB", 1_000),
];

const DURATIONS_MS: [(&str, u64); 5] =
    [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Bytes of `64KiB`, `10 GB`, `512B`, `512`; `None` when it is not a size or does not fit.
#[must_use]
pub fn parse_size(text: &str) -> Option<u64> {
    let (number, unit) = split(text)?;
    let factor = match unit {
        "" | "B" => 1,
        unit => SIZES.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit))?.1,
    };
    number.checked_mul(factor)
}

/// The time of `250ms`, `5s`, `10m`, `1h`, `7d`; `None` when it is not a duration or does not fit.
#[must_use]
pub fn parse_duration(text: &str) -> Option<Duration> {
    let (number, unit) = split(text)?;
    let factor = DURATIONS_MS.iter().find(|(name, _)| *name == unit)?.1;
    number.checked_mul(factor).map(Duration::from_millis)
}

/// The shortest text that a size key reads back as `bytes`: `64MiB`, `65537B`.
#[must_use]
pub fn format_size(bytes: u64) -> String {
    let exact = SIZES.iter().take(4).find(|(_, factor)| bytes >= *factor && bytes.is_multiple_of(*factor));
    exact.map_or_else(|| format!("{bytes}B"), |(unit, factor)| format!("{}{unit}", bytes / factor))
}

/// The shortest text that a duration key reads back as `duration`, in whole milliseconds: `7d`, `1500ms`.
#[must_use]
pub fn format_duration(duration: Duration) -> String {
    let ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let exact = DURATIONS_MS.iter().find(|(_, factor)| ms >= *factor && ms.is_multiple_of(*factor));
    exact.map_or_else(|| format!("{ms}ms"), |(unit, factor)| format!("{}{unit}", ms / factor))
}

fn split(text: &str) -> Option<(u64, &str)> {
    let text = text.trim();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits)?;
    Some((number.parse().ok()?, unit.trim_start()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sizes_are_read_with_and_without_a_unit() {
        assert_eq!(parse_size("512"), Some(512));
        assert_eq!(parse_size("512B"), Some(512));
        assert_eq!(parse_size("64KiB"), Some(65_536));
        assert_eq!(parse_size("64 kib"), Some(65_536));
        assert_eq!(parse_size("10GB"), Some(10_000_000_000));
        for bad in ["", "MiB", "1.5GiB", "-1", "1XiB", "99999999999TiB", "1MiB x", "18446744073709551616"] {
            assert_eq!(parse_size(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn durations_need_a_unit() {
        assert_eq!(parse_duration("250ms"), Some(Duration::from_millis(250)));
        assert_eq!(parse_duration("5s"), Some(Duration::from_secs(5)));
        assert_eq!(parse_duration("7d"), Some(Duration::from_secs(604_800)));
        for bad in
            ["", "5", "s", "5 S", "1M", "1h30m", "-5s", "99999999999999999999s", "18446744073709551615d"]
        {
            assert_eq!(parse_duration(bad), None, "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_printed_reads_back(bytes: u64, ms: u64) {
            prop_assert_eq!(parse_size(&format_size(bytes)), Some(bytes));
            let duration = Duration::from_millis(ms);
            prop_assert_eq!(parse_duration(&format_duration(duration)), Some(duration));
        }
    }
}
