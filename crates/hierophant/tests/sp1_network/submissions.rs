//! `RequestProof`.

use std::{collections::HashSet, time::Duration};

use hierophant_core::{RequestState, Timestamp, Variant};
use network_lib::{ArtifactId, ArtifactKind, AttemptId, Fault, ProofMode, WorkerId};
use prost::Message as _;
use sp1_network_api::{
    artifact::ArtifactType,
    network::{RequestProofBody, SignedRequest},
};
use tonic::Code;

use crate::{
    client::{assert_refused, auction, base},
    network::{Network, START},
};

#[tokio::test]
async fn a_request_of_either_variant_is_stored_as_it_was_asked() {
    let network = Network::start().await;
    let mut client = network.client(1).await;
    let body = client.good_body(&network).await;

    let id = client.ask(&body).await.unwrap();
    let request = network.stored(&id).await;
    let spec = &request.spec;
    assert_eq!(request.state, RequestState::Queued);
    assert_eq!(spec.requester, client.address());
    assert_eq!((spec.mode, spec.variant, spec.strategy), (ProofMode::Core, Variant::Base, 2));
    assert_eq!((spec.cycle_limit, spec.gas_limit), (100_000_000, 1_000_000_000));
    assert_eq!(spec.stdin.to_string(), body.stdin_uri);
    assert_eq!(spec.deadline, Timestamp::from_secs(body.deadline));
    assert_eq!(request.created_at, START);

    let id = client.ask_encoded(base(&body, false)).await.unwrap();
    assert_eq!(network.stored(&id).await.spec.variant, Variant::Base);

    let body = RequestProofBody { mode: 2, strategy: 3, public_values_hash: Some(vec![8; 32]), ..body };
    let id = client.ask_encoded(auction(&body)).await.unwrap();
    let spec = network.stored(&id).await.spec.clone();
    assert_eq!((spec.mode, spec.variant, spec.strategy), (ProofMode::Compressed, Variant::Auction, 3));
    assert_eq!(spec.public_values_hash.map(|hash| *hash.as_bytes()), Some([8; 32]));
}

#[tokio::test]
async fn the_largest_limits_that_the_hosted_sdk_sends_are_kept() {
    let network = Network::start().await;
    let mut client = network.client(1).await;
    let body = RequestProofBody { cycle_limit: u64::MAX, gas_limit: u64::MAX, ..client.good_body(&network).await };
    let id = client.ask(&body).await.unwrap();
    let details = client.details(&id).await.unwrap();
    assert_eq!((details.cycle_limit, details.gas_limit), (u64::MAX, u64::MAX));
}

#[tokio::test]
async fn the_same_body_gives_the_same_request_whatever_the_nonce() {
    let network = Network::start().await;
    let mut client = network.client(1).await;
    let body = client.good_body(&network).await;
    for encode in [RequestProofBody::encode_to_vec, auction] {
        let first = client.ask_encoded(encode(&body)).await.unwrap();
        for nonce in 1..100 {
            let again = client.ask_encoded(encode(&RequestProofBody { nonce, ..body.clone() })).await.unwrap();
            assert_eq!(again, first);
        }
    }
}

#[tokio::test]
async fn the_same_body_gives_the_same_request_whatever_the_form_of_the_signature() {
    let network = Network::start().await;
    let mut client = network.client(1).await;
    let body = client.good_body(&network).await.encode_to_vec();
    let mut ids = HashSet::new();
    for offset in [0, 27, 54] {
        let request = SignedRequest { signature: client.sign_with(&body, offset), ..client.signed(body.clone()) };
        ids.insert(client.send(request).await.unwrap());
    }
    assert_eq!(ids.len(), 1);
}

#[tokio::test]
async fn twenty_duplicates_at_once_are_one_request() {
    let network = Network::start().await;
    let mut client = network.client(1).await;
    let body = client.good_body(&network).await;
    let calls = (0..20).map(|nonce| {
        let (mut client, body) = (client.clone(), RequestProofBody { nonce, ..body.clone() });
        async move { client.ask(&body).await.unwrap() }
    });
    let ids: HashSet<_> = futures_util::future::join_all(calls).await.into_iter().collect();
    assert_eq!(ids.len(), 1);
    assert_eq!(network.store.open_requests().await.unwrap().len(), 1);
}

