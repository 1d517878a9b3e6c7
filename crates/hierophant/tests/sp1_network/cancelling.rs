//! `CancelRequest`.

use hierophant_core::RequestState;
use network_lib::{AttemptId, WorkerId};
use prost::Message as _;
use sp1_network_api::network::{CancelRequestBody, FulfillmentStatus, SignedRequest};
use tonic::{Code, Status};

use crate::{
    client::{Client, assert_refused},
    network::Network,
};

async fn cancel(client: &mut Client, id: &[u8]) -> Result<(), Status> {
    let body = CancelRequestBody { nonce: 0, request_id: id.to_vec() };
    client.network.cancel_request(client.signed(body.encode_to_vec())).await.map(|_| ())
}

#[tokio::test]
async fn its_requester_cancels_a_request_as_often_as_it_likes() {
    let network = Network::start().await;
    let mut client = network.client(1).await;
    let body = client.good_body(&network).await;
    let id = client.ask(&body).await.unwrap();
    let (attempt, worker) = (AttemptId::new([1; 16]), WorkerId::new([2; 16]));
    network.change(&id, |request, now| request.lease(attempt, worker, now)).await;
    for _ in 0..3 {
        cancel(&mut client, &id).await.unwrap();
        assert!(matches!(network.stored(&id).await.state, RequestState::Cancelled { .. }));
    }
    assert_eq!(client.status(&id).await.fulfillment_status(), FulfillmentStatus::Unfulfillable);
    assert!(client.details(&id).await.unwrap().is_canceled);
    assert_ne!(client.ask(&body).await.unwrap(), id, "what was cancelled can be asked for again");
}

#[tokio::test]
async fn cancelling_what_is_fulfilled_is_fine_and_changes_nothing() {
    let network = Network::start().await;
    let mut client = network.client(1).await;
    let body = client.good_body(&network).await;
    let id = client.ask(&body).await.unwrap();
    let (attempt, worker) = (AttemptId::new([1; 16]), WorkerId::new([2; 16]));
    network.change(&id, |request, now| request.fulfil(attempt, worker, false, now)).await;
    cancel(&mut client, &id).await.unwrap();
    assert!(matches!(network.stored(&id).await.state, RequestState::Fulfilled { .. }));
}

#[tokio::test]
async fn a_stranger_cannot_cancel_a_request() {
    let network = Network::start().await;
    let (mut client, mut stranger) = (network.client(1).await, network.client(2).await);
    let body = client.good_body(&network).await;
    let id = client.ask(&body).await.unwrap();
    let words = format!(
        "request {} was not asked for by {}: sign with the key that asked for it",
        hex::encode(&id),
        stranger.address()
    );
    assert_refused(cancel(&mut stranger, &id).await, Code::PermissionDenied, &words);
    assert_eq!(network.stored(&id).await.state, RequestState::Queued);
}

#[tokio::test]
async fn what_cannot_be_cancelled_is_refused_and_the_message_says_why() {
    let network = Network::start().await;
    let mut client = network.client(1).await;
    let words = format!("request {} is not known here", "77".repeat(32));
    assert_refused(cancel(&mut client, &[0x77; 32]).await, Code::NotFound, &words);
    let words = "request_id must be 32 bytes, not 31";
    assert_refused(cancel(&mut client, &[0x77; 31]).await, Code::InvalidArgument, words);

    let good = client.signed(CancelRequestBody { nonce: 0, request_id: vec![0x77; 32] }.encode_to_vec());
    let unsigned = SignedRequest { signature: vec![], ..good.clone() };
    assert_refused(client.network.cancel_request(unsigned).await, Code::Unauthenticated, "signature is missing");
    let empty = SignedRequest { body: None, ..good };
    assert_refused(client.network.cancel_request(empty).await, Code::InvalidArgument, "body is missing");
}
