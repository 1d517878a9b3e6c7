//! What becomes of an attempt that a worker still has when it connects.

use network_lib::{
    WorkerId,
    protocol::{InHand, Stage},
};

use crate::{Request, RequestState};

/// What becomes of an attempt that a worker still has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The attempt holds the request: go on.
    Continue,
    /// The attempt had been given up and the request waits: it goes back to this attempt, if nobody was quicker.
    Resume,
    /// The proof is wanted: upload it.
    Deliver,
    /// The proof is here or not needed: the worker may delete it.
    Forget,
    /// The work is not wanted: stop.
    Stop(&'static str),
    /// A proof of something that is not known here, as after a restore of an old copy of the database. Nothing is
    /// said, so that the worker keeps it.
    Keep,
}

/// What becomes of `in_hand`, which `worker` still has of `request` (`None`: not known here).
///
/// A proof is always wanted while its request can still be fulfilled, whoever holds the request now.
pub fn reconcile(request: Option<&Request>, worker: WorkerId, in_hand: &InHand) -> Verdict {
    let Some(request) = request else {
        return match in_hand.stage {
            Stage::Proved => Verdict::Keep,
            Stage::Working | Stage::Failed => Verdict::Stop("the request is not known here"),
        };
    };
    let is_current = request.state.holder(in_hand.attempt) == Some(worker);
    match (&request.state, in_hand.stage) {
        (RequestState::Fulfilled { .. }, Stage::Proved) => Verdict::Forget,
        (RequestState::Fulfilled { .. }, _) => Verdict::Stop("the request is fulfilled"),
        (RequestState::Unexecutable { .. }, _) => Verdict::Stop("the program fails on this input"),
        (RequestState::Cancelled { .. }, _) => Verdict::Stop("the request was cancelled"),
        (RequestState::Verifying { attempt, .. }, _) if *attempt == in_hand.attempt => Verdict::Continue,
        (_, Stage::Proved) => Verdict::Deliver,
        (RequestState::Leased { .. } | RequestState::Verifying { .. }, _) if is_current => Verdict::Continue,
        (RequestState::Leased { .. } | RequestState::Verifying { .. }, _) => {
            Verdict::Stop("another worker has the request")
        }
        // Its second word counts only when nobody else can be asked, which matching finds out.
        (RequestState::Queued, Stage::Working) if request.tries.guest.by.contains(&worker) => {
            Verdict::Stop("this worker said that the program fails")
        }
        (RequestState::Queued, Stage::Working) => Verdict::Resume,
        (RequestState::Queued, Stage::Failed) => Verdict::Stop("the attempt had been given up"),
        (RequestState::Unfulfillable { .. } | RequestState::Expired { .. }, _) => {
            Verdict::Stop("the request has ended")
        }
    }
}

#[cfg(test)]
mod tests {
    use network_lib::{AttemptId, Fault};

    use super::*;
    use crate::{
        Holder, RetryPolicy,
        request::tests::{at, attempt, queued, worker},
    };

    fn in_hand(id: AttemptId, stage: Stage) -> InHand {
        InHand { attempt: id, request: queued().id, prover: 0, stage }
    }

    #[test]
    fn every_combination_of_state_and_work_in_hand_has_its_verdict() {
        use Stage::{Failed, Proved, Working};
        let (a, b) = (worker(1), worker(2));
        let queued = queued();
        let mine = queued.lease(attempt(1), a, at(1)).expect("queued").request;
        let theirs = queued.lease(attempt(2), b, at(1)).expect("queued").request;
        let hedged = theirs.hedge(attempt(1), a, at(1)).expect("leased").request;
        let checking = mine.deliver(attempt(1), at(2)).expect("current").request;
        let checking_theirs = hedged.deliver(attempt(2), at(2)).expect("current").request;
        let fulfilled = mine.fulfil(attempt(1), a, false, at(2)).expect("open").request;
        let cancelled = mine.cancel(at(2)).expect("open").request;
        let doubted = mine.fail(attempt(1), Fault::guest("panicked"), &RetryPolicy::default(), at(2));
        let doubted = doubted.expect("current").request;
        let doubts = Verdict::Stop("this worker said that the program fails");
        let expired = mine.expire(mine.spec.deadline).expect("due").request;
        let other = Verdict::Stop("another worker has the request");
        let is_fulfilled = Verdict::Stop("the request is fulfilled");
        let is_cancelled = Verdict::Stop("the request was cancelled");
        let has_ended = Verdict::Stop("the request has ended");
        let table = [
            (&queued, [Verdict::Resume, Verdict::Deliver, Verdict::Stop("the attempt had been given up")]),
            (&doubted, [doubts, Verdict::Deliver, Verdict::Stop("the attempt had been given up")]),
            (&mine, [Verdict::Continue, Verdict::Deliver, Verdict::Continue]),
            (&theirs, [other, Verdict::Deliver, other]),
            (&hedged, [Verdict::Continue, Verdict::Deliver, Verdict::Continue]),
            (&checking, [Verdict::Continue, Verdict::Continue, Verdict::Continue]),
            (&checking_theirs, [Verdict::Continue, Verdict::Deliver, Verdict::Continue]),
            (&fulfilled, [is_fulfilled, Verdict::Forget, is_fulfilled]),
            (&cancelled, [is_cancelled, is_cancelled, is_cancelled]),
            (&expired, [has_ended, Verdict::Deliver, has_ended]),
        ];
        for (request, expected) in table {
            let verdict = |stage| reconcile(Some(request), a, &in_hand(attempt(1), stage));
            assert_eq!([Working, Proved, Failed].map(verdict), expected, "{:?}", request.state);
        }
        let unknown = |stage| reconcile(None, a, &in_hand(attempt(1), stage));
        let stop = Verdict::Stop("the request is not known here");
        assert_eq!([Working, Proved, Failed].map(unknown), [stop, Verdict::Keep, stop]);
        assert_eq!(hedged.state.holders().last(), Some(Holder { attempt: attempt(1), worker: a }));
    }
}
