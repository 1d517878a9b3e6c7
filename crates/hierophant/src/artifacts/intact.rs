//! Whether bytes on the disk are still those that were stored, looked at once for each file since the start.
//!
//! A disk may flip a bit without a word. So the digest of a file is compared with the one in its row before the file is
//! served for the first time; after that, a file with the same size and time of writing is taken to be the same.

use std::sync::Arc;

use network_lib::{ArtifactId, Digest};
use quick_cache::sync::Cache;
use tokio::sync::Semaphore;

use super::{ArtifactError, ArtifactFiles, Stamp};

/// Files that are remembered as intact: a few MiB of memory. One that is forgotten is read once more.
const REMEMBERED: usize = 50_000;

/// Larger files are read a few at a time, so that they leave room for smaller ones and for uploads.
const LARGE: u64 = 16 << 20;

/// Large files that are read at once.
const LARGE_AT_ONCE: usize = 2;

/// What is known of the bytes of an artifact.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// They are those that were stored.
    Intact,
    /// They are others.
    Damaged,
    /// There are none.
    Missing,
}

/// Remembers which files were found intact.
#[derive(Debug, Clone)]
pub struct Intact(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    seen: Cache<ArtifactId, Stamp>,
    large: Semaphore,
    #[cfg(test)]
    read: std::sync::atomic::AtomicUsize,
}

impl Default for Intact {
    fn default() -> Self {
        Self(Arc::new(Inner {
            seen: Cache::new(REMEMBERED),
            large: Semaphore::new(LARGE_AT_ONCE),
            #[cfg(test)]
            read: std::sync::atomic::AtomicUsize::default(),
        }))
    }
}

impl Intact {
    /// How the bytes of this artifact are, which were stored with this digest and size. Reads all of them the first
    /// time; callers that ask for the same meanwhile wait for the one who reads.
    ///
    /// # Errors
    /// [`ArtifactError`] when they cannot be read; then nothing is known.
    pub async fn condition(
        &self,
        files: &dyn ArtifactFiles,
        id: ArtifactId,
        digest: Digest,
        size: u64,
    ) -> Result<Condition, ArtifactError> {
        let Some(stamp) = files.stamp(id).await? else { return Ok(Condition::Missing) };
        if stamp.size != size {
            return Ok(Condition::Damaged);
        }
        if self.0.seen.get(&id).is_some_and(|seen| seen != stamp) {
            self.0.seen.remove(&id);
        }
        let Err(placeholder) = self.0.seen.get_value_or_guard_async(&id).await else {
            // Whoever read it meanwhile saw this file or a later one.
            return Ok(Condition::Intact);
        };
        let _permit = if size > LARGE { self.0.large.acquire().await.ok() } else { None };
        #[cfg(test)]
        self.0.read.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        match files.measure(id).await? {
            None => Ok(Condition::Missing),
            Some((found, stamp)) if (found.digest, found.size) == (digest, size) => {
                let _ = placeholder.insert(stamp);
                Ok(Condition::Intact)
            }
            Some(_) => Ok(Condition::Damaged),
        }
    }

    /// Notes that the artifact was stored just now, its digest taken from the bytes on their way.
    pub async fn note(&self, files: &dyn ArtifactFiles, id: ArtifactId) {
        if let Ok(Some(stamp)) = files.stamp(id).await {
            self.0.seen.insert(id, stamp);
        }
    }

    /// How many files were read.
    #[cfg(test)]
    pub(crate) fn read(&self) -> usize {
        self.0.read.load(std::sync::atomic::Ordering::SeqCst)
    }
}
