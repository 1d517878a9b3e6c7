//! Executing, mock proving and verifying, with the real program and a real proof. Seconds in all.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;
mod decode;
mod driver;
mod faults;
mod scripts;
mod sizing;

use std::{path::Path, sync::OnceLock};

use network_lib::{CircuitVersion, Fault, FaultClass, ProofMode};
use proving::{
    VerifyError, VerifyOrder,
    child::{Prove as _, Verify as _},
    frames::ProverMessage,
    script::Script,
};
use proving_sp1::{execute::execute, mock::MockProver, verify::Sp1Verifier};
use tempfile::TempDir;

use common::{KEY, PROOF, fibonacci, hash_of_20, prove_order, public_values_of_20, reporter, verify_order};

fn verifier() -> &'static Sp1Verifier {
    static VERIFIER: OnceLock<Sp1Verifier> = OnceLock::new();
    VERIFIER.get_or_init(|| tokio::runtime::Runtime::new().unwrap().block_on(Sp1Verifier::build()))
}

fn field_hash() -> [u8; 32] {
    verifier().hash_verifying_key(KEY).unwrap().field
}

/// Judges these bytes as a proof, by an order changed from the good one.
fn judge(proof: &[u8], change: impl FnOnce(&mut VerifyOrder)) -> Result<proving::Verified, String> {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("proof");
    std::fs::write(&path, proof).unwrap();
    let mut order = verify_order(&path, field_hash());
    change(&mut order);
    verifier().verify(&order).map_err(|error| match error {
        VerifyError::Rejected { reason } => reason,
        other => panic!("it is judged: {other}"),
    })
}

// ---- executing

/// Room for any guest of these tests, in bytes.
const MEMORY: u64 = 4 << 30;

#[test]
fn a_doctor_measures_some_ten_million_cycles() {
    let measured = proving_sp1::measure().unwrap();
    assert!(measured.cycles > 1_000_000 && measured.cycles < 100_000_000, "{measured:?}");
    assert!(!measured.took.is_zero(), "{measured:?}");
}

#[tokio::test]
async fn a_program_executes_with_its_cycles_and_public_values() {
    let (values, execution) = execute(&common::elf(), fibonacci(20), u64::MAX, MEMORY).await.unwrap();
    assert_eq!(values.as_slice(), public_values_of_20());
    assert_eq!(execution.public_values_hash, hash_of_20());
    assert!(execution.cycles > 1000 && execution.cycles < 1_000_000, "{execution:?}");
    assert!(execution.gas.is_some_and(|gas| gas > 0), "{execution:?}");

    let exact = execute(&common::elf(), fibonacci(20), execution.cycles, MEMORY).await;
    assert_eq!(exact.unwrap().1, execution, "a limit may be reached");
    let limit = execution.cycles - 1;
    let over = execute(&common::elf(), fibonacci(20), limit, MEMORY).await.unwrap_err();
    assert_eq!(over, Fault::guest(format!("exceeded its cycle limit of {limit}")));
    assert!(execute(&common::elf(), fibonacci(20), 0, MEMORY).await.is_ok(), "0 is no limit");
}

#[tokio::test]
async fn a_panic_of_the_guest_is_its_fault_and_keeps_its_text() {
    let fault = execute(&common::elf(), fibonacci(10_000_001), u64::MAX, MEMORY).await.unwrap_err();
    assert_eq!(fault.class, FaultClass::Guest);
    assert!(fault.cause.starts_with("the program panicked: "), "{fault}");
    assert!(fault.cause.contains("n must be at most 10,000,000, not 10000001"), "{fault}");
}

#[tokio::test]
async fn missing_input_is_the_guests_fault() {
    let fault = execute(&common::elf(), sp1_sdk::SP1Stdin::new(), u64::MAX, MEMORY).await.unwrap_err();
    assert_eq!(fault.class, FaultClass::Guest, "{fault}");
}

// ---- verifying

#[test]
fn a_real_proof_verifies_under_either_hash_of_its_key() {
    let hashes = verifier().hash_verifying_key(KEY).unwrap();
    assert_ne!(hashes.bn254, hashes.field);
    for hash in [hashes.bn254, hashes.field] {
        let verified = judge(PROOF, |order| order.vk_hash = hash).unwrap();
        assert_eq!(verified.public_values_hash, hash_of_20());
        assert!(!verified.is_mock);
    }
    assert!(judge(PROOF, |order| order.public_values_hash = Some(hash_of_20())).is_ok());
    assert!(judge(PROOF, |order| order.accept_mock = true).is_ok());
}

