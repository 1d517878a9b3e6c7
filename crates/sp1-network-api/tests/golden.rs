//! The bytes in `golden/` were written by the SDK's own types (6.10.0): ours read and write the same.
//!
//! A file holds lines of a name and the hex of a message. Fields are numbered by their content
//! where possible, so that two tags exchanged show as two values exchanged.

use std::fmt::Debug;

use prost::Message;
use sp1_network_api::variant::{Variant, read_variant, without_nonce};
use sp1_network_api::{OTHER_METHODS, artifact, network};

fn golden(name: &str) -> Vec<u8> {
    let hex = include_str!("golden/sdk-6.10.txt")
        .lines()
        .filter_map(|line| line.split_once(' '))
        .find_map(|(found, hex)| (found == name).then_some(hex))
        .unwrap_or_else(|| panic!("no golden bytes are named {name}"));
    hex::decode(hex).expect("golden bytes are hex")
}

#[track_caller]
fn reads_and_writes<M: Message + Default + PartialEq + Debug>(name: &str, message: &M) {
    let bytes = golden(name);
    assert_eq!(M::decode(&*bytes).as_ref(), Ok(message), "reading {name}");
    assert_eq!(message.encode_to_vec(), bytes, "writing {name}");
}

fn bytes(value: u8, length: usize) -> Vec<u8> {
    vec![value; length]
}

fn common_body() -> network::RequestProofBody {
    network::RequestProofBody {
        nonce: 150,
        vk_hash: bytes(0x11, 32),
        version: "sp1-v6.1.0".into(),
        mode: network::ProofMode::Compressed.into(),
        strategy: network::FulfillmentStrategy::Reserved.into(),
        stdin_uri: "stdins/test".into(),
        deadline: 1_800_000_000,
        cycle_limit: 100_000,
        gas_limit: 200_000,
        min_auction_period: 30,
        whitelist: vec![bytes(0x22, 20), bytes(0x33, 20)],
        public_values_hash: None,
        stdin_private: false,
    }
}

fn proof_request() -> network::ProofRequest {
    network::ProofRequest {
        request_id: bytes(1, 32),
        vk_hash: bytes(2, 32),
        version: "sp1-v6.1.0".into(),
        mode: network::ProofMode::Plonk.into(),
        strategy: network::FulfillmentStrategy::Reserved.into(),
        program_uri: "p".into(),
        stdin_uri: "s".into(),
        deadline: 8,
        cycle_limit: 9,
        gas_price: Some(10),
        fulfillment_status: network::FulfillmentStatus::Unfulfillable.into(),
        execution_status: network::ExecutionStatus::Unexecutable.into(),
        requester: bytes(13, 20),
        fulfiller: Some(bytes(14, 20)),
        program_name: Some("15".into()),
        requester_name: Some("16".into()),
        fulfiller_name: Some("17".into()),
        created_at: 18,
        updated_at: 19,
        fulfilled_at: Some(20),
        tx_hash: bytes(21, 32),
        cycles: Some(22),
        public_values_hash: Some(bytes(23, 32)),
        deduction_amount: Some("24".into()),
        refund_amount: Some("25".into()),
        gas_limit: 26,
        gas_used: Some(27),
        execute_fail_cause: network::ExecuteFailureCause::ExceededCycleLimit.into(),
        settlement_status: network::SettlementStatus::Settled.into(),
        program_public_uri: "30".into(),
        stdin_public_uri: "31".into(),
        min_auction_period: 32,
        whitelist: vec![bytes(33, 20), bytes(34, 20)],
        error: network::ProofRequestError::ProvingFailure.into(),
        is_canceled: true,
        stdin_private: true,
        error_trace: Some(bytes(39, 4)),
    }
}

#[test]
fn a_body_of_the_base_variant_is_read() {
    let body = golden("request_proof_body_base");
    assert_eq!(read_variant(&body), Ok(Variant::Base { stdin_private: true }));
    assert_eq!(network::RequestProofBody::decode(&*body), Ok(common_body()));
}

#[test]
fn a_body_without_the_contested_tag_is_base_and_public() {
    let body = golden("request_proof_body_base_public");
    assert_eq!(read_variant(&body), Ok(Variant::Base { stdin_private: false }));
    reads_and_writes("request_proof_body_base_public", &common_body());
}

#[test]
fn a_body_of_the_auction_variant_is_read() {
    let body = golden("request_proof_body_auction");
    assert_eq!(read_variant(&body), Ok(Variant::Auction));
    let expected =
        network::RequestProofBody { public_values_hash: Some(bytes(0x88, 32)), stdin_private: true, ..common_body() };
    assert_eq!(network::RequestProofBody::decode(&*body), Ok(expected));
}

