//! What processes cost, from `/proc`.

use std::{collections::HashMap, fs, time::Duration};

use anyhow::Context as _;

/// Ticks of the CPU times in `/proc/<pid>/stat` in a second: `USER_HZ`, which every Linux on this kind of machine has.
const TICKS_PER_SECOND: u64 = 100;

/// Resident memory in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Memory {
    /// Now.
    pub(crate) resident: u64,
    /// The most since the start, or since [`forget_peak`].
    pub(crate) peak: u64,
}

/// Memory of a process and of those that it started.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct TreeMemory {
    pub(crate) parent: Memory,
    pub(crate) children: Memory,
}

impl TreeMemory {
    pub(crate) const fn resident(&self) -> u64 {
        self.parent.resident + self.children.resident
    }

    pub(crate) const fn peak(&self) -> u64 {
        self.parent.peak + self.children.peak
    }
}

/// CPU time of this process.
pub(crate) fn own_cpu() -> anyhow::Result<Duration> {
    let stat = stat(std::process::id()).context("/proc/self/stat could not be read")?;
    Ok(ticks(stat.own_ticks))
}

/// CPU time of a process, of those that it started, and of those that it started and that are gone.
pub(crate) fn tree_cpu(pid: u32) -> anyhow::Result<Duration> {
    let stats: u64 = tree(pid)?.into_iter().filter_map(stat).map(|stat| stat.own_ticks + stat.reaped_ticks).sum();
    Ok(ticks(stats))
}

/// CPU time of everything on this machine since it was started.
pub(crate) fn machine_cpu() -> anyhow::Result<Duration> {
    let stat = fs::read_to_string("/proc/stat")?;
    Ok(ticks(read_machine_stat(&stat).context("/proc/stat could not be read")?))
}

/// Memory of a process and of those that it started.
pub(crate) fn tree_memory(pid: u32) -> anyhow::Result<TreeMemory> {
    let mut memory = TreeMemory::default();
    for member in tree(pid)? {
        let Some(of) = memory_of(member) else { continue };
        let sum = if member == pid { &mut memory.parent } else { &mut memory.children };
        sum.resident += of.resident;
        sum.peak += of.peak;
    }
    Ok(memory)
}

/// The peak of the largest process among a process and those that it started, in bytes.
pub(crate) fn largest_peak(pid: u32) -> anyhow::Result<u64> {
    Ok(tree(pid)?.into_iter().filter_map(memory_of).map(|memory| memory.peak).max().unwrap_or_default())
}

/// From now on, peaks of these processes are counted anew.
pub(crate) fn forget_peak(pid: u32) -> anyhow::Result<()> {
    for member in tree(pid)? {
        fs::write(format!("/proc/{member}/clear_refs"), "5").context("the memory peak could not be reset")?;
    }
    Ok(())
}

fn ticks(ticks: u64) -> Duration {
    Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND)
}

#[derive(Debug, PartialEq, Eq)]
struct Stat {
    parent: u32,
    own_ticks: u64,
    reaped_ticks: u64,
}

fn stat(pid: u32) -> Option<Stat> {
    read_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// Reads a line of `proc_pid_stat(5)`. The name, in parentheses, may hold anything.
fn read_stat(line: &str) -> Option<Stat> {
    let fields: Vec<&str> = line.rsplit_once(')')?.1.split_whitespace().collect();
    let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
    Some(Stat {
        parent: u32::try_from(number(1)?).ok()?,
        own_ticks: number(11)? + number(12)?,
        reaped_ticks: number(13)? + number(14)?,
    })
}

/// All but idle time and waiting for disks, from the first line of `proc_stat(5)`; time stolen by the host included.
fn read_machine_stat(stat: &str) -> Option<u64> {
    let numbers: Option<Vec<u64>> =
        stat.lines().next()?.strip_prefix("cpu")?.split_whitespace().map(|number| number.parse().ok()).collect();
    let numbers = numbers?;
    // user, nice, system, idle, iowait, irq, softirq, steal; what follows is counted in user and nice already.
    Some(numbers.get(..8)?.iter().sum::<u64>() - numbers[3] - numbers[4])
}

fn memory_of(pid: u32) -> Option<Memory> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? << 10)
    };
    Some(Memory { resident: field("VmRSS:")?, peak: field("VmHWM:")? })
}

/// The process and all its descendants.
fn tree(root: u32) -> anyhow::Result<Vec<u32>> {
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    for entry in fs::read_dir("/proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        if let Some(stat) = stat(pid) {
            children.entry(stat.parent).or_default().push(pid);
        }
    }
    let mut tree = vec![root];
    let mut next = 0;
    while let Some(pid) = tree.get(next) {
        tree.extend(children.remove(pid).unwrap_or_default());
        next += 1;
    }
    Ok(tree)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stat_line_is_read_past_any_name() {
        let line = "12 (a) b (c) S 7 1 1 0 -1 4 1 2 3 4 100 20 3 4 20 0 5 0 9 1 2";
        assert_eq!(read_stat(line), Some(Stat { parent: 7, own_ticks: 120, reaped_ticks: 7 }));
        assert_eq!(read_stat("12 (a) S 7"), None);
    }

    #[test]
    fn idle_time_is_left_out_of_what_the_machine_did() {
        assert_eq!(read_machine_stat("cpu  1 2 3 1000 2000 6 7 8 9 10\ncpu0 1"), Some(27));
    }

    #[test]
    fn this_process_is_found_with_its_memory() {
        let pid = std::process::id();
        assert!(tree(pid).unwrap().contains(&pid));
        assert!(tree_memory(pid).unwrap().parent.resident > 0);
    }
}
