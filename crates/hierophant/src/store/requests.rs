//! Requests, their attempts and their history.

use std::sync::Arc;

use async_trait::async_trait;
use hierophant_core::{Change, Happening, Request, RequestSpec, Requester, Timestamp};
use network_lib::{AttemptId, Digest, ProofMode, RequestId, WorkerId};

use super::StorageError;

/// A request that is to be accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewRequest {
    /// The id that it gets if it is new.
    pub id: RequestId,
    /// SHA-256 over the signer and the signed body without its nonce: the same for every retry of one logical request.
    pub fingerprint: Digest,
    /// What is asked.
    pub spec: RequestSpec,
    /// When.
    pub created_at: Timestamp,
}

/// What became of a [`NewRequest`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Submitted {
    /// It was accepted and queued.
    Accepted(Arc<Request>),
    /// It was asked before, has not failed, and its proof, if it has one, is there: this is the request that stands for
    /// it.
    Existing(Arc<Request>),
    /// Its input was never uploaded, or is gone. Nothing was written.
    StdinMissing,
    /// Its input was uploaded by someone else. Nothing was written.
    StdinOfAnother,
}

/// Which requests to list. Fields that are `None` or empty match everything.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RequestFilter {
    /// Only of this requester.
    pub requester: Option<Requester>,
    /// Only of this program.
    pub vk_hash: Option<Digest>,
    /// Only in this mode.
    pub mode: Option<ProofMode>,
    /// Only in these states (names as [`hierophant_core::RequestState::name`] gives them).
    pub states: Vec<&'static str>,
    /// Only of this circuit version.
    pub circuit_version: Option<String>,
    /// Only with a deadline at or after this time.
    pub min_deadline: Option<Timestamp>,
    /// Only those whose current or last attempt was made by this worker.
    pub worker: Option<WorkerId>,
    /// Only accepted at or after this time.
    pub created_from: Option<Timestamp>,
    /// Only accepted before or at this time.
    pub created_to: Option<Timestamp>,
    /// Newest first; this many are skipped.
    pub offset: u32,
    /// At most this many; 0 gives none.
    pub limit: u32,
}

/// One row of a request's history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryRow {
    /// When.
    pub at: Timestamp,
    /// What happened.
    pub happening: Happening,
}

/// Who made an attempt, and at what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttemptRecord {
    /// The attempt.
    pub attempt: AttemptId,
    /// The request.
    pub request: RequestId,
    /// The worker.
    pub worker: WorkerId,
    /// When it began.
    pub started_at: Timestamp,
    /// When it ended, whichever way.
    pub ended_at: Option<Timestamp>,
}

/// A proof that was made here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProofRecord {
    /// The request.
    pub request: RequestId,
    /// In which form.
    pub mode: ProofMode,
    /// Who made it.
    pub worker: WorkerId,
    /// That worker's name when it last joined.
    pub worker_name: String,
    /// When the attempt began.
    pub started_at: Timestamp,
    /// When the proof was accepted.
    pub fulfilled_at: Timestamp,
    /// Whether it is a mock.
    pub is_mock: bool,
}

/// Requests, their attempts and their history.
#[async_trait]
pub trait Requests {
    /// Accepts a request, or finds the one that stands for it: in one transaction with the check of its input.
    async fn submit(&self, new: NewRequest) -> Result<Submitted, StorageError>;

    /// The request that stands for this fingerprint already, if there is one: neither failed nor without its proof.
    async fn standing_for(&self, fingerprint: Digest) -> Result<Option<Arc<Request>>, StorageError>;

    /// The request with this id. Absence is an answer, not an error. Cheap for recently used requests: no I/O.
    async fn request(&self, id: RequestId) -> Result<Option<Arc<Request>>, StorageError>;

    /// Writes a change, its history row and its attempt in one transaction, if the request is still at the version
    /// that the change was decided on.
    ///
    /// # Errors
    /// [`StorageError::Conflict`] if it is not; then nothing was written.
    async fn write(&self, change: Change) -> Result<Arc<Request>, StorageError>;

    /// Every request that has not ended, oldest first, without limit: what the scheduler starts from.
    async fn open_requests(&self) -> Result<Vec<Arc<Request>>, StorageError>;

    /// Requests that pass the filter, newest first.
    async fn requests(&self, filter: &RequestFilter) -> Result<Vec<Arc<Request>>, StorageError>;

    /// What happened to a request, oldest first; empty for an unknown one.
    async fn history(&self, id: RequestId) -> Result<Vec<HistoryRow>, StorageError>;

    /// An attempt by its id.
    async fn attempt(&self, id: AttemptId) -> Result<Option<AttemptRecord>, StorageError>;

    /// The newest proofs, newest first.
    async fn proofs(&self, limit: u32) -> Result<Vec<ProofRecord>, StorageError>;
}
