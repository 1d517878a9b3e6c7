use network_lib::{ArtifactId, ArtifactKind, CircuitVersion, Digest, Fault, ProofMode, RequestId, Vm};
use proptest::prelude::*;

use super::*;
use crate::{GuestReports, RetryPolicy};

pub(crate) fn at(secs: u64) -> Timestamp {
    Timestamp::from_secs(secs)
}

pub(crate) fn attempt(n: u8) -> AttemptId {
    AttemptId::new([n; 16])
}

pub(crate) fn worker(n: u8) -> WorkerId {
    WorkerId::new([n; 16])
}

pub(crate) fn spec() -> RequestSpec {
    RequestSpec {
        requester: Requester::new([7; 20]),
        vm: Vm::Sp1,
        vk_hash: Digest::new([1; 32]),
        program: ArtifactId::new(ArtifactKind::Program, [1; 16]),
        stdin: ArtifactId::new(ArtifactKind::Stdin, [2; 16]),
        mode: ProofMode::Core,
        circuit_version: CircuitVersion::new("sp1-v6.1.0"),
        deadline: at(1000),
        cycle_limit: u64::MAX,
        gas_limit: 0,
        public_values_hash: None,
        priority: Priority::default(),
        variant: Variant::Base,
        strategy: 1,
    }
}

pub(crate) fn queued() -> Request {
    Request {
        id: RequestId::new([9; 32]),
        spec: spec(),
        state: RequestState::Queued,
        tries: Tries::default(),
        execution: None,
        created_at: at(0),
        updated_at: at(0),
        version: 1,
    }
}

fn leased(n: u8) -> Request {
    queued().lease(attempt(n), worker(n), at(1)).expect("queued").request
}

#[test]
fn a_late_failure_does_not_disturb_the_next_attempt() {
    let policy = RetryPolicy::default();
    let lost = leased(1).fail(attempt(1), Fault::lost("silent"), &policy, at(2)).expect("current").request;
    let second = lost.lease(attempt(2), worker(2), at(3)).expect("queued again").request;
    let late = second.fail(attempt(1), Fault::worker("crashed"), &policy, at(4));
    assert_eq!(late, Err(TransitionError::StaleAttempt { reported: attempt(1) }));
}

#[test]
fn a_late_proof_wins_and_names_the_attempt_that_may_stop() {
    let policy = RetryPolicy::default();
    let lost = leased(1).fail(attempt(1), Fault::lost("silent"), &policy, at(2)).expect("current").request;
    let second = lost.lease(attempt(2), worker(2), at(3)).expect("queued again").request;
    let change = second.fulfil(attempt(1), worker(1), false, at(4)).expect("open");
    assert_eq!(
        change.happening,
        Happening::Fulfilled { attempt: attempt(1), worker: worker(1), superseded: vec![attempt(2)] }
    );
}

#[test]
fn the_guests_own_fault_is_final_once_a_second_worker_reports_it_and_keeps_its_words() {
    let policy = RetryPolicy::default();
    let fault = || Fault::guest("n is too large");
    let change = leased(1).fail(attempt(1), fault(), &policy, at(2)).expect("current");
    assert!(matches!(&change.happening, Happening::AttemptEnded { outcome, .. } if outcome.will_retry));
    let doubted = change.request;
    assert_eq!(doubted.state, RequestState::Queued);
    assert_eq!((doubted.tries.failed, doubted.tries.lost, doubted.tries.troubles()), (0, 0, 0));
    assert_eq!(doubted.tries.guest, GuestReports { by: vec![worker(1)], cause: "n is too large".to_owned() });
    // Another worker's, or the same one's again: matching asks it only when there is no other.
    for n in 1..=2 {
        let again = doubted.lease(attempt(3), worker(n), at(3)).expect("queued").request;
        let change = again.fail(attempt(3), fault(), &policy, at(4)).expect("current");
        assert_eq!(change.request.state, RequestState::Unexecutable { cause: "n is too large".to_owned(), at: at(4) });
    }
    let credulous = RetryPolicy { guest_reports_needed: 1, ..policy };
    let change = leased(1).fail(attempt(1), fault(), &credulous, at(2)).expect("current");
    assert!(matches!(change.request.state, RequestState::Unexecutable { .. }));
}

