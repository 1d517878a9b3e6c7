//! Which files were checked against their digest since this process started, so that large ones are not hashed again.

use std::{
    collections::HashMap,
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use network_lib::Digest;

/// A file as it was when it was checked. Whoever writes to it or puts another in its place changes this.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    size: u64,
    modified: (i64, i64),
}

impl Stamp {
    fn of(path: &Path) -> io::Result<Self> {
        let metadata = fs::metadata(path)?;
        let modified = (metadata.mtime(), metadata.mtime_nsec());
        Ok(Self { inode: metadata.ino(), size: metadata.size(), modified })
    }
}

/// The files of one cache. Clones share it. Its methods look at the disk, though never into a file.
#[derive(Debug, Clone, Default)]
pub(crate) struct CheckedFiles(Arc<Mutex<HashMap<Digest, Stamp>>>);

impl CheckedFiles {
    /// The file at `path` was found to have this digest just now.
    pub(crate) fn remember(&self, digest: Digest, path: &Path) -> io::Result<()> {
        let stamp = Stamp::of(path)?;
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(digest, stamp);
        Ok(())
    }

    /// Whether the file at `path` is still the one that was checked.
    pub(crate) fn holds(&self, digest: Digest, path: &Path) -> bool {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&digest).copied();
        known.is_some_and(|known| Stamp::of(path).is_ok_and(|now| now == known))
    }

    /// The file is gone.
    pub(crate) fn forget(&self, digest: Digest) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&digest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_was_changed_or_replaced_must_be_checked_again() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("file");
        let digest = Digest::of(b"bytes");
        let checked = CheckedFiles::default();
        fs::write(&path, b"bytes").expect("written");
        assert!(!checked.holds(digest, &path));
        checked.remember(digest, &path).expect("there");
        assert!(checked.holds(digest, &path));
        fs::write(directory.path().join("other"), b"bytez").expect("written");
        fs::rename(directory.path().join("other"), &path).expect("renamed");
        assert!(!checked.holds(digest, &path));
        checked.remember(digest, &path).expect("there");
        checked.forget(digest);
        assert!(!checked.holds(digest, &path));
    }
}
