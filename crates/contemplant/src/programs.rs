//! Programs on disk, by the digest of their bytes: requests of one program share one download.

use std::{
    collections::HashMap,
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, Weak},
    time::SystemTime,
};

use network_lib::{Digest, protocol::Source};

use crate::{
    artifacts::{ArtifactClient, TransferError},
    checked::CheckedFiles,
};

/// The cache. Clones share it.
///
/// It holds at most the configured bytes plus what is in use: the least recently used program goes first, and one
/// that is [pinned](PinnedProgram) never. A crash leaves at worst a `.part` that the next download goes on with.
#[derive(Debug, Clone)]
pub struct ProgramCache {
    root: Arc<Path>,
    max_bytes: u64,
    /// One entry per program that is being fetched or used; the lock makes the others wait for the first fetch.
    in_use: Arc<Mutex<HashMap<Digest, Weak<tokio::sync::Mutex<()>>>>>,
    /// Programs that need not be hashed again.
    checked: CheckedFiles,
}

/// A program that stays on disk while this value lives.
#[derive(Debug)]
pub struct PinnedProgram {
    /// Keeps the program's entry alive.
    _pin: Arc<tokio::sync::Mutex<()>>,
}

impl ProgramCache {
    /// The cache in the directory `root`, which is there.
    pub fn new(root: PathBuf, max_bytes: u64) -> Self {
        Self { root: root.into(), max_bytes, in_use: Arc::default(), checked: CheckedFiles::default() }
    }

    /// Where the program with this digest lies, whether or not it is there.
    pub fn path(&self, digest: Digest) -> PathBuf {
        self.root.join(digest.to_string())
    }

    /// Makes sure that the program is on disk, with the bytes that its digest names: checked when it is first asked for
    /// since the start, and then only if the file was changed. Cancel-safe.
    ///
    /// # Errors
    /// [`TransferError`]
    pub async fn fetch(&self, artifacts: &ArtifactClient, source: &Source) -> Result<PinnedProgram, TransferError> {
        let pin = self.pin(source.digest);
        let path = self.path(source.digest);
        let (cache, digest) = (self.clone(), source.digest);
        let only_one = pin.lock().await;
        if !self.checked.holds(digest, &path) {
            artifacts.download(source, &path).await?;
        }
        let tidied = tokio::task::spawn_blocking(move || {
            touch(&path)?;
            cache.checked.remember(digest, &path)?;
            cache.evict()
        });
        if let Ok(Err(error)) = tidied.await {
            tracing::warn!("The program cache cannot be tidied: {error}");
        }
        drop(only_one);
        Ok(PinnedProgram { _pin: pin })
    }

    fn pin(&self, digest: Digest) -> Arc<tokio::sync::Mutex<()>> {
        let mut in_use = self.in_use.lock().unwrap_or_else(PoisonError::into_inner);
        in_use.retain(|_, pin| pin.strong_count() > 0);
        if let Some(pin) = in_use.get(&digest).and_then(Weak::upgrade) {
            return pin;
        }
        let pin = Arc::default();
        in_use.insert(digest, Arc::downgrade(&pin));
        pin
    }

    /// Removes what was least recently used until the rest is small enough.
    fn evict(&self) -> io::Result<()> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.root)? {
            let entry = entry?;
            let metadata = entry.metadata()?;
            files.push((metadata.modified()?, metadata.len(), entry.path()));
        }
        files.sort();
        let mut total: u64 = files.iter().map(|(_, size, _)| size).sum();
        // Held throughout, so that nothing is pinned between the look and the removal.
        let in_use = self.in_use.lock().unwrap_or_else(PoisonError::into_inner);
        for (_, size, path) in files {
            if total <= self.max_bytes {
                break;
            }
            // A part belongs to the program that it will become.
            let digest = path.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| stem.parse::<Digest>().ok());
            let is_in_use = digest.and_then(|digest| in_use.get(&digest)).is_some_and(|pin| pin.strong_count() > 0);
            if !is_in_use {
                fs::remove_file(&path)?;
                digest.inspect(|digest| self.checked.forget(*digest));
                total -= size;
            }
        }
        Ok(())
    }
}

#[expect(clippy::disallowed_methods, reason = "the age of a file is told by the file system's clock and nothing else")]
fn touch(path: &Path) -> io::Result<()> {
    fs::File::options().append(true).open(path)?.set_modified(SystemTime::now())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[expect(clippy::disallowed_methods, reason = "ages of files")]
    fn put(cache: &ProgramCache, byte: u8, age_s: u64) -> Digest {
        let digest = Digest::of(&[byte]);
        fs::write(cache.path(digest), [byte; 10]).expect("written");
        let file = fs::File::options().append(true).open(cache.path(digest)).expect("there");
        file.set_modified(SystemTime::now() - Duration::from_secs(age_s)).expect("set");
        digest
    }

    #[test]
    fn the_least_recently_used_program_goes_first_and_one_in_use_never() {
        let root = tempfile::tempdir().expect("a directory");
        let cache = ProgramCache::new(root.path().to_owned(), 20);
        let oldest = put(&cache, 1, 300);
        let older = put(&cache, 2, 200);
        let newer = put(&cache, 3, 100);
        let newest = put(&cache, 4, 1);
        let pin = cache.pin(oldest);
        cache.evict().expect("evicted");
        let is_there = |digest| cache.path(digest).exists();
        assert_eq!([oldest, older, newer, newest].map(is_there), [true, false, false, true]);
        drop(pin);
        put(&cache, 5, 0);
        cache.evict().expect("evicted");
        assert!(!is_there(oldest));
    }
}
