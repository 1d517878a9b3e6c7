//! What this machine has: cores, disks.

use std::path::Path;

/// Cores that this process may use.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// A file system, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Its size.
    pub total: u64,
    /// What this user may still write.
    pub free: u64,
}

impl Room {
    /// The file system that `path` is on, or will be once it is created.
    pub fn look(path: &Path) -> Option<Self> {
        let system = rustix::fs::statvfs(existing(path)?).ok()?;
        let bytes = |blocks: u64| blocks.saturating_mul(system.f_frsize);
        Some(Self { total: bytes(system.f_blocks), free: bytes(system.f_bavail) })
    }
}

/// Whether this user may write in `path`, or create it.
pub fn is_writable(path: &Path) -> bool {
    existing(path).is_some_and(|path| path.is_dir() && rustix::fs::access(path, rustix::fs::Access::WRITE_OK).is_ok())
}

fn existing(path: &Path) -> Option<&Path> {
    path.ancestors()
        .map(|path| if path.as_os_str().is_empty() { Path::new(".") } else { path })
        .find(|path| path.exists())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_to_be_created_is_judged_by_where_it_will_be() {
        let root = tempfile::tempdir().expect("a directory");
        let path = root.path().join("a/b");
        assert!(is_writable(&path));
        assert!(Room::look(&path).is_some_and(|room| room.total >= room.free && room.total > 0));
        assert!(!is_writable(Path::new("/proc/self/status/x")));
    }
}