#[test]
fn a_reported_fault_of_the_guest_does_not_stand_in_the_way_of_a_proof() {
    let policy = RetryPolicy::default();
    let doubted = leased(1).fail(attempt(1), Fault::guest("panicked"), &policy, at(2)).expect("current").request;
    assert!(doubted.fulfil(attempt(9), worker(9), false, at(3)).is_ok(), "a late one");
    let second = doubted.lease(attempt(2), worker(2), at(3)).expect("queued").request;
    let fulfilled = second.fulfil(attempt(2), worker(2), false, at(4)).expect("open").request;
    assert_eq!(fulfilled.tries.guest.by, [worker(1)], "whose word it was is remembered");
}

#[test]
fn while_another_worker_is_at_the_request_one_worker_cannot_confirm_itself() {
    let policy = RetryPolicy::default();
    let guest = || Fault::guest("panicked");
    let first = hedged().fail(attempt(1), guest(), &policy, at(3)).expect("holds it").request;
    assert_eq!(first.state, RequestState::Leased { attempt: attempt(2), worker: worker(2), hedge: None });
    let both = first.fail(attempt(2), guest(), &policy, at(4)).expect("holds it").request;
    assert!(matches!(both.state, RequestState::Unexecutable { .. }), "two of two say so");
    // Again by the first, with a hedge beside it.
    let alone = first.fail(attempt(2), Fault::lost("silent"), &policy, at(4)).expect("holds it").request;
    let again = alone.lease(attempt(3), worker(1), at(5)).expect("queued").request;
    let again = again.hedge(attempt(4), worker(3), at(6)).expect("leased by one").request;
    let again = again.fail(attempt(3), guest(), &policy, at(7)).expect("holds it").request;
    assert_eq!(again.state, RequestState::Leased { attempt: attempt(4), worker: worker(3), hedge: None });
}

#[test]
fn tries_written_before_guest_reports_were_counted_still_read() {
    let old = r#"{"begun":2,"failed":1,"lost":0,"failed_workers":["01010101010101010101010101010101"]}"#;
    let tries: Tries = serde_json::from_str(old).expect("it was written so");
    assert!(tries.guest.is_empty());
    assert_eq!(serde_json::to_string(&tries).expect("plain"), old, "and so it is still written");
}

#[test]
fn what_a_worker_repeats_is_told_once_for_each_attempt_even_if_it_says_something_else() {
    let execution = |cycles| Execution { cycles, gas: None, public_values_hash: Digest::new([0; 32]) };
    let executed = hedged().executed(attempt(1), execution(1), at(2)).expect("current").request;
    for cycles in [1, 2] {
        assert_eq!(executed.executed(attempt(1), execution(cycles), at(3)), Err(TransitionError::Known));
    }
    let other = executed.executed(attempt(2), execution(2), at(3)).expect("another attempt's word").request;
    assert_eq!(other.executed(attempt(1), execution(1), at(4)), Err(TransitionError::Known));

    let proved = other.proved(attempt(1), at(5)).expect("current").request;
    assert_eq!(proved.proved(attempt(1), at(6)), Err(TransitionError::Known));
    assert!(proved.proved(attempt(2), at(6)).is_ok(), "another attempt's proof");
}

#[test]
fn failing_workers_and_lost_contact_spend_separate_budgets() {
    let policy = RetryPolicy { max_failed_attempts: 2, max_lost_attempts: 3, ..RetryPolicy::default() };
    let mut request = queued();
    for n in 1..=2 {
        request = request.lease(attempt(n), worker(1), at(1)).expect("queued").request;
        request = request.fail(attempt(n), Fault::lost("silent"), &policy, at(2)).expect("current").request;
    }
    request = request.lease(attempt(3), worker(1), at(1)).expect("queued").request;
    request = request.fail(attempt(3), Fault::worker("crashed"), &policy, at(2)).expect("current").request;
    assert_eq!(request.state, RequestState::Queued, "two lost and one failed are within both budgets");
    request = request.lease(attempt(4), worker(2), at(1)).expect("queued").request;
    request = request.fail(attempt(4), Fault::resources("out of memory"), &policy, at(2)).expect("current").request;
    assert!(matches!(request.state, RequestState::Unfulfillable { .. }));
    assert_eq!(request.tries.failed_workers, [worker(1), worker(2)]);
}

#[test]
fn a_proof_in_the_hands_of_the_verifier_outlives_the_deadline() {
    let checking = leased(1).deliver(attempt(1), at(999)).expect("current").request;
    assert_eq!(checking.expire(at(1001)), Err(TransitionError::NotDue));
    assert!(checking.fulfil(attempt(1), worker(1), false, at(1002)).is_ok());
}