#[test]
fn the_hashes_of_a_key_are_those_that_clients_compute() {
    use sp1_sdk::HashableKey as _;
    let key: sp1_sdk::SP1VerifyingKey = bincode::deserialize(KEY).unwrap();
    let hashes = verifier().hash_verifying_key(KEY).unwrap();
    assert_eq!(format!("0x{}", hex::encode(hashes.bn254)), key.bytes32());
    assert_eq!(hashes.field, key.hash_bytes());
}

#[test]
fn a_real_proof_of_something_else_than_was_asked_is_rejected() {
    let reasons = [
        judge(PROOF, |order| order.vk_hash = [1; 32]),
        judge(PROOF, |order| order.mode = ProofMode::Compressed),
        judge(PROOF, |order| order.circuit_version = CircuitVersion::new("sp1-v5.0.0")),
        judge(PROOF, |order| order.public_values_hash = Some([1; 32])),
        judge(PROOF, |order| order.verifying_key = vec![0xff; 104]),
        judge(PROOF, |order| order.verifying_key.truncate(100)),
    ];
    let reasons: Vec<String> = reasons.into_iter().map(Result::unwrap_err).collect();
    assert!(reasons[1].contains("the proof is core, not compressed"), "{reasons:?}");
    assert!(reasons[3].contains("the public values have the hash"), "{reasons:?}");
}

/// A key that decodes and whose hash is the one registered, but of another program.
#[test]
fn a_real_proof_of_another_program_is_rejected() {
    use sp1_sdk::HashableKey as _;
    let mut key: sp1_sdk::SP1VerifyingKey = bincode::deserialize(KEY).unwrap();
    key.vk.pc_start.swap(0, 1);
    let reason = judge(PROOF, |order| {
        order.verifying_key = bincode::serialize(&key).unwrap();
        order.vk_hash = key.hash_bytes();
    });
    assert!(reason.unwrap_err().starts_with("the proof does not verify: "));
}

#[test]
fn a_flipped_bit_anywhere_is_rejected() {
    // All of the end, where public values and version are, and samples of the rest.
    let end = PROOF.len() - 64;
    let positions = (0..16).chain((16..end).step_by(end / 40)).chain(end..PROOF.len());
    for position in positions {
        let mut proof = PROOF.to_vec();
        proof[position] ^= 1 << (position % 8);
        // The only bytes that mean nothing are the reading position within the public values.
        let means_nothing = bincode::deserialize::<sp1_sdk::ProofFromNetwork>(&proof).is_ok_and(|decoded| {
            let original: sp1_sdk::ProofFromNetwork = bincode::deserialize(PROOF).unwrap();
            bincode::serialize(&decoded.proof).unwrap() == bincode::serialize(&original.proof).unwrap()
                && decoded.public_values.as_slice() == original.public_values.as_slice()
                && decoded.sp1_version == original.sp1_version
        });
        let verdict = std::panic::catch_unwind(|| judge(&proof, |_| {}));
        let is_accepted = verdict.is_ok_and(|verdict| verdict.is_ok());
        assert_eq!(is_accepted, means_nothing, "bit {} of byte {position}", position % 8);
    }
}

#[test]
fn a_cut_or_empty_proof_is_rejected() {
    for length in [0, 1, 7, 8, 100, PROOF.len() / 2, PROOF.len() - 1] {
        assert!(judge(&PROOF[..length], |_| {}).is_err(), "{length} bytes");
    }
}

#[test]
fn a_proof_that_cannot_be_read_is_not_rejected() {
    let folder = TempDir::new().unwrap();
    for unreadable in [Path::new("/nowhere"), folder.path()] {
        let error = verifier().verify(&verify_order(unreadable, field_hash())).unwrap_err();
        assert!(matches!(error, VerifyError::Unavailable { .. }), "{error:?}");
    }
}

#[test]
fn a_length_that_lies_takes_no_memory() {
    let mut proof = PROOF.to_vec();
    proof[4..12].copy_from_slice(&u64::MAX.to_le_bytes());
    assert!(judge(&proof, |_| {}).unwrap_err().starts_with("the proof does not decode: "));
}

