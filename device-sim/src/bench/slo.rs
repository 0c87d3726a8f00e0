//! What a rate has to keep: `p99<50ms,loss=0`.

use std::str::FromStr;

use serde::{Serialize, Serializer};

use super::figures::{Figures, Percentiles};
use crate::scenario::duration;

/// Less than this share of what was asked for is not that rate.
const REACHED: f64 = 0.97;

/// Bounds, all of which have to hold.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Slo {
    text: String,
    bounds: Vec<Bound>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Bound {
    Latency {
        of: Of,
        quantile: Quantile,
        under_us: f64,
    },
    /// Deliveries that never come.
    Lost {
        at_most: f64,
    },
    /// The same as a share of all deliveries, 0 to 1.
    LostShare {
        under: f64,
    },
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Of {
    /// Deliveries if there are any, PUBACKs otherwise.
    Either,
    Delivery,
    Acknowledgement,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Quantile {
    P50,
    P99,
    P999,
    Max,
}

impl FromStr for Slo {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bounds = text.split(',').map(|term| bound(term.trim())).collect::<Result<_, _>>()?;
        Ok(Slo { text: text.to_owned(), bounds })
    }
}

impl Serialize for Slo {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl Slo {
    /// As it was written.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Why these figures do not keep it at this rate; none if they do.
    pub(super) fn missed(&self, figures: &Figures, rate: f64, seconds: f64) -> Option<String> {
        let sent = figures.sent_per_second.unwrap_or(0.0);
        if sent < rate * REACHED {
            return Some(format!("only {sent:.0} events/s were sent"));
        }
        self.bounds.iter().find_map(|bound| bound.missed(figures, seconds))
    }
}

impl Bound {
    fn missed(self, figures: &Figures, seconds: f64) -> Option<String> {
        let lost = figures.undelivered as f64;
        match self {
            Bound::Lost { at_most } => (lost > at_most).then(|| format!("{lost:.0} were lost")),
            Bound::LostShare { under } => {
                let delivered = figures.delivered_per_second.unwrap_or(0.0) * seconds;
                let share = lost / (lost + delivered).max(1.0);
                (share >= under).then(|| format!("{:.3} % were lost", share * 100.0))
            }
            Bound::Latency { of, quantile, under_us } => {
                let found = match of {
                    Of::Delivery => figures.delivery,
                    Of::Acknowledgement => figures.acknowledgement,
                    Of::Either => figures.delivery.or(figures.acknowledgement),
                };
                let Some(found) = found else { return Some("nothing was measured".to_owned()) };
                let us = quantile.of(&found);
                (us >= under_us).then(|| format!("{} was {:.1} ms", quantile.name(), us / 1e3))
            }
        }
    }
}

impl Quantile {
    fn of(self, found: &Percentiles) -> f64 {
        match self {
            Quantile::P50 => found.p50_us,
            Quantile::P99 => found.p99_us,
            Quantile::P999 => found.p999_us,
            Quantile::Max => found.max_us,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Quantile::P50 => "p50",
            Quantile::P99 => "p99",
            Quantile::P999 => "p999",
            Quantile::Max => "max",
        }
    }
}

fn bound(term: &str) -> Result<Bound, String> {
    let wrong = || format!("`{term}` is not a bound: write p50, p99, p999 or max <TIME, loss=0 or loss<0.1%");
    let (name, sign, value) = match (term.split_once('<'), term.split_once('=')) {
        (Some((name, value)), _) => (name.trim(), '<', value.trim()),
        (None, Some((name, value))) => (name.trim(), '=', value.trim()),
        (None, None) => return Err(wrong()),
    };
    if name == "loss" {
        return match (sign, value.strip_suffix('%')) {
            ('<', Some(percent)) => {
                let percent: f64 = percent.trim().parse().map_err(|_| wrong())?;
                Ok(Bound::LostShare { under: percent / 100.0 })
            }
            (_, None) => {
                let count: u32 = value.parse().map_err(|_| wrong())?;
                let at_most = if sign == '<' { count.checked_sub(1).ok_or_else(wrong)? } else { count };
                Ok(Bound::Lost { at_most: f64::from(at_most) })
            }
            _ => Err(wrong()),
        };
    }
    let (of, quantile) = match name.split_once('.') {
        Some(("delivery", quantile)) => (Of::Delivery, quantile),
        Some(("puback", quantile)) => (Of::Acknowledgement, quantile),
        Some(_) => return Err(wrong()),
        None => (Of::Either, name),
    };
    let quantile = match quantile {
        "p50" => Quantile::P50,
        "p99" => Quantile::P99,
        "p999" => Quantile::P999,
        "max" => Quantile::Max,
        _ => return Err(wrong()),
    };
    if sign != '<' {
        return Err(wrong());
    }
    let under_us = duration::parse(value)?.as_secs_f64() * 1e6;
    Ok(Bound::Latency { of, quantile, under_us })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(p99_us: f64, undelivered: u64) -> Figures {
        let percentiles = Percentiles { p50_us: 1.0, p99_us, p999_us: p99_us, max_us: p99_us };
        Figures {
            sent_per_second: Some(1_000.0),
            delivered_per_second: Some(1_000.0),
            delivery: Some(percentiles),
            acknowledgement: Some(Percentiles { p99_us: 5.0, ..percentiles }),
            undelivered,
            ..Figures::default()
        }
    }

    #[test]
    fn bounds_are_kept_or_named() {
        let missed = |slo: &str, figures: &Figures| slo.parse::<Slo>().unwrap().missed(figures, 1_000.0, 2.0);
        assert_eq!(missed("p99<50ms,loss=0", &figures(49_000.0, 0)), None);
        assert_eq!(missed("p99<50ms,loss=0", &figures(51_000.0, 0)).unwrap(), "p99 was 51.0 ms");
        assert_eq!(missed("p99<50ms, loss=0", &figures(1.0, 3)).unwrap(), "3 were lost");
        assert_eq!(missed("loss<4", &figures(1.0, 3)), None);
        assert_eq!(missed("loss<0.1%", &figures(1.0, 3)).unwrap(), "0.150 % were lost");
        assert_eq!(missed("puback.p99<1ms,loss<1%", &figures(51_000.0, 3)), None);
        let slow = Figures { sent_per_second: Some(900.0), ..figures(1.0, 0) };
        assert_eq!(missed("p99<1s", &slow).unwrap(), "only 900 events/s were sent");
    }

    #[test]
    fn nonsense_is_refused() {
        for wrong in
            ["", "p99", "p98<1ms", "p99=1ms", "loss<0", "loss=x", "p99<1", "cpu.p99<1ms", "p99<1ms,,"]
        {
            assert!(wrong.parse::<Slo>().is_err(), "{wrong}");
        }
    }
}
