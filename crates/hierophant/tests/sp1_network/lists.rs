//! `GetFilteredProofRequests`.

use std::time::Duration;

use hierophant_core::RetryPolicy;
use network_lib::{AttemptId, Digest, Fault, WorkerId, protocol::Execution};
use sp1_network_api::{
    artifact::ArtifactType,
    network::{GetFilteredProofRequestsRequest as Filter, RequestProofBody},
};
use tonic::Status;

use crate::{
    client::{Client, assert_refused, vk_hash},
    network::{Network, START},
};

const WORKER: WorkerId = WorkerId::new([2; 16]);

async fn list(client: &mut Client, filter: Filter) -> Result<Vec<Vec<u8>>, Status> {
    let reply = client.network.get_filtered_proof_requests(filter).await?.into_inner();
    Ok(reply.requests.into_iter().map(|request| request.request_id).collect())
}

/// A network with five requests, one second apart: queued, executed, fulfilled, unexecutable, and queued by another.
async fn five() -> (Network, Client, Vec<Vec<u8>>) {
    let network = Network::start().await;
    let (mut client, mut other) = (network.client(1).await, network.client(2).await);
    let good = client.good_body(&network).await;
    let mut ids = Vec::new();
    for mode in 1..=4 {
        let body = RequestProofBody { mode, deadline: good.deadline + u64::try_from(mode).unwrap(), ..good.clone() };
        ids.push(client.ask(&body).await.unwrap());
        network.advance(Duration::from_secs(1));
    }
    let stdin_uri = other.upload(&network, ArtifactType::Stdin, 100).await;
    ids.push(other.ask(&RequestProofBody { stdin_uri, ..good }).await.unwrap());

    let attempt = |number| AttemptId::new([number; 16]);
    for (index, id) in (1_u8..).zip(&ids[1..4]) {
        network.change(id, |request, now| request.lease(attempt(index), WORKER, now)).await;
    }
    let execution = Execution { cycles: 1, gas: None, public_values_hash: Digest::new([9; 32]) };
    network.change(&ids[1], |request, now| request.executed(attempt(1), execution, now)).await;
    network.change(&ids[2], |request, now| request.fulfil(attempt(2), WORKER, false, now)).await;
    let fault = Fault::guest("exceeded cycle limit of 7");
    let policy = RetryPolicy { guest_reports_needed: 1, ..RetryPolicy::default() };
    network.change(&ids[3], |request, now| request.fail(attempt(3), fault, &policy, now)).await;
    (network, client, ids)
}

#[tokio::test]
async fn every_filter_lets_through_what_it_names_newest_first() {
    let (_network, mut client, ids) = five().await;
    let start = START.as_secs();
    let deadline = start + 14400;
    let fulfiller = [&[0; 4], WORKER.as_bytes().as_slice()].concat();
    for (filter, expected) in [
        (Filter::default(), vec![4, 3, 2, 1, 0]),
        (Filter { version: Some("sp1-v6.1.0".into()), ..Filter::default() }, vec![4, 3, 2, 1, 0]),
        (Filter { version: Some("sp1-v5.0.0".into()), ..Filter::default() }, vec![]),
        (Filter { fulfillment_status: Some(1), ..Filter::default() }, vec![]),
        (Filter { fulfillment_status: Some(2), ..Filter::default() }, vec![4, 1, 0]),
        (Filter { fulfillment_status: Some(3), ..Filter::default() }, vec![2]),
        (Filter { fulfillment_status: Some(4), ..Filter::default() }, vec![3]),
        (Filter { execution_status: Some(1), ..Filter::default() }, vec![4, 0]),
        (Filter { execution_status: Some(2), ..Filter::default() }, vec![2, 1]),
        (Filter { execution_status: Some(3), ..Filter::default() }, vec![3]),
        (Filter { fulfillment_status: Some(2), execution_status: Some(2), ..Filter::default() }, vec![1]),
        (Filter { minimum_deadline: Some(deadline + 3), ..Filter::default() }, vec![3, 2]),
        (Filter { minimum_deadline: Some(u64::MAX), ..Filter::default() }, vec![]),
        (Filter { vk_hash: Some(vk_hash().to_vec()), ..Filter::default() }, vec![4, 3, 2, 1, 0]),
        (Filter { vk_hash: Some(vec![1; 32]), ..Filter::default() }, vec![]),
        (Filter { requester: Some(client.address().as_bytes().to_vec()), ..Filter::default() }, vec![3, 2, 1, 0]),
        (Filter { fulfiller: Some(vec![7; 20]), ..Filter::default() }, vec![]),
        (Filter { from: Some(start + 3), ..Filter::default() }, vec![4, 3]),
        (Filter { to: Some(start + 1), ..Filter::default() }, vec![1, 0]),
        (Filter { from: Some(start + 1), to: Some(start + 2), ..Filter::default() }, vec![2, 1]),
        (Filter { mode: Some(4), ..Filter::default() }, vec![3]),
        (Filter { not_bid_by: Some(vec![1; 20]), ..Filter::default() }, vec![4, 3, 2, 1, 0]),
        (Filter { execute_fail_cause: Some(5), ..Filter::default() }, vec![3]),
        (Filter { execute_fail_cause: Some(1), ..Filter::default() }, vec![]),
        (Filter { settlement_status: Some(2), ..Filter::default() }, vec![]),
        (Filter { error: Some(1), ..Filter::default() }, vec![3]),
        (Filter { mode: Some(1), requester: Some(client.address().as_bytes().to_vec()), ..Filter::default() }, vec![0]),
    ] {
        let expected: Vec<_> = expected.into_iter().map(|index: usize| ids[index].clone()).collect();
        assert_eq!(list(&mut client, filter.clone()).await.unwrap(), expected, "{filter:?}");
    }
    let by_worker = list(&mut client, Filter { fulfiller: Some(fulfiller), ..Filter::default() }).await.unwrap();
    assert!(by_worker.contains(&ids[1]) && by_worker.contains(&ids[2]) && !by_worker.contains(&ids[0]));
}

