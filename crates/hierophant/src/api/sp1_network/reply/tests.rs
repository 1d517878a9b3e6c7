use std::sync::Arc;

use hierophant_core::{Priority, RequestSpec, Requester, Tries, Variant, WaitingReason};
use network_lib::{
    ArtifactId, ArtifactKind, AttemptId, CircuitVersion, Digest, Fault, ProofMode, Vm, protocol::Execution,
};
use prost::{
    Message,
    encoding::{DecodeContext, decode_key, skip_field},
};

use super::*;

const ATTEMPT: AttemptId = AttemptId::new([3; 16]);
const WORKER: WorkerId = WorkerId::new([4; 16]);
const AT: Timestamp = Timestamp::from_secs(1_700_000_100);
const DEADLINE: Timestamp = Timestamp::from_secs(1_700_014_400);
const LATER: Timestamp = Timestamp::from_secs(1_700_020_000);

fn request(state: RequestState) -> Request {
    Request {
        id: RequestId::new([1; 32]),
        spec: RequestSpec {
            requester: Requester::new([2; 20]),
            vm: Vm::Sp1,
            vk_hash: Digest::new([5; 32]),
            program: ArtifactId::new(ArtifactKind::Program, [6; 16]),
            stdin: ArtifactId::new(ArtifactKind::PrivateStdin, [7; 16]),
            mode: ProofMode::Compressed,
            circuit_version: CircuitVersion::new("sp1-v6.1.0"),
            deadline: DEADLINE,
            cycle_limit: u64::MAX,
            gas_limit: 1_000_000_000,
            public_values_hash: None,
            priority: Priority::default(),
            variant: Variant::Auction,
            strategy: 3,
        },
        state,
        tries: Tries::default(),
        execution: None,
        created_at: Timestamp::from_secs(1_700_000_000),
        updated_at: AT,
        version: 1,
    }
}

fn executed(state: RequestState) -> Request {
    let execution = Execution { cycles: 77, gas: Some(88), public_values_hash: Digest::new([9; 32]) };
    Request { execution: Some(execution), ..request(state) }
}

/// One of each.
fn states() -> [RequestState; 8] {
    [
        RequestState::Queued,
        RequestState::Leased { attempt: ATTEMPT, worker: WORKER, hedge: None },
        RequestState::Verifying { attempt: ATTEMPT, worker: WORKER, hedge: None },
        RequestState::Fulfilled { attempt: ATTEMPT, worker: WORKER, at: AT, is_mock: false },
        RequestState::Unexecutable { cause: "the guest panicked at src/main.rs:7".to_owned(), at: AT },
        RequestState::Unfulfillable { cause: "given up".to_owned(), at: AT },
        RequestState::Expired { at: AT },
        RequestState::Cancelled { at: AT },
    ]
}

/// What an SDK makes of a status.
#[derive(Debug, PartialEq, Eq)]
enum Decision {
    Poll,
    TimedOut,
    Unexecutable,
    Fulfilled,
    Unfulfillable,
}

/// SDK 4.1 to 6.1: the deadline goes before everything.
fn old_sdk(status: &GetProofRequestStatusResponse, now: Timestamp) -> Decision {
    match (status.fulfillment_status(), status.execution_status()) {
        _ if now.as_secs() > status.deadline => Decision::TimedOut,
        (_, ExecutionStatus::Unexecutable) => Decision::Unexecutable,
        (FulfillmentStatus::Fulfilled, _) => Decision::Fulfilled,
        (FulfillmentStatus::Unfulfillable, _) => Decision::Unfulfillable,
        _ => Decision::Poll,
    }
}

/// SDK 6.2 and later: the deadline comes last.
fn new_sdk(status: &GetProofRequestStatusResponse, now: Timestamp) -> Decision {
    match (status.fulfillment_status(), status.execution_status()) {
        (FulfillmentStatus::Fulfilled, _) => Decision::Fulfilled,
        (_, ExecutionStatus::Unexecutable) => Decision::Unexecutable,
        (FulfillmentStatus::Unfulfillable, _) => Decision::Unfulfillable,
        _ if now.as_secs() > status.deadline => Decision::TimedOut,
        _ => Decision::Poll,
    }
}