#[test]
fn the_wrapper_keeps_the_signed_bytes_of_both_variants() {
    for variant in ["base", "auction"] {
        let wrapper = network::SignedRequest {
            format: network::MessageFormat::Binary.into(),
            signature: bytes(0xaa, 65),
            body: Some(golden(&format!("request_proof_body_{variant}"))),
        };
        reads_and_writes(&format!("request_proof_request_{variant}"), &wrapper);
    }
}

#[test]
fn a_missing_body_differs_from_an_empty_one() {
    let wrapper = |body| network::SignedRequest {
        format: network::MessageFormat::Binary.into(),
        signature: bytes(0xaa, 65),
        body,
    };
    reads_and_writes("request_proof_request_no_body", &wrapper(None));
    reads_and_writes("request_proof_request_empty_body", &wrapper(Some(vec![])));
}

#[test]
fn without_its_nonce_a_body_is_the_rest_of_its_bytes() {
    for variant in ["base", "auction"] {
        let body = golden(&format!("request_proof_body_{variant}"));
        // Tag 1 as a varint, 150: three bytes.
        assert_eq!(body[..3], [0x08, 0x96, 0x01]);
        assert_eq!(without_nonce(&body), Ok(body[3..].to_vec()));
    }
}

#[test]
fn submitting_uses_the_numbers_of_the_sdk() {
    reads_and_writes(
        "request_proof_response",
        &network::RequestProofResponse {
            tx_hash: bytes(1, 32),
            body: Some(network::RequestProofResponseBody { request_id: bytes(2, 32) }),
        },
    );
    reads_and_writes("cancel_request_body", &network::CancelRequestBody { nonce: 1, request_id: bytes(2, 32) });
    reads_and_writes(
        "cancel_request_response",
        &network::CancelRequestResponse { tx_hash: bytes(1, 32), body: Some(network::CancelRequestResponseBody {}) },
    );
}

#[test]
fn registering_a_program_uses_the_numbers_of_the_sdk() {
    reads_and_writes(
        "create_program_body",
        &network::CreateProgramBody { nonce: 1, vk_hash: bytes(2, 32), vk: bytes(3, 4), program_uri: "p".into() },
    );
    reads_and_writes(
        "create_program_response",
        &network::CreateProgramResponse { tx_hash: bytes(1, 32), body: Some(network::CreateProgramResponseBody {}) },
    );
    reads_and_writes("get_program_request", &network::GetProgramRequest { vk_hash: bytes(1, 32) });
    reads_and_writes(
        "get_program_response",
        &network::GetProgramResponse {
            program: Some(network::Program {
                vk_hash: bytes(1, 32),
                vk: bytes(2, 4),
                program_uri: "p".into(),
                name: Some("n".into()),
                owner: bytes(5, 20),
                created_at: 6,
            }),
        },
    );
}

#[test]
fn accounts_use_the_numbers_of_the_sdk() {
    reads_and_writes("get_nonce_request", &network::GetNonceRequest { address: bytes(1, 20) });
    reads_and_writes("get_nonce_response", &network::GetNonceResponse { nonce: 300 });
    reads_and_writes("get_balance_request", &network::GetBalanceRequest { address: bytes(1, 20) });
    reads_and_writes("get_balance_response", &network::GetBalanceResponse { amount: "123".into() });
}

#[test]
fn status_uses_the_numbers_of_the_sdk() {
    reads_and_writes(
        "get_proof_request_status_request",
        &network::GetProofRequestStatusRequest { request_id: bytes(1, 32) },
    );
    reads_and_writes(
        "get_proof_request_status_response",
        &network::GetProofRequestStatusResponse {
            fulfillment_status: network::FulfillmentStatus::Fulfilled.into(),
            execution_status: network::ExecutionStatus::Executed.into(),
            request_tx_hash: bytes(3, 32),
            deadline: 1_800_000_000,
            fulfill_tx_hash: Some(bytes(5, 32)),
            proof_uri: Some("http://h/p".into()),
            public_values_hash: Some(bytes(7, 32)),
            proof_public_uri: Some("http://h/q".into()),
        },
    );
}

/// The golden bytes leave out tags 34, 35 and 40. When they were made, the SDK's base types read
/// them too, as the same request with no error and no private input.
#[test]
fn details_use_the_numbers_of_the_sdk() {
    reads_and_writes("proof_request", &proof_request());
    reads_and_writes(
        "get_proof_request_details_request",
        &network::GetProofRequestDetailsRequest { request_id: bytes(1, 32) },
    );
    reads_and_writes(
        "get_proof_request_details_response",
        &network::GetProofRequestDetailsResponse { request: Some(proof_request()) },
    );
}

