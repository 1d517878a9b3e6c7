//! Workers that have been here.

use std::time::Duration;

use async_trait::async_trait;
use hierophant_core::Timestamp;
use network_lib::WorkerId;

use super::StorageError;

/// A worker that is not connected any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DepartedWorker {
    /// The worker.
    pub id: WorkerId,
    /// Its name.
    pub name: String,
    /// Where it connected from.
    pub address: String,
    /// When its last session began.
    pub joined_at: Timestamp,
    /// When that session ended.
    pub left_at: Timestamp,
    /// Why.
    pub reason: String,
}

/// What a worker has done here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WorkerRecord {
    /// Proofs that were accepted.
    pub proofs: u64,
    /// Mean time from the lease to the accepted proof.
    pub average_proof_time: Option<Duration>,
    /// Attempts that failed through it.
    pub failed_attempts: u64,
}

/// Workers that have been here, for people: no decision rests on these rows.
#[async_trait]
pub trait Workers {
    /// A session began. Clears an earlier departure of the same worker.
    async fn worker_joined(&self, id: WorkerId, name: &str, address: &str, at: Timestamp) -> Result<(), StorageError>;

    /// A session ended.
    async fn worker_left(&self, id: WorkerId, at: Timestamp, reason: &str) -> Result<(), StorageError>;

    /// What a worker has done here, by its attempts. A worker that never was here has done nothing.
    async fn worker_record(&self, id: WorkerId) -> Result<WorkerRecord, StorageError>;

    /// Workers that left and have not come back, latest first.
    async fn departed_workers(&self, limit: u32) -> Result<Vec<DepartedWorker>, StorageError>;
}
