//! Durable facts: ports in domain types, implemented by [`sqlite`].
//!
//! Whatever a method has answered with `Ok` survives a crash from then on; whatever it has not, may or may not have
//! happened, and asking again is safe. `contract` is the suite that every implementation must pass.

mod error;
#[cfg(any(test, feature = "testing"))]
pub mod memory;
mod programs;
mod requests;
mod retention;
pub mod sqlite;
mod workers;

#[cfg(test)]
pub(crate) mod contract;

use std::sync::Arc;

use serde::Serialize;

pub use self::{
    error::StorageError,
    programs::{Artifact, Artifacts, Program, Programs},
    requests::{AttemptRecord, HistoryRow, NewRequest, ProofRecord, RequestFilter, Requests, Submitted},
    retention::{REPLAY_GRACE, Retention, RetentionRules, SHORTEST_STAY},
    workers::{DepartedWorker, MOST_DEPARTED, WorkerRecord, Workers},
};

/// Everything durable.
pub trait Store: Requests + Programs + Artifacts + Workers + Send + Sync + 'static {
    /// What was written since the store was opened.
    fn stats(&self) -> Stats;
}

/// A store that also deletes what nobody needs any more.
pub trait TidyStore: Store + Retention {}

impl<S: Store + Retention> TidyStore for S {}

/// What a store has written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Stats {
    /// Transactions that changed something: each cost one sync of the disk.
    pub commits: u64,
    /// Operations that changed something; those that come together share a commit.
    pub writes: u64,
}

/// A store that several parts share.
pub type SharedStore = Arc<dyn Store>;