// ---- mock proving

async fn mock_proof(folder: &Path, prover: &MockProver, mode: ProofMode, vk_hash: [u8; 32]) -> Vec<ProverMessage> {
    let (reporter, messages) = reporter();
    let order = prove_order(folder, &fibonacci(20), mode, vk_hash);
    prover.prove(&order, &reporter).await.unwrap();
    drop(reporter);
    messages.into_iter().collect()
}

#[test]
fn a_mock_proof_counts_only_where_mock_mode_is_on() {
    let hashes = verifier().hash_verifying_key(KEY).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let prover = MockProver::build(Script::default());
    for (mode, hash) in ProofMode::ALL.into_iter().zip([hashes.field, hashes.bn254, hashes.field, hashes.bn254]) {
        let folder = TempDir::new().unwrap();
        let messages = runtime.block_on(mock_proof(folder.path(), &prover, mode, hash));
        assert!(
            messages.iter().any(|message| matches!(message, ProverMessage::Executed { execution, .. }
                if execution.public_values_hash == hash_of_20())),
            "{messages:?}"
        );
        let proof = std::fs::read(folder.path().join("proof")).unwrap();
        let as_client: sp1_sdk::ProofFromNetwork = bincode::deserialize(&proof).unwrap();
        assert_eq!(as_client.public_values.as_slice(), public_values_of_20());
        assert_eq!(as_client.sp1_version, sp1_sdk::SP1_CIRCUIT_VERSION);

        let accept = |order: &mut VerifyOrder| {
            order.mode = mode;
            order.vk_hash = hash;
            order.accept_mock = true;
        };
        let verified = judge(&proof, accept).unwrap();
        assert!(verified.is_mock);
        assert_eq!(verified.public_values_hash, hash_of_20());
        let refused = judge(&proof, |order| {
            accept(order);
            order.accept_mock = false;
        });
        assert_eq!(refused, Err("the worker sent a mock proof and mock_mode is off here".to_owned()));
        let other = if mode == ProofMode::Core { ProofMode::Compressed } else { ProofMode::Core };
        assert!(
            judge(&proof, |order| {
                accept(order);
                order.mode = other;
            })
            .is_err()
        );

        // Without its trailer it is a real proof, and a bad one.
        let bare = bincode::serialize(&as_client).unwrap();
        assert!(judge(&bare, accept).is_err());
    }
}

#[tokio::test]
async fn a_mock_prover_reports_the_guests_faults() {
    let prover = MockProver::build(Script::default());
    let folder = TempDir::new().unwrap();
    let (reporter, _messages) = reporter();
    let order = prove_order(folder.path(), &fibonacci(20_000_000), ProofMode::Core, [0; 32]);
    let fault = prover.prove(&order, &reporter).await.unwrap_err();
    assert!(fault.class == FaultClass::Guest && fault.cause.contains("n must be at most"), "{fault}");

    let order = prove_order(folder.path(), &fibonacci(20), ProofMode::Core, [0; 32]);
    let limited = proving::ProveOrder { cycle_limit: 100, ..order.clone() };
    let fault = prover.prove(&limited, &reporter).await.unwrap_err();
    assert_eq!(fault, Fault::guest("exceeded its cycle limit of 100"));

    let foreign = proving::ProveOrder { circuit_version: CircuitVersion::new("sp1-v5.0.0"), ..order.clone() };
    let fault = prover.prove(&foreign, &reporter).await.unwrap_err();
    assert_eq!(fault, Fault::worker("this prover makes proofs of circuit sp1-v6.1.0, not sp1-v5.0.0"));

    let mistaken = proving::ProveOrder { mode: ProofMode::Compressed, ..order };
    let fault = prover.prove(&mistaken, &reporter).await.unwrap_err();
    assert!(fault.class == FaultClass::Guest && fault.cause.contains("verifying key has the hash"), "{fault}");
}

#[test]
fn the_elfs_in_the_repository_are_those_whose_digests_stand_beside_them() {
    for name in ["fibonacci", "unruly"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../programs").join(name).join("elf").join(name);
        let written = std::fs::read_to_string(path.with_extension("sha256")).unwrap();
        let digest = network_lib::Digest::sha256(&std::fs::read(path).unwrap());
        assert_eq!(written.split_whitespace().next(), Some(digest.to_string().as_str()), "{name}");
    }
}
