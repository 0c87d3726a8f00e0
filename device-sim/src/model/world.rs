//! The world around a device: its site with its weather, and its own idea of the time.
//!
//! Promise: a site's weather is a function of the seed, the site and the moment alone, so that all devices of a site see
//! the same weather without sharing anything, and a fleet of any size costs no memory for it.

use std::f64::consts::{PI, TAU};

use crate::random::{Purpose, Seed, unit};

const DAY_S: f64 = 86_400.0;
const HOUR_S: f64 = 3_600.0;

/// The moment at which simulated worlds begin unless a scenario says otherwise: 2026-01-01T00:00:00Z, milliseconds.
pub const START_UNIX_MS: i64 = 1_767_225_600_000;

/// A place where devices stand.
#[derive(Clone, Debug)]
pub struct Site {
    /// As in topics: `site-07`.
    pub name: String,
    /// Degrees north.
    pub latitude: f64,
    /// Degrees east.
    pub longitude: f64,
    climate: Climate,
}

/// What a site's weather is like in the long run.
#[derive(Clone, Copy, Debug)]
struct Climate {
    region: u64,
    site: u64,
    mean_c: f64,
    swing_c: f64,
}

/// The weather at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Weather {
    /// Air temperature, °C.
    pub temperature_c: f64,
    /// Relative humidity, percent.
    pub humidity_pct: f64,
    /// Air pressure at sea level, hPa.
    pub pressure_hpa: f64,
    /// Wind, m/s.
    pub wind_ms: f64,
    /// Rain, mm/h.
    pub rain_mm_h: f64,
    /// Clouds, 0 to 1.
    pub cloud: f64,
    /// Sunlight, 0 to 1 of the strongest.
    pub sun: f64,
}

impl Site {
    /// The site with this number.
    pub fn new(seed: Seed, number: u32) -> Self {
        let mut rng = seed.stream(Purpose::Site, number);
        let latitude = 38.0 + 18.0 * unit(&mut rng);
        let longitude = -6.0 + 28.0 * unit(&mut rng);
        let climate = Climate {
            region: mix(seed.0),
            site: mix(seed.0 ^ mix(u64::from(number) + 1)),
            mean_c: 26.0 - 0.35 * (latitude - 30.0) + 2.0 * unit(&mut rng),
            swing_c: 3.0 + 4.0 * unit(&mut rng),
        };
        Site { name: Self::name_of(number), latitude, longitude, climate }
    }

    /// The name of the site with this number.
    pub fn name_of(number: u32) -> String {
        format!("site-{number:02}")
    }

    /// The weather, seconds from the start of the simulated world, which begins at midnight.
    ///
    /// Fronts cross the region in days and reach every site alike; clouds and gusts are the site's own. A low brings
    /// clouds, wind and rain; clouds dim the sun and flatten the day's swing; cool air is damp.
    pub fn weather(&self, now_s: f64) -> Weather {
        let Climate { region, site, mean_c, swing_c } = self.climate;
        let high = 0.8 * noise(region, 0, now_s / (2.5 * DAY_S)) + 0.2 * noise(site, 1, now_s / DAY_S);
        let cloud = (0.45 - 0.6 * high + 0.35 * noise(site, 2, now_s / (3.0 * HOUR_S))).clamp(0.0, 1.0);
        let day = now_s / DAY_S;
        let daylight = (PI * (2.0 * day - 0.5)).sin().max(0.0);
        let swing = swing_c * (1.0 - 0.5 * cloud) * (TAU * (day - 0.375)).sin();
        let air_mass = 5.0 * noise(region, 3, now_s / (4.0 * DAY_S));
        let away = air_mass + swing + 0.4 * noise(site, 4, now_s / (0.3 * HOUR_S));
        Weather {
            temperature_c: mean_c + away,
            humidity_pct: (62.0 + 40.0 * (cloud - 0.4) - 1.6 * away).clamp(12.0, 100.0),
            pressure_hpa: 1_014.0 + 16.0 * high,
            wind_ms: (3.5 - 4.0 * high + 1.5 * noise(site, 5, now_s / (0.2 * HOUR_S))).max(0.0),
            rain_mm_h: (14.0 * (cloud - 0.7)).max(0.0),
            cloud,
            sun: daylight * (1.0 - 0.8 * cloud),
        }
    }
}

