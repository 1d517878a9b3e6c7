use network_lib::{Backend, CircuitVersion, FaultClass, ProofMode, Vm};

use super::*;
use crate::order::Phase;

fn attempt() -> AttemptId {
    AttemptId::new([1; 16])
}

/// The bytes of version 1: a change here breaks programs that speak it.
fn is_written<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(frame: &T, golden: &str) {
    assert_eq!(encode(frame).unwrap(), golden);
    assert_eq!(decode::<T>(golden).as_ref(), Ok(frame));
}

#[test]
fn the_frames_of_a_prover_are_these_bytes() {
    let order = ProveOrder {
        attempt: attempt(),
        program: "/p".into(),
        program_digest: Digest::new([2; 32]),
        stdin: "/i".into(),
        output: "/o".into(),
        mode: ProofMode::Groth16,
        circuit_version: CircuitVersion::new("sp1-v6.1.0"),
        vk_hash: [3; 32],
        cycle_limit: 1_000_000,
        gas_limit: u64::MAX,
    };
    is_written(
        &ProverInstruction::Prove(order),
        r#"{"type":"prove","attempt":"01010101010101010101010101010101","program":"/p","program_digest":"0202020202020202020202020202020202020202020202020202020202020202","stdin":"/i","output":"/o","mode":"groth16","circuit_version":"sp1-v6.1.0","vk_hash":"0303030303030303030303030303030303030303030303030303030303030303","cycle_limit":1000000,"gas_limit":18446744073709551615}"#,
    );
    is_written(
        &ProverInstruction::Cancel { attempt: attempt() },
        r#"{"type":"cancel","attempt":"01010101010101010101010101010101"}"#,
    );
    let profile = ProverProfile {
        vm: Vm::Sp1,
        backend: Backend::Cpu,
        device: "cpu (2 cores)".into(),
        circuit_version: CircuitVersion::new("sp1-v6.1.0"),
        modes: vec![ProofMode::Core, ProofMode::Compressed],
        memory_bytes: 1 << 30,
    };
    is_written(
        &ProverMessage::Ready { protocol: PROTOCOL_VERSION, profile },
        r#"{"type":"ready","protocol":1,"profile":{"vm":"sp1","backend":"cpu","device":"cpu (2 cores)","circuit_version":"sp1-v6.1.0","modes":["core","compressed"],"memory_bytes":1073741824}}"#,
    );
    is_written(
        &ProverMessage::Progress { attempt: attempt(), progress: Progress::counted(Phase::Compressing, 1, 3) },
        r#"{"type":"progress","attempt":"01010101010101010101010101010101","progress":{"phase":"compressing","done":1,"total":3}}"#,
    );
    is_written(
        &ProverMessage::Progress { attempt: attempt(), progress: Progress::estimated(Phase::Proving, 1, 3) },
        r#"{"type":"progress","attempt":"01010101010101010101010101010101","progress":{"phase":"proving","done":1,"total":3,"is_estimate":true}}"#,
    );
    is_written(
        &ProverMessage::Executed {
            attempt: attempt(),
            execution: Execution { cycles: 9, gas: Some(7), public_values_hash: [4; 32] },
        },
        r#"{"type":"executed","attempt":"01010101010101010101010101010101","execution":{"cycles":9,"gas":7,"public_values_hash":"0404040404040404040404040404040404040404040404040404040404040404"}}"#,
    );
    is_written(
        &ProverMessage::Proved { attempt: attempt(), digest: Digest::new([5; 32]), size: 10 },
        r#"{"type":"proved","attempt":"01010101010101010101010101010101","digest":"0505050505050505050505050505050505050505050505050505050505050505","size":10}"#,
    );
    is_written(
        &ProverMessage::Failed { attempt: attempt(), fault: Fault::new(FaultClass::Resources, "no\nroom") },
        r#"{"type":"failed","attempt":"01010101010101010101010101010101","fault":{"class":"resources","cause":"no\nroom"}}"#,
    );
    is_written(
        &ProverMessage::Cancelled { attempt: attempt() },
        r#"{"type":"cancelled","attempt":"01010101010101010101010101010101"}"#,
    );
    is_written(&ProverMessage::Leaving, r#"{"type":"leaving"}"#);
}

#[test]
fn the_frames_of_a_verifier_are_these_bytes() {
    let order = VerifyOrder {
        verifying_key: vec![0xab; 3],
        vk_hash: [3; 32],
        proof: "/p".into(),
        mode: ProofMode::Core,
        circuit_version: CircuitVersion::new("sp1-v6.1.0"),
        public_values_hash: Some([4; 32]),
        accept_mock: true,
    };
    is_written(
        &VerifierInstruction::Verify { id: 1, order: order.clone() },
        r#"{"type":"verify","id":1,"order":{"verifying_key":"ababab","vk_hash":"0303030303030303030303030303030303030303030303030303030303030303","proof":"/p","mode":"core","circuit_version":"sp1-v6.1.0","public_values_hash":"0404040404040404040404040404040404040404040404040404040404040404","accept_mock":true}}"#,
    );
    is_written(
        &VerifierInstruction::Verify { id: 2, order: VerifyOrder { public_values_hash: None, ..order } },
        r#"{"type":"verify","id":2,"order":{"verifying_key":"ababab","vk_hash":"0303030303030303030303030303030303030303030303030303030303030303","proof":"/p","mode":"core","circuit_version":"sp1-v6.1.0","public_values_hash":null,"accept_mock":true}}"#,
    );
    is_written(
        &VerifierInstruction::HashVerifyingKey { id: 3, verifying_key: vec![0xab; 2] },
        r#"{"type":"hash_verifying_key","id":3,"verifying_key":"abab"}"#,
    );
    is_written(&VerifierMessage::Ready { protocol: 1 }, r#"{"type":"ready","protocol":1}"#);
    is_written(
        &VerifierMessage::Verified { id: 1, verified: Verified { public_values_hash: [4; 32], is_mock: false } },
        r#"{"type":"verified","id":1,"verified":{"public_values_hash":"0404040404040404040404040404040404040404040404040404040404040404","is_mock":false}}"#,
    );
    is_written(
        &VerifierMessage::Rejected { id: 1, reason: "\"so\"".into() },
        r#"{"type":"rejected","id":1,"reason":"\"so\""}"#,
    );
    is_written(
        &VerifierMessage::Unavailable { id: 1, cause: "no".into() },
        r#"{"type":"unavailable","id":1,"cause":"no"}"#,
    );
    is_written(
        &VerifierMessage::KeyHashes { id: 1, hashes: KeyHashes { bn254: [1; 32], field: [2; 32] } },
        r#"{"type":"key_hashes","id":1,"hashes":{"bn254":"0101010101010101010101010101010101010101010101010101010101010101","field":"0202020202020202020202020202020202020202020202020202020202020202"}}"#,
    );
}

#[test]
fn unknown_fields_are_skipped() {
    let line = r#"{"type":"cancelled","attempt":"01010101010101010101010101010101","since":[1,{"a":2}]}"#;
    assert_eq!(decode(line), Ok(ProverMessage::Cancelled { attempt: attempt() }));
}

#[test]
fn a_line_that_is_no_frame_is_shown_in_part() {
    let error = decode::<ProverMessage>(&"x".repeat(10_000)).unwrap_err();
    assert!(error.starts_with(r#""xxx"#) && error.len() < 250, "{error}");
}

#[test]
fn a_path_that_is_not_utf8_is_refused_rather_than_altered() {
    use std::os::unix::ffi::OsStringExt as _;
    let order = VerifyOrder {
        verifying_key: vec![],
        vk_hash: [0; 32],
        proof: std::ffi::OsString::from_vec(vec![b'/', 0xff]).into(),
        mode: ProofMode::Core,
        circuit_version: CircuitVersion::new(""),
        public_values_hash: None,
        accept_mock: false,
    };
    assert!(matches!(encode(&VerifierInstruction::Verify { id: 1, order }), Err(FrameError::Json(_))));
}
