//! Saying whether a proof is good: the one judge of everything that is served.

use std::{
    fs::File,
    io::{self, BufReader},
    path::Path,
};

use bincode::Options as _;
use network_lib::Digest;
use proving::{KeyHashes, Verified, VerifyError, VerifyOrder, child::Verify, mock::read_claim_file};
use sp1_sdk::{LightProver, ProofFromNetwork, Prover as _, SP1ProofWithPublicValues};

use crate::{
    convert::{circuit_version, own_mode, sp1_version},
    keys,
};

/// Longest proof that is decoded, in bytes: some thousand core shards of 1.4 MB.
const MAX_PROOF_BYTES: u64 = 4 << 30;

/// Verifies proofs of the linked SP1 release.
pub struct Sp1Verifier {
    prover: LightProver,
}

impl Sp1Verifier {
    /// Builds the verifier: half a second, 28 MB.
    pub async fn build() -> Self {
        Self { prover: LightProver::new().await }
    }
}

impl Verify for Sp1Verifier {
    fn verify(&self, order: &VerifyOrder) -> Result<Verified, VerifyError> {
        let own = circuit_version();
        if order.circuit_version != own {
            let other = &order.circuit_version;
            return Err(format!("proofs of circuit {other} cannot be verified here, only those of {own}").into());
        }
        let key = keys::decode(&order.verifying_key)?;
        if !keys::hashes(&key).contains(&order.vk_hash) {
            return Err(format!("the verifying key does not have the hash {}", hex::encode(order.vk_hash)).into());
        }
        let claim = read_claim_file(&order.proof).map_err(|error| VerifyError::unreadable(&error))?;
        // Before anything is decoded: most likely it says that mock proofs are not wanted.
        let mock = claim.map(|claim| claim.check(order)).transpose()?;

        let proof = read(&order.proof)?;
        let mode = own_mode(proof.mode());
        if mode != order.mode {
            return Err(format!("the proof is {mode}, not {}", order.mode).into());
        }
        if proof.sp1_version != sp1_version(&order.circuit_version) {
            return Err(format!("the proof is of circuit {:?}, not {own}", proof.sp1_version).into());
        }
        let public_values_hash = *Digest::sha256(proof.public_values.as_slice()).as_bytes();
        // A guest commits to its public values by SHA-256, or by BLAKE3 where it was built so; clients name either.
        if let Some(expected) = order.public_values_hash
            && expected != public_values_hash
            && expected.as_slice() != proof.public_values.blake3_hash()
        {
            let (actual, expected) = (hex::encode(public_values_hash), hex::encode(expected));
            return Err(format!("the public values have the hash {actual}, not {expected}").into());
        }
        if let Some(claimed) = mock {
            return if claimed.public_values_hash == public_values_hash {
                Ok(claimed)
            } else {
                Err("the mock proof claims other public values than it holds".to_owned().into())
            };
        }
        // Also checks that the proof commits to these public values, and that the program ended well.
        let proof = SP1ProofWithPublicValues::from(proof);
        self.prover.verify(&proof, &key, None).map_err(|error| format!("the proof does not verify: {error}"))?;
        Ok(Verified { public_values_hash, is_mock: false })
    }

    fn hash_verifying_key(&self, verifying_key: &[u8]) -> Result<KeyHashes, String> {
        Ok(keys::hashes(&keys::decode(verifying_key)?))
    }
}

/// Decodes a proof file. Never takes much more memory than the file is long.
fn read(path: &Path) -> Result<ProofFromNetwork, VerifyError> {
    let file = File::open(path).map_err(|error| VerifyError::unreadable(&error))?;
    let length = file.metadata().map_err(|error| VerifyError::unreadable(&error))?.len();
    if length > MAX_PROOF_BYTES {
        return Err(format!("the proof is {length} bytes long, more than {MAX_PROOF_BYTES}").into());
    }
    // What follows the proof is skipped, as clients do.
    let options = bincode::DefaultOptions::new().with_fixint_encoding().allow_trailing_bytes().with_limit(length);
    options.deserialize_from(BufReader::new(file)).map_err(|error| match &*error {
        // A proof that ends too early is a bad one.
        bincode::ErrorKind::Io(error) if error.kind() != io::ErrorKind::UnexpectedEof => VerifyError::unreadable(error),
        error => format!("the proof does not decode: {error}").into(),
    })
}