/// How far a device's clock is off.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DeviceClock {
    /// When the simulated world began, milliseconds since 1970.
    pub start_unix_ms: i64,
    /// What the clock is ahead by, seconds.
    pub ahead_s: f64,
    /// What it gains per second.
    pub drift: f64,
}

impl DeviceClock {
    /// What the device believes, milliseconds since 1970.
    pub fn unix_ms(&self, now_s: f64) -> i64 {
        self.start_unix_ms.saturating_add(((now_s * (1.0 + self.drift) + self.ahead_s) * 1e3).round() as i64)
    }
}

/// Smooth noise between -1 and 1 that changes about once per unit of `time`.
fn noise(key: u64, channel: u64, time: f64) -> f64 {
    let start = time.floor();
    let step = start as i64 as u64;
    let at = time - start;
    let smooth = at * at * (3.0 - 2.0 * at);
    let key = key ^ mix(channel + 1);
    let (before, after) = (lattice(key, step), lattice(key, step.wrapping_add(1)));
    before + (after - before) * smooth
}

fn lattice(key: u64, step: u64) -> f64 {
    (mix(key ^ mix(step)) >> 11) as f64 / (1_u64 << 52) as f64 - 1.0
}

/// A well-mixed function of a number (the finaliser of SplitMix64).
pub(crate) fn mix(number: u64) -> u64 {
    let number = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn month(site: &Site) -> Vec<Weather> {
        (0..30 * 24 * 6).map(|step| site.weather(f64::from(step) * 600.0)).collect()
    }

    fn correlation(pairs: &[(f64, f64)]) -> f64 {
        let count = pairs.len() as f64;
        let (mean_a, mean_b) = (
            pairs.iter().map(|pair| pair.0).sum::<f64>() / count,
            pairs.iter().map(|pair| pair.1).sum::<f64>() / count,
        );
        let sum = |of: &dyn Fn(f64, f64) -> f64| -> f64 {
            pairs.iter().map(|(a, b)| of(a - mean_a, b - mean_b)).sum()
        };
        sum(&|a, b| a * b) / (sum(&|a, _| a * a) * sum(&|_, b| b * b)).sqrt()
    }

    #[test]
    fn weather_repeats_with_its_seed_and_differs_between_sites() {
        let (site, again) = (Site::new(Seed(3), 1), Site::new(Seed(3), 1));
        assert_eq!(month(&site), month(&again));
        assert_ne!(month(&site), month(&Site::new(Seed(3), 2)));
        assert_ne!(month(&site), month(&Site::new(Seed(4), 1)));
    }

    #[test]
    fn weather_is_possible_and_moves_smoothly() {
        for number in 0..20 {
            let weather = month(&Site::new(Seed(8), number));
            for now in &weather {
                assert!((-20.0..45.0).contains(&now.temperature_c), "{now:?}");
                assert!((0.0..=100.0).contains(&now.humidity_pct), "{now:?}");
                assert!((990.0..1_040.0).contains(&now.pressure_hpa), "{now:?}");
                assert!(
                    (0.0..=1.0).contains(&now.sun) && now.wind_ms >= 0.0 && now.rain_mm_h >= 0.0,
                    "{now:?}"
                );
            }
            assert!(
                weather.windows(2).all(|pair| (pair[1].temperature_c - pair[0].temperature_c).abs() < 2.0)
            );
            let (noon, midnight) = (weather[12 * 6], weather[24 * 6]);
            assert!(noon.sun > 0.0 && midnight.sun == 0.0);
        }
    }

    #[test]
    fn what_belongs_together_moves_together() {
        let (a, b) = (month(&Site::new(Seed(5), 0)), month(&Site::new(Seed(5), 1)));
        let between: Vec<(f64, f64)> =
            a.iter().zip(&b).map(|(a, b)| (a.pressure_hpa, b.pressure_hpa)).collect();
        assert!(correlation(&between) > 0.7, "neighbours share their fronts: {}", correlation(&between));
        let within: Vec<(f64, f64)> = a.iter().map(|now| (now.pressure_hpa, now.cloud)).collect();
        assert!(correlation(&within) < -0.3, "a high is clear: {}", correlation(&within));
    }

    #[test]
    fn a_clock_that_gains_runs_ahead() {
        let clock = DeviceClock { start_unix_ms: 1_000, ahead_s: 2.0, drift: 1e-3 };
        assert_eq!(clock.unix_ms(0.0), 3_000);
        assert_eq!(clock.unix_ms(1_000.0), 1_004_000);
    }
}