#[test]
fn an_expired_request_is_still_fulfilled_by_a_late_proof_but_a_cancelled_one_is_not() {
    let expired = leased(1).expire(at(1000)).expect("due").request;
    assert!(expired.fulfil(attempt(1), worker(1), false, at(1001)).is_ok());
    let cancelled = leased(1).cancel(at(5)).expect("open").request;
    assert_eq!(
        cancelled.fulfil(attempt(1), worker(1), false, at(6)),
        Err(TransitionError::Ended { state: "cancelled" })
    );
}

fn hedged() -> Request {
    leased(1).hedge(attempt(2), worker(2), at(2)).expect("leased by one").request
}

#[test]
fn of_two_attempts_the_first_proof_counts_and_the_other_may_stop() {
    for (winner, loser) in [(1, 2), (2, 1)] {
        let checking = hedged().deliver(attempt(winner), at(3)).expect("holds it").request;
        assert_eq!(
            checking.deliver(attempt(loser), at(3)),
            Err(TransitionError::StaleAttempt { reported: attempt(loser) })
        );
        let change = checking.fulfil(attempt(winner), worker(winner), false, at(4)).expect("open");
        let superseded = vec![attempt(loser)];
        assert_eq!(
            change.happening,
            Happening::Fulfilled { attempt: attempt(winner), worker: worker(winner), superseded }
        );
    }
}

#[test]
fn when_one_of_two_attempts_ends_the_other_goes_on_alone_even_past_the_budget() {
    let policy = RetryPolicy { max_failed_attempts: 1, ..RetryPolicy::default() };
    for (ended, left) in [(1, 2), (2, 1)] {
        let change = hedged().fail(attempt(ended), Fault::worker("crashed"), &policy, at(3)).expect("holds it");
        assert!(matches!(&change.happening, Happening::AttemptEnded { outcome, .. } if outcome.will_retry));
        let state = RequestState::Leased { attempt: attempt(left), worker: worker(left), hedge: None };
        assert_eq!(change.request.state, state);
        let last = change.request.fail(attempt(left), Fault::worker("crashed"), &policy, at(4)).expect("holds it");
        assert!(matches!(last.request.state, RequestState::Unfulfillable { .. }));
    }
}

#[test]
fn a_proof_that_is_being_checked_outlives_the_failure_of_the_other_attempt() {
    let checking = hedged().deliver(attempt(2), at(3)).expect("holds it").request;
    let policy = RetryPolicy::default();
    let after = checking.fail(attempt(1), Fault::guest("panicked"), &policy, at(4)).expect("holds it").request;
    assert_eq!(after.state, RequestState::Verifying { attempt: attempt(2), worker: worker(2), hedge: None });
    // A proof that does not verify leaves the request to the other.
    let after = checking.fail(attempt(2), Fault::worker("does not verify"), &policy, at(4)).expect("holds it").request;
    assert_eq!(after.state, RequestState::Leased { attempt: attempt(1), worker: worker(1), hedge: None });
}

#[test]
fn only_a_request_that_one_other_worker_is_at_is_hedged() {
    let not = |state| Err(TransitionError::NotHedgeable { state });
    assert_eq!(queued().hedge(attempt(1), worker(1), at(1)), not("queued"));
    assert_eq!(leased(1).hedge(attempt(2), worker(1), at(1)), not("leased"));
    assert_eq!(hedged().hedge(attempt(3), worker(3), at(1)), not("leased"));
}

/// Anything that can happen to a request, in any order, from any attempt.
#[derive(Debug, Clone)]
enum Step {
    Lease(u8),
    Hedge(u8),
    Resume(u8),
    Executed(u8),
    Deliver(u8),
    Fail(u8, FaultKind),
    Fulfil(u8),
    GiveUp,
    Expire(u64),
    Cancel,
}

#[derive(Debug, Clone, Copy)]
enum FaultKind {
    Guest,
    Resources,
    Worker,
    Lost,
}

fn step() -> impl Strategy<Value = Step> {
    let fault =
        prop_oneof![Just(FaultKind::Guest), Just(FaultKind::Resources), Just(FaultKind::Worker), Just(FaultKind::Lost)];
    prop_oneof![
        4 => (0..6_u8).prop_map(Step::Lease),
        2 => (0..6_u8).prop_map(Step::Hedge),
        1 => (0..6_u8).prop_map(Step::Resume),
        1 => (0..6_u8).prop_map(Step::Executed),
        3 => (0..6_u8).prop_map(Step::Deliver),
        3 => ((0..6_u8), fault).prop_map(|(n, kind)| Step::Fail(n, kind)),
        1 => (0..6_u8).prop_map(Step::Fulfil),
        1 => Just(Step::GiveUp),
        1 => (900..1100_u64).prop_map(Step::Expire),
        1 => Just(Step::Cancel),
    ]
}

