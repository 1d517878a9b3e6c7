//! `GetProofRequestStatus` and `GetProofRequestDetails`.

use std::time::Duration;

use hierophant_core::RetryPolicy;
use network_lib::{AttemptId, Digest, Fault, WorkerId, protocol::Execution};
use sp1_network_api::network::{
    ExecutionStatus, FulfillmentStatus, GetProofRequestDetailsRequest, GetProofRequestStatusRequest,
};

use crate::{
    client::assert_invalid,
    network::{HTTP_PORT, Network, START},
};

const ATTEMPT: AttemptId = AttemptId::new([1; 16]);
const WORKER: WorkerId = WorkerId::new([2; 16]);

#[tokio::test]
async fn a_request_is_assigned_at_once_then_executed_then_fulfilled_with_an_address_and_a_deadline_ahead() {
    let network = Network::start().await;
    let mut client = network.client(1).await;
    let body = client.good_body(&network).await;
    let id = client.ask(&body).await.unwrap();

    let status = client.status(&id).await;
    assert_eq!(status.fulfillment_status(), FulfillmentStatus::Assigned);
    assert_eq!(status.execution_status(), ExecutionStatus::Unexecuted);
    assert_eq!((status.deadline, status.proof_uri), (body.deadline, None));
    assert_eq!(status.request_tx_hash, id);

    network.change(&id, |request, now| request.lease(ATTEMPT, WORKER, now)).await;
    let execution = Execution { cycles: 1234, gas: Some(5678), public_values_hash: Digest::new([9; 32]) };
    network.change(&id, |request, now| request.executed(ATTEMPT, execution, now)).await;
    let status = client.status(&id).await;
    assert_eq!(status.fulfillment_status(), FulfillmentStatus::Assigned);
    assert_eq!(status.execution_status(), ExecutionStatus::Executed);

    network.advance(Duration::from_secs(100_000));
    network.change(&id, |request, now| request.fulfil(ATTEMPT, WORKER, true, now)).await;
    let status = client.status(&id).await;
    assert_eq!(status.fulfillment_status(), FulfillmentStatus::Fulfilled);
    assert_eq!(status.execution_status(), ExecutionStatus::Executed);
    assert!(status.deadline > network.now().as_secs());
    assert_eq!(status.public_values_hash, Some(vec![9; 32]));
    let address = format!("http://127.0.0.1:{HTTP_PORT}/artifacts/proof_{}", "01".repeat(16));
    assert!(status.proof_uri().starts_with(&address), "{}", status.proof_uri());

    let details = client.details(&id).await.unwrap();
    assert_eq!((details.cycles, details.gas_used), (Some(1234), Some(5678)));
    assert_eq!((details.created_at, details.fulfilled_at), (START.as_secs(), Some(START.as_secs() + 100_000)));
}

#[tokio::test]
async fn a_guests_panic_is_unexecutable_and_the_details_have_its_words() {
    let network = Network::start().await;
    let mut client = network.client(1).await;
    let body = client.good_body(&network).await;
    let id = client.ask(&body).await.unwrap();
    network.change(&id, |request, now| request.lease(ATTEMPT, WORKER, now)).await;
    let fault = Fault::guest("the guest panicked: attempt to divide by zero");
    let policy = RetryPolicy { guest_reports_needed: 1, ..RetryPolicy::default() };
    network.change(&id, |request, now| request.fail(ATTEMPT, fault, &policy, now)).await;

    let status = client.status(&id).await;
    assert_eq!(status.fulfillment_status(), FulfillmentStatus::Unfulfillable);
    assert_eq!(status.execution_status(), ExecutionStatus::Unexecutable);
    let details = client.details(&id).await.unwrap();
    let trace = String::from_utf8(details.error_trace().to_vec()).unwrap();
    assert_eq!(trace, r#"{"cause":"the guest panicked: attempt to divide by zero"}"#);
}

#[tokio::test]
async fn a_waiting_request_says_why_it_waits() {
    let network = Network::start().await;
    let mut client = network.client(1).await;
    let body = client.good_body(&network).await;
    let id = client.ask(&body).await.unwrap();
    let details = client.details(&id).await.unwrap();
    assert_eq!(details.error_trace(), br#"{"waiting":"no worker is connected"}"#);
}

#[tokio::test]
async fn an_id_that_nobody_knows_is_answered_and_not_an_error() {
    let network = Network::start().await;
    let mut client = network.client(1).await;
    let status = client.status(&[0x77; 32]).await;
    assert_eq!(status.fulfillment_status(), FulfillmentStatus::Unfulfillable);
    assert_eq!(status.execution_status(), ExecutionStatus::Unspecified);
    assert!(status.deadline > network.now().as_secs());
    assert_eq!(client.details(&[0x77; 32]).await, None);
}

#[tokio::test]
async fn an_id_of_another_length_is_refused_with_both_lengths() {
    let network = Network::start().await;
    let mut client = network.client(1).await;
    for length in [0, 31, 33] {
        let words = format!("request_id must be 32 bytes, not {length}");
        let request = GetProofRequestStatusRequest { request_id: vec![1; length] };
        assert_invalid(client.network.get_proof_request_status(request).await, &words);
        let request = GetProofRequestDetailsRequest { request_id: vec![1; length] };
        assert_invalid(client.network.get_proof_request_details(request).await, &words);
    }
}
