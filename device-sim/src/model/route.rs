//! Routes: a vehicle that drives from stop to stop, and what its receiver says.

use std::f64::consts::TAU;

use rand_chacha::ChaCha8Rng;

use crate::random::{exponential, unit};

/// Kilometres per degree of latitude.
const KM_PER_DEGREE: f64 = 111.32;

/// The most legs of one step; a step so long that it needs more leaves the vehicle where it is by then.
const LEGS_MAX: usize = 256;

/// A route as a scenario describes it.
#[derive(Clone, Debug, PartialEq)]
pub struct RouteSpec {
    /// Stops in degrees north and east, driven in turn; none: stops drawn at random around the device's site.
    pub stops: Vec<(f64, f64)>,
    /// Drawn stops: how far from the site they lie, km.
    pub radius_km: f64,
    /// The mean speed of a leg, km/h.
    pub speed_kmh: f64,
    /// How long a stop lasts on average, seconds.
    pub stop_s: f64,
}

/// What a signal may take from a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RoutePart {
    /// Degrees north.
    Latitude,
    /// Degrees east.
    Longitude,
    /// Speed over ground, km/h.
    Speed,
    /// The way it points, degrees from north.
    Heading,
    /// Kilometres driven.
    Odometer,
}

/// One vehicle on its way.
#[derive(Clone, Debug)]
pub(super) struct Route {
    stops: Box<[(f64, f64)]>,
    next_stop: usize,
    radius_km: f64,
    mean_kmh: f64,
    stop_s: f64,
    /// Degrees of the depot, from which kilometres are counted.
    depot: (f64, f64),
    km_per_degree_east: f64,
    /// East and north of the depot, km.
    position: (f64, f64),
    target: (f64, f64),
    leg_kmh: f64,
    standing_s: f64,
    heading_deg: f64,
    odometer_km: f64,
}

impl Route {
    pub(super) fn new(spec: &RouteSpec, site: (f64, f64), rng: &mut ChaCha8Rng) -> Self {
        let depot = spec.stops.first().copied().unwrap_or(site);
        let km_per_degree_east = KM_PER_DEGREE * depot.0.to_radians().cos().max(0.01);
        let stops: Box<[(f64, f64)]> = spec
            .stops
            .iter()
            .map(|(north, east)| ((east - depot.1) * km_per_degree_east, (north - depot.0) * KM_PER_DEGREE))
            .collect();
        let next_stop = (unit(rng) * stops.len() as f64) as usize;
        let mut route = Route {
            stops,
            next_stop,
            radius_km: spec.radius_km,
            mean_kmh: spec.speed_kmh,
            stop_s: spec.stop_s,
            depot,
            km_per_degree_east,
            position: (0.0, 0.0),
            target: (0.0, 0.0),
            leg_kmh: spec.speed_kmh,
            standing_s: 0.0,
            heading_deg: 0.0,
            odometer_km: (unit(rng) * 200_000.0).round(),
        };
        route.depart(rng);
        route.position = route.target;
        route.depart(rng);
        route
    }

    pub(super) fn advance(&mut self, elapsed_s: f64, rng: &mut ChaCha8Rng) {
        let mut left_s = elapsed_s;
        for _ in 0..LEGS_MAX {
            let stood_s = self.standing_s.min(left_s);
            self.standing_s -= stood_s;
            left_s -= stood_s;
            if left_s <= 0.0 {
                return;
            }
            let (east, north) = (self.target.0 - self.position.0, self.target.1 - self.position.1);
            let (to_go_km, reach_km) = (east.hypot(north), self.leg_kmh * left_s / 3_600.0);
            if reach_km < to_go_km {
                let share = reach_km / to_go_km;
                self.position = (self.position.0 + east * share, self.position.1 + north * share);
                self.odometer_km += reach_km;
                return;
            }
            self.position = self.target;
            self.odometer_km += to_go_km;
            left_s -= to_go_km / self.leg_kmh * 3_600.0;
            self.standing_s = self.stop_s * exponential(rng);
            self.depart(rng);
        }
    }