#[test]
fn filters_use_the_numbers_of_the_sdk() {
    reads_and_writes(
        "get_filtered_proof_requests_request",
        &network::GetFilteredProofRequestsRequest {
            version: Some("v".into()),
            fulfillment_status: Some(network::FulfillmentStatus::Assigned.into()),
            execution_status: Some(network::ExecutionStatus::Unexecutable.into()),
            minimum_deadline: Some(4),
            vk_hash: Some(bytes(5, 32)),
            requester: Some(bytes(6, 20)),
            fulfiller: Some(bytes(7, 20)),
            from: Some(8),
            to: Some(9),
            limit: Some(10),
            page: Some(11),
            mode: Some(network::ProofMode::Groth16.into()),
            not_bid_by: Some(bytes(13, 20)),
            execute_fail_cause: Some(network::ExecuteFailureCause::ExceededGasLimit.into()),
            settlement_status: Some(network::SettlementStatus::Unsettled.into()),
            error: Some(network::ProofRequestError::ProvingFailure.into()),
        },
    );
    reads_and_writes(
        "get_filtered_proof_requests_response",
        &network::GetFilteredProofRequestsResponse {
            requests: vec![proof_request(), network::ProofRequest::default()],
        },
    );
}

#[test]
fn the_auction_uses_the_numbers_of_the_sdk() {
    reads_and_writes(
        "get_proof_request_params_request",
        &network::GetProofRequestParamsRequest { mode: network::ProofMode::Compressed.into() },
    );
    reads_and_writes(
        "get_proof_request_params_response",
        &network::GetProofRequestParamsResponse {
            domain: bytes(1, 32),
            auctioneer: bytes(2, 20),
            executor: bytes(3, 20),
            verifier: bytes(4, 20),
            max_price_per_pgu: "5".into(),
            base_fee: "6".into(),
            treasury: bytes(7, 20),
            tick_size: 8,
            network_floor_price_per_pgu: "9".into(),
        },
    );
    reads_and_writes(
        "get_provers_by_uptime_request",
        &network::GetProversByUptimeRequest { high_availability_only: true },
    );
    reads_and_writes(
        "get_provers_by_uptime_response",
        &network::GetProversByUptimeResponse { provers: vec![bytes(1, 20), bytes(2, 20)] },
    );
    reads_and_writes(
        "get_market_price_per_pgu_response",
        &network::GetMarketPricePerPguResponse { price: "1".into(), as_of: 1_800_000_000 },
    );
}

#[test]
fn artifacts_use_the_numbers_of_the_sdk() {
    reads_and_writes(
        "create_artifact_request",
        &artifact::CreateArtifactRequest {
            signature: bytes(1, 65),
            artifact_type: artifact::ArtifactType::PrivateStdin.into(),
        },
    );
    reads_and_writes(
        "create_artifact_response",
        &artifact::CreateArtifactResponse { artifact_uri: "u".into(), artifact_presigned_url: "http://h/u".into() },
    );
}

#[test]
fn enums_use_the_numbers_of_the_sdk() {
    fn ours(name: &str, number: i32) -> Option<&'static str> {
        macro_rules! ours {
            ($($module:ident::$enum:ident),* $(,)?) => {
                match name {
                    $(stringify!($enum) => {
                        $module::$enum::try_from(number).ok().map(|value| value.as_str_name())
                    })*
                    _ => panic!("no enum is named {name}"),
                }
            };
        }
        ours!(
            artifact::ArtifactType,
            network::ExecuteFailureCause,
            network::ExecutionStatus,
            network::FulfillmentStatus,
            network::FulfillmentStrategy,
            network::MessageFormat,
            network::ProofMode,
            network::ProofRequestError,
            network::SettlementStatus,
        )
    }

    for line in include_str!("golden/sdk-6.10-enums.txt").lines() {
        let [name, number, theirs] = *line.split(' ').collect::<Vec<_>>() else {
            panic!("{line} is not a name, a number and a value");
        };
        let number: i32 = number.parse().expect("the second word is a number");
        let ours = ours(name, number).unwrap_or_else(|| panic!("{line} is missing"));
        // The SDK's zero is named the other way round, UNSPECIFIED first.
        let suffix = if number == 0 { "_UNSPECIFIED" } else { theirs };
        assert!(ours.ends_with(suffix), "{line} is {ours}");
    }
}

#[test]
fn the_services_have_the_paths_of_the_sdk() {
    use artifact::artifact_store_server::SERVICE_NAME as ARTIFACT_STORE;
    use network::prover_network_server::SERVICE_NAME as PROVER_NETWORK;
    assert_eq!(ARTIFACT_STORE, "artifact.ArtifactStore");
    assert_eq!(PROVER_NETWORK, "network.ProverNetwork");
}

#[test]
fn every_method_is_either_served_or_another() {
    let served: Vec<_> = include_str!("../proto/network.proto")
        .lines()
        .filter_map(|line| line.trim_start().strip_prefix("rpc "))
        .filter_map(|line| line.split_once('('))
        .map(|(method, _)| method)
        .collect();
    assert_eq!(served.len(), 12);
    assert!(OTHER_METHODS.is_sorted_by(|a, b| a < b));
    for method in served {
        assert!(!OTHER_METHODS.contains(&method), "{method} is served");
    }
}
