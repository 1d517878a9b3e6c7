//! Why a request waits, in words for whoever asks.

use std::fmt;

use network_lib::RequestId;

use super::{Fleet, Requirement, can_prove};

/// Why a request waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WaitingReason {
    /// No worker is connected.
    NoWorkers,
    /// Workers are connected, but none makes such proofs.
    NoCapableWorker(Requirement),
    /// Workers that could are busy.
    Busy {
        /// How many could.
        capable: usize,
        /// How many requests go first.
        ahead: usize,
    },
}

impl fmt::Display for WaitingReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoWorkers => f.write_str("no worker is connected"),
            Self::NoCapableWorker(Requirement { vm, circuit_version, mode }) => {
                write!(f, "no connected worker proves {mode} for {vm} circuit {circuit_version}")
            }
            Self::Busy { capable, ahead } => {
                write!(f, "all {capable} capable workers are busy; {ahead} requests go first")
            }
        }
    }
}

impl Fleet {
    /// Why the request waits; `None` when it does not.
    pub fn waiting_reason(&self, id: RequestId) -> Option<WaitingReason> {
        let request = self.queue.get(id)?;
        let requirement = &request.requirement;
        let available = || self.workers.values().filter(|worker| worker.is_available());
        if available().next().is_none() {
            return Some(WaitingReason::NoWorkers);
        }
        let capable = available()
            .filter(|worker| worker.profile.provers.iter().any(|prover| can_prove(prover, requirement)))
            .count();
        if capable == 0 {
            return Some(WaitingReason::NoCapableWorker(requirement.clone()));
        }
        Some(WaitingReason::Busy { capable, ahead: self.queue.position(id).unwrap_or(0) })
    }
}