    pub(super) fn part(&self, part: RoutePart) -> f64 {
        match part {
            RoutePart::Latitude => self.depot.0 + self.position.1 / KM_PER_DEGREE,
            RoutePart::Longitude => self.depot.1 + self.position.0 / self.km_per_degree_east,
            RoutePart::Speed if self.standing_s > 0.0 => 0.0,
            RoutePart::Speed => self.leg_kmh,
            RoutePart::Heading => self.heading_deg,
            RoutePart::Odometer => self.odometer_km,
        }
    }

    /// Chooses the next stop, and how fast it is driven to.
    fn depart(&mut self, rng: &mut ChaCha8Rng) {
        self.target = match self.stops.get(self.next_stop) {
            Some(stop) => {
                self.next_stop = (self.next_stop + 1) % self.stops.len();
                *stop
            }
            None => {
                let (distance, direction) = (self.radius_km * unit(rng).sqrt(), TAU * unit(rng));
                (distance * direction.sin(), distance * direction.cos())
            }
        };
        self.leg_kmh = self.mean_kmh * (0.6 + 0.8 * unit(rng));
        let (east, north) = (self.target.0 - self.position.0, self.target.1 - self.position.1);
        self.heading_deg = east.atan2(north).to_degrees().rem_euclid(360.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Purpose, Seed};

    const SITE: (f64, f64) = (48.0, 11.0);

    fn spec(stops: &[(f64, f64)]) -> RouteSpec {
        RouteSpec { stops: stops.to_vec(), radius_km: 20.0, speed_kmh: 50.0, stop_s: 300.0 }
    }

    fn drive(spec: &RouteSpec, step_s: f64, steps: u32) -> Vec<(f64, f64, f64, f64)> {
        let mut rng = Seed(4).stream(Purpose::Model, 0);
        let mut route = Route::new(spec, SITE, &mut rng);
        (0..steps)
            .map(|_| {
                route.advance(step_s, &mut rng);
                let [north, east, speed, driven] =
                    [RoutePart::Latitude, RoutePart::Longitude, RoutePart::Speed, RoutePart::Odometer]
                        .map(|part| route.part(part));
                (north, east, speed, driven)
            })
            .collect()
    }

    #[test]
    fn a_vehicle_stays_near_its_site_drives_stops_and_counts() {
        let log = drive(&spec(&[]), 10.0, 8_640);
        assert!(log.iter().all(|(north, east, ..)| (north - 48.0).abs() < 0.2 && (east - 11.0).abs() < 0.3));
        assert!(
            log.iter().any(|(.., speed, _)| *speed == 0.0) && log.iter().any(|(.., speed, _)| *speed > 30.0)
        );
        for pair in log.windows(2) {
            let ((north, east, _, before), (north_after, east_after, _, after)) = (pair[0], pair[1]);
            let moved_km = ((north_after - north) * KM_PER_DEGREE)
                .hypot((east_after - east) * KM_PER_DEGREE * 48_f64.to_radians().cos());
            assert!(moved_km <= after - before + 1e-6, "no faster than it drives: {pair:?}");
            assert!(after - before <= 70.0 * 10.0 / 3_600.0 + 1e-9);
        }
    }

    #[test]
    fn named_stops_are_visited() {
        let stops = [(48.0, 11.0), (48.1, 11.1), (48.0, 11.2)];
        let log = drive(&spec(&stops), 60.0, 1_440);
        for (north, east) in stops {
            assert!(log.iter().any(|(n, e, ..)| (n - north).abs() < 1e-6 && (e - east).abs() < 1e-6));
        }
    }

    #[test]
    fn a_step_of_years_ends() {
        drive(&spec(&[]), 1e9, 3);
    }
}