#[tokio::test]
async fn every_field_that_differs_makes_another_request() {
    let network = Network::start().await;
    let mut client = network.client(1).await;
    let good = client.good_body(&network).await;
    let stdin_uri = client.upload(&network, ArtifactType::Stdin, 100).await;
    let bodies = [
        good.clone(),
        RequestProofBody { mode: 2, ..good.clone() },
        RequestProofBody { strategy: 1, ..good.clone() },
        RequestProofBody { stdin_uri, ..good.clone() },
        RequestProofBody { deadline: good.deadline + 1, ..good.clone() },
        RequestProofBody { cycle_limit: 1, ..good.clone() },
        RequestProofBody { gas_limit: 1, ..good.clone() },
        RequestProofBody { min_auction_period: 1, ..good.clone() },
        RequestProofBody { whitelist: vec![vec![1; 20]], ..good.clone() },
        RequestProofBody { public_values_hash: Some(vec![1; 32]), ..good.clone() },
    ];
    let mut ids = HashSet::new();
    for body in &bodies {
        ids.insert(client.ask(body).await.unwrap());
    }
    ids.insert(client.ask_encoded(base(&good, false)).await.unwrap());
    ids.insert(client.ask_encoded(auction(&good)).await.unwrap());
    assert_eq!(ids.len(), bodies.len() + 2);
}

#[tokio::test]
async fn asking_again_finds_a_fulfilled_request_and_replaces_a_failed_one() {
    let network = Network::start().await;
    let mut client = network.client(1).await;
    let body = client.good_body(&network).await;
    let (attempt, worker) = (AttemptId::new([1; 16]), WorkerId::new([2; 16]));

    let failed = client.ask(&body).await.unwrap();
    network.change(&failed, |request, now| request.lease(attempt, worker, now)).await;
    let fault = Fault::guest("the guest panicked");
    let policy = hierophant_core::RetryPolicy { guest_reports_needed: 1, ..Default::default() };
    network.change(&failed, |request, now| request.fail(attempt, fault, &policy, now)).await;

    let second = client.ask(&body).await.unwrap();
    assert_ne!(second, failed);
    let proof = ArtifactId::new(ArtifactKind::Proof, *attempt.as_bytes()).to_string();
    network.record_upload(&proof, client.address(), 100).await;
    network.change(&second, |request, now| request.fulfil(attempt, worker, false, now)).await;
    assert_eq!(client.ask(&RequestProofBody { nonce: 7, ..body }).await.unwrap(), second);
}

