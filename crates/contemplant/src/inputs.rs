//! Inputs that were fetched ahead of their attempts, by the digest of their bytes.

use std::{
    collections::HashSet,
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use network_lib::{Digest, protocol::Source};
use tokio::sync::{Mutex, MutexGuard};

use crate::{
    artifacts::{ArtifactClient, TransferError},
    checked::CheckedFiles,
    durable,
};

/// The cache. Clones share it.
///
/// It holds what hints speak of and nothing else, at most the configured bytes. It is emptied when the worker starts:
/// hints do not outlive a session, and a private input is never among them.
#[derive(Debug, Clone)]
pub struct InputCache {
    root: Arc<Path>,
    max_bytes: u64,
    checked: CheckedFiles,
    /// Whoever changes what is in the directory.
    writer: Arc<Mutex<()>>,
}

impl InputCache {
    /// The cache in the directory `root`, emptied.
    ///
    /// # Errors
    /// When the directory cannot be emptied.
    pub fn open(root: PathBuf, max_bytes: u64) -> io::Result<Self> {
        durable::create_directory(&root)?;
        for entry in fs::read_dir(&root)? {
            fs::remove_file(entry?.path())?;
        }
        Ok(Self { root: root.into(), max_bytes, checked: CheckedFiles::default(), writer: Arc::default() })
    }

    /// Where the cache is.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Waits until nobody changes the cache, and is the only one who does from then on.
    pub(crate) async fn write(&self) -> Writing<'_> {
        Writing { cache: self, _only: self.writer.lock().await }
    }

    /// Puts the input at `target` if it is here in whole, without a copy and without reading it. A part of it is put
    /// where a [download](ArtifactClient::download) to `target` goes on with it. Returns whether `target` is whole.
    ///
    /// # Errors
    /// When the disk refuses; a download to `target` will do.
    pub(crate) async fn give(&self, source: &Source, target: &Path) -> io::Result<bool> {
        let _only = self.writer.lock().await;
        let path = self.path(source.digest);
        let (checked, digest, target) = (self.checked.clone(), source.digest, target.to_owned());
        let given = tokio::task::spawn_blocking(move || {
            if checked.holds(digest, &path) {
                remove(&target)?;
                // A second name, since the next request may have the same input.
                return fs::hard_link(&path, &target).map(|()| true);
            }
            let (part, target_part) = (path.with_extension("part"), target.with_extension("part"));
            if part.exists() && !target_part.exists() {
                fs::rename(part, target_part)?;
            }
            Ok(false)
        });
        given.await.map_err(io::Error::from)?
    }

    fn path(&self, digest: Digest) -> PathBuf {
        self.root.join(digest.to_string())
    }
}

/// The right to change the cache.
pub(crate) struct Writing<'a> {
    cache: &'a InputCache,
    _only: MutexGuard<'a, ()>,
}

