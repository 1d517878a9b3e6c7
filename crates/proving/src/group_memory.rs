//! How much memory a process group takes.

use crate::shared_memory::group_members;

/// What one process takes, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Taken {
    /// Its own memory, in RAM or swapped out.
    own: u64,
    /// Shared memory that it has touched.
    shared: u64,
}

/// Memory of the processes of group `pgid`, in bytes: their own memory, swapped out or not, and their shared memory,
/// which counts once. Files that are only mapped are not in it. Reads `/proc`: a few milliseconds.
pub(crate) fn memory_of_group(pgid: u32) -> u64 {
    let taken = group_members(pgid).into_iter().filter_map(|pid| {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        read_status(&status)
    });
    let sum = taken.fold(Taken::default(), |sum, of| Taken {
        own: sum.own.saturating_add(of.own),
        // An executor and its parent have the same memory mapped.
        shared: sum.shared.max(of.shared),
    });
    sum.own.saturating_add(sum.shared)
}

/// Reads `proc_pid_status(5)`. A process that is ending has no memory left to tell of.
fn read_status(status: &str) -> Option<Taken> {
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
    };
    let swapped = field("VmSwap:").unwrap_or_default();
    Some(Taken { own: field("RssAnon:")?.saturating_add(swapped), shared: field("RssShmem:")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn swapped_memory_counts_and_mapped_files_do_not() {
        let status = "VmRSS:\t 70 kB\nRssAnon:\t  10 kB\nRssFile:\t  40 kB\nRssShmem:\t  20 kB\nVmSwap:\t  5 kB\n";
        assert_eq!(read_status(status), Some(Taken { own: 15 << 10, shared: 20 << 10 }));
        assert_eq!(read_status("State:\tZ (zombie)\n"), None);
    }
}
