//! What the tasks of a proof hand on to each other, kept in this process's memory.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use anyhow::anyhow;
use sp1_prover_types::{ArtifactClient, ArtifactId, ArtifactType, ShardPermit};
use tokio::sync::Semaphore;

/// The artifacts of the proof that is being made. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Artifacts {
    shelf: Arc<Mutex<Shelf>>,
    max_records: usize,
}

struct Shelf {
    bytes: HashMap<String, Vec<u8>>,
    /// Who still needs an artifact that several tasks read a part of.
    readers: HashMap<String, HashSet<String>>,
    /// What stays until the proof ends, whoever deletes it.
    kept: HashSet<String>,
    records: Arc<Semaphore>,
}

impl Shelf {
    fn new(max_records: usize) -> Self {
        let records = Arc::new(Semaphore::new(max_records));
        Self { bytes: HashMap::new(), readers: HashMap::new(), kept: HashSet::new(), records }
    }

    fn delete(&mut self, id: &str) {
        if !self.kept.contains(id) {
            self.bytes.remove(id);
            self.readers.remove(id);
        }
    }
}

impl Artifacts {
    /// An empty shelf. At most `max_records` records of shards that wait to be proved are on it; execution goes on
    /// when there is room again.
    pub fn new(max_records: usize) -> Self {
        Self { shelf: Arc::new(Mutex::new(Shelf::new(max_records))), max_records }
    }

    /// Keeps an artifact until [`Artifacts::clear`]: SP1 deletes inputs that a later task may ask for.
    pub fn keep(&self, artifact: &impl ArtifactId) {
        self.lock().kept.insert(artifact.id().to_owned());
    }

    /// Forgets everything: the proof has ended.
    pub fn clear(&self) {
        *self.lock() = Shelf::new(self.max_records);
    }

    /// How many artifacts there are.
    pub fn len(&self) -> usize {
        self.lock().bytes.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn lock(&self) -> MutexGuard<'_, Shelf> {
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ArtifactClient for Artifacts {
    async fn upload_raw(&self, artifact: &impl ArtifactId, _: ArtifactType, bytes: Vec<u8>) -> anyhow::Result<()> {
        self.lock().bytes.insert(artifact.id().to_owned(), bytes);
        Ok(())
    }

    async fn download_raw(&self, artifact: &impl ArtifactId, kind: ArtifactType) -> anyhow::Result<Vec<u8>> {
        let found = self.lock().bytes.get(artifact.id()).cloned();
        found.ok_or_else(|| anyhow!("there is no artifact {} ({kind})", artifact.id()))
    }

    async fn exists(&self, artifact: &impl ArtifactId, _: ArtifactType) -> anyhow::Result<bool> {
        Ok(self.lock().bytes.contains_key(artifact.id()))
    }

    async fn delete(&self, artifact: &impl ArtifactId, _: ArtifactType) -> anyhow::Result<()> {
        self.lock().delete(artifact.id());
        Ok(())
    }

    async fn delete_batch(&self, artifacts: &[impl ArtifactId], _: ArtifactType) -> anyhow::Result<()> {
        let mut inner = self.lock();
        for artifact in artifacts {
            inner.delete(artifact.id());
        }
        Ok(())
    }

    async fn acquire_shard_permit(&self, _: &impl ArtifactId) -> ShardPermit {
        let records = Arc::clone(&self.lock().records);
        // Closed never; and if it were, a record too many would be better than no proof.
        records.acquire_owned().await.map_or_else(|_| ShardPermit::noop(), ShardPermit::new)
    }

    async fn add_ref(&self, artifact: &impl ArtifactId, reader: &str) -> anyhow::Result<()> {
        let mut inner = self.lock();
        inner.readers.entry(artifact.id().to_owned()).or_default().insert(reader.to_owned());
        Ok(())
    }

    async fn remove_ref(&self, artifact: &impl ArtifactId, _: ArtifactType, reader: &str) -> anyhow::Result<bool> {
        let mut inner = self.lock();
        if let Some(readers) = inner.readers.get_mut(artifact.id()) {
            readers.remove(reader);
            if !readers.is_empty() {
                return Ok(false);
            }
        }
        inner.delete(artifact.id());
        Ok(true)
    }
}
