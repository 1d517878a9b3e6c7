//! How a request looks to its client.
//!
//! Only numbers that every SDK knows ever leave us: fulfilment 0-4 and execution 0-3. A request is *assigned* from its
//! acceptance on, queued or not: several SDKs give up what stays *requested* for half a minute.

use std::time::Duration;

use hierophant_core::{Request, RequestState, Timestamp};
use network_lib::{RequestId, WorkerId};
use sp1_network_api::network::{
    ExecuteFailureCause, ExecutionStatus, FulfillmentStatus, GetProofRequestStatusResponse, ProofRequest,
    ProofRequestError,
};
use url::Url;

use crate::service::RequestStatus;

/// How far ahead the deadline of an answer lies that must not be taken for a timeout, whatever the client's clock says.
const AHEAD: Duration = Duration::from_hours(24);

/// How far ahead the deadline lies while a proof is being checked: the check is short, and the proof nearly there.
const CHECKING: Duration = Duration::from_mins(1);

/// What a poll is told of a request.
pub(super) fn status(request: &Request, now: Timestamp, proof: Option<Url>) -> GetProofRequestStatusResponse {
    let id = request.id.as_bytes();
    GetProofRequestStatusResponse {
        fulfillment_status: fulfillment(&request.state).into(),
        execution_status: execution(request).into(),
        request_tx_hash: id.to_vec(),
        deadline: deadline(request, now).as_secs(),
        fulfill_tx_hash: proof.as_ref().map(|_| id.to_vec()),
        proof_uri: proof.map(Into::into),
        public_values_hash: request.execution.map(|execution| execution.public_values_hash.as_bytes().to_vec()),
        proof_public_uri: None,
    }
}

/// What a poll is told of a request that nobody knows: there will be no proof. Not an error, which would stop
/// op-succinct's whole loop, and not a timeout.
pub(super) fn status_of_unknown(id: RequestId, now: Timestamp) -> GetProofRequestStatusResponse {
    GetProofRequestStatusResponse {
        fulfillment_status: FulfillmentStatus::Unfulfillable.into(),
        execution_status: ExecutionStatus::Unspecified.into(),
        request_tx_hash: id.as_bytes().to_vec(),
        deadline: now.plus(AHEAD).as_secs(),
        ..GetProofRequestStatusResponse::default()
    }
}

/// Everything known about a request, in the layout that all clients can decode.
pub(super) fn details(status: &RequestStatus) -> ProofRequest {
    let request = &status.request;
    let spec = &request.spec;
    let fulfilled_at = match request.state {
        RequestState::Fulfilled { at, .. } => Some(at.as_secs()),
        _ => None,
    };
    let trace = match &request.state {
        RequestState::Queued => status.why_it_waits().map(|reason| ("waiting", reason)),
        RequestState::Unexecutable { cause, .. } | RequestState::Unfulfillable { cause, .. } => {
            Some(("cause", cause.clone()))
        }
        RequestState::Expired { .. } => Some(("cause", "the deadline passed before a proof was made".to_owned())),
        _ => None,
    };
    ProofRequest {
        request_id: request.id.as_bytes().to_vec(),
        vk_hash: spec.vk_hash.as_bytes().to_vec(),
        version: spec.circuit_version.as_str().to_owned(),
        mode: spec.mode.number(),
        strategy: spec.strategy,
        program_uri: spec.program.to_string(),
        stdin_uri: spec.stdin.to_string(),
        deadline: spec.deadline.as_secs(),
        cycle_limit: spec.cycle_limit,
        gas_limit: spec.gas_limit,
        fulfillment_status: fulfillment(&request.state).into(),
        execution_status: execution(request).into(),
        requester: spec.requester.as_bytes().to_vec(),
        fulfiller: worker(&request.state).map(|worker| fulfiller(worker).to_vec()),
        created_at: request.created_at.as_secs(),
        updated_at: request.updated_at.as_secs(),
        fulfilled_at,
        tx_hash: request.id.as_bytes().to_vec(),
        cycles: request.execution.map(|execution| execution.cycles),
        gas_used: request.execution.and_then(|execution| execution.gas),
        public_values_hash: request.execution.map(|execution| execution.public_values_hash.as_bytes().to_vec()),
        execute_fail_cause: execute_fail_cause(&request.state).into(),
        error: error(&request.state).into(),
        is_canceled: matches!(request.state, RequestState::Cancelled { .. }),
        stdin_private: spec.stdin.kind() == network_lib::ArtifactKind::PrivateStdin,
        error_trace: trace.map(|(key, text)| serde_json::json!({ key: text }).to_string().into_bytes()),
        ..ProofRequest::default()
    }
}

/// Where the proof is.
const fn fulfillment(state: &RequestState) -> FulfillmentStatus {
    match state {
        RequestState::Queued | RequestState::Leased { .. } | RequestState::Verifying { .. } => {
            FulfillmentStatus::Assigned
        }
        RequestState::Fulfilled { .. } => FulfillmentStatus::Fulfilled,
        RequestState::Unexecutable { .. }
        | RequestState::Unfulfillable { .. }
        | RequestState::Expired { .. }
        | RequestState::Cancelled { .. } => FulfillmentStatus::Unfulfillable,
    }
}

