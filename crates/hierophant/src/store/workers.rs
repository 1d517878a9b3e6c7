//! Workers that have been here.

use std::time::Duration;

use async_trait::async_trait;
use hierophant_core::{Standing, Timestamp};
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

/// Workers that left and are remembered: when a new one comes, those that left longest ago are forgotten. Whoever has
/// the token may come under any number of ids.
pub const MOST_DEPARTED: u32 = 1000;

/// Workers that have been here: those that have not left, and the last [`MOST_DEPARTED`] that did. All but their standing
/// is for people.
#[async_trait]
pub trait Workers {
    /// A session began. Clears an earlier departure of the same worker.
    async fn worker_joined(&self, id: WorkerId, name: &str, address: &str, at: Timestamp) -> Result<(), StorageError>;

    /// A session ended.
    async fn worker_left(&self, id: WorkerId, at: Timestamp, reason: &str) -> Result<(), StorageError>;

    /// What is held against a worker. Nothing is against one that never was here, or is forgotten.
    async fn worker_standing(&self, id: WorkerId) -> Result<Standing, StorageError>;

    /// What is held against a worker from now on; nothing happens for one that never was here.
    async fn note_standing(&self, id: WorkerId, standing: &Standing) -> Result<(), StorageError>;

    /// What a worker has done here, by its attempts. A worker that never was here has done nothing.
    async fn worker_record(&self, id: WorkerId) -> Result<WorkerRecord, StorageError>;

    /// Workers that have not left, or not before `since`, in the order of their ids.
    async fn workers_since(&self, since: Timestamp) -> Result<Vec<WorkerId>, StorageError>;

    /// Workers that left and have not come back, latest first.
    async fn departed_workers(&self, limit: u32) -> Result<Vec<DepartedWorker>, StorageError>;
}
