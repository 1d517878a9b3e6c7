//! The state directory: who this worker is, and the lock that makes it the only one there.

use std::{
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
};

use network_lib::WorkerId;

use crate::{durable, names};

/// Why the state directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// Another process has it.
    #[error(
        "another contemplant already works in {}: give each its own state_directory, or stop the other one",
        .0.display()
    )]
    Locked(PathBuf),
    /// It cannot be read or written.
    #[error("cannot use the state directory at {}", path.display())]
    Unusable {
        /// The file or directory.
        path: PathBuf,
        /// What the operating system says.
        #[source]
        source: io::Error,
    },
    /// The worker's id is not an id.
    #[error("{} does not hold a worker id: remove the file to start as a new worker", path.display())]
    Identity {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: network_lib::ParseIdError,
    },
}

/// A state directory that this process alone uses, until the value is dropped.
///
/// ```text
/// lock  worker.id  name  attempts/<attempt>/{attempt.json, stdin, proof}  programs/<digest>  inputs/<digest>  scratch/
/// ```
#[derive(Debug)]
pub struct StateDirectory {
    root: PathBuf,
    /// Holds the lock; the operating system gives it up when the process ends, however it ends.
    _lock: File,
}

impl StateDirectory {
    /// Creates what is missing and takes the lock.
    ///
    /// # Errors
    /// [`StateError::Locked`] when another contemplant is at work there, [`StateError::Unusable`] for the rest.
    pub fn open(root: &Path) -> Result<Self, StateError> {
        let unusable = |path: &Path| {
            let path = path.to_owned();
            move |source| StateError::Unusable { path, source }
        };
        for directory in [root, &root.join("attempts"), &root.join("programs")] {
            durable::create_directory(directory).map_err(unusable(directory))?;
        }
        let path = root.join("lock");
        let lock = File::options().create(true).truncate(false).write(true).open(&path).map_err(unusable(&path))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { root: root.to_owned(), _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(StateError::Locked(root.to_owned())),
            Err(TryLockError::Error(source)) => Err(StateError::Unusable { path, source }),
        }
    }

    /// Where the journal keeps its attempts.
    pub fn attempts(&self) -> PathBuf {
        self.root.join("attempts")
    }

    /// Where downloaded programs are kept.
    pub fn programs(&self) -> PathBuf {
        self.root.join("programs")
    }

    /// Where inputs are kept that were fetched ahead.
    pub fn inputs(&self) -> PathBuf {
        self.root.join("inputs")
    }

    /// Where downloaded GPU servers are kept. Not there until one is.
    pub fn gpu_servers(&self) -> PathBuf {
        self.root.join("gpu-servers")
    }

    /// Where children put temporary files: empty now, and nobody else's. SP1 runs what it finds there under the name of
    /// its executor, so this must not be a directory that others can write to.
    ///
    /// # Errors
    /// [`StateError::Unusable`] when it cannot be emptied.
    pub fn scratch(&self) -> Result<PathBuf, StateError> {
        let path = self.root.join("scratch");
        let emptied = || {
            match fs::remove_dir_all(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => durable::create_directory(&path)?,
            }
            std::path::absolute(&path) // for children that have another working directory
        };
        emptied().map_err(|source| StateError::Unusable { path: path.clone(), source })
    }

    /// This worker's id, drawn at the first start. It is on disk before it is returned.
    ///
    /// # Errors
    /// [`StateError::Identity`] when the file holds something else, [`StateError::Unusable`] for the rest.
    pub fn worker_id(&self) -> Result<WorkerId, StateError> {
        let path = self.root.join("worker.id");
        let drawn = || WorkerId::random(&mut rand::rng()).to_string();
        let text = read_or_write(&path, drawn)?;
        text.parse().map_err(|source| StateError::Identity { path, source })
    }

    /// The name that this worker drew at its first start without a configured one.
    ///
    /// # Errors
    /// [`StateError::Unusable`].
    pub fn drawn_name(&self) -> Result<String, StateError> {
        let drawn = || names::draw(&mut rand::rng()).to_owned();
        let mut name = read_or_write(&self.root.join("name"), drawn)?;
        name.retain(|c| !c.is_control());
        Ok(name.chars().take(100).collect())
    }
}

fn read_or_write(path: &Path, fresh: impl FnOnce() -> String) -> Result<String, StateError> {
    let unusable = |source| StateError::Unusable { path: path.to_owned(), source };
    match fs::read_to_string(path) {
        Ok(text) => Ok(text.trim().to_owned()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let text = fresh();
            durable::write(path, format!("{text}\n").as_bytes()).map_err(unusable)?;
            Ok(text)
        }
        Err(source) => Err(unusable(source)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_stays_the_same_over_restarts() {
        let root = tempfile::tempdir().expect("a directory");
        let first = {
            let state = StateDirectory::open(root.path()).expect("opens");
            (state.worker_id().expect("an id"), state.drawn_name().expect("a name"))
        };
        let state = StateDirectory::open(root.path()).expect("opens again");
        assert_eq!((state.worker_id().expect("an id"), state.drawn_name().expect("a name")), first);
    }

    #[test]
    fn a_second_contemplant_on_the_same_directory_is_refused_in_words() {
        let root = tempfile::tempdir().expect("a directory");
        let _first = StateDirectory::open(root.path()).expect("opens");
        let error = StateDirectory::open(root.path()).expect_err("locked");
        assert!(matches!(error, StateError::Locked(_)));
        assert!(error.to_string().starts_with("another contemplant already works in "), "{error}");
    }

    #[test]
    fn temporary_files_of_an_earlier_run_are_gone_and_nobody_else_sees_new_ones() {
        use std::os::unix::fs::PermissionsExt as _;
        let root = tempfile::tempdir().expect("a directory");
        let state = StateDirectory::open(root.path()).expect("opens");
        let scratch = state.scratch().expect("made");
        fs::write(scratch.join("left"), "behind").expect("written");
        assert_eq!(state.scratch().expect("made anew"), scratch);
        assert_eq!(fs::read_dir(&scratch).expect("there").count(), 0);
        assert_eq!(fs::metadata(&scratch).expect("there").permissions().mode() & 0o077, 0);
    }

    #[test]
    fn a_damaged_id_is_an_error_and_not_a_new_worker() {
        let root = tempfile::tempdir().expect("a directory");
        let state = StateDirectory::open(root.path()).expect("opens");
        fs::write(root.path().join("worker.id"), "not an id").expect("written");
        assert!(matches!(state.worker_id(), Err(StateError::Identity { .. })));
    }
}
