//! How often a request is tried.

use network_lib::{FaultClass, WorkerId};
use serde::{Deserialize, Serialize};

/// How often a request is tried before it is given up. Broken workers and broken connections have budgets of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Failed attempts (worker or resources at fault) after which a request is unfulfillable.
    pub max_failed_attempts: u32,
    /// Attempts lost with their worker after which a request is unfulfillable.
    pub max_lost_attempts: u32,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self { max_failed_attempts: 3, max_lost_attempts: 20 }
    }
}

/// What the attempts at one request have come to so far.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Tries {
    /// Attempts begun. Counted when claimed, so that a crash cannot hide one.
    pub begun: u32,
    /// Attempts that failed through their worker.
    pub failed: u32,
    /// Attempts lost with their worker.
    pub lost: u32,
    /// Workers that failed at this request or were lost with it, oldest first, without repeats: they come last in
    /// matching.
    pub failed_workers: Vec<WorkerId>,
}

impl Tries {
    /// How often this request has met with trouble that may be its own. Workers are lost for reasons of theirs: only
    /// a third one makes one wonder.
    pub const fn troubles(&self) -> u32 {
        self.failed.saturating_add(self.lost.saturating_sub(2))
    }

    /// These tries and one more, by `worker`, which ended with a fault of `class`.
    #[must_use]
    pub fn after(&self, worker: WorkerId, class: FaultClass) -> Self {
        let mut tries = self.clone();
        match class {
            FaultClass::Guest => return tries,
            FaultClass::Lost => tries.lost += 1,
            FaultClass::Resources | FaultClass::Worker => tries.failed += 1,
        }
        if !tries.failed_workers.contains(&worker) {
            tries.failed_workers.push(worker);
        }
        tries
    }
}

impl RetryPolicy {
    /// Whether a request with these tries gets another one.
    pub const fn allows(&self, tries: &Tries) -> bool {
        tries.failed < self.max_failed_attempts && tries.lost < self.max_lost_attempts
    }
}
