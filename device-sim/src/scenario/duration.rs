//! Durations as people write them: `500ms`, `30s`, `5m`, `1.5h`.

use std::time::Duration;

/// Reads a number and a unit: `ms`, `s`, `m` or `h`.
///
/// # Errors
/// A sentence for the person who wrote it.
pub fn parse(text: &str) -> Result<Duration, String> {
    let unit_at = text.find(|letter: char| letter.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_at);
    let seconds = match unit {
        "ms" => 0.001,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3_600.0,
        _ => {
            return Err(format!(
                "`{text}` is not a duration: write a number and ms, s, m or h, such as 500ms or 30s"
            ));
        }
    };
    number
        .trim()
        .parse::<f64>()
        .ok()
        .and_then(|number| Duration::try_from_secs_f64(number * seconds).ok())
        .ok_or_else(|| format!("`{text}` is not a duration: `{number}` is not a number it could start with"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_unit_is_understood_and_nonsense_is_refused() {
        assert_eq!(parse("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse("30s"), Ok(Duration::from_secs(30)));
        assert_eq!(parse("1.5h"), Ok(Duration::from_secs(5_400)));
        assert_eq!(parse("2 m"), Ok(Duration::from_secs(120)));
        for wrong in ["", "5", "s", "-3s", "1e99h", "3 days", "nan s"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
