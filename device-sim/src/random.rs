//! Where chance comes from: one seed, and a ChaCha stream per device and purpose cut out of it.
//!
//! Promise: what a device draws depends on the run's seed, the device's number and the purpose alone. Adding a device,
//! or drawing more for one purpose, moves nothing else, so a run can be repeated and compared byte for byte.
//! Nothing in this crate is random otherwise, but for the run's epoch (see [`crate::envelope`]) and a seed nobody chose.

use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// The seed of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seed(pub u64);

/// What a stream of random numbers is used for. The numbers are part of what a seed means: never reuse one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// When the device's events are due.
    Schedule = 1,
    /// What the device measures.
    Model = 2,
    /// The QoS of each event.
    QoS = 3,
    /// The device's place in the fleet: protocol version, phase.
    Fleet = 4,
    /// Back-off jitter after a broken connection.
    Backoff = 5,
    /// A site: where it lies, and its weather.
    Site = 6,
    /// How far a device's clock is off.
    Clock = 7,
    /// Which data come late, and when a device sleeps.
    Uplink = 8,
    /// What a worker refuses.
    Work = 32,
    /// Which connections the network spoils.
    Network = 33,
    /// Which events are poison.
    Poison = 34,
}

impl Seed {
    /// The beginning of the stream of one device for one purpose.
    pub fn bookmark(self, purpose: Purpose, device: u32) -> Bookmark {
        Bookmark { seed: self, stream: (purpose as u64) << 32 | u64::from(device), words: 0 }
    }

    /// The stream of one device for one purpose.
    pub fn stream(self, purpose: Purpose, device: u32) -> ChaCha8Rng {
        self.bookmark(purpose, device).open()
    }
}

/// A stream and how far it was drawn from, in 24 bytes: what a device of a large fleet keeps instead of a generator, which is ten times as large, for it
/// has computed numbers ahead. Drawing begins with computing them again, some 100 ns, so draw all that one event takes at once.
#[derive(Clone, Copy, Debug)]
pub struct Bookmark {
    seed: Seed,
    stream: u64,
    words: u64,
}

impl Bookmark {
    /// Draws from where the last one ended: the same numbers as from the stream itself.
    pub fn draw<T>(&mut self, draw: impl FnOnce(&mut ChaCha8Rng) -> T) -> T {
        let mut rng = self.open();
        let drawn = draw(&mut rng);
        self.words = u64::try_from(rng.get_word_pos()).unwrap_or(0);
        drawn
    }

    fn open(self) -> ChaCha8Rng {
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed.0);
        rng.set_stream(self.stream);
        rng.set_word_pos(self.words.into());
        rng
    }

    /// Leaves out one number of [`unit()`].
    pub fn skip_unit(&mut self) {
        self.words = self.words.wrapping_add(WORDS_OF_UNIT);
    }
}

/// How many words of a stream [`unit()`] takes.
const WORDS_OF_UNIT: u64 = 2;

/// A number in `[0, 1)`.
pub fn unit(rng: &mut impl Rng) -> f64 {
    rng.random::<f64>()
}

/// A draw from the standard normal distribution (Box-Muller; the second value of the pair is not kept, so that the
/// number of words drawn per call is constant).
pub fn normal(rng: &mut impl Rng) -> f64 {
    let radius = (-2.0 * (1.0 - unit(rng)).ln()).sqrt();
    radius * (std::f64::consts::TAU * unit(rng)).cos()
}

/// A draw from the exponential distribution with mean 1.
pub fn exponential(rng: &mut impl Rng) -> f64 {
    -(1.0 - unit(rng)).ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bookmark_goes_on_where_it_was_left() {
        let mut stream = Seed(7).stream(Purpose::Model, 9);
        let mut bookmark = Seed(7).bookmark(Purpose::Model, 9);
        for draws in (0..200).map(|round| round % 7) {
            let wanted: Vec<f64> = (0..draws).map(|_| unit(&mut stream)).collect();
            let drawn: Vec<f64> = bookmark.draw(|rng| (0..draws).map(|_| unit(rng)).collect());
            assert_eq!(drawn, wanted);
            let _ = unit(&mut stream);
            bookmark.skip_unit();
        }
    }

    #[test]
    fn a_stream_is_its_seed_its_device_and_its_purpose() {
        let draw = |seed, purpose, device| Seed(seed).stream(purpose, device).random::<u64>();
        assert_eq!(draw(1, Purpose::Model, 7), draw(1, Purpose::Model, 7));
        assert_ne!(draw(1, Purpose::Model, 7), draw(2, Purpose::Model, 7));
        assert_ne!(draw(1, Purpose::Model, 7), draw(1, Purpose::Model, 8));
        assert_ne!(draw(1, Purpose::Model, 7), draw(1, Purpose::Schedule, 7));
    }

    #[test]
    fn the_normal_draw_has_mean_zero_and_deviation_one() {
        let mut rng = Seed(3).stream(Purpose::Model, 0);
        let draws: Vec<f64> = (0..20_000).map(|_| normal(&mut rng)).collect();
        let mean = draws.iter().sum::<f64>() / 20_000.0;
        let variance = draws.iter().map(|draw| (draw - mean).powi(2)).sum::<f64>() / 20_000.0;
        assert!(mean.abs() < 0.03, "mean {mean}");
        assert!((variance - 1.0).abs() < 0.05, "variance {variance}");
    }
}
