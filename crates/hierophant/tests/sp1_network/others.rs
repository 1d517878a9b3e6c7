//! The small calls, and those that are not served.

use http::uri::PathAndQuery;
use sp1_network_api::network::{
    GetBalanceRequest, GetMarketPricePerPguRequest, GetNonceRequest, GetProofRequestParamsRequest,
    GetProofRequestParamsResponse, GetProversByUptimeRequest, SignedRequest,
};
use tonic::{Code, Status, client::Grpc, transport::Channel};
use tonic_prost::ProstCodec;

use crate::{
    client::{assert_invalid, assert_refused},
    network::{HTTP_PORT, Network, START},
};

#[tokio::test]
async fn nonce_and_balance_are_what_the_sdk_can_read_and_the_same_for_everyone() {
    let network = Network::start().await;
    let mut client = network.client(1).await;
    for address in [vec![0; 20], client.address().as_bytes().to_vec()] {
        let nonce = client.network.get_nonce(GetNonceRequest { address: address.clone() }).await.unwrap();
        assert_eq!(nonce.into_inner().nonce, 0);
        let balance = client.network.get_balance(GetBalanceRequest { address }).await.unwrap();
        let amount: alloy_primitives::U256 = balance.into_inner().amount.parse().unwrap();
        assert_eq!(amount, alloy_primitives::U256::MAX);
    }
    let request = GetNonceRequest { address: vec![1; 19] };
    assert_invalid(client.network.get_nonce(request).await, "address must be 20 bytes, not 19");
    let request = GetBalanceRequest { address: vec![] };
    assert_invalid(client.network.get_balance(request).await, "address must be 20 bytes, not 0");
}

#[tokio::test]
async fn the_parameters_of_the_auction_are_such_that_no_sdk_panics() {
    let network = Network::start().await;
    let mut client = network.client(1).await;
    let mut replies = Vec::new();
    for mode in 1..=4 {
        let reply = client.network.get_proof_request_params(GetProofRequestParamsRequest { mode }).await.unwrap();
        let reply: GetProofRequestParamsResponse = reply.into_inner();
        for address in [&reply.auctioneer, &reply.executor, &reply.verifier, &reply.treasury] {
            assert_eq!(address.len(), 20);
        }
        for number in [&reply.base_fee, &reply.max_price_per_pgu, &reply.network_floor_price_per_pgu] {
            assert!(number.parse::<u64>().unwrap() <= 15_000_000_000);
        }
        assert_eq!(reply.domain.len(), 32);
        replies.push(reply);
    }
    replies.dedup();
    assert_eq!(replies.len(), 1, "what changes here changes the request that it is copied into");
    let request = GetProofRequestParamsRequest { mode: 0 };
    assert_invalid(client.network.get_proof_request_params(request).await, "mode 0 is not a proof mode");
}

#[tokio::test]
async fn there_is_nobody_to_name_in_a_whitelist() {
    let network = Network::start().await;
    let mut client = network.client(1).await;
    for high_availability_only in [false, true] {
        let request = GetProversByUptimeRequest { high_availability_only };
        let reply = client.network.get_provers_by_uptime(request).await.unwrap();
        assert!(reply.into_inner().provers.is_empty());
    }
}

#[tokio::test]
async fn proving_is_free_as_of_now() {
    let network = Network::start().await;
    let mut client = network.client(1).await;
    let reply = client.network.get_market_price_per_pgu(GetMarketPricePerPguRequest {}).await.unwrap().into_inner();
    assert_eq!((reply.price.as_str(), reply.as_of.cast_unsigned()), ("0", START.as_secs()));
}

async fn call(network: &Network, path: &str, message: SignedRequest) -> Result<(), Status> {
    let channel = Channel::from_shared(network.url.clone()).unwrap().connect().await.unwrap();
    let mut grpc = Grpc::new(channel);
    grpc.ready().await.unwrap();
    let codec: ProstCodec<SignedRequest, SignedRequest> = ProstCodec::default();
    let path: PathAndQuery = path.parse().unwrap();
    grpc.unary(tonic::Request::new(message), path, codec).await.map(|_| ())
}

#[tokio::test]
async fn calls_that_are_not_served_are_answered_in_a_sentence_that_names_them() {
    let network = Network::start().await;
    for (path, words) in [
        ("/network.ProverNetwork/FulfillProof", "FulfillProof is a method of Succinct's public network"),
        (
            "/network.ProverNetwork/Bid",
            "Bid is a method of Succinct's public network that this self-hosted one does not serve",
        ),
        ("/network.ProverNetwork/Nonsense", "there is no method \"Nonsense\" in network.ProverNetwork"),
        ("/artifact.ArtifactStore/GetArtifact", "there is no method \"GetArtifact\" in artifact.ArtifactStore"),
        ("/cluster.Cluster/Heartbeat", "there is no service \"cluster.Cluster\" here, only network.ProverNetwork"),
        ("/", "there is no service \"\" here"),
    ] {
        assert_refused(call(&network, path, SignedRequest::default()).await, Code::Unimplemented, words);
    }
    let long = format!("/{}/x", "y".repeat(5000));
    assert_refused(call(&network, &long, SignedRequest::default()).await, Code::Unimplemented, "there is no service");
}

#[tokio::test]
async fn every_method_of_ours_is_served() {
    let network = Network::start().await;
    for method in [
        "GetProgram",
        "CreateProgram",
        "GetNonce",
        "GetBalance",
        "RequestProof",
        "GetProofRequestStatus",
        "GetProofRequestDetails",
        "GetFilteredProofRequests",
        "GetProofRequestParams",
        "GetProversByUptime",
        "CancelRequest",
        "GetMarketPricePerPgu",
    ] {
        let path = format!("/network.ProverNetwork/{method}");
        let code = call(&network, &path, SignedRequest::default()).await.err().map(|status| status.code());
        assert_ne!(code, Some(Code::Unimplemented), "{method}");
    }
}

#[tokio::test]
async fn a_message_that_does_not_decode_is_the_clients_fault() {
    let network = Network::start().await;
    for method in ["network.ProverNetwork/GetProofRequestStatus", "artifact.ArtifactStore/CreateArtifact"] {
        // Where the method has bytes, this has a number.
        let message = SignedRequest { format: 5, ..SignedRequest::default() };
        let result = call(&network, &format!("/{method}"), message).await;
        assert_refused(result, Code::InvalidArgument, "failed to decode Protobuf message");
    }
}

#[tokio::test]
async fn a_browser_at_this_port_is_told_where_to_look() {
    let network = Network::start().await;
    let reply = reqwest::get(format!("{}/health", network.url)).await.unwrap();
    assert_eq!(reply.status(), 415);
    let text = reply.text().await.unwrap();
    assert!(text.contains("This port speaks gRPC") && text.contains(&format!("port {HTTP_PORT}")), "{text}");
}

#[tokio::test]
async fn a_message_over_the_limit_is_refused_for_good_and_not_as_a_defect() {
    let network = Network::start().await;
    let mut client = network.client(1).await;
    let request = client.signed(vec![0; 3 << 20]);
    let error = client.network.create_program(request).await.unwrap_err();
    assert_eq!(error.code(), Code::OutOfRange, "{error}");
}
