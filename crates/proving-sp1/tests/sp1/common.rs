//! The test program, its inputs, and orders for it.

use std::path::{Path, PathBuf};

use network_lib::{AttemptId, Digest, ProofMode};
use proving::{ProveOrder, VerifyOrder, child::Reporter, frames::ProverMessage};
use sp1_sdk::SP1Stdin;
use std::sync::mpsc;

/// The fixture: a real core proof of fibonacci(20), with its verifying key.
pub(crate) const PROOF: &[u8] = include_bytes!("../fixtures/fibonacci-20.core.proof");
/// The verifying key of that proof, in bincode.
pub(crate) const KEY: &[u8] = include_bytes!("../fixtures/fibonacci.vk");

pub(crate) fn elf() -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../programs/fibonacci/elf/fibonacci");
    std::fs::read(path).expect("programs/fibonacci/elf/fibonacci is part of the repository")
}

pub(crate) fn fibonacci(n: u32) -> SP1Stdin {
    let mut stdin = SP1Stdin::new();
    stdin.write(&n);
    stdin
}

/// What the program commits for n = 20.
pub(crate) fn public_values_of_20() -> Vec<u8> {
    [20_u32, 6765, 3027].into_iter().flat_map(u32::to_le_bytes).collect()
}

pub(crate) fn hash_of_20() -> [u8; 32] {
    *Digest::sha256(&public_values_of_20()).as_bytes()
}

/// Writes the artifacts as a client uploads them, and orders a proof.
pub(crate) fn prove_order(folder: &Path, stdin: &SP1Stdin, mode: ProofMode, vk_hash: [u8; 32]) -> ProveOrder {
    let pack = |name: &str, bytes: Vec<u8>| -> PathBuf {
        let path = folder.join(name);
        std::fs::write(&path, zstd::encode_all(bytes.as_slice(), 3).unwrap()).unwrap();
        path
    };
    let program = pack("program", bincode::serialize(&elf()).unwrap());
    ProveOrder {
        attempt: AttemptId::new([1; 16]),
        program_digest: Digest::of(&std::fs::read(&program).unwrap()),
        program,
        stdin: pack("stdin", bincode::serialize(stdin).unwrap()),
        output: folder.join("proof"),
        mode,
        circuit_version: proving_sp1::circuit_version(),
        vk_hash,
        cycle_limit: u64::MAX,
        gas_limit: u64::MAX,
    }
}

pub(crate) fn verify_order(proof: &Path, vk_hash: [u8; 32]) -> VerifyOrder {
    VerifyOrder {
        verifying_key: KEY.to_vec(),
        vk_hash,
        proof: proof.to_owned(),
        mode: ProofMode::Core,
        circuit_version: proving_sp1::circuit_version(),
        public_values_hash: None,
        accept_mock: false,
    }
}

/// A reporter, and what it was told.
pub(crate) fn reporter() -> (Reporter, mpsc::Receiver<ProverMessage>) {
    let (sender, messages) = mpsc::channel();
    (Reporter::new(AttemptId::new([1; 16]), move |message| sender.send(message).unwrap_or_default()), messages)
}
