//! Where a report was measured, as far as the system says.

use std::fs;

/// A paragraph: the command, the processor, memory, the kernel, and how busy the machine was before.
pub(super) fn describe() -> String {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let memory_kib: u64 = field("/proc/meminfo", "MemTotal").trim_end_matches(" kB").parse().unwrap_or(0);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    format!(
        "`device-sim {}` on {cores} cores ({}), {} GiB of memory, Linux {}. Brokers and clients share them. Load average over the last \
         15 minutes, this run included: {}.\n",
        arguments.join(" "),
        field("/proc/cpuinfo", "model name"),
        memory_kib >> 20,
        kernel.trim(),
        load.split_whitespace().nth(2).unwrap_or("unknown"),
    )
}

/// The first field of this name in a file of `name : value` lines.
fn field(file: &str, name: &str) -> String {
    let text = fs::read_to_string(file).unwrap_or_default();
    let found = text.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == name).then(|| value.trim().to_owned())
    });
    found.unwrap_or_else(|| "unknown".to_owned())
}