/// The names of the states in which a request's proof is there: the other direction of [`fulfillment`].
pub(super) const fn states_with(status: FulfillmentStatus) -> &'static [&'static str] {
    match status {
        FulfillmentStatus::Assigned => &["queued", "leased", "verifying"],
        FulfillmentStatus::Fulfilled => &["fulfilled"],
        FulfillmentStatus::Unfulfillable => &["unexecutable", "unfulfillable", "expired", "cancelled"],
        FulfillmentStatus::Unspecified
        | FulfillmentStatus::Requested
        | FulfillmentStatus::Reverted
        | FulfillmentStatus::Expired => &[],
    }
}

/// Where the execution is. *Unexecutable* is for the guest's own fault alone: op-succinct splits its range on it.
const fn execution(request: &Request) -> ExecutionStatus {
    match request.state {
        RequestState::Queued | RequestState::Leased { .. } | RequestState::Verifying { .. } => {
            if request.execution.is_some() { ExecutionStatus::Executed } else { ExecutionStatus::Unexecuted }
        }
        RequestState::Fulfilled { .. } => ExecutionStatus::Executed,
        RequestState::Unexecutable { .. } => ExecutionStatus::Unexecutable,
        RequestState::Unfulfillable { .. } | RequestState::Expired { .. } | RequestState::Cancelled { .. } => {
            ExecutionStatus::Unspecified
        }
    }
}

/// The deadline that makes every SDK see what has become of the request. They compare it with their own clocks, and
/// several of them before they look at anything else: what ended otherwise than by its deadline must not look late.
fn deadline(request: &Request, now: Timestamp) -> Timestamp {
    let deadline = request.spec.deadline;
    match request.state {
        RequestState::Queued | RequestState::Leased { .. } | RequestState::Expired { .. } => deadline,
        RequestState::Verifying { .. } => deadline.max(now.plus(CHECKING)),
        RequestState::Fulfilled { .. }
        | RequestState::Unexecutable { .. }
        | RequestState::Unfulfillable { .. }
        | RequestState::Cancelled { .. } => deadline.max(now.plus(AHEAD)),
    }
}

const fn error(state: &RequestState) -> ProofRequestError {
    match state {
        RequestState::Unexecutable { .. } => ProofRequestError::ExecutionFailure,
        RequestState::Unfulfillable { .. } => ProofRequestError::UnknownFailure,
        _ => ProofRequestError::Unspecified,
    }
}

/// Words of SP1's execution errors, and the number of the SP1 network that stands for each. Nothing rests on it: the
/// whole text goes along.
const EXECUTE_FAILURES: &[(&str, ExecuteFailureCause)] = &[
    ("cycle limit", ExecuteFailureCause::ExceededCycleLimit),
    ("gas limit", ExecuteFailureCause::ExceededGasLimit),
    ("invalid memory access", ExecuteFailureCause::InvalidMemoryAccess),
    ("unimplemented syscall", ExecuteFailureCause::UnsupportedSyscall),
    ("syscall called in unconstrained", ExecuteFailureCause::InvalidSyscallUsage),
    ("ended in unconstrained", ExecuteFailureCause::EndInUnconstrained),
    ("breakpoint", ExecuteFailureCause::Breakpoint),
    ("unimplemented as opcode", ExecuteFailureCause::Unimplemented),
    ("exit code", ExecuteFailureCause::HaltWithNonZeroExitCode),
    ("panicked", ExecuteFailureCause::HaltWithNonZeroExitCode),
];

fn execute_fail_cause(state: &RequestState) -> ExecuteFailureCause {
    let RequestState::Unexecutable { cause, .. } = state else { return ExecuteFailureCause::Unspecified };
    let found = EXECUTE_FAILURES.iter().find(|(words, _)| cause.contains(words));
    found.map_or(ExecuteFailureCause::Unspecified, |(_, cause)| *cause)
}

const fn worker(state: &RequestState) -> Option<WorkerId> {
    match state {
        RequestState::Leased { worker, .. }
        | RequestState::Verifying { worker, .. }
        | RequestState::Fulfilled { worker, .. } => Some(*worker),
        _ => None,
    }
}

/// A worker as the address of a fulfiller: four zero bytes and its id.
fn fulfiller(worker: WorkerId) -> [u8; 20] {
    let mut address = [0; 20];
    address[4..].copy_from_slice(worker.as_bytes());
    address
}

/// The worker that a fulfiller's address stands for, if it stands for one.
pub(super) fn worker_of(fulfiller: [u8; 20]) -> Option<WorkerId> {
    let (zeros, id) = fulfiller.split_at(4);
    if zeros == [0; 4] { WorkerId::try_from(id).ok() } else { None }
}

#[cfg(test)]
mod tests;