impl Writing<'_> {
    /// Removes all that is not `wanted`, parts included.
    pub(crate) async fn retain(&self, wanted: HashSet<Digest>) -> io::Result<()> {
        let (root, checked) = (Arc::clone(&self.cache.root), self.cache.checked.clone());
        let removed = tokio::task::spawn_blocking(move || {
            for entry in fs::read_dir(&root)? {
                let path = entry?.path();
                let stem = path.file_stem().and_then(|stem| stem.to_str());
                let digest = stem.and_then(|stem| stem.parse::<Digest>().ok());
                if digest.is_none_or(|digest| !wanted.contains(&digest)) {
                    fs::remove_file(&path)?;
                    digest.inspect(|digest| checked.forget(*digest));
                }
            }
            Ok(())
        });
        removed.await.map_err(io::Error::from)?
    }

    /// Those of `sources`, in this order, that fit into the cache together.
    pub(crate) fn fitting<'s>(&self, sources: impl Iterator<Item = &'s Source>) -> Vec<&'s Source> {
        let mut left = self.cache.max_bytes;
        let mut seen = HashSet::new();
        let fits = |source: &&Source| {
            let is_new = seen.insert(source.digest);
            let rest = left.checked_sub(source.size).filter(|_| is_new);
            left = rest.unwrap_or(left);
            rest.is_some()
        };
        sources.filter(fits).collect()
    }

    /// Whether the input is here and needs no more room.
    pub(crate) fn has(&self, digest: Digest) -> bool {
        self.cache.checked.holds(digest, &self.cache.path(digest))
    }

    /// Makes sure that the input is here. Dropped midway it leaves a part, which the next call goes on with; an error
    /// leaves nothing.
    ///
    /// # Errors
    /// [`TransferError`]
    pub(crate) async fn fetch(&self, artifacts: &ArtifactClient, source: &Source) -> Result<(), TransferError> {
        if self.has(source.digest) {
            return Ok(());
        }
        let path = self.cache.path(source.digest);
        if let Err(error) = artifacts.download(source, &path).await {
            remove(&path.with_extension("part")).map_err(TransferError::Disk)?;
            return Err(error);
        }
        self.cache.checked.remember(source.digest, &path).map_err(TransferError::Disk)
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(byte: u8, size: u64) -> Source {
        Source { url: String::new(), digest: Digest::of(&[byte]), size }
    }

    fn names(root: &Path) -> Vec<String> {
        let entries = fs::read_dir(root).expect("listed");
        entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect()
    }

    #[tokio::test]
    async fn a_checked_input_is_given_without_a_copy_and_a_part_where_the_download_goes_on() {
        let root = tempfile::tempdir().expect("a directory");
        let cache = InputCache::open(root.path().join("inputs"), 100).expect("opened");
        let (whole, part) = (source(1, 1), source(2, 2));
        fs::write(cache.path(whole.digest), [1]).expect("written");
        let target = root.path().join("stdin");
        assert!(!cache.give(&whole, &target).await.expect("looked"), "it was never checked");
        cache.checked.remember(whole.digest, &cache.path(whole.digest)).expect("there");
        assert!(cache.give(&whole, &target).await.expect("given"));
        assert_eq!(fs::read(&target).expect("there"), [1]);
        assert!(cache.give(&whole, &target).await.expect("given again"));

        fs::write(cache.path(part.digest).with_extension("part"), [2]).expect("written");
        let target = root.path().join("other");
        assert!(!cache.give(&part, &target).await.expect("looked"));
        assert_eq!(fs::read(target.with_extension("part")).expect("there"), [2]);
    }

    #[tokio::test]
    async fn what_is_not_wanted_goes_and_nothing_outlives_a_start() {
        let root = tempfile::tempdir().expect("a directory");
        let cache = InputCache::open(root.path().to_owned(), 100).expect("opened");
        let (wanted, unwanted) = (source(1, 1), source(2, 1));
        for digest in [wanted.digest, unwanted.digest] {
            fs::write(cache.path(digest), [0]).expect("written");
            fs::write(cache.path(digest).with_extension("part"), [0]).expect("written");
        }
        cache.write().await.retain(HashSet::from([wanted.digest])).await.expect("tidied");
        assert!(names(root.path()).iter().all(|name| name.starts_with(&wanted.digest.to_string())));
        InputCache::open(root.path().to_owned(), 100).expect("opened");
        assert_eq!(names(root.path()), [""; 0]);
    }

    #[tokio::test]
    async fn what_does_not_fit_is_left_out_and_the_same_input_counts_once() {
        let root = tempfile::tempdir().expect("a directory");
        let cache = InputCache::open(root.path().to_owned(), 100).expect("opened");
        let sources = [source(1, 60), source(2, 60), source(1, 60), source(3, 40)];
        let writing = cache.write().await;
        let fitting: Vec<u64> = writing.fitting(sources.iter()).iter().map(|source| source.size).collect();
        assert_eq!(fitting, [60, 40]);
    }
}
