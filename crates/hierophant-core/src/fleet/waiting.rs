//! Why a request waits, in words for whoever asks.

use std::{fmt, time::Duration};

use network_lib::RequestId;

use super::{Fleet, Paused, Requirement, can_prove, queue::MOST_COUNTED};
use crate::Moment;

/// Why a request waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WaitingReason {
    /// No worker is connected.
    NoWorkers,
    /// Workers are connected, but none makes such proofs.
    NoCapableWorker {
        /// What nobody can do.
        requirement: Requirement,
        /// How many of their provers are not ready yet, and may turn out to.
        not_ready: usize,
    },
    /// It met with trouble, and no other worker could take it now: it is tried again after a pause.
    Pausing {
        /// How much longer.
        left: Duration,
    },
    /// Its lease could not be written, through what the store holds of it: that is tried again after a pause.
    PutOff {
        /// How much longer.
        left: Duration,
    },
    /// All workers that could have failed again and again, and rest.
    Resting {
        /// How many could.
        capable: usize,
    },
    /// A worker said that the program fails, and those that could say so too are away, or start their provers.
    Awaiting,
    /// Workers that could are busy.
    Busy {
        /// How many could.
        capable: usize,
        /// How many requests go first, counted up to a thousand.
        ahead: usize,
    },
}

impl fmt::Display for WaitingReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoWorkers => f.write_str("no worker is connected"),
            Self::NoCapableWorker { requirement: Requirement { vm, circuit_version, mode }, not_ready } => {
                write!(f, "no connected worker proves {mode} for {vm} circuit {circuit_version}")?;
                match not_ready {
                    0 => Ok(()),
                    1 => f.write_str("; 1 prover is not ready yet"),
                    several => write!(f, "; {several} provers are not ready yet"),
                }
            }
            Self::Pausing { left } => {
                write!(f, "it failed before and is tried again in {} s", left.as_secs() + 1)
            }
            Self::PutOff { left } => {
                let secs = left.as_secs() + 1;
                write!(
                    f,
                    "it could not be given to a worker (hierophant's log says why) and is tried again in {secs} s"
                )
            }
            Self::Resting { capable } => {
                write!(f, "all {capable} capable workers failed again and again and rest for a while")
            }
            Self::Awaiting => f.write_str("other workers are expected back soon"),
            Self::Busy { capable, ahead } => {
                let at_least = if *ahead == MOST_COUNTED { "at least " } else { "" };
                write!(f, "all {capable} capable workers are busy; {at_least}{ahead} requests go first")
            }
        }
    }
}

/// Requests of one kind that nobody can prove now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unserved {
    /// What they need.
    pub requirement: Requirement,
    /// How many wait.
    pub waiting: usize,
    /// Why they wait.
    pub reason: WaitingReason,
}

impl Fleet {
    /// Why the request waits; `None` when it does not.
    pub fn waiting_reason(&self, id: RequestId, now: Moment) -> Option<WaitingReason> {
        if let Some(Paused { until, request, is_put_off }) = self.paused.get(&id) {
            let left = until.since(now);
            let reason = if *is_put_off { WaitingReason::PutOff { left } } else { WaitingReason::Pausing { left } };
            return Some(self.why_unserved(&request.requirement).unwrap_or(reason));
        }
        let request = self.queue.get(id)?;
        let requirement = &request.requirement;
        self.why_unserved(requirement).or_else(|| {
            let capable = self.workers.iter().filter(|(id, worker)| {
                worker.is_capable(requirement) && (request.doubted_by.is_empty() || self.may_take(request, **id))
            });
            let capable: Vec<_> = capable.map(|(_, worker)| worker).collect();
            let count = capable.len();
            if count == 0 {
                return Some(WaitingReason::Awaiting);
            }
            if capable.iter().all(|worker| worker.is_resting()) {
                return Some(WaitingReason::Resting { capable: count });
            }
            let ahead = self.queue.ahead_of(id, &self.shares());
            Some(WaitingReason::Busy { capable: count, ahead })
        })
    }

    /// The kinds of requests that wait and that no connected worker proves, busy or not. Costs nothing per request.
    pub fn unserved(&self) -> impl Iterator<Item = Unserved> {
        self.queue.lengths().filter_map(|(requirement, waiting)| {
            let reason = self.why_unserved(requirement)?;
            Some(Unserved { requirement: requirement.clone(), waiting, reason })
        })
    }

    /// Why nobody can do this; `None` when someone can, busy or not.
    fn why_unserved(&self, requirement: &Requirement) -> Option<WaitingReason> {
        let mut available = self.workers.values().filter(|worker| worker.is_available()).peekable();
        if available.peek().is_none() {
            return Some(WaitingReason::NoWorkers);
        }
        let mut not_ready = 0;
        for prover in available.flat_map(|worker| &worker.profile.provers) {
            if can_prove(prover, requirement) {
                return None;
            }
            not_ready += usize::from(prover.modes.is_empty());
        }
        Some(WaitingReason::NoCapableWorker { requirement: requirement.clone(), not_ready })
    }
}