#[tokio::test]
async fn a_request_that_cannot_be_met_is_refused_and_the_message_names_the_field_and_the_remedy() {
    let network = Network::start().await;
    let (mut client, mut other) = (network.client(1).await, network.client(2).await);
    let good = client.good_body(&network).await;
    let unknown = vec![0xab; 32];
    let missing = client.create_artifact(ArtifactType::Stdin).await;
    let program = client.upload(&network, ArtifactType::Program, 1000).await;
    let others = other.upload(&network, ArtifactType::Stdin, 100).await;
    let invalid = Code::InvalidArgument;
    let now = START.as_secs();
    for (body, code, words) in [
        (
            RequestProofBody { vk_hash: unknown.clone(), ..good.clone() },
            Code::NotFound,
            format!(
                "program {} is not registered here: call CreateProgram (the SDK's register_program) first",
                hex::encode(unknown)
            ),
        ),
        (RequestProofBody { vk_hash: vec![1; 31], ..good.clone() }, invalid, "vk_hash must be 32 bytes, not 31".into()),
        (RequestProofBody { vk_hash: vec![], ..good.clone() }, invalid, "vk_hash must be 32 bytes, not 0".into()),
        (
            RequestProofBody { version: "sp1-v5.0.0".into(), ..good.clone() },
            invalid,
            "version \"sp1-v5.0.0\" is not supported here: proofs are made for sp1-v6.1.0".into(),
        ),
        (
            RequestProofBody { version: String::new(), ..good.clone() },
            invalid,
            "version \"\" is not supported here".into(),
        ),
        (
            RequestProofBody { version: "v".repeat(65), ..good.clone() },
            invalid,
            "version must be at most 64 bytes, not 65".into(),
        ),
        (
            RequestProofBody { mode: 0, ..good.clone() },
            invalid,
            "mode 0 is not a proof mode: use 1 (core), 2 (compressed), 3 (plonk) or 4 (groth16)".into(),
        ),
        (RequestProofBody { mode: 99, ..good.clone() }, invalid, "mode 99 is not a proof mode".into()),
        (RequestProofBody { mode: -1, ..good.clone() }, invalid, "mode -1 is not a proof mode".into()),
        (
            RequestProofBody { strategy: 4, ..good.clone() },
            invalid,
            "strategy 4 is not known: use 0 (unspecified), 1 (hosted), 2 (reserved), 3 (auction)".into(),
        ),
        (
            RequestProofBody { deadline: 0, ..good.clone() },
            invalid,
            "deadline is 0: give the Unix time in seconds".into(),
        ),
        (
            RequestProofBody { deadline: now - 1, ..good.clone() },
            invalid,
            format!("deadline {} has passed, it is {now} (Unix seconds) here", now - 1),
        ),
        (RequestProofBody { deadline: now, ..good.clone() }, invalid, format!("deadline {now} has passed")),
        (
            RequestProofBody { stdin_uri: missing.clone(), ..good.clone() },
            invalid,
            format!("stdin_uri {missing} has not been uploaded: PUT the input to the URL that CreateArtifact gave"),
        ),
        (
            RequestProofBody { stdin_uri: program.clone(), ..good.clone() },
            invalid,
            format!("stdin_uri {program} names a program, not an input"),
        ),
        (
            RequestProofBody { stdin_uri: others.clone(), ..good.clone() },
            Code::PermissionDenied,
            format!("stdin_uri {others} was not uploaded by {}, whose signature this is", client.address()),
        ),
        (
            RequestProofBody { stdin_uri: "https://example.com/stdin?token=secret".into(), ..good.clone() },
            invalid,
            "stdin_uri is not an artifact of this network: send the artifact_uri that CreateArtifact gave here".into(),
        ),
        (RequestProofBody { stdin_uri: String::new(), ..good.clone() }, invalid, "stdin_uri is not an artifact".into()),
        (
            RequestProofBody { stdin_uri: "stdin_../../etc/passwd".into(), ..good.clone() },
            invalid,
            "stdin_uri is not".into(),
        ),
        (
            RequestProofBody { whitelist: vec![vec![1; 20]; 5000], ..good.clone() },
            invalid,
            "body must be at most 65536 bytes".into(),
        ),
    ] {
        assert_refused(client.ask(&body).await, code, &words);
    }
    let body = RequestProofBody { public_values_hash: Some(vec![1; 31]), ..good };
    let result = client.ask_encoded(auction(&body)).await;
    assert_refused(result, invalid, "public_values_hash must be 32 bytes, not 31");
    assert!(network.store.open_requests().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_request_is_not_taken_from_whoever_does_not_sign_it() {
    let network = Network::start().await;
    let mut client = network.client(1).await;
    let encoded = client.good_body(&network).await.encode_to_vec();
    let good = client.signed(encoded.clone());
    let mut changed = encoded.clone();
    *changed.last_mut().unwrap() ^= 1;
    let high_v = [&good.signature[..64], &[35]].concat();
    for (request, code, words) in [
        (SignedRequest { signature: vec![], ..good.clone() }, Code::Unauthenticated, "signature is missing"),
        (SignedRequest { signature: vec![1; 64], ..good.clone() }, Code::Unauthenticated, "not 64"),
        (SignedRequest { signature: vec![0; 65], ..good.clone() }, Code::Unauthenticated, "no ECDSA signature"),
        (SignedRequest { signature: high_v, ..good.clone() }, Code::Unauthenticated, "v = 35"),
        (SignedRequest { body: None, ..good.clone() }, Code::InvalidArgument, "body is missing"),
        (SignedRequest { format: 0, ..good.clone() }, Code::InvalidArgument, "format 0 is not served here"),
        (SignedRequest { format: 2, ..good.clone() }, Code::InvalidArgument, "send format 1 (binary)"),
        (
            SignedRequest { body: Some(changed), ..good.clone() },
            Code::PermissionDenied,
            "sign exactly the bytes of body",
        ),
        (client.signed(vec![]), Code::InvalidArgument, "vk_hash must be 32 bytes, not 0"),
        (client.signed(b"garbage".to_vec()), Code::InvalidArgument, "body is not the encoding of a RequestProof body"),
        (client.signed([encoded.as_slice(), &[(12 << 3) | 5, 0, 0, 0, 0]].concat()), Code::InvalidArgument, "tag 12"),
    ] {
        assert_refused(client.send(request).await, code, words);
    }
    assert!(network.store.open_requests().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_private_input_must_have_been_created_as_one() {
    let network = Network::start().await;
    let mut client = network.client(1).await;
    let body = client.good_body(&network).await;
    let words = format!("stdin_private is set, but stdin_uri {} was not created as private", body.stdin_uri);
    assert_refused(client.ask_encoded(base(&body, true)).await, Code::InvalidArgument, &words);
    let flagged = RequestProofBody { stdin_private: true, ..body.clone() };
    assert_refused(client.ask_encoded(auction(&flagged)).await, Code::InvalidArgument, &words);

    let stdin_uri = client.upload(&network, ArtifactType::PrivateStdin, 100).await;
    let body = RequestProofBody { stdin_uri, ..body };
    let id = client.ask_encoded(base(&body, true)).await.unwrap();
    assert!(client.details(&id).await.unwrap().stdin_private);
}

#[tokio::test]
async fn an_absurd_deadline_is_taken_back_to_the_longest_that_is_kept() {
    let network = Network::start().await;
    let mut client = network.client(1).await;
    let good = client.good_body(&network).await;
    let longest = START.plus(Duration::from_hours(7 * 24));
    for deadline in [START.as_secs() + 100 * 365 * 24 * 3600, 1 << 63, u64::MAX] {
        let id = client.ask(&RequestProofBody { deadline, ..good.clone() }).await.unwrap();
        assert_eq!(network.stored(&id).await.spec.deadline, longest);
        assert_eq!(client.status(&id).await.deadline, longest.as_secs());
    }
    let soon = RequestProofBody { deadline: START.as_secs() + 1, ..good };
    assert!(client.ask(&soon).await.is_ok());
}

#[tokio::test]
async fn a_full_queue_says_try_later_in_the_one_way_that_the_sdk_retries() {
    let network = Network::start_with(|settings| settings.max_queued_requests = 2).await;
    let mut client = network.client(1).await;
    let good = client.good_body(&network).await;
    let first = client.ask(&RequestProofBody { cycle_limit: 1, ..good.clone() }).await.unwrap();
    let mut refused = None;
    for cycle_limit in 2..1000 {
        if let Err(status) = client.ask(&RequestProofBody { cycle_limit, ..good.clone() }).await {
            refused = Some(status);
            break;
        }
    }
    let result: Result<(), _> = Err(refused.expect("the queue has no bound"));
    assert_refused(result, Code::Unavailable, "2 requests wait already, which is as many as may: ask again later");
    // What was accepted before is found, however many wait.
    let again = RequestProofBody { cycle_limit: 1, nonce: 7, ..good };
    assert_eq!(client.ask(&again).await.unwrap(), first);
}

#[tokio::test]
async fn a_client_that_hangs_up_finds_its_request_when_it_asks_again() {
    let network = Network::start().await;
    let mut client = network.client(1).await;
    let body = client.good_body(&network).await;
    for delay in 0..20 {
        let mut hasty = network.client(1).await;
        let call = hasty.ask(&body);
        let _ = tokio::time::timeout(Duration::from_micros(delay * 100), call).await;
    }
    let id = client.ask(&body).await.unwrap();
    assert_eq!(client.ask(&body).await.unwrap(), id);
    assert_eq!(network.store.open_requests().await.unwrap().len(), 1);
}
