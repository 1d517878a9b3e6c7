//! What a worker's failures say about it: how long it rests, and when it is sent away.
//!
//! Faults on distinct requests count, from the last proof of the worker on. One that another worker repeats on the
//! same request is the request's own, and is taken off both. So a request that breaks provers costs no worker its
//! place, and a worker that breaks everything does not take the whole queue down.
//!
//! That a program fails is no fault of whoever says so, until another worker proves the request: then it is one. So
//! programs that fail cost no worker anything, and one that calls good programs bad rests, and is sent away.

use std::time::Duration;

use network_lib::{FaultClass, RequestId};
use serde::{Deserialize, Serialize};

/// How patient the coordinator is with workers that fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FaultPolicy {
    /// Faults of its own (not of a machine that is too small) after which a worker is evicted; 0 for never.
    pub evict_after: u32,
    /// How long a worker rests after its second fault in a row. Doubles with each further one.
    pub first_rest: Duration,
    /// The longest such rest.
    pub longest_rest: Duration,
}

impl Default for FaultPolicy {
    fn default() -> Self {
        Self { evict_after: 3, first_rest: Duration::from_secs(30), longest_rest: Duration::from_mins(30) }
    }
}

/// The faults of a worker since its last proof, oldest first, one per request. Outlives sessions and restarts.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Standing {
    faults: Vec<(RequestId, FaultClass)>,
}

/// Faults that are kept: more change nothing.
const MAX_FAULTS: usize = 16;

impl Standing {
    /// Whether nothing is held against the worker.
    pub const fn is_clean(&self) -> bool {
        self.faults.is_empty()
    }

    /// How many faults in a row count against the worker.
    pub const fn faults(&self) -> usize {
        self.faults.len()
    }

    /// Notes a fault at `request`. Whether that is news.
    pub(super) fn blame(&mut self, request: RequestId, class: FaultClass) -> bool {
        let is_news = !self.faults.iter().any(|(blamed, _)| *blamed == request);
        if is_news {
            if self.faults.len() == MAX_FAULTS {
                self.faults.remove(0);
            }
            self.faults.push((request, class));
        }
        is_news
    }

    /// Takes back the fault at `request`. Whether there was one.
    pub(super) fn forgive(&mut self, request: RequestId) -> bool {
        let before = self.faults.len();
        self.faults.retain(|(blamed, _)| *blamed != request);
        self.faults.len() != before
    }

    /// A proof of the worker verified: it can prove. Whether that changed anything.
    pub(super) fn clear(&mut self) -> bool {
        !std::mem::take(&mut self.faults).is_empty()
    }

    /// How long the worker rests from its last fault on. The first one costs no rest, only its next request at once:
    /// until a proof of it verifies, it gets one attempt at a time.
    pub(super) fn rest(&self, policy: &FaultPolicy) -> Duration {
        let Some(doublings) = self.faults.len().checked_sub(2) else { return Duration::ZERO };
        let factor = 1_u32.checked_shl(u32::try_from(doublings).unwrap_or(u32::MAX)).unwrap_or(u32::MAX);
        policy.first_rest.saturating_mul(factor).min(policy.longest_rest)
    }

    /// Whether the worker broke so much that it is sent away.
    pub(super) fn is_intolerable(&self, policy: &FaultPolicy) -> bool {
        let own = self.faults.iter().filter(|(_, class)| *class == FaultClass::Worker).count();
        policy.evict_after > 0 && own >= policy.evict_after as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing(faults: u8) -> Standing {
        let mut standing = Standing::default();
        for n in 0..faults {
            assert!(standing.blame(RequestId::new([n; 32]), FaultClass::Worker));
        }
        standing
    }

    #[test]
    fn rests_double_from_the_second_fault_on_up_to_a_bound() {
        let policy = FaultPolicy::default();
        let secs: Vec<u64> = (0..10).map(|faults| standing(faults).rest(&policy).as_secs()).collect();
        assert_eq!(secs, [0, 0, 30, 60, 120, 240, 480, 960, 1800, 1800]);
    }

    #[test]
    fn faults_at_one_request_count_once_and_a_machine_that_is_too_small_is_never_sent_away() {
        let policy = FaultPolicy::default();
        let mut small = Standing::default();
        for n in 0..200 {
            small.blame(RequestId::new([n; 32]), FaultClass::Resources);
            assert!(!small.blame(RequestId::new([n; 32]), FaultClass::Worker), "known already");
        }
        assert_eq!(small.faults(), MAX_FAULTS);
        assert!(!small.is_intolerable(&policy));
        assert!(!standing(2).is_intolerable(&policy));
        assert!(standing(3).is_intolerable(&policy));
        assert!(!standing(9).is_intolerable(&FaultPolicy { evict_after: 0, ..policy }));
    }

    #[test]
    fn a_standing_is_kept_as_a_list_of_requests_and_classes() {
        let text = serde_json::to_string(&standing(1)).expect("plain");
        assert_eq!(serde_json::from_str::<Standing>(&text).expect("just written"), standing(1));
        assert!(text.ends_with(r#""worker"]]"#), "{text}");
    }
}