#[tokio::test]
async fn pages_follow_each_other_without_gap_or_repeat() {
    let (_network, mut client, ids) = five().await;
    for sieve in [None, Some(0)] {
        let mut seen = Vec::new();
        for page in 1..=4 {
            let filter = Filter { limit: Some(2), page: Some(page), execute_fail_cause: sieve, ..Filter::default() };
            seen.extend(list(&mut client, filter).await.unwrap());
        }
        let newest_first: Vec<_> = ids.iter().rev().filter(|id| sieve.is_none() || **id != ids[3]).cloned().collect();
        assert_eq!(seen, newest_first);
    }
    let beyond = Filter { limit: Some(100), page: Some(u32::MAX), ..Filter::default() };
    assert!(list(&mut client, beyond).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_page_has_ten_requests_unless_more_are_asked_for_and_never_more_than_a_hundred() {
    let network = Network::start().await;
    let mut client = network.client(1).await;
    let good = client.good_body(&network).await;
    for cycle_limit in 1..=120 {
        client.ask(&RequestProofBody { cycle_limit, ..good.clone() }).await.unwrap();
    }
    for (limit, expected) in [(None, 10), (Some(0), 0), (Some(50), 50), (Some(100), 100), (Some(u32::MAX), 100)] {
        let found = list(&mut client, Filter { limit, ..Filter::default() }).await.unwrap();
        assert_eq!(found.len(), expected, "{limit:?}");
        let sieved = Filter { limit, execution_status: Some(1), ..Filter::default() };
        assert_eq!(list(&mut client, sieved).await.unwrap().len(), expected, "{limit:?}");
    }
}

#[tokio::test]
async fn a_filter_that_makes_no_sense_is_refused_by_name() {
    let network = Network::start().await;
    let mut client = network.client(1).await;
    for (filter, words) in [
        (
            Filter { fulfillment_status: Some(7), ..Filter::default() },
            "fulfillment_status 7 is not known: use 0 (unspecified), 1",
        ),
        (Filter { execution_status: Some(5), ..Filter::default() }, "execution_status 5 is not known"),
        (Filter { execution_status: Some(-1), ..Filter::default() }, "execution_status -1 is not known"),
        (Filter { execute_fail_cause: Some(10), ..Filter::default() }, "execute_fail_cause 10 is not known"),
        (Filter { settlement_status: Some(3), ..Filter::default() }, "settlement_status 3 is not known"),
        (Filter { error: Some(7), ..Filter::default() }, "error 7 is not known"),
        (Filter { mode: Some(5), ..Filter::default() }, "mode 5 is not a proof mode"),
        (Filter { vk_hash: Some(vec![1; 31]), ..Filter::default() }, "vk_hash must be 32 bytes, not 31"),
        (Filter { requester: Some(vec![1; 32]), ..Filter::default() }, "requester must be 20 bytes, not 32"),
        (Filter { fulfiller: Some(vec![]), ..Filter::default() }, "fulfiller must be 20 bytes, not 0"),
        (Filter { page: Some(0), ..Filter::default() }, "page 0 does not exist: pages count from 1"),
    ] {
        assert_refused(list(&mut client, filter).await, tonic::Code::InvalidArgument, words);
    }
}