#[test]
fn every_sdk_decides_as_it_should_in_every_state_before_and_after_the_deadline() {
    use Decision::{Fulfilled, Poll, TimedOut, Unexecutable, Unfulfillable};
    // Old and new SDK in time, then old and new SDK too late.
    let expected = [
        [Poll, Poll, TimedOut, TimedOut],
        [Poll, Poll, TimedOut, TimedOut],
        [Poll, Poll, Poll, Poll],
        [Fulfilled, Fulfilled, Fulfilled, Fulfilled],
        [Unexecutable, Unexecutable, Unexecutable, Unexecutable],
        [Unfulfillable, Unfulfillable, Unfulfillable, Unfulfillable],
        [Unfulfillable, Unfulfillable, TimedOut, Unfulfillable],
        [Unfulfillable, Unfulfillable, Unfulfillable, Unfulfillable],
    ];
    for (state, expected) in states().into_iter().zip(expected) {
        let request = request(state);
        let early = status(&request, AT, None);
        let late = status(&request, LATER, None);
        let actual = [old_sdk(&early, AT), new_sdk(&early, AT), old_sdk(&late, LATER), new_sdk(&late, LATER)];
        assert_eq!(actual, expected, "{}", request.state.name());
        assert_ne!(early.deadline, 0);
    }
}

#[test]
fn a_request_that_nobody_knows_is_unfulfillable_for_every_sdk_and_no_reason_to_split_a_range() {
    let status = status_of_unknown(RequestId::new([1; 32]), AT);
    assert_eq!(old_sdk(&status, AT), Decision::Unfulfillable);
    assert_eq!(new_sdk(&status, AT), Decision::Unfulfillable);
    assert_eq!(status.execution_status(), ExecutionStatus::Unspecified);
    assert_eq!(status.request_tx_hash.len(), 32);
    assert!(status.deadline > AT.as_secs());
}

#[test]
fn an_open_request_is_assigned_and_says_whether_it_was_executed() {
    for state in &states()[..3] {
        let before = status(&request(state.clone()), AT, None);
        let after = status(&executed(state.clone()), AT, None);
        assert_eq!(before.fulfillment_status(), FulfillmentStatus::Assigned);
        assert_eq!(before.execution_status(), ExecutionStatus::Unexecuted);
        assert_eq!(after.execution_status(), ExecutionStatus::Executed);
        assert_eq!(after.public_values_hash, Some(vec![9; 32]));
    }
}

#[test]
fn only_the_guests_own_fault_is_unexecutable() {
    for state in states() {
        let is_guest = matches!(state, RequestState::Unexecutable { .. });
        for request in [request(state.clone()), executed(state.clone())] {
            let status = status(&request, AT, None);
            assert_eq!(status.execution_status() == ExecutionStatus::Unexecutable, is_guest, "{}", state.name());
            assert!((0..=4).contains(&status.fulfillment_status) && (0..=3).contains(&status.execution_status));
        }
    }
}

#[test]
fn each_state_is_found_by_the_status_that_it_shows_and_by_no_other() {
    for state in states() {
        for number in 0..=6 {
            let wanted = FulfillmentStatus::try_from(number).unwrap();
            let is_listed = states_with(wanted).contains(&state.name());
            assert_eq!(is_listed, fulfillment(&state) == wanted, "{} as {wanted:?}", state.name());
        }
    }
}

/// Every tag of an encoded message.
fn tags(encoded: &[u8]) -> Vec<u32> {
    let mut rest = encoded;
    let mut tags = Vec::new();
    while !rest.is_empty() {
        let (tag, wire_type) = decode_key(&mut rest).unwrap();
        skip_field(wire_type, tag, &mut rest, DecodeContext::default()).unwrap();
        tags.push(tag);
    }
    tags
}

