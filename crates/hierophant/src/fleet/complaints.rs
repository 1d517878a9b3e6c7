//! When an operator is told that requests wait which no connected worker can prove: at once, and then not again for
//! a while.

use std::{collections::HashMap, time::Duration};

use hierophant_core::{
    Moment,
    fleet::{Requirement, Unserved, WaitingReason},
};

/// How long the same is not said again. A worker that must be set up is hours away, and the log is for more than this.
const QUIET: Duration = Duration::from_mins(5);

/// What was said when. As many entries as there are kinds of requests, which are few: a circuit version that is not
/// served is refused before it waits.
#[derive(Debug, Default)]
pub(super) struct Complaints(HashMap<(Requirement, bool), Moment>);

impl Complaints {
    /// Whether this is to be said now; if so, it counts as said. That the last worker left is news to whoever knows
    /// only that none of the workers was able.
    pub(super) fn is_news(&mut self, unserved: &Unserved, now: Moment) -> bool {
        let key = (unserved.requirement.clone(), unserved.reason == WaitingReason::NoWorkers);
        let is_news = self.0.get(&key).is_none_or(|said| now.since(*said) >= QUIET);
        if is_news {
            self.0.insert(key, now);
        }
        is_news
    }
}

#[cfg(test)]
mod tests {
    use network_lib::{CircuitVersion, ProofMode, Vm};

    use super::*;

    fn unserved(mode: ProofMode, has_workers: bool) -> Unserved {
        let requirement = Requirement { vm: Vm::Sp1, circuit_version: CircuitVersion::new("sp1-v6.1.0"), mode };
        let reason = if has_workers {
            WaitingReason::NoCapableWorker { requirement: requirement.clone(), not_ready: 0 }
        } else {
            WaitingReason::NoWorkers
        };
        Unserved { requirement, waiting: 1, reason }
    }

    #[test]
    fn each_mode_and_reason_is_said_at_once_and_then_not_for_five_minutes() {
        let mut complaints = Complaints::default();
        let at = |secs: u64| Moment::from_millis(secs * 1000);
        assert!(complaints.is_news(&unserved(ProofMode::Groth16, true), at(1)));
        assert!(!complaints.is_news(&unserved(ProofMode::Groth16, true), at(1)));
        assert!(complaints.is_news(&unserved(ProofMode::Plonk, true), at(1)));
        assert!(complaints.is_news(&unserved(ProofMode::Groth16, false), at(2)));
        assert!(!complaints.is_news(&unserved(ProofMode::Groth16, true), at(300)));
        assert!(complaints.is_news(&unserved(ProofMode::Groth16, true), at(301)));
    }
}
