//! The process's own figures, under the names every Prometheus client uses: memory, CPU, file descriptors, threads.
//!
//! Written straight into the text, because a counter of the recorder is an integer and CPU seconds are not. What the
//! system does not tell is left out.

use std::fmt::Write as _;
use std::fs;
use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};

static START: OnceLock<SystemTime> = OnceLock::new();

/// Notes the time of the start.
pub(super) fn mark_start() {
    START.get_or_init(SystemTime::now);
}

/// Appends the families to `out`.
pub(super) fn render(out: &mut String) {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let field = |name: &str| {
        status.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next()?.parse().ok())
    };
    let start = START.get().and_then(|start| start.duration_since(UNIX_EPOCH).ok());
    let cpu = clock_gettime(ClockId::ProcessCPUTime);

    family(
        out,
        "process_cpu_seconds_total",
        "counter",
        "CPU time, user and system",
        Some(cpu.tv_sec as f64 + cpu.tv_nsec as f64 / 1e9),
    );
    family(
        out,
        "process_resident_memory_bytes",
        "gauge",
        "Resident memory",
        field("VmRSS:").map(|kib: f64| kib * 1024.0),
    );
    family(out, "process_threads", "gauge", "Threads", field("Threads:"));
    family(out, "process_open_fds", "gauge", "Open file descriptors", open_fds());
    family(
        out,
        "process_max_fds",
        "gauge",
        "Most file descriptors allowed",
        getrlimit(Resource::Nofile).current.map(|limit| limit as f64),
    );
    family(
        out,
        "process_start_time_seconds",
        "gauge",
        "Time of the start, since the Unix epoch",
        start.map(|start| start.as_secs_f64()),
    );
}

fn family(out: &mut String, name: &str, kind: &str, help: &str, value: Option<f64>) {
    if let Some(value) = value {
        // Writing into a String does not fail.
        let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n");
    }
}

/// Newer kernels tell the number as the size of the directory; counting 100,000 entries at each scrape is for older ones.
fn open_fds() -> Option<f64> {
    let told = fs::metadata("/proc/self/fd").ok()?.len();
    if told > 0 {
        return Some(told as f64);
    }
    // One of them is this directory, being read.
    Some(fs::read_dir("/proc/self/fd").ok()?.count().saturating_sub(1) as f64)
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use super::*;

    fn value(name: &str) -> f64 {
        let mut out = String::new();
        render(&mut out);
        let line = out
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .unwrap_or_else(|| panic!("no {name} in {out}"));
        line.trim().parse().unwrap()
    }

    #[test]
    fn figures_are_of_this_process() {
        mark_start();
        assert!(value("process_resident_memory_bytes ") > 1e6);
        assert!(value("process_threads ") >= 1.0);
        assert!(value("process_max_fds ") >= 16.0);
        assert!(value("process_start_time_seconds ") > 1.7e9);
    }

    #[test]
    fn cpu_time_has_fractions_and_grows() {
        let before = value("process_cpu_seconds_total ");
        let spun = (0..2_000_000_u64).fold(0_u64, |sum, n| std::hint::black_box(sum ^ n));
        assert!(value("process_cpu_seconds_total ") > before, "{spun}");
    }

    #[test]
    fn an_open_file_is_counted() {
        // Other tests open files in the same process, so this one opens more than they do.
        let before = value("process_open_fds ");
        let files: Vec<_> = (0..200).map(|_| fs::File::open("/proc/self/status").unwrap()).collect();
        assert!(value("process_open_fds ") >= before + 100.0, "{} files", files.len());
    }
}
