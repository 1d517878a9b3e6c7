//! The store in memory, for simulations and tests: everything happens at once and in the order of the calls.

mod facts;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use hierophant_core::{Change, Request, Standing, Timestamp};
use network_lib::{ArtifactId, AttemptId, Digest, RequestId, WorkerId};

pub use self::facts::Facts;
use super::{
    Artifact, Artifacts, AttemptRecord, DepartedWorker, HistoryRow, NewRequest, Program, Programs, ProofRecord,
    RequestFilter, Requests, Stats, StorageError, Store, Submitted, WorkerRecord, Workers,
};

/// Everything durable, in memory. What is written is there as soon as the call was first polled.
#[derive(Debug, Default)]
pub struct MemoryStore(Mutex<Facts>);

impl MemoryStore {
    /// The facts, for whoever looks at or changes several at one instant.
    pub fn facts(&self) -> MutexGuard<'_, Facts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store for MemoryStore {
    fn stats(&self) -> Stats {
        self.facts().stats()
    }
}

#[async_trait]
impl Requests for MemoryStore {
    async fn submit(&self, new: NewRequest) -> Result<Submitted, StorageError> {
        self.facts().submit(new)
    }

    async fn standing_for(&self, fingerprint: Digest) -> Result<Option<Arc<Request>>, StorageError> {
        Ok(self.facts().standing_for(fingerprint))
    }

    async fn request(&self, id: RequestId) -> Result<Option<Arc<Request>>, StorageError> {
        Ok(self.facts().request(id))
    }

    async fn write(&self, change: Change) -> Result<Arc<Request>, StorageError> {
        self.facts().write(change)
    }

    async fn open_requests(&self) -> Result<Vec<Arc<Request>>, StorageError> {
        Ok(self.facts().open_requests())
    }

    async fn requests(&self, filter: &RequestFilter) -> Result<Vec<Arc<Request>>, StorageError> {
        Ok(self.facts().requests(filter))
    }

    async fn history(&self, id: RequestId) -> Result<Vec<HistoryRow>, StorageError> {
        Ok(self.facts().history(id))
    }

    async fn attempt(&self, id: AttemptId) -> Result<Option<AttemptRecord>, StorageError> {
        Ok(self.facts().attempt(id))
    }

    async fn proofs(&self, limit: u32) -> Result<Vec<ProofRecord>, StorageError> {
        Ok(self.facts().proofs(limit))
    }
}

#[async_trait]
impl Programs for MemoryStore {
    async fn register_program(&self, program: Program) -> Result<(), StorageError> {
        self.facts().register_program(program);
        Ok(())
    }

    async fn program(&self, vk_hash: Digest) -> Result<Option<Arc<Program>>, StorageError> {
        Ok(self.facts().program(vk_hash))
    }
}

#[async_trait]
impl Artifacts for MemoryStore {
    async fn record_artifact(&self, artifact: Artifact) -> Result<(), StorageError> {
        self.facts().record_artifact(&artifact)
    }

    async fn forget_artifact(&self, id: ArtifactId) -> Result<(), StorageError> {
        self.facts().forget_artifact(id);
        Ok(())
    }

    async fn artifact(&self, id: ArtifactId) -> Result<Option<Artifact>, StorageError> {
        Ok(self.facts().artifact(id))
    }
}

#[async_trait]
impl Workers for MemoryStore {
    async fn worker_joined(&self, id: WorkerId, name: &str, address: &str, at: Timestamp) -> Result<(), StorageError> {
        self.facts().worker_joined(id, name, address, at);
        Ok(())
    }

    async fn worker_left(&self, id: WorkerId, at: Timestamp, reason: &str) -> Result<(), StorageError> {
        self.facts().worker_left(id, at, reason);
        Ok(())
    }

    async fn worker_standing(&self, id: WorkerId) -> Result<Standing, StorageError> {
        Ok(self.facts().worker_standing(id))
    }

    async fn note_standing(&self, id: WorkerId, standing: &Standing) -> Result<(), StorageError> {
        self.facts().note_standing(id, standing);
        Ok(())
    }

    async fn worker_record(&self, id: WorkerId) -> Result<WorkerRecord, StorageError> {
        Ok(self.facts().worker_record(id))
    }

    async fn workers_since(&self, since: Timestamp) -> Result<Vec<WorkerId>, StorageError> {
        Ok(self.facts().workers_since(since))
    }

    async fn departed_workers(&self, limit: u32) -> Result<Vec<DepartedWorker>, StorageError> {
        Ok(self.facts().departed_workers(limit))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::MemoryStore;
    use crate::store::{SharedStore, contract::contract_tests};

    #[expect(clippy::unused_async, reason = "the contract takes async factories")]
    async fn fresh() -> (SharedStore, ()) {
        (Arc::new(MemoryStore::default()), ())
    }

    contract_tests!(fresh);
}