fn details_of(request: Request) -> ProofRequest {
    details(&RequestStatus { request: Arc::new(request), waiting: None })
}

#[test]
fn details_never_have_the_tags_on_which_the_two_variants_disagree() {
    for state in states() {
        let tags = tags(&details_of(executed(state)).encode_to_vec());
        assert!(!tags.contains(&34) && !tags.contains(&35), "{tags:?}");
        assert!(tags.contains(&18) && tags.contains(&22), "{tags:?}");
    }
}

#[test]
fn details_of_a_fulfilled_request_hold_what_was_asked_and_what_came_of_it() {
    let fulfilled = states()[3].clone();
    let details = details_of(executed(fulfilled));
    assert_eq!(details.request_id, [1; 32]);
    assert_eq!(details.tx_hash, [1; 32]);
    assert_eq!(details.requester, [2; 20]);
    assert_eq!(details.vk_hash, [5; 32]);
    assert_eq!(details.version, "sp1-v6.1.0");
    assert_eq!((details.mode, details.strategy), (2, 3));
    assert_eq!(details.program_uri, format!("program_{}", "06".repeat(16)));
    assert_eq!(details.stdin_uri, format!("private-stdin_{}", "07".repeat(16)));
    assert_eq!((details.cycle_limit, details.gas_limit), (u64::MAX, 1_000_000_000));
    assert_eq!(details.deadline, DEADLINE.as_secs());
    assert_eq!((details.created_at, details.updated_at), (1_700_000_000, AT.as_secs()));
    assert_eq!(details.fulfilled_at, Some(AT.as_secs()));
    assert_eq!((details.cycles, details.gas_used), (Some(77), Some(88)));
    assert_eq!(details.public_values_hash, Some(vec![9; 32]));
    assert_eq!(details.fulfiller.as_ref().map(Vec::len), Some(20));
    assert_eq!(details.error_trace, None);
    assert!(details.stdin_private && !details.is_canceled);
}

#[test]
fn details_tell_the_cause_of_a_failure_in_the_guests_own_words() {
    let details = details_of(request(states()[4].clone()));
    assert_eq!(details.execute_fail_cause(), ExecuteFailureCause::HaltWithNonZeroExitCode);
    assert_eq!(details.error(), ProofRequestError::ExecutionFailure);
    let trace: serde_json::Value = serde_json::from_slice(details.error_trace()).unwrap();
    assert_eq!(trace["cause"], "the guest panicked at src/main.rs:7");

    let details = details_of(request(states()[5].clone()));
    assert_eq!(details.execute_fail_cause(), ExecuteFailureCause::Unspecified);
    assert_eq!(details.error(), ProofRequestError::UnknownFailure);
}

#[test]
fn details_of_a_waiting_request_say_why_it_waits() {
    let request = Arc::new(request(RequestState::Queued));
    let details = details(&RequestStatus { request, waiting: Some(WaitingReason::NoWorkers) });
    assert_eq!(details.error_trace(), br#"{"waiting":"no worker is connected"}"#);
    assert_eq!(details.fulfillment_status(), FulfillmentStatus::Assigned);
}

#[test]
fn only_a_cancelled_request_is_called_cancelled() {
    for state in states() {
        let is_cancelled = matches!(state, RequestState::Cancelled { .. });
        assert_eq!(details_of(request(state)).is_canceled, is_cancelled);
    }
}

#[test]
fn a_hundred_requests_with_the_longest_causes_fit_into_one_answer() {
    let cause = Fault::guest("\u{7f}\"".repeat(Fault::MAX_CAUSE_BYTES)).cause;
    let details = details_of(executed(RequestState::Unexecutable { cause, at: AT }));
    assert!(details.encoded_len() * 100 < 4 << 20, "{}", details.encoded_len());
}

#[test]
fn a_worker_is_found_by_the_fulfiller_that_it_is_shown_as() {
    assert_eq!(worker_of(fulfiller(WORKER)), Some(WORKER));
    assert_eq!(worker_of([0xff; 20]), None);
}
