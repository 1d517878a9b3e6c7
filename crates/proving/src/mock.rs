//! Mock proofs: bytes that a client can decode as a proof, followed by a trailer that says what they claim.
//!
//! The trailer is `bincode(MockClaim)`, its length as a little-endian `u32`, and [`MAGIC`]. Clients decode with
//! bincode 1.3, which skips what follows a value. A mock proof proves nothing; whoever takes one says so by
//! `accept_mock`.

use std::{
    fs::File,
    io::{self, Read as _, Seek as _, SeekFrom},
    path::Path,
};

use bincode::Options as _;
use network_lib::{CircuitVersion, ProofMode};
use serde::{Deserialize, Serialize};

use crate::order::{Verified, VerifyOrder};

/// The last bytes of every mock proof.
pub const MAGIC: [u8; 16] = *b"hierophant-mock1";

/// Longest encoded claim, in bytes.
const MAX_CLAIM_BYTES: u32 = 1024;

/// What a mock proof says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MockClaim {
    /// The verifying key's hash, in the form that the order had.
    pub vk_hash: [u8; 32],
    /// The form of the proof.
    pub mode: ProofMode,
    /// The circuit.
    pub circuit_version: CircuitVersion,
    /// SHA-256 of the public values that the execution gave.
    pub public_values_hash: [u8; 32],
}

impl MockClaim {
    /// Whether a mock proof with this claim is what `order` asks for.
    ///
    /// # Errors
    /// What it lacks, in words.
    pub fn check(&self, order: &VerifyOrder) -> Result<Verified, String> {
        if !order.accept_mock {
            return Err("the worker sent a mock proof and mock_mode is off here".to_owned());
        }
        if self.vk_hash != order.vk_hash {
            return Err(format!("the mock proof is of the program {}", hex::encode(self.vk_hash)));
        }
        if self.mode != order.mode {
            return Err(format!("the mock proof is {}, not {}", self.mode, order.mode));
        }
        if self.circuit_version != order.circuit_version {
            return Err(format!(
                "the mock proof is of circuit {}, not {}",
                self.circuit_version, order.circuit_version
            ));
        }
        if let Some(expected) = order.public_values_hash
            && expected != self.public_values_hash
        {
            let (actual, expected) = (hex::encode(self.public_values_hash), hex::encode(expected));
            return Err(format!("the public values have the hash {actual}, not {expected}"));
        }
        Ok(Verified { public_values_hash: self.public_values_hash, is_mock: true })
    }
}

/// `proof` followed by the trailer that makes it a mock proof.
///
/// # Panics
/// If the claim's circuit version is absurdly long (a kilobyte).
pub fn seal(proof: impl Into<Vec<u8>>, claim: &MockClaim) -> Vec<u8> {
    let mut bytes = proof.into();
    let encoded = bincode::serialize(claim).expect("a claim is plain data");
    let length = u32::try_from(encoded.len()).ok().filter(|length| *length <= MAX_CLAIM_BYTES);
    let length = length.expect("a claim is a few hundred bytes long");
    bytes.extend(encoded);
    bytes.extend(length.to_le_bytes());
    bytes.extend(MAGIC);
    bytes
}

/// The claim of a mock proof; `None` if these bytes are none.
pub fn read_claim(proof: &[u8]) -> Option<MockClaim> {
    let (rest, magic) = proof.split_last_chunk::<16>()?;
    let (rest, length) = rest.split_last_chunk::<4>()?;
    let length = u32::from_le_bytes(*length);
    if *magic != MAGIC || length > MAX_CLAIM_BYTES {
        return None;
    }
    let start = rest.len().checked_sub(usize::try_from(length).ok()?)?;
    let options = bincode::DefaultOptions::new().with_fixint_encoding().with_limit(u64::from(MAX_CLAIM_BYTES));
    options.deserialize(&rest[start..]).ok()
}

/// The claim of a mock proof in a file, of which only the end is read; `None` if it is none.
///
/// # Errors
/// When the file cannot be read.
pub fn read_claim_file(path: &Path) -> io::Result<Option<MockClaim>> {
    let mut file = File::open(path)?;
    let trailer = u64::from(MAX_CLAIM_BYTES) + 20;
    file.seek(SeekFrom::Start(file.metadata()?.len().saturating_sub(trailer)))?;
    let mut end = Vec::new();
    file.take(trailer).read_to_end(&mut end)?;
    Ok(read_claim(&end))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim() -> MockClaim {
        MockClaim {
            vk_hash: [1; 32],
            mode: ProofMode::Plonk,
            circuit_version: CircuitVersion::new("sp1-v6.1.0"),
            public_values_hash: [2; 32],
        }
    }

    fn order() -> VerifyOrder {
        VerifyOrder {
            verifying_key: vec![],
            vk_hash: [1; 32],
            proof: "/nowhere".into(),
            mode: ProofMode::Plonk,
            circuit_version: CircuitVersion::new("sp1-v6.1.0"),
            public_values_hash: Some([2; 32]),
            accept_mock: true,
        }
    }

    #[test]
    fn a_claim_reads_back_and_leaves_the_proof_decodable() {
        let value = ("a proof".to_owned(), 7_u64);
        let sealed = seal(bincode::serialize(&value).unwrap(), &claim());
        assert_eq!(read_claim(&sealed), Some(claim()));
        assert_eq!(bincode::deserialize::<(String, u64)>(&sealed).unwrap(), value);
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), &sealed).unwrap();
        assert_eq!(read_claim_file(file.path()).unwrap(), Some(claim()));
    }

    #[test]
    fn bytes_without_a_whole_trailer_claim_nothing() {
        let sealed = seal(vec![9; 100], &claim());
        for end in 0..sealed.len() {
            assert_eq!(read_claim(&sealed[..end]), None);
        }
        assert_eq!(read_claim(&MAGIC), None);
        assert_eq!(read_claim(&[[0xff; 4].as_slice(), &MAGIC].concat()), None);
    }

    #[test]
    fn a_mock_proof_counts_only_where_mock_mode_is_on_and_all_fields_agree() {
        assert_eq!(claim().check(&order()), Ok(Verified { public_values_hash: [2; 32], is_mock: true }));
        assert!(claim().check(&VerifyOrder { public_values_hash: None, ..order() }).is_ok());
        let refusals = [
            VerifyOrder { accept_mock: false, ..order() },
            VerifyOrder { vk_hash: [9; 32], ..order() },
            VerifyOrder { mode: ProofMode::Core, ..order() },
            VerifyOrder { circuit_version: CircuitVersion::new("sp1-v5.0.0"), ..order() },
            VerifyOrder { public_values_hash: Some([9; 32]), ..order() },
        ];
        let reasons: Vec<String> = refusals.iter().map(|order| claim().check(order).unwrap_err()).collect();
        assert_eq!(reasons[0], "the worker sent a mock proof and mock_mode is off here");
        assert_eq!(reasons.iter().collect::<std::collections::BTreeSet<_>>().len(), refusals.len());
    }
}
