//! How often a request is tried.

use std::collections::BTreeSet;

use network_lib::{AttemptId, Fault, FaultClass, WorkerId};
use serde::{Deserialize, Serialize};

/// How often a request is tried before it is given up. Broken workers and broken connections have budgets of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Failed attempts (worker or resources at fault) after which a request is unfulfillable.
    pub max_failed_attempts: u32,
    /// Attempts lost with their worker after which a request is unfulfillable.
    pub max_lost_attempts: u32,
    /// Reports that the program itself fails after which that is believed, and a request is unexecutable.
    pub guest_reports_needed: u32,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self { max_failed_attempts: 3, max_lost_attempts: 20, guest_reports_needed: 2 }
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
    /// What was said of the program itself.
    #[serde(default, skip_serializing_if = "GuestReports::is_empty")]
    pub guest: GuestReports,
    /// Attempts that told what executing the program showed, where that was news.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub executed: Vec<AttemptId>,
    /// Attempts that told of their proof.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub proved: Vec<AttemptId>,
}

/// Reports that the program itself fails on this input. One worker alone may be broken, or lie.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct GuestReports {
    /// Who reported it, oldest first; twice who did so twice.
    pub by: Vec<WorkerId>,
    /// The last one's words.
    pub cause: String,
}

impl GuestReports {
    /// Whether nobody has said that the program fails.
    pub const fn is_empty(&self) -> bool {
        self.by.is_empty()
    }

    /// The workers that said so, each once.
    pub fn workers(&self) -> BTreeSet<WorkerId> {
        self.by.iter().copied().collect()
    }
}

impl Tries {
    /// How often this request has met with trouble that may be its own. Workers are lost for reasons of theirs: only
    /// a third one makes one wonder.
    pub const fn troubles(&self) -> u32 {
        self.failed.saturating_add(self.lost.saturating_sub(2))
    }

    /// These tries and one more, by `worker`, which ended with this fault.
    #[must_use]
    pub fn after(&self, worker: WorkerId, fault: &Fault) -> Self {
        let mut tries = self.clone();
        match fault.class {
            FaultClass::Guest => {
                tries.guest.by.push(worker);
                tries.guest.cause.clone_from(&fault.cause);
            }
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

    /// Whether enough workers have said that the program fails. One that says so again counts again only while nobody
    /// else is at the request: matching asks the same worker twice only when there is no other.
    pub fn believes(&self, guest: &GuestReports, is_another_at_it: bool) -> bool {
        let count = if is_another_at_it { guest.workers().len() } else { guest.by.len() };
        count >= self.guest_reports_needed as usize
    }
}