fn apply(request: &Request, step: &Step, policy: RetryPolicy) -> Result<Change, TransitionError> {
    let now = at(10);
    match *step {
        Step::Lease(n) => request.lease(attempt(n), worker(n), now),
        Step::Hedge(n) => request.hedge(attempt(n), worker(n), now),
        Step::Resume(n) => request.resume(attempt(n), worker(n), now),
        Step::Executed(n) => {
            let execution = Execution { cycles: 1, gas: None, public_values_hash: Digest::new([0; 32]) };
            request.executed(attempt(n), execution, now)
        }
        Step::Deliver(n) => request.deliver(attempt(n), now),
        Step::Fail(n, kind) => {
            let fault = match kind {
                FaultKind::Guest => Fault::guest("panicked"),
                FaultKind::Resources => Fault::resources("too small"),
                FaultKind::Worker => Fault::worker("crashed"),
                FaultKind::Lost => Fault::lost("silent"),
            };
            request.fail(attempt(n), fault, &policy, now)
        }
        Step::Fulfil(n) => request.fulfil(attempt(n), worker(n), false, now),
        Step::GiveUp => request.give_up("the input is gone".to_owned(), now),
        Step::Expire(secs) => request.expire(at(secs)),
        Step::Cancel => request.cancel(now),
    }
}

proptest! {
    /// P3, P5 and the fence: over any sequence of happenings, final states stay, soft ends change only to
    /// fulfilled, and only the current attempt may fail, progress or hand in for checking.
    #[test]
    fn promises_hold_over_any_sequence_of_happenings(steps in prop::collection::vec(step(), 1..60)) {
        let policy = RetryPolicy::default();
        let mut request = queued();
        for step in steps {
            let before = request.clone();
            let Ok(change) = apply(&before, &step, policy) else { continue };
            request = change.request;
            prop_assert_eq!(request.version, before.version + 1);
            prop_assert_eq!(&request.spec, &before.spec);
            prop_assert_eq!(request.id, before.id);
            match before.state {
                RequestState::Fulfilled { .. } | RequestState::Unexecutable { .. } | RequestState::Cancelled { .. } => {
                    prop_assert!(false, "{} changed by {step:?}", before.state.name());
                }
                RequestState::Unfulfillable { .. } | RequestState::Expired { .. } => {
                    let is_fulfilled = matches!(request.state, RequestState::Fulfilled { .. });
                    prop_assert!(is_fulfilled, "{} became {}", before.state.name(), request.state.name());
                }
                RequestState::Queued | RequestState::Leased { .. } | RequestState::Verifying { .. } => {}
            }
            if let Step::Fail(n, _) | Step::Deliver(n) | Step::Executed(n) = step {
                prop_assert_eq!(before.state.holder(attempt(n)), Some(worker(n)));
            }
            if matches!(request.state, RequestState::Unexecutable { .. }) {
                let has_others = before.state.holders().count() > 1;
                prop_assert!(policy.believes(&request.tries.guest, has_others), "believed without confirmation");
            }
            // Beyond those that are believed, only ones that another attempt stood beside.
            let most = policy.guest_reports_needed + request.tries.failed + request.tries.lost + 1;
            prop_assert!(request.tries.guest.by.len() <= most as usize, "reports without bound");
            if matches!(step, Step::GiveUp) {
                prop_assert_eq!(before.state, RequestState::Queued);
            }
            // One more when both of two attempts fail.
            prop_assert!(request.tries.failed <= policy.max_failed_attempts + 1);
            prop_assert!(request.state.holders().count() <= 2, "more than one hedge");
            prop_assert!(request.tries.begun >= request.tries.failed.saturating_sub(1));
        }
    }

    /// P6: from every state that is not terminal the deadline ends the request, at the latest after the check.
    #[test]
    fn no_state_outlives_the_deadline_without_an_owner(steps in prop::collection::vec(step(), 0..40)) {
        let policy = RetryPolicy { max_failed_attempts: 100, max_lost_attempts: 100, ..RetryPolicy::default() };
        let mut request = queued();
        for step in steps {
            if let Ok(change) = apply(&request, &step, policy) {
                request = change.request;
            }
        }
        while let RequestState::Verifying { attempt, .. } = request.state {
            request = request.fail(attempt, Fault::worker("no proof"), &policy, at(1100)).expect("current").request;
        }
        if !request.state.is_terminal() {
            request = request.expire(at(1100)).expect("due").request;
        }
        prop_assert!(request.state.is_terminal());
    }
}
