//! What may be deleted, and deleting it.
//!
//! Finding what should go is a question to a reader, and its answer a proposal. Deleting asks again, in the transaction
//! that deletes, whether each thing may go: in between a request may have come that needs it.

use std::time::Duration;

use async_trait::async_trait;
use hierophant_core::Timestamp;
use network_lib::{ArtifactId, RequestId};

use super::StorageError;

/// Nothing is deleted sooner after it came or ended, whatever the bounds say: a client must have time to fetch its
/// proof, and to ask for a second proof of the same input.
pub const SHORTEST_STAY: Duration = Duration::from_hours(1);

/// A request stays known for this long after its deadline: as long as its signed message, sent again, could be accepted,
/// by clocks that differ a little.
pub const REPLAY_GRACE: Duration = Duration::from_hours(1);

/// How much is kept of what nobody works on any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetentionRules {
    /// Requests go this long after they ended, with their history, attempts and proofs.
    pub age: Duration,
    /// Most requests that have ended.
    pub requests: u64,
    /// Most bytes of all artifacts.
    pub bytes: Option<u64>,
    /// Artifacts that no request refers to go after this long.
    pub unused_artifacts: Duration,
    /// Most inputs of requests that have ended.
    pub inputs: Option<u64>,
    /// Most proofs.
    pub proofs: Option<u64>,
}

impl Default for RetentionRules {
    fn default() -> Self {
        Self {
            age: Duration::from_hours(30 * 24),
            requests: 100_000,
            bytes: None,
            unused_artifacts: Duration::from_hours(24),
            inputs: None,
            proofs: None,
        }
    }
}

/// Deletes what nobody needs any more. Never deleted: an open request, what it refers to, a program that is registered,
/// a request before its deadline and [`REPLAY_GRACE`], anything within [`SHORTEST_STAY`].
#[async_trait]
pub trait Retention {
    /// Requests that have ended and should go by the rules, those that ended first first; at most `limit`.
    async fn prunable_requests(
        &self,
        rules: RetentionRules,
        now: Timestamp,
        limit: u32,
    ) -> Result<Vec<RequestId>, StorageError>;

    /// Deletes those of these requests that may go, with their histories and attempts, in one transaction. Answers how
    /// many went. Their artifacts are [prunable](Self::prunable_artifacts) from then on.
    async fn prune_requests(&self, ids: Vec<RequestId>, now: Timestamp) -> Result<usize, StorageError>;

    /// Artifacts that should go by the rules, the oldest first.
    async fn prunable_artifacts(&self, rules: RetentionRules, now: Timestamp) -> Result<Vec<ArtifactId>, StorageError>;

    /// Deletes the rows of those of these artifacts that may go, in one transaction, and answers which. Their files are
    /// the caller's to remove.
    async fn prune_artifacts(
        &self,
        ids: Vec<ArtifactId>,
        rules: RetentionRules,
        now: Timestamp,
    ) -> Result<Vec<ArtifactId>, StorageError>;

    /// Artifacts that have a row, in the order of their ids, after this one; at most `limit`.
    async fn recorded_artifacts(&self, after: Option<ArtifactId>, limit: u32) -> Result<Vec<ArtifactId>, StorageError>;
}
