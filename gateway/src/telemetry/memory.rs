//! How much memory this process has, and how much it may have.
//!
//! What counts is memory of its own: pages of files come and go as the kernel likes. What the system does not tell is `None`.

use std::fs;
use std::path::{Path, PathBuf};

/// Control groups without a limit of their own give a number near the largest there is.
const NO_LIMIT: u64 = 1 << 60;
/// Of the machine's memory, where nothing else is said.
const PART_OF_MACHINE: f64 = 0.6;

/// Resident memory of this process, shared pages and pages of files not counted, in bytes.
#[must_use]
pub fn resident_bytes() -> Option<u64> {
    let statm = fs::read_to_string("/proc/self/statm").ok()?;
    let mut pages = statm.split(' ').skip(1).map_while(|field| field.parse::<u64>().ok());
    let (resident, shared) = (pages.next()?, pages.next()?);
    Some(resident.saturating_sub(shared) * rustix::param::page_size() as u64)
}

/// The memory this process may use: what its control group allows, or [60 %](PART_OF_MACHINE) of the machine's.
#[must_use]
pub fn limit_bytes() -> Option<u64> {
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let allowed = group_limit(&groups, Path::new("/sys/fs/cgroup"));
    let machine = machine_bytes(&fs::read_to_string("/proc/meminfo").unwrap_or_default());
    match (allowed, machine) {
        // A limit that no memory stands behind is none.
        (Some(allowed), Some(machine)) if allowed >= machine => Some(part(machine)),
        (Some(allowed), _) => Some(allowed),
        (None, machine) => machine.map(part),
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "less than the number it is a part of"
)]
fn part(machine: u64) -> u64 {
    (machine as f64 * PART_OF_MACHINE) as u64
}

fn machine_bytes(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
}

/// The least limit of the control group and those it is in. `groups` is `/proc/self/cgroup`, `root` where control groups are mounted.
fn group_limit(groups: &str, root: &Path) -> Option<u64> {
    let mut least = None;
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) = (fields.next(), fields.next(), fields.next()) else {
            continue;
        };
        // Version 2 has no controllers here and one tree; in version 1 each has its own.
        let (mount, file) = match controllers {
            "" => (root.to_path_buf(), "memory.max"),
            _ if controllers.split(',').any(|name| name == "memory") => {
                (root.join("memory"), "memory.limit_in_bytes")
            }
            _ => continue,
        };
        let mut group: PathBuf = mount.join(path.trim_start_matches('/'));
        loop {
            let limit =
                fs::read_to_string(group.join(file)).ok().and_then(|text| text.trim().parse::<u64>().ok());
            least = [least, limit.filter(|limit| *limit < NO_LIMIT)].into_iter().flatten().min();
            if group == mount || !group.pop() {
                break;
            }
        }
    }
    least
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_memory_and_may_have_more() {
        let before = resident_bytes().expect("/proc");
        let block = vec![1_u8; 64 << 20];
        let after = resident_bytes().expect("/proc");
        assert!(after > before + (60 << 20), "{before} {after} {}", block.len());
        assert!(limit_bytes().expect("a machine has memory") > before);
    }

    #[test]
    fn the_least_limit_on_the_way_to_the_root_counts() {
        let root = tempfile::tempdir().unwrap();
        let put = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        put("a/b/memory.max", "max\n");
        put("a/memory.max", "1048576\n");
        put("memory/x/memory.limit_in_bytes", "4096\n");
        put("memory/memory.limit_in_bytes", "9223372036854771712\n");
        assert_eq!(group_limit("0::/a/b\n", root.path()), Some(1 << 20));
        assert_eq!(group_limit("0::/\n", root.path()), None);
        assert_eq!(group_limit("5:cpu,cpuacct:/y\n4:memory:/x\n", root.path()), Some(4096));
        assert_eq!(group_limit("4:memory:/\nnonsense\n", root.path()), None);
        assert_eq!(machine_bytes("MemTotal:       1000 kB\nMemFree: 1 kB\n"), Some(1_024_000));
    }
}
