//! The prover child of the tests: the real one, with the real verifier, but without executing programs.

use std::{path::Path, process::ExitCode, sync::Arc, time::Duration};

use async_trait::async_trait;
use network_lib::{CircuitVersion, Digest, Fault, ProofMode};
use proving::{
    Execution, KeyHashes, ProveOrder, Verified, VerifyError, VerifyOrder,
    child::{Channel, Verify},
    testing::CIRCUIT_VERSION,
};
use proving_sp1_gpu::{Download, GpuSettings, Sp1};
use sp1_sdk::{
    HashableKey as _, LightProver, ProofFromNetwork, Prover as _, SP1ProofWithPublicValues, SP1Stdin, SP1VerifyingKey,
};
use tokio::sync::oneshot;

use crate::KEY;

/// How the child is called.
pub(crate) const COMMAND: &str = "prover-child";

/// What it takes for a hang.
pub(crate) const SILENCE_LIMIT: Duration = Duration::from_secs(3);

/// Serves a GPU prover by the files of `folder`: `named`, the path of the server, and `download`, an address and a
/// digest; both may be missing.
#[expect(clippy::print_stderr, reason = "its parent hears that")]
pub(crate) fn run(folder: &Path, device: u32, start_limit: Duration, has_spare: bool) -> ExitCode {
    let channel = Channel::take().unwrap();
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).ok();
    let download = read("download").map(|text| {
        let (url, sha256) = text.split_once(' ').unwrap();
        let mut digest = [0; 32];
        hex::decode_to_slice(sha256, &mut digest).unwrap();
        Download { url: Some(url.to_owned()), sha256: digest, directory: folder.join("downloads") }
    });
    let settings = GpuSettings {
        device,
        server: read("named").map(Into::into),
        silence_limit: SILENCE_LIMIT,
        has_spare,
        // Far longer than anything here executes, unless it is told.
        head_start: read("beside").map_or(Duration::from_mins(10), |_| Duration::ZERO),
        start_limit,
        download,
        circuit_version: CircuitVersion::new(CIRCUIT_VERSION),
        modes: vec![ProofMode::Core],
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let served = runtime.block_on(async {
        let sp1 = TestSp1 { prover: LightProver::new().await };
        proving_sp1_gpu::serve(channel, settings, Arc::new(sp1)).await
    });
    if let Err(error) = served {
        eprintln!("{error}");
    }
    ExitCode::FAILURE
}

struct TestSp1 {
    prover: LightProver,
}

#[async_trait]
impl Sp1 for TestSp1 {
    async fn read(&self, order: &ProveOrder) -> Result<(Vec<u8>, SP1Stdin), Fault> {
        let read = |path| std::fs::read(path).map_err(|error| Fault::worker(error.to_string()));
        let stdin = bincode::deserialize(&read(&order.stdin)?).map_err(|error| Fault::guest(error.to_string()))?;
        Ok((read(&order.program)?, stdin))
    }

    async fn execute(&self, order: &ProveOrder, read: oneshot::Sender<()>) -> Result<Execution, Fault> {
        let (elf, _) = self.read(order).await?;
        let _ = read.send(());
        if elf == b"an endless program" {
            std::future::pending::<()>().await;
        }
        if elf == b"a bad program" {
            return Err(Fault::guest("the program panicked"));
        }
        if elf.starts_with(b"a slow ") {
            // As slow as that.
            let requests = order.program.with_file_name("requests");
            while !std::fs::read_to_string(&requests).unwrap().ends_with("prove\n") {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        if elf == b"a slow bad program" {
            // The server has most likely found out by itself, and is asked what it said last.
            tokio::time::sleep(Duration::from_millis(200)).await;
            return Err(Fault::guest("the program panicked late"));
        }
        Ok(Execution { cycles: 9500, gas: None, public_values_hash: public_values_hash() })
    }

    async fn verifying_key(&self, _elf: &[u8]) -> Result<Vec<u8>, String> {
        Ok(KEY.to_vec())
    }
}

/// Of what the fixture's program commits.
pub(crate) fn public_values_hash() -> [u8; 32] {
    let public_values: Vec<u8> = [20_u32, 6765, 3027].into_iter().flat_map(u32::to_le_bytes).collect();
    *Digest::sha256(&public_values).as_bytes()
}

/// Both hashes of a key.
pub(crate) fn hashes(key: &[u8]) -> Result<KeyHashes, String> {
    let key: SP1VerifyingKey = bincode::deserialize(key).map_err(|error| error.to_string())?;
    let mut bn254 = [0; 32];
    hex::decode_to_slice(key.bytes32().trim_start_matches("0x"), &mut bn254).unwrap();
    Ok(KeyHashes { bn254, field: key.hash_bytes() })
}

impl Verify for TestSp1 {
    fn verify(&self, order: &VerifyOrder) -> Result<Verified, VerifyError> {
        let key = bincode::deserialize(&order.verifying_key).map_err(|error| error.to_string())?;
        let proof = std::fs::read(&order.proof).map_err(|error| VerifyError::unreadable(&error))?;
        let proof: ProofFromNetwork = bincode::deserialize(&proof).map_err(|error| error.to_string())?;
        let found = *Digest::sha256(proof.public_values.as_slice()).as_bytes();
        if order.public_values_hash != Some(found) {
            return Err("the public values are others".to_owned().into());
        }
        let verdict = self.prover.verify(&SP1ProofWithPublicValues::from(proof), &key, None);
        verdict.map_err(|error| error.to_string())?;
        Ok(Verified { public_values_hash: found, is_mock: false })
    }

    fn hash_verifying_key(&self, verifying_key: &[u8]) -> Result<KeyHashes, String> {
        hashes(verifying_key)
    }
}
