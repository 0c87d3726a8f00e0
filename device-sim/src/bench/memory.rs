//! What idle connections weigh: resident memory at growing numbers of them, and the line through it.
//!
//! One number of connections says little, for a process has memory of its own and its allocator takes it in large pieces. The slope of a
//! line through several does better, and it can be carried on to fleets for which one machine has no ports.

use std::io::{self, Write as _};

use serde::Serialize;

use super::broker::Peer;
use super::scenario::{Scenario, Sizes};
use crate::command::CommandError;
use crate::report::text::grouped;

/// Connections of the points.
const STEPS: [u32; 7] = [1_000, 3_000, 6_000, 9_000, 12_000, 15_000, LARGEST];
/// The last of them: a process has 20,000 files in many places.
pub(super) const LARGEST: u32 = 18_000;
/// How far the line is carried on.
const FLEET: f64 = 1e6;

/// A number of connections, and what the gateway had then.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Point {
    pub(super) connections: u32,
    pub(super) resident_bytes: u64,
    pub(super) cpu_us_per_connect: f64,
    pub(super) connects_per_second: f64,
}

/// The points, and `resident = own + each * connections` through them.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Growth {
    pub(super) points: Vec<Point>,
    pub(super) own_bytes: f64,
    pub(super) bytes_per_connection: f64,
    /// How much of the growth the line explains; 1 is all of it.
    pub(super) r_squared: f64,
}

/// Measures all steps up to `connections_max`, each against a gateway of its own.
pub(super) fn run(gateway: &Peer, sizes: &Sizes, connections_max: u32) -> Result<Growth, CommandError> {
    let mut points = Vec::new();
    for connections in STEPS.into_iter().filter(|step| *step <= connections_max) {
        // A person who waits wants to know what for.
        let _ = writeln!(io::stderr(), "idle connections: {}", grouped(connections.into()));
        let sizes = Sizes { connections: Some(connections), ..*sizes };
        let running = gateway.start(&[])?;
        let figures = Scenario::Connect.measure(&sizes, running.address, Some(running.pid()))?;
        points.push(Point {
            connections,
            resident_bytes: figures.resident_bytes.unwrap_or_default(),
            cpu_us_per_connect: figures.cpu_us_per_connect.unwrap_or_default(),
            connects_per_second: figures.connects_per_second.unwrap_or_default(),
        });
    }
    Ok(Growth::through(points))
}

impl Growth {
    /// The line of least squares.
    fn through(points: Vec<Point>) -> Self {
        let count = points.len().max(1) as f64;
        let (x, y) =
            (|point: &Point| f64::from(point.connections), |point: &Point| point.resident_bytes as f64);
        let mean = |of: &dyn Fn(&Point) -> f64| points.iter().map(of).sum::<f64>() / count;
        let (mean_x, mean_y) = (mean(&x), mean(&y));
        let spread = |of: &dyn Fn(&Point) -> f64| points.iter().map(of).sum::<f64>();
        let xx = spread(&|point| (x(point) - mean_x).powi(2));
        let yy = spread(&|point| (y(point) - mean_y).powi(2));
        let xy = spread(&|point| (x(point) - mean_x) * (y(point) - mean_y));
        let slope = if xx > 0.0 { xy / xx } else { 0.0 };
        let r_squared = if xx > 0.0 && yy > 0.0 { xy * xy / (xx * yy) } else { 1.0 };
        Self { own_bytes: mean_y - slope * mean_x, bytes_per_connection: slope, r_squared, points }
    }

    /// What the line says of a million connections, in bytes.
    pub(super) fn of_a_fleet(&self) -> f64 {
        self.own_bytes + self.bytes_per_connection * FLEET
    }

    /// In words.
    pub(super) fn sentence(&self) -> String {
        format!(
            "{:.0} bytes for each connection beside {:.1} MiB of its own (R² {:.4}); on paper {:.2} GiB for a million. \
             Socket buffers are the kernel's and not in it.",
            self.bytes_per_connection,
            self.own_bytes / f64::from(1 << 20),
            self.r_squared,
            self.of_a_fleet() / f64::from(1 << 30),
        )
    }

    /// The lines of a table.
    pub(super) fn lines(&self) -> Vec<Vec<String>> {
        let headings = ["idle connections", "resident MiB", "CPU µs/connect", "connects/s"];
        let mut lines = vec![headings.map(str::to_owned).to_vec()];
        lines.extend(self.points.iter().map(|point| {
            vec![
                grouped(point.connections.into()),
                format!("{:.1}", point.resident_bytes as f64 / f64::from(1 << 20)),
                format!("{:.1}", point.cpu_us_per_connect),
                grouped(point.connects_per_second as u64),
            ]
        }));
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_goes_through_points_that_lie_on_one() {
        let point = |connections| Point {
            connections,
            resident_bytes: 7_000_000 + 2_048 * u64::from(connections),
            cpu_us_per_connect: 0.0,
            connects_per_second: 0.0,
        };
        let growth = Growth::through(vec![point(1_000), point(5_000), point(18_000)]);
        assert!((growth.bytes_per_connection - 2_048.0).abs() < 1e-6, "{growth:?}");
        assert!((growth.own_bytes - 7e6).abs() < 1.0 && growth.r_squared > 0.999_999, "{growth:?}");
    }
}
