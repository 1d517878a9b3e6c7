//! What becomes of an attempt that a worker still has when it connects.

use network_lib::{WorkerId, protocol::InHand};

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
}

/// What becomes of `in_hand`, which `worker` still has of `request` (`None`: not known here).
///
/// A proof is always wanted while its request can still be fulfilled, whoever holds the request now.
pub fn reconcile(request: Option<&Request>, worker: WorkerId, in_hand: &InHand) -> Verdict {
    let Some(request) = request else {
        return Verdict::Stop("the request is not known here");
    };
    match (&request.state, in_hand.is_proved) {
        (RequestState::Fulfilled { .. }, true) => Verdict::Forget,
        (RequestState::Fulfilled { .. }, false) => Verdict::Stop("the request is fulfilled"),
        (RequestState::Unexecutable { .. }, _) => Verdict::Stop("the program fails on this input"),
        (RequestState::Cancelled { .. }, _) => Verdict::Stop("the request was cancelled"),
        (RequestState::Verifying { attempt, .. }, _) if *attempt == in_hand.attempt => Verdict::Continue,
        (_, true) => Verdict::Deliver,
        (RequestState::Leased { attempt, worker: holder }, false)
            if *attempt == in_hand.attempt && *holder == worker =>
        {
            Verdict::Continue
        }
        (RequestState::Leased { .. } | RequestState::Verifying { .. }, false) => {
            Verdict::Stop("another worker has the request")
        }
        (RequestState::Queued, false) => Verdict::Resume,
        (RequestState::Unfulfillable { .. } | RequestState::Expired { .. }, false) => {
            Verdict::Stop("the request has ended")
        }
    }
}

#[cfg(test)]
mod tests {
    use network_lib::AttemptId;

    use super::*;
    use crate::request::tests::{at, attempt, queued, worker};

    fn in_hand(id: AttemptId, is_proved: bool) -> InHand {
        InHand { attempt: id, request: queued().id, prover: 0, is_proved }
    }

    #[test]
    fn every_combination_of_state_and_work_in_hand_has_its_verdict() {
        let (a, b) = (worker(1), worker(2));
        let queued = queued();
        let mine = queued.lease(attempt(1), a, at(1)).expect("queued").request;
        let theirs = queued.lease(attempt(2), b, at(1)).expect("queued").request;
        let checking = mine.deliver(attempt(1), at(2)).expect("current").request;
        let fulfilled = mine.fulfil(attempt(1), a, false, at(2)).expect("open").request;
        let cancelled = mine.cancel(at(2)).expect("open").request;
        let expired = mine.expire(mine.spec.deadline).expect("due").request;
        let verdict = |request: &Request, proved| reconcile(Some(request), a, &in_hand(attempt(1), proved));
        let table = [
            (verdict(&queued, false), Verdict::Resume),
            (verdict(&queued, true), Verdict::Deliver),
            (verdict(&mine, false), Verdict::Continue),
            (verdict(&mine, true), Verdict::Deliver),
            (verdict(&theirs, false), Verdict::Stop("another worker has the request")),
            (verdict(&theirs, true), Verdict::Deliver),
            (verdict(&checking, true), Verdict::Continue),
            (verdict(&fulfilled, false), Verdict::Stop("the request is fulfilled")),
            (verdict(&fulfilled, true), Verdict::Forget),
            (verdict(&cancelled, true), Verdict::Stop("the request was cancelled")),
            (verdict(&expired, false), Verdict::Stop("the request has ended")),
            (verdict(&expired, true), Verdict::Deliver),
            (reconcile(None, a, &in_hand(attempt(1), true)), Verdict::Stop("the request is not known here")),
        ];
        for (index, (actual, expected)) in table.into_iter().enumerate() {
            assert_eq!(actual, expected, "row {index}");
        }
    }
}
