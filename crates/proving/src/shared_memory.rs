//! Shared memory that a killed prover leaves behind: SP1's executor talks to its parent through
//! `/dev/shm/sp1_*`, gigabytes that nobody unlinks after a SIGKILL.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

const DIRECTORY: &str = "/dev/shm";

/// A file younger than this may belong to a process that has not mapped it yet.
const SETTLED: Duration = Duration::from_mins(1);

fn is_ours(name: &str) -> bool {
    name.starts_with("sp1_") || name.starts_with("sem.sp1_")
}

fn pids() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// The processes of group `pgid`, by their ids.
pub(crate) fn group_members(pgid: u32) -> Vec<u32> {
    // /proc/PID/stat is "PID (COMMAND) STATE PPID PGRP …", and a command may hold spaces and parentheses.
    let group_of = |pid: u32| -> Option<u32> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        stat.rsplit_once(')')?.1.split_whitespace().nth(2)?.parse().ok()
    };
    pids().filter(|&pid| group_of(pid) == Some(pgid)).collect()
}

/// The shared memory that these processes have mapped, with the semaphores that go with it: those are mapped under
/// another name than they have.
pub(crate) fn mapped_by(pids: impl IntoIterator<Item = u32>) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    for pid in pids {
        let Ok(maps) = fs::read_to_string(format!("/proc/{pid}/maps")) else { continue };
        for line in maps.lines() {
            let Some(at) = line.find(DIRECTORY) else { continue };
            let path = Path::new(line[at..].trim_end_matches(" (deleted)"));
            if let Some(name) = path.file_name().and_then(|name| name.to_str()).filter(|name| is_ours(name)) {
                found.insert(path.to_owned());
                found.extend(["filled", "empty"].map(|end| Path::new(DIRECTORY).join(format!("sem.{name}_{end}"))));
            }
        }
    }
    found
}

/// Unlinks the shared memory that the processes of group `pgid` have mapped. Who has it mapped can go on using it.
pub(crate) fn unlink_of_group(pgid: u32) {
    unlink(&mapped_by(group_members(pgid)));
}

/// Unlinks these files; those that are gone already are fine.
pub(crate) fn unlink(paths: &BTreeSet<PathBuf>) {
    for path in paths {
        match fs::remove_file(path) {
            Ok(()) => tracing::debug!(path = %path.display(), "unlinked the shared memory of an ended prover"),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "cannot unlink the shared memory of an ended prover");
            }
        }
    }
}

/// Unlinks shared memory of provers that are gone: `/dev/shm/sp1_*` of this user, older than a minute,
/// mapped by no process that can be seen. Returns how many files went.
///
/// To be called when a worker starts; a prover's supervision does it before each restart. A process in another container that shares `/dev/shm` cannot be
/// seen; it has its memory mapped by then, and unlinking takes only the name.
pub fn sweep_shared_memory() -> usize {
    let in_use = mapped_by(pids());
    let user = rustix::process::geteuid().as_raw();
    let is_left_over = |path: &PathBuf| {
        let is_settled =
            |meta: &fs::Metadata| meta.modified().is_ok_and(|at| at.elapsed().is_ok_and(|age| age > SETTLED));
        path.file_name().and_then(|name| name.to_str()).is_some_and(is_ours)
            && !in_use.contains(path)
            && fs::symlink_metadata(path).is_ok_and(|meta| meta.is_file() && meta.uid() == user && is_settled(&meta))
    };
    let entries = fs::read_dir(DIRECTORY).into_iter().flatten().flatten();
    let left_over: BTreeSet<PathBuf> = entries.map(|entry| entry.path()).filter(is_left_over).collect();
    unlink(&left_over);
    left_over.len()
}
