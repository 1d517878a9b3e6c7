//! How much memory this machine has, and how much of it this process may use.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Memory, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// What the machine has.
    pub total: u64,
    /// What could be had now.
    pub available: u64,
    /// What the control groups of this process allow, if they bound it.
    pub limit: Option<u64>,
}

impl Memory {
    /// Looks. All zero where nothing says so.
    pub fn look() -> Self {
        let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let allowed = |path: PathBuf| fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
        let total = of_meminfo(&text, "MemTotal:").unwrap_or_default();
        Self {
            total,
            available: of_meminfo(&text, "MemAvailable:").unwrap_or_default(),
            // Without a bound the first version of control groups says a number beyond any machine.
            limit: limit_files(&groups).into_iter().filter_map(allowed).min().filter(|limit| *limit < total),
        }
    }

    /// What this process may use at most.
    pub fn allowed(&self) -> u64 {
        self.limit.unwrap_or(self.total)
    }
}

fn of_meminfo(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// Where the bounds of the control groups stand that `/proc/self/cgroup` lists: of the group itself and of all above.
fn limit_files(groups: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(group)) = (fields.next(), fields.next()) else { continue };
        let (root, name) = match controllers {
            "" => ("/sys/fs/cgroup", "memory.max"),
            names if names.split(',').any(|name| name == "memory") => {
                ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
            }
            _ => continue,
        };
        let group = Path::new(group.trim_start_matches('/'));
        files.extend(group.ancestors().map(|group| Path::new(root).join(group).join(name)));
    }
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bounds_of_all_groups_above_count() {
        let paths = |text| limit_files(text).iter().map(|path| path.display().to_string()).collect::<Vec<_>>();
        assert_eq!(
            paths("0::/system.slice/contemplant.service\n"),
            [
                "/sys/fs/cgroup/system.slice/contemplant.service/memory.max",
                "/sys/fs/cgroup/system.slice/memory.max",
                "/sys/fs/cgroup/memory.max",
            ]
        );
        assert_eq!(
            paths("5:cpu,cpuacct:/a\n4:memory:/docker/x\n"),
            [
                "/sys/fs/cgroup/memory/docker/x/memory.limit_in_bytes",
                "/sys/fs/cgroup/memory/docker/memory.limit_in_bytes",
                "/sys/fs/cgroup/memory/memory.limit_in_bytes",
            ]
        );
        assert_eq!(paths("0::/\n"), ["/sys/fs/cgroup/memory.max"]);
    }

    #[test]
    fn memory_is_read_in_bytes() {
        let text = "MemTotal:       24576000 kB\nMemFree: 1 kB\nMemAvailable:   16000000 kB\n";
        assert_eq!(of_meminfo(text, "MemTotal:"), Some(24_576_000 * 1024));
        assert_eq!(of_meminfo(text, "MemAvailable:"), Some(16_000_000 * 1024));
        assert_eq!(of_meminfo("", "MemTotal:"), None);
    }
}
