//! The recorder: installed once, rendered on request, drained every few seconds.
//!
//! A histogram keeps each sample until somebody drains it. A scrape does, but a gateway that nobody scrapes must not
//! grow, so a thread of its own does it too.

use std::sync::OnceLock;
use std::thread;
use std::time::Duration;

use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};

use super::process;

/// Bounds of latency histograms: from one good sync of an NVMe disk to a client that has given up.
const SECONDS_BUCKETS: [f64; 17] = [
    0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    5.0, 10.0,
];
/// Bounds of histograms of bytes: 64 B to 64 MiB, the largest packet there can be.
const BYTES_BUCKETS: [f64; 11] = [
    64.0,
    256.0,
    1_024.0,
    4_096.0,
    16_384.0,
    65_536.0,
    262_144.0,
    1_048_576.0,
    4_194_304.0,
    16_777_216.0,
    67_108_864.0,
];
/// Bounds of all other histograms, which count things: the entries of a group, the packets of a read.
const COUNT_BUCKETS: [f64; 10] =
    [1.0, 4.0, 16.0, 64.0, 256.0, 1_024.0, 4_096.0, 16_384.0, 65_536.0, 262_144.0];

const DRAIN_INTERVAL: Duration = Duration::from_secs(5);

/// Why there are no metrics.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The recorder was refused; most likely this process already has one from elsewhere.
    #[error("the metrics recorder cannot be installed: {0}")]
    Recorder(#[from] BuildError),
    /// This process counts already.
    #[error("the metrics recorder is installed already")]
    Installed,
    /// The thread that drains histograms could not be started.
    #[error("the telemetry thread cannot be started: {0}")]
    Thread(#[from] std::io::Error),
}

static INSTALLED: OnceLock<Metrics> = OnceLock::new();

/// The metrics of this process. Cheap to clone.
#[derive(Clone)]
pub struct Metrics {
    handle: PrometheusHandle,
}

impl Metrics {
    /// Sees to it that this process counts nothing, ever: [`Metrics::install`] then joins a recorder that nobody reports to. For
    /// measuring what counting costs.
    ///
    /// # Errors
    ///
    /// When there is a recorder already.
    pub fn install_stub() -> Result<(), TelemetryError> {
        let handle = builder()?.build_recorder().handle();
        INSTALLED.set(Self { handle }).map_err(|_| TelemetryError::Installed)
    }

    /// Installs the process's recorder, or joins the one installed before.
    ///
    /// # Errors
    ///
    /// When another recorder is in the way, or no thread can be started.
    pub fn install() -> Result<Self, TelemetryError> {
        static INSTALLING: std::sync::Mutex<()> = std::sync::Mutex::new(());

        let _guard = INSTALLING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(installed) = INSTALLED.get() {
            return Ok(installed.clone());
        }
        let installed = Self { handle: builder()?.install_recorder()? };
        describe();
        metrics::gauge!("gateway_build_info", "version" => env!("CARGO_PKG_VERSION")).set(1.0);
        process::mark_start();
        let handle = installed.handle.clone();
        thread::Builder::new().name("telemetry".to_owned()).spawn(move || {
            loop {
                thread::park_timeout(DRAIN_INTERVAL);
                handle.run_upkeep();
            }
        })?;
        Ok(INSTALLED.get_or_init(|| installed).clone())
    }

    /// All families in the Prometheus text format, version 0.0.4. Reads `/proc`, so not for a reactor thread.
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = self.handle.render();
        process::render(&mut text);
        text
    }
}

/// Calls each module's `describe`. To be called after [`Metrics::install`]; again does no harm.
pub fn describe_all(modules: &[fn()]) {
    for describe in modules {
        describe();
    }
}

fn describe() {
    metrics::describe_gauge!(
        "gateway_build_info",
        metrics::Unit::Count,
        "1; the labels tell which build this is"
    );
}

fn builder() -> Result<PrometheusBuilder, BuildError> {
    PrometheusBuilder::new()
        .set_buckets(&COUNT_BUCKETS)?
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS_BUCKETS)?
        .set_buckets_for_metric(Matcher::Suffix("_bytes".to_owned()), &BYTES_BUCKETS)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn a_second_gateway_joins_the_first_ones_recorder() {
        let threads: Vec<_> = (0..4).map(|_| thread::spawn(Metrics::install)).collect();
        let installed: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap().unwrap()).collect();
        metrics::counter!("gateway_telemetry_test_joined_total").increment(3);
        for metrics in installed {
            assert!(metrics.render().contains("\ngateway_telemetry_test_joined_total 3\n"));
        }
    }

    #[test]
    fn histograms_are_buckets_by_the_suffix_of_their_name() {
        let metrics = Metrics::install().unwrap();
        metrics::histogram!("gateway_telemetry_test_wait_seconds").record(0.000_07);
        metrics::histogram!("gateway_telemetry_test_group_bytes").record(100.0);
        metrics::histogram!("gateway_telemetry_test_group_entries").record(5.0);
        let text = metrics.render();
        for line in [
            "# TYPE gateway_telemetry_test_wait_seconds histogram",
            "gateway_telemetry_test_wait_seconds_bucket{le=\"0.00005\"} 0",
            "gateway_telemetry_test_wait_seconds_bucket{le=\"0.0001\"} 1",
            "gateway_telemetry_test_wait_seconds_bucket{le=\"10\"} 1",
            "gateway_telemetry_test_group_bytes_bucket{le=\"64\"} 0",
            "gateway_telemetry_test_group_bytes_bucket{le=\"256\"} 1",
            "gateway_telemetry_test_group_entries_bucket{le=\"4\"} 0",
            "gateway_telemetry_test_group_entries_bucket{le=\"16\"} 1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
    }

    #[test]
    fn what_is_rendered_is_well_formed() {
        let metrics = Metrics::install().unwrap();
        describe_all(&[|| {
            metrics::describe_counter!(
                "gateway_telemetry_test_described_total",
                metrics::Unit::Count,
                "A family that is described"
            );
        }]);
        metrics::counter!("gateway_telemetry_test_described_total", "kind" => "a\"b").increment(1);
        let text = metrics.render();
        assert!(
            text.contains("# HELP gateway_telemetry_test_described_total A family that is described\n"),
            "{text}"
        );
        assert!(text.contains(concat!(
            "gateway_build_info{version=\"",
            env!("CARGO_PKG_VERSION"),
            "\"} 1\n"
        )));
        assert!(text.ends_with('\n'));

        let mut types = BTreeMap::new();
        for line in text.lines().filter(|line| !line.is_empty()) {
            if let Some(declared) = line.strip_prefix("# TYPE ") {
                let (family, kind) = declared.split_once(' ').expect("a family and its type");
                assert_eq!(types.insert(family, kind), None, "{family} is declared twice");
            } else if !line.starts_with("# ") {
                let (series, value) = line.rsplit_once(' ').expect("a series and its value");
                let name = series.split('{').next().unwrap();
                let histogram =
                    ["_bucket", "_sum", "_count"].iter().find_map(|suffix| name.strip_suffix(suffix));
                let family = histogram.filter(|family| types.contains_key(family)).unwrap_or(name);
                assert!(types.contains_key(family), "{family} has no type");
                assert!(value.parse::<f64>().is_ok(), "{line}");
            }
        }
    }
}
